"""Pooling over windows of N, H, W, C images, forwards and backwards.

Backwards nothing is scattered: the positions of the window are gone through one by one, and for a fixed position no two windows
meet the same pixel. The sum has a fixed order on every device, also where windows overlap.
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import cuda, parallel
from minidl.kernels.window import Window

# Of x. One position of the window meets a quarter of it or less (stride 2): so larger pieces still fit, and need fewer calls.
CHUNK_BYTES = 4 * parallel.CHUNK_BYTES


def max_pool(x: Array, window: Window) -> tuple[Array, Array]:
    """The maximum of every window, and its position: the first of equal ones, counted row by row, in a byte where that is enough.

    Both results are (N, OH, OW, C). Padding counts as minus infinity. A NaN in a window makes its maximum NaN, and the position is
    that of the last NaN, as in PyTorch.
    """
    xp = get_array_module(x)
    rows, columns = window.output_size(*x.shape[1:3])
    y = xp.empty((x.shape[0], rows, columns, x.shape[3]), x.dtype)
    kh, kw = window.kernel
    position = xp.empty(y.shape, np.uint8 if kh * kw <= 256 else np.uint32)
    if _ready(x, window):
        _launch("max_pool", [x, y, position], window, x, y)
        return y, position
    if is_bfloat16(x.dtype):
        return rounded(max_pool, x, window)

    def pool(images: slice) -> None:
        taps = window.taps(window.padded(x[images], fill=-np.inf), rows, columns)
        best, where = y[images], position[images]
        best[...] = taps[0]
        where[...] = 0
        larger = parallel.scratch("larger", best.shape, bool, xp)
        for k, tap in enumerate(taps[1:], start=1):
            xp.greater(tap, best, out=larger)
            xp.maximum(tap, best, out=best)
            # `larger` is 0 or 1: this is where = k where larger, without a branch; a later maximum has a larger k. Its bytes as
            # numbers, or they would be converted first.
            xp.maximum(where, xp.multiply(larger.view(np.uint8), k, dtype=where.dtype), out=where)
        if best.size and xp.isnan(best.min()):  # no comparison finds a NaN; that there is none is seen in one pass
            for k, tap in enumerate(taps):
                where[xp.isnan(tap)] = k

    parallel.for_each(pool, _pieces(x), xp)
    return y, position


def max_pool_values(x: Array, window: Window) -> Array:
    """The maximum of every window without its position, for when no gradient is wanted: a quarter of the passes of `max_pool`."""
    xp = get_array_module(x)
    if _ready(x, window):
        return max_pool(x, window)[0]
    if is_bfloat16(x.dtype):
        return rounded(max_pool_values, x, window)
    rows, columns = window.output_size(*x.shape[1:3])
    y = xp.empty((x.shape[0], rows, columns, x.shape[3]), x.dtype)

    def pool(images: slice) -> None:
        first, *others = window.taps(window.padded(x[images], fill=-np.inf), rows, columns)
        best = y[images]
        best[...] = first
        for tap in others:
            xp.maximum(tap, best, out=best)

    parallel.for_each(pool, _pieces(x), xp)
    return y


def max_pool_backward(dy: Array, position: Array, window: Window, height: int, width: int) -> Array:
    """Every output's gradient goes to the pixel that was its maximum. Returns (N, height, width, C)."""
    xp = get_array_module(dy)
    n, rows, columns, c = dy.shape
    dx = xp.empty((n, height, width, c), dy.dtype)
    if _ready(dy, window):
        _launch("max_pool_backward", [dy, position, dx], window, dx, dy)
        return dx
    if is_bfloat16(dy.dtype):
        return rounded(max_pool_backward, dy, position, window, height, width)

    def spread(images: slice) -> None:
        image = _padded_zeros(dx[images], window)
        chosen = parallel.scratch("chosen", dy[images].shape, dy.dtype, xp)
        for k, target in enumerate(window.taps(image, rows, columns)):
            xp.multiply(dy[images], position[images] == k, out=chosen)
            target += chosen
        dx[images] = _cropped(image, window, height, width)

    parallel.for_each(spread, _pieces(dx), xp)
    return dx


def max_pool_gather(x: Array, position: Array, window: Window) -> Array:
    """From every window the element at `position`: (N, OH, OW, C). The transpose of `max_pool_backward`."""
    xp = get_array_module(x)
    rows, columns = position.shape[1:3]
    y = xp.zeros(position.shape, x.dtype)
    if _ready(x, window):
        _launch("max_pool_gather", [x, position, y], window, x, y)
        return y
    if is_bfloat16(x.dtype):
        return rounded(max_pool_gather, x, position, window)

    def gather(images: slice) -> None:
        for k, tap in enumerate(window.taps(window.padded(x[images]), rows, columns)):
            y[images] += tap * (position[images] == k)

    parallel.for_each(gather, _pieces(x), xp)
    return y


def sum_pool(x: Array, window: Window) -> Array:
    """The sum over every window, padding counted as 0: (N, OH, OW, C)."""
    xp = get_array_module(x)
    rows, columns = window.output_size(*x.shape[1:3])
    y = xp.empty((x.shape[0], rows, columns, x.shape[3]), x.dtype)
    if _ready(x, window):
        _launch("sum_pool", [x, y], window, x, y)
        return y
    if is_bfloat16(x.dtype):
        return rounded(sum_pool, x, window)

    def pool(images: slice) -> None:
        taps = window.taps(window.padded(x[images]), rows, columns)
        total = y[images]
        total[...] = taps[0]
        for tap in taps[1:]:
            total += tap

    parallel.for_each(pool, _pieces(x), xp)
    return y


def sum_pool_backward(dy: Array, window: Window, height: int, width: int) -> Array:
    """Every output's gradient goes to all pixels of its window. Returns (N, height, width, C)."""
    xp = get_array_module(dy)
    n, rows, columns, c = dy.shape
    dx = xp.empty((n, height, width, c), dy.dtype)
    if _ready(dy, window):
        _launch("sum_pool_backward", [dy, dx], window, dx, dy)
        return dx
    if is_bfloat16(dy.dtype):
        return rounded(sum_pool_backward, dy, window, height, width)

    def spread(images: slice) -> None:
        image = _padded_zeros(dx[images], window)
        for target in window.taps(image, rows, columns):
            target += dy[images]
        dx[images] = _cropped(image, window, height, width)

    parallel.for_each(spread, _pieces(dx), xp)
    return dx


def _ready(x: Array, window: Window) -> bool:
    return window.dilation == (1, 1) and cuda.ready("pooling", x)


def _launch(kernel: str, arrays: list[Array], window: Window, images: Array, places: Array) -> None:
    """Run a kernel of pooling.cu, whose threads share out the array that is written, the last."""
    n, rows, columns, c = arrays[-1].shape
    constants = [cuda.geometry(window, images.shape, places.shape)]
    position = next((a.dtype for a in arrays if a.dtype.kind == "u"), cuda.BYTE)
    cuda.launch("pooling", kernel, cuda.contiguous(*arrays), constants, (n * rows, columns, c), position)


def _pieces(x: Array) -> list[slice]:
    return parallel.slices(len(x), x[:1].nbytes, get_array_module(x), CHUNK_BYTES)


def _padded_zeros(x: Array, window: Window) -> Array:
    n, height, width, c = x.shape
    (top, bottom), (left, right) = window.padding
    image = parallel.scratch("padded", (n, height + top + bottom, width + left + right, c), x.dtype, get_array_module(x))
    image.fill(0)
    return image


def _cropped(image: Array, window: Window, height: int, width: int) -> Array:
    (top, _), (left, _) = window.padding
    return image[:, top : top + height, left : left + width]
