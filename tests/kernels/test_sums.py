"""The sum of all pixels, channel by channel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.strategies import assert_close, dtypes, laid_out, layouts, normal, seeds
from minidl.backend import to_device
from minidl.kernels import sums

shapes = st.tuples(st.lists(st.integers(0, 40), max_size=3), st.integers(1, 9)).map(lambda s: (*s[0], s[1]))


@given(shapes, seeds, dtypes, layouts)
def test_it_is_numpys(device, shape, seed, dtype, layout):
    (x,) = normal(seed, shape, dtype=dtype)
    result = sums.sum_to_last_axis(laid_out(x, layout if x.size else "contiguous", device))
    assert result.dtype == dtype
    assert_close(result, x.reshape(-1, shape[-1]).astype(np.float64).sum(axis=0))


def test_many_small_numbers_do_not_get_lost(device):
    """Strips and their sums: errors grow like the logarithm of the number of pixels, not like the number."""
    x = np.full((20, 100, 100, 8), 0.1, np.float32)
    result = to_device(sums.sum_to_last_axis(to_device(x, device)), "cpu")
    np.testing.assert_allclose(result, np.float64(np.float32(0.1)) * 200_000, rtol=1e-5)
