"""The optimisers' updates, in place and in pieces: each piece of weight, velocity and gradient passes through the cache once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.kernels import cuda, parallel


def sgd_paper(w: Array, v: Array, g: Array, lr: float, momentum: float, weight_decay: float) -> None:
    """v <- momentum v - weight_decay lr w - lr g;  w <- w + v (Krizhevsky et al. 2012, section 5)."""
    if _ready(w, v, g):
        return _launch("sgd_paper", [w, v, g], lr, momentum, weight_decay * lr)

    def update(w: Array, v: Array, g: Array) -> None:
        v *= momentum
        if weight_decay:
            v -= (weight_decay * lr) * w
        v -= lr * g
        w += v

    _in_pieces(update, w, v, g)


def sgd_pytorch(w: Array, v: Array, g: Array, lr: float, momentum: float, weight_decay: float) -> None:
    """v <- momentum v + g + weight_decay w;  w <- w - lr v."""
    if _ready(w, v, g):
        return _launch("sgd_pytorch", [w, v, g], lr, momentum, weight_decay)

    def update(w: Array, v: Array, g: Array) -> None:
        v *= momentum
        v += g
        if weight_decay:
            v += weight_decay * w
        w -= lr * v

    _in_pieces(update, w, v, g)


def adam(
    w: Array, m: Array, s: Array, g: Array, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, t: int
) -> None:
    """Kingma and Ba 2015, algorithm 1, with the decay added to the gradient: m, s are the moving means of g and g ** 2."""
    xp = get_array_module(w)
    step, root = lr / (1 - betas[0] ** t), (1 - betas[1] ** t) ** 0.5
    if _ready(w, m, s, g):
        return _launch("adam", [w, m, s, g], step, root, betas[0], 1 - betas[0], betas[1], 1 - betas[1], eps, weight_decay)

    def update(w: Array, m: Array, s: Array, g: Array) -> None:
        if weight_decay:
            g = g + weight_decay * w
        m *= betas[0]
        m += (1 - betas[0]) * g
        s *= betas[1]
        s += (1 - betas[1]) * (g * g)
        w -= step * m / (xp.sqrt(s) / root + eps)

    _in_pieces(update, w, m, s, g)


def _ready(*arrays: Array) -> bool:
    # Not in bfloat16, which has too few digits to add a small step to a weight: networks compute in it, optimisers do not.
    return arrays[0].dtype in cuda.REALS and cuda.ready("update", *arrays) and all(a.flags.c_contiguous for a in arrays[:-1])


def _launch(kernel: str, arrays: list[Array], *constants: float) -> None:
    """Run a kernel of update.cu on what it changes, which is contiguous, and the gradient, which need not be."""
    size = arrays[0].size
    flat = [a.reshape(-1) for a in cuda.contiguous(*arrays)]
    cuda.launch("update", kernel, flat, [size, *(float(c) for c in constants)], (size,))


def _in_pieces(update: Callable[..., None], *arrays: Array) -> None:
    """`update` on pieces of all arrays, of which all but the last, the gradient, are written."""
    *written, gradient = arrays
    xp = get_array_module(gradient)
    large = gradient.nbytes >= parallel.CHUNK_BYTES
    if xp is not np or not large or not all(a.flags.c_contiguous for a in written):
        update(*arrays)
        return
    # reshape of a contiguous array is a view, so the pieces are written where they belong; gradients may have any layout.
    flat = [a.reshape(-1) for a in arrays]
    pieces = parallel.slices(gradient.size, gradient.itemsize, xp, parallel.CHUNK_BYTES // 2)
    parallel.for_each(lambda piece: update(*(a[piece] for a in flat)), pieces, xp)
