"""Pooling where it is delicate: ties, NaN, padding, windows that hang over the edge."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl.functional as F
from minidl import Tensor

sizes, strides = st.integers(1, 7), st.integers(1, 4)


@st.composite
def poolings(draw):
    """Arguments of a pooling and an image that it fits."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k // 2))) for k in kernel)
    least = [max(1, k - sum(p)) for k, p in zip(kernel, padding, strict=True)]
    shape = (draw(st.integers(1, 2)), *(n + draw(st.integers(0, 6)) for n in least), draw(st.integers(1, 2)))
    return shape, kernel, draw(st.tuples(strides, strides)), padding, draw(st.booleans())


def both_ways(f, x, seed):
    """The result, a random gradient for it, and what that gives x."""
    tensor = Tensor(x, requires_grad=True)
    y = f(tensor)
    upstream = np.random.default_rng(seed).standard_normal(y.shape)
    y.backward(Tensor(upstream))
    return y.numpy(), upstream, tensor.grad.numpy()


@settings(max_examples=60)
@given(poolings(), st.integers(0, 1000))
def test_max_pooling_against_the_loops(device, pooling, seed):
    shape, *arguments = pooling
    x = np.random.default_rng(seed).integers(-3, 0, shape).astype(float)  # many ties, and all below the 0 of a wrong padding
    y, upstream, dx = both_ways(lambda t: F.max_pool2d(t, *arguments), x, seed)
    assert np.array_equal(y, naive.max_pool2d(x, *arguments))
    np.testing.assert_allclose(dx, naive.max_pool2d(x, *arguments, dy=upstream), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(poolings(), st.booleans(), st.integers(0, 1000))
def test_average_pooling_against_the_loops(device, pooling, count_include_pad, seed):
    shape, *arguments = pooling
    arguments.append(count_include_pad)
    x = np.random.default_rng(seed).standard_normal(shape)
    y, upstream, dx = both_ways(lambda t: F.avg_pool2d(t, *arguments), x, seed)
    np.testing.assert_allclose(y, naive.avg_pool2d(x, *arguments), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, naive.avg_pool2d(x, *arguments, dy=upstream), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(st.tuples(sizes, sizes), st.tuples(sizes, sizes))
def test_adaptive_pooling_against_the_loops(device, size, output_size):
    x = np.random.default_rng(0).standard_normal((2, *size, 2))
    y = F.adaptive_avg_pool2d(Tensor(x), output_size).numpy()
    np.testing.assert_allclose(y, naive.adaptive_avg_pool2d(x, output_size), rtol=1e-12, atol=1e-12)


def test_of_equal_maxima_the_first_takes_the_whole_gradient(device):
    x = Tensor(np.ones((1, 4, 4, 1)), requires_grad=True)
    F.max_pool2d(x, 2).sum().backward()
    assert x.grad.numpy()[0, :, :, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_overlapping_windows_add_their_gradients(device):
    x = Tensor(np.zeros((1, 5, 5, 1)), requires_grad=True)
    x.data = np.eye(25)[12].reshape(1, 5, 5, 1)  # the pixel in the middle is the maximum of all four windows
    F.max_pool2d(x, 3, stride=2).sum().backward()
    assert x.grad.numpy()[0, 2, 2, 0] == 4 and x.grad.numpy().sum() == 4


def test_a_nan_is_not_swallowed(device):
    x = np.zeros((1, 4, 4, 1))
    x[0, 3, 2] = np.nan
    for pool in (F.max_pool2d, F.avg_pool2d):
        y = pool(Tensor(x), 2).numpy()[0, :, :, 0]
        assert np.isnan(y).tolist() == [[False, False], [False, True]]


def test_a_nan_takes_the_gradient_of_its_windows(device):
    """As in PyTorch 2.13: of several the last."""
    for values, taker in (([0, np.nan, 2, 3, np.nan, 1, 9, 5, 4], 4), ([9, np.nan, 2, 3, 4, 5, 6, 7, 8], 1)):
        x = Tensor(np.array(values).reshape(1, 3, 3, 1), requires_grad=True)
        F.max_pool2d(x, 3).sum().backward()
        assert np.flatnonzero(x.grad.numpy()).tolist() == [taker]


def test_padding_never_wins_a_maximum(device):
    y = F.max_pool2d(Tensor(np.full((1, 4, 4, 1), -5.0)), 3, stride=2, padding=1, ceil_mode=True)
    assert (y.numpy() == -5).all()


@pytest.mark.parametrize("count_include_pad, corner", [(True, 4 / 9), (False, 1.0)])
def test_padding_counts_in_an_average_or_not(device, count_include_pad, corner):
    y = F.avg_pool2d(Tensor(np.ones((1, 4, 4, 1))), 3, stride=1, padding=1, count_include_pad=count_include_pad).numpy()
    assert y[0, 0, 0, 0] == pytest.approx(corner) and y[0, 1, 1, 0] == pytest.approx(1)


def test_what_ceil_mode_lets_hang_over_never_counts(device):
    ones = Tensor(np.ones((1, 4, 4, 1)))
    assert F.avg_pool2d(ones, 3, stride=2, ceil_mode=True).numpy() == pytest.approx(1)
    assert F.avg_pool2d(ones, 3, stride=2).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    "size, kernel, stride, padding, floor, ceil",
    [
        (55, 3, 2, 0, 27, 27),
        (32, 3, 2, 0, 15, 16),
        (4, 2, 3, 1, 2, 2),
        (5, 2, 2, 0, 2, 3),
        (3, 1, 2, 0, 2, 2),
        (6, 3, 2, 1, 3, 4),
    ],
)
def test_sizes_as_in_pytorch(device, size, kernel, stride, padding, floor, ceil):
    x = Tensor(np.zeros((1, size, size, 1), np.float32))
    for pool in (F.max_pool2d, F.avg_pool2d):
        assert pool(x, kernel, stride, padding).shape == (1, floor, floor, 1)
        assert pool(x, kernel, stride, padding, ceil_mode=True).shape == (1, ceil, ceil, 1)


def test_the_stride_defaults_to_the_kernel(device):
    x = Tensor(np.random.default_rng(0).standard_normal((1, 6, 6, 2)))
    for pool in (F.max_pool2d, F.avg_pool2d):
        assert np.array_equal(pool(x, (2, 3)).numpy(), pool(x, (2, 3), (2, 3)).numpy())


def test_adaptive_pooling_to_one_place_is_the_mean(device):
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 3))
    np.testing.assert_allclose(F.adaptive_avg_pool2d(Tensor(x), 1).numpy()[:, 0, 0], x.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(Tensor(x), (5, 7)).numpy(), x, rtol=1e-12)


def test_the_largest_window(device):
    x = np.random.default_rng(0).permutation(256).astype(float).reshape(1, 16, 16, 1)
    y, upstream, dx = both_ways(lambda t: F.max_pool2d(t, 16), x, 0)
    assert y.item() == 255 and dx.reshape(-1)[x.argmax()] == upstream.item()
