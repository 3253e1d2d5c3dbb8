"""Reduced precision as CuPy 14.2 has it: arrays of bfloat16, and products of float32 whose factors are rounded to TF32.

NumPy's operations on bfloat16 (those of ml_dtypes) are not CuPy's: they add up in bfloat16, leave products of matrices in float32, and
make float32 of a bfloat16 times a Python number. What CuPy does not do at all is refused, or the crash that it would be.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

TF32 = 7  # COMPUTE_TYPE_TF32; 1 is COMPUTE_TYPE_DEFAULT
compute_types = {"float32": 0}


def set_compute_type(dtype: Any, compute_type: int) -> None:
    """`cupy._core.set_compute_type`, for the type and the numbers that are in use."""
    if np.dtype(dtype) != np.float32 or compute_type not in (0, 1, TF32):
        raise ValueError(f"Unknown compute type: {compute_type} for {dtype}")
    compute_types["float32"] = compute_type


core = SimpleNamespace(set_compute_type=set_compute_type)  # `cupy._core`

SUMS = {"sum", "mean", "prod"}
PRODUCTS = {"matmul", "dot", "tensordot", "inner", "outer", "vdot", "einsum", "kron"}
# Functions that have no loop for bfloat16, and those whose loop for it nobody has tried.
NOT_OFFERED = {
    "cumsum",
    "cumprod",
    "clip",
    "var",
    "std",
    "median",
    "sort",
    "argsort",
    "partition",
    "at",
    "accumulate",
    "reduceat",
}


def is_it(array: Any) -> bool:
    return isinstance(array, (np.ndarray, np.generic)) and array.dtype.name == "bfloat16"


def as_cupy_has_it(name: str, function: Callable[..., Any], inside: list[Any]) -> Callable[..., Any]:
    """`function` with what CuPy makes of bfloat16 and TF32 in it: NumPy's function, if there is neither."""
    found = [a for a in inside if is_it(a)]
    matrices = name in ("matmul", "dot") and all(getattr(a, "ndim", 0) == 2 for a in inside[:2])
    if matrices and compute_types["float32"] == TF32 and all(a.dtype == np.float32 for a in inside[:2]):
        return lambda a, b, **named: function(to_tf32(a), to_tf32(b), **named)
    if not found:
        return function
    narrow = found[0].dtype
    if name in NOT_OFFERED:
        raise TypeError(f"cupy.{name}: no loop for bfloat16 (or the stand-in does not offer it)")
    if any(type(a) in (int, float) for a in inside) and function.__class__ is np.ufunc:
        raise TypeError(f"cupy.{name} of bfloat16 and a Python number: NumPy makes float32 of it; say which is meant")
    if name in PRODUCTS:
        if name not in ("matmul", "dot") or not matrices:
            raise SystemError(f"cupy.{name}: bfloat16 in anything but the product of two matrices crashes in CuPy 14")
        if (inside[0].shape[0], inside[1].shape[1]) == (1, 1):
            raise TypeError(f"cupy.{name}: a single number of bfloat16 is added up in bfloat16")
        if len(found) == len(inside[:2]):
            return lambda a, b, **named: _product(function, a, b, narrow, **named)
    if name in SUMS:
        return lambda a, *args, dtype=None, **named: _reduced(function, a, *args, dtype=dtype, **named)
    if name == "where" and len(inside) == 3:
        return lambda condition, a, b: np.asarray(function(condition, a, b)).astype(np.float32)
    return function


def _product(function: Callable[..., Any], a: Any, b: Any, narrow: Any, out: Any = None, **named: Any) -> Any:
    product = function(a.astype(np.float32), b.astype(np.float32), **named).astype(narrow)
    if out is None:
        return product
    out[...] = product
    return out


def _reduced(function: Callable[..., Any], a: Any, *args: Any, dtype: Any, **named: Any) -> Any:
    result = np.asarray(function(a, *args, dtype=np.float32, **named))
    return result.astype(a.dtype if dtype is None else dtype)


def to_tf32(a: Any) -> Any:
    """float32 with 10 binary digits after the point, rounded to the nearest."""
    bits = np.ascontiguousarray(a).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
