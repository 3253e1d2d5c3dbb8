"""Normalisation: whose alpha is whose, and what batch normalisation remembers."""

import naive
import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Tensor


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# Local response normalisation


def test_alpha_multiplies_the_sum_and_others_divide_it_by_the_size(device):
    """PyTorch, Caffe, ONNX and the 2012 program: x / (k + alpha / n * sum) ** beta, here `alpha / n`."""
    x, n, alpha = normal(2, 3, 3, 9), 5, 2.0
    squares = np.stack([sum(x[..., j] ** 2 for j in naive.neighbours(c, 9, n, 1)) for c in range(9)], axis=-1)
    theirs = x / (1 + alpha / n * squares) ** 0.75
    np.testing.assert_allclose(F.local_response_norm(Tensor(x), n, alpha / n, 0.75, 1.0).numpy(), theirs, rtol=1e-12)
    ours = x / (1 + alpha * squares) ** 0.75
    np.testing.assert_allclose(F.local_response_norm(Tensor(x), n, alpha, 0.75, 1.0).numpy(), ours, rtol=1e-12)
    assert np.abs(ours - theirs).max() > 0.1


def test_the_defaults_are_the_papers(device):
    x = 100 * normal(2, 2, 2, 8)
    expected = naive.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    np.testing.assert_allclose(F.local_response_norm(Tensor(x)).numpy(), expected, rtol=1e-12)
    within = naive.local_response_norm_within(x, 5, 1e-3 / 25, 0.75, 1.0)
    np.testing.assert_allclose(F.local_response_norm_within(Tensor(x)).numpy(), within, rtol=1e-12)


def test_towers_do_not_see_each_other(device):
    x = normal(2, 3, 3, 8)
    together = F.local_response_norm(Tensor(x), 5, 1.0, groups=2).numpy()
    apart = [F.local_response_norm(Tensor(half), 5, 1.0).numpy() for half in (x[..., :4], x[..., 4:])]
    assert np.array_equal(together, np.concatenate(apart, axis=-1))
    assert not np.allclose(together, F.local_response_norm(Tensor(x), 5, 1.0).numpy())


def test_within_a_map_channels_do_not_see_each_other_and_pixels_do(device):
    x = np.zeros((1, 5, 5, 2))
    x[0, 2, 2, 0] = x[0, 1, 2, 0] = x[0, 1, 2, 1] = 1
    y = F.local_response_norm_within(Tensor(x), 3, 1.0, 0.5, 1.0).numpy()
    assert y[0, 2, 2, 0] == pytest.approx(3**-0.5) and y[0, 1, 2, 1] == pytest.approx(2**-0.5)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_fast_and_the_recorded_gradient_are_the_same(device, order):
    x = Tensor(np.asarray(normal(3, 4, 6), order=order), requires_grad=True)
    upstream = Tensor(normal(3, 4, 6, seed=1))

    def gradient(**options):
        return minidl.grad((F.local_response_norm(x, 5, 1.0, groups=2) * upstream).sum(), x, **options).numpy()

    np.testing.assert_allclose(gradient(), gradient(create_graph=True), rtol=1e-12, atol=1e-14)


def test_a_response_norm_of_zeros_is_zeros_with_a_gradient(device):
    x = Tensor(np.zeros((2, 5)), requires_grad=True)
    F.local_response_norm(x, 5, 1.0, 0.75, 2.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((2, 5), 2**-0.75), rtol=1e-12)


# Batch normalisation


def test_in_training_every_channel_gets_mean_0_and_variance_1(device):
    x = 3 * normal(4, 5, 5, 3) + 7
    y = F.batch_norm(Tensor(x), Tensor(np.zeros(3)), Tensor(np.ones(3)), training=True, eps=0.0).numpy()
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 1, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
def test_the_running_values_move_towards_those_of_the_batch(device, momentum):
    x, mean, variance = normal(4, 3, 3, 2), Tensor(normal(2, seed=1)), Tensor(np.array([0.5, 2.0]))
    expected_mean = (1 - momentum) * mean.numpy() + momentum * x.mean((0, 1, 2))
    expected_variance = (1 - momentum) * variance.numpy() + momentum * x.var((0, 1, 2), ddof=1)  # unbiased, as in PyTorch
    F.batch_norm(Tensor(x), mean, variance, training=True, momentum=momentum)
    np.testing.assert_allclose(mean.numpy(), expected_mean, rtol=1e-12)
    np.testing.assert_allclose(variance.numpy(), expected_variance, rtol=1e-12)


def test_in_evaluation_the_running_values_are_used_and_kept(device):
    x, mean, variance = normal(4, 2), normal(2, seed=1), np.array([0.5, 2.0])
    running = Tensor(mean), Tensor(variance)
    y = F.batch_norm(Tensor(x), *running).numpy()
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-12)
    assert np.array_equal(running[0].numpy(), mean) and np.array_equal(running[1].numpy(), variance)


def test_a_later_batch_does_not_disturb_the_gradient_of_an_earlier_one(device):
    """The graph of an evaluation must not meet the running values that training writes afterwards."""
    running = Tensor(np.zeros(2)), Tensor(np.ones(2))
    x = Tensor(normal(4, 2), requires_grad=True)
    y = F.batch_norm(x, *running)
    F.batch_norm(Tensor(normal(4, 2, seed=1)), *running, training=True)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((4, 2), 1 / np.sqrt(1 + 1e-5)), rtol=1e-12)


def test_the_running_values_keep_their_dtype_and_get_no_gradient(device):
    mean, variance = Tensor(np.zeros(2, np.float32)), Tensor(np.ones(2, np.float32))
    x = Tensor(normal(4, 2).astype(np.float32), requires_grad=True)
    F.batch_norm(x, mean, variance, training=True).sum().backward()
    assert mean.dtype == variance.dtype == np.float32 and mean.grad is None and x.grad.dtype == np.float32


def test_a_constant_channel_gives_zeros_and_no_nan(device):
    x = Tensor(np.full((4, 2), 3.0), requires_grad=True)
    y = F.batch_norm(x, Tensor(np.zeros(2)), Tensor(np.ones(2)), training=True)
    y.sum().backward()
    assert not y.numpy().any() and np.isfinite(x.grad.numpy()).all()
