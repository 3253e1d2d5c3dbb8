"""Lesson 5: the axes along which broadcasting repeats, the sum on the way back, and add and multiply for all shapes that match."""

from itertools import product

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same

SHAPES = [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (4, 1, 1), (1, 2, 1), (4, 2, 3)]


def check_axes_in_front(lesson):
    """repeated_axes: axes that are put in front"""
    for shape, result_shape in (((4,), (2, 3, 3, 4)), ((), (2, 3)), ((3,), (3, 3)), ((2, 3), (2, 3))):
        expected = tuple(range(len(result_shape) - len(shape)))
        mistakes = {"the axes in front are missing.": ()} if expected else {}
        _axes(lesson, shape, result_shape, expected, mistakes)


def check_axes_of_size_one(lesson):
    """repeated_axes: axes that grow from size 1"""
    cases = [((4, 1), (4, 3), (1,)), ((1, 3), (5, 3), (0,)), ((3, 1), (2, 3, 4), (0, 2)), ((1, 1), (7, 2, 5), (0, 1, 2))]
    for shape, result_shape, expected in cases:
        extra = len(result_shape) - len(shape)
        grown = [i for i, n in enumerate(shape) if n == 1]
        mistakes = {
            "the axis is counted in the small shape; in the result it stands `extra` further to the right.": (
                *range(extra),
                *grown,
            ),
            "only the axes in front are there; what grows from size 1 is repeated too.": tuple(range(extra)),
            "the axes in front are missing.": tuple(i + extra for i in grown),
        }
        _axes(lesson, shape, result_shape, expected, mistakes)


def check_axes_that_stay(lesson):
    """repeated_axes: a 1 that stays a 1 is not repeated"""
    mistakes = {"a size of 1 is repeated only where the result has another size.": (0,)}
    _axes(lesson, (1, 3), (1, 3), (), mistakes)
    _axes(lesson, (1,), (1,), (), mistakes)
    _axes(lesson, (1, 3), (5, 1, 3), (0,), {"a size of 1 is repeated only where the result has another size.": (0, 1)})


def _axes(lesson, shape, result_shape, expected, mistakes):
    what = f"repeated_axes({shape}, {result_shape})"
    got = lesson.repeated_axes(shape, result_shape)
    is_a(what, got, tuple)
    if tuple(sorted(got)) == expected:
        return
    for mistake, wrong in mistakes.items():
        if tuple(got) == wrong:
            raise Wrong(f"{what}: {tuple(got)} instead of {expected}.\nLikely cause: {mistake}")
    raise Wrong(
        f"{what}: {tuple(got)} instead of {expected}. Write the two shapes one below the other, so that they end together."
    )


def check_sum_to_small(lesson):
    """sum_to: a small example"""
    gradient = np.array([[1.0, 2.0, 0.0], [5.0, -1.0, 1.0], [0.0, 3.0, 4.0]])
    mistakes = {
        "the last axis is summed; shapes are aligned to the right, so for (3,) it is axis 0.": gradient.sum(axis=1),
        "that is the mean; all that arrives at the copies is added.": gradient.mean(axis=0),
        "only the first copy gets through; all that arrives is added.": gradient[0],
        "only the last copy gets through; all that arrives is added.": gradient[-1],
    }
    got = lesson.sum_to(gradient, (3,))
    _shape("sum_to of a 3 x 3 gradient to (3,)", got, (3,))
    same("sum_to of a 3 x 3 gradient to (3,)", got, gradient.sum(axis=0), mistakes=mistakes)
    got = lesson.sum_to(gradient, (3, 1))
    _shape("sum_to of a 3 x 3 gradient to (3, 1)", got, (3, 1))
    same("sum_to of a 3 x 3 gradient to (3, 1)", got, gradient.sum(axis=1, keepdims=True))
    same("sum_to of a 3 x 3 gradient to ()", lesson.sum_to(gradient, ()), 15.0)
    same("sum_to of a 3 x 3 gradient to (3, 3)", lesson.sum_to(gradient, (3, 3)), gradient)


def _shape(what, got, shape):
    if got is None:
        raise Wrong(f"{what}: nothing (None) instead of an array of shape {shape}. Is a `return` missing?")
    if np.shape(got) == shape:
        return
    cause = "It should arrive in the shape of the input."
    if np.size(got) == np.prod(shape, dtype=int) and np.ndim(got) > len(shape):
        cause = "The sizes of 1 in front, which `keepdims` leaves there, must go: reshape(shape)."
    elif np.size(got) == np.prod(shape, dtype=int):
        cause = "The sum removes the axes along which it goes; an axis of size 1 must come back as a 1: reshape(shape)."
    elif np.size(got) > np.prod(shape, dtype=int):
        cause = "It is as large as what arrived at the result: is it summed down to the shape of the input?"
    raise Wrong(f"{what}: an array of shape {np.shape(got)} instead of {shape}.\nLikely cause: {cause}")


def check_sum_to_adjoint(lesson):
    """sum_to: the transpose of repeating, for many shapes"""
    random = np.random.default_rng(5)
    for shape in SHAPES:
        for result_shape in ((4, 2, 3), (5, 4, 2, 3)):
            x, g = random.standard_normal(shape), random.standard_normal(result_shape)
            got = lesson.sum_to(g, shape)
            what = f"sum_to of a gradient of shape {result_shape} to {shape}"
            _shape(what, got, shape)
            forward = float((np.broadcast_to(x, result_shape) * g).sum())
            same(f"{what}: sum(x * sum_to(g)) against sum(repeated(x) * g)", float((x * got).sum()), forward, rtol=1e-9)


def _arrives(lesson, operation, a, b, arrived):
    """What `back` hands to both inputs."""
    name = f"{operation.__name__}.back, with shapes {a.shape} and {b.shape}"
    result = operation(a, b)
    is_a(f"{operation.__name__}(a, b)", result, lesson.Tensor)
    try:
        found = result.back(arrived)
    except (AttributeError, TypeError) as error:
        if "'Tensor'" not in str(error):
            raise
        raise Wrong(
            f"{name}: a Tensor has come where an array or a shape should be ({error}).\n"
            "Likely cause: `arrived` is an array, and a and b are Tensors. Their arrays are a.array and b.array, their shapes "
            "a.shape and b.shape."
        ) from error
    if found is None:
        raise Wrong(f"{name}: nothing (None) instead of a pair. Is a `return` missing?")
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise Wrong(f"{name}: it should return a pair, what is to arrive at a and what at b.")
    return name, found


def check_add(lesson):
    """add.back: (2, 1) and (3,)"""
    a, b = lesson.Tensor([[10.0], [20.0]]), lesson.Tensor([1.0, 2.0, 3.0])
    arrived = np.array([[1.0, 4.0, 0.0], [2.0, -3.0, 5.0]])
    name, (at_a, at_b) = _arrives(lesson, lesson.add, a, b, arrived)
    mistakes = {
        "a sum moves as fast as its inputs; what arrives is not multiplied by anything.": (arrived * b.array).sum(
            axis=1, keepdims=True
        )
    }
    _shape(f"{name}: what arrives at a", at_a, (2, 1))
    same(f"{name}: what arrives at a", at_a, [[5.0], [4.0]], mistakes=mistakes)
    _shape(f"{name}: what arrives at b", at_b, (3,))
    mistakes = {
        "at b arrives what belongs to a.": np.resize([5.0, 4.0], 3),
        "the sign is turned round, as for a difference.": [-3, -1, -5],
    }
    same(f"{name}: what arrives at b", at_b, [3.0, 1.0, 5.0], mistakes=mistakes)


def check_add_everywhere(lesson):
    """add.back: all pairs of shapes"""
    _everywhere(lesson, lambda: lesson.add, lambda a, b: (1.0, 1.0))


def check_multiply(lesson):
    """multiply.back: (2, 1) and (3,)"""
    a, b = lesson.Tensor([[10.0], [20.0]]), lesson.Tensor([1.0, 2.0, 3.0])
    arrived = np.array([[1.0, 4.0, 0.0], [2.0, -3.0, 5.0]])
    name, (at_a, at_b) = _arrives(lesson, lesson.multiply, a, b, arrived)
    _shape(f"{name}: what arrives at a", at_a, (2, 1))
    _shape(f"{name}: what arrives at b", at_b, (3,))
    to_a = (arrived * b.array).sum(axis=1, keepdims=True)
    mistakes = {
        "what arrives is not used; multiply it by the other factor.": [[6.0], [6.0]],
        "each input gets itself as the slope; it is the other factor.": (arrived * a.array).sum(axis=1, keepdims=True),
        "the slope is missing: times the other factor.": arrived.sum(axis=1, keepdims=True),
        "it is summed first and multiplied then; the slopes of the copies differ, so multiply first.": arrived.sum(
            axis=1, keepdims=True
        )
        * b.array.sum(),
    }
    same(f"{name}: what arrives at a", at_a, to_a, mistakes=mistakes)
    same(f"{name}: what arrives at b", at_b, (arrived * a.array).sum(axis=0))


def check_multiply_everywhere(lesson):
    """multiply.back: all pairs of shapes"""
    _everywhere(lesson, lambda: lesson.multiply, lambda a, b: (b, a))


def _everywhere(lesson, get, slopes):
    """All pairs of shapes, through the whole of `backward`, against sums written with loops."""
    random = np.random.default_rng(6)
    for a_shape, b_shape in product(SHAPES, SHAPES):
        a, b = (lesson.Tensor(random.standard_normal(shape)) for shape in (a_shape, b_shape))
        arrived = random.standard_normal(np.broadcast_shapes(a_shape, b_shape))
        name, found = _arrives(lesson, get(), a, b, arrived)
        for which, tensor, got, slope in zip("ab", (a, b), found, slopes(a.array, b.array), strict=True):
            _shape(f"{name}: what arrives at {which}", got, tensor.shape)
            same(f"{name}: what arrives at {which}", got, _summed(arrived * slope, tensor.shape), rtol=1e-9, atol=1e-9)


def _summed(gradient, shape):
    """Number by number: each goes to the place that it came from."""
    total = np.zeros(shape)
    for index, value in np.ndenumerate(gradient):
        place = tuple(0 if n == 1 else i for i, n in zip(index[len(index) - len(shape) :], shape, strict=True))
        total[place] += value
    return total


def check_in_a_network(lesson):
    """multiply.back: a whole computation, with the same Tensor twice"""
    x = lesson.Tensor(np.arange(6.0).reshape(2, 3))
    w, b = lesson.Tensor([1.0, -2.0, 0.5]), lesson.Tensor([[3.0], [4.0]])
    y = x * w + b
    lesson.backward(y * y, np.ones((2, 3)))
    twice = 2 * (x.array * w.array + b.array)
    mistakes = {"a Tensor that is used twice, as y in y * y, gets only one of its two shares.": (twice * x.array).sum(axis=0) / 2}
    same("w.grad after y = x * w + b; backward(y * y, ones)", w.grad, (twice * x.array).sum(axis=0), mistakes=mistakes)
    same("b.grad after y = x * w + b; backward(y * y, ones)", b.grad, twice.sum(axis=1, keepdims=True))


HINTS = {
    "repeated_axes": (
        "Two kinds of axes, one after the other: the first `extra` axes of the result; then each axis of the small shape that is 1 "
        "where the result has something else.",
        "0, ..., extra - 1, and i + extra for every i with shape[i] == 1 and result_shape[i + extra] != 1",
        "    axes = list(range(extra))\n"
        "    for i, size in enumerate(shape):\n"
        "        if size == 1 and ...:\n"
        "            axes.append(...)\n"
        "    return tuple(axes)",
    ),
    "sum_to": (
        "`repeated_axes` says along which axes to sum; the gradient has the shape of the result.",
        "sum of the gradient over the repeated axes, reshaped to `shape`",
        "    axes = repeated_axes(shape, ...)\n    return gradient.sum(axis=axes).reshape(...)",
    ),
    "add.back": (
        "The slope of a sum is 1 for both inputs, so what arrives at the result arrives at both. Only the shapes differ.",
        "at a: sum_to(arrived, a.shape); at b: sum_to(arrived, b.shape)",
        "        return sum_to(arrived, ...), sum_to(arrived, ...)",
    ),
    "multiply.back": (
        "Lesson 1: the slope of a * b is b for a, and a for b. Here for each element; the products have the shape of the result.",
        "at a: sum_to(arrived * b, shape of a); at b: sum_to(arrived * a, shape of b)",
        "        at_a = sum_to(arrived * b.array, ...)\n        at_b = sum_to(..., b.shape)\n        return at_a, at_b",
    ),
}

GROWN = """\
    axes = list(range(extra))
    for i, size in enumerate(shape):
        if size == 1 and result_shape[i + extra] != 1:
            axes.append(i + extra)
"""
SUMMED = "    return gradient.sum(axis=axes).reshape(shape)\n"
TO_BOTH = "        return sum_to(arrived, a.shape), sum_to(arrived, b.shape)\n"
PRODUCTS = """\
        at_a = sum_to(arrived * b.array, a.shape)
        at_b = sum_to(arrived * a.array, b.shape)
"""

MUTANTS = [
    Mutant("counted in the small shape", GROWN, GROWN.replace("append(i + extra)", "append(i)"), "counted in the small shape"),
    Mutant("only those in front", GROWN, "    axes = range(extra)\n", "what grows from size 1 is repeated too"),
    Mutant("only those of size 1", GROWN, GROWN.replace("list(range(extra))", "[]"), "the axes in front are missing"),
    Mutant("every 1", GROWN, GROWN.replace(" and result_shape[i + extra] != 1", ""), "only where the result has another size"),
    Mutant(
        "aligned to the left",
        SUMMED,
        "    return gradient.sum(axis=tuple(range(len(shape), gradient.ndim)))\n",
        "the last axis is summed",
    ),
    Mutant("no reshape", SUMMED, SUMMED.replace(".reshape(shape)", ""), "come back as a 1"),
    Mutant("the mean", SUMMED, SUMMED.replace(".sum", ".mean"), "that is the mean"),
    Mutant("keepdims", SUMMED, "    return gradient.sum(axis=axes, keepdims=True)\n", "`keepdims` leaves there"),
    Mutant("Tensors", PRODUCTS, PRODUCTS.replace(".array", ""), "Their arrays are a.array"),
    Mutant("no return", TO_BOTH, TO_BOTH.replace("return ", ""), "Is a `return` missing"),
    Mutant("add without summing", TO_BOTH, "        return arrived, arrived\n", "is it summed down to the shape of the input"),
    Mutant(
        "add with a slope",
        TO_BOTH,
        TO_BOTH.replace("arrived, a.shape", "arrived * b.array, a.shape"),
        "not multiplied by anything",
    ),
    Mutant("minus", TO_BOTH, TO_BOTH.replace("sum_to(arrived, b", "-sum_to(arrived, b"), "the sign is turned round"),
    Mutant(
        "itself",
        PRODUCTS,
        PRODUCTS.replace("arrived * b.array", "arrived * X.array")
        .replace("arrived * a.array", "arrived * b.array")
        .replace("X.", "a."),
        "each input gets itself",
    ),
    Mutant(
        "summed first",
        PRODUCTS,
        "        at_a = sum_to(sum_to(arrived, a.shape) * b.array, a.shape)\n        at_b = sum_to(arrived * a.array, b.shape)\n",
        "multiply first",
    ),
    Mutant(
        "arrived is forgotten",
        PRODUCTS,
        PRODUCTS.replace("arrived * b.array", "b.array + 0 * arrived"),
        "what arrives is not used",
    ),
    Mutant("the slope is forgotten", PRODUCTS, PRODUCTS.replace("arrived * b.array", "arrived"), "the slope is missing"),
    Mutant(
        "multiply without summing",
        PRODUCTS,
        PRODUCTS.replace("sum_to(arrived * b.array, a.shape)", "arrived * b.array"),
        "summed down",
    ),
]
