"""Initial values, written into a Tensor: `init.normal_(layer.weight, std=0.01)`. Random ones follow `minidl.manual_seed`.

Weights are (in, out) or (KH, KW, C_in / groups, C_out). fan_in, the number of inputs that one output sums over, is the product of
all axes but the last; fan_out is KH * KW * C_out.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from minidl import backend
from minidl.tensor import Tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed values."""
    with backend.on_device(tensor.device):
        tensor.data = backend.generator(tensor.device).standard_normal(tensor.shape, dtype=np.float32) * std + mean
    return tensor


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniformly distributed values between `low` and `high`."""
    with backend.on_device(tensor.device):
        tensor.data = backend.generator(tensor.device).random(tensor.shape, dtype=np.float32) * (high - low) + low
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """The same value everywhere."""
    with backend.on_device(tensor.device) as xp:
        tensor.data = xp.full(tensor.shape, value, tensor.dtype)
    return tensor


def kaiming_normal_(tensor: Tensor) -> Tensor:
    """N(0, sqrt(2 / fan_in)): keeps the size of signals through ReLU layers (He et al. 2015, equation 10)."""
    return normal_(tensor, std=sqrt(2 / _fans(tensor)[0]))


def kaiming_uniform_(tensor: Tensor) -> Tensor:
    """Uniform with the same standard deviation as `kaiming_normal_`."""
    bound = sqrt(6 / _fans(tensor)[0])
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor) -> Tensor:
    """N(0, sqrt(2 / (fan_in + fan_out))), for tanh layers (Glorot and Bengio 2010, section 4.2.1)."""
    return normal_(tensor, std=sqrt(2 / sum(_fans(tensor))))


def xavier_uniform_(tensor: Tensor) -> Tensor:
    """Uniform with the same standard deviation as `xavier_normal_` (Glorot and Bengio 2010, equation 16)."""
    bound = sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)


def default_(weight: Tensor, bias: Tensor | None = None) -> None:
    """What layers start with, the same as PyTorch's: uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in)."""
    bound = 1 / sqrt(_fans(weight)[0])
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)


def _fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out). Raises ValueError for a Tensor that has none."""
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise ValueError(
            f"init: a Tensor of shape {tensor.shape} has no fan_in; it takes weights of at least 2 axes, none of them 0"
        )
    return prod(tensor.shape[:-1]), prod(tensor.shape[:-2]) * tensor.shape[-1]
