"""The bias of a layer, a number for each channel, in float32 also where the layer computes in bfloat16; and the ReLU behind it.

To add one number to an element, or compare it with 0, is less work than to read it and write it. So the operation that makes the
elements does both as it writes them, and one pass goes back through both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minidl.autograd import is_grad_enabled
from minidl.backend import Array
from minidl.core.shape import broadcast_to
from minidl.function import Function
from minidl.kernels.sums import relu_backward_and_sum, sum_to_last_axis
from minidl.ops.activation import relu_backward
from minidl.tensor import Tensor


class EndsInBias(Function):
    """An operation whose last input may be a bias, and which may end in ReLU: then it keeps its output."""

    def __init__(self, relu: bool) -> None:
        self.relu = self.keeps_output = relu

    def back_through_the_end(self, gradient: Tensor, biases: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """The gradient of what comes before bias and ReLU, and that of the bias, if there is one; None if it asks for none."""
        asking = [b for b in biases if b.requires_grad]
        if self.relu and asking and not is_grad_enabled():
            both = BothBackward(self.output_array, asking[0].dtype)
            return both(gradient), gradient._wrap(both.sum)
        if self.relu:
            gradient = relu_backward(self, gradient)
        return gradient, *(BiasGradient(b.dtype)(gradient) if b.requires_grad else None for b in biases)


class BothBackward(Function):
    """ReLU's gradient, and its sum, which is the bias's: in one pass, and never recorded."""

    sum: Array

    def __init__(self, output: Array, dtype: np.dtype) -> None:
        self.output_array, self.dtype = output, dtype

    def forward(self, gradient):
        dx, self.sum = relu_backward_and_sum(self.output_array, gradient, self.dtype)
        return dx


class BiasGradient(Function):
    """(..., C) -> (C,), the sum over all pixels, of type `dtype`: with bfloat16 it is never rounded to that."""

    keeps_inputs = False

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def forward(self, gradient):
        return sum_to_last_axis(gradient, self.dtype)

    def backward(self, gradient):
        return broadcast_to(gradient, self.inputs[0].shape)
