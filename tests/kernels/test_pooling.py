"""Pooling kernels against the loops, on every device and in pieces of every size."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pieces import in_pieces, workspace
from kernels.strategies import assert_close, chunk_bytes, dtypes, geometries, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels import pooling
from minidl.kernels.window import Window

batches = st.integers(1, 5)
given_everything = given(geometries(pooling=True), batches, seeds, dtypes, layouts, chunk_bytes, workers)


def images(seed, window, n, height, width, dtype, few_values=False):
    """(x, a gradient for every window); of few different values there are many equal maxima."""
    x, dy = normal(seed, (n, height, width, 3), (n, *window.output_size(height, width), 3), dtype=dtype)
    return (np.round(x) if few_values else x), dy


@settings(max_examples=150)
@given(geometries(pooling=True), batches, seeds, dtypes, layouts, chunk_bytes, workers, st.booleans())
def test_max_pooling_against_the_loops(device, geometry, n, seed, dtype, layout, chunk, count, ties):
    window, height, width = geometry
    x, dy = images(seed, window, n, height, width, dtype, few_values=ties)
    arguments = window.kernel, window.stride, window.padding
    with in_pieces(chunk, count):
        y, position = pooling.max_pool(laid_out(x, layout, device), window)
        values = pooling.max_pool_values(laid_out(x, layout, device), window)
        dx = pooling.max_pool_backward(laid_out(dy, layout, device), position, window, height, width)
        again = pooling.max_pool_gather(laid_out(x, layout, device), position, window)
    assert y.dtype == dx.dtype == again.dtype == dtype
    assert np.array_equal(to_device(y, "cpu"), naive.max_pool2d(x, *arguments))
    assert np.array_equal(to_device(again, "cpu"), to_device(y, "cpu"))
    assert np.array_equal(to_device(values, "cpu"), to_device(y, "cpu"))
    assert_close(dx, naive.max_pool2d(x, *arguments, dy=dy))


@given_everything
def test_sum_pooling_against_the_loops(device, geometry, n, seed, dtype, layout, chunk, count):
    window, height, width = geometry
    x, dy = images(seed, window, n, height, width, dtype)
    with in_pieces(chunk, count):
        y = pooling.sum_pool(laid_out(x, layout, device), window)
        dx = pooling.sum_pool_backward(laid_out(dy, layout, device), window, height, width)
    assert y.dtype == dx.dtype == dtype
    patches = naive.im2col(x, window.kernel, window.stride, window.padding)
    assert_close(y, patches.reshape(*patches.shape[:3], -1, 3).sum(axis=3))
    assert_close((to_device(dx, "cpu") * x).sum(), (to_device(y, "cpu") * dy).sum())


@given(geometries(pooling=True), batches, seeds)
def test_the_backward_kernels_are_the_transposes(geometry, n, seed):
    window, height, width = geometry
    x, dy = images(seed, window, n, height, width, np.float64)
    (other,) = normal(seed + 1, x.shape)
    _, position = pooling.max_pool(x, window)
    there = np.vdot(pooling.max_pool_gather(other, position, window), dy)
    assert_close(np.vdot(other, pooling.max_pool_backward(dy, position, window, height, width)), there)
    there = np.vdot(pooling.sum_pool(other, window), dy)
    assert_close(np.vdot(other, pooling.sum_pool_backward(dy, window, height, width)), there)


def test_padding_is_minus_infinity_to_the_maximum(device):
    x = to_device(-np.ones((1, 3, 3, 1), np.float32), device)
    y, position = pooling.max_pool(x, Window((3, 3), (2, 2), ((1, 1), (1, 1))))
    assert to_device(y, "cpu").tolist() == (-np.ones((1, 2, 2, 1))).tolist()
    assert to_device(position, "cpu")[0, 0, 0, 0] == 4  # the first pixel that is in the image


def test_of_equal_maxima_the_first_row_by_row_takes_the_gradient(device):
    x = to_device(np.array([[0.0, 5, 5], [5, 0, 0], [5, 0, 5]]).reshape(1, 3, 3, 1), device)
    window = Window((3, 3))
    _, position = pooling.max_pool(x, window)
    dx = pooling.max_pool_backward(to_device(np.full((1, 1, 1, 1), 2.0), device), position, window, 3, 3)
    assert to_device(dx, "cpu").reshape(3, 3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("place", range(9))
def test_a_nan_anywhere_in_a_window_makes_its_maximum_nan(device, place):
    x = np.arange(9.0)
    x[place] = np.nan
    y, position = pooling.max_pool(to_device(x.reshape(1, 3, 3, 1), device), Window((3, 3)))
    assert np.isnan(to_device(y, "cpu")).all() and to_device(position, "cpu").item() == place


def test_the_position_is_that_of_the_last_nan(device):
    """In one image of two, one channel of two; the windows that do not meet it are as ever."""
    x = np.stack([np.arange(25.0).reshape(5, 5, 1)] * 2)
    x = np.concatenate([x, x], axis=3)
    x[1, 2, 0, 1] = x[1, 1, 2, 1] = np.nan
    y, position = (to_device(a, "cpu") for a in pooling.max_pool(to_device(x, device), Window((3, 3), (2, 2))))
    assert np.isnan(y[1, :, :, 1]).tolist() == [[True, True], [True, False]]
    assert position[1, :, :, 1].tolist() == [[6, 3], [0, 8]]
    assert (np.delete(position.reshape(2, 4, 2), 1, axis=2) == 8).all() and (position[0] == 8).all()


def test_no_channels_have_no_maximum(device):
    y, position = pooling.max_pool(to_device(np.zeros((2, 4, 4, 0)), device), Window((2, 2)))
    assert y.shape == position.shape == (2, 3, 3, 0)


def test_the_largest_window_has_256_positions(device):
    x = to_device(np.arange(256.0).reshape(1, 16, 16, 1), device)
    y, position = pooling.max_pool(x, Window((16, 16)))
    assert to_device(y, "cpu").item() == 255 and to_device(position, "cpu").item() == 255


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_work_gives_the_same_bits(workers):
    window = Window((3, 3), (2, 2), ((0, 1), (0, 1)))
    x, dy = images(0, window, 9, 13, 13, np.float32)
    with in_pieces(3000, workers):

        def results():
            y, position = pooling.max_pool(x, window)
            back = pooling.max_pool_backward(dy, position, window, 13, 13)
            return [a.tobytes() for a in (y, position, back, pooling.sum_pool(x, window))]

        first = results()
        assert all(results() == first for _ in range(5))


def test_the_workspace_does_not_grow_with_the_batch():
    window = Window((3, 3), (2, 2), ((0, 1), (0, 1)))

    def needed(n):
        x, dy = images(0, window, n, 27, 27, np.float32)
        _, position = pooling.max_pool(x, window)
        return [
            workspace(operation)
            for operation in (
                lambda: pooling.max_pool(x, window),
                lambda: pooling.max_pool_backward(dy, position, window, 27, 27),
                lambda: pooling.sum_pool(x, window),
                lambda: pooling.sum_pool_backward(dy, window, 27, 27),
            )
        ]

    with in_pieces(20_000, workers=1):
        for small, large in zip(needed(8), needed(64), strict=True):
            assert large < 1.1 * small + 30_000
