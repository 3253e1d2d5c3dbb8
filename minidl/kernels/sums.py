"""Sums. Over all axes but the last, which is what a bias receives, they go in strips, and in strips of their sums.

AlexNet's first layer adds up 387,200 numbers for each channel at 128 images. One after the other, in single precision, they lose three
digits; in strips the error grows like the logarithm. And strips are work for many threads: CuPy's own sum gives each channel to one
block, whose threads use 4 of every 32 bytes that memory delivers.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in, is_bfloat16, is_floating
from minidl.kernels import cuda

STRIP = 128  # rows that are added up one after the other
TOGETHER = 8  # strips to a block of threads


def add_up(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """`x.sum(axes, keepdims=keepdims)`, the many terms of a bias in strips. bfloat16 is added up in float32 and rounded once; integers and
    booleans in the wider type that NumPy takes for them."""
    if x.ndim > 1 and x.size > STRIP * x.shape[-1] and axes == tuple(range(x.ndim - 1)) and is_floating(x.dtype):
        total = sum_to_last_axis(x, x.dtype)
        return total.reshape((1,) * (x.ndim - 1) + total.shape) if keepdims else total
    if is_bfloat16(x.dtype):
        return x.sum(axis=axes, keepdims=keepdims, dtype=np.float32).astype(x.dtype)
    return x.sum(axis=axes, keepdims=keepdims)


def sum_to_last_axis(x: Array, dtype: np.dtype) -> Array:
    """x: (..., C), floating point. Returns (C,) of type `dtype`. The order of additions is fixed; bfloat16 is added up in float32."""
    if not x.size:
        return get_array_module(x).zeros(x.shape[-1:], dtype)
    return sum_of_rows(x.reshape(-1, x.shape[-1]), dtype)


def sum_of_rows(rows: Array, dtype: np.dtype) -> Array:
    """rows: (N, C), N at least 1. Returns (C,), as `sum_to_last_axis` does; so does the sum of the strips' sums, in their order."""
    add = _add_by_kernel if cuda.ready("sums", rows) else add_strips
    while len(rows) > 1:
        rows = add(rows)
    return rows[0].astype(dtype, copy=False)


def add_strips(rows: Array) -> Array:
    """(N, C) -> (ceil(N / STRIP), C), the sums of neighbouring rows; those of bfloat16 are float32."""
    xp, whole, wide = get_array_module(rows), len(rows) // STRIP * STRIP, computed_in(rows.dtype)
    if len(rows) <= STRIP:
        return rows.sum(axis=0, keepdims=True, dtype=wide)
    strips = rows[:whole].reshape(-1, STRIP, rows.shape[1]).sum(axis=1, dtype=wide)
    return strips if whole == len(rows) else xp.concatenate([strips, rows[whole:].sum(axis=0, keepdims=True, dtype=wide)])


def _add_by_kernel(rows: Array) -> Array:
    (rows,) = cuda.contiguous(rows)
    sums = get_array_module(rows).empty((-(-len(rows) // STRIP), rows.shape[1]), computed_in(rows.dtype))
    over = (-(-len(sums) // TOGETHER), TOGETHER, rows.shape[1])
    cuda.launch("sums", "sum_strips", [rows, sums], [*rows.shape, STRIP, TOGETHER], over)
    return sums
