"""Dropout with a mask that is drawn twice instead of kept: the random numbers are a function of where they are used.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a counter and a key into four
numbers of 32 bits. Element i has number i % 4 of counter offset + i // 4, so every thread finds its numbers by itself and the way
back finds them again: the gradient of dropout is dropout of the gradient.
"""

from __future__ import annotations

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import cuda

PER_COUNTER = 4  # elements that share one counter


def dropout(x: Array, p: float, scale: float, seed: int, offset: int) -> Array:
    """x * scale where the element's random number in [0, 1) is at least `p`, else 0.

    seed: 0 ... 2 ** 63 - 1, the key. offset: the first counter; the next array's is offset + ceil(x.size / 4).
    """
    xp = get_array_module(x)
    threshold = int(p * 2**32)
    if cuda.ready("dropout", x):
        y = xp.empty(x.shape, x.dtype)
        flat = [a.reshape(-1) for a in cuda.contiguous(x, y)]
        cuda.launch("dropout", "dropout", flat, [x.size, seed, offset, threshold, float(scale)], (x.size,))
        return y
    if is_bfloat16(x.dtype):
        return rounded(dropout, x, p, scale, seed, offset)
    counters = xp.arange(offset, offset - (-x.size // PER_COUNTER), dtype=xp.uint64)
    zeros = xp.zeros_like(counters)
    numbers = philox((counters & 0xFFFFFFFF, counters >> 32, zeros, zeros), (seed & 0xFFFFFFFF, seed >> 32))
    kept = xp.stack(numbers, axis=1).reshape(-1)[: x.size].reshape(x.shape) >= threshold
    return xp.where(kept, x * scale, xp.zeros((), x.dtype))


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Ten rounds over the four words of counters and the two of a key; all arrays hold 32 bits in unsigned integers of 64."""
    (a, b, c, d), (low, high) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ low, right & 0xFFFFFFFF, (left >> 32) ^ d ^ high, left & 0xFFFFFFFF
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d
