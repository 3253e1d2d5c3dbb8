"""Joining, choosing and padding; flatten and linear."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import standin_cupy
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import minidl
import minidl.functional as F
from minidl import Tensor, concatenate, pad, stack, where

DTYPES = ["float32", "float64"]


def drawn(data, *shapes: tuple[int, ...]) -> list[tuple[Tensor, np.ndarray]]:
    """For each shape a Tensor and the same NumPy array, transposed in memory, of either dtype."""
    pairs = []
    for shape in shapes:
        array = data.draw(npst.arrays(st.sampled_from(DTYPES), shape[::-1], elements=st.floats(-4, 4, width=32)))
        pairs.append((Tensor(array).T, array.T))
    return pairs


def assert_equal(result: Tensor, expected: np.ndarray) -> None:
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-5)


# Values against NumPy


@given(data=st.data())
def test_concatenate(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    along = axis % len(shape)
    pairs = drawn(data, *[shape[:along] + (n,) + shape[along + 1 :] for n in sizes])
    for sequence in (list, tuple):
        assert_equal(concatenate(sequence(t for t, _ in pairs), axis), np.concatenate([a for _, a in pairs], axis))


@given(data=st.data())
def test_stack(device, data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    pairs = drawn(data, *[shape] * data.draw(st.integers(1, 3)))
    assert_equal(stack([t for t, _ in pairs], axis), np.stack([a for _, a in pairs], axis))


@given(data=st.data())
def test_where(device, data):
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_dims=3, max_side=3)).input_shapes
    (x, key), (a, first), (b, second) = drawn(data, *shapes)
    assert_equal(where(x > 0, a, b), np.where(key > 0, first, second))
    assert_equal(where(x > 0, a, 0), np.where(key > 0, first, first.dtype.type(0)))
    assert_equal(where(x > 0, 1.5, b), np.where(key > 0, second.dtype.type(1.5), second))


def test_where_takes_lists_and_arrays_and_integers(device):
    x = Tensor([1, 2, 3])
    condition = Tensor([True, False, True])
    for chosen in (condition, condition.data, [True, False, True]):
        assert_equal(where(chosen, x, -x), np.array([1, -2, 3]))


@given(data=st.data())
def test_pad(device, data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    value = data.draw(st.sampled_from([0.0, 1.5, -np.inf]))
    [(x, array)] = drawn(data, shape)
    expected = np.pad(array, widths, constant_values=value) if shape else array
    assert_equal(pad(x, widths, value), np.asarray(expected))
    assert_equal(pad(x, tuple(map(list, widths))), np.asarray(np.pad(array, widths) if shape else array))


def test_pad_keeps_integers(device):
    assert_equal(pad(Tensor([1, 2]), [(1, 0)], -1), np.array([-1, 1, 2]))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2,), (0, 3, 4), (3, 0), (), (2, 1, 1, 5)])
def test_flatten(device, shape):
    x = Tensor(np.arange(np.prod(shape, dtype=int)).reshape(shape))
    assert_equal(F.flatten(x, 0), x.numpy().reshape(-1))
    if shape:
        assert F.flatten(x).shape == (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else shape
        for axis in range(len(shape)):
            assert_equal(F.flatten(x, axis), x.numpy().reshape(*shape[:axis], int(np.prod(shape[axis:]))))


@given(data=st.data())
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear(device, data, with_bias):
    before = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    inside, out = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 3))
    (x, array), (weight, matrix), (bias, vector) = drawn(data, (*before, inside), (inside, out), (out,))
    expected = array @ matrix + vector if with_bias else array @ matrix
    assert_equal(F.linear(x, weight, bias if with_bias else None), expected)


# Gradients, and what crosses between host and device

OPERATIONS = {
    "concatenate": (lambda a, b, c: concatenate([a, b, c], axis=1), (2, 3), (2, 1), (2, 2)),
    "concatenate one twice": (lambda a, b: concatenate([a, b, a]), (2, 2), (1, 2)),
    "concatenate the last axis": (lambda a, b: concatenate([a, b], axis=-1), (2, 3), (2, 1)),
    "stack": (lambda a, b: stack([a, b], axis=1), (2, 3), (2, 3)),
    "stack numbers": (lambda a, b: stack([a, b, a]), (), ()),
    "where": (lambda a, b: where(a > 1.2, a, b), (2, 3), (2, 3)),
    "where broadcast": (lambda a, b: where(a > 1.2, a, b), (2, 1), (2, 1, 3)),
    "where number": (lambda a: where(a > 1.2, 0.5, a * a), (3,)),
    "pad": (lambda a: pad(a, [(1, 0), (0, 2)], 0.5), (2, 3)),
    "flatten": (lambda a: F.flatten(a), (2, 3, 2)),
    "linear": (lambda x, w, b: F.linear(x, w, b), (4, 3), (3, 2), (2,)),
    "linear without bias": (lambda x, w: F.linear(x, w), (2, 2, 3), (3, 2)),
    "linear of a vector": (lambda x, w, b: F.linear(x, w, b), (3,), (3, 2), (2,)),
}


def inputs(shapes) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(0.5, 2.0, shape) for shape in shapes]


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients(check_gradients, name):
    f, *shapes = OPERATIONS[name]
    check_gradients(f, *inputs(shapes))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay_and_nothing_crosses_to_the_host(device, name, dtype):
    f, *shapes = OPERATIONS[name]
    tensors = [Tensor(array.astype(dtype), requires_grad=True) for array in inputs(shapes)]
    with standin_cupy.count_transfers() as count:
        result = f(*tensors)
        slopes = minidl.grad((result * result).sum(), tensors, create_graph=True)
        sum((slope * slope).sum() for slope in slopes).backward()
    assert (count.to_device, count.to_host) == (0, 0)
    assert {t.dtype for t in [result, *slopes, *[t.grad for t in tensors]]} == {np.dtype(dtype)}


def test_gradients_go_to_the_inputs_that_ask(device):
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0])
    for result in (concatenate([b, a]), stack([b, a]), where([True, False], a, b), where([True, False], b, a)):
        a.grad = None
        result.backward(np.ones(result.shape) if device == "cpu" else Tensor(np.ones(result.shape)))
        assert a.grad.shape == (2,) and b.grad is None
    labels = Tensor([1, 2])
    concatenate([a, labels]).sum().backward()
    assert labels.grad is None


def test_where_lets_nothing_through_from_the_side_not_chosen(device):
    x = Tensor([-2.0, 0.0, 4.0], requires_grad=True)
    endless = Tensor([np.inf, np.nan, -np.inf])
    result = where(x > 0, x * x, -x) + where(x == x, x, endless) + where(x > 5, endless, x)
    assert_array_equal(result.numpy(), [-2, 0, 24])
    result.sum().backward()
    assert_array_equal(x.grad.numpy(), [1, 1, 10])


# Errors

ERRORS = {
    "concatenate nothing": (
        lambda x: concatenate([]),
        ValueError,
        r"concatenate: expected a list of at least one Tensor, got \[\]",
    ),
    "concatenate a Tensor": (lambda x: concatenate(x), ValueError, r"concatenate: expected a list .*, got Tensor\("),
    "concatenate arrays": (
        lambda x: concatenate([x, np.ones(2)]),
        TypeError,
        r"concatenate: item 1 must be a Tensor, got numpy\.ndarray",
    ),
    "concatenate sizes": (
        lambda x: concatenate([x, x.T]),
        ValueError,
        r"Concatenate of \(2, 3\) float32 on .*, \(3, 2\) float32",
    ),
    "concatenate axis": (lambda x: concatenate([x, x], 2), ValueError, r"concatenate: Tensors of shape \(2, 3\) have no axis 2"),
    "concatenate numbers": (lambda x: concatenate([x.sum()]), ValueError, r"concatenate: Tensors of shape \(\) have no axis 0"),
    "stack shapes": (lambda x: stack([x, x[:1]]), ValueError, r"stack: the shapes must be equal, got \[\(2, 3\), \(1, 3\)\]"),
    "stack axis": (lambda x: stack([x, x], 3), ValueError, r"stack: Tensors of shape \(2, 3\) have no place for a new axis 3"),
    "where shapes": (lambda x: where(x > 0, x, x.T), ValueError, r"Where of \(2, 3\) bool on .*, \(2, 3\) .*, \(3, 2\)"),
    "where condition": (
        lambda x: where(x, x, x),
        TypeError,
        r"where: condition must be boolean.*; got float32 of shape \(2, 3\)",
    ),
    "where numbers": (
        lambda x: where(x > 0, 1.0, 0.0),
        TypeError,
        r"where: one of a and b must be a Tensor, got builtins\.float",
    ),
    "pad too few": (lambda x: pad(x, [(1, 1)]), ValueError, r"pad: x of shape \(2, 3\) needs 2 pairs .* got \[\(1, 1\)\]"),
    "pad negative": (lambda x: pad(x, [(1, 1), (0, -1)]), ValueError, r"pad: .* at least 0, got \[\(1, 1\), \(0, -1\)\]"),
    "pad no pairs": (lambda x: pad(x, [1, 1]), ValueError, r"pad: .* needs 2 pairs .* got \[1, 1\]"),
    "pad number": (lambda x: pad(x, 1), ValueError, r"pad: .* needs 2 pairs .* got 1"),
    "pad array": (lambda x: pad(x.numpy(), [(1, 1)]), TypeError, r"pad: x must be a Tensor, got numpy\.ndarray"),
    "flatten axis": (lambda x: F.flatten(x, 2), ValueError, r"flatten: x of shape \(2, 3\) has no axis 2"),
    "flatten negative": (lambda x: F.flatten(x, -1), ValueError, r"flatten: x of shape \(2, 3\) has no axis -1"),
    "linear": (
        lambda x: F.linear(x, x),
        ValueError,
        r"linear: x of shape \(2, 3\) does not fit weight of shape \(2, 3\), which is \(in",
    ),
    "linear of a number": (lambda x: F.linear(x.sum(), x), ValueError, r"linear: x of shape \(\) does not fit"),
    "linear bias": (
        lambda x: F.linear(x, x.T, x[0]),
        ValueError,
        r"linear: bias must have shape \(2,\) .* weight \(3, 2\), got \(3,\)",
    ),
    "linear array": (lambda x: F.linear(x, np.ones((3, 2))), TypeError, r"linear: weight must be a Tensor, got numpy\.ndarray"),
}


@pytest.mark.parametrize("wrong, kind, message", ERRORS.values(), ids=ERRORS)
def test_errors(device, wrong, kind, message):
    with pytest.raises(kind, match=message):
        wrong(Tensor(np.ones((2, 3), np.float32)))
