"""Strided convolutions folded up: the same as the loops, whatever the stride leaves over."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import laid_out, layouts, normal, pairs, seeds, workers
from minidl.kernels import convolution, folding, winograd
from minidl.kernels.window import Window


@settings(max_examples=100)
@given(
    st.integers(2, 4), st.integers(1, 12), pairs(0, 4), pairs(0, 4), pairs(1, 15), pairs(1, 3), st.integers(1, 4), seeds, layouts, workers
)  # fmt: skip
def test_equals_the_loops(s, kernel, down, along, size, channels, n, seed, layout, count):
    window = Window((kernel, kernel), (s, s), (down, along))
    height, width = (max(side, kernel - sum(padding)) for side, padding in zip(size, (down, along), strict=True))
    c, o = channels
    places = window.output_size(height, width)
    x, weight, dy = normal(seed, (n, height, width, c), (kernel, kernel, c, o), (n, *places, o))
    expected = naive.conv2d(x, weight, None, (s, s), (down, along))
    _, expected_dw, _ = naive.conv2d_gradients(x, weight, dy, (s, s), (down, along))
    x, weight = laid_out(x, layout, "cpu"), laid_out(weight, layout, "cpu")
    with in_pieces(300, count):
        folded, unit = folding.fold(x, window)
        y = convolution.conv2d(folded, folding.fold_weight(weight, s), None, unit, 1)
        dw = folding.unfold_weight(convolution.weight_gradient(folded, dy, unit, 1), s, kernel)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dw, expected_dw, rtol=0, atol=1e-12)
    assert folding.unfold_weight(folding.fold_weight(weight, s), s, kernel).tolist() == weight.tolist()


@pytest.mark.parametrize(
    "side, outputs, padding", [(224, 64, ((2, 2), (2, 2))), (224, 96, ((0, 3), (0, 3))), (227, 96, ((0, 0),) * 2)]
)
def test_the_first_layer_of_alexnet(side, outputs, padding):
    """Through the functions that layers call: folded in single precision, the sum of products in double."""
    window = Window((11, 11), (4, 4), padding)
    x, weight, dy = normal(0, (4, side, side, 3), (11, 11, 3, outputs), (4, 55, 55, outputs), dtype=np.float32)
    exact = [a.astype(np.float64) for a in (x, weight, dy)]
    assert way(x, weight, window) is folding and way(*exact[:2], window) is None
    bias = np.full(outputs, -2, np.float32)
    y, dw = convolution.conv2d(x, weight, bias, window, 1, relu=True), convolution.weight_gradient(x, dy, window, 1)
    expected = convolution.conv2d(*exact[:2], bias, window, 1, relu=True)
    assert (expected == 0).any() and (expected > 0).any()
    expected_dw = convolution.weight_gradient(exact[0], exact[2], window, 1)
    for result, right in ((y, expected), (dw, expected_dw)):
        assert result.dtype == np.float32 and 3e-7 < np.linalg.norm(result - right) / np.linalg.norm(right) < 1e-5


def way(x, weight, window, groups=1):
    return convolution.faster_way(np, x.dtype, x.shape, weight.shape, window, groups)


def test_where_it_does_not_pay(monkeypatch):
    x, weight = np.zeros((4, 64, 64, 16), np.float32), np.zeros((6, 6, 16, 64), np.float32)
    assert way(x, weight, Window((6, 6), (2, 2))) is folding
    assert way(x, weight, Window((6, 6), (2, 1))) is None
    assert way(x, weight, Window((6, 6), (2, 2), dilation=(2, 2))) is None
    assert way(x, weight[:, :, :8], Window((6, 6), (2, 2)), 2) is None
    assert way(x, weight[:4, :4], Window((4, 4), (4, 4))) is None, "nothing overlaps"
    monkeypatch.setattr(winograd, "ADVANTAGE", 1e9)
    assert way(x, weight, Window((6, 6), (2, 2))) is None
