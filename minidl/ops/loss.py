"""Loss functions. Given bfloat16, all of them compute in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import backend
from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in, is_floating
from minidl.function import Function
from minidl.kernels import cross_entropy as kernel
from minidl.ops.activation import softmax
from minidl.ops.arguments import check_tensor, in_float32
from minidl.tensor import Tensor, wrap


def cross_entropy(logits: Tensor, labels: Any, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """Softmax cross-entropy, fused: -log softmax(logits)[label], finite for logits of any size.

    logits: (N, K), floating point. labels: (N,) integers 0..K-1, a Tensor or an array.
    label_smoothing: the target is 1 - label_smoothing on the label plus label_smoothing / K on every class.
    reduction: "mean", "sum", or "none" for the losses of the N items.
    The gradient is (softmax(logits) - target) / N. Raises ValueError for shapes that do not go together, labels out of range,
    NaN or infinity among the logits (minus infinity rules a class out and is allowed); TypeError for labels that are no integers.
    (On a GPU nobody looks at the values, because the host would have to wait for them: a label out of range makes the loss NaN.)
    """
    check_tensor("cross_entropy", "logits", logits)
    check_smoothing("cross_entropy", label_smoothing)
    indices = _labels("cross_entropy", logits, labels)
    return _reduced("cross_entropy", CrossEntropy(indices, label_smoothing)(logits), reduction)


class CrossEntropy(Function):
    """(N, K) -> (N,)."""

    def __init__(self, labels: Array, smoothing: float) -> None:
        self.labels, self.smoothing = labels, smoothing

    def forward(self, logits):
        return kernel.cross_entropy(logits, self.labels, self.smoothing)

    def backward(self, gradient):
        (logits,) = self.inputs
        return CrossEntropyBackward(self.labels, self.smoothing)(logits, gradient)


class CrossEntropyBackward(Function):
    """(N, K), (N,) -> (N, K): (softmax(logits) - target) times the gradient of the losses."""

    def __init__(self, labels: Array, smoothing: float) -> None:
        self.labels, self.smoothing = labels, smoothing

    def forward(self, logits, gradient):
        return kernel.cross_entropy_backward(logits, self.labels, gradient, self.smoothing)

    def backward(self, second):
        logits, gradient = self.inputs
        y, target = softmax(logits), wrap(kernel.target(logits._array, self.labels, self.smoothing))
        weighted = second * y
        return (weighted - y * weighted.sum(1, keepdims=True)) * gradient.reshape(-1, 1), ((y - target) * second).sum(1)


def nll_loss(log_probabilities: Tensor, labels: Any, reduction: str = "mean") -> Tensor:
    """Minus the log-probability of the right class; `cross_entropy(x)` is `nll_loss(log_softmax(x))`.

    log_probabilities: (N, K), floating point. labels: (N,) integers 0..K-1. reduction: "mean", "sum" or "none".
    Errors are those of `cross_entropy`.
    """
    check_tensor("nll_loss", "log_probabilities", log_probabilities)
    log_probabilities = in_float32(log_probabilities)
    indices = _labels("nll_loss", log_probabilities, labels)
    with backend.beside(indices):
        rows = get_array_module(indices).arange(len(indices))
    return _reduced("nll_loss", -log_probabilities[wrap(rows), wrap(indices)], reduction)


def mse_loss(prediction: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """The squared difference of two Tensors of one shape. reduction: "mean", "sum" or "none". Raises ValueError for two shapes."""
    check_tensor("mse_loss", "prediction", prediction)
    target = target if isinstance(target, Tensor) else Tensor(target, device=prediction.device)
    prediction, target = in_float32(prediction), in_float32(target)
    target = target if is_floating(target.dtype) else target.astype(prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(
            f"mse_loss: prediction has shape {prediction.shape}, target {target.shape}; they must be equal, "
            "because broadcasting would silently compare everything with everything"
        )
    difference = prediction - target
    return _reduced("mse_loss", difference * difference, reduction)


def _labels(operation: str, logits: Tensor, labels: Any) -> Array:
    """`labels` as an int64 array on the device of `logits`; both are checked, by value only on the CPU."""
    if logits.ndim != 2 or not is_floating(logits.dtype):
        raise ValueError(
            f"{operation}: expected floating-point scores of shape (N, classes), got {logits.dtype} of shape {logits.shape}"
        )
    if 0 in logits.shape:
        raise ValueError(f"{operation}: scores of shape {logits.shape} are empty")
    given = labels._array if isinstance(labels, Tensor) else labels if backend.is_array(labels) else np.asarray(labels)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{operation}: labels must be integers (class numbers), got {given.dtype} of shape {given.shape}")
    if given.shape != logits.shape[:1]:
        raise ValueError(
            f"{operation}: {logits.shape[0]} rows of scores need labels of shape ({logits.shape[0]},), got {given.shape}"
        )
    k = logits.shape[1]
    if isinstance(given, np.ndarray):
        wrong = np.flatnonzero((given < 0) | (given >= k))
        if len(wrong):
            raise ValueError(
                f"{operation}: labels[{wrong[0]}] is {given[wrong[0]]}, but scores of shape {logits.shape} have classes 0 to {k - 1}"
            )
    if isinstance(logits._array, np.ndarray):
        # The maximum of a row is finite unless NaN or infinity is in it, or minus infinity everywhere.
        scores = logits._array.astype(computed_in(logits.dtype), copy=False)  # the maximum of bfloat16 warns of NaN
        wrong = np.flatnonzero(~np.isfinite(scores.max(axis=1)))
        if len(wrong):
            raise ValueError(
                f"{operation}: {len(wrong)} of {len(logits)} rows of scores contain NaN or infinity, the first is row {wrong[0]}; "
                "training has diverged (try a smaller learning rate) or the input has NaN in it"
            )
    if isinstance(labels, Tensor) and labels.device != logits.device:
        raise ValueError(f"{operation}: inputs on different devices: {logits.device} and {labels.device}. Use .to(device).")
    with backend.beside(given):
        return backend.to_device(given.astype(np.int64), logits.device)  # a copy: backward needs them as they are now


def _reduced(operation: str, losses: Tensor, reduction: str) -> Tensor:
    check_reduction(operation, reduction)
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def check_reduction(operation: str, reduction: str) -> None:
    """Raise ValueError for what is no reduction."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{operation}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def check_smoothing(operation: str, label_smoothing: float) -> None:
    """Raise ValueError unless `label_smoothing` is a share."""
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{operation}: label_smoothing must be between 0 and 1, got {label_smoothing!r}")
