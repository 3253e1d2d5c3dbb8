"""Lesson 0: the central difference, the gradient by hand, and the step at the bottom of the U."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same

TO_BOTH_SIDES = "only one side is looked at; go from x - eps to x + eps."


def check_parabola(lesson):
    """slope: x * x has slope 6 at 3"""
    for eps in (0.5, 0.001):
        got = lesson.slope(lambda x: x * x, 3.0, eps)
        mistakes = {
            TO_BOTH_SIDES: 6 + eps,
            "only the left side is looked at; go from x - eps to x + eps.": 6 - eps,
            "the two points lie 2 eps apart: divide by 2 * eps.": 12.0,
            "brackets are missing: / 2 * eps divides by 2 and multiplies by eps. Write / (2 * eps).": 6 * eps * eps,
            "the difference is the wrong way round.": -6.0,
        }
        same(f"slope(f, 3.0, {eps}) of f(x) = x * x", got, 6.0, rtol=1e-9, mistakes=mistakes)


def check_cubic(lesson):
    """slope: x * x * x at 1, with a step of 0.1, gives 3.01"""
    got = lesson.slope(lambda x: x * x * x, 1.0, 0.1)
    same("slope(f, 1.0, 0.1) of f(x) = x * x * x", got, 3.01, mistakes={TO_BOTH_SIDES: 3.31})


def check_slope_keeps_the_type(lesson):
    """slope: float32 goes in, float32 comes out"""
    got = lesson.slope(np.exp, np.zeros(3, np.float32), np.float32(0.125))
    same("slope(np.exp, zeros, 0.125) in float32", got, np.full(3, 1.0026064), rtol=1e-5, dtype=np.float32)


def check_gradient_of_a_sum(lesson):
    """gradient: each element has a slope of its own"""
    factors = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, 7.0]])
    got = lesson.gradient(lambda x: (factors * x).sum(), np.ones((2, 3)), 1e-3)
    mistakes = {
        "all elements are moved at once; move one, and leave the others where they are.": np.full((2, 3), factors.sum()),
        "elements moved before are not moved back: each needs a fresh step.": np.cumsum(factors).reshape(2, 3),
        "the two points lie 2 eps apart: divide by 2 * eps.": 2 * factors,
    }
    same("gradient of f(x) = (factors * x).sum()", got, factors, rtol=1e-6, atol=1e-9, mistakes=mistakes)


def check_gradient_of_a_product(lesson):
    """gradient: while one element moves, the others stay"""
    x = np.array([2.0, 3.0, 5.0])
    got = lesson.gradient(lambda x: x[0] ** 2 * x[1] * x[2], x.copy(), 0.5)
    mistakes = {
        "elements moved before are not moved back (each is still eps lower).": [60.0, 11.25, 5.625],
        "only one side is looked at, x and x + eps; the central difference looks at x - eps and x + eps.": [67.5, 20.0, 12.0],
    }
    same("gradient of f(x) = x[0] ** 2 * x[1] * x[2] at [2, 3, 5]", got, [60.0, 20.0, 12.0], rtol=1e-9, mistakes=mistakes)


def check_gradient_leaves_x(lesson):
    """gradient: x is afterwards what it was before"""
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    lesson.gradient(np.sum, x, 0.25)
    if not np.array_equal(x, [[1, 2], [3, 4]]):
        raise Wrong(
            f"gradient has changed the array it was given: [[1, 2], [3, 4]] has become {x.tolist()}.\n"
            "Likely cause: x[index] += eps works on the caller's array. Work on a copy, or make a step to add."
        )


def check_large_steps(lesson):
    """error_curve: with large steps the error is eps * eps / 6"""
    steps = np.array([0.1, 0.01])
    want = np.sinh(steps) / steps - 1
    x = np.linspace(0.5, 1.5, 50)
    mistakes = {
        "the error is not divided by the true slope.": want * np.exp(x).mean(),
        "the sum over the places instead of the mean.": want * 50,
        "the slope is measured to one side only.": np.expm1(steps) / steps - 1,
    }
    for dtype in (np.float64, np.float32):
        got = lesson.error_curve(steps, dtype)
        same(f"error_curve([0.1, 0.01], {dtype.__name__})", got, want, rtol=0.08, mistakes=mistakes)


def check_small_steps(lesson):
    """error_curve: with small steps float32 is far worse than float64"""
    (e64,) = np.asarray(lesson.error_curve(np.array([1e-6]), np.float64))
    (e32,) = np.asarray(lesson.error_curve(np.array([1e-6]), np.float32))
    if e64 < 0 or e32 < 0:
        raise Wrong(f"error_curve gives a negative error, {min(e64, e32):.2g}: is `abs` missing?")
    if e32 < 1e-4:
        raise Wrong(
            f"error_curve([1e-6], float32): {e32:.2g}, but 7 digits cannot be that good; some 0.03 is right.\n"
            "Likely cause: it is computed in float64 after all. Both the places and the step must be float32: "
            "x.astype(dtype) and dtype(eps)."
        )
    if not (1e-12 < e64 < 1e-8 and e32 < 1):
        raise Wrong(
            f"error_curve with eps = 1e-6: {e64:.2g} for float64 and {e32:.2g} for float32; "
            "about 1e-10 and 0.03 were expected. Is |measured - true| / true taken, with a mean over all places?"
        )


def check_best_step(lesson):
    """best_step: the bottom of the U, near 7e-6 for float64"""
    _best(lesson, np.float64, 1e-6, 4e-5, 6.9e-6)


def check_best_step_of_float32(lesson):
    """best_step: near 6e-3 for float32"""
    _best(lesson, np.float32, 1e-3, 2.5e-2, 5.6e-3)


def _best(lesson, dtype, low, high, foreseen):
    call = f"best_step({dtype.__name__})"
    got = lesson.best_step(dtype)
    is_a(call, got, (float, np.floating, int, np.integer))
    if isinstance(got, (int, np.integer)):
        raise Wrong(f"{call}: {got} is a place in STEPS; which step is at that place?")
    if low <= got <= high:
        return
    errors = np.asarray(lesson.error_curve(lesson.STEPS, dtype))
    cause = "Is it the step with the smallest error?"
    if np.isclose(got, errors.min()):
        cause = "That is the smallest error. Which step has it? np.argmin says where it is."
    elif np.isclose(got, lesson.STEPS[errors.argmax()]):
        cause = "That is the step with the largest error."
    elif np.isclose(got, lesson.STEPS[0]):
        cause = "That is the smallest of all steps, which rounding ruins."
    raise Wrong(f"{call}: {got:.2g}, but the best step lies near {foreseen:g}. {cause}")


HINTS = {
    "slope": (
        "A step to the right finds a parabola too steep, a step to the left too flat, by the same amount. Measure across both.",
        "slope = (f(x + eps) - f(x - eps)) / (distance of the two points). How far apart are they?",
        "One line: `return (f(... + ...) - f(... - ...)) / (2 * eps)`, with the brackets around 2 * eps.",
    ),
    "gradient": (
        "Do what `slope` does, for one element after the other. In between, everything must be back where it was.",
        "For each index: let step be an array of zeros like x, but eps at this index. Then the slope is\n"
        "    (f(x + step) - f(x - step)) / (2 eps)",
        "    result = np.zeros(x.shape)\n"
        "    for index in np.ndindex(x.shape):\n"
        "        step = np.zeros(x.shape)\n"
        "        step[index] = ...\n"
        "        result[index] = ...\n"
        "    return result",
    ),
    "error_curve": (
        "`slope` works on a whole array of places at once, since np.exp does. Call it once for each step, with numbers of the "
        "right dtype, and compare with `true`.",
        "error = mean of |measured - true| / true, where measured is the slope of np.exp at x.astype(dtype) with the step dtype(eps).",
        "    measured = slope(np.exp, ..., dtype(eps))\n    errors[i] = np.mean(np.abs(...) / true)",
    ),
    "best_step": (
        "You have an error for each step. Find where it is smallest, and take the step from the same place.",
        "best = STEPS[k], where k is the place of the smallest of error_curve(STEPS, dtype)",
        "One line: `return STEPS[np.argmin(...)]`",
    ),
}

CENTRAL = "return (f(x + eps) - f(x - eps)) / (2 * eps)"
FRESH_STEP = """\
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = eps
        result[index] = (f(x + step) - f(x - step)) / (2 * eps)
"""

MUTANTS = [
    Mutant("one side only", CENTRAL, "return (f(x + eps) - f(x)) / eps", "only one side is looked at"),
    Mutant("divided by eps", CENTRAL, "return (f(x + eps) - f(x - eps)) / eps", "divide by 2 \\* eps"),
    Mutant("brackets forgotten", CENTRAL, "return (f(x + eps) - f(x - eps)) / 2 * eps", "brackets are missing"),
    Mutant("wrong way round", CENTRAL, "return (f(x - eps) - f(x + eps)) / (2 * eps)", "the wrong way round"),
    Mutant("no return", CENTRAL, "(f(x + eps) - f(x - eps)) / (2 * eps)", "Is a `return` missing"),
    Mutant(
        "one side of the gradient",
        "(f(x + step) - f(x - step)) / (2 * eps)",
        "(f(x + step) - f(x)) / eps",
        "only one side is looked at",
    ),
    Mutant("all at once", "step[index] = eps", "step[:] = eps", "all elements are moved at once"),
    Mutant(
        "one step for all",
        FRESH_STEP,
        FRESH_STEP.replace("        step = np.zeros(x.shape)\n", "").replace("    for", "    step = np.zeros(x.shape)\n    for"),
        "each needs a fresh step",
    ),
    Mutant(
        "the caller's array",
        FRESH_STEP,
        """\
    for index in np.ndindex(x.shape):
        x[index] += eps
        above = f(x)
        x[index] -= 2 * eps
        result[index] = (above - f(x)) / (2 * eps)
""",
        "not moved back",
    ),
    Mutant(
        "changes x by a linear function",
        FRESH_STEP,
        FRESH_STEP + "    x += step\n",
        "changed the array it was given",
    ),
    Mutant("the step stays float64", "dtype(eps))", "eps)", "computed in float64 after all"),
    Mutant("not relative", "np.abs(measured - true) / true", "np.abs(measured - true)", "not divided by the true slope"),
    Mutant("no abs", "np.abs(measured - true) / true", "(measured - true) / true", "is `abs` missing"),
    Mutant(
        "the place", "STEPS[np.argmin(error_curve(STEPS, dtype))]", "np.argmin(error_curve(STEPS, dtype))", "which step is at"
    ),
    Mutant("the error", "STEPS[np.argmin(error_curve(STEPS, dtype))]", "error_curve(STEPS, dtype).min()", "the smallest error"),
    Mutant("the worst", "STEPS[np.argmin(error_curve", "STEPS[np.argmax(error_curve", "the largest error"),
]
