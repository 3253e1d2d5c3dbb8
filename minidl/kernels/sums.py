"""Sums. Over all axes but the last, which is what a bias receives, they go in strips, and in strips of their sums.

AlexNet's first layer adds up 387,200 numbers for each channel at 128 images. One after the other, in single precision, they lose three
digits; in strips the error grows like the logarithm. And strips are work for many threads: CuPy's own sum gives each channel to one
block, whose threads use 4 of every 32 bytes that memory delivers. What goes back through a ReLU is added up as it is written.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in, is_bfloat16, is_floating
from minidl.kernels import cuda, parallel
from minidl.kernels.elementwise import relu_backward

STRIP = 128  # rows that NumPy adds up one after the other
BLOCK_STRIP = 1024  # rows that a block of a GPU's threads adds up,
BLOCK_CHANNELS = 32  # and of how many channels: at least the 32 bytes that memory delivers together
BLOCK_THREADS = 256  # as sums.cu has room for; a power of 2


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
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) == 1:
        return rows[0].astype(dtype)  # a copy: a gradient may be one number, seen many times
    return _sum_of_rows(rows, dtype)


def relu_backward_and_sum(y: Array, gradient: Array, dtype: np.dtype) -> tuple[Array, Array]:
    """`relu_backward(y, gradient)`, (..., C), and the same sum of it that `sum_to_last_axis` gives, bit for bit, in one pass."""
    xp, c = get_array_module(y), y.shape[-1]
    by_kernel = cuda.ready("sums", y, gradient)
    if not y.size or y.dtype != gradient.dtype or (is_bfloat16(y.dtype) and not by_kernel):
        dx = relu_backward(y, gradient)
        return dx, sum_to_last_axis(dx, dtype)
    output, source = (a.reshape(-1, c) for a in cuda.contiguous(y, gradient))
    dx = xp.empty(output.shape, y.dtype)
    if by_kernel:
        strips = _strips_by_kernel("relu_backward_strips", output, source, dx)
    else:
        strips = xp.empty((-(-len(output) // STRIP), c), y.dtype)

        def back(piece: slice) -> None:
            rows = slice(piece.start * STRIP, piece.stop * STRIP)  # the last may end sooner
            xp.multiply(source[rows], output[rows] > 0, out=dx[rows])
            strips[piece] = _strips(dx[rows])

        parallel.for_each(back, parallel.some_slices(y, len(strips), xp), xp)
    return dx.reshape(y.shape), _sum_of_rows(strips, dtype)


def _sum_of_rows(rows: Array, dtype: np.dtype) -> Array:
    """rows: (N, C), N at least 1. Returns (C,), by sums of strips, and of the sums of strips, until there is one row."""
    by_kernel = cuda.ready("sums", rows)
    while len(rows) > 1:
        rows = _strips_by_kernel("sum_strips", *cuda.contiguous(rows)) if by_kernel else _strips(rows)
    return rows[0].astype(dtype, copy=False)


def _strips(rows: Array) -> Array:
    """(N, C) -> (ceil(N / STRIP), C); the sums of bfloat16 are float32."""
    xp, whole, wide = get_array_module(rows), len(rows) // STRIP * STRIP, computed_in(rows.dtype)
    if len(rows) <= STRIP:
        return rows.sum(axis=0, keepdims=True, dtype=wide)
    strips = rows[:whole].reshape(-1, STRIP, rows.shape[1]).sum(axis=1, dtype=wide)
    return strips if whole == len(rows) else xp.concatenate([strips, rows[whole:].sum(axis=0, keepdims=True, dtype=wide)])


def _strips_by_kernel(kernel: str, *arrays: Array) -> Array:
    """What a kernel of sums.cu adds up of `arrays`, each (N, C): (ceil(N / BLOCK_STRIP), C)."""
    n, c = arrays[0].shape
    strips = get_array_module(arrays[0]).empty((-(-n // BLOCK_STRIP), c), computed_in(arrays[0].dtype))
    width = cuda.vector_width(arrays[0].dtype, c, [*arrays, strips])
    along = BLOCK_CHANNELS // width
    grid, block = min(len(strips) * -(-c // BLOCK_CHANNELS), cuda.BLOCKS), (along, max(1, BLOCK_THREADS // along))
    cuda.run("sums", kernel, [*arrays, strips], [n, c, BLOCK_STRIP], width, (grid,), block)
    return strips
