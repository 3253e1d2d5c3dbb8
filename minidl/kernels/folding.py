"""A convolution with stride s as one with stride 1: every s x s pixels of the image become the channels of a single pixel.

AlexNet's first layer, 11 x 11 over 3 channels with stride 4, becomes 3 x 3 over 48 channels, for which there are faster ways: on a
CPU `winograd.py`; on a GPU `implicit_gemm.py`, which takes 16 bytes of channels at a time and so cannot take 3. The window is filled
up with zeros to a multiple of s. Elsewhere this is called "space to depth".
"""

from __future__ import annotations

from minidl.backend import Array, get_array_module
from minidl.kernels import cuda, parallel
from minidl.kernels.im2col import gather
from minidl.kernels.window import Window

Shape = tuple[int, ...]


def folded_shapes(images: Shape, weight: Shape, window: Window, groups: int) -> tuple[Shape, Shape] | None:
    """The shapes (N, H, W, C) and (K, K, C, O) after folding, or None for a convolution that cannot be folded."""
    s, (kh, kw) = window.stride[0], window.kernel
    if groups > 1 or s == 1 or kh != kw or window.stride != (s, s) or window.dilation != (1, 1):
        return None
    k, (rows, columns) = -(-kh // s), window.output_size(*images[1:3])
    channels = s * s * images[3]
    return (images[0], rows + k - 1, columns + k - 1, channels), (k, k, channels, weight[3])


def fold(x: Array, window: Window) -> tuple[Array, Window]:
    """The images (N, H, W, C) folded, with their padding: (N, rows, columns, s * s * C); and the window that slides over them."""
    n, height, width, c = x.shape
    s, k, (top, _), (left, _) = window.stride[0], -(-window.kernel[0] // window.stride[0]), *window.padding
    rows, columns = (places + k - 1 for places in window.output_size(height, width))
    xp = get_array_module(x)
    y = xp.empty((n, rows, columns, s * s * c), x.dtype)
    if cuda.ready("im2col", x):  # cells are the patches of an s x s window with stride s
        gather(x, y.reshape(n, rows, columns, s, s, c), Window((s, s), (s, s), window.padding))
        return y, Window((k, k))

    def copy(images: slice) -> None:
        padded = parallel.scratch("padded", (images.stop - images.start, rows * s, columns * s, c), x.dtype, xp)
        padded.fill(0)
        inside = padded[:, top : top + height, left : left + width]  # smaller than the image where no window reaches its end
        inside[...] = x[images, : inside.shape[1], : inside.shape[2]]
        cells = padded.reshape(-1, rows, s, columns, s, c).transpose(0, 1, 3, 2, 4, 5)
        y[images].reshape(cells.shape)[...] = cells

    parallel.for_each(copy, parallel.slices(n, y[:1].nbytes, xp), xp)
    return y, Window((k, k))


def fold_weight(weight: Array, s: int) -> Array:
    """(K, K, C, O) -> (k, k, s * s * C, O), k = ceil(K / s), to go with `fold`."""
    size, _, c, o = weight.shape
    k = -(-size // s)
    filled = get_array_module(weight).zeros((k * s, k * s, c, o), weight.dtype)
    filled[:size, :size] = weight
    return filled.reshape(k, s, k, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(k, k, s * s * c, o)


def unfold_weight(folded: Array, s: int, size: int) -> Array:
    """The way back from `fold_weight`: (k, k, s * s * C, O) -> (size, size, C, O), without the part that was filled with zeros."""
    k, _, channels, o = folded.shape
    cells = folded.reshape(k, k, s, s, channels // (s * s), o).transpose(0, 2, 1, 3, 4, 5)
    return get_array_module(folded).ascontiguousarray(cells.reshape(k * s, k * s, -1, o)[:size, :size])
