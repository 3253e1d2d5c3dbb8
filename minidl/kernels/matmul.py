"""Matrix products, spread over our own pool.

BLAS has threads too, but after a product they go on spinning for a while, on the very cores where the pool's workers are to go on.
So every large product is cut into one piece a worker, and BLAS never starts a thread.
"""

from __future__ import annotations

from minidl.backend import Array, get_array_module
from minidl.kernels import parallel

SMALL = 1 << 21  # multiplications below which waking the pool costs more than it saves


def matmul(a: Array, b: Array) -> Array:
    """(..., n, k) @ (..., k, m) with the rules of numpy.matmul."""
    xp = get_array_module(a)
    if a.ndim != 2 or b.ndim != 2 or len(a) * b.size < SMALL:
        return a @ b
    (n, _), m = a.shape, b.shape[1]
    product = xp.empty((n, m), xp.result_type(a, b))

    def rows(piece: slice) -> None:
        xp.matmul(a[piece], b, out=product[piece])

    def columns(piece: slice) -> None:
        xp.matmul(a, b[:, piece], out=product[:, piece])

    parallel.for_each(rows if n > m else columns, parallel.one_a_worker(max(n, m)), xp)
    return product
