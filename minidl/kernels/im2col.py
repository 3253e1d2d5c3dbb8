"""im2col and col2im: a convolution's patches as the rows of a matrix, and the way back.

im2col copies every window of an image into one row, C-contiguous in the order KH, KW, C, so that convolution becomes a matrix
product (Chellapilla, Puri and Simard 2006). col2im is its transpose: it adds every row back to the pixels it came from,
<im2col(x), cols> = <x, col2im(cols)>.
"""

from __future__ import annotations

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import cuda, parallel
from minidl.kernels.window import Window


def im2col(x: Array, window: Window) -> Array:
    """x: (N, H, W, C). Returns (N, OH, OW, KH * KW * C)."""
    xp = get_array_module(x)
    rows, columns = window.output_size(*x.shape[1:3])
    (kh, kw), c = window.kernel, x.shape[3]
    cols = xp.empty((x.shape[0], rows, columns, kh, kw, c), x.dtype)
    if cuda.ready("im2col", x):
        gather(x, cols, window)
        return cols.reshape(x.shape[0], rows, columns, kh * kw * c)

    def copy(piece: slice) -> None:
        cols[piece] = window.view(window.padded(x[piece]), rows, columns)

    parallel.for_each(copy, parallel.slices(len(x), cols[:1].nbytes, xp), xp)
    return cols.reshape(x.shape[0], rows, columns, kh * kw * c)


def col2im(cols: Array, window: Window, height: int, width: int) -> Array:
    """cols: (N, OH, OW, KH * KW * C). Returns (N, height, width, C), each pixel the sum of its places in `cols`.

    Every position in the window is one strided addition in which no pixel occurs twice, so nothing needs to be atomic and the
    order of the sum is fixed.
    """
    xp = get_array_module(cols)
    n, rows, columns, size = cols.shape
    (kh, kw), ((top, bottom), (left, right)) = window.kernel, window.padding
    c = size // (kh * kw)
    if cuda.ready("im2col", cols):
        x = xp.empty((n, height, width, c), cols.dtype)
        constants = [cuda.geometry(window, x.shape, cols.shape)]
        cuda.launch("im2col", "col2im", cuda.contiguous(cols, x), constants, (n * height, width, c))
        return x
    if is_bfloat16(cols.dtype):
        return rounded(col2im, cols, window, height, width)
    image = xp.zeros((n, height + top + bottom, width + left + right, c), cols.dtype)

    def add(piece: slice) -> None:
        sources = cols[piece].reshape(-1, rows, columns, kh * kw, c)
        for k, target in enumerate(window.taps(image[piece], rows, columns)):
            target += sources[:, :, :, k]

    parallel.for_each(add, parallel.slices(n, cols[:1].nbytes, xp), xp)
    return image[:, top : top + height, left : left + width]


def gather(x: Array, cols: Array, window: Window) -> None:
    """im2col by the CUDA kernel into `cols` (N, OH, OW, KH, KW, C). x may be some of an array's channels: no copy is made of it."""
    n, rows, columns, kh, kw, c = cols.shape
    x = x if x.strides[3] == x.itemsize else cuda.contiguous(x)[0]
    constants = [cuda.geometry(window, x.shape, cols.shape), *(stride // x.itemsize for stride in x.strides[:3])]
    cuda.launch("im2col", "im2col", [x, cols], constants, (n * rows * kh, columns * kw, c))
