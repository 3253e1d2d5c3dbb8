"""Every core operation against NumPy's."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from core.checks import ARITHMETIC, DTYPES, assert_equal
from minidl import Tensor
from minidl.core.shape import BroadcastTo, SumTo


def layouts(x):
    """The same elements in other places of memory: as they are, transposed, backwards, every second."""
    return [x, x.T, x[(slice(None, None, -1),) * x.ndim], x[(slice(None, None, 2),) * x.ndim]]


@st.composite
def operands(draw, shapes, low=-4.0, dtypes=DTYPES):
    """Pairs of (Tensor, NumPy array), in the same layout, contiguous or not."""
    pairs = []
    for shape in shapes:
        dtype = draw(st.sampled_from(dtypes))
        array = draw(npst.arrays(dtype, shape[::-1], elements=st.floats(low, 4.0, width=32, allow_subnormal=False)))
        pairs.append((Tensor(array).T, array.T))
    return pairs


UNARY = {
    "negative": (lambda x: -x, lambda x: -x),
    "power 0": (lambda x: x**0, lambda x: x**0),
    "power 1": (lambda x: x**1, lambda x: x**1),
    "power 2": (lambda x: x**2, lambda x: x**2),
    "power 3": (lambda x: x**3, lambda x: x**3),
    "power 0.5": (lambda x: x**0.5, lambda x: x**0.5),
    "power -1.5": (lambda x: x ** np.float64(-1.5), lambda x: x**-1.5),
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), np.log),
    "sqrt": (lambda x: x.sqrt(), np.sqrt),
    "astype 32": (lambda x: x.astype("float32"), lambda x: x.astype("float32")),
    "astype 64": (lambda x: x.astype(np.float64), lambda x: x.astype("float64")),
    "astype int": (lambda x: x.astype(int), lambda x: x.astype(int)),
    "flat": (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    "ravelled": (lambda x: x.reshape((1, x.size)), lambda x: x.reshape((1, x.size))),
}


@given(data=st.data())
@pytest.mark.parametrize("name", UNARY)
def test_unary(device, name, data):
    ours, numpys = UNARY[name]
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    [(x, array)] = data.draw(operands([shape], low=0.5))
    for tensor, same in zip(layouts(x), layouts(array), strict=True):
        assert_equal(ours(tensor), np.asarray(numpys(same)))


@given(data=st.data())
@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic_with_broadcasting(device, op, data):
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=3, max_side=3)).input_shapes
    (a, first), (b, second) = data.draw(operands(shapes, low=0.5))
    assert_equal(op(a, b), op(first, second))


@given(data=st.data())
def test_broadcasting_and_its_transpose(device, data):
    """broadcast_to against NumPy's; sum_to by <broadcast(x), y> = <x, sum_to(y)>."""
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 3, 2), min_side=0, max_dims=3, max_side=3))
    (shape,), full = shapes.input_shapes, shapes.result_shape
    (x, array), (y, other) = data.draw(operands([shape, full], dtypes=["float64"]))
    assert_equal(BroadcastTo(full)(x), np.broadcast_to(array, full))
    summed = SumTo(shape)(y)
    assert summed.shape == shape
    assert_allclose((summed * x).sum().item(), (np.broadcast_to(array, full) * other).sum(), atol=1e-9)


@given(data=st.data())
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_reductions(device, name, data):
    least = 0 if name == "sum" else 1
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=least, max_side=3))
    axes = npst.valid_tuple_axes(len(shape))
    axis = data.draw(st.none() | axes | (st.integers(-len(shape), len(shape) - 1) if shape else st.none()))
    keepdims = data.draw(st.booleans())
    [(x, array)] = data.draw(operands([shape]))
    assert_equal(getattr(x, name)(axis, keepdims), np.asarray(getattr(array, name)(axis=axis, keepdims=keepdims)))


@given(data=st.data())
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_reductions_of_integers(device, dtype, data):
    elements = st.booleans() if dtype == "bool" else st.integers(0 if dtype == "uint8" else -200, 200)
    array = data.draw(npst.arrays(dtype, npst.array_shapes(max_dims=2, max_side=3), elements=elements))
    for name in ("sum", "max", "min", "mean"):
        assert_equal(getattr(Tensor(array), name)(axis=0), np.asarray(getattr(array, name)(axis=0)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_of_many_small_integers_do_not_overflow(device, dtype, keepdims):
    """Long enough for strips, which are for floating point: (predictions == labels).sum(0) counts."""
    array = np.full((20, 15, 3), 1, dtype)
    for name in ("sum", "mean"):
        assert_equal(getattr(Tensor(array), name)((0, 1), keepdims), getattr(array, name)(axis=(0, 1), keepdims=keepdims))


@given(data=st.data())
def test_argmax(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, max_side=3))
    [(x, array)] = data.draw(operands([shape]))
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    assert_array_equal(x.argmax(axis).numpy(), array.argmax(axis))


@given(data=st.data())
def test_matmul(device, data):
    strategy = npst.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3, min_side=0)
    (a, first), (b, second) = data.draw(operands(data.draw(strategy).input_shapes))
    assert_equal(a @ b, np.asarray(first @ second))
    if first.dtype == "float32" and first.size:
        assert_equal(first.tolist() @ b, np.asarray(first @ second))


def test_matmul_of_large_matrices(device):
    a, b = np.random.default_rng(0).standard_normal((2, 150, 150))
    assert_equal(Tensor(a) @ Tensor(b), a @ b)
    assert_equal(Tensor(a).T @ Tensor(b)[:, :140], a.T @ b[:, :140])


@given(data=st.data())
def test_transpose(device, data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    axes = data.draw(st.permutations(range(len(shape))))
    axes = tuple(a - len(shape) * data.draw(st.booleans()) for a in axes)  # some counted from the end
    x, array = Tensor(np.zeros(shape)), np.zeros(shape)
    assert x.T.shape == x.transpose().shape == array.T.shape
    results = [x.transpose(axes), x.transpose(*axes)] if axes else [x.transpose(axes)]
    upstream = np.random.default_rng(0).standard_normal(array.transpose(axes).shape)
    for result in results:
        assert_equal(result, array.transpose(axes))
    x.requires_grad = True
    x.transpose(axes).backward(Tensor(upstream))
    assert_array_equal(x.grad.numpy().transpose(axes), upstream)
