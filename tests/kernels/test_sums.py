"""The sum of all pixels, channel by channel."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels.strategies import assert_close, dtypes, laid_out, layouts, normal, seeds
from minidl.backend import get_array_module, to_device
from minidl.kernels import sums

shapes = st.tuples(st.lists(st.integers(0, 40), max_size=3), st.integers(0, 9)).map(lambda s: (*s[0], s[1]))


@given(shapes, seeds, dtypes, layouts)
@example((3, 0), 0, np.float32, "contiguous")
def test_it_is_numpys(device, shape, seed, dtype, layout):
    (x,) = normal(seed, shape, dtype=dtype)
    result = sums.sum_to_last_axis(laid_out(x, layout if x.size else "contiguous", device), x.dtype)
    assert result.dtype == dtype
    assert_close(result, x.astype(np.float64).sum(axis=tuple(range(x.ndim - 1))))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, bool])
def test_whatever_is_added_up_is_numpys(device, dtype, axes, keepdims):
    """More than a strip of it along any axis."""
    x = np.random.default_rng(0).integers(0, 2, (130, 131, 3)).astype(dtype)
    expected = x.sum(axis=axes, keepdims=keepdims)
    result = to_device(sums.add_up(to_device(x, device), axes, keepdims), "cpu")
    assert result.dtype == expected.dtype and result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)  # whole numbers are exact in any order


def test_the_sum_of_one_row_is_no_view_of_it(device):
    """The gradient of a sum is one number that looks like many."""
    x = to_device(np.zeros(1, np.float32), device)
    row = get_array_module(x).broadcast_to(x, (1, 8))
    for total in (
        sums.sum_to_last_axis(row, row.dtype),
        sums.relu_backward_and_sum(get_array_module(x).ones((1, 8), np.float32), row, row.dtype)[1],
    ):
        assert total.flags.c_contiguous and total.strides == (4,)


def test_many_small_numbers_do_not_get_lost(device):
    """Strips and their sums: errors grow like the logarithm of the number of pixels, not like the number."""
    x = np.full((20, 100, 100, 8), 0.1, np.float32)
    result = to_device(sums.add_up(to_device(x, device), (0, 1, 2), keepdims=False), "cpu")
    np.testing.assert_allclose(result, np.float64(np.float32(0.1)) * 200_000, rtol=1e-5)
