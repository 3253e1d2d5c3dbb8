# %% [markdown]
# # Lesson 3: Accumulate, then zero
#
# **You will be able to** train something with the numbers you have built, and
# to say why every training program in the world has a line that puts the
# gradients back to zero.
#
# **Time:** 35 minutes. **Builds on:** lesson 2 (`order`, `backward`).
# **Source:** the paper on AlexNet, section 5: a step follows the gradient of a
# batch of 128 images. (Its momentum and decay come in lesson 16.)
#
# As before: `python -m lessons check 3 --watch` beside this file.

# %% [markdown]
# ## Half a batch, and the other half
#
# AlexNet looks at 128 images before it turns its knobs. Say your memory holds
# 64. Can you take the slopes of the loss of the first 64, then those of the
# other 64, and add them? Yes: the loss of all is the sum of both losses, and
# the slope of a sum is the sum of the slopes (`add` in lesson 1). All it takes
# is a `backward` that *adds* to the `grad` that is already there, in place of
# putting it to 0 first.
#
# So let us leave out the line `node.grad = 0.0` from lesson 2, and call it
# twice on the same result, $h = a b$ with $a = 2$ and $b = 3$. The slope of
# $h$ with respect to $a$ is 3, and twice 3 makes 6.


# %%
class Scalar:
    """A number that remembers how it was made (see lesson 1)."""

    def __init__(self, value, inputs=(), slopes=()):
        self.value = float(value)
        self.inputs = inputs
        self.slopes = slopes
        self.grad = 0.0

    def __add__(self, other):
        other = as_scalar(other)
        return Scalar(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = as_scalar(other)
        slopes = (other.value, self.value)
        return Scalar(self.value * other.value, (self, other), slopes)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + as_scalar(other) * -1.0

    def __repr__(self):
        return f"Scalar({self.value:g}, grad={self.grad:g})"


def as_scalar(number):
    return number if isinstance(number, Scalar) else Scalar(number)


def order(result):
    """All Scalars behind `result`, each after those who use it (lesson 2)."""
    waiting = {result: 0}
    todo = [result]
    while todo:
        for source in todo.pop().inputs:
            if source not in waiting:
                waiting[source] = 0
                todo.append(source)
            waiting[source] += 1
    ready, found = [result], []
    while ready:
        node = ready.pop()
        found.append(node)
        for source in node.inputs:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
    return found


def backward_without_zero(result):
    """The `backward` of lesson 2, but nothing is put to 0 first."""
    result.grad += 1.0
    for node in order(result):
        for source, local in zip(node.inputs, node.slopes):
            source.grad += node.grad * local


a, b = Scalar(2.0), Scalar(3.0)
h = a * b
backward_without_zero(h)
print("once: ", a.grad)
backward_without_zero(h)
print("twice:", a.grad)

# %% [markdown]
# It prints 3 and 9. Not 6! What happened? The first time, `h.grad` became 1,
# and 3 arrived at `a`. The second time `h.grad` became 2, one of it left over
# from before, and `h` passed on both: 6 more arrived. The middle of the
# computation handed out again what it had handed out already.
#
# So `grad` served two purposes, and they must be kept apart:
#
# - what is *under way* in this one walk back: it belongs to the walk, and is
#   forgotten when the walk ends;
# - what has been *collected* for the knobs: it stays, until somebody says that
#   it has been used.
#
# The knobs are the Scalars without inputs, at the beginnings of the
# computation. They are called *leaves*. Write `backward` with a dictionary for
# what is under way: `totals[node]` is what has arrived at `node` so far. Only
# leaves get something into their `grad`. `totals.get(node, 0.0)` gives 0 for
# one that is not in the dictionary yet.


# %%
def backward(result):
    """Add the slope of `result` to the grad of every leaf behind it.

    The grad of a Scalar that has inputs is left alone.
    """
    totals = {result: 1.0}
    for node in order(result):
        ### BEGIN SOLUTION: a leaf collects its total; others pass theirs on
        if not node.inputs:
            node.grad += totals[node]
        for source, local in zip(node.inputs, node.slopes):
            share = totals[node] * local
            totals[source] = totals.get(source, 0.0) + share
        ### END SOLUTION


a, b = Scalar(2.0), Scalar(3.0)
h = a * b
backward(h)
backward(h)
print("twice:", a.grad, "and h keeps", h.grad)

# %% [markdown]
# Now it is 6. And two different results may share a part of their
# computation, as the losses of two halves of a batch share the knobs.
#
# ## The price: somebody has to say zero
#
# A `backward` that adds has a price. Let us train something: find the line
# $w x + b$ that fits these five points. The knobs are $w$ and $b$, and the
# loss is the mean of the squared distances.

# %%
POINTS = [(-2.0, -2.8), (-1.0, -1.3), (0.0, 1.2), (1.0, 2.9), (2.0, 5.0)]


def line_loss(w, b, points=POINTS):
    """The mean squared distance of the line w x + b from the points."""
    total = Scalar(0.0)
    for x, y in points:
        distance = w * x + b - y
        total = total + distance * distance
    return total * (1 / len(points))


w, b = Scalar(0.0), Scalar(0.0)
for step in range(5):
    loss = line_loss(w, b)
    backward(loss)
    w.value -= 0.1 * w.grad
    b.value -= 0.1 * b.grad
    print(f"step {step}: loss {loss.value:6.3f}, slope along w {w.grad:7.3f}")

# %% [markdown]
#     step 0: loss  8.876, slope along w  -7.920
#     step 1: loss  3.498, slope along w -12.672
#     step 2: loss  0.241, slope along w -12.355
#     step 3: loss  3.492, slope along w  -7.096
#     step 4: loss  8.438, slope along w   1.001
#
# The loss fell, and then it rises again! In step 3 the line is already too
# steep, but the slope still says -7.096, "further up": in it are the slopes of
# three places where the line has long ceased to be. That is what forgetting
# the zero looks like, and it is a mistake that everybody makes once.
#
# One training step, done right, has four parts:
#
# 1. compute the loss of this moment;
# 2. put the `grad` of every knob to 0;
# 3. `backward`;
# 4. move every knob against its slope: $value <- value - rate * grad$.
#
# (Why against it? The slope says where the loss *rises*.) The number `rate`
# says how far to go, and is called the *learning rate*.


# %%
def train_step(knobs, compute_loss, rate):
    """One step downhill. Returns the loss before it, as a plain number.

    knobs: a list of leaves. compute_loss: called without arguments, it gives
    the loss as a Scalar, for the values that the knobs have now.
    """
    ### BEGIN SOLUTION: the four parts of a step
    loss = compute_loss()
    for knob in knobs:
        knob.grad = 0.0
    backward(loss)
    for knob in knobs:
        knob.value -= rate * knob.grad
    return loss.value
    ### END SOLUTION


w, b = Scalar(0.0), Scalar(0.0)
for step in range(31):
    loss = train_step([w, b], lambda: line_loss(w, b), rate=0.1)
    if step % 10 == 0:
        print(f"{step:>2}: loss {loss:.4f}, w {w.value:.3f}, b {b.value:.3f}")

# %% [markdown]
# The loss falls to 0.0352 and stays there, with $w = 1.98$ and $b = 1$. (Not
# to 0, since the points do not lie on one line.)
#
# ## A batch in pieces
#
# Now back to the question from the beginning. The batch comes in pieces, each
# with a loss of its own, and the sum of them is the loss of the batch. The
# step has the same four parts, but the loss and `backward` happen once for
# each piece. What must happen only once, and where?


# %%
def train_step_in_pieces(knobs, compute_losses, rate):
    """One step downhill for the sum of several losses; returns that sum.

    compute_losses: a list of functions like compute_loss, one for each piece.
    Only one piece's computation is kept at a time.
    """
    ### BEGIN SOLUTION: zero once, backward for every piece, one step
    for knob in knobs:
        knob.grad = 0.0
    total = 0.0
    for compute_loss in compute_losses:
        loss = compute_loss()
        backward(loss)
        total += loss.value
    for knob in knobs:
        knob.value -= rate * knob.grad
    return total
    ### END SOLUTION


def piece(points):
    """The part that these points have in the loss of all."""
    share = len(points) / len(POINTS)
    return lambda: line_loss(w, b, points) * share


w, b = Scalar(0.0), Scalar(0.0)
whole = train_step([w, b], lambda: line_loss(w, b), rate=0.1)
print(f"in one piece:  loss {whole:.6f}, w {w.value:.6f}, b {b.value:.6f}")

w, b = Scalar(0.0), Scalar(0.0)
pieces = [piece(POINTS[:2]), piece(POINTS[2:])]
total = train_step_in_pieces([w, b], pieces, rate=0.1)
print(f"in two pieces: loss {total:.6f}, w {w.value:.6f}, b {b.value:.6f}")

# %% [markdown]
# Both lines say the same. So what looked like a nuisance, that `backward` adds
# and somebody has to say zero, is what makes a large batch possible in a small
# memory. (The program of 2012 has it too, for weights that several layers
# share: it adds up what comes from each, and then makes one step.)
#
# In the picture: forgetting the zero, and not forgetting it.

# %%
import matplotlib.pyplot as plt


def history(forget_zero, steps=60):
    """The loss of every step, and the line at the end."""
    w, b = Scalar(0.0), Scalar(0.0)
    losses = []
    for _ in range(steps):
        if forget_zero:
            loss = line_loss(w, b)
            backward(loss)
            for knob in (w, b):
                knob.value -= 0.1 * knob.grad
            losses.append(loss.value)
        else:
            loss = train_step([w, b], lambda: line_loss(w, b), rate=0.1)
            losses.append(loss)
    return losses, w.value, b.value


figure = plt.figure(figsize=(11, 4), layout="constrained")
left, right = figure.subplots(1, 2)
for forget_zero, colour in ((True, "tab:orange"), (False, "tab:blue")):
    losses, w_end, b_end = history(forget_zero)
    label = "zero forgotten" if forget_zero else "zero, then backward"
    left.plot(losses, color=colour, label=label)
    ends = [w_end * x + b_end for x in (-2.3, 2.3)]
    right.plot((-2.3, 2.3), ends, color=colour, label=label)
for x, y in POINTS:
    right.plot(x, y, "o", color="black")
left.set(xlabel="step", ylabel="loss", title="It falls, and climbs again")
left.set(ylim=(0, 13))
right.set(xlabel="x", ylabel="y", title="The lines after 60 steps")
for axes in (left, right):
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("03_accumulate.png", dpi=120)
plt.show()

# %% [markdown]
# The orange curve swings like a weight on a spring, for ever. That is no
# chance: a sum of all slopes so far is a *velocity*, each new slope pushes it,
# and nothing ever slows it down. Slow it down a little at every step, and you
# have one of the best ideas in training: momentum, lesson 16. The program of
# 2012 put nothing to zero: it multiplied what was there by 0.9 and added the
# new slopes, times the rate, to it.
#
# ## What you can now do
#
# - say which part of a gradient belongs to one walk back, and which stays;
# - write a training step, and a step for a batch in several pieces;
# - recognise the curve of a forgotten zero when you see it.
#
# Now read `backpropagate` in `minidl/autograd.py` to its end: there are your
# `totals`, and the leaves that add them to their `.grad`. It differs from
# yours: a `.grad` that has collected nothing is `None` and not 0, and so
# `optimizer.zero_grad()` in `minidl/optim/` puts None there; and after the
# walk it frees the computation, so that calling `backward` twice on the same
# result, as above, needs `retain_graph=True`. Two losses that share nothing
# but knobs need nothing of the kind.
#
# **The next lesson** builds a checker that compares any `backward` with the
# small steps of lesson 0, finds six planted bugs, and lets the two sound ones
# pass.
