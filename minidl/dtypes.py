"""The types of numbers: which are floating point, and bfloat16, which NumPy does not have by itself.

bfloat16 is the upper half of a float32: the same range, but 8 binary digits instead of 24. It takes half the memory, and a GPU's
tensor cores multiply it many times as fast; but 8 digits are too few to add up in. So the terms of a sum or a product are bfloat16,
they are added in float32, and the result is rounded once. The type comes from the package `ml_dtypes`; NumPy gives it the kind "V".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.backend import Array, set_float32_matmul_precision

PRECISIONS = ("float32", "tf32", "bf16")
"""Of products on a GPU: see `set_precision`."""


def is_floating(dtype: np.dtype) -> bool:
    """Whether Tensors of `dtype` can have gradients: float16, float32, float64, bfloat16."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_bfloat16(dtype: np.dtype) -> bool:
    return dtype.kind == "V" and dtype.type.__name__ == "bfloat16"  # dtype.name takes ten times as long


def computed_in(dtype: np.dtype) -> np.dtype:
    """The type in which numbers of `dtype` are added up: float32 for bfloat16, else `dtype` itself."""
    return np.dtype(np.float32) if is_bfloat16(dtype) else dtype


def as_dtype(dtype: Any) -> np.dtype:
    """`numpy.dtype(dtype)` that also knows "bfloat16".

    Raises RuntimeError if the package for that is missing, TypeError for what is no type of real numbers.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            import ml_dtypes  # optional: NumPy needs it for nothing else
        except ImportError as error:
            raise RuntimeError(
                f"bfloat16 needs the package ml_dtypes, which cannot be imported here ({error}). Install it with "
                "`python -m pip install ml_dtypes`"
            ) from error
        return np.dtype(ml_dtypes.bfloat16)
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not (found.kind in "iub" or is_floating(found)):
        raise TypeError(f'dtype: expected a type of real numbers, such as "float32", "bfloat16" or "int64", got {dtype!r}')
    return found


def set_precision(precision: str) -> str:
    """Set how a GPU multiplies, to one of `PRECISIONS`, and return the name of the type that images are to have with it.

    "float32": throughout. "tf32": products round their factors to 10 binary digits after the point. "bf16": the images are bfloat16,
    and so are activations and gradients, because layers compute in the type of their images. Raises RuntimeError if the package for
    bfloat16 is missing, ValueError for any other name.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    dtype = as_dtype("bfloat16" if precision == "bf16" else "float32")
    set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    return dtype.name


def rounded(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` for bfloat16 arrays: computed in float32, then every float32 result is rounded to bfloat16, once.

    NumPy's own operations on bfloat16 would round after every step, and are slow.
    """
    results = function(*(_wide(a) for a in arguments))
    return tuple(_narrow(r) for r in results) if isinstance(results, tuple) else _narrow(results)


def _wide(argument: Any) -> Any:
    narrow = hasattr(argument, "dtype") and is_bfloat16(argument.dtype)
    return argument.astype(np.float32) if narrow else argument


def _narrow(result: Array) -> Array:
    return result.astype(as_dtype("bfloat16")) if result.dtype == np.float32 else result
