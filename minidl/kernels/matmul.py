"""Matrix products. A large one is cut into pieces for the workers of our own pool, because BLAS has only one thread (`parallel.py`)."""

from __future__ import annotations

from math import prod
from types import ModuleType

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import parallel

SMALL = 1 << 24  # multiplications below which waking the pool costs more than it saves
STRIP = 512  # rows of a transposed matrix in a piece


def matmul(a: Array, b: Array) -> Array:
    """(..., n, k) @ (..., k, m) with the rules of numpy.matmul."""
    xp = get_array_module(a)
    if is_bfloat16(a.dtype) and is_bfloat16(b.dtype):
        return _bfloat16(a, b, xp)
    if xp is not np or a.ndim != 2 or b.ndim != 2 or a.size * b.shape[1] < SMALL:
        return a @ b
    (n, _), m = a.shape, b.shape[1]
    product = xp.empty((n, m), xp.result_type(a, b))

    def rows(piece: slice) -> None:
        xp.matmul(a[piece], b, out=product[piece])

    def columns(piece: slice) -> None:
        xp.matmul(a, b[:, piece], out=product[:, piece])

    def turned(piece: slice) -> None:
        part = parallel.scratch("turned", (piece.stop - piece.start, n), product.dtype, xp)
        product[:, piece] = xp.matmul(b.T[piece], a.T, out=part).T

    if b.T.flags.c_contiguous and n < m:  # gradient @ weight^T, as its transpose: BLAS reads the rows of the weights as they lie
        parallel.for_each(turned, [slice(start, min(start + STRIP, m)) for start in range(0, m, STRIP)], xp)
    else:
        parallel.for_each(rows if n > m else columns, parallel.one_a_worker(max(n, m)), xp)
    return product


def _bfloat16(a: Array, b: Array, xp: ModuleType) -> Array:
    """A product of bfloat16 matrices: the sums are float32, and rounded once at the end.

    cuBLAS does that by itself. NumPy would take its slowest way, and return float32; CuPy 14 fails for stacks of matrices, and adds
    up in bfloat16 where the result is a single number.
    """
    if a.ndim > 2 and b.ndim == 2:
        return _bfloat16(a.reshape(prod(a.shape[:-1]), a.shape[-1]), b, xp).reshape(*a.shape[:-1], b.shape[1])
    if xp is not np and a.ndim == b.ndim == 2 and (a.shape[0], b.shape[1]) != (1, 1):
        return a @ b
    return rounded(matmul, a, b)
