"""From the arguments that people write (`stride=2, padding=(1, 2)`) to a `Window`, with the errors that say what was wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.dtypes import is_bfloat16, is_floating
from minidl.kernels.window import Pair, Window
from minidl.tensor import Tensor

IntOrPair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def pair(operation: str, name: str, value: Any, least: int) -> Pair:
    """An int or (vertical, horizontal) as a pair of ints. Raises ValueError unless both are at least `least`."""
    values = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(values, (tuple, list))
        or len(values) != 2
        or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < least for v in values)
    ):
        raise ValueError(f"{operation}: {name} must be an int of at least {least} or a pair of them, got {value!r}")
    return int(values[0]), int(values[1])


def padding_pairs(operation: str, value: Any) -> tuple[Pair, Pair]:
    """An int, (vertical, horizontal) or ((top, bottom), (left, right)) as the last of these."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, (tuple, list)) for v in value):
        return pair(operation, "padding (top, bottom)", value[0], 0), pair(operation, "padding (left, right)", value[1], 0)
    vertical, horizontal = pair(operation, "padding", value, 0)
    return (vertical, vertical), (horizontal, horizontal)


def check_images(operation: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless x is a floating-point Tensor (N, H, W, C)."""
    check_floating(operation, x)
    if x.ndim != 4:
        raise ValueError(
            f"{operation}: x must have 4 axes (N, H, W, C), got shape {x.shape}"
            + ("; a single image becomes a batch with x.reshape(1, *x.shape)" if x.ndim == 3 else "")
        )


def check_floating(operation: str, x: Any) -> None:
    """Raise TypeError unless x is a floating-point Tensor; its shape does not matter."""
    check_tensor(operation, "x", x)
    if not is_floating(x.dtype):
        raise TypeError(
            f"{operation}: x must be floating point, got {x.dtype} of shape {x.shape}; convert with .astype('float32')"
        )


def check_tensor(operation: str, name: str, value: Any) -> None:
    """Raise TypeError unless the argument `name` is a Tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{operation}: {name} must be a Tensor, got {type(value).__module__}.{type(value).__name__}; wrap it with minidl.Tensor"
        )


def to_go_with(x: Tensor, parameter: Tensor) -> Tensor:
    """The parameter of a layer, converted to the type of its images `x` if one of the two is bfloat16 and the other is not.

    So a layer computes in the type of its images, while the parameters of the network stay float32 (its "master weights"); through
    the conversion their gradients come back in float32.
    """
    mixed = x.dtype != parameter.dtype and (is_bfloat16(x.dtype) or is_bfloat16(parameter.dtype))
    return parameter.astype(x.dtype) if mixed else parameter


def in_float32(x: Tensor) -> Tensor:
    """x, converted to float32 if it is bfloat16: for probabilities, losses and statistics, for which 8 binary digits are too few."""
    return x.astype("float32") if is_bfloat16(x.dtype) else x


def check_fit(operation: str, window: Window, x: Tensor) -> None:
    """Raise ValueError unless the window has at least one place in the padded images."""
    _, height, width, _ = x.shape
    if min(window.output_size(height, width)) < 1:
        (top, bottom), (left, right) = window.padding
        (eh, ew) = window.extent
        raise ValueError(
            f"{operation}: the window of {eh}x{ew} pixels (kernel {window.kernel}, dilation {window.dilation}) does not fit into x of "
            f"shape {x.shape}, {height + top + bottom}x{width + left + right} with padding; use a smaller kernel or more padding"
        )
