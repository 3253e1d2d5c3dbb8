"""Lesson 6: the ways back of the matrix product, of reshape, sum and indexing; each is differentiated once more."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same

WITH_ARRAYS = (
    "`backward` computes with arrays (`.data`) somewhere, and an array has forgotten how it was made. Use the Tensors themselves."
)


def _back(lesson, name, operation, arrays, gradient):
    """What `operation.backward` returns for its inputs, Tensors in a tuple, each of the right shape."""
    inputs = [lesson.Tensor(array, requires_grad=True) for array in arrays]
    operation(*inputs)
    found = operation.backward(lesson.Tensor(gradient, requires_grad=True))
    if isinstance(found, list):
        raise Wrong(f"{name} returned a list instead of a tuple: round brackets, or none, `return one, other`.")
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(arrays):
        raise Wrong(f"{name} returned {len(found)} instead of {len(arrays)} results: one for each input.")
    for which, got, array in zip("ab", found, arrays, strict=False):
        what = f"{name}: what is to arrive at {which if len(arrays) > 1 else 'the input'}"
        if isinstance(got, np.ndarray):
            raise Wrong(f"{what}: an array instead of a Tensor. {WITH_ARRAYS}")
        is_a(what, got, lesson.Tensor)
        if got.shape != np.shape(array):
            raise Wrong(f"{what}: shape {got.shape} instead of {np.shape(array)}. It should arrive in the shape of the input.")
    return [got.data for got in found]


def _second(lesson, what, f, *arrays):
    """The slope of the slope of f, a Tensor of one element, by walking back twice and by small steps of the first slopes."""
    random = np.random.default_rng(66)
    arrays = [np.asarray(array, float) for array in arrays]
    steps = [random.standard_normal(array.shape) for array in arrays]

    def slopes(step):
        inputs = [lesson.Tensor(a + step * d, requires_grad=True) for a, d in zip(arrays, steps, strict=True)]
        return [g.data for g in lesson.grad(f(*inputs), inputs)]

    above, below = slopes(1e-5), slopes(-1e-5)
    inputs = [lesson.Tensor(array, requires_grad=True) for array in arrays]
    first = lesson.grad(f(*inputs), inputs, create_graph=True)
    for i, (up, down) in enumerate(zip(above, below, strict=True)):
        # The change of all first slopes of input i along the steps: row by row, with weights.
        weights = random.standard_normal(up.shape)
        measured = float((weights * (up - down)).sum()) / 2e-5
        row, column = lesson.Tensor(np.ones((1, up.shape[0]))), lesson.Tensor(np.ones((up.shape[1], 1)))
        second = lesson.grad(row @ (first[i] * weights) @ column, inputs)
        says = sum(float((g.data * d).sum()) for g, d in zip(second, steps, strict=True))
        if not abs(says - measured) <= 1e-6 + 1e-5 * abs(measured):
            raise Wrong(
                f"{what}: the first slopes are right, but the slope of the slope is {says:.6g} instead of {measured:.6g}.\n"
                f"Likely cause: {WITH_ARRAYS}"
            )


def check_matmul(lesson):
    """MatMul.backward: 2 x 2 matrices"""
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, -6.0], [7.0, 8.0]])
    g = np.array([[1.0, 3.0], [-2.0, 0.5]])
    at_a, at_b = _back(lesson, "MatMul.backward", lesson.MatMul(), [a, b], g)
    mistakes = {
        "the two results are exchanged: the first belongs to a.": a.T @ g,
        "b is not turned over: b.T.": g @ b,
        "the factors are the wrong way round; the order counts in a matrix product.": b.T @ g,
        "it is a matrix product, @, and not *.": g * b,
        "that is turned over.": b @ g.T,
    }
    same("MatMul.backward: what is to arrive at a", at_a, g @ b.T, mistakes=mistakes)
    mistakes = {
        "a is not turned over: a.T.": a @ g,
        "the factors are the wrong way round; the order counts in a matrix product.": g @ a.T,
        "that is turned over; see which product has the shape of b.": g.T @ a,
    }
    same("MatMul.backward: what is to arrive at b", at_b, a.T @ g, mistakes=mistakes)


def check_matmul_shapes(lesson):
    """MatMul.backward: (2, 3) and (3, 4)"""
    random = np.random.default_rng(61)
    a, b, g = random.standard_normal((2, 3)), random.standard_normal((3, 4)), random.standard_normal((2, 4))
    at_a, at_b = _back(lesson, "MatMul.backward", lesson.MatMul(), [a, b], g)
    same("MatMul.backward: what is to arrive at a, of shape (2, 3)", at_a, g @ b.T)
    same("MatMul.backward: what is to arrive at b, of shape (3, 4)", at_b, a.T @ g)


def check_matmul_second(lesson):
    """MatMul.backward: the slope of the slope"""
    random = np.random.default_rng(62)
    row, column = random.standard_normal((1, 2)), random.standard_normal((4, 1))

    def f(a, b):
        y = a @ b
        return lesson.Tensor(row) @ (y * y) @ lesson.Tensor(column)

    _second(lesson, "MatMul.backward", f, random.standard_normal((2, 3)), random.standard_normal((3, 4)))


def check_reshape(lesson):
    """Reshape.backward: (2, 3) to (6,) and to (3, 2)"""
    x = np.arange(6.0).reshape(2, 3)
    (got,) = _back(lesson, "Reshape.backward, (2, 3) to (6,)", lesson.Reshape((6,)), [x], np.array([1.0, 2, 3, 4, 5, 6]))
    same("Reshape.backward, (2, 3) to (6,)", got, [[1, 2, 3], [4, 5, 6]])
    g = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    (got,) = _back(lesson, "Reshape.backward, (2, 3) to (3, 2)", lesson.Reshape((3, 2)), [x], g)
    mistakes = {"that is turned over (`T`), which changes the order; reshape keeps it.": g.T}
    same("Reshape.backward, (2, 3) to (3, 2)", got, g.reshape(2, 3), mistakes=mistakes)


def check_reshape_second(lesson):
    """Reshape.backward: the slope of the slope"""
    random = np.random.default_rng(63)
    row, column = random.standard_normal((1, 4)), random.standard_normal((4, 1))

    def f(a):
        return lesson.Tensor(row) @ (a.reshape(4, 3) @ a) @ lesson.Tensor(column)

    _second(lesson, "Reshape.backward", f, random.standard_normal((3, 4)))


def check_sum(lesson):
    """Sum.backward: rows, columns and all of a 3 x 3"""
    x, g = np.arange(9.0).reshape(3, 3), np.array([1.0, -2.0, 5.0])
    down, across = np.repeat([g], 3, axis=0), np.repeat(g.reshape(3, 1), 3, axis=1)
    mistakes = {
        "it is repeated along the other axis: the lost axis must come back as a 1 (reshape) before it is repeated.": down,
        "a sum is not a mean: each number gets all of what arrives.": across / 3,
    }
    (got,) = _back(lesson, "Sum.backward, axis 1", lesson.Sum((1,), False), [x], g)
    same("Sum.backward, axis 1 of a 3 x 3, where [1, -2, 5] arrives", got, across, mistakes=mistakes)
    (got,) = _back(lesson, "Sum.backward, axis 0", lesson.Sum((0,), False), [x], g)
    same("Sum.backward, axis 0 of a 3 x 3, where [1, -2, 5] arrives", got, down)
    (got,) = _back(lesson, "Sum.backward, all axes", lesson.Sum((0, 1), False), [x], np.array(7.0))
    same("Sum.backward, all axes of a 3 x 3, where 7 arrives", got, np.full((3, 3), 7.0))


def check_sum_axes(lesson):
    """Sum.backward: all axes of a (2, 3, 4), with keepdims and without"""
    random = np.random.default_rng(64)
    x = random.standard_normal((2, 3, 4))
    for axes in ((0,), (1,), (2,), (0, 2), (1, 2), (2, 0), (0, 1, 2), ()):
        for keepdims in (False, True):
            g = random.standard_normal(x.sum(axis=axes, keepdims=keepdims).shape)
            what = f"Sum.backward, (2, 3, 4) over the axes {axes}, keepdims={keepdims}"
            (got,) = _back(lesson, what, lesson.Sum(axes, keepdims), [x], g)
            kept = g if keepdims else np.expand_dims(g, axes)
            same(what, got, np.broadcast_to(kept, x.shape))


def check_sum_second(lesson):
    """Sum.backward: the slope of the slope"""
    _second(lesson, "Sum.backward", lambda a: (a * a * a.sum(axis=1, keepdims=True)).sum(), np.array([[1.0, 2.0], [-0.5, 3.0]]))
    _second(lesson, "Sum.backward", lambda a: (a.sum(axis=0) * a.sum(axis=(0, 1))).sum(), np.array([[1.0, 2.0], [-0.5, 3.0]]))


def _put(lesson, index, shape, x):
    return lesson.PutItem(index, shape).forward(np.asarray(x, float))


def check_put(lesson):
    """PutItem.forward: slices and single places"""
    same("PutItem(1, (3,)) of 7", _put(lesson, 1, (3,), 7.0), [0, 7, 0])
    got = _put(lesson, (slice(None), slice(1, None)), (2, 3), [[1, 2], [3, 4]])
    same("PutItem([:, 1:], (2, 3)) of [[1, 2], [3, 4]]", got, [[0, 1, 2], [0, 3, 4]])


def check_put_twice(lesson):
    """PutItem.forward: a place that is named twice gets both"""
    mistakes = {
        "the last one stays: zeros[index] = x overwrites, and zeros[index] += x computes 0 + x for each and writes twice. Use np.add.at.": [
            1,
            0,
            7,
        ],
        "the first one stays. Use np.add.at.": [1, 0, 5],
    }
    same("PutItem([0, 2, 2], (3,)) of [1, 5, 7]", _put(lesson, [0, 2, 2], (3,), [1, 5, 7]), [1, 0, 12], mistakes=mistakes)
    got = _put(lesson, ([0, 1, 1, 0], [2, 0, 0, 2]), (2, 3), [1, 2, 3, 4])
    same("PutItem(([0, 1, 1, 0], [2, 0, 0, 2]), (2, 3)) of [1, 2, 3, 4]", got, [[0, 0, 5], [5, 0, 0]])
    got = _put(lesson, [1, 1], (2, 2), [[1, 2], [3, 4]])
    same("PutItem([1, 1], (2, 2)): a whole row named twice", got, [[0, 0], [4, 6]])


def check_put_is_the_transpose(lesson):
    """PutItem.forward: sum(x[index] * g) = sum(x * PutItem(g)), and by walking back"""
    random = np.random.default_rng(65)
    for index in ([3, 0, 3, 3], (slice(None), 2), ([0, 2, 2], slice(1, 3)), 1, (slice(0, 4, 2), [1, 1, 2])):
        x = random.standard_normal((4, 3))
        g = random.standard_normal(x[index].shape)
        got = _put(lesson, index, x.shape, g)
        same(f"PutItem({index}): the number of elements", np.size(got), 12)
        same(
            f"PutItem({index}): sum(x * PutItem(g)) against sum(x[index] * g)",
            float((x * got).sum()),
            float((x[index] * g).sum()),
        )
        tensor = lesson.Tensor(x, requires_grad=True)
        back = lesson.grad((tensor[index] * g).sum(), tensor)
        same(f"the gradient of (x[index] * g).sum() for the index {index}", back.data, got)


def check_put_second(lesson):
    """PutItem.forward: the slope of the slope of an index"""
    _second(
        lesson,
        "PutItem.forward, through x[[0, 2, 2]] * x[1]",
        lambda a: (a[[0, 2, 2]] * a[1] * a[[0, 2, 2]]).sum(),
        np.array([[1.0, 2.0], [-0.5, 3.0], [0.7, -1.1]]),
    )


HINTS = {
    "MatMul.backward": (
        "Write down the shapes: a (n, k), b (k, m), gradient (n, m). There is one product of gradient and b with the shape (n, k), and "
        "one of a and gradient with the shape (k, m).",
        "at a: gradient b^T; at b: a^T gradient",
        "        return gradient @ ..., ... @ gradient",
    ),
    "Reshape.backward": (
        "The shape before is that of the input, and the inputs are in self.inputs.",
        "gradient, reshaped to the shape of self.inputs[0]",
        "        return gradient.reshape(...)",
    ),
    "Sum.backward": (
        "Make the shape that the sum would have had with keepdims=True: that of the input, with a 1 for each axis in self.axes.",
        "reshape the gradient to that shape, then repeat it to the shape of the input",
        "        kept = tuple(1 if ... else n for i, n in enumerate(shape))\n"
        "        return broadcast_to(gradient.reshape(...), ...)",
    ),
    "PutItem.forward": (
        "The array of zeros is there. NumPy has a function that adds at an index, as often as a place is named.",
        "zeros[index] grows by x, for each time it is named; return zeros",
        "        np.add.at(zeros, ..., ...)\n        return zeros",
    ),
}

PRODUCTS = "        return gradient @ b.T, a.T @ gradient\n"
CUT = "        return gradient.reshape(self.inputs[0].shape)\n"
REPEAT = "        return broadcast_to(gradient.reshape(kept), shape)\n"
ADD_AT = "        np.add.at(zeros, self.index, x)\n"

MUTANTS = [
    Mutant("exchanged", PRODUCTS, "        return a.T @ gradient, gradient @ b.T\n", "the two results are exchanged"),
    Mutant("not turned over", PRODUCTS, "        return gradient @ b, a @ gradient\n", "b is not turned over"),
    Mutant("wrong way round", PRODUCTS, "        return b.T @ gradient, gradient @ a.T\n", "wrong way round"),
    Mutant(
        "matmul with arrays",
        PRODUCTS,
        "        return Tensor(gradient.data @ b.data.T), Tensor(a.data.T @ gradient.data)\n",
        "slope of the slope is 0 instead .*(.|\n)*computes with arrays",
    ),
    Mutant("half with arrays", PRODUCTS, PRODUCTS.replace("b.T", "b.data.T"), "computes with arrays"),
    Mutant(
        "returns arrays",
        PRODUCTS,
        "        return gradient.data @ b.data.T, a.data.T @ gradient.data\n",
        "an array instead of a Tensor",
    ),
    Mutant("turned over at b", PRODUCTS, "        return gradient @ b.T, gradient.T @ a\n", "that is turned over"),
    Mutant("a list", PRODUCTS, "        return [gradient @ b.T, a.T @ gradient]\n", "a list instead of a tuple"),
    Mutant("the shape after", CUT, "        return gradient.reshape(self.shape)\n", "in the shape of the input"),
    Mutant(
        "turned over",
        CUT,
        "        return gradient.T if len(gradient.shape) == 2 else " + CUT.strip()[7:] + "\n",
        "reshape keeps it",
    ),
    Mutant(
        "reshape with arrays", CUT, "        return Tensor(gradient.data.reshape(self.inputs[0].shape))\n", "computes with arrays"
    ),
    Mutant("no axis comes back", REPEAT, "        return broadcast_to(gradient, shape)\n", "must come back as a 1"),
    Mutant("not repeated", REPEAT, "        return gradient.reshape(kept)\n", "shape \\(3, 1\\) instead of \\(3, 3\\)"),
    Mutant("mean", REPEAT, REPEAT.replace("shape)\n", "shape) * (1 / 3)\n"), "a sum is not a mean"),
    Mutant(
        "sum with arrays",
        REPEAT,
        "        return Tensor(np.broadcast_to(gradient.data.reshape(kept), shape))\n",
        "computes with arrays",
    ),
    Mutant("added once", ADD_AT, "        zeros[self.index] += x\n", "writes twice. Use np.add.at"),
    Mutant("overwritten", ADD_AT, "        zeros[self.index] = x\n", "the last one stays"),
    Mutant("nothing returned", ADD_AT + "        return zeros\n", ADD_AT, "Is a `return` missing"),
]
