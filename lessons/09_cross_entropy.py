# %% [markdown]
# # Lesson 9: log-sum-exp and the fused softmax cross-entropy
#
# **You will be able to** write the loss that AlexNet was trained with, so that
# it is right for scores of any size, and its gradient in one short line.
#
# **Time:** 45 minutes. **Builds on:** lesson 6 (`Function`), lesson 7 (`xp`,
# one-hot), lesson 8 (layers, training).
# **Source:** the paper on AlexNet, section 3.5: the "1000-way softmax", and
# what the network maximises.
#
# As before: `python -m lessons check 9 --watch` beside this file.

# %% [markdown]
# ## One of many
#
# The last layer of AlexNet gives 1,000 numbers for an image, one for each
# class, of any size and sign. They are called *logits*, or scores. How wrong
# are they, if the image shows class 3? First turn them into probabilities:
# take $exp$ of each, so that all are positive, and divide by their sum, so
# that they add up to 1. This is the *softmax*:
#
# $p_k = exp(x_k) / (exp(x_1) + ... + exp(x_K))$
#
# Then look at the one probability that matters, that of the right class, the
# *label*. The loss is minus its logarithm: 0 if the network is sure (log 1 is
# 0), 0.69 if it gives the right class one half, 4.6 if it gives it 1 in 100.
# This loss is called *cross-entropy*. (The paper turns it round: its network
# maximises the mean logarithm of the right label's probability.) Written down
# as it is:

# %%
import numpy as np

from minidl import Function, Tensor, gradcheck, manual_seed, nn, optim
from minidl.backend import get_array_module, to_device


def naive_loss(logits, label):
    """Minus the logarithm of the probability of the label, by the formula."""
    p = np.exp(logits) / np.exp(logits).sum()
    return -np.log(p[label])


scores = np.array([2.0, 1.0, -1.0], np.float32)
with np.errstate(all="ignore"):  # no warnings: we want to look
    for times in (1, 10, 100, 10_000):
        losses = [naive_loss(times * scores, label) for label in (0, 1, 2)]
        print(f"{times:>6} times:", *[f"{loss:9.3f}" for loss in losses])

# %% [markdown]
#          1 times:     0.349     1.349     3.349
#         10 times:     0.000    10.000    30.000
#        100 times:       nan       nan       inf
#      10000 times:       nan       nan       inf
#
# In the first two lines all is well. Then comes infinity, and `nan`, "not a
# number"; and one nan in a loss makes every weight of the network nan a step
# later. But there is nothing infinite about the question! At 100 times, the
# scores are 200, 100 and -100, and the losses should be 0, 100 and 300.
#
# The largest float32 is about 3.4e38, so $exp(x)$ is infinite above 88.7.
# Infinity over infinity is nan; any other number over infinity is 0, and minus
# the logarithm of 0 is infinity. Small numbers are no better: below about -104
# the $exp$ itself is 0.
#
# ## log-sum-exp
#
# Two steps of algebra help. First, the logarithm of a quotient is a
# difference, and $log(exp(x))$ is $x$. With $y$ for the label:
#
# $loss = -log p_y = log(exp(x_1) + ... + exp(x_K)) - x_y$
#
# Nothing is divided any more, and $x_y$ stands there as it is. What is left is
# called *log-sum-exp*. Second, take any number $m$ out of it:
#
# $log(exp(x_1) + ... + exp(x_K)) = m + log(exp(x_1 - m) + ... + exp(x_K - m))$
#
# because $exp(x) = exp(m) exp(x - m)$. Now let $m$ be the *largest* of the
# $x_k$. Then the largest exponent is 0 and its $exp$ is 1, so nothing is ever
# too large. Some terms may become 0, but beside the 1 they do not count.
#
# From here on in batches: `x` has a row for each of N images. Each row has a
# maximum of its own. (`x.max(axis=1, keepdims=True)` is a column of them, and
# a column is what one can subtract from every row.)


# %%
def log_sum_exp(x):
    """(N, K) -> (N,): log of the sum of exp along each row, of any size.

    x: an array of either library; the result has its dtype.
    """
    ### BEGIN SOLUTION: take out the largest of each row, and add it again
    xp = get_array_module(x)
    largest = x.max(axis=1, keepdims=True)
    return largest[:, 0] + xp.log(xp.exp(x - largest).sum(axis=1))
    ### END SOLUTION


for times in (1, 100, 10_000):
    losses = log_sum_exp(times * scores[None, :]) - times * scores
    print(f"{times:>6} times:", *[f"{loss:9.3f}" for loss in losses])

# %% [markdown]
#          1 times:     0.349     1.349     3.349
#        100 times:     0.000   100.000   300.000
#      10000 times:     0.000 10000.000 30000.000
#
# ## What a network that knows nothing pays
#
# Before we go on, a number to remember. If all K logits are alike, each class
# gets $1/K$, and the loss is $log K$:

# %%
for classes in (2, 10, 1000):
    nothing_known = log_sum_exp(np.zeros((1, classes)))[0]
    print(f"{classes:>4} classes: {nothing_known:.3f}")

# %% [markdown]
#        2 classes: 0.693
#       10 classes: 2.303
#     1000 classes: 6.908
#
# A training begins near this number. If it begins far above, something is
# wrong with the weights or with the labels; if it stays there, the network has
# learned nothing. (AlexNet can sit at 6.9 for a long time: lesson 17.)
#
# ## The gradient: look first
#
# How does the loss depend on each logit? Measure it, as in lesson 0, for the
# scores 2, 1, -1 and label 1, and beside it print the probabilities:

# %%
exact = scores.astype(np.float64)


def loss_of(x):
    return log_sum_exp(x[None, :])[0] - x[1]


steps = 1e-6 * np.eye(3)
slopes = [(loss_of(exact + e) - loss_of(exact - e)) / 2e-6 for e in steps]
print("slopes:       ", *[f"{slope:7.4f}" for slope in slopes])
probabilities = np.exp(exact) / np.exp(exact).sum()
print("probabilities:", *[f"{p:7.4f}" for p in probabilities])

# %% [markdown]
#     slopes:         0.7054 -0.7405  0.0351
#     probabilities:  0.7054  0.2595  0.0351
#
# They are the same, but for the label: there it is 0.2595 - 1. So the gradient
# is **softmax minus target**, where the target has 1 at the label and 0
# elsewhere. Each wrong class is pushed down by as much as it is believed in,
# and the right one is pushed up by what it lacks. (As a formula: the slope of
# $log S$ is that of $S$ divided by $S$. The sum $S$ of all $exp(x_k)$ grows by
# $exp(x_k)$ along $x_k$. Their quotient is $p_k$.)
#
# That is why softmax and logarithm are written as *one* operation, a fused
# one. Taken apart, each would have its own slope: $1/p$ for the logarithm,
# which is infinite where $p$ has become 0, and $p$ times something for the
# softmax. Infinity times 0 is nan again, while the product of both is a plain
# number between -1 and 1.
#
# For `backward` we need the softmax in Tensors, so that the gradient can be
# differentiated once more (lesson 6). Here too the largest is subtracted
# first: above and below the fraction line, $exp(-m)$ cancels. And since the
# result is the same whatever is subtracted, no gradient has to flow through
# $m$: `.detach()` gives the numbers of a Tensor without its past. (NumPy's
# functions do not take Tensors. A Tensor has methods in their place, as
# `x.exp()` and `x.sum(axis=..., keepdims=...)`, and the operators, as `/`.)


# %%
def softmax(x):
    """(N, K) -> (N, K), Tensors: probabilities, each row adds up to 1."""
    largest = x.max(axis=1, keepdims=True).detach()
    ### BEGIN SOLUTION: exp of what is left, over its sum in each row
    e = (x - largest).exp()
    return e / e.sum(axis=1, keepdims=True)
    ### END SOLUTION


print(softmax(Tensor([[2.0, 1.0, -1.0], [1e4, 1e4, -1e4]])).numpy().round(4))

# %% [markdown]
#     [[0.7054 0.2595 0.0351]
#      [0.5    0.5    0.    ]]
#
# ## The operation
#
# Everything is ready for the operation: N rows of logits to N losses. It needs
# the one-hot of lesson 7, and a way to pick one logit from each row. With
# `rows` = 0, 1, 2 ... up to N - 1, `x[rows, labels]` takes from row 0 the
# element labels[0], from row 1 the element labels[1], and so on.
#
# In `forward` there is one more trap. Say both logits are 10,000; the loss is
# $log 2$. Computed as $(10000 + 0.6931) - 10000$ in float32, with its seven
# digits:

# %%
two = np.full((1, 2), 10_000, np.float32)
loss = (log_sum_exp(two) - two[:, 0])[0]
print(f"{loss:.7f} instead of {np.log(2):.7f}")

# %% [markdown]
#     0.6933594 instead of 0.6931472
#
# The digits behind 10,000 have been rounded away. The remedy: subtract the
# largest from the logits *at the beginning*, and take everything from these
# shifted logits: their log-sum-exp, and the one at the label. (The loss is the
# same whatever is subtracted from all, or where would the algebra be?)
#
# `backward` receives a gradient for each of the N losses, a Tensor (N,), and
# must return one for the logits, (N, K): in each row, the row of softmax minus
# target, times the gradient of this row's loss.


# %%
def one_hot(labels, classes):
    """Labels (N,) as an array (N, classes) of 0 and 1 (see lesson 7)."""
    xp = get_array_module(labels)
    return (labels[:, None] == xp.arange(classes)).astype(xp.float32)


class CrossEntropy(Function):
    """Logits (N, K) -> losses (N,): -log softmax(logits)[label]."""

    def __init__(self, labels):
        self.labels = labels  # an array (N,) of integers

    def forward(self, logits):
        xp = get_array_module(logits)
        rows = xp.arange(len(logits))
        ### BEGIN SOLUTION: of shifted logits, log-sum-exp minus the label's
        shifted = logits - logits.max(axis=1, keepdims=True)
        return log_sum_exp(shifted) - shifted[rows, self.labels]
        ### END SOLUTION

    def backward(self, gradient):
        (logits,) = self.inputs
        target = Tensor(one_hot(self.labels, logits.shape[1]))
        ### BEGIN SOLUTION: softmax minus target, times each row's gradient
        return (softmax(logits) - target) * gradient.reshape(-1, 1)
        ### END SOLUTION


# %% [markdown]
# The loss of a batch is the *mean* over its images, so that a batch of 128 and
# one of 64 ask for steps of the same size. (The program of 2012 too takes the
# mean of the gradients of its 128 images.)


# %%
def cross_entropy(logits, labels):
    """The mean loss of a batch, a Tensor with one number.

    logits: a Tensor (N, K). labels: (N,) integers 0 ... K - 1, as a Tensor,
    an array or a list.
    """
    if isinstance(labels, Tensor):
        labels = labels.data
    if isinstance(labels, list):
        labels = np.array(labels)
    labels = to_device(labels, logits.device)  # beside the logits (lesson 7)
    ### BEGIN SOLUTION: the mean of the losses of the N images
    return CrossEntropy(labels)(logits).mean()
    ### END SOLUTION


x = Tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
loss = cross_entropy(x, [1, 2])
loss.backward()
print(f"loss {loss.item():.3f}")
print(x.grad.numpy())
report = gradcheck(lambda x: cross_entropy(x, [2, 0, 1]), (3, 4), order=2)
print("second order:", "passes" if report else "fails")

# %% [markdown]
#     loss 10000.347
#     [[ 0.5  -0.5   0.  ]
#      [ 0.    0.25 -0.25]]
#     second order: passes
#
# The first row is as wrong as can be: its loss is 20,000, half of which is its
# share of the mean. And its gradient is 0.5 and -0.5, calm and to the point.
#
# Compare this with the squared error of lesson 8. How hard is the right class
# pushed up by a network that is sure of the wrong one?

# %%
ahead = np.linspace(-4, 12, 65)  # by how much the wrong logit is the larger
pair = np.stack([ahead, np.zeros(65)], axis=1)
right_class = np.ones(65, int)
pushes = {}
for name in ("cross-entropy", "squared error"):
    x = Tensor(pair, requires_grad=True)
    if name == "cross-entropy":
        loss = cross_entropy(x, right_class) * 65.0
    else:
        distance = softmax(x) - Tensor(one_hot(right_class, 2))
        loss = (distance * distance).sum()
    loss.backward()
    pushes[name] = -x.grad.numpy()[:, 1]
    print(f"{name}: push at 2 {pushes[name][24]:.3f},", end=" ")
    print(f"at 10 {pushes[name][56]:.5f}")

# %% [markdown]
#     cross-entropy: push at 2 0.881, at 10 0.99995
#     squared error: push at 2 0.370, at 10 0.00018
#
# Who is quite wrong is pushed hardest by cross-entropy, and left alone by the
# squared error. That is why classifiers are trained with the former.
#
# ## Three arms
#
# Last, the spiral again, with three arms and three logits. From now on we use
# the layers and optimisers of minidl, which you have built the heart of:
# `nn.Linear` is your Linear, `nn.Tanh` a Module around your Tanh, and
# `nn.Sequential` calls one Module after the other. Only the loss is yours.


# %%
def three_arms(points, rng):
    """Places (3 points, 2) and labels 0, 1, 2."""
    along = np.linspace(0.15, 1, points)
    places = []
    for arm in range(3):
        angle = 2 * np.pi * (arm / 3 + along)
        curve = np.stack([along * np.cos(angle), along * np.sin(angle)], 1)
        places.append(2 * curve + 0.06 * rng.standard_normal(curve.shape))
    both = np.concatenate(places).astype(np.float32)
    return both, np.repeat(np.arange(3), points)


places, labels = three_arms(50, np.random.default_rng(0))
manual_seed(0)  # the weights that minidl draws: the same at each run
model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = optim.SGD(model.parameters(), lr=0.5)
inputs = Tensor(places)
for step in range(1001):
    loss = cross_entropy(model(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0:
        right = (model(inputs).numpy().argmax(axis=1) == labels).mean()
        print(f"step {step:>4}: loss {loss.item():.3f}, {right:.0%} right")

# %% [markdown]
# It begins near $log 3 = 1.099$, as a network does that knows nothing, and
# after 1,000 steps nearly all points are right. In the picture: the naive loss
# in float32, which breaks off, and yours; the push on the right class; and the
# three arms with the class that is most probable at each place, the stronger
# the colour, the surer.

# %%
import matplotlib.pyplot as plt

figure = plt.figure(figsize=(12, 4), layout="constrained")
left, middle, right = figure.subplots(1, 3)
sizes = np.geomspace(1, 1e4, 200).astype(np.float32)
rows = np.stack([sizes, 0 * sizes], axis=1)
with np.errstate(all="ignore"):
    naive = [naive_loss(row, 1) for row in rows]
mine = log_sum_exp(rows) - rows[:, 1]
left.loglog(sizes, mine, color="tab:blue", label="log-sum-exp")
left.loglog(sizes, naive, "--", lw=4, color="tab:orange", label="naive")
left.axvline(88.7, color="lightgrey", zorder=0)
left.text(95, 1.3, "exp is infinite\nabove 88.7", color="grey")
left.set(xlabel="the wrong logit (the right one is 0)", ylabel="loss")
left.set(title="The same loss in float32")
for name, colour in (
    ("cross-entropy", "tab:blue"),
    ("squared error", "tab:orange"),
):
    middle.plot(ahead, pushes[name], color=colour, label=name)
middle.set(xlabel="by how much the wrong logit is ahead", ylabel="push")
middle.set(title="The push on the right class")
for axes, place in ((left, "upper left"), (middle, "center right")):
    axes.legend(frameon=False, loc=place)
    axes.spines[["top", "right"]].set_visible(False)

line = np.linspace(-2.3, 2.3, 150, dtype=np.float32)
grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
chances = softmax(model(Tensor(grid))).numpy()
colours = np.array([[0.12, 0.47, 0.71], [1.0, 0.5, 0.05], [0.17, 0.63, 0.17]])
picture = (chances @ colours).reshape(150, 150, 3)
extent = (-2.3, 2.3, -2.3, 2.3)
right.imshow(picture.clip(0, 1), origin="lower", extent=extent, alpha=0.6)
for arm in range(3):
    here = places[labels == arm]
    right.plot(*here.T, "o", ms=4, color=colours[arm], mec="black", mew=0.5)
right.set(title="Three arms", xticks=[], yticks=[])
figure.savefig("09_cross_entropy.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - compute a log-sum-exp, a softmax and a cross-entropy of logits of any size;
# - say what loss a network begins with, before anybody has trained it;
# - write two operations as one, where that is safer and shorter.
#
# Now read `minidl/ops/loss.py`: `cross_entropy` and the class `CrossEntropy`.
# It differs from yours: a label that is no class, as -1, is an error (yours
# takes the last class for it); it lets one choose between the mean and the
# sum; and it knows `label_smoothing`, a target that is not quite 1 and 0.
# `softmax` is an operation of its own in `minidl/ops/activation.py`, with a
# derivative by hand. The arithmetic of both ways is in
# `minidl/kernels/cross_entropy.py`, for a GPU does each in one go.
#
# **The next lesson** turns to images. It needs nothing from here but a loss to
# come back to; and loops, to begin with.
