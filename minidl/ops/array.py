"""Joining, choosing, padding and reshaping arrays: `minidl.concatenate`, `stack`, `where`, `pad`, and `flatten`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

from minidl.backend import get_array_module
from minidl.core.shape import sum_to
from minidl.function import Function
from minidl.ops.arguments import check_tensor
from minidl.tensor import Tensor, as_tensor


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The Tensors one after the other along an axis that they already have. Raises ValueError unless their other sizes agree."""
    tensors = _sequence("concatenate", tensors)
    first = tensors[0]
    if not -first.ndim <= axis < first.ndim:
        raise ValueError(f"concatenate: Tensors of shape {first.shape} have no axis {axis}")
    return Concatenate(axis % first.ndim)(*tensors)


class Concatenate(Function):
    keeps_inputs = False

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *arrays):
        return get_array_module(arrays[0]).concatenate(arrays, axis=self.axis)

    def backward(self, gradient):
        ends = list(accumulate(t.shape[self.axis] for t in self.inputs))
        before = (slice(None),) * self.axis
        pieces = [before + (slice(end - t.shape[self.axis], end),) for t, end in zip(self.inputs, ends, strict=True)]
        return tuple(gradient[piece] for piece in pieces)


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The Tensors side by side along a new axis. Raises ValueError unless they have one shape."""
    tensors = _sequence("stack", tensors)
    shape = tensors[0].shape
    if any(t.shape != shape for t in tensors):
        raise ValueError(f"stack: the shapes must be equal, got {[t.shape for t in tensors]}")
    if not -len(shape) - 1 <= axis <= len(shape):
        raise ValueError(f"stack: Tensors of shape {shape} have no place for a new axis {axis}")
    axis %= len(shape) + 1
    return concatenate([t.reshape(*shape[:axis], 1, *shape[axis:]) for t in tensors], axis)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """`a` where `condition` is true, else `b`; the three are broadcast together.

    Raises TypeError unless at least one of a, b is a Tensor and the condition is boolean.
    """
    like = a if isinstance(a, Tensor) else b
    check_tensor("where", "one of a and b", like)
    chosen = as_tensor(condition, like)
    if chosen.dtype.kind != "b":
        raise TypeError(f"where: condition must be boolean, e.g. x > 0; got {chosen.dtype} of shape {chosen.shape}")
    return Where()(chosen, as_tensor(a, like), as_tensor(b, like))


class Where(Function):
    def forward(self, condition, a, b):
        xp = get_array_module(a)
        return xp.where(condition, a, b).astype(xp.result_type(a, b), copy=False)  # CuPy makes bfloat16 float32

    def backward(self, gradient):
        condition, a, b = self.inputs
        return (
            None,
            sum_to(where(condition, gradient, 0.0), a.shape) if a.requires_grad else None,
            sum_to(where(condition, 0.0, gradient), b.shape) if b.requires_grad else None,
        )


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """`x` with widths[i] = (before, after) elements of `value` added along each axis i. Raises ValueError for other `widths`."""
    check_tensor("pad", "x", x)
    sequence = (list, tuple)
    pairs = isinstance(widths, sequence) and all(isinstance(w, sequence) and len(w) == 2 and min(w) >= 0 for w in widths)
    if not pairs or len(widths) != x.ndim:
        raise ValueError(f"pad: x of shape {x.shape} needs {x.ndim} pairs (before, after) of at least 0, got {widths!r}")
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True))
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, widths, strict=True))
    return Pad(shape, inside, value)(x)


class Pad(Function):
    keeps_inputs = False

    def __init__(self, shape: tuple[int, ...], inside: tuple[slice, ...], value: float) -> None:
        self.shape, self.inside, self.value = shape, inside, value

    def forward(self, x):
        padded = get_array_module(x).full(self.shape, self.value, x.dtype)
        padded[self.inside] = x
        return padded

    def backward(self, gradient):
        return gradient[self.inside]


def flatten(x: Tensor, start_axis: int = 1) -> Tensor:
    """All axes from `start_axis` on become one: (N, H, W, C) -> (N, H * W * C)."""
    check_tensor("flatten", "x", x)
    if not 0 <= start_axis < max(1, x.ndim):
        raise ValueError(f"flatten: x of shape {x.shape} has no axis {start_axis}")
    return x.reshape(*x.shape[:start_axis], prod(x.shape[start_axis:]))


def _sequence(operation: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    tensors = tensors if isinstance(tensors, Tensor) else list(tensors)
    if isinstance(tensors, Tensor) or not tensors:
        raise ValueError(f"{operation}: expected a list of at least one Tensor, got {tensors!r}")
    for i, t in enumerate(tensors):
        check_tensor(operation, f"item {i}", t)
    return list(tensors)
