"""Dropout: what it draws, how it scales, and that the gradient goes through the same mask."""

import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Tensor

P = 0.3


def ones(*shape, **options):
    return Tensor(np.ones(shape, np.float32), **options)


@pytest.mark.parametrize("inverted, survivor", [(True, 1 / (1 - P)), (False, 1.0)])
def test_in_training_an_element_is_dropped_or_scaled(device, inverted, survivor):
    y = F.dropout(ones(100, 100), P, inverted=inverted).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(survivor)}
    assert np.mean(y == 0) == pytest.approx(P, abs=0.02)  # four standard deviations


@pytest.mark.parametrize("inverted, factor", [(True, 1.0), (False, 1 - P)])
def test_at_test_time_nothing_is_dropped(device, inverted, factor):
    x = Tensor(np.random.default_rng(0).standard_normal((5, 5)))
    y = F.dropout(x, P, training=False, inverted=inverted)
    np.testing.assert_allclose(y.numpy(), x.numpy() * factor, rtol=1e-15)


@pytest.mark.parametrize("inverted", [True, False])
def test_training_and_test_time_have_the_same_expectation(device, inverted):
    x = ones(200, 200)
    trained, tested = (F.dropout(x, P, training=t, inverted=inverted).numpy() for t in (True, False))
    assert trained.mean() == pytest.approx(tested.mean(), abs=0.015)


@pytest.mark.parametrize("inverted", [True, False])
def test_the_gradient_goes_through_the_same_mask(device, inverted):
    x = ones(20, 20, requires_grad=True)
    y = F.dropout(x, P, inverted=inverted)
    upstream = np.random.default_rng(0).random((20, 20), np.float32)
    y.backward(Tensor(upstream))
    assert 0 < np.count_nonzero(y.numpy()) < 400
    np.testing.assert_allclose(x.grad.numpy(), upstream * y.numpy(), rtol=1e-6)


def test_the_seed_decides(device):
    def draw():
        return F.dropout(ones(50), P).numpy().tolist()

    minidl.manual_seed(7)
    first, second = draw(), draw()
    minidl.manual_seed(7)
    assert draw() == first and first != second
    minidl.manual_seed(8)
    assert draw() != first


@pytest.mark.parametrize("inverted", [True, False])
def test_a_probability_of_zero_changes_nothing_and_draws_nothing(device, inverted):
    x = ones(5)
    minidl.manual_seed(1)
    expected = F.dropout(ones(20), P).numpy().tolist()
    minidl.manual_seed(1)
    for training in (True, False):
        assert F.dropout(x, 0.0, training=training, inverted=inverted).numpy().tolist() == [1] * 5
    assert F.dropout(ones(20), P).numpy().tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(device, dtype):
    for inverted in (True, False):
        for training in (True, False):
            assert F.dropout(Tensor(np.ones(3, dtype)), P, training, inverted).dtype == dtype


def test_a_scalar_and_an_empty_tensor(device):
    assert F.dropout(Tensor(3.0), P).shape == ()
    assert F.dropout(ones(0, 4), P).shape == (0, 4)
