"""The fully connected layer."""

from __future__ import annotations

from minidl.core.matmul import matmul
from minidl.ops.activation import relu as through_relu
from minidl.ops.arguments import check_tensor, to_go_with
from minidl.ops.bias import AddBias
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
    product = matmul(x, to_go_with(x, weight))
    if bias is not None:
        return AddBias(relu)(product, bias)
    return through_relu(product) if relu else product
