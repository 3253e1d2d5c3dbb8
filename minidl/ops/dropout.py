"""Dropout (Hinton et al. 2012; Krizhevsky et al. 2012, section 4.2)."""

from __future__ import annotations

import numpy as np

from minidl import backend
from minidl.function import Function
from minidl.kernels import dropout as kernel
from minidl.ops.arguments import check_floating, in_float32
from minidl.tensor import Tensor, wrap


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inverted: bool = True) -> Tensor:
    """Set every element to 0 with probability `p` while training, so that no unit can rely on another's presence.

    Both scalings give test time the expectation of training time. inverted=True, as is usual today: the survivors are multiplied
    by 1 / (1 - p) in training and nothing happens at test time. inverted=False, as the paper does: nothing in training, and at
    test time all outputs are multiplied by 1 - p.
    x: any shape. Masks come from minidl's random numbers (`minidl.manual_seed`). Raises ValueError unless 0 <= p < 1.
    """
    check_floating("dropout", x)
    check_probability("dropout", p)
    if not training:
        return x if inverted or p == 0 else x * (1 - p)
    if p == 0:
        return x
    if x.device != "cpu":
        return Dropout(p, 1 / (1 - p) if inverted else 1.0, int(backend.generator("cpu").integers(2**63)))(x)
    # Random numbers in steps of 2 ** -24 are fine enough for any p, and cost half as much as those of float64.
    wide = in_float32(x)
    keep = backend.generator("cpu").random(x.shape, dtype=np.float32) >= p
    mask = keep.astype(wide.dtype) if not inverted else np.multiply(keep, 1 / (1 - p), dtype=wide.dtype)
    return (wide * wrap(mask)).astype(x.dtype)


def check_probability(operation: str, p: float) -> None:
    """Raise ValueError unless `p` is a share of units that can be dropped."""
    if isinstance(p, bool) or not 0 <= p < 1:
        raise ValueError(f"{operation}: p is the probability of dropping a unit, at least 0 and less than 1; got {p!r}")


class Dropout(Function):
    """Dropout on a GPU, where passes over memory are what takes time: the kernel draws the mask, and draws it again for the gradient."""

    keeps_inputs = False

    def __init__(self, p: float, scale: float, seed: int) -> None:
        self.p, self.scale, self.seed = p, scale, seed

    def forward(self, x):
        return kernel.dropout(x, self.p, self.scale, self.seed, offset=0)

    def backward(self, gradient):
        return Dropout(self.p, self.scale, self.seed)(gradient)
