"""Activations where they are delicate: at 0, at NaN, at numbers too large for exp."""

import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Tensor


def gradient_of(f, x):
    x = Tensor(x, requires_grad=True)
    f(x).sum().backward()
    return x.grad.numpy()


def test_relu_at_zero_nan_and_infinity(device):
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf, -np.inf])
    assert np.array_equal(F.relu(Tensor(x)).numpy(), [0, 0, 0, 3, np.nan, np.inf, 0], equal_nan=True)
    assert gradient_of(F.relu, x).tolist() == [0, 0, 0, 1, 0, 1, 0]


def test_the_recorded_gradient_of_relu_is_the_same(device):
    x = Tensor(np.random.default_rng(0).standard_normal(20), requires_grad=True)
    upstream = Tensor(np.random.default_rng(1).standard_normal(20))
    fast = minidl.grad((F.relu(x) * upstream).sum(), x)
    recorded = minidl.grad((F.relu(x) * upstream).sum(), x, create_graph=True)
    assert np.array_equal(fast.numpy(), recorded.numpy())


def test_a_relu_of_integers_is_integers(device):
    y = F.relu(Tensor(np.array([-2, 3])))
    assert y.numpy().tolist() == [0, 3] and y.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_and_tanh_of_large_numbers(device, dtype):
    x = np.array([-1e4, -50, 0, 50, 1e4], dtype)
    with np.errstate(all="raise", under="ignore"):
        assert F.sigmoid(Tensor(x)).numpy().tolist() == [0, 0, 0.5, 1, 1]
        assert F.tanh(Tensor(x)).numpy().tolist() == [-1, -1, 0, 1, 1]
        for f in (F.sigmoid, F.tanh):
            assert np.isfinite(gradient_of(f, x)).all()


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_never_overflows(device, axis, dtype):
    x = np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        y, logarithm = F.softmax(Tensor(x), axis).numpy(), F.log_softmax(Tensor(x), axis).numpy()
        gradients = [gradient_of(lambda x, f=f: f(x, axis), x) for f in (F.softmax, F.log_softmax)]
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-6)
    np.testing.assert_allclose(np.exp(logarithm), y, atol=1e-7)
    assert np.isfinite(logarithm).all() and all(np.isfinite(g).all() for g in gradients)


def test_softmax_does_not_change_when_a_constant_is_added(device):
    x = np.random.default_rng(0).standard_normal((3, 5))
    for f in (F.softmax, F.log_softmax):
        np.testing.assert_allclose(f(Tensor(x + 100)).numpy(), f(Tensor(x)).numpy(), rtol=1e-12)
