"""The matrix product; `kernels/matmul.py` computes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from minidl.core.shape import sum_to
from minidl.function import Function
from minidl.kernels import matmul as products

if TYPE_CHECKING:
    from minidl.tensor import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product with the rules of `numpy.matmul`: (..., n, k) @ (..., k, m) -> (..., n, m); vectors are allowed."""
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape}: a scalar is no matrix; use *")
    if a.ndim == 1:
        product = matmul(a.reshape(1, -1), b)
        return product.reshape(product.shape[:-2] + product.shape[-1:] if b.ndim > 1 else ())
    if b.ndim == 1:
        return matmul(a, b.reshape(-1, 1)).reshape(a.shape[:-1])
    if a.ndim > 2 and b.ndim == 2 and a.shape[-1] == b.shape[0]:
        # One large product instead of many small ones, and no weight gradient per item of the batch.
        return MatMul()(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(a.shape[:-1] + b.shape[1:])
    return MatMul()(a, b)


class MatMul(Function):
    def forward(self, a, b):
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"the {a.shape[-1]} columns of the first do not meet the {b.shape[-2]} rows of the second")
        return products.matmul(a, b)

    def backward(self, gradient):
        a, b = self.inputs
        return (
            sum_to(MatMul()(gradient, _swap(b)), a.shape) if a.requires_grad else None,
            sum_to(MatMul()(_swap(a), gradient), b.shape) if b.requires_grad else None,
        )


def _swap(x: Tensor) -> Tensor:
    return x.transpose(*range(x.ndim - 2), -1, -2)
