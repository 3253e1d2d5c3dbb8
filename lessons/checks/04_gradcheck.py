"""Lesson 4: the numerical gradient, the tolerance, kinks, projections, and the checker made of them: six planted bugs, two sound ones."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same

NOT_ONES = "`dy` is not used, as if ones arrived: multiply the difference by it."


def _matrix(x):
    """Two results of three numbers, neither of which depends on all."""
    return np.array([x[0] * x[1], x[1] * x[1] * x[2]])


def check_numerical_gradient(lesson):
    """numerical_gradient: of x0 x1 and x1^2 x2, with different dy"""
    x, dy, eps = np.array([2.0, 3.0, 5.0]), np.array([10.0, -1.0]), 1e-3

    def slopes(dy, up=1.0, down=1.0, over=2 * eps):
        """The central difference, or what mistakes make of it."""
        steps = np.eye(3) * eps
        return [float((dy * (_matrix(x + up * step) - _matrix(x - down * step))).sum()) / over for step in steps]

    given = x.copy()
    got = lesson.numerical_gradient(_matrix, given, dy.copy(), eps)
    if not np.array_equal(given, x):
        raise Wrong(
            f"numerical_gradient has changed its x: [2, 3, 5] became {given.tolist()}.\n"
            "Likely cause: x itself is moved. `x + step` and `x - step` are new arrays; x stays as it was."
        )
    mistakes = {
        NOT_ONES: slopes(np.ones(2)),
        "only one side is looked at; go from x - step to x + step.": slopes(dy, down=0.0, over=eps),
        "the two points lie 2 eps apart: divide by 2 * eps.": slopes(dy, over=eps),
        "brackets are missing: / 2 * eps divides by 2 and multiplies by eps.": slopes(dy, over=2 / eps),
        "the difference is the wrong way round.": slopes(-dy),
    }
    same("numerical_gradient of x0 x1 and x1^2 x2 at [2, 3, 5], dy = [10, -1]", got, slopes(dy), rtol=1e-9, mistakes=mistakes)


def check_numerical_gradient_shapes(lesson):
    """numerical_gradient: x and the result need not have the same shape"""
    factors = np.arange(1.0, 13.0).reshape(3, 4)
    dy = np.array([[1.0, -2.0, 0.5, 4.0], [3.0, 1.5, -1.0, 2.0]])
    got = lesson.numerical_gradient(lambda x: x @ factors, np.ones((2, 3)), dy)
    same("numerical_gradient of x @ factors", got, dy @ factors.T, mistakes={NOT_ONES: np.ones((2, 4)) @ factors.T})
    got = lesson.numerical_gradient(lambda x: (x * x).sum(), np.array([1.0, 2.0]), np.array(3.0))
    same("numerical_gradient of (x * x).sum(), a single number, with dy = 3", got, [6.0, 12.0])


def check_numerical_gradient_exact(lesson):
    """numerical_gradient: a large result that x does not touch adds no error"""

    def beside_a_large_one(x):
        return np.array([x[0] * x[0], 1e9 + 0.1])

    x, dy = np.array([0.3]), np.array([1.0, 0.7])
    got = lesson.numerical_gradient(beside_a_large_one, x.copy(), dy)
    ends = [float((dy * beside_a_large_one(x + step)).sum()) for step in (1e-6, -1e-6)]
    mistakes = {
        "each end is summed up before the difference is taken, so what x does not touch adds its rounding error.": (
            ends[0] - ends[1]
        )
        / 2e-6
    }
    got = got.reshape(-1)[:1] if isinstance(got, np.ndarray) else got
    same(
        "numerical_gradient where the second result is 1e9 whatever x is",
        got,
        [0.6],
        rtol=1e-6,
        mistakes={k: [v] for k, v in mistakes.items()},
    )


def check_agrees(lesson):
    """agrees: by a part of the size, or by a small amount"""
    a = np.array([1.0, 1.0, -5.0, 0.0, 0.0, 1e6, -2.0, 1.0])
    b = np.array([1.0009, 1.01, -5.001, 5e-5, 0.1, 1e6 + 500, 2.0, 1.00105])
    got = lesson.agrees(a, b, rtol=1e-3, atol=1e-4)
    size = np.minimum(np.abs(a), np.abs(b))
    mistakes = {
        "the distance has a sign: without np.abs, whatever is too small agrees.": a - b <= 1e-4 + 1e-3 * size,
        "the size has a sign: without np.abs, the tolerance of negative numbers is negative.": np.abs(a - b)
        <= 1e-4 + 1e-3 * np.minimum(a, b),
        "atol is missing: 0 agrees with nothing but 0 then.": np.abs(a - b) <= 1e-3 * size,
        "rtol is missing: of large numbers too much is asked.": np.abs(a - b) <= 1e-4,
        "the larger of the two tolerances is taken; they are added.": np.abs(a - b) <= np.maximum(1e-4, 1e-3 * size),
        "it is the wrong way round: True means that they are close enough.": np.abs(a - b) > 1e-4 + 1e-3 * size,
    }
    expected = np.abs(a - b) <= 1e-4 + 1e-3 * size
    same(f"agrees({a.tolist()}, {b.tolist()}, 0.001, 0.0001)", got, expected, mistakes=mistakes, dtype=bool)


def check_agrees_with_nothing(lesson):
    """agrees: NaN and infinity agree with nothing"""
    with np.errstate(invalid="ignore"):
        got = lesson.agrees(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))
    if np.any(got):
        raise Wrong(
            "agrees(NaN, 1.0) is True. Every comparison with NaN is False, so `not (distance > tolerance)` is True for it.\n"
            "Ask whether the distance is small: distance <= tolerance."
        )
    with np.errstate(invalid="ignore"):
        got = lesson.agrees(np.array([np.inf, 1.0]), np.array([1.0, -np.inf]))
    if np.any(got):
        raise Wrong(
            "agrees(infinity, 1.0) is True: the larger of the two is infinite, and so is the tolerance. Take the smaller."
        )


def _at(lesson, forward, value, dy=1.0, eps=1e-6):
    got = lesson.is_kink(forward, np.array([value]), np.array([dy]), 0, eps)
    got = bool(got) if isinstance(got, np.bool_) else got
    is_a("is_kink(...)", got, bool)
    return got


def check_kinks_are_found(lesson):
    """is_kink: relu and |x| have one at 0"""
    for name, forward, value, dy in (
        ("relu at 0", lambda x: np.maximum(x, 0), 0.0, 1.0),
        ("relu at 0, with dy = -0.3", lambda x: np.maximum(x, 0), 0.0, -0.3),
        ("|x| at 0", np.abs, 0.0, 2.0),
        ("|x - 1| at 1", lambda x: np.abs(x - 1), 1.0, 1.0),
    ):
        if not _at(lesson, forward, value, dy):
            raise Wrong(
                f"is_kink says False for {name}, where the two sides differ however small the step.\n"
                "Is the gap with half the step compared with three quarters (not the whole) of the other?"
            )


def check_curves_are_none(lesson):
    """is_kink: a curve is none, however sharp"""
    for factor in (1.0, 2000.0, 50_000.0):
        if _at(lesson, lambda x, factor=factor: factor * x * x, 0.0):
            raise Wrong(
                f"is_kink says True for {factor:g} * x * x at 0, which is only curved: the gap is halved with the step.\n"
                "Likely cause: the gap with half the step is not compared with the gap with the whole step."
            )
    for value in np.random.default_rng(1).uniform(0.5, 2.0, 40):
        if _at(lesson, lambda x: 2000 * x * x, float(value)):
            raise Wrong(
                f"is_kink says True for 2000 * x * x at {value:.4f}, which is only curved: the gap is halved there, but for rounding.\n"
                "Likely cause: the gap with half the step is compared with a half of the other; three quarters leaves some room."
            )


def check_rounding_is_none(lesson):
    """is_kink: rounding errors on a straight line are none"""
    random = np.random.default_rng(0)
    for value in random.uniform(0.5, 2.0, 40):
        if _at(lesson, lambda x: x / 3 + 10, float(value)):
            raise Wrong(
                f"is_kink says True for x / 3 + 10 at {value:.4f}, a straight line: what differs there is rounding, 0.000000001 or so.\n"
                "A wrong `backward` would be excused for it. A gap below 0.0001 is no kink."
            )


def check_along(lesson):
    """along: the slope along [1, -2, 0.5]"""
    x, dy, direction = np.array([2.0, 3.0, 5.0]), np.array([10.0, -1.0]), np.array([1.0, -2.0, 0.5])
    dx = np.array([30.0, 20.0 - 30.0, -9.0])
    got = lesson.along(_matrix, lambda x, dy: dx, x.copy(), dy, direction, 1e-4)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong("along(...) should return two numbers: what backward says, and what was measured.")
    right = float((dx * direction).sum())
    mistakes = {
        "the direction is missing: sum(dx * direction).": float(dx.sum()),
        "is it summed up? It should be one number.": dx * direction,
    }
    same("along(...): what backward says, with dx = [30, -10, -9] and d = [1, -2, 0.5]", got[0], right, mistakes=mistakes)
    change = _matrix(x + 1e-4 * direction) - _matrix(x - 1e-4 * direction)
    mistakes = {
        "`dy` is missing: the end is sum(dy * forward(x)).": float(change.sum()) / 2e-4,
        "divide by 2 * eps.": float((dy * change).sum()) / 1e-4,
        "it should be divided by 2 * eps, with brackets.": float((dy * change).sum()) / 2 * 1e-4,
        "all elements are moved by the same amount; move them along the direction.": 11.0,
        "the step is eps * direction; here it is the direction itself.": float(
            (dy * (_matrix(x + direction) - _matrix(x - direction))).sum()
        )
        / 2e-4,
        "it is not divided by the distance of the two points, 2 * eps.": float((dy * change).sum()),
    }
    same("along(...): the slope measured", got[1], right, rtol=1e-5, mistakes=mistakes)


def check_along_is_measured(lesson):
    """along: measures, whatever backward says; two evaluations"""
    calls = []

    def forward(x):
        calls.append(1)
        return x * x

    got = lesson.along(forward, lambda x, dy: 0 * x, np.array([1.0, 2.0]), np.ones(2), np.ones(2))
    mistakes = {"they are the wrong way round: first what backward says, then what was measured.": [6.0, 0.0]}
    same("along(...) for x * x with a backward that says 0", got, [0.0, 6.0], rtol=1e-5, atol=1e-9, mistakes=mistakes)
    if len(calls) > 2:
        raise Wrong(
            f"along(...) evaluates forward {len(calls)} times. Two are enough: x + eps * direction and x - eps * direction."
        )


def _catch(lesson, name, forward, backward, x, cause):
    found = lesson.gradcheck(forward, backward, x)
    is_a(f"gradcheck of {name}", found, list)
    if not found:
        raise Wrong(f"gradcheck finds nothing wrong with {name}, but its backward is wrong.\n{cause}")
    return found


def _pass(lesson, name, forward, backward, x, cause):
    found = lesson.gradcheck(forward, backward, x)
    is_a(f"gradcheck of {name}", found, list)
    if found:
        where, says, measured = found[0]
        raise Wrong(f"gradcheck complains about {name}, which is right: {says:.6g} instead of {measured:.6g} ({where}).\n{cause}")


ONES = "Likely cause: a `dy` that is the same everywhere hides it. Draw random numbers."


def check_hidden_by_ones(lesson):
    """gradcheck: catches three that ones let pass"""
    x = np.random.default_rng(1).standard_normal((4, 3))
    _catch(lesson, "sin(x) with the backward cos(x)", np.sin, lambda x, dy: np.cos(x), x, ONES)
    _catch(lesson, "x.T with a backward that reshapes", np.transpose, lambda x, dy: dy.reshape(x.shape), x, ONES)
    _catch(
        lesson,
        "x less the mean of its row, with a backward along the columns",
        lambda x: x - x.mean(axis=1, keepdims=True),
        lambda x, dy: dy - dy.mean(axis=0, keepdims=True),
        x,
        ONES,
    )
    _catch(
        lesson,
        "2 x with a backward that loses the sign of dy",
        lambda x: 2 * x,
        lambda x, dy: 2 * np.abs(dy),
        x,
        "Numbers of both signs must arrive: rng.standard_normal.",
    )


def check_hidden_by_tolerance(lesson):
    """gradcheck: catches two that a loose tolerance lets pass"""
    x = np.random.default_rng(2).standard_normal((3, 8))
    cause = "Likely cause: a tolerance that is too loose. Use agrees(...) as it is."

    def divided(x):
        return x * (2 + 1e-4 * (x * x).sum(axis=1, keepdims=True)) ** -0.75

    def divided_backward(x, dy):
        return dy * (2 + 1e-4 * (x * x).sum(axis=1, keepdims=True)) ** -0.75

    _catch(lesson, "x / (2 + 0.0001 sum x^2)^0.75 without the second term", divided, divided_backward, x, cause)
    _catch(
        lesson,
        "0.00025 sum x^2 without the 2",
        lambda x: 0.00025 * (x * x).sum(),
        lambda x, dy: 0.00025 * x * dy,
        0.01 * x,
        cause,
    )


def check_sound_ones_pass(lesson):
    """gradcheck: lets the sound ones pass, also at a kink"""
    random = np.random.default_rng(3)
    x = random.standard_normal((3, 8))
    factors = random.standard_normal((8, 2))
    _pass(lesson, "sin(x)", np.sin, lambda x, dy: np.cos(x) * dy, x, "Does `dy` have the shape of the result?")
    _pass(
        lesson, "x @ factors", lambda x: x @ factors, lambda x, dy: dy @ factors.T, x, "Does `dy` have the shape of the result?"
    )
    x[1, 2] = x[2, 5] = 0.0
    cause = "At 0 it has a kink. Up to 100 elements are a case for `each_element`, which excuses kinks."
    _pass(lesson, "relu", lambda x: np.maximum(x, 0), lambda x, dy: dy * (x > 0), x, cause)
    wrong = _catch(
        lesson,
        "relu with the backward 2 dy at 0",
        lambda x: np.maximum(x, 0),
        lambda x, dy: dy * np.where(x == 0, 2, x > 0),
        x,
        "",
    )
    same("relu with the backward 2 dy at its two zeros: the number of complaints", len(wrong), 2)


def check_large(lesson):
    """gradcheck: 5,000 elements in a few evaluations; one of them is wrong"""
    calls = []

    def pairs(x):
        calls.append(1)
        if len(calls) > 300:
            raise Wrong(
                "gradcheck evaluates `pairs` with 5,000 elements more than 300 times: element by element it would be 10,000 times.\n"
                "With more than 100 elements use `eight_directions`."
            )
        return x[:-1] * x[1:]

    def backward(x, dy):
        dx = np.zeros(x.shape)
        dx[:-1] += dy * x[1:]
        dx[1:] += dy * x[:-1]
        return dx

    x = np.random.default_rng(4).standard_normal(5000)
    x[-2:] = 2.0
    _pass(
        lesson,
        "each number times the next, 5,000 of them",
        pairs,
        backward,
        x,
        "Is `dy` drawn with the shape of the result, 4,999?",
    )
    calls.clear()

    def without_the_last(x, dy):
        dx = backward(x, dy)
        dx[-1] = 0.0
        return dx

    _catch(lesson, "each number times the next, with the last of dx left out", pairs, without_the_last, x, ONES)
    calls.clear()

    def doubled(x):
        calls.append(1)
        if len(calls) > 300:
            raise Wrong(
                "gradcheck evaluates 2 * x, with x of shape (20, 250), more than 300 times.\n"
                "Likely cause: `len(x)` counts the rows only; `x.size` is the number of elements."
            )
        return 2 * x

    _pass(lesson, "2 * x", doubled, lambda x, dy: 2 * dy, x.reshape(20, 250), "")


HINTS = {
    "numerical_gradient": (
        "Lesson 0: the function once with x + step, once with x - step. The end is sum(dy * result), but take the difference first.",
        "sum(dy * (forward(x + step) - forward(x - step))) / (2 eps)",
        "        difference = forward(x + step) - ...\n        result[index] = (dy * ...).sum() / (...)",
    ),
    "agrees": (
        "First the smaller of both sizes, then one comparison. NumPy does both for whole arrays.",
        "|a - b| <= atol + rtol * min(|a|, |b|)",
        "    size = np.minimum(np.abs(a), ...)\n    return np.abs(...) <= atol + ...",
    ),
    "is_kink": (
        "Call `gap` twice, with eps and with eps / 2. At a kink the second is about as large as the first.",
        "a kink when gap(eps / 2) > 0.75 gap(eps) and gap(eps / 2) > 0.0001",
        "    whole = gap(forward, x, dy, index, eps)\n    half = gap(..., eps / 2)\n    return bool(half > 0.75 * whole and ...)",
    ),
    "along": (
        "What backward says: dx, each element times its speed, summed. What is measured: the central difference, with all elements moved.",
        "sum(dx * d), and sum(dy * (forward(x + eps d) - forward(x - eps d))) / (2 eps)",
        "    says = (backward(x, dy) * ...).sum()\n"
        "    difference = forward(x + eps * direction) - ...\n"
        "    return says, (dy * ...).sum() / (2 * eps)",
    ),
    "gradcheck": (
        "`dy` must be an array of random numbers with the shape of y. Then x.size decides which of the two functions looks.",
        "dy = rng.standard_normal(np.shape(y)); x.size <= 100: each_element, else eight_directions",
        "    dy = rng.standard_normal(...)\n"
        "    if x.size <= 100:\n"
        "        return each_element(forward, backward, x, dy, eps)\n"
        "    return eight_directions(...)",
    ),
}

MEASURE = """\
        difference = forward(x + step) - forward(x - step)
        result[index] = (dy * difference).sum() / (2 * eps)
"""
CLOSE = "    return np.abs(a - b) <= atol + rtol * size\n"
KINK = "    return bool(half > max(0.75 * whole, 1e-4))\n"
DRAW = "    dy = rng.standard_normal(np.shape(y))\n    if x.size <= 100:\n"

MUTANTS = [
    Mutant("ones arrive", MEASURE, MEASURE.replace("dy * difference", "difference"), "as if ones arrived"),
    Mutant(
        "one side",
        MEASURE,
        MEASURE.replace("forward(x - step)", "forward(x)").replace("(2 * eps)", "eps"),
        "only one side",
    ),
    Mutant(
        "x is moved itself",
        MEASURE,
        "        x[index] += eps\n        above = forward(x)\n        x[index] -= 2 * eps\n"
        "        result[index] = (dy * (above - forward(x))).sum() / (2 * eps)\n",
        "x itself is moved",
    ),
    Mutant("brackets", MEASURE, MEASURE.replace("(2 * eps)", "2 * eps"), "brackets are missing"),
    Mutant(
        "summed first",
        MEASURE,
        "        above = (dy * forward(x + step)).sum()\n"
        "        below = (dy * forward(x - step)).sum()\n"
        "        result[index] = (above - below) / (2 * eps)\n",
        "before the difference is taken",
    ),
    Mutant("distance with its sign", CLOSE, CLOSE.replace("np.abs(a - b)", "a - b"), "the distance has a sign"),
    Mutant("size with its sign", "np.minimum(np.abs(a), np.abs(b))", "np.minimum(a, b)", "the size has a sign"),
    Mutant("no atol", CLOSE, CLOSE.replace("atol + ", ""), "atol is missing"),
    Mutant(
        "the larger tolerance",
        CLOSE,
        "    return np.abs(a - b) <= np.maximum(atol, rtol * size)\n",
        "the larger of the two tolerances",
    ),
    Mutant("not large", CLOSE, "    return ~(np.abs(a - b) > atol + rtol * size)\n", "Every comparison with NaN is False"),
    Mutant(
        "the larger", "np.minimum(np.abs(a), np.abs(b))", "np.maximum(np.abs(a), np.abs(b))", "the larger of the two is infinite"
    ),
    Mutant(
        "the whole of it",
        KINK,
        KINK.replace("0.75", "1.1"),
        "Is the gap with half the step compared with three quarters",
    ),
    Mutant("not halved", KINK, "    return bool(half > 1e-4)\n", "gap with half the step is not compared"),
    Mutant("half of it", KINK, KINK.replace("0.75", "0.5"), "three quarters leaves some room"),
    Mutant(
        "rounding is a kink",
        KINK,
        "    return bool(half > 0.75 * whole)\n",
        "a straight line: what differs there is rounding",
    ),
    Mutant("dx summed", "(backward(x, dy) * direction).sum()", "backward(x, dy).sum()", "the direction is missing"),
    Mutant(
        "dy forgotten along", "    return says, (dy * difference).sum()", "    return says, difference.sum()", "`dy` is missing"
    ),
    Mutant(
        "a step for all",
        "forward(x + eps * direction) - forward(x - eps * direction)",
        "forward(x + eps) - forward(x - eps)",
        "move them along the direction",
    ),
    Mutant("dy of ones", DRAW, DRAW.replace("rng.standard_normal", "np.ones"), "the same everywhere hides it"),
    Mutant("dy of one sign", DRAW, DRAW.replace("rng.standard_normal", "rng.random"), "Numbers of both signs"),
    Mutant("always directions", DRAW, DRAW.replace("x.size <= 100", "x.size <= 0"), "`each_element`, which excuses kinks"),
    Mutant("rows counted", DRAW, DRAW.replace("x.size", "len(x)"), "counts the rows only"),
    Mutant("always elements", DRAW, DRAW.replace("x.size <= 100", "x.size <= 10_000"), "use `eight_directions`"),
]
