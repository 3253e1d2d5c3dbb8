"""Activation functions."""

from __future__ import annotations

from typing import Any

from minidl.autograd import is_grad_enabled
from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.function import Function
from minidl.kernels import elementwise
from minidl.ops.arguments import check_floating, check_tensor, in_float32
from minidl.tensor import Tensor


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element (Krizhevsky et al. 2012, section 3.1); the gradient at 0 is 0."""
    check_tensor("relu", "x", x)
    return ReLU()(x)


class ReLU(Function):
    keeps_inputs, keeps_output = False, True

    def forward(self, x):
        return elementwise.relu(x)

    def backward(self, gradient):
        return relu_backward(self, gradient)


def relu_backward(operation: Function, gradient: Tensor) -> Tensor:
    """`gradient` where the output of `operation` is positive, else 0; the operation ends in ReLU and keeps its output."""
    if is_grad_enabled():
        return gradient * (operation.output > 0).astype(gradient.dtype)
    return ReLUBackward(operation.output_array)(gradient)


class ReLUBackward(Function):
    """The gradient where the output is positive, in one pass. `relu_backward` never records it, so it needs no derivative itself."""

    def __init__(self, output: Array) -> None:
        self.output_array = output

    def forward(self, gradient):
        return elementwise.relu_backward(self.output_array, gradient)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent, element by element; the squashing function that ReLU replaced."""
    check_floating("tanh", x)
    return Tanh()(x)


class Tanh(Function):
    keeps_inputs, keeps_output = False, True

    def forward(self, x):
        return get_array_module(x).tanh(x)

    def backward(self, gradient):
        return gradient * (1.0 - self.output * self.output)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), element by element."""
    check_floating("sigmoid", x)
    return Sigmoid()(x)


class Sigmoid(Function):
    keeps_inputs, keeps_output = False, True

    def forward(self, x):
        if is_bfloat16(x.dtype):
            return rounded(self.forward, x)
        # 1 / (1 + exp(-x)) overflows for very negative x; tanh does not.
        return 0.5 * get_array_module(x).tanh(0.5 * x) + 0.5

    def backward(self, gradient):
        return gradient * self.output * (1.0 - self.output)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) along `axis`: positive numbers that sum to 1. Never overflows: the maximum is subtracted first.

    The result for bfloat16 is float32. Raises ValueError if x has no such axis or nothing along it.
    """
    _check_axis("softmax", x, axis)
    return Softmax(axis)(in_float32(x))


class Softmax(Function):
    keeps_inputs, keeps_output = False, True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x):
        xp = get_array_module(x)
        y = xp.exp(x - x.max(axis=self.axis, keepdims=True))
        return y / y.sum(axis=self.axis, keepdims=True)

    def backward(self, gradient):
        y = self.output
        weighted = gradient * y
        return weighted - y * weighted.sum(self.axis, keepdims=True)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """The logarithm of softmax along `axis`, without ever forming a probability that could round to 0.

    The result for bfloat16 is float32. Errors are those of `softmax`.
    """
    _check_axis("log_softmax", x, axis)
    return LogSoftmax(axis)(in_float32(x))


class LogSoftmax(Function):
    keeps_inputs, keeps_output = False, True

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x):
        xp = get_array_module(x)
        shifted = x - x.max(axis=self.axis, keepdims=True)
        return shifted - xp.log(xp.exp(shifted).sum(axis=self.axis, keepdims=True))

    def backward(self, gradient):
        return gradient - self.output.exp() * gradient.sum(self.axis, keepdims=True)


def _check_axis(operation: str, x: Tensor, axis: Any) -> None:
    check_floating(operation, x)
    check_axis(operation, axis)
    if not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        raise ValueError(f"{operation}: x of shape {x.shape} has no elements along axis {axis!r}")


def check_axis(operation: str, axis: Any) -> None:
    """Raise ValueError unless `axis` is a number."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise ValueError(f"{operation}: axis must be an int, got {axis!r}")
