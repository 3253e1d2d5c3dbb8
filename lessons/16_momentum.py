# %% [markdown]
# # Lesson 16: Momentum and decay as the paper writes them
#
# **You will be able to** write the optimiser that trained AlexNet, follow it
# by hand, and say what happens in it when the learning rate is lowered.
#
# **Time:** 40 minutes. **Builds on:** lesson 3 (the orange curve), lesson 8
# (`SGD`, `Module`).
# **Source:** the paper on AlexNet, section 5, "Details of learning".
#
# As before: `python -m lessons check 16 --watch` beside this file.

# %% [markdown]
# ## The orange curve comes back
#
# In lesson 3 a line was fitted to five points, and when the zero was
# forgotten, the loss fell, rose, and fell again, for ever:
#
#     step 0: loss  8.876
#     step 1: loss  3.498
#     step 2: loss  0.241
#     step 3: loss  3.492
#     step 4: loss  8.438
#
# At its end stood a remark: the sum of all slopes so far is a *velocity*. Let
# us take that word seriously. A ball lies in a valley, at the place $w$; the
# height is the loss. It has a velocity $v$, the distance that it goes in one
# step. At each step the slope changes the velocity, and the velocity changes
# the place. `keeps` is the part of its velocity that friction leaves it:

# %%
import numpy as np

POINTS = np.array([(-2.0, -2.8), (-1.0, -1.3), (0.0, 1.2), (1.0, 2.9), (2, 5)])
X = np.stack([POINTS[:, 0], np.ones(5)], axis=1)  # w is (slope, height)
Y = POINTS[:, 1]


def line_losses(keeps, steps=60):
    """The losses of a ball that keeps so much of its velocity."""
    w, v, losses = np.zeros(2), np.zeros(2), []
    for _ in range(steps):
        distance = X @ w - Y
        losses.append(np.mean(distance**2))
        v = keeps * v - 0.1 * (2 / 5) * distance @ X
        w = w + v
    return losses


for keeps in (1.0, 0.9):
    print(keeps, *[f"{loss:.3f}" for loss in line_losses(keeps)[:5]])

# %% [markdown]
#     1.0 8.876 3.498 0.241 3.492 8.438
#     0.9 8.876 3.498 0.247 2.325 5.275
#
# The first line is lesson 3, digit for digit. To forget the zero is to let a
# ball roll without friction: it comes through the bottom at full speed and
# climbs the other side. The second ball loses a tenth of its velocity at every
# step. It swings as well, but each time less, and comes to rest at the bottom.
#
# ## What the paper writes
#
# Section 5 has two lines. $g$ is the gradient of the loss at the place $w$,
# the mean over a batch of 128 images; $rate$ is the learning rate:
#
# $v <- 0.9 * v - 0.0005 * rate * w - rate * g$
#
# $w <- w + v$
#
# 0.9 is the *momentum*, what the ball keeps. The middle term is the *weight
# decay*: it draws every weight towards 0, the more the larger it is, as a
# rubber band would. Three steps by hand, with numbers that are easier: the
# loss is $w^2$, so $g = 2 w$; rate 0.1, momentum 0.9, decay 0.1; $w$ begins at
# 1 and $v$ at 0.
#
#     step 1: v = 0.9 *  0      - 0.1 * 0.1 * 1      - 0.1 * 2      = -0.21
#             w = 1      - 0.21     = 0.79
#     step 2: v = 0.9 * -0.21   - 0.1 * 0.1 * 0.79   - 0.1 * 1.58   = -0.3549
#             w = 0.79   - 0.3549   = 0.4351
#     step 3: v = 0.9 * -0.3549 - 0.1 * 0.1 * 0.4351 - 0.1 * 0.8702 = -0.4108
#             w = 0.4351 - 0.410781 = 0.0243
#
# In the first line of a step everything on the right is still the old one; in
# the second $v$ is the new one already. Write it for arrays of either library:
# only with `+`, `-` and `*`, and so that new arrays come out, for those that
# you are given belong to others.


# %%
def paper_update(w, v, g, rate, momentum, decay):
    """One step as the paper writes it. Returns the new w and the new v."""
    ### BEGIN SOLUTION: v first, then w
    v = momentum * v - decay * rate * w - rate * g
    return w + v, v
    ### END SOLUTION


w, v = 1.0, 0.0
for _ in range(3):
    w, v = paper_update(w, v, 2 * w, rate=0.1, momentum=0.9, decay=0.1)
    print(f"v = {v:.6f}, w = {w:.6f}")

# %% [markdown]
#     v = -0.210000, w = 0.790000
#     v = -0.354900, w = 0.435100
#     v = -0.410781, w = 0.024319
#
# ## The optimiser
#
# A network has many parameters, and each needs a velocity of its own, which
# must still be there at the next step. They are kept in a list, in the order
# of the parameters. At the beginning each is 0, a plain number, which becomes
# an array with the first step.
#
# For a parameter `p`, `p.data` is its array, and a new one is assigned to it,
# `p.data = ...`. `p.grad` is None where no gradient has arrived, and such a
# parameter stays where it is. Otherwise `p.grad.data` is the gradient's array.


# %%
class SGD:
    """Stochastic gradient descent as section 5 of the paper writes it."""

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0005):
        self.params = list(params)
        self.lr, self.momentum = lr, momentum
        self.weight_decay = weight_decay
        self.velocities = [0.0] * len(self.params)

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def step(self):
        """Move every parameter that has a gradient."""
        for i, p in enumerate(self.params):
            ### BEGIN SOLUTION: its new place, and its new velocity
            if p.grad is None:
                continue
            p.data, self.velocities[i] = paper_update(
                p.data,
                self.velocities[i],
                p.grad.data,
                self.lr,
                self.momentum,
                self.weight_decay,
            )
            ### END SOLUTION


# %% [markdown]
# ## A long, narrow valley
#
# What is it good for? The valleys of a loss are not round. Here is one that is
# a hundred times steeper across than along: the loss is
# $(x^2 + 100 y^2) / 2$, and the ball begins at (10, 1). Without momentum the
# rate must not exceed 0.02, or the ball is thrown from one steep side to the
# other, ever higher. With such a rate it creeps along the bottom. How many
# steps until the loss is less than 0.001? For each momentum 39 rates are
# tried, up to the largest that the ball can bear, and the best is shown.

# %%
STEEP = np.array([1.0, 100.0])  # the gradient is STEEP * w


def path(rate, momentum, steps=600):
    """The places of the ball, until it is near the bottom."""
    w, v = np.array([10.0, 1.0]), 0.0
    places = [w]
    while len(places) <= steps and (STEEP * w * w).sum() / 2 >= 0.001:
        w, v = paper_update(w, v, STEEP * w, rate, momentum, 0.0)
        places.append(w)
    return np.array(places)


for momentum in (0.0, 0.5, 0.8, 0.9, 0.99):
    rates = 0.02 * (1 + momentum) * np.arange(1, 40) / 40
    needed = [len(path(rate, momentum)) - 1 for rate in rates]
    best = int(np.argmin(needed))
    print(f"momentum {momentum:<4}: {needed[best]:3} steps", end="")
    print(f" at rate {rates[best]:.3f}")

# %% [markdown]
#     momentum 0.0 : 275 steps at rate 0.019
#     momentum 0.5 :  85 steps at rate 0.029
#     momentum 0.8 :  34 steps at rate 0.032
#     momentum 0.9 :  46 steps at rate 0.014
#     momentum 0.99: 399 steps at rate 0.026
#
# Across the valley the pushes alternate, and cancel in the velocity. Along it
# they all point the same way, and add up. On a long even slope $g$ the
# velocity grows until a step loses as much as it adds, $0.1 v = -rate * g$, so
# until $v = -10 * rate * g$. Where the way is straight, momentum 0.9 is a rate
# ten times as large. And too much of it, 0.99, is the orange curve again.
#
# ## When the rate is lowered
#
# The rate of AlexNet was divided by 10 three times. What becomes of the ball?
# That depends on where the rate stands. In the paper's form it is *inside* the
# velocity: what has been collected before was multiplied by the old rate.
# PyTorch puts it *outside*, and the minus with it:
#
# $v <- momentum * v + decay * w + g$
#
# $w <- w - rate * v$


# %%
def outside_update(w, v, g, rate, momentum, decay):
    """One step with the rate outside. Returns the new w and the new v."""
    ### BEGIN SOLUTION: the velocity without the rate, the step with it
    v = momentum * v + decay * w + g
    return w - rate * v, v
    ### END SOLUTION


def strides(update, lowered_at=60, steps=100):
    """How far each step goes on an even slope of 1; rate 0.1, then 0.01."""
    w, v, places = 0.0, 0.0, [0.0]
    for step in range(steps):
        rate = 0.1 if step < lowered_at else 0.01
        w, v = update(w, v, 1.0, rate, 0.9, 0.0)
        places.append(w)
    return -np.diff(places)


inside, outside = strides(paper_update), strides(outside_update)
print("step   inside  outside")
for step in (0, 1, 59, 60, 61, 70, 80):
    print(f"{step:4}{inside[step]:9.3f}{outside[step]:9.3f}")

# %% [markdown]
#     step   inside  outside
#        0    0.100    0.100
#        1    0.190    0.190
#       59    0.998    0.998
#       60    0.908    0.100
#       61    0.828    0.100
#       70    0.382    0.100
#       80    0.198    0.100
#
# As long as the rate is constant, both forms make the same steps. When it is
# lowered, at step 60, the paper's ball coasts: what is too much fades by a
# tenth at each step, and after 22 steps a tenth of it is left. PyTorch's ball
# brakes at once. Does it matter? For AlexNet hardly: a pass over 1.2 million
# images has 9,375 steps. But whoever loads the velocity of one form into a
# program of the other is off by a factor of $-rate$.
#
# ## How strong is the rubber band?
#
# Let a weight get no gradient at all, only decay, with the paper's numbers:

# %%
w, v, count = 1.0, 0.0, 0
while w > 0.5 and count < 20_000:
    w, v = paper_update(w, v, 0.0, 0.01, 0.9, 0.0005)
    count += 1
print(f"half of it is gone after {count} steps, {count / 9375:.1f} passes")

# %% [markdown]
#     half of it is gone after 13866 steps, 1.5 passes
#
# There were 90 passes, so 0.0005 is not as little as it looks. (When the rate
# is divided by 10, so is the decay, which is multiplied by it.) The paper has
# this decay "for all layers". The program did not treat all parameters alike:
# *weights* decayed, *biases* did not. (Many of AlexNet's biases begin at 1;
# decay would draw them away from there.) And biases learned twice as fast, at
# 0.02 instead of 0.01, and their rate was never lowered.
#
# `net.named_parameters()` gives pairs of a name and a parameter; in minidl the
# names of biases end in "bias". Make two optimisers: one for all weights, with
# decay, one for all biases, without and at twice the rate.


# %%
from minidl import Tensor, nn


def program_optimisers(net, lr):
    """[the SGD of the weights, that of the biases] as the program had them."""
    ### BEGIN SOLUTION: sort by name, then two optimisers
    named = list(net.named_parameters())
    weights = [p for name, p in named if not name.endswith("bias")]
    biases = [p for name, p in named if name.endswith("bias")]
    return [SGD(weights, lr), SGD(biases, 2 * lr, weight_decay=0.0)]
    ### END SOLUTION


net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
optimisers = program_optimisers(net, 0.01)
for optimiser in optimisers:
    shapes = [p.shape for p in optimiser.params]
    print(f"rate {optimiser.lr}, decay {optimiser.weight_decay}: {shapes}")

net(Tensor(np.ones((4, 3)))).sum().backward()
for optimiser in optimisers:
    optimiser.step()

# %%
import matplotlib.pyplot as plt

figure = plt.figure(figsize=(12, 4), layout="constrained")
left, middle, right = figure.subplots(1, 3)
colours = {1.0: "tab:orange", 0.9: "tab:blue"}
for keeps, colour in colours.items():
    label = f"keeps {keeps:g}" + " (lesson 3)" * (keeps == 1)
    left.plot(line_losses(keeps), color=colour, label=label)
left.set(xlabel="step", ylabel="loss", title="A ball with friction")
left.set(ylim=(0, 13))

x, y = np.meshgrid(np.linspace(-4, 11, 100), np.linspace(-1.2, 1.2, 100))
height = np.sqrt(STEEP[0] * x**2 + STEEP[1] * y**2)
middle.contour(x, y, height, levels=12, colors="lightgrey")
for momentum, colour in ((0.0, "tab:orange"), (0.8, "tab:blue")):
    places = path(0.016, momentum)[:36]
    label = f"momentum {momentum:g}"
    middle.plot(*places.T, ".-", color=colour, label=label, linewidth=1)
middle.set(xlabel="along", ylabel="across", ylim=(-1.2, 1.7))
middle.set(title="35 steps in a narrow valley")

right.plot(inside, color="tab:blue", label="inside (the paper)")
right.plot(outside, color="tab:green", label="outside (PyTorch)")
right.set(xlabel="step", ylabel="length of the step", ylim=(0, 1.3))
right.set(title="The rate is lowered at step 60")
for axes in (left, middle, right):
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("16_momentum.png", dpi=120)
plt.show()

# %% [markdown]
# (The valley is stretched, or one would not see it. On the right the green
# curve lies on the blue one until step 60.)
#
# ## What you can now do
#
# - write the update of AlexNet, and follow it by hand;
# - say what momentum gains, and what it costs when there is too much of it;
# - say of any optimiser where the rate stands, and who decays.
#
# Now read `minidl/optim/sgd.py` and `minidl/optim/optimizer.py`. It differs
# from yours: one optimiser has several groups of parameters (`param_groups`),
# each with its own rate and decay, so that the program's two are one; `rate`
# chooses inside or outside; and the velocity can be saved and loaded
# (`state_dict`). The arithmetic is `sgd_paper` in `minidl/kernels/update.py`:
# in place, and in pieces that fit the cache, because with 60 million
# parameters the update itself takes time.
#
# **The next lesson** asks where the ball is put at the beginning. With
# AlexNet's own initial weights it may lie on a plain so flat that it does not
# roll at all.
