"""The bias of a layer: a number for each channel, in float32 also where the layer computes in bfloat16."""

from __future__ import annotations

import numpy as np

from minidl.core.shape import broadcast_to
from minidl.function import Function
from minidl.kernels.elementwise import add_bias
from minidl.kernels.sums import sum_to_last_axis


class AddBias(Function):
    """(..., C), (C,) -> (..., C)."""

    keeps_inputs = False

    def forward(self, x, bias):
        return add_bias(x, bias)

    def backward(self, gradient):
        _, bias = self.inputs
        return gradient, BiasGradient(bias.dtype)(gradient) if bias.requires_grad else None


class BiasGradient(Function):
    """(..., C) -> (C,), the sum over all pixels, of type `dtype`: with bfloat16 it is never rounded to that."""

    keeps_inputs = False

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def forward(self, gradient):
        return sum_to_last_axis(gradient, self.dtype)

    def backward(self, gradient):
        return broadcast_to(gradient, self.inputs[0].shape)
