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
    """scores: (N, K), floating point; labels: (N,) int64. Returns the losses (N,), NaN for a label that is no class; for scores in
    bfloat16 they are float32."""
    xp = get_array_module(scores)
    if cuda.ready("cross_entropy", scores):
        losses = xp.empty(len(scores), computed_in(scores.dtype))
        _launch("cross_entropy", scores, labels, losses, smoothing=smoothing)
        return losses
    shifted, (known, places) = _shifted(scores), _places(scores, labels)
    losses = xp.log(xp.exp(shifted).sum(axis=1))
    # Without the terms that are 0: an infinite score times 0 would be NaN.
    if smoothing < 1:
        losses -= (1 - smoothing) * shifted[places]
    if smoothing > 0:
        losses -= smoothing * shifted.mean(axis=1)
    return xp.where(known, losses, xp.asarray(np.nan, losses.dtype))


def cross_entropy_backward(scores: Array, labels: Array, gradient: Array, smoothing: float) -> Array:
    """gradient: (N,), of the losses and in their type. Returns the gradient of the scores, (N, K)."""
    xp = get_array_module(scores)
    if cuda.ready("cross_entropy", scores):
        dx = xp.empty(scores.shape, scores.dtype)
        _launch("cross_entropy_backward", scores, labels, gradient, dx, smoothing=smoothing)
        return dx
    dx = xp.exp(_shifted(scores))
    dx /= dx.sum(axis=1, keepdims=True)
    known, places = _places(scores, labels)
    dx[places] -= 1 - smoothing
    if smoothing > 0:
        dx -= smoothing / scores.shape[1]
    dx *= xp.where(known, gradient, xp.asarray(np.nan, dx.dtype))[:, None]
    return dx.astype(scores.dtype, copy=False)


def target(scores: Array, labels: Array, smoothing: float) -> Array:
    """What each row of scores should be: the shares of the classes, (N, K); NaN for a label that is no class."""
    xp, (known, places) = get_array_module(scores), _places(scores, labels)
    shares = xp.full(scores.shape, smoothing / scores.shape[1], computed_in(scores.dtype))
    shares[places] += 1 - smoothing
    return xp.where(known[:, None], shares, xp.asarray(np.nan, shares.dtype))


def _shifted(scores: Array) -> Array:
    scores = scores.astype(computed_in(scores.dtype), copy=False)
    return scores - scores.max(axis=1, keepdims=True)


def _places(scores: Array, labels: Array) -> tuple[Array, tuple[Array, Array]]:
    """(whether each label is a class, the index of each row's class in the scores: of class 0 where the label is none)."""
    xp, (n, k) = get_array_module(scores), scores.shape
    known = (labels >= 0) & (labels < k)
    return known, (xp.arange(n), xp.where(known, labels, 0))


def _launch(kernel: str, *arrays: Array, smoothing: float) -> None:
    rows, classes = arrays[0].shape
    cuda.launch("cross_entropy", kernel, cuda.contiguous(*arrays), [rows, classes, float(smoothing)], (rows, 1, classes))
