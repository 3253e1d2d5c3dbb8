"""Lesson 1: add and multiply with their local slopes, and the walk back along every way."""

from lessons.checking import Mutant, Wrong, is_a, same


def _made(lesson, what, got, inputs):
    """What every operation must return: a Scalar that knows its two inputs."""
    is_a(what, got, lesson.Scalar)
    if len(got.inputs) != 2 or any(i is not j for i, j in zip(got.inputs, inputs, strict=True)):
        if not got.inputs:
            raise Wrong(f"{what}: the result has forgotten its inputs. Scalar(value, inputs, slopes) wants all three.")
        if any(not isinstance(i, lesson.Scalar) for i in got.inputs):
            raise Wrong(f"{what}: its inputs are {got.inputs}; they should be the Scalars a and b themselves, not their values.")
        raise Wrong(f"{what}: its inputs should be the pair (a, b), in this order; they are {got.inputs}.")
    if len(got.slopes) != 2:
        raise Wrong(f"{what}: there should be a local slope for each of the two inputs; there are {len(got.slopes)}.")


def check_add(lesson):
    """add: a + b has the right value and knows a and b"""
    a, b = lesson.Scalar(2.0), lesson.Scalar(3.5)
    got = lesson.add(a, b)
    _made(lesson, "add(a, b)", got, (a, b))
    same("the value of a + b with a = 2 and b = 3.5", got.value, 5.5, mistakes={"that is the product.": 7.0})


def check_add_slopes(lesson):
    """add: its local slopes are 1 and 1"""
    got = lesson.add(lesson.Scalar(2.0), lesson.Scalar(3.5))
    mistakes = {"these are the values; a sum moves as far as its input, whatever the values.": [2.0, 3.5]}
    same("the slopes of a + b with a = 2 and b = 3.5", got.slopes, [1.0, 1.0], mistakes=mistakes)


def check_multiply(lesson):
    """multiply: a * b has the right value and knows a and b"""
    a, b = lesson.Scalar(2.0), lesson.Scalar(3.5)
    got = lesson.multiply(a, b)
    _made(lesson, "multiply(a, b)", got, (a, b))
    same("the value of a * b with a = 2 and b = 3.5", got.value, 7.0, mistakes={"that is the sum.": 5.5})


def check_multiply_slopes(lesson):
    """multiply: when a moves, a * b moves b times as fast"""
    got = lesson.multiply(lesson.Scalar(2.0), lesson.Scalar(3.5))
    is_a("the first slope of a * b", got.slopes[0], (float, int))
    mistakes = {
        "the slopes have changed places: when a moves, the product moves as fast as a times *b*.": [2.0, 3.5],
        "these are the slopes of a sum.": [1.0, 1.0],
    }
    same("the slopes of a * b with a = 2 and b = 3.5", got.slopes, [3.5, 2.0], mistakes=mistakes)


def check_one_way(lesson):
    """backward: along a way multiply"""
    x = lesson.Scalar(2.0)
    end = x * 3 * 5
    lesson.backward(end)
    same("after backward(z), z.grad (z moves as fast as itself)", end.grad, 1.0)
    mistakes = {
        "local slopes along a way are multiplied, not added.": 9.0,
        "only the last local slope counts; multiply it by what arrives.": 3.0,
        "nothing has come so far: are the inputs told?": 0.0,
    }
    same("x.grad after backward(x * 3 * 5)", x.grad, 15.0, mistakes=mistakes)


def check_two_ways(lesson):
    """backward: over several ways add"""
    x, y = lesson.Scalar(2.0), lesson.Scalar(3.0)
    lesson.backward(x * y + x)
    replaced = "a second way replaces the first; add to `grad` instead of assigning it."
    mistakes = {replaced: 1.0, "only the way through the product has arrived.": 3.0}
    same("x.grad after backward(x * y + x) with x = 2, y = 3", x.grad, 4.0, mistakes=mistakes)
    same("y.grad after backward(x * y + x) with x = 2, y = 3", y.grad, 2.0)


def check_a_plus_a(lesson):
    """backward: a + a has slope 2"""
    a = lesson.Scalar(5.0)
    lesson.backward(a + a)
    replaced = "the second way to `a` replaces the first; add to `grad` instead of assigning it."
    same("a.grad after backward(a + a)", a.grad, 2.0, mistakes={replaced: 1.0})


def check_b_times_b(lesson):
    """backward: b * b has slope 2 b"""
    b = lesson.Scalar(3.0)
    lesson.backward(b * b)
    replaced = "the second way to `b` replaces the first; add to `grad` instead of assigning it."
    same("b.grad after backward(b * b) with b = 3", b.grad, 6.0, mistakes={replaced: 3.0})


def check_shared_in_the_middle(lesson):
    """backward: a number in the middle that is used twice"""
    x = lesson.Scalar(1.0)
    middle = x * 7
    lesson.backward(middle + middle)
    mistakes = {
        "it passes on all that has arrived so far, node.grad, so the first way counts twice. Pass on `arriving`.": 21.0,
        "a second way replaces the first; add to `grad` instead of assigning it.": 7.0,
    }
    same("x.grad after m = x * 7; backward(m + m)", x.grad, 14.0, mistakes=mistakes)


def check_against_small_steps(lesson):
    """backward: agrees with small steps"""

    def f(x, y):
        a = x * y - 3 * x
        return a * a * x + 2 * y * a

    def difference(step):
        (dx, dy), eps = step, 1e-6
        return (f(0.7 + eps * dx, -1.3 + eps * dy) - f(0.7 - eps * dx, -1.3 - eps * dy)) / (2 * eps)

    x, y = lesson.Scalar(0.7), lesson.Scalar(-1.3)
    lesson.backward(f(x, y))
    want = [difference((1, 0)), difference((0, 1))]
    same("the gradient of a longer function at (0.7, -1.3)", [x.grad, y.grad], want)


HINTS = {
    "add": (
        "Make a new Scalar of three things: the value of the sum, the pair of Scalars it came from, and two local slopes.",
        "d(a + b)/da = 1 and d(a + b)/db = 1: as far as an input moves, the sum moves.",
        "One line: `return Scalar(a.value + b.value, (a, b), (..., ...))`",
    ),
    "multiply": (
        "As for the sum. The local slopes are what you measure when only one factor moves; lesson 0 found 3 when b was 3.",
        "d(a b)/da = b and d(a b)/db = a. The slopes are plain numbers, in the order of the inputs.",
        "One line: `return Scalar(..., (a, b), (b.value, ...))`",
    ),
    "backward": (
        "Two things happen at a number: what arrives is added to its grad; and each input is told its own share, by the same function.",
        "what arrives at an input = arriving * the local slope to it; grad = the sum of all that ever arrives.",
        "    node.grad += ...\n    for source, local in zip(node.inputs, node.slopes):\n        backward(source, ... * ...)",
    ),
}

MUTANTS = [
    Mutant(
        "forgets its inputs",
        "Scalar(a.value + b.value, (a, b), (1.0, 1.0))",
        "Scalar(a.value + b.value)",
        "has forgotten its inputs",
    ),
    Mutant("a plain number", "Scalar(a.value + b.value, (a, b), (1.0, 1.0))", "a.value + b.value", "a float instead of a Scalar"),
    Mutant(
        "values as inputs",
        "(a, b), (b.value, a.value)",
        "(a.value, b.value), (b.value, a.value)",
        "themselves, not their values",
    ),
    Mutant("values as slopes of a sum", "(1.0, 1.0)", "(a.value, b.value)", "whatever the values"),
    Mutant("slopes changed over", "(b.value, a.value)", "(a.value, b.value)", "have changed places"),
    Mutant("a sum's slopes", "(b.value, a.value)", "(1.0, 1.0)", "slopes of a sum"),
    Mutant("assigned", "node.grad += arriving", "node.grad = arriving", "replaces the first; add to `grad`"),
    Mutant("added along the way", "arriving * local", "arriving + local", "multiplied, not added"),
    Mutant("the local slope alone", "arriving * local", "local", "only the last local slope counts"),
    Mutant(
        "passes on the sum",
        "backward(source, arriving * local)",
        "backward(source, node.grad * local)",
        "the first way counts twice",
    ),
    Mutant("stops at once", "        backward(source, arriving * local)", "        source.grad += 0", "are the inputs told"),
]
