# %% [markdown]
# # Lesson 4: Trust nothing: build the gradient checker
#
# **You will be able to** find out whether any backward step is right, without
# understanding it, and to say when a check that passes proves nothing.
#
# **Time:** 45 minutes. **Builds on:** lesson 0 (central difference), lesson 1
# (what arrives, times the slope), arrays in NumPy.
# **Source:** Bengio, "Practical recommendations for gradient-based training of
# deep architectures" (2012), on gradient checking; two of the suspects are
# from the paper on AlexNet, sections 3.3 and 5.
#
# As before: `python -m lessons check 4 --watch` beside this file.

# %% [markdown]
# ## Eight suspects
#
# From here on our numbers come in arrays, and an operation on them is a pair
# of functions. `forward(x)` computes the result $y$. `backward(x, dy)` gets
# $dy$, an array like $y$: for each number of the result what *arrives* there,
# the slope of the end with respect to it (lesson 1). It returns $dx$, an array
# like $x$: what is to arrive at each number of the input.
#
# Below are eight such pairs. **In six of them the `backward` is wrong.** All
# six are mistakes that people make. Do not search for them, and do not read
# the code closely: in half an hour your checker will find them.

# %%
import numpy as np

column = np.arange(8)
NEAR = abs(column[:, None] - column) <= 2  # 8 x 8: are two columns near?


def divisor(x):
    """2 + 0.0001 * the squares of the nearest five in the row, summed."""
    return 2 + 1e-4 * (x * x) @ NEAR


def normalise(x):
    """Response normalisation, section 3.3 of the paper (lesson 14)."""
    return x * divisor(x) ** -0.75


def normalise_backward(x, dy):
    return dy * divisor(x) ** -0.75


def normalise_2_backward(x, dy):
    from_near = (dy * x * divisor(x) ** -1.75) @ NEAR
    return dy * divisor(x) ** -0.75 - 1.5e-4 * x * from_near


def decay(x):
    """The price of large weights, section 5: 0.0005 / 2 * w^2, summed."""
    return 0.0005 / 2 * (x * x).sum()


def decay_backward(x, dy):
    return 0.0005 / 2 * x * dy


def pairs(x):
    """Each number times the one after it: the result is one shorter."""
    return x[:-1] * x[1:]


def pairs_backward(x, dy):
    dx = np.zeros(x.shape)
    dx[:-1] += dy * x[1:]
    dx[1:-1] += (dy * x[:-1])[:-1]
    return dx


def relu(x):
    """Negative numbers become 0 (lesson 13)."""
    return np.maximum(x, 0)


def relu_backward(x, dy):
    return dy * (x > 0)


rng = np.random.default_rng(1)
X = rng.standard_normal((3, 8))
SUSPECTS = {  # forward, backward, and an x to try them at
    "sine": (np.sin, lambda x, dy: np.cos(x), X),
    "turn": (np.transpose, lambda x, dy: dy.reshape(x.shape), X),
    "centre": (  # take from each row its mean
        lambda x: x - x.mean(axis=1, keepdims=True),
        lambda x, dy: dy - dy.mean(axis=0, keepdims=True),
        X,
    ),
    "normalise": (normalise, normalise_backward, X),
    "normalise 2": (normalise, normalise_2_backward, X),
    "decay": (decay, decay_backward, 0.01 * X),  # small, as new weights are
    "pairs": (pairs, pairs_backward, rng.standard_normal(10_000)),
    "relu": (relu, relu_backward, X.round(1)),  # as measured data often are
}

# %% [markdown]
# And here is a check such as many write. The end result is the *sum* of all
# results, so what arrives at each is 1: $dy$ is an array of ones. It moves
# the first twenty numbers of $x$, measures the slopes, and is content when
# they agree to one per cent, or to 0.001 where they are small.


# %%
def hasty_check(forward, backward, x, eps=1e-6):
    """The worst error, as a part of what is allowed: above 1 is too much."""
    says = backward(x, np.ones_like(forward(x)))
    worst = 0.0
    for index in list(np.ndindex(x.shape))[:20]:
        step = np.zeros(x.shape)
        step[index] = eps
        above, below = forward(x + step).sum(), forward(x - step).sum()
        measured = (above - below) / (2 * eps)
        allowed = 0.001 + 0.01 * abs(measured)
        worst = max(worst, abs(says[index] - measured) / allowed)
    return worst


for name, suspect in SUSPECTS.items():
    print(f"{name:12} {'fine' if hasty_check(*suspect) <= 1 else 'WRONG'}")

# %% [markdown]
#     sine         fine
#     turn         fine
#     centre       fine
#     normalise    fine
#     normalise 2  fine
#     decay        fine
#     pairs        fine
#     relu         WRONG
#
# All six wrong ones pass, and the only one that it complains about is right.
# That is worse than no check, for it makes one feel safe. Four things are the
# matter with it. You will put them right one by one.
#
# ## First: not ones
#
# The end of a real computation is not the sum of all results. What arrives at
# them is different for each, and of either sign; so must $dy$ be in a check.
# Say the end is
#
# $end = sum(dy * forward(x))$,
#
# every result times a fixed number of its own, all added. Then the slope of
# the end with respect to a result is its number, just the $dy$ that `backward`
# gets. So `backward(x, dy)` must equal the gradient of this end, and that you
# can measure as in lesson 0: one element of $x$ up and down by $eps$.
#
# One fine point: take the difference of the results first, then multiply by
# $dy$ and sum up. A result that this element does not touch then contributes
# exactly 0, and no rounding error.


# %%
def numerical_gradient(forward, x, dy, eps=1e-6):
    """The gradient of sum(dy * forward(x)) by central differences.

    Returns an array like x, and leaves x as it was.
    """
    result = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = eps
        ### BEGIN SOLUTION: result[index] = the slope of the end along step
        difference = forward(x + step) - forward(x - step)
        result[index] = (dy * difference).sum() / (2 * eps)
        ### END SOLUTION
    return result


forward, backward, _ = SUSPECTS["turn"]
x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
dy = np.array([[10.0, 40.0], [20.0, 50.0], [30.0, 60.0]])
print("measured:", numerical_gradient(forward, x, dy).round(3).tolist())
print("backward:", backward(x, dy).tolist())

# %% [markdown]
#     measured: [[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]
#     backward: [[10.0, 40.0, 20.0], [50.0, 30.0, 60.0]]
#
# The first one is caught. `turn` exchanges rows and columns; its backward only
# gives the numbers another shape, in which they stand in the wrong order. Of
# ones every order is right.
#
# ## Second: how close is close?
#
# A number that is computed and one that is measured are never quite equal. By
# how much may they differ? By a small part of their size: `rtol`, the
# *relative tolerance*. And since a slope may be 0, where no part of its size
# is left, also by a small fixed amount: `atol`, the *absolute tolerance*. They
# agree when
#
# $|a - b| <= atol + rtol * min(|a|, |b|)$,
#
# where $|a|$ is $a$ without its sign and $min$ the smaller of the two: the
# larger may be infinite, and the tolerance with it.
#
# Lesson 0 told us what to expect: with $eps = 10^{-6}$ in float64 the measured
# slopes are right to about ten digits. We ask for five, `rtol=1e-5`, and
# `atol=1e-8`. `agrees` works on whole arrays at once (`np.abs`, `np.minimum`).
# And nothing agrees with NaN ("not a number", what 0 / 0 gives): every
# comparison with it is False, so ask whether the distance *is small*.


# %%
def agrees(a, b, rtol=1e-5, atol=1e-8):
    """True or False for each element: are a and b close enough?"""
    ### BEGIN SOLUTION: the formula above, for arrays
    size = np.minimum(np.abs(a), np.abs(b))
    return np.abs(a - b) <= atol + rtol * size
    ### END SOLUTION


for name in ("normalise", "normalise 2", "decay"):
    forward, backward, x = SUSPECTS[name]
    dy = rng.standard_normal(np.shape(forward(x)))
    says, measured = backward(x, dy), numerical_gradient(forward, x, dy)
    loose = agrees(says, measured, rtol=1e-2, atol=1e-3).sum()
    strict = agrees(says, measured).sum()
    print(f"{name:12} of 24 agree: {loose:2} loosely, {strict:2} strictly")

# %% [markdown]
#     normalise    of 24 agree: 24 loosely,  6 strictly
#     normalise 2  of 24 agree: 24 loosely, 24 strictly
#     decay        of 24 agree: 24 loosely,  0 strictly
#
# Two more. In `normalise` a whole term is missing: a number also sits in the
# divisors of its neighbours. With the constants of the paper this term is a
# few parts in 10,000, and a tolerance of one per cent swallows it. `decay` is
# wrong by a factor of two, the 2 of $w^2$, but its slopes are so small that
# any two of them are less than 0.001 apart. Compare `atol` with the slopes!
#
# ## Third: kinks
#
# Why did the hasty check complain about `relu`? Because some of the numbers
# are exactly 0, and there it has not one slope but two: 0 on the left and 1 on
# the right. The central difference is the mean of both, 0.5, and
# `relu_backward` says 0. Such a place is called a *kink*. Any slope between
# the two sides is a fair answer there, and a check must not complain.
#
# How does one recognise a kink, knowing nothing about the function? Look how
# far apart the two sides are, and look again with half the step:


# %%
def both_sides(forward, x, dy, index, eps):
    """The slopes of the end to the left and to the right of x[index]."""
    step = np.zeros(x.shape)
    step[index] = eps
    here = forward(x)
    left = (dy * (here - forward(x - step))).sum() / eps
    right = (dy * (forward(x + step) - here)).sum() / eps
    return left, right


def gap(forward, x, dy, index, eps):
    """How far apart the two sides are."""
    left, right = both_sides(forward, x, dy, index, eps)
    return abs(right - left)


zero, one = np.zeros(1), np.ones(1)
for name, forward, x in (
    ("kink: relu at 0", relu, zero),
    ("curve: 2000 x * x at 0", lambda x: 2000 * x * x, zero),
    ("straight: x / 3 at 0.7", lambda x: x / 3, zero + 0.7),
):
    gaps = [gap(forward, x, one, 0, eps) for eps in (1e-6, 5e-7)]
    print(f"{name:22}  gap {gaps[0]:.0e}, with half the step {gaps[1]:.0e}")

# %% [markdown]
# Where a function is merely curved, the gap is halved with the step: looked at
# closely enough, every smooth curve is a straight line. At a kink the gap
# stays, however close one looks. And on a straight line it should be 0, but
# rounding leaves something like 0.0000000001, which may grow or shrink.
#
# So call it a kink when the gap with half the step is larger than three
# quarters of the gap with the whole step, **and** larger than 0.0001. (For
# smooth curves it is a half; three quarters leaves some room.)


# %%
def is_kink(forward, x, dy, index, eps=1e-6):
    """Whether the slopes on both sides of x[index] stay apart."""
    ### BEGIN SOLUTION: compare the gap with eps and the gap with eps / 2
    whole = gap(forward, x, dy, index, eps)
    half = gap(forward, x, dy, index, eps / 2)
    return bool(half > max(0.75 * whole, 1e-4))
    ### END SOLUTION


def each_element(forward, backward, x, dy, eps):
    """The elements of x at which backward is wrong: (where, says, is)."""
    says, measured = backward(x, dy), numerical_gradient(forward, x, dy, eps)
    wrong = []
    for index in np.ndindex(x.shape):
        if agrees(says[index], measured[index]):
            continue
        if is_kink(forward, x, dy, index, eps):
            low, high = sorted(both_sides(forward, x, dy, index, eps))
            if low - 1e-6 <= says[index] <= high + 1e-6:
                continue  # between the two sides
        wrong.append((index, says[index], measured[index]))
    return wrong


_, _, x = SUSPECTS["relu"]
dy = rng.standard_normal(x.shape)
print("kinks:", [i for i in np.ndindex(x.shape) if is_kink(relu, x, dy, i)])
print("complaints:", each_element(relu, relu_backward, x, dy, 1e-6))

# %% [markdown]
# ## Fourth: all elements at once
#
# The `x` of `pairs` has 10,000 elements. One by one that takes 20,000
# evaluations, so the hasty check looked at the first twenty. It need not be
# so. Move *all* elements at once, element $i$ by $eps$ times $d_i$, where the
# *direction* $d$ is an array like $x$. How fast does the end move? Each
# element contributes its slope times its speed:
#
# slope along $d$ = $sum(dx * d)$
#
# So two evaluations test the whole of $dx$. It is one number for 10,000; might
# mistakes cancel? With a random $d$ only by a miracle. (With a $d$ of ones
# easily, as with a $dy$ of ones.) This is called a *random projection*.


# %%
def along(forward, backward, x, dy, direction, eps=1e-6):
    """The slope of the end along `direction`: (backward says, measured)."""
    ### BEGIN SOLUTION: sum(dx * direction), and the central difference
    says = (backward(x, dy) * direction).sum()
    difference = forward(x + eps * direction) - forward(x - eps * direction)
    return says, (dy * difference).sum() / (2 * eps)
    ### END SOLUTION


def eight_directions(forward, backward, x, dy, eps, rng):
    """The directions in which backward is wrong: (number, says, is)."""
    wrong = []
    for number in range(8):
        direction = rng.standard_normal(x.shape)
        says, measured = along(forward, backward, x, dy, direction, eps)
        if not agrees(says, measured):
            wrong.append((f"direction {number}", says, measured))
    return wrong


_, _, x = SUSPECTS["pairs"]
dy, direction = rng.standard_normal(9_999), rng.standard_normal(10_000)
says, measured = along(pairs, pairs_backward, x, dy, direction)
print(f"says {says:.2f}, is {measured:.2f}")
print("the last of dx:", pairs_backward(x, dy)[-1])

# %% [markdown]
# The last of 10,000 elements is never written, because a slice stops one too
# early. That alone makes the slope along $d$ differ.
#
# ## The checker
#
# Now put it together. `rng` makes random numbers: `rng.standard_normal(shape)`
# is an array of them, of either sign, around 1 in size. Draw a `dy` like the
# result $y$. (`np.shape(y)` is also right for the single number that `decay`
# gives.) With up to 100 elements in `x` ask `each_element`, with more
# `eight_directions`.


# %%
def gradcheck(forward, backward, x, eps=1e-6):
    """Everywhere that backward is wrong; an empty list when all is well."""
    rng = np.random.default_rng(2012)
    x = np.array(x, dtype=np.float64)
    y = forward(x)
    ### BEGIN SOLUTION: draw dy, then look at each element, or along directions
    dy = rng.standard_normal(np.shape(y))
    if x.size <= 100:
        return each_element(forward, backward, x, dy, eps)
    return eight_directions(forward, backward, x, dy, eps, rng)
    ### END SOLUTION


for name, suspect in SUSPECTS.items():
    wrong = gradcheck(*suspect)
    if wrong:
        where, says, measured = wrong[0]
        text = f"{says:.5g} instead of {measured:.5g} at {where}"
    print(f"{name:12} {'WRONG: ' + text if wrong else 'fine'}")

# %% [markdown]
# Six wrong, two fine, and nobody had to understand a single one of them.
# (`sine` forgets $dy$, `turn` needs `dy.T`, `centre` takes the mean along the
# wrong axis, `decay` lacks the 2, and `pairs` needs `dx[1:] += dy * x[:-1]`.)
#
# In the picture: the worst error of each, as a part of what is allowed. Above
# the line it is caught; at the bottom there is no complaint at all.

# %%
import matplotlib.pyplot as plt


def worst(found):
    """The worst of your checker's complaints, as a part of what is allowed."""
    parts = [abs(a - b) / (1e-8 + 1e-5 * abs(b)) for _, a, b in found]
    return max(parts, default=0.0)


hasty = [hasty_check(*suspect) for suspect in SUSPECTS.values()]
yours = [worst(gradcheck(*suspect)) for suspect in SUSPECTS.values()]
figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
axes.semilogy(np.maximum(hasty, 1e-7), "s", ms=11, label="the hasty check")
axes.semilogy(np.maximum(yours, 1e-7), "o", ms=7, label="your checker")
axes.axhline(1, color="black", lw=0.8)
axes.set_xticks(range(len(SUSPECTS)), SUSPECTS)
axes.set(title="Above the line: caught", ylim=(3e-8, 1e8))
axes.set_ylabel("worst error / allowed error")
axes.legend(frameon=False, loc="upper right")
figure.savefig("04_gradcheck.png", dpi=120)
plt.show()

# %% [markdown]
# ## When a pass proves nothing
#
# `normalise` was caught, but by a narrow margin: its missing term is so small
# that here `rtol=1e-3` would have let it go. The better remedy is not a
# smaller tolerance but a larger term: with 1 in place of 0.0001 the mistake is
# a good part of the slopes. A check is worth what it would have caught: ask
# that of every check that passes.
#
# And when `forward` computes the wrong thing, and `backward` is right for
# that, no gradient check can see it.
#
# ## What you can now do
#
# - check any pair of `forward` and `backward`, small or large, with kinks or
#   without;
# - say what a `dy` of ones, a wide tolerance, and a look at the first few
#   elements let pass.
#
# Now read `minidl/gradcheck.py` from the class `_Check` on: `difference` is
# your fine point, `_one_sided` your kinks. It differs from yours: the function
# may take several inputs, or be a whole layer; the tolerance also grows with
# the rounding error to be expected; of a large tensor it looks at 32 elements
# besides the eight directions; and it notices most kinks that lie beside the
# place. And `doubts` asks the question of the last section: it warns when the
# slopes, or the term that makes a function nonlinear, are smaller than the
# tolerance.
#
# **The next lesson** puts arrays into the numbers that remember. When a row of
# three is added to four rows of three, each of its numbers is used four times.
# What arrives at it, then? Your checker will say whether you are right.
