"""Losses at the extremes: huge logits, impossible classes, labels of every kind."""

import naive
import numpy as np
import pytest
import standin_cupy

import minidl
import minidl.functional as F
from minidl import Tensor

LABELS = np.array([0, 1, 2])


def loss_and_gradient(logits, labels=LABELS, **options):
    x = Tensor(logits, requires_grad=True)
    loss = F.cross_entropy(x, labels, **options)
    loss.sum().backward()
    return loss.numpy(), x.grad.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_finite_for_logits_of_any_size(device, dtype, smoothing):
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        losses, gradient = loss_and_gradient(logits, label_smoothing=smoothing, reduction="none")
    gaps = np.array([[0, 2e4, 1e4], [0, 2e4, 1e4], [np.log(3)] * 3])  # minus the logarithm of softmax
    target = (1 - smoothing) * np.eye(3) + smoothing / 3
    np.testing.assert_allclose(losses, (gaps * target).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.array([[1, 0, 0], [1, 0, 0], [1 / 3] * 3]) - target, atol=1e-6)


@pytest.mark.parametrize("reduction, divisor", [("mean", 3), ("sum", 1), ("none", 1)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_the_gradient_is_softmax_minus_target(device, reduction, divisor, smoothing):
    logits = np.random.default_rng(0).standard_normal((3, 4))
    _, gradient = loss_and_gradient(logits, label_smoothing=smoothing, reduction=reduction)
    target = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
    expected = (np.apply_along_axis(naive.softmax, 1, logits) - target) / divisor
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)


def test_smoothing_over_many_classes_stays_within_half_precision(device):
    """A sum of 2,000 distances of 60 would not."""
    logits = np.full((1, 2000), -60, np.float16)
    logits[0, 0] = 0
    assert F.cross_entropy(Tensor(logits), [0], label_smoothing=0.1).item() == pytest.approx(0.1 * 60 * 1999 / 2000, rel=2**-10)


def test_a_class_ruled_out_by_minus_infinity(device):
    logits = np.array([[0.0, 0.0, -np.inf]])
    loss, gradient = loss_and_gradient(logits, [1])
    assert loss == pytest.approx(np.log(2)) and gradient.tolist() == [[0.5, -0.5, 0]]
    assert F.cross_entropy(Tensor(logits), [2]).item() == np.inf
    assert F.cross_entropy(Tensor(logits), [2], label_smoothing=1).item() == np.inf


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_one_clear_error(dtype, wrong):
    """And no warning of NumPy's before it."""
    scores = Tensor([[0.0, 1.0], [0.0, wrong]]).astype(dtype)
    with (
        np.errstate(all="raise"),
        pytest.raises(ValueError, match="1 of 2 rows of scores contain NaN or infinity, the first is row 1"),
    ):
        F.cross_entropy(scores, [0, 0])


def test_it_is_the_nll_loss_of_log_softmax(device):
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)))
    for reduction in ("mean", "sum", "none"):
        fused, composed = F.cross_entropy(x, LABELS, reduction=reduction), F.nll_loss(F.log_softmax(x), LABELS, reduction)
        np.testing.assert_allclose(fused.numpy(), composed.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_every_kind(device, dtype):
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)))
    expected = F.cross_entropy(x, LABELS).item()
    for labels in (LABELS.astype(dtype), Tensor(LABELS.astype(dtype)), LABELS.tolist(), tuple(LABELS.tolist())):
        assert F.cross_entropy(x, labels).item() == expected
        assert F.nll_loss(F.log_softmax(x), labels).item() == pytest.approx(expected)


def test_one_class_has_no_loss(device):
    assert F.cross_entropy(Tensor([[3.0], [5.0]]), [0, 0]).item() == 0


def test_reductions_have_their_shapes(device):
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)))
    for loss in (F.cross_entropy, F.nll_loss):
        none, total, mean = (loss(x, LABELS, reduction=r) for r in ("none", "sum", "mean"))
        assert none.shape == (3,) and total.shape == mean.shape == ()
        assert none.numpy().sum() == pytest.approx(total.item()) == pytest.approx(3 * mean.item())
    assert F.mse_loss(x, x * 2, "none").shape == (3, 4)
    assert F.mse_loss(x, x * 2).item() == pytest.approx(F.mse_loss(x, x * 2, "sum").item() / 12)


def test_on_a_gpu_a_wrong_label_shows_as_nan():
    """Looking at the labels would stop the device, and an index out of range is no error there."""
    with standin_cupy.install(), minidl.default_device("gpu"):
        for wrong in (3, -1):
            losses = F.cross_entropy(Tensor(np.zeros((2, 3))), Tensor(np.array([1, wrong])), reduction="none").numpy()
            assert np.isfinite(losses[0]) and np.isnan(losses[1])


def test_a_target_that_is_no_tensor_goes_to_the_device_of_the_prediction(device):
    prediction = Tensor([[1.0, 2.0]], requires_grad=True)
    F.mse_loss(prediction, [[0.0, 4.0]], "sum").backward()
    assert prediction.grad.numpy().tolist() == [[2, -4]]
