"""Adam against algorithm 1 of Kingma and Ba 2015, written down once more."""

import numpy as np
import pytest

from minidl import Tensor, nn, optim


def algorithm_1(w, gradients, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """The parameter after each gradient, in float64."""
    m, v, values = np.zeros(w.shape), np.zeros(w.shape), []
    for t, g in enumerate(gradients, start=1):
        g = g + weight_decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        corrected_m, corrected_v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        w = w - lr * corrected_m / (np.sqrt(corrected_v) + eps)
        values.append(w)
    return values


def check(shape, dtype, count, tolerance, **settings):
    random = np.random.default_rng(0)
    start, gradients = random.standard_normal(shape), random.standard_normal((count, *shape))
    w = nn.Parameter(start.astype(dtype))
    optimizer = optim.Adam([w], **settings)
    for gradient, expected in zip(gradients, algorithm_1(start, gradients, **settings), strict=True):
        w.grad = Tensor(gradient.T.astype(dtype).copy()).transpose()  # its memory runs the other way round
        optimizer.step()
        np.testing.assert_allclose(w.numpy(), expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(w.grad.numpy(), gradient.astype(dtype), "the gradient was changed")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr": 0.3, "weight_decay": 0.7},
        {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.3},
        {"lr": 0.1, "betas": (0.0, 0.0)},
    ],
)
def test_algorithm_1(device, settings):
    check((3, 4), np.float64, 6, 1e-12, **settings)


def test_large_parameters_and_gradients_of_any_layout(device):
    check((601, 903), np.float32, 2, 1e-5, lr=0.1, weight_decay=0.1)


def test_the_first_step_is_the_rate_whatever_the_size_of_the_gradient(device):
    w = nn.Parameter(np.zeros(3))
    w.grad = Tensor(np.array([1e-3, -5.0, 1e5]))
    optim.Adam([w], lr=0.25).step()
    assert np.allclose(w.numpy(), [-0.25, 0.25, -0.25], rtol=1e-4)


def test_every_parameter_counts_its_own_steps(device):
    """One that gets its first gradient late must get the correction of a first step."""
    early, late = nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(1))
    optimizer = optim.Adam([early, late], lr=0.25)
    for _ in range(10):
        early.grad = Tensor(np.ones(1))
        optimizer.step()
    late.grad = Tensor(np.ones(1))
    optimizer.step()
    assert np.allclose(late.numpy(), -0.25, rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"betas": (0.9,)}, {"betas": (0.9, float("nan"))}, {"eps": 0.0}, {"eps": -1}],
)
def test_what_is_refused(settings):
    with pytest.raises(ValueError, match=r"betas must lie in \[0, 1\) and eps be positive, got"):
        optim.Adam([nn.Parameter([1.0])], **settings)
