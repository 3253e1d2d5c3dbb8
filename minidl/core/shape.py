"""The same elements in another shape or order, and broadcasting with its transpose, the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minidl.backend import get_array_module
from minidl.function import Function
from minidl.kernels.sums import add_up

if TYPE_CHECKING:
    from minidl.tensor import Tensor


class Reshape(Function):
    keeps_inputs = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x):
        return x.reshape(self.shape)

    def backward(self, gradient):
        return gradient.reshape(self.inputs[0].shape)


class Transpose(Function):
    keeps_inputs = False

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, x):
        return x.transpose(self.axes)

    def backward(self, gradient):
        return gradient.transpose(tuple(int(i) for i in np.argsort([a % len(self.axes) for a in self.axes])))


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x` repeated to `shape` by NumPy's broadcasting rules."""
    return x if x.shape == shape else BroadcastTo(shape)(x)


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x` summed down to `shape`: what broadcasting repeated on the way forward, the gradient adds up on the way back."""
    return x if x._array.shape == shape else SumTo(shape)(x)


class BroadcastTo(Function):
    keeps_inputs = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x):
        return get_array_module(x).broadcast_to(x, self.shape)

    def backward(self, gradient):
        return sum_to(gradient, self.inputs[0].shape)


class SumTo(Function):
    keeps_inputs = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x):
        extra = x.ndim - len(self.shape)
        repeated = [i + extra for i, n in enumerate(self.shape) if n == 1 and x.shape[i + extra] != 1]
        return add_up(x, (*range(extra), *repeated), keepdims=True).reshape(self.shape)

    def backward(self, gradient):
        return broadcast_to(gradient, self.inputs[0].shape)
