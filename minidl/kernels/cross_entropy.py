"""Softmax cross-entropy of rows of scores, and its gradient: a GPU does each in one kernel, and not in a dozen operations.

With m the largest score of a row, and t the target, 1 - smoothing on the label plus smoothing / K on every class,

    loss = log(sum of exp(x - m)) - (sum of t * (x - m))        dx = (softmax(x) - t) * the gradient of the loss
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in
from minidl.kernels import cuda


def cross_entropy(scores: Array, labels: Array, smoothing: float) -> Array:
    """scores: (N, K), floating point; labels: (N,) int64. Returns the losses (N,), NaN for a label that is no class. Those of bfloat16
    are float32."""
    xp = get_array_module(scores)
    if cuda.ready("cross_entropy", scores):
        losses = xp.empty(len(scores), computed_in(scores.dtype))
        _launch("cross_entropy", scores, labels, losses, smoothing=smoothing)
        return losses
    shifted, shares = _shifted(scores), target(scores, labels, smoothing)
    log_sum = xp.log(xp.exp(shifted).sum(axis=1))
    # Infinite scores of other classes times a target of 0 would be NaN.
    return log_sum - (xp.where(shares == 0, 0, shifted) * shares).sum(axis=1)


def cross_entropy_backward(scores: Array, labels: Array, gradient: Array, smoothing: float) -> Array:
    """gradient: (N,), of the losses and in their type. Returns the gradient of the scores, (N, K)."""
    xp = get_array_module(scores)
    if cuda.ready("cross_entropy", scores):
        dx = xp.empty(scores.shape, scores.dtype)
        _launch("cross_entropy_backward", scores, labels, gradient, dx, smoothing=smoothing)
        return dx
    dx = xp.exp(_shifted(scores))
    dx /= dx.sum(axis=1, keepdims=True)
    dx -= target(scores, labels, smoothing)
    dx *= gradient[:, None]
    return dx.astype(scores.dtype, copy=False)


def target(scores: Array, labels: Array, smoothing: float) -> Array:
    """What each row of scores should be: the shares of the classes, (N, K)."""
    xp, k = get_array_module(scores), scores.shape[1]
    shares = (xp.arange(k) == labels[:, None]).astype(computed_in(scores.dtype))
    shares *= 1 - smoothing
    shares += smoothing / k
    # A label that is no class has an all but empty row: its loss must not look like a number.
    return xp.where(((labels < 0) | (labels >= k))[:, None], xp.asarray(np.nan, shares.dtype), shares)


def _shifted(scores: Array) -> Array:
    scores = scores.astype(computed_in(scores.dtype), copy=False)
    return scores - scores.max(axis=1, keepdims=True)


def _launch(kernel: str, *arrays: Array, smoothing: float) -> None:
    rows, classes = arrays[0].shape
    cuda.launch("cross_entropy", kernel, cuda.contiguous(*arrays), [rows, classes, float(smoothing)], (rows, 1, classes))
