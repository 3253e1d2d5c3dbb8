"""Indices of all kinds: values, and gradients against a count of how often each element was taken."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from core.checks import assert_equal
from minidl import Tensor


def check_index(array: np.ndarray, index: object, numpys: object = None) -> None:
    numpys = index if numpys is None else numpys
    x = Tensor(array, requires_grad=True)
    result = x[index]
    assert_equal(result, np.asarray(array[numpys]))
    upstream = np.arange(1.0, result.size + 1).reshape(result.shape)
    result.backward(Tensor(upstream))
    positions = np.asarray(np.arange(array.size).reshape(array.shape)[numpys])
    expected = np.bincount(positions.ravel(), upstream.ravel(), array.size).reshape(array.shape)
    assert_array_equal(x.grad.numpy(), expected)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape)


@given(data=st.data())
def test_basic_indices(device, data):
    """Integers, slices with steps of either sign, None, Ellipsis, and tuples of them."""
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    check_index(numbered(shape), data.draw(npst.basic_indices(shape, allow_newaxis=True)))


@given(data=st.data())
def test_integer_array_indices(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, max_side=4))
    index = data.draw(npst.integer_array_indices(shape, result_shape=npst.array_shapes(max_dims=2, max_side=4)))
    check_index(numbered(shape), index)
    check_index(numbered(shape), tuple(Tensor(i) for i in index), index)
    check_index(numbered(shape), index[0].tolist(), index[0])


@given(data=st.data())
def test_boolean_masks(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, min_side=0, max_side=4))
    mask = data.draw(npst.arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    check_index(numbered(shape), mask)
    check_index(numbered(shape), Tensor(mask), mask)


MIXED_INDICES = {
    "array and slice": (np.s_[[0, 2, 0], 1:], None),
    "slice and array": (np.s_[::-1, [1, 1, 3]], None),
    "arrays apart": (np.s_[[0, 1], :, [2, 2]], None),
    "array and integer": (np.s_[1, [0, 0, 1]], None),
    "array and None": (np.s_[[2, 0], None, ..., 1], None),
    "mask and integer": (np.s_[[True, False, True], 2], None),
    "mask and slice": (np.s_[:, [True, False, True, True], ::2], None),
    "mask and array": (np.s_[[True, False, True], [3, 3]], None),
    "empty list": ([], None),
    "empty list in a tuple": (np.s_[:, []], None),
    "0-d array": (np.array(1), None),
    "negative duplicates": (np.array([-1, 2, 2]), None),
    "Tensor and slice": ((Tensor([0, 2, 0], device="cpu"), slice(1, 3)), np.s_[[0, 2, 0], 1:3]),
    "0-d Tensor": (Tensor(2, device="cpu"), 2),
}


@pytest.mark.parametrize("index, numpys", MIXED_INDICES.values(), ids=MIXED_INDICES)
def test_mixed_indices(device, index, numpys):
    def moved(part):
        return part.to(device) if isinstance(part, Tensor) else part

    index = tuple(moved(part) for part in index) if isinstance(index, tuple) else moved(index)
    check_index(numbered((3, 4, 3)), index, numpys)


@pytest.mark.parametrize(
    "index", [np.s_[3], np.s_[0, 0, 0], np.s_["a"], np.s_[0.5], np.s_[0.5:], np.s_[:, 1.0], np.s_[[0.5]], np.s_[[True]]]
)
def test_an_index_that_is_none(device, index):
    with pytest.raises((IndexError, TypeError), match=r"GetItem of \(3, 2\) float32 on"):
        Tensor(np.zeros((3, 2), np.float32))[index]


@pytest.mark.parametrize("make", [lambda i: i, lambda i: (slice(None), i)])
def test_an_index_that_is_changed_later_does_not_move_the_gradient(device, make):
    x = Tensor(np.ones((3, 3), np.float32), requires_grad=True)
    index = np.array([0, 1])
    y = x[make(index)]
    index[:] = 2
    y.sum().backward()
    assert_array_equal(x.grad.numpy() if make(0) == 0 else x.grad.numpy().T, [[1, 1, 1], [1, 1, 1], [0, 0, 0]])


def test_a_tuple_inside_an_index_is_a_list_of_places(device):
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (x[:, (0, 0)].sum() + x[range(2), (1, 1)].sum()).backward()
    assert_array_equal(x.grad.numpy(), [[2, 1, 0], [2, 1, 0]])
