"""im2col and its transpose against the loops, on every device and in pieces of every size."""

import naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import assert_close, chunk_bytes, dtypes, geometries, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels.im2col import col2im, im2col

batches = st.integers(1, 5)


@given(geometries(), batches, seeds, dtypes, layouts, chunk_bytes, workers)
def test_both_against_the_loops(device, geometry, n, seed, dtype, layout, chunk, count):
    window, height, width = geometry
    arguments = window.kernel, window.stride, window.padding, window.dilation
    shape = (n, height, width, 2)
    (x,) = normal(seed, shape, dtype=dtype)
    patches = naive.im2col(x, *arguments)
    (cols,) = normal(seed + 1, patches.shape, dtype=dtype)
    with in_pieces(chunk, count):
        result = im2col(laid_out(x, layout, device), window)
        back = col2im(laid_out(cols, layout, device), window, height, width)
    assert result.dtype == back.dtype == dtype
    assert np.array_equal(to_device(result, "cpu"), patches)
    assert_close(back, naive.col2im(cols, shape, *arguments))


@given(geometries(), batches, seeds)
def test_col2im_is_the_transpose_of_im2col(geometry, n, seed):
    window, height, width = geometry
    x, cols = normal(
        seed, (n, height, width, 3), (n, *window.output_size(height, width), window.kernel[0] * window.kernel[1] * 3)
    )
    assert_close((im2col(x, window) * cols).sum(), (x * col2im(cols, window, height, width)).sum())
