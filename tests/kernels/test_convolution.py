"""Convolution and its two gradients: the fast ones, the plain ones and the loops agree, however the work is cut up."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pieces import in_pieces, workspace
from kernels.strategies import assert_close, chunk_bytes, dtypes, geometries, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels import convolution
from minidl.kernels.window import Window

channels = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2))  # groups, inputs a group, outputs a group
batches = st.integers(1, 5)


@settings(max_examples=150)
@given(geometries(), channels, batches, seeds, dtypes, layouts, chunk_bytes, workers, st.booleans(), st.booleans())
def test_fast_plain_and_loops_agree(device, geometry, channels, n, seed, dtype, layout, chunk, count, with_bias, relu):
    window, height, width = geometry
    groups, c, o = channels
    x, weight, bias, dy = normal(
        seed,
        (n, height, width, groups * c),
        (*window.kernel, c, groups * o),
        (groups * o,),
        (n, *window.output_size(height, width), groups * o),
        dtype=dtype,
    )
    bias = bias if with_bias else None
    arguments = window.stride, window.padding, window.dilation, groups
    expected = naive.conv2d(x, weight, bias, *arguments)
    expected = np.maximum(expected, 0) if relu else expected
    expected_dx, expected_dw, _ = naive.conv2d_gradients(x, weight, dy, *arguments)

    x, weight, dy = (laid_out(a, layout, device) for a in (x, weight, dy))
    bias = bias if bias is None else laid_out(bias, layout, device)
    plain = convolution.conv2d_plain(x, weight, bias, window, groups, relu)
    plain_dx = convolution.input_gradient_plain(dy, weight, window, groups, height, width)
    plain_dw = convolution.weight_gradient_plain(x, dy, window, groups)
    with in_pieces(chunk, count):
        y = convolution.conv2d(x, weight, bias, window, groups, relu)
        dx = convolution.input_gradient(dy, weight, window, groups, height, width)
        dw = convolution.weight_gradient(x, dy, window, groups)
    assert y.dtype == dx.dtype == dw.dtype == dtype
    for result in (plain, y):
        assert_close(result, expected)
    for result in (plain_dx, dx):
        assert_close(result, expected_dx)
    for result in (plain_dw, dw):
        assert_close(result, expected_dw)


@given(geometries(), channels, batches, seeds)
def test_the_gradients_are_the_transposes(geometry, channels, n, seed):
    """<conv(x, w), dy> = <x, input gradient(dy, w)> = <w, weight gradient(x, dy)>: convolution is linear in each factor."""
    window, height, width = geometry
    groups, c, o = channels
    x, weight, dy = normal(
        seed,
        (n, height, width, groups * c),
        (*window.kernel, c, groups * o),
        (n, *window.output_size(height, width), groups * o),
    )
    there = np.vdot(convolution.conv2d(x, weight, None, window, groups), dy)
    assert_close(np.vdot(x, convolution.input_gradient(dy, weight, window, groups, height, width)), there)
    assert_close(np.vdot(weight, convolution.weight_gradient(x, dy, window, groups)), there)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 5000))
def test_the_pieces_cover_every_output_row_of_every_image_once(n, rows, columns, c, chunk):
    x, weight = np.zeros((n, 1, 1, c), np.float32), np.zeros((3, 3, c, 2), np.float32)
    pieces = convolution._pieces(x, weight.shape, rows, columns, chunk)
    covered = [(i, r) for images, band in pieces for i in range(images.start, images.stop) for r in range(band.start, band.stop)]
    assert covered == [(i, r) for i in range(n) for r in range(rows)]
    row_bytes = columns * 9 * c * 4
    for images, band in pieces:
        assert (images.stop - images.start) * (band.stop - band.start) * row_bytes <= max(chunk, row_bytes)


def alexnet_like(n, dtype=np.float32):
    """Images, weights, gradient and window of a grouped layer whose patches are 25 times the images."""
    x, weight, dy = normal(0, (n, 15, 15, 16), (5, 5, 8, 16), (n, 15, 15, 16), dtype=dtype)
    return x, weight, dy, Window((5, 5), padding=((2, 2), (2, 2)))


def all_three(n):
    x, weight, dy, window = alexnet_like(n)
    strided = Window((3, 3), stride=(2, 2))
    return {
        "forward": lambda: convolution.conv2d(x, weight, None, window, 2),
        "weight gradient": lambda: convolution.weight_gradient(x, dy, window, 2),
        "input gradient": lambda: convolution.input_gradient(dy, weight, window, 2, 15, 15),
        "input gradient, stride 2": lambda: convolution.input_gradient(dy[:, :7, :7], weight[:3, :3], strided, 2, 15, 15),
    }


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("name", list(all_three(1)))
def test_the_same_work_gives_the_same_bits(name, workers):
    operation = all_three(7)[name]
    with in_pieces(50_000, workers):
        first = operation().tobytes()
        assert all(operation().tobytes() == first for _ in range(5))


@pytest.mark.parametrize("name", list(all_three(1)))
def test_the_workspace_does_not_grow_with_the_batch(name):
    with in_pieces(100_000, workers=1):
        small, large = workspace(all_three(8)[name]), workspace(all_three(64)[name])
    assert large < 1.1 * small + 30_000  # the list of pieces is all that grows


def test_the_plain_workspace_does_grow():
    """So the measurement above can tell."""
    x, weight, _, window = alexnet_like(64)
    assert workspace(lambda: convolution.conv2d_plain(x, weight, None, window, 2)) > 5 * x.nbytes


@pytest.mark.parametrize("stride", [1, 2])
def test_an_empty_batch_has_empty_results_and_a_zero_weight_gradient(device, stride):
    x, weight = (to_device(a, device) for a in normal(0, (0, 5, 5, 2), (3, 3, 2, 4)))
    window = Window((3, 3), stride=(stride, stride))
    y = convolution.conv2d(x, weight, None, window, 1)
    assert y.shape[0] == 0
    assert convolution.input_gradient(y, weight, window, 1, 5, 5).shape == x.shape
    assert not to_device(convolution.weight_gradient(x, y, window, 1), "cpu").any()
