"""ReLU and biases, spread over the cores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import chunk_bytes, dtypes, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels import elementwise, sums

shapes = st.lists(st.integers(0, 6), min_size=0, max_size=3).map(tuple)


@given(shapes, seeds, dtypes, layouts, chunk_bytes, workers)
def test_relu_both_ways(device, shape, seed, dtype, layout, chunk, count):
    x, gradient = normal(seed, shape, shape, dtype=dtype)
    if x.ndim == 0 or not x.size:
        layout = "contiguous"
    with in_pieces(chunk, count):
        y = elementwise.relu(laid_out(x, layout, device))
        dx = elementwise.relu_backward(y, laid_out(gradient, layout, device))
    assert y.dtype == dx.dtype == dtype
    assert np.array_equal(to_device(y, "cpu"), np.where(x > 0, x, 0))
    assert np.array_equal(to_device(dx, "cpu"), np.where(x > 0, gradient, 0))


@given(shapes.map(lambda shape: (*shape, 3)), seeds, dtypes, layouts, chunk_bytes, workers, st.sampled_from([2, 3, 128]))
def test_the_way_back_through_relu_and_a_bias_is_that_of_one_after_the_other(
    device, shape, seed, dtype, layout, chunk, count, strip
):
    """To the last digit, whatever the pieces."""
    y, gradient = normal(seed, shape, shape, dtype=dtype)
    there = [laid_out(a, layout if y.size else "contiguous", device) for a in (y, gradient)]
    with in_pieces(chunk, count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "STRIP", strip)
        dx, total = sums.relu_backward_and_sum(*there, np.dtype(dtype))
        expected = elementwise.relu_backward(*there)
        expected_total = sums.sum_to_last_axis(expected, np.dtype(dtype))
    assert dx.dtype == total.dtype == dtype
    assert np.array_equal(to_device(dx, "cpu"), to_device(expected, "cpu"))
    assert np.array_equal(to_device(total, "cpu"), to_device(expected_total, "cpu"))


@pytest.mark.parametrize("size", [3, 1000])
def test_relu_at_zero_nan_and_infinity(device, size):
    x = np.resize(np.array([0.0, -0.0, np.nan, np.inf, -np.inf]), size)
    with in_pieces(100):
        y = to_device(elementwise.relu(to_device(x, device)), "cpu")
        dx = to_device(elementwise.relu_backward(to_device(y, device), to_device(np.ones(size), device)), "cpu")
    assert np.array_equal(y, np.resize([0, 0, np.nan, np.inf, 0], size), equal_nan=True)
    assert np.array_equal(dx, np.resize([0, 0, 0, 1, 0], size))
