"""A convolution with stride s as one with stride 1: every s x s pixels of the image are folded up into the channels of one.

AlexNet's first layer, 11 x 11 over 3 channels with stride 4, becomes 3 x 3 over 48 channels, for which `winograd.py` has a faster
way. The window is filled up with zeros to a multiple of s. Elsewhere this is called "space to depth".
"""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.kernels import parallel, winograd
from minidl.kernels.window import Window


def pays(x: Array, weight: Array, window: Window, groups: int) -> bool:
    """Whether this convolution is done faster folded. x: (N, H, W, C), weight: (KH, KW, C / groups, O)."""
    s, (kh, kw) = window.stride[0], window.kernel
    if get_array_module(x) is not np or groups > 1 or s == 1 or kh != kw or window.stride != (s, s) or window.dilation != (1, 1):
        return False
    (n, _, _, c), o, k = x.shape, weight.shape[3], -(-kh // s)
    rows, columns = window.output_size(*x.shape[1:3])
    images = np.broadcast_to(np.empty((), x.dtype), (n, rows + k - 1, columns + k - 1, s * s * c))  # only shape and dtype count
    weights = np.broadcast_to(np.empty((), weight.dtype), (k, k, s * s * c, o))
    return winograd.pays(images, weights, Window((k, k)), 1)


def fold(x: Array, window: Window) -> tuple[Array, Window]:
    """The images (N, H, W, C) folded, with their padding: (N, rows, columns, s * s * C); and the window that slides over them."""
    n, height, width, c = x.shape
    s, k, (top, _), (left, _) = window.stride[0], -(-window.kernel[0] // window.stride[0]), *window.padding
    rows, columns = (places + k - 1 for places in window.output_size(height, width))
    folded = np.empty((n, rows, columns, s * s * c), x.dtype)

    def copy(images: slice) -> None:
        padded = parallel.scratch("padded", (images.stop - images.start, rows * s, columns * s, c), x.dtype, np)
        padded.fill(0)
        inside = padded[:, top : top + height, left : left + width]  # what no window reaches falls off
        inside[...] = x[images, : inside.shape[1], : inside.shape[2]]
        cells = padded.reshape(-1, rows, s, columns, s, c).transpose(0, 1, 3, 2, 4, 5)
        folded[images].reshape(cells.shape)[...] = cells

    parallel.for_each(copy, parallel.slices(n, folded[:1].nbytes, np), np)
    return folded, Window((k, k))


def fold_weight(weight: Array, s: int) -> Array:
    """(K, K, C, O) -> (k, k, s * s * C, O), k = ceil(K / s), to go with `fold`."""
    size, _, c, o = weight.shape
    k = -(-size // s)
    filled = np.zeros((k * s, k * s, c, o), weight.dtype)
    filled[:size, :size] = weight
    return filled.reshape(k, s, k, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(k, k, s * s * c, o)


def unfold_weight(folded: Array, s: int, size: int) -> Array:
    """The way back, without what the window was filled up with: (k, k, s * s * C, O) -> (size, size, C, O)."""
    k, _, channels, o = folded.shape
    cells = folded.reshape(k, k, s, s, channels // (s * s), o).transpose(0, 2, 1, 3, 4, 5)
    return np.ascontiguousarray(cells.reshape(k * s, k * s, -1, o)[:size, :size])
