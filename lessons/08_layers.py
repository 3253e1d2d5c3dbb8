# %% [markdown]
# # Lesson 8: From one neuron (1943) to layers
#
# **You will be able to** train a network of layers with an optimiser, all
# written by you, on a task that no single neuron can do.
#
# **Time:** 45 minutes. **Builds on:** lesson 3 (a training step), lessons 5
# and 6 (`Tensor`), lesson 7 (`Tanh`).
# **Source:** McCulloch and Pitts, *Bulletin of Mathematical Biophysics* 5
# (1943); Rosenblatt, *Psychological Review* 65 (1958); Minsky and Papert,
# *Perceptrons* (1969).
#
# As before: `python -m lessons check 8 --watch` beside this file.

# %% [markdown]
# ## 1943: a neuron that says yes or no
#
# What could a brain compute, if a nerve cell were as simple as it can be?
# McCulloch and Pitts let their neuron do this: it *fires* (1) when enough of
# its exciting inputs fire, and no inhibiting one does. Otherwise it is still
# (0). One number describes it, the threshold: how many are enough.


# %%
def fires(exciting, inhibiting, threshold):
    """The neuron of 1943. The inputs are lists of 0 and 1."""
    return int(sum(exciting) >= threshold and not any(inhibiting))


def exclusive_or(a, b):
    """One of the two, not both: two neurons, and a third that reads them."""
    only_a = fires([a], [b], 1)
    only_b = fires([b], [a], 1)
    return fires([only_a, only_b], [], 1)


CASES = [(0, 0), (0, 1), (1, 0), (1, 1)]
print("and:", [fires([a, b], [], 2) for a, b in CASES])
print("or: ", [fires([a, b], [], 1) for a, b in CASES])
print("xor:", [exclusive_or(a, b) for a, b in CASES])

# %% [markdown]
#     and: [0, 0, 0, 1]
#     or:  [0, 1, 1, 1]
#     xor: [0, 1, 1, 0]
#
# And, or, not: with these one can build any function of yes and no. But
# somebody has to wire it. These neurons learn nothing.
#
# ## 1958: a neuron that learns
#
# Rosenblatt's *perceptron* gives every input a weight, a number that can be
# changed. It adds up weight times input, and a number $b$ (the threshold, with
# its sign turned round; it is called the *bias*), and fires when this is more
# than 0:
#
# $answer = 1$ if $w_1 x_1 + w_2 x_2 + b > 0$, else $0$.
#
# It learns from mistakes. Show it a case and the right answer, the *target*.
#
# - It is right: leave everything as it is.
# - It said 0, and 1 is right: the sum was too small. Add $x$ to $w$, and 1 to
#   $b$. So only the weights of inputs that fired grow.
# - It said 1, and 0 is right: subtract them.
#
# All three in one line: $w <- w + (target - answer) x$, and the same for $b$
# with 1 in the place of $x$. (The paper of 1958 has several rules of this
# kind. This one, error correction, is from his book of 1962, with a proof: if
# there are weights that are always right, it finds some.)

# %%
import numpy as np

from minidl import Function, Tensor
from minidl.backend import get_array_module


def perceptron(w, b, x):
    """1 or 0. w and x: arrays (inputs,)."""
    return int(w @ x + b > 0)


def perceptron_step(w, b, x, target):
    """Learn from one case: the new weights and the new bias."""
    ### BEGIN SOLUTION: the rule; w, the caller's array, stays as it was
    error = target - perceptron(w, b, x)
    return w + error * x, b + error
    ### END SOLUTION


def learn(targets, passes=20):
    """Show the four cases again and again, until a pass without a mistake."""
    w, b = np.zeros(2), 0.0
    lines, mistakes = [], []
    for _ in range(passes):
        mistakes.append(0)
        for case, target in zip(CASES, targets):
            x = np.array(case)
            mistakes[-1] += perceptron(w, b, x) != target
            w, b = perceptron_step(w, b, x, target)
            lines.append((*w, b))
        if not mistakes[-1]:
            break
    return lines, mistakes


for name, targets in (("or", [0, 1, 1, 1]), ("and", [0, 0, 0, 1])):
    lines, mistakes = learn(targets)
    print(f"{name}: mistakes {mistakes}, at the end w1, w2, b =", end=" ")
    print(*lines[-1])
xor_lines, mistakes = learn([0, 1, 1, 0])
print("xor: mistakes", mistakes)

# %% [markdown]
#     or: mistakes [1, 2, 1, 0], at the end w1, w2, b = 1.0 1.0 0.0
#     and: mistakes [1, 3, 3, 2, 1, 0], at the end w1, w2, b = 2.0 1.0 -2.0
#
# It has found *or* and *and* by itself. With *xor* it soon makes four mistakes
# in each pass, for ever. It cannot do otherwise. The four cases would need
#
#     (0, 0) still:        b          at most 0
#     (0, 1) fires:        w2 + b     more than 0
#     (1, 0) fires:        w1 + b     more than 0
#     (1, 1) still:   w1 + w2 + b     at most 0
#
# Add the first and the last line: $w_1 + w_2 + 2 b$ is at most 0. Add the two
# in the middle: it is more than 0. Both cannot be. In a picture, a perceptron
# draws a straight line and fires on one side of it, and no line has (0, 1) and
# (1, 0) on one side and the other two points on the other.
#
# Minsky and Papert's book of 1969 made this famous. It proves much more, for
# instance about pictures: neurons that each look at a few pixels, and one
# perceptron that reads them, cannot tell in general whether a figure hangs
# together. It proves nothing of the kind for more layers, though its authors
# suspected that they would not help much. After all, three neurons of 1943 do
# *xor*. What was missing was a way for a neuron in the middle to learn. Nobody
# tells it what its right answer would have been.

# %% [markdown]
# ## A step has no slope
#
# You have the way: `backward` tells every number in the middle how the loss
# depends on it. Only not through a step. The slope of a step is 0 wherever it
# exists, so nothing arrives. Take a smooth step then, the tanh of lesson 7,
# with -1 for no and 1 for yes:


# %%
class Tanh(Function):
    """The hyperbolic tangent, element by element (see lesson 7)."""

    def forward(self, x):
        return get_array_module(x).tanh(x)

    def backward(self, gradient):
        y = Tanh()(*self.inputs)
        return gradient * (1.0 - y * y)


# %% [markdown]
# Several neurons that look at the same inputs are a *layer*. Put the weights
# of each neuron into a column of a matrix, and the cases into the rows of
# another; then `x @ weight + bias` gives the sums of all neurons for all
# cases: (cases, inputs) times (inputs, neurons) is (cases, neurons).
#
# What does one need around it? Something that knows **where the numbers are
# that may be changed**. AlexNet has 16 arrays of them, and nobody wants to
# write a list by hand. So they get a class of their own, `Parameter`, and a
# `Module` finds its parameters by itself, among its attributes. (`vars` gives
# the dictionary of these; `contents`, below, takes lists apart.) Whatever is
# among them may be
#
# - a Parameter: it is one of those we want;
# - a Module: its parameters are;
# - anything else: a number, a name, a plain Tensor. Those are not.
#
# And a Parameter that is used in two places comes once, or it would be changed
# twice. Therefore the dictionary `found`, from `id(parameter)`, a number that
# no other living object has, to the parameter. (Why not `if p not in found`,
# with a list? `==` compares Tensors element by element, and `in` uses it.)


# %%
class Parameter(Tensor):
    """A Tensor that training may change."""

    def __init__(self, data):
        super().__init__(data, requires_grad=True)


def contents(module):
    """The values of all its attributes, of a list the items."""
    found = []
    for value in vars(module).values():
        found += value if isinstance(value, list) else [value]
    return found


class Module:
    """What has parameters. A subclass writes `forward`; call the object."""

    def __call__(self, x):
        return self.forward(x)

    def parameters(self):
        """A list of all Parameters in it, however deep, each of them once."""
        found = {}
        for item in contents(self):
            ### BEGIN SOLUTION: put into found what this item contributes
            if isinstance(item, Parameter):
                found[id(item)] = item
            elif isinstance(item, Module):
                for parameter in item.parameters():
                    found[id(parameter)] = parameter
            ### END SOLUTION
        return list(found.values())


# %% [markdown]
# The first Module is the layer. Its weights begin at random: neurons that all
# began with the same weights would have the same slopes and stay alike for
# ever. How large they should be is a question for lesson 17.


# %%
class Linear(Module):
    """A layer: (cases, inputs) -> (cases, neurons)."""

    def __init__(self, inputs, neurons, rng):
        bound = 1 / np.sqrt(inputs)
        weight = rng.uniform(-bound, bound, (inputs, neurons))
        self.weight = Parameter(weight.astype(np.float32))
        self.bias = Parameter(np.zeros(neurons, np.float32))

    def forward(self, x):
        ### BEGIN SOLUTION: the sums of all neurons, for all cases
        return x @ self.weight + self.bias
        ### END SOLUTION


class Network(Module):
    """Layers one after the other, a Tanh after each: sizes [2, 4, 1]."""

    def __init__(self, sizes, rng):
        self.layers = []
        for i in range(len(sizes) - 1):
            self.layers.append(Linear(sizes[i], sizes[i + 1], rng))

    def forward(self, x):
        for layer in self.layers:
            x = Tanh()(layer(x))
        return x


network = Network([2, 4, 1], np.random.default_rng(0))
print([parameter.shape for parameter in network.parameters()])

# %% [markdown]
#     [(2, 4), (4,), (4, 1), (1,)]
#
# ## The optimiser
#
# The one who changes them is called an *optimiser*. Its step is that of lesson
# 3, $value <- value - rate * grad$, for every parameter. This is stochastic
# gradient descent, SGD: *stochastic*, left to chance, because in a large task
# every step sees a few cases that were drawn by lot, as AlexNet's 128 images.
#
# Three things about minidl's Tensors. What was `backward(loss)` in lesson 3 is
# a method: `loss.backward()` adds to the `grad` of all leaves behind the loss.
# Nothing may change a Tensor's numbers unnoticed, so a new value is assigned:
# `p.data = ...`, where `p.data` is the array, and `p.grad.data` that of its
# gradient. And a `grad` that has collected nothing is None: such a parameter
# stays as it is.


# %%
class SGD:
    """Plain gradient descent. (Momentum and decay come in lesson 16.)"""

    def __init__(self, params, lr):
        self.params = list(params)
        self.lr = lr  # the learning rate

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def step(self):
        for p in self.params:
            ### BEGIN SOLUTION: one step against the slope, if there is one
            if p.grad is not None:
                p.data = p.data - self.lr * p.grad.data
            ### END SOLUTION


# %% [markdown]
# The loss is the mean squared distance between answers and targets, as in
# lesson 3. And now a training, with its four parts: loss, zero, backward,
# step. Note each loss as a plain number (`loss.item()`). A loss that is kept
# as a Tensor keeps its whole computation alive, 1,000 of them for 1,000 steps.


# %%
def squared_error(answers, targets):
    """The mean squared distance of two Tensors of the same shape."""
    assert answers.shape == targets.shape, "broadcasting would mix them up"
    distance = answers - targets
    return (distance * distance).mean()


def train(model, x, targets, lr, steps):
    """Steps downhill with SGD; the list of the losses, one before each."""
    optimizer = SGD(model.parameters(), lr)
    losses = []
    for _ in range(steps):
        ### BEGIN SOLUTION: the four parts of a step; note the loss
        loss = squared_error(model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        ### END SOLUTION
    return losses


x = Tensor(np.array(CASES, np.float32))
targets = Tensor([[-1.0], [1.0], [1.0], [-1.0]])
losses = train(network, x, targets, lr=0.5, steps=500)
print("xor:", network(x).numpy()[:, 0].round(1))

# %% [markdown]
#     xor: [-1.  1.  1. -1.]
#
# What was open for so long has become 500 small steps.
#
# ## The spiral
#
# *xor* is four points. Here is a task to look at: two arms wound round each
# other; which arm is a point on? We train three networks: with no layer in the
# middle (that is a smooth perceptron), with one of 32 neurons, with two.


# %%
def spiral(points, rng, turns=1.25):
    """Two arms: places (2 points, 2), and targets 1 or -1 (2 points, 1)."""
    along = np.linspace(0.15, 1, points)
    places, targets = [], []
    for start, target in ((0, 1), (np.pi, -1)):
        angle = start + 2 * np.pi * turns * along
        arm = np.stack([along * np.cos(angle), along * np.sin(angle)], 1)
        places.append(2 * arm + 0.06 * rng.standard_normal(arm.shape))
        targets.append(np.full((points, 1), target))
    both = np.concatenate(places), np.concatenate(targets)
    return [array.astype(np.float32) for array in both]


places, arms = spiral(60, np.random.default_rng(0))
curves, networks = {}, {}
for name, sizes in (
    ("no layer in the middle", [2, 1]),
    ("one", [2, 32, 1]),
    ("two", [2, 32, 32, 1]),
):
    networks[name] = Network(sizes, np.random.default_rng(2))
    data = Tensor(places), Tensor(arms)
    curves[name] = train(networks[name], *data, lr=0.2, steps=1500)
    print(f"{name}: loss {curves[name][0]:.3f} -> {curves[name][-1]:.3f}")

# %% [markdown]
# Without a layer in the middle the loss stays at about 0.92; to answer 0
# everywhere would give 1. With one layer it ends at about 0.02, with two at
# about 0.001. (Your last digits may differ: float32 rounds a little
# differently from machine to machine.) In the picture: the lines that a
# perceptron tries on *xor*, going round and round (it should fire for the
# black points); the losses; and what the largest network answers at every
# place. The teeth in the curves are steps that went too far. A smaller rate
# has none, and takes longer.

# %%
import matplotlib.pyplot as plt

figure = plt.figure(figsize=(12, 4), layout="constrained")
left, middle, right = figure.subplots(1, 3)
across = np.array([-0.6, 1.6])
for w1, w2, b in xor_lines[-12:]:
    if w2:
        left.plot(across, -(w1 * across + b) / w2, color="tab:orange", lw=1)
    elif w1:
        left.axvline(-b / w1, color="tab:orange", lw=1)
for (a, b), colour in zip(CASES, ["white", "black", "black", "white"]):
    left.plot(a, b, "o", ms=12, mfc=colour, mec="black", zorder=3)
left.set(xlim=(-0.6, 1.6), ylim=(-0.6, 1.6), xticks=[0, 1], yticks=[0, 1])
left.set(title="xor: no line will do", aspect="equal")
left.set(xlabel="$x_1$", ylabel="$x_2$")

for name, colour in zip(curves, ("tab:orange", "tab:green", "tab:blue")):
    middle.semilogy(curves[name], color=colour, label=name)
middle.set(xlabel="step", ylabel="loss", title="The loss on the spiral")
middle.set(ylim=(2e-4, 2))
middle.legend(frameon=False, loc="lower left")
middle.spines[["top", "right"]].set_visible(False)

line = np.linspace(-2.3, 2.3, 120, dtype=np.float32)
grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
answers = networks["two"](Tensor(grid)).numpy()
shades = answers.reshape(120, 120)
right.contourf(line, line, shades, levels=20, cmap="RdBu", vmin=-1.4, vmax=1.4)
for target, colour in ((1, "navy"), (-1, "darkred")):
    arm = places[arms[:, 0] == target]
    right.plot(*arm.T, "o", ms=3, color=colour)
right.set(title="The answer at every place", aspect="equal")
right.set(xticks=[], yticks=[])
figure.savefig("08_layers.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - say what a single neuron can do and what it cannot, and why layers help;
# - write a layer whose parameters are found by themselves;
# - train a network: model, loss, optimiser, and the four parts of a step.
#
# Now read `minidl/nn/module.py`, `Module` up to `parameters`, and
# `minidl/optim/`: `SGD`, and `step` in `Optimizer`, which it is built on. It
# differs from yours: parameters have names, the path to them, so that they can
# be saved; a Module can be moved to another device; an optimiser has *groups*
# of parameters, each with its own rate. And its step changes the arrays in
# place, which spares memory. Plain code, all of it, with yours at its heart.
#
# **The next lesson** needs a network with an answer for each of many classes,
# and asks how to measure its error. The squared distance is a poor measure
# there: a network that is quite sure of the wrong class hardly learns.
