"""Initial values: their distribution, their fan-in, and where their random numbers come from."""

from math import sqrt

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn
from minidl.nn import init

CONV, FAN_IN, FAN_OUT = (5, 4, 30, 60), 5 * 4 * 30, 5 * 4 * 60
LINEAR = (400, 100)

NORMAL = [
    (init.normal_, CONV, 1.0),
    (lambda t: init.normal_(t, std=0.03), CONV, 0.03),
    (init.kaiming_normal_, CONV, sqrt(2 / FAN_IN)),
    (init.kaiming_normal_, LINEAR, sqrt(2 / 400)),
    (init.xavier_normal_, CONV, sqrt(2 / (FAN_IN + FAN_OUT))),
    (init.xavier_normal_, LINEAR, sqrt(2 / 500)),
]
UNIFORM = [
    (lambda t: init.uniform_(t, -2.0, 2.0), CONV, 2.0),
    (init.kaiming_uniform_, CONV, sqrt(6 / FAN_IN)),
    (init.kaiming_uniform_, LINEAR, sqrt(6 / 400)),
    (init.xavier_uniform_, CONV, sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.xavier_uniform_, LINEAR, sqrt(6 / 500)),
    (init.default_, CONV, 1 / sqrt(FAN_IN)),
    (init.default_, LINEAR, 1 / sqrt(400)),
]


def zeros(shape) -> nn.Parameter:
    return nn.Parameter(np.zeros(shape, np.float32))


@pytest.mark.parametrize("fill, shape, std", NORMAL)
def test_normal_values(device, fill, shape, std):
    weight = zeros(shape)
    fill(weight)
    z = weight.numpy() / std
    n = z.size  # at least 36,000: five standard errors are 3 %
    assert abs(z.mean()) < 5 / sqrt(n)
    assert abs(z.std() - 1) < 5 / sqrt(2 * n)
    assert abs((np.abs(z) > 2).mean() - 0.0455) < 5 * sqrt(0.0455 / n), "not a normal distribution"


@pytest.mark.parametrize("fill, shape, bound", UNIFORM)
def test_uniform_values(device, fill, shape, bound):
    weight = zeros(shape)
    fill(weight)
    z = weight.numpy() / bound
    assert 0.999 < np.abs(z).max() <= 1.000001
    assert abs(z.mean()) < 5 / sqrt(3 * z.size)
    assert abs((np.abs(z) < 0.5).mean() - 0.5) < 5 * sqrt(0.25 / z.size), "not a uniform distribution"


def test_mean_and_bounds_that_are_not_centred(device):
    assert abs(init.normal_(zeros((100, 100)), mean=3.0, std=0.1).numpy().mean() - 3) < 0.01
    values = init.uniform_(zeros((100, 100)), 2.0, 5.0).numpy()
    assert values.min() >= 2 and values.max() <= 5 and abs(values.mean() - 3.5) < 0.05


def test_constant(device):
    assert init.constant_(zeros((2, 3)), 0.1).numpy().tolist() == np.full((2, 3), 0.1, np.float32).tolist()


def test_layers_start_with_the_default(device):
    for layer, fan_in in ((nn.Linear(50, 200), 50), (nn.Conv2d(8, 200, 3, groups=2), 3 * 3 * 4)):
        for parameter in layer.parameters():  # the bias too
            largest = np.abs(parameter.numpy()).max() * sqrt(fan_in)
            assert 0.95 < largest <= 1.000001


def test_the_tensor_stays_what_it_was(device):
    weight = nn.Parameter(np.zeros((3, 4), np.float64))
    fills = [init.normal_, init.uniform_, init.kaiming_normal_, init.kaiming_uniform_, init.xavier_normal_, init.xavier_uniform_]
    for fill in [*fills, lambda t: init.constant_(t, 1.0)]:
        assert fill(weight) is weight
        assert (weight.shape, weight.dtype, weight.device) == ((3, 4), np.float64, minidl.get_default_device())
        assert weight.requires_grad and weight.grad_fn is None and np.any(weight.numpy())


def test_random_values_follow_the_seed(device):
    def draw(seed):
        minidl.manual_seed(seed)
        return nn.Linear(3, 3).weight.numpy(), nn.Linear(3, 3).weight.numpy()

    first, second = draw(5)
    assert np.array_equal(draw(5), (first, second))
    assert not np.array_equal(first, second) and not np.array_equal(draw(6)[0], first)


@pytest.mark.parametrize("fill", [init.kaiming_normal_, init.kaiming_uniform_, init.xavier_normal_, init.xavier_uniform_])
@pytest.mark.parametrize("shape", [(3,), (), (0, 3)])
def test_what_has_no_fan_in_is_refused(fill, shape):
    with pytest.raises(ValueError, match="has no fan_in"):
        fill(Tensor(np.zeros(shape)))
