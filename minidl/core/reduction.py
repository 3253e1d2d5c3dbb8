"""Sums and maxima over axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minidl.backend import get_array_module
from minidl.core.shape import broadcast_to
from minidl.function import Function
from minidl.kernels.sums import add_up

if TYPE_CHECKING:
    from minidl.tensor import Tensor

Axis = int | tuple[int, ...] | None


def axes_of(axis: Axis, x: Tensor) -> tuple[int, ...]:
    """The axes of `x` that `axis` names, counted from the first; None names all."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    for a in axes:
        if isinstance(a, bool) or not isinstance(a, (int, np.integer)):
            raise TypeError(f"axis must be an int, several of them, or None for all; got {axis!r}")
        if not -x.ndim <= a < x.ndim:
            raise ValueError(f"axis {a} of a Tensor of shape {x.shape}, which has {x.ndim} axes")
    positive = tuple(a % x.ndim for a in axes)
    if len(set(positive)) < len(positive):
        raise ValueError(f"axis {axis} names an axis twice")
    return positive


class Sum(Function):
    keeps_inputs = False

    def __init__(self, axes: tuple[int, ...], keepdims: bool) -> None:
        self.axes, self.keepdims = axes, keepdims

    def forward(self, x):
        return add_up(x, self.axes, self.keepdims)

    def backward(self, gradient):
        shape = self.inputs[0].shape
        if not self.keepdims:
            gradient = gradient.reshape(tuple(1 if a in self.axes else n for a, n in enumerate(shape)))
        return broadcast_to(gradient, shape)


def maximum(x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """The maximum of `x` over `axis`."""
    axes = axes_of(axis, x)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    rows = x.transpose(others + axes) if others + axes != tuple(range(x.ndim)) else x
    best = RowMax()(rows.reshape(*[x.shape[a] for a in others], int(np.prod([x.shape[a] for a in axes]))))
    return best.reshape(tuple(1 if a in axes else n for a, n in enumerate(x.shape))) if keepdims else best


class RowMax(Function):
    """The maximum along the last axis; `first` marks the element that gave it."""

    keeps_inputs = False

    def forward(self, x):
        xp = get_array_module(x)
        if not x.shape[-1]:
            raise ValueError("no elements to take the maximum of")
        self.first = xp.arange(x.shape[-1]) == xp.expand_dims(x.argmax(axis=-1), -1)
        return x.max(axis=-1)

    def backward(self, gradient):
        return gradient.reshape(*gradient.shape, 1) * gradient._wrap(self.first.astype(gradient.dtype))
