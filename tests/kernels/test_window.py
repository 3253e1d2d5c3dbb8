"""The geometry of sliding windows."""

import naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.strategies import geometries, normal, seeds
from minidl.kernels.window import Window


@given(geometries())
def test_the_output_size_counts_the_places(geometry):
    window, height, width = geometry
    each = zip((height, width), window.kernel, window.stride, window.padding, window.dilation, strict=True)
    assert window.output_size(height, width) == tuple(naive.output_size(*axis) for axis in each)


def test_a_window_that_does_not_fit_has_no_place():
    assert Window((3, 3)).output_size(2, 3) == (0, 1)
    assert Window((3, 3), stride=(2, 2)).output_size(1, 2) == (0, 0)


@given(geometries(), seeds)
def test_view_and_taps_see_the_same_pixels(geometry, seed):
    window, height, width = geometry
    rows, columns = window.output_size(height, width)
    (x,) = normal(seed, (2, height, width, 3))
    padded = np.pad(x, ((0, 0), *window.padding, (0, 0)))
    view = window.view(padded, rows, columns)
    assert np.array_equal(view.reshape(2, rows, columns, -1), naive.im2col(x, *astuple(window)))
    taps = np.stack(window.taps(padded, rows, columns), axis=3)
    assert np.array_equal(taps.reshape(view.shape), view)


@given(geometries(), seeds, st.data())
def test_a_band_of_the_padded_image_is_what_its_rows_look_at(geometry, seed, data):
    window, height, width = geometry
    rows, _ = window.output_size(height, width)
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    (x,) = normal(seed, (2, height, width, 1))
    whole = np.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=7)
    assert np.array_equal(window.padded(x, fill=7), whole)
    first, last = start * window.stride[0], (stop - 1) * window.stride[0] + window.extent[0]
    assert np.array_equal(window.padded(x, fill=7, rows=slice(start, stop)), whole[:, first:last])


def test_where_no_padding_is_met_nothing_is_copied():
    x = np.zeros((1, 6, 5, 2))
    assert np.shares_memory(Window((2, 2)).padded(x), x)
    only_below = Window((2, 2), padding=((0, 1), (0, 0)))
    assert np.shares_memory(only_below.padded(x, rows=slice(0, 4)), x)
    assert not np.shares_memory(only_below.padded(x), x)


def astuple(window):
    return window.kernel, window.stride, window.padding, window.dilation
