"""Gradients of the core operations against finite differences, and what crosses between host and device."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import standin_cupy
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import minidl
from core.checks import ARITHMETIC, DTYPES
from minidl import Tensor
from minidl.core.shape import BroadcastTo, SumTo


def positive(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 2.0, shape)


OPERATIONS = {
    "a + b": (lambda a, b: a + b, (2, 3), (2, 3)),
    "a + b broadcast": (lambda a, b: a + b, (2, 1, 3), (4, 1)),
    "a - b": (lambda a, b: a - b, (3,), (2, 1)),
    "a * b": (lambda a, b: a * b, (2, 3), (2, 3)),
    "a * b broadcast": (lambda a, b: a * b, (), (2, 3)),
    "a / b": (lambda a, b: a / b, (2, 3), (2, 3)),
    "a / b broadcast": (lambda a, b: a / b, (2, 1), (1, 3)),
    "a + a": (lambda a: a + a, (3,)),
    "a * a": (lambda a: a * a, (3,)),
    "a / a * a": (lambda a: a / (a * a), (3,)),
    "numbers": (lambda a: 3 - 2 / (1.5 * a) + 1, (3,)),
    "-a": (lambda a: -a, (2, 3)),
    "a ** 0": (lambda a: a**0 * a, (3,)),
    "a ** 1": (lambda a: a**1, (3,)),
    "a ** 2": (lambda a: a**2, (3,)),
    "a ** 3": (lambda a: a**3, (2, 3)),
    "a ** -0.5": (lambda a: a**-0.5, (2, 3)),
    "exp": (lambda a: a.exp(), (2, 3)),
    "log": (lambda a: a.log(), (2, 3)),
    "sqrt": (lambda a: a.sqrt() * a, (2, 3)),
    "matrix @ matrix": (lambda a, b: a @ b, (2, 3), (3, 2)),
    "vector @ vector": (lambda a, b: a @ b, (3,), (3,)),
    "matrix @ vector": (lambda a, b: a @ b, (2, 3), (3,)),
    "vector @ batch": (lambda a, b: a @ b, (3,), (2, 3, 2)),
    "batch @ vector": (lambda a, b: a @ b, (2, 2, 3), (3,)),
    "batch @ matrix": (lambda a, b: a @ b, (2, 2, 3), (3, 2)),
    "matrix @ batch": (lambda a, b: a @ b, (2, 3), (2, 3, 2)),
    "batch @ batch": (lambda a, b: a @ b, (2, 1, 2, 2), (3, 2, 1)),
    "reshape": (lambda a: a.reshape(3, -1), (2, 3)),
    "transpose": (lambda a: a.transpose(1, -1, 0), (2, 3, 1)),
    "T": (lambda a: a.T @ a, (2, 3)),
    "broadcast": (lambda a: BroadcastTo((2, 3))(a), (3,)),
    "sum_to": (lambda a: SumTo((3, 1))(a), (2, 3, 2)),
    "sum": (lambda a: a.sum(), (2, 3)),
    "sum of axes": (lambda a: a.sum(axis=(0, -1)), (2, 3, 2)),
    "sum keeping": (lambda a: a.sum(axis=1, keepdims=True), (2, 3)),
    "mean": (lambda a: a.mean(), (2, 3)),
    "mean of axis": (lambda a: a.mean(axis=1), (2, 3)),
    "max": (lambda a: a.max(), (2, 3)),
    "max of axis": (lambda a: a.max(axis=1, keepdims=True), (2, 3)),
    "max of axes": (lambda a: a.max(axis=(2, 0)), (2, 3, 2)),
    "min": (lambda a: a.min(axis=0), (2, 3)),
    "integer": (lambda a: a[1, -1], (2, 3)),
    "slice": (lambda a: a[::-1, None, 1:], (2, 3)),
    "array": (lambda a: a[Tensor([0, 1, 0])], (2, 3)),
    "arrays": (lambda a: a[Tensor([0, 1, 0]), :, Tensor([1, 1, 1])], (2, 3, 2)),
}
MASK = {"mask": (lambda a: a[Tensor([[True, False, True], [False, True, True]])], (2, 3))}


@pytest.mark.parametrize("f, shapes", [(f, shapes) for f, *shapes in (OPERATIONS | MASK).values()], ids=OPERATIONS | MASK)
def test_gradients(check_gradients, f, shapes):
    check_gradients(f, *[positive(shape) + i / 7 for i, shape in enumerate(shapes)])


@pytest.mark.parametrize(
    "name",
    ["a / b", "exp", "matrix @ vector", "transpose", "broadcast", "sum_to", "sum of axes", "max of axis", "slice", "arrays"],
)
def test_third_derivatives(name):
    """The second derivatives of a gradient: what `backward` is made of has a derivative, and so has the derivative's."""
    f, *shapes = OPERATIONS[name]

    def gradient(*tensors):
        return [g * g for g in minidl.grad((f(*tensors) ** 3).sum(), tensors, create_graph=True)]

    report = minidl.gradcheck(gradient, *map(positive, shapes), order=2)
    assert report, report


@given(data=st.data())
@pytest.mark.parametrize("op", ARITHMETIC)
def test_gradients_of_broadcasting(device, op, data):
    """For shapes of all kinds the gradient of each operand has the operand's shape, and is right along one direction."""
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
    a, b = (Tensor(positive(shape), requires_grad=True) for shape in shapes)
    op(a, b).sum().backward()
    step = 1e-6
    slope = (op(a.numpy() + step, b.numpy() - step).sum() - op(a.numpy() - step, b.numpy() + step).sum()) / (2 * step)
    assert a.grad.shape == a.shape and b.grad.shape == b.shape
    assert_allclose(a.grad.numpy().sum() - b.grad.numpy().sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay_and_nothing_crosses_to_the_host(device, name, dtype):
    f, *shapes = OPERATIONS[name]
    index = [Tensor([0, 1, 0]), Tensor([1, 1, 1])] if "array" in name else []
    if index:
        f = {"array": lambda a: a[index[0]], "arrays": lambda a: a[index[0], :, index[1]]}[name]
    inputs = [Tensor(positive(shape).astype(dtype), requires_grad=True) for shape in shapes]
    with standin_cupy.count_transfers() as count:
        result = f(*inputs)
        total = (result * result).sum()
        slopes = minidl.grad(total, inputs, create_graph=True)
        sum((slope * slope).sum() for slope in slopes).backward()
    assert (count.to_device, count.to_host) == (0, 0)
    assert {t.dtype for t in [result, *slopes, *[x.grad for x in inputs]]} == {np.dtype(dtype)}


def test_gradients_keep_the_dtype_of_each_input(device):
    a, b = Tensor(np.ones(2, np.float32), requires_grad=True), Tensor(np.ones((3, 2)), requires_grad=True)
    (a * b).sum().backward()
    assert ((a * b).dtype, a.grad.dtype, b.grad.dtype) == ("float64", "float32", "float64")


def test_astype_carries_the_gradient_back(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.astype("float64")
    (y * y).sum().backward()
    assert (y.dtype, x.grad.dtype) == ("float64", "float32")
    assert_array_equal(x.grad.numpy(), [2, 4])
    assert x.astype(np.float32) is x
    assert not x.astype(int).requires_grad and not Tensor([1]).astype(float).requires_grad


def test_the_first_of_equal_maxima_takes_the_gradient(device):
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    (x.max(axis=1) + x.min(axis=1)).sum().backward()
    assert_array_equal(x.grad.numpy(), [[1, 1, 0], [2, 0, 0]])


def test_powers_at_zero(device):
    """No 0 * infinity, nor a warning, where the derivative exists."""
    for exponent, slope in [(0, 0), (1, 1), (2, 0), (3, 0), (1.5, 0)]:
        x = Tensor([0.0], requires_grad=True)
        (x**exponent).backward()
        assert x.grad.numpy() == slope
