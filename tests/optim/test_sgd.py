"""SGD: both ways to write momentum, by hand and at sizes that are worked through in pieces."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minidl import Tensor, nn, optim
from minidl.kernels import parallel


def steps(optimizer: optim.Optimizer, w: nn.Parameter, gradients, rates=None) -> list[float]:
    """The values of the one-element parameter `w` after each step."""
    values = []
    for i, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[i]
        w.grad = Tensor(np.array([gradient], w.dtype))
        optimizer.step()
        values.append(w.item())
    return values


def one() -> nn.Parameter:
    return nn.Parameter(np.array([1.0]))


def test_the_papers_formula_by_hand(device):
    w = one()
    optimizer = optim.SGD([w], lr=0.1, momentum=0.5, weight_decay=0.5)
    # v1 = - 0.5 * 0.1 * 1 - 0.1 * 1                      = - 0.15
    # v2 = 0.5 * -0.15 - 0.5 * 0.1 * 0.85 - 0.1 * 2       = - 0.3175
    # v3 = 0.5 * -0.3175 - 0.5 * 0.1 * 0.5325 + 0.1 * 1   = - 0.085375
    assert np.allclose(steps(optimizer, w, [1, 2, -1]), [0.85, 0.85 - 0.3175, 0.5325 - 0.085375], rtol=1e-15)


def test_plain_gradient_descent(device):
    for rate in ("inside", "outside"):
        w = one()
        assert np.allclose(steps(optim.SGD([w], 0.25, rate=rate), w, [1, 2, -4]), [0.75, 0.25, 1.25], rtol=1e-15)


def test_while_the_rate_is_constant_both_ways_are_the_same(device):
    a, b = one(), one()
    gradients = np.random.default_rng(0).standard_normal(30)
    inside = steps(optim.SGD([a], 0.1, 0.9, 0.3), a, gradients)
    outside = steps(optim.SGD([b], 0.1, 0.9, 0.3, rate="outside"), b, gradients)
    assert np.allclose(inside, outside, rtol=1e-12)


def test_when_the_rate_is_lowered_the_papers_velocity_keeps_the_old_one(device):
    rates = [1, 1, 0.1, 0.1]
    a, b = one(), one()
    # v = -1, -1.9, then 0.9 * -1.9 - 0.1 = -1.81 and 0.9 * -1.81 - 0.1 = -1.729
    assert np.allclose(steps(optim.SGD([a], 1, 0.9), a, 4 * [1], rates), [0, -1.9, -3.71, -5.439], rtol=1e-15)
    # v = 1, 1.9, 2.71, 3.439, of which the last two count a tenth
    assert np.allclose(steps(optim.SGD([b], 1, 0.9, rate="outside"), b, 4 * [1], rates), [0, -1.9, -2.171, -2.5149], rtol=1e-15)


def test_momentum_and_decay_may_differ_between_groups(device):
    a, b = one(), one()
    optimizer = optim.SGD([{"params": a}, {"params": b, "momentum": 0.0, "weight_decay": 1.0}], 0.1, momentum=0.5)
    for _ in range(2):
        a.grad, b.grad = Tensor(np.ones(1)), Tensor(np.ones(1))
        optimizer.step()
    assert np.allclose([a.item(), b.item()], [1 - 0.1 - 0.15, 0.8 - 0.18], rtol=1e-15)


def plain_inside(w, v, g, lr, momentum, decay):
    v = v * momentum - decay * lr * w - lr * g
    return w + v, v


def plain_outside(w, v, g, lr, momentum, decay):
    v = v * momentum + g + decay * w
    return w - lr * v, v


@pytest.mark.parametrize("rate, plain", [("inside", plain_inside), ("outside", plain_outside)])
@pytest.mark.parametrize("shape", [(7,), (600, 900), (3, 11, 3, 5003)])
def test_large_parameters_and_gradients_of_any_layout(device, shape, rate, plain):
    assert shape == (7,) or np.prod(shape) * 4 > parallel.CHUNK_BYTES
    random = np.random.default_rng(0)
    expected, v = random.standard_normal(shape, np.float32), np.zeros(shape, np.float32)
    w = nn.Parameter(expected)
    optimizer = optim.SGD([w], 0.125, momentum=0.5, weight_decay=0.25, rate=rate)  # powers of 2: no rounding of their own
    for _ in range(2):
        g = random.standard_normal(shape[::-1], np.float32).T
        w.grad = Tensor(g.T).transpose()  # its memory runs the other way round
        optimizer.step()
        expected, v = plain(expected, v, g, np.float32(0.125), np.float32(0.5), np.float32(0.25))
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5, atol=1e-6)
        assert_array_equal(w.grad.numpy(), g, "the gradient was changed")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1, got 1.0"),
        ({"momentum": -0.1}, "momentum must be .* got -0.1"),
        ({"momentum": float("nan")}, "momentum must be .* got nan"),
        ({"rate": "outwards"}, 'rate must be "inside" .* or "outside" .* got \'outwards\''),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD([one()], 0.1, **settings)
    if "momentum" in settings:
        with pytest.raises(ValueError, match=message):
            optim.SGD([{"params": [one()], **settings}], 0.1)
