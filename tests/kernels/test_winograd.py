"""Winograd's convolution: the same numbers as the definition, in float64 to the last digits, in float32 to a few of the last bits."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import assert_close, laid_out, layouts, normal, pairs, seeds, workers
from minidl.kernels import convolution, winograd
from minidl.kernels.window import Window

channels = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))  # groups, inputs a group, outputs a group


@settings(max_examples=100)
@given(
    st.sampled_from([3, 5]), pairs(0, 4), pairs(0, 4), pairs(1, 11), channels, st.integers(1, 13), seeds, layouts, workers,
    st.sampled_from([1, 5, 128]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_equals_the_loops(k, down, along, size, channels, n, seed, layout, count, tiles, with_bias, relu):
    window = Window((k, k), padding=(down, along))
    height, width = (max(side, k - sum(padding)) for side, padding in zip(size, (down, along), strict=True))
    groups, c, o = channels
    places = window.output_size(height, width)
    shapes = (n, height, width, groups * c), (k, k, c, groups * o), (groups * o,), (n, *places, groups * o)
    x, weight, bias, dy = normal(seed, *shapes)
    bias = bias if with_bias else None
    expected = naive.conv2d(x, weight, bias, (1, 1), (down, along), (1, 1), groups)
    expected = np.maximum(expected, 0) if relu else expected
    expected_dx, expected_dw, _ = naive.conv2d_gradients(x, weight, dy, (1, 1), (down, along), (1, 1), groups)

    x, weight, dy = (laid_out(a, layout, "cpu") for a in (x, weight, dy))
    with in_pieces(1 << 20, count), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "TILES", tiles)
        y = winograd.conv2d(x, weight, bias, window, groups, relu)
        dw = winograd.weight_gradient(x, dy, window, groups)
        dx = winograd.input_gradient(dy, weight, window, groups, height, width)
    # The points' powers reach 2^6: a few digits of the sixteen go into that.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * max(1, abs(expected).max()))
    np.testing.assert_allclose(dw, expected_dw, rtol=0, atol=1e-12 * max(1, abs(expected_dw).max()))
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-12 * max(1, abs(expected_dx).max()))


ALEXNET = {  # side, inputs, outputs, window, groups
    "conv2": (27, 64, 192, 5, 1), "conv3": (13, 192, 384, 3, 1), "conv4": (13, 384, 256, 3, 1), "conv5": (13, 256, 256, 3, 1),
    "two towers, conv2": (27, 96, 256, 5, 2), "two towers, conv5": (13, 384, 256, 3, 2),
}  # fmt: skip


@pytest.mark.parametrize("layer", ALEXNET)
def test_alexnet_in_single_precision(layer):
    """Through the functions that layers call: they choose this way, and lose less than 1e-5 of the result by it."""
    side, c, o, k, groups = ALEXNET[layer]
    window = Window((k, k), padding=((k // 2, k // 2), (k // 2, k // 2)))
    wide = side + 2  # not square, to tell height from width
    x, weight, dy = normal(0, (3, side, wide, c), (k, k, c // groups, o), (3, side, wide, o), dtype=np.float32)
    assert winograd.pays(np, x.dtype, (32, side, wide, c), weight.shape, window, groups)
    exact = [a.astype(np.float64) for a in (x, weight, dy)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "ADVANTAGE", 0)  # three images alone would not pay for the transform of the weights
        y = convolution.conv2d(x, weight, None, window, groups)
        dx = convolution.input_gradient(dy, weight, window, groups, side, wide)
        dw = convolution.weight_gradient(x, dy, window, groups)
    expected = convolution.conv2d(*exact[:2], None, window, groups)
    expected_dx = convolution.input_gradient(exact[2], exact[1], window, groups, side, wide)
    expected_dw = convolution.weight_gradient(exact[0], exact[2], window, groups)
    for result, right in ((y, expected), (dx, expected_dx), (dw, expected_dw)):
        assert result.dtype == np.float32 and 3e-7 < np.linalg.norm(result - right) / np.linalg.norm(right) < 1e-5


def test_where_it_does_not_pay():
    def pays(window, images=(8, 13, 13, 64), weight=(3, 3, 64, 64), dtype=np.float32):
        return winograd.pays(np, np.dtype(dtype), images, weight, window, 1)

    window = Window((3, 3), padding=((1, 1), (1, 1)))
    assert pays(window)
    assert not pays(window, dtype=np.float64)
    assert not pays(Window((3, 3), (2, 2)))
    assert not pays(Window((3, 3), dilation=(2, 2)))
    assert not pays(window, images=(8, 1, 1, 64)), "a tile of 16 for one pixel"
    assert not pays(window, images=(8, 13, 13, 3), weight=(3, 3, 3, 64)), "transforms dearer than the products"
    assert not pays(Window((1, 1)), weight=(1, 1, 64, 64))


@pytest.mark.parametrize("k", [3, 5])
def test_the_identity_behind_it(k):
    """For numbers instead of channels, in exact binary fractions: A^T [(G w) * (B^T d)] A is the sum of products."""
    at, g, bt = winograd.transforms(k, np.dtype(np.float64))
    d, w = normal(0, (winograd.M + k - 1,) * 2, (k, k))
    y = at @ ((g @ w.ravel()) * (bt @ d.ravel()))
    assert_close(y.reshape(winograd.M, winograd.M), naive.conv2d(d[None, :, :, None], w[:, :, None, None])[0, :, :, 0])


def test_images_on_a_sheet_disturb_each_other_by_rounding_alone():
    """Errors are relative to the largest number on the sheet; in float64 an image does not depend on the others at all."""
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    x, weight = normal(0, (8, 13, 13, 64), (3, 3, 64, 64))
    x[0] *= 1e3
    assert len(winograd._pieces(x.astype(np.float32), window)) < 8, "several on a sheet"
    exact = convolution.conv2d(x, weight, None, window, 1)
    alone = convolution.conv2d(x[1:], weight, None, window, 1)
    np.testing.assert_allclose(exact[1:], alone, rtol=0, atol=1e-13 * abs(alone).max())
    y = convolution.conv2d(x.astype(np.float32), weight.astype(np.float32), None, window, 1)
    errors = abs(y - exact).max(axis=(1, 2, 3))
    assert errors.max() < 1e-5 * abs(exact).max()
    assert errors[4:].max() < 1e-5 * abs(exact[4:]).max(), "another sheet"
