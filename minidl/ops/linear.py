"""The fully connected layer."""

from __future__ import annotations

import math

from minidl.backend import get_array_module
from minidl.core.matmul import matmul
from minidl.dtypes import is_bfloat16
from minidl.kernels.elementwise import finish
from minidl.kernels.matmul import matmul as product
from minidl.ops.arguments import check_tensor, to_go_with
from minidl.ops.bias import EndsInBias
from minidl.tensor import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x @ weight + bias, with `relu` max(., 0) of that in the same pass.

    x: (..., in), weight: (in, out), bias: (out,) or None. Returns (..., out).

    The weight multiplies from the right: PyTorch's `linear` stores the transpose, (out, in). If x is bfloat16, the weight is rounded
    to it; the gradients of weight and bias keep their own type.
    """
    check_tensor("linear", "x", x)
    check_tensor("linear", "weight", weight)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[0]:
        raise ValueError(f"linear: x of shape {x.shape} does not fit weight of shape {weight.shape}, which is (in, out)")
    if bias is not None:
        check_tensor("linear", "bias", bias)
        if bias.shape != weight.shape[1:]:
            raise ValueError(
                f"linear: bias must have shape {weight.shape[1:]} to go with weight {weight.shape}, got {bias.shape}"
            )
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    operation, weight = Linear(relu), to_go_with(x, weight)
    result = operation(rows, weight) if bias is None else operation(rows, weight, bias)
    return result if x.ndim == 2 else result.reshape(*x.shape[:-1], weight.shape[1])


class Linear(EndsInBias):
    """(N, in), (in, out), (out,) -> (N, out)."""

    def forward(self, x, weight, bias=None):
        y = product(x, weight)
        if bias is not None and not is_bfloat16(y.dtype) and bias.dtype != y.dtype:
            y = y.astype(get_array_module(y).result_type(y, bias), copy=False)  # a bias of more digits widens the result
        finish(y, bias, self.relu)
        return y

    def backward(self, gradient):
        x, weight, *bias = self.inputs
        gradient, *bias_gradient = self.back_through_the_end(gradient, bias)
        return (
            matmul(gradient, weight.transpose(1, 0)) if x.requires_grad else None,
            matmul(x.transpose(1, 0), gradient) if weight.requires_grad else None,
            *bias_gradient,
        )
