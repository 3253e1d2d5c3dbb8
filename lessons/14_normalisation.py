# %% [markdown]
# # Lesson 14: Local response normalisation: window, alpha, towers
#
# **You will be able to** write the layer that stands behind the first two
# convolutions of AlexNet, derive its gradient, and say why the usual test of
# it proves nothing.
#
# **Time:** 45 minutes. **Builds on:** lesson 6 (`Function`), lesson 7
# (`get_array_module`), lesson 4 (why what arrives is drawn at random).
# **Source:** the paper on AlexNet, section 3.3, "Local Response
# Normalization".
#
# As before: `python -m lessons check 14 --watch` beside this file.

# %% [markdown]
# ## Is a response of 10 a lot?
#
# A filter that looks for an edge answers 10. Is that a lot? In a pale corner
# of the image, where all other filters answer 1: yes. In a place so full of
# contrast that all of them answer 10: no. Eyes have the same difficulty, and
# solve it by having each cell quieten its neighbours, so that what is left is
# who is louder *than the others*. The paper does this with channels. Here is
# one pixel with eight of them:

# %%
import numpy as np

from minidl import Function, Tensor, grad
from minidl.backend import get_array_module

responses = np.array([1.0, 1, 1, 10, 1, 1, 1, 1])

loud = 10 / (2 + 1 + 1 + 100 + 1 + 1) ** 0.75  # channel 3 looks at 1 to 5
beside = 1 / (2 + 1 + 1 + 1 + 100 + 1) ** 0.75  # 2 looks at 0 to 4
away = 1 / (2 + 1 + 1 + 1 + 1) ** 0.75  # 6 looks at 4 to 7, the last one
print(f"channel 3: {loud:.3f}, channel 2: {beside:.3f}, channel 6: {away:.3f}")

# %% [markdown]
#     channel 3: 0.303, channel 2: 0.030, channel 6: 0.261
#
# Each is divided by something that grows with the squares of its neighbours,
# two on each side, and with its own. Channel 2 sits beside the loud one and is
# pushed down to a ninth of what channel 6 has, although both answered 1. As a
# formula, with $a_c$ for the response of channel $c$ at some pixel and $b_c$
# for what becomes of it:
#
# $s_c = k + alpha * (sum of a_j^2 over all j in the window of c)$
#
# $b_c = a_c / s_c^{beta}$
#
# The window of $c$ is made of $n$ neighbouring channels, $c$ in the middle.
# The paper has $n = 5$, $k = 2$, $alpha = 0.0001$, $beta = 0.75$. (Above,
# alpha was 1; you will see what difference that makes.) Pixels do not meet:
# the window goes across channels, at one place of the image. The order of the
# channels is arbitrary, and training has to make the best of it.
#
# ## The window, cut at the edges
#
# Two things end a window early. Before channel 0 and after the last one there
# is nothing. And there is a wall in the middle: in 2012 the 96 channels of the
# first layer were computed by two *towers* of 48, each on a GPU of its own,
# and the program let no window look across. (The paper's formula does not
# mention the wall, and Caffe has none.)


# %%
def window(c, channels, size, groups):
    """(first, end): channel c sees the channels first ... end - 1.

    size: odd; c is in the middle. groups: the channels are divided into so
    many towers of equal width, one after the other; c sees only its own.
    """
    ### BEGIN SOLUTION: size // 2 on either side, and no further than the tower
    width = channels // groups
    tower = c // width * width  # the first channel of the tower
    return max(c - size // 2, tower), min(c + size // 2 + 1, tower + width)
    ### END SOLUTION


print("one tower: ", [window(c, 8, 5, 1) for c in (0, 3, 7)])
print("two towers:", [window(c, 8, 5, 2) for c in (0, 3, 7)])

# %% [markdown]
#     one tower:  [(0, 3), (1, 6), (5, 8)]
#     two towers: [(0, 3), (1, 4), (5, 8)]
#
# Below, `window_sums` works on an array of any shape with the channels last.
# (It goes through them one by one. That is not the fastest way, but the
# plainest.) `WindowSum` is the same as an operation of Tensors, so it needs a
# `backward`. What is the gradient of $a_j$? Its value is part of several sums:
# of those of all $c$ that have $j$ in their window. So the gradients of these
# $c$ are to be added up. Which ones are they? Look at the window before you
# write: can it happen that $c$ sees $j$, but $j$ does not see $c$?


# %%
def window_sums(x, size, groups):
    """For every channel the sum over its window. x: an array (..., C)."""
    sums = get_array_module(x).empty(x.shape, x.dtype)
    for c in range(x.shape[-1]):
        first, end = window(c, x.shape[-1], size, groups)
        sums[..., c] = x[..., first:end].sum(axis=-1)
    return sums


class WindowSum(Function):
    def __init__(self, size, groups):
        self.size, self.groups = size, groups

    def forward(self, x):
        return window_sums(x, self.size, self.groups)

    def backward(self, gradient):
        """gradient: a Tensor (..., C), that of the sums. Returns x's."""
        ### BEGIN SOLUTION: for each channel, add up those who see it
        return WindowSum(self.size, self.groups)(gradient)
        ### END SOLUTION


x = Tensor(np.arange(8.0), requires_grad=True)
sums = WindowSum(5, 2)(x)
print(sums.numpy())
print(grad((sums * np.arange(8.0)).sum(), x).numpy())

# %% [markdown]
# Both lines are the same: 3, 6, 6, 6, 15, 22, 22, 18. Seeing is mutual, so the
# way back is the way forth. (Lesson 10 would say: this operation is its own
# transpose.)
#
# ## Forwards
#
# Now the layer itself, on arrays.


# %%
def normalised(x, size, alpha, beta, k, groups):
    """b of every channel, by the formula above. x: an array (..., C)."""
    ### BEGIN SOLUTION: s, then b
    s = k + alpha * window_sums(x * x, size, groups)
    return x / s**beta
    ### END SOLUTION


print(normalised(responses, 5, 1.0, 0.75, 2.0, 1).round(3))

# %% [markdown]
#     [0.299 0.03  0.03  0.303 0.03  0.03  0.261 0.299]
#
# ## Whose alpha?
#
# So far alpha was 1. With the paper's 0.0001, how loud must the channels be
# until something happens? And there is more than one 0.0001. In the paper's
# formula alpha multiplies the *sum* of the squares. The program of 2012 read
# 0.0001 from its configuration, too, but divided it by $n$ first, so that it
# multiplied something like a *mean*: what it used was 0.00002. Caffe divides
# as well, and has $k = 1$. Let nine channels all give the same response, and
# look at the one in the middle:

# %%
ALPHA = 1e-4
FORMS = {"paper": (ALPHA, 2.0), "program": (ALPHA / 5, 2.0)}
FORMS["Caffe"] = (ALPHA / 5, 1.0)

print("response" + "".join(f"{name:>10}" for name in FORMS))
for response in (1, 10, 100, 1000):
    nine = np.full(9, float(response))
    row = [normalised(nine, 5, a, 0.75, k, 1)[4] for a, k in FORMS.values()]
    print(f"{response:8}" + "".join(f"{b:10.3f}" for b in row))

# %% [markdown]
#     response     paper   program     Caffe
#            1     0.594     0.595     1.000
#           10     5.837     5.924     9.926
#          100    23.237    43.869    59.460
#         1000     9.429    31.157    31.388
#
# Read the first two lines: nothing happens but a constant factor, for the
# paper $2^{-0.75} = 0.595$. The layer begins to work when responses come near
# 100. Further up, when all get louder together, each comes out *quieter*. That
# is in reach because the network of 2012 was fed with pixels of 0 to 255 minus
# the mean image. Whoever scales the pixels to 0..1 and keeps the constants has
# a layer that takes time and does nothing.
#
# (The program divides by $n$ also where the window is cut. minidl's alpha is
# the paper's. For that of the program, Caffe, PyTorch or ONNX, divide by $n$.)
#
# ## Backwards: who notices?
#
# Turn up $a_c$ a little. Who notices? Let $g_c$ be the gradient that arrives
# at $b_c$.
#
# **$b_c$ itself**, since $a_c$ stands above the fraction line. It rises at the
# speed $1 / s_c^{beta}$. That makes $g_c / s_c^{beta}$ of the slope, the
# *direct term*.
#
# **Everyone who sees $c$**, and $c$ is one of them. Take such a $j$. In three
# steps: $s_j$ rises at the speed $2 alpha a_c$, for $a_c^2$ is in its sum.
# When $s_j$ rises, $s_j^{-beta}$ falls, at the speed $beta s_j^{-(beta + 1)}$.
# And $b_j$ is $a_j$ times that. By the chain rule the three are multiplied:
#
# $b_j$ changes at the speed $-2 alpha beta a_c * a_j s_j^{-(beta + 1)}$
#
# Each of these counts with its own $g_j$, and all are added up. What does not
# depend on $j$ can be taken out of the sum. This is the *cross term*:
#
# $-2 alpha beta a_c * (sum of g_j a_j s_j^{-(beta + 1)} over j in the window)$
#
# Inside the sum everything is $j$'s: its gradient, its response, its $s$.
# Outside stands $a_c$ alone. Write it with Tensors, so that it can be
# differentiated again: `WindowSum(size, groups)(...)` for the sums, and `**`
# with a number works too.


# %%
class ResponseNorm(Function):
    def __init__(self, size, alpha, beta, k, groups):
        self.size, self.groups = size, groups
        self.alpha, self.beta, self.k = alpha, beta, k

    def forward(self, x):
        constants = self.alpha, self.beta, self.k
        return normalised(x, self.size, *constants, self.groups)

    def backward(self, gradient):
        """gradient: a Tensor (..., C), that of b. Returns that of a."""
        (x,) = self.inputs
        alpha, beta = self.alpha, self.beta
        squares = WindowSum(self.size, self.groups)(x * x)
        s = self.k + alpha * squares
        ### BEGIN SOLUTION: the direct term and the cross term
        part = gradient * x * s ** -(beta + 1)
        cross = WindowSum(self.size, self.groups)(part)
        return gradient * s**-beta - 2 * alpha * beta * x * cross
        ### END SOLUTION


def local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=2.0, groups=1):
    """Each response divided by how loud its neighbours are (section 3.3).

    x: a Tensor (..., C), for images (N, H, W, C). alpha multiplies the sum.
    """
    return ResponseNorm(size, alpha, beta, k, groups)(x)


x = Tensor(responses, requires_grad=True)
slopes = grad(local_response_norm(x, 5, 1.0)[3], x).numpy()
print(slopes.round(3))

# %% [markdown]
#     [ 0.    -0.004 -0.004 -0.013 -0.004 -0.004  0.     0.   ]
#
# These are the slopes of $b_3$. Everyone in the window holds it down, even
# $a_3$ itself! At 10, with alpha 1, it is so loud that louder means quieter.
#
# (The engine could have found this by itself, from the formula of $b$ written
# with Tensors. But it would keep half a dozen arrays like `x` in memory until
# the walk back. Yours keeps one.)
#
# ## A test that proves nothing
#
# Suppose you have made a mistake. Will a test find it? Here are four, with
# $k = 1$ and random responses around 1: no layer at all, the responses are
# handed through (the *identity*); no cross term; its sign turned round; sums
# over 3 channels in place of 5. How far is the gradient of each from the true
# one, in percent of the largest slope? Suppose that the test allows 1 percent,
# as a test in float32 easily does.

# %%
BETA = 0.75
random = np.random.default_rng(0)
A, G = random.standard_normal((2, 4, 8))  # responses, and what arrives


def two_terms(alpha, size=5):
    """The direct term and the cross term of the gradient, with k = 1."""
    s = 1 + alpha * window_sums(A * A, size, 1)
    cross = window_sums(G * A * s ** -(BETA + 1), size, 1)
    return G * s**-BETA, -2 * alpha * BETA * A * cross


def errors(alpha):
    """{a mistake: how far off its gradient is, in percent}"""
    direct, cross = two_terms(alpha)
    wrong = {
        "the identity": G,
        "no cross term": direct,
        "its sign turned": direct - cross,
        "a window of 3": sum(two_terms(alpha, size=3)),
    }
    x = Tensor(A, requires_grad=True)
    b = local_response_norm(x, 5, alpha, BETA, 1.0)
    true = grad((b * G).sum(), x).numpy()
    percent = 100 / np.abs(true).max()
    return {m: percent * np.abs(g - true).max() for m, g in wrong.items()}


for alpha in (1e-4, 1.0):
    print(f"alpha = {alpha:g}")
    for name, percent in errors(alpha).items():
        verdict = "passes!" if percent < 1 else "found"
        print(f"    {name:<16}{percent:8.2f} %   {verdict}")

# %% [markdown]
#     alpha = 0.0001
#         the identity        0.08 %   passes!
#         no cross term       0.06 %   passes!
#         its sign turned     0.11 %   passes!
#         a window of 3       0.05 %   passes!
#     alpha = 1
#         the identity      185.23 %   found
#         no cross term      66.64 %   found
#         its sign turned   133.28 %   found
#         a window of 3      29.06 %   found
#
# With the paper's alpha, a layer that does not exist passes the test. The
# paper is not to blame: on responses around 100 the same alpha does much. The
# test is, since it feeds the layer with what it leaves alone. **Test a layer
# where it works**, here with alpha near 1. (Small steps in float64, as in
# lesson 4, see an error of 0.08 % even at 0.0001. Most tests are not so fine.)
# In the picture: the wall between two towers, and the mistakes for all alphas.

# %%
import matplotlib.pyplot as plt

figure = plt.figure(figsize=(11, 4.2), layout="constrained")
left, right = figure.subplots(1, 2)
places = np.arange(16)
loud = np.where(places == 7, 10.0, 1.0)
shown = {"no wall": (1, -0.2, "tab:orange"), "wall": (2, 0.2, "tab:blue")}
for name, (groups, shift, colour) in shown.items():
    b = normalised(loud, 5, 1.0, 0.75, 2.0, groups)
    left.bar(places + shift, b, 0.4, color=colour, label=name)
left.axvline(7.5, color="black", linewidth=1)
left.text(3.5, 0.35, "tower 1", ha="center")
left.text(11.5, 0.35, "tower 2", ha="center")
left.set(xlabel="channel (7 answered 10, all others 1)", ylim=(0, 0.45))
left.set(ylabel="after normalisation", xticks=places)
left.set(title="Who is pushed down by channel 7?")
left.legend(frameon=False, loc="upper left", ncols=2)

alphas = np.logspace(-5, 1, 25)
found = [errors(alpha) for alpha in alphas]
for name in found[0]:
    right.loglog(alphas, [e[name] for e in found], label=name)
right.axhspan(1e-3, 1, color="lightgrey", alpha=0.5, linewidth=0)
right.text(9, 0.0014, "a test that allows 1 % passes this", ha="right")
right.axvline(1e-4, color="black", linewidth=1, linestyle=":")
right.text(1.2e-4, 150, "the paper's alpha")
right.set(xlabel="alpha", ylabel="error in percent", ylim=(1e-3, 1e3))
right.set(title="How far four mistakes are off")
right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.08))
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig("14_normalisation.png", dpi=120)
plt.show()

# %% [markdown]
# ## What you can now do
#
# - cut a window at the edge and at the wall, and turn anyone's alpha into
#   anyone else's;
# - derive a gradient by asking who notices;
# - choose the numbers of a test so that the mistakes show in it.
#
# What was it good for? The paper reports a top-1 error lower by 1.4 percentage
# points and a top-5 error lower by 1.2; on CIFAR-10, with a network of four
# layers, 11 % instead of 13 %. Its text puts the layer after the ReLU. The
# program did so behind conv2, but behind conv1 it normalised, pooled, and
# applied the ReLU last; and behind conv2 there was a second kind, over 5 x 5
# pixels *within* a map, of which the paper says nothing. Two years later the
# same author's network with one tower had none of it.
#
# Now read `local_response_norm` in `minidl/ops/normalization.py`: there are
# your two classes, with the same two terms. It differs from yours: arguments
# that make no sense are refused, and when nobody will differentiate again,
# `backward` hands everything to `lrn_backward` in `minidl/kernels/lrn.py`.
# That file lays the channels of many pixels in one long line, with zeros for
# walls, so that a window sum is five shifted additions. Its `lrn_plain` is
# your `normalised`, and a test holds the two together.
#
# **The next lesson** throws away half of what a layer computes, at random. It
# needs a `Function` that remembers something from forwards to backwards.
