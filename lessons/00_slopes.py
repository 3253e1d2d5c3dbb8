# %% [markdown]
# # Lesson 0: Slopes by hand
#
# **You will be able to** measure the slope of any function that you can
# compute, of one number or of many, and to say how many of its digits are
# true.
#
# **Time:** 40 minutes. **Builds on:** functions in Python, arrays in NumPy.
# **Source:** older than any network; Press et al., *Numerical Recipes*,
# section 5.7, "Numerical Derivatives".
#
# How to work: go from top to bottom. Where it says TODO, your code takes the
# place of the line below, the one with NotImplementedError. Let
# `python -m lessons check 0 --watch` run beside this file. When you are stuck:
# `python -m lessons hint 0`.

# %% [markdown]
# ## Which way is down?
#
# AlexNet has 60,965,224 numbers that can be turned like knobs. For every
# setting of them one number, the *loss*, says how badly the network does.
# Training asks one question again and again, of every knob: **when I turn it
# up a little, does the loss rise or fall, and how fast?** The answer is called
# the *slope*. The lessons to come are about getting 60,965,224 of these
# answers quickly. This one is about getting a single one, in a way so simple
# that you can trust it: turn the knob a little and look.
#
# Here is a machine with one knob. It stands at 3, then a little higher:

# %%
import numpy as np


def square(x):
    return x * x


print(square(3.0), square(3.001))

# %% [markdown]
# It prints 9.0 and 9.006001. The knob went up by 0.001 and the result by
# 0.006001, six times as much: at 3 the slope is about 6. As a formula, for a
# function $f$, the place $x$ where the knob stands, and a small step that is
# called $eps$ after the Greek letter epsilon:
#
# $slope = (f(x + eps) - f(x)) / eps$
#
# The smaller the step, the better the answer. Or is it?

# %%
for k in (1, 4, 7, 10, 13, 16):
    eps = 10.0**-k
    print(f"eps = 1e-{k:02}   slope = {(square(3 + eps) - square(3)) / eps}")

# %% [markdown]
#     eps = 1e-01   slope = 6.100000000000012
#     eps = 1e-04   slope = 6.000100000012054
#     eps = 1e-07   slope = 6.000000087880153
#     eps = 1e-10   slope = 6.000000496442226
#     eps = 1e-13   slope = 6.004086117172847
#     eps = 1e-16   slope = 0.0
#
# It gets better, then worse, and in the end the machine swears that the slope
# is 0. Two different errors are at work, one for large steps and one for small
# ones. We shall meet them one at a time, and then find the best step between.

# %% [markdown]
# ## The error of large steps: look to both sides
#
# With $eps = 0.1$ the answer was 6.1, too large by exactly the step. That is
# no accident. Multiply it out:
#
# $((x + eps)^2 - x^2) / eps = 2 x + eps$
#
# The parabola bends upwards, so a step to the right finds it too steep, by
# $eps$. A step to the left finds it too flat, by $eps$ as well: $2 x - eps$.
# The mean of the two is right! To take it, measure from $x - eps$ to
# $x + eps$. These two points lie $2 eps$ apart:
#
# $slope = (f(x + eps) - f(x - eps)) / (2 eps)$
#
# This is the *central difference*. Write it.


# %%
def slope(f, x, eps):
    """The slope of f at x, measured from x - eps to x + eps."""
    ### BEGIN SOLUTION: the central difference
    return (f(x + eps) - f(x - eps)) / (2 * eps)
    ### END SOLUTION


print(slope(square, 3.0, 0.1))

# %% [markdown]
# For the parabola it is right with any step. A cubic, $x^3$, whose slope at 1
# is 3, leaves a small error, but look how it shrinks: the step is halved, the
# error is quartered. To one side it would only be halved.


# %%
def cube(x):
    return x * x * x


for eps in (0.1, 0.05, 0.025):
    one_side = (cube(1 + eps) - cube(1)) / eps
    both_sides = slope(cube, 1.0, eps)
    print(f"eps {eps:<6} off by {one_side - 3:.6f}, {both_sides - 3:.6f}")

# %% [markdown]
# ## Many knobs: the gradient
#
# A network has many knobs, its loss is a function of a whole array of them.
# The slope of each is found by moving that one alone, while all others stay
# where they are. All slopes together, in an array of the same shape, are
# called the *gradient*.
#
# Below, $x$ is an array of any shape. `np.ndindex(x.shape)` goes through all
# places in it: for the shape (2, 3) it gives (0, 0), (0, 1) and so on to
# (1, 2), and `x[0, 1]` is the same as `x[(0, 1)]`. One warning: the array
# belongs to whoever called you. Leave it as it was.


# %%
def gradient(f, x, eps):
    """The slope of f, which makes one number of an array, for each element.

    x: an array of floats, which is not changed. Returns an array like x.
    """
    ### BEGIN SOLUTION: move one element at a time, the others stay
    result = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = eps
        result[index] = (f(x + step) - f(x - step)) / (2 * eps)
    return result
    ### END SOLUTION


def loss(w):
    """How far 2 w0 + 3 w1 is from 5, squared."""
    return (2 * w[0] + 3 * w[1] - 5) ** 2


print(gradient(loss, np.array([1.0, 2.0]), 1e-6))

# %% [markdown]
# It prints 12 and 18 (nearly). Turning up either knob makes things worse, the
# second one faster. So turn both down: that is all that training does.
#
# What did it cost? Two evaluations of the loss for each knob. For AlexNet that
# makes 121,930,448. If one took a second, the gradient would be ready in three
# years and ten months, and training takes hundreds of thousands of them.
# Lesson 1 begins there. What you have now is slow, but it is *right*, and it
# will catch the mistakes in everything faster that you write.

# %% [markdown]
# ## The error of small steps: numbers have few digits
#
# Why did the step 1e-16 give 0? A computer's numbers have a fixed count of
# digits: `float64`, Python's float, about 16; `float32`, which GPUs are fast
# with and in which AlexNet was trained, about 7. What does not fit is rounded
# away:

# %%
print(np.float64(3) + np.float64(1e-16) == 3)
print(np.float32(3) + np.float32(1e-8) == 3)

# %% [markdown]
# Both are True: the step is gone before the function has seen it. And long
# before a step vanishes it is damaged. $f(x + eps)$ and $f(x - eps)$ are
# nearly equal; their first digits cancel, and what is left of the difference
# consists of the last digits, the rounded ones.
#
# Call $u$ the relative error of one rounding: at most 1.1e-16 for float64,
# 6.0e-8 for float32. Both values of $f$ are off by about $u f$, the
# difference too, and then it is divided by a small number. So the error of
# the slope is about $u f / eps$: ten times smaller a step, ten times larger an
# error.
#
# Now measure it. We need a function whose slope is known: the slope of the
# exponential function $exp(x)$ is $exp(x)$ itself. The *relative error* is
# the distance from the truth, without its sign, as a part of the truth:
#
# $error = |measured - true| / true$
#
# Take its mean over the 50 places in `x`. Everything measured has to happen
# in `dtype`, or we would measure another machine: `x.astype(dtype)` are the
# places and `dtype(eps)` is the step as numbers of that kind. (A single
# float64 among float32 turns the result into float64.)


# %%
def error_curve(steps, dtype):
    """The mean relative error of `slope` for each of the steps.

    dtype: np.float64 or np.float32, in which the slopes are measured.
    Returns an array with one error for each step.
    """
    x = np.linspace(0.5, 1.5, 50)
    true = np.exp(x)
    errors = np.zeros(len(steps))
    for i, eps in enumerate(steps):
        ### BEGIN SOLUTION: errors[i] = the mean relative error with this step
        measured = slope(np.exp, x.astype(dtype), dtype(eps))
        errors[i] = np.mean(np.abs(measured - true) / true)
        ### END SOLUTION
    return errors


some = [1e-1, 1e-3, 1e-5, 1e-7, 1e-9]
print("float64", error_curve(some, np.float64))
print("float32", error_curve(some, np.float32))

# %% [markdown]
# Each row goes down and up again: a curve like a U. At its bottom is the best
# step. Try many steps and take the one with the smallest error. (`np.argmin`
# says *where* in an array the smallest number is.)


# %%
STEPS = 10.0 ** np.arange(-12, 0, 0.25)


def best_step(dtype):
    """Which of STEPS measures slopes best in numbers of this dtype."""
    ### BEGIN SOLUTION: the step at the bottom of the error curve
    return STEPS[np.argmin(error_curve(STEPS, dtype))]
    ### END SOLUTION


print("float64:", best_step(np.float64), "  float32:", best_step(np.float32))

# %% [markdown]
# Can we foresee it? For the exponential function the two errors are
#
# $eps^2 / 6$ (large steps) and $u / eps$ (small steps).
#
# The first comes from the bend of the curve: of $exp(x + eps)$, written as
# $exp(x) (1 + eps + eps^2/2 + eps^3/6 + ...)$, the terms with even powers
# cancel between left and right, and $eps^3 / 6$, divided by $eps$, remains.
# Their sum is smallest where it has slope 0 (of course), and that is at
#
# $eps = (3 u)^{1/3}$: 0.0000069 for float64, 0.0056 for float32.
#
# The picture has your measurements as dots and this sum as dashed lines: with
# $u$ at its largest, so most dots lie a little below. Where the orange dots
# lie flat at 1 the step has vanished, the slope comes out as 0 and is wrong by
# all of itself. The thin line is what looking to one side would have given.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
for dtype, colour in ((np.float64, "tab:blue"), (np.float32, "tab:orange")):
    name = dtype.__name__
    rounding = np.finfo(dtype).eps / 2
    best = best_step(dtype)
    errors = error_curve(STEPS, dtype)
    axes.loglog(STEPS, errors, "o", ms=4, color=colour, label=f"{name}")
    foreseen = STEPS**2 / 6 + rounding / STEPS
    axes.loglog(STEPS, foreseen, "--", color=colour, lw=1)
    lowest = errors.min()
    axes.annotate(
        f"best: {best:.1e}",
        (best, lowest),
        xytext=(-8, -16),
        textcoords="offset points",
        ha="right",
        color=colour,
    )
x = np.linspace(0.5, 1.5, 50)
one_side = [(np.exp(x + e) - np.exp(x)) / e / np.exp(x) - 1 for e in STEPS]
means = np.mean(np.abs(one_side), axis=1)
axes.loglog(STEPS, means, color="grey", lw=0.8, label="float64, to one side")
axes.axvline(1e-6, color="lightgrey", zorder=0)
axes.text(1.15e-6, 2, "1e-6", color="grey", va="top")
axes.set(xlabel="step eps", ylabel="relative error of the slope")
axes.set(ylim=(1e-13, 4), title="Too large a step, too small a step")
axes.legend(frameon=False, loc="lower left")
axes.spines[["top", "right"]].set_visible(False)
figure.savefig("00_slopes.png", dpi=120)
plt.show()

# %% [markdown]
# ## Why everybody takes 1e-6
#
# Look along the grey upright line. In float64, a step of 1e-6 gives slopes
# that are right to about ten digits; a little to the right they would be
# better still. But the right side of the U moves: it depends on how sharply
# the function bends, and a network may bend much more than the exponential
# function. The left side, rounding, is nearly the same for all. So one goes a
# little to the left of the best place and is safe.
#
# In float32 the same step is off by some three per cent, and no step at all
# is better than one part in 100,000. A wrong gradient could hide in that.
# Therefore: **train in float32 if you like, but check gradients in float64.**
#
# ## What you can now do
#
# - measure the slope of any function, and the gradient of a function of many
#   numbers, without knowing anything about what is inside;
# - say why the step is 1e-6, and why such a check is done in float64.
#
# Now read the top of `minidl/gradcheck.py`, and in it `_Check.values`,
# `difference` and `slope`. It is your central difference, with the same 1e-6
# and always in float64. It differs from yours in this: when a tensor is large
# it tries 32 elements, and then eight random *directions*, in which all
# elements move at once; and where a function has a kink, as $|x|$ at 0, it
# compares with the slopes on both sides.
#
# **The next lesson** needs one thing from here: a slope says how many times
# as fast one number moves as another. From that, and from a number that
# remembers how it was made, it gets all 60,965,224 slopes in one go.
