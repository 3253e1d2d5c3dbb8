"""Convolution and its two gradients, each a matrix product over patches that are made and used piece by piece.

x: (N, H, W, C). weight: (KH, KW, C / groups, O). y: (N, OH, OW, O). With P = im2col(x), one row a place, the three are

    y = P @ weight            weight gradient = P^T @ dy            dx = col2im(dy @ weight^T)

`*_plain` computes exactly this line, over the whole batch at once. The others cut the batch into pieces: AlexNet's patches of
128 images would take 0.9 GB in the second layer alone, a piece of them fits in a core's cache.
"""

from __future__ import annotations

from math import prod
from types import ModuleType

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import cuda, elementwise, folding, implicit_gemm, parallel, winograd
from minidl.kernels.im2col import col2im, gather, im2col
from minidl.kernels.matmul import matmul
from minidl.kernels.window import Window, towers

Shape = tuple[int, ...]

# A piece of the weight gradient ends in adding a whole KH * KW * C x O matrix: it pays to have more rows between two additions.
GRADIENT_CHUNK_BYTES = 4 * parallel.CHUNK_BYTES


def conv2d_plain(x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool = False) -> Array:
    """The definition: one matrix product a group."""
    xp = get_array_module(x)
    y = xp.concatenate([
        im2col(x[..., inputs], window) @ _matrix(weight, outputs) for inputs, outputs in towers(x.shape[3], weight.shape[3], groups)
    ], axis=-1)  # fmt: skip
    y = y if bias is None else y + bias
    return xp.maximum(y, 0) if relu else y


def weight_gradient_plain(x: Array, dy: Array, window: Window, groups: int) -> Array:
    """The definition: patches, transposed, times the gradient of the output. Returns (KH, KW, C / groups, O)."""
    xp = get_array_module(x)
    c, o = x.shape[3] // groups, dy.shape[3] // groups
    columns = []
    for g in range(groups):
        patches = im2col(x[..., g * c : (g + 1) * c], window)
        columns.append(patches.reshape(-1, patches.shape[3]).T @ dy[..., g * o : (g + 1) * o].reshape(-1, o))
    return xp.concatenate(columns, axis=1).reshape(*window.kernel, c, groups * o)


def input_gradient_plain(dy: Array, weight: Array, window: Window, groups: int, height: int, width: int) -> Array:
    """The definition: every output's gradient goes back to its patch, and patches add up where they overlap."""
    xp = get_array_module(dy)
    pairs = towers(weight.shape[2] * groups, weight.shape[3], groups)
    return xp.concatenate([
        col2im(dy[..., outputs] @ _matrix(weight, outputs).T, window, height, width) for _, outputs in pairs
    ], axis=-1)  # fmt: skip


def faster_way(xp: ModuleType, dtype: np.dtype, images: Shape, weight: Shape, window: Window, groups: int) -> ModuleType | None:
    """Who does a convolution of `images` (N, H, W, C) with `weight` (KH, KW, C / groups, O) faster than the sum of products by patches:
    `winograd` on a CPU, `implicit_gemm` on a GPU, either perhaps after `folding`; or nobody."""
    for way in (winograd, implicit_gemm):
        if way.pays(xp, dtype, images, weight, window, groups):
            return way
    if shapes := folding.folded_shapes(images, weight, window, groups):
        return folding if faster_way(xp, dtype, *shapes, Window((shapes[1][0], shapes[1][1])), 1) else None
    return None


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool = False) -> Array:
    """x: (N, H, W, C), weight: (KH, KW, C / groups, O), bias: (O,) or None. Returns (N, OH, OW, O), with `relu` max(., 0) of it."""
    xp = get_array_module(x)
    if is_bfloat16(x.dtype) and xp is np:
        return rounded(conv2d, x, weight, bias, window, groups, relu)
    way = _way(x, weight, x.shape, weight.shape, window, groups)
    if way is folding:
        folded, unit = folding.fold(x, window)
        return conv2d(folded, folding.fold_weight(weight, window.stride[0]), bias, unit, 1, relu)
    if way:
        return way.conv2d(x, weight, bias, window, groups, relu)
    rows, columns = window.output_size(*x.shape[1:3])
    y = xp.empty((x.shape[0], rows, columns, weight.shape[3]), xp.result_type(x, weight))
    factors = [(inputs, outputs, _matrix(weight, outputs)) for inputs, outputs in towers(x.shape[3], weight.shape[3], groups)]

    def multiply(piece: tuple[slice, slice]) -> None:
        images, band = piece
        image = _image(x[images], window, band)
        target = y[images, band].reshape(-1, y.shape[3])
        for inputs, outputs, matrix in factors:
            xp.matmul(_patches(image[..., inputs], window, band, columns), matrix, out=target[:, outputs])
        if xp is np:
            elementwise.finish(target, bias, relu)

    parallel.for_each(multiply, _pieces(x, weight.shape, rows, columns, parallel.CHUNK_BYTES), xp)
    if xp is not np:  # one kernel for all pieces
        elementwise.finish(y, bias, relu)
    return y


def weight_gradient(x: Array, dy: Array, window: Window, groups: int) -> Array:
    """x: (N, H, W, C), dy: (N, OH, OW, O). Returns the gradient of the weights, (KH, KW, C / groups, O)."""
    xp = get_array_module(x)
    if is_bfloat16(x.dtype) and xp is np:
        return rounded(weight_gradient, x, dy, window, groups)
    _, rows, columns, o = dy.shape
    c = x.shape[3] // groups
    shape = (*window.kernel, c, o)
    way = _way(x, dy, x.shape, shape, window, groups)
    if way is folding:
        folded, unit = folding.fold(x, window)
        return folding.unfold_weight(weight_gradient(folded, dy, unit, 1), window.stride[0], window.kernel[0])
    if way:
        return way.weight_gradient(x, dy, window, groups)
    dtype = xp.result_type(x, dy)
    pairs = towers(x.shape[3], o, groups)

    def accumulate(worker: int, pieces) -> Array:
        total = xp.zeros((window.kernel[0] * window.kernel[1] * c, o), np.float32 if is_bfloat16(dtype) else dtype)
        product = parallel.scratch("product", (total.shape[0], o // groups), dtype, xp)
        for images, band in pieces:
            image = _image(x[images], window, band)
            gradient = dy[images, band].reshape(-1, o)
            for inputs, outputs in pairs:
                patches = _patches(image[..., inputs], window, band, columns)
                xp.matmul(patches.T, gradient[:, outputs], out=product)
                total[:, outputs] += product
        return total

    totals = parallel.share(accumulate, _pieces(x, shape, rows, columns, GRADIENT_CHUNK_BYTES), xp)
    return sum(totals[1:], totals[0]).reshape(shape).astype(dtype, copy=False)


def input_gradient(dy: Array, weight: Array, window: Window, groups: int, height: int, width: int) -> Array:
    """dy: (N, OH, OW, O). Returns the gradient of the input, (N, height, width, C).

    With stride 1 it is a convolution of `dy` with the weights turned by 180 degrees: a gather, where col2im is a scatter. Winograd's
    way has a transpose of its own, which is the faster one where there are more than twice as many outputs (conv2: 10 to 20 %).
    """
    xp, c = get_array_module(dy), weight.shape[2] * groups
    if is_bfloat16(dy.dtype) and xp is np:
        return rounded(input_gradient, dy, weight, window, groups, height, width)
    images = (len(dy), height, width, c)
    if 2 * c < dy.shape[3] and _way(dy, weight, images, weight.shape, window, groups) is winograd:
        return winograd.input_gradient(dy, weight, window, groups, height, width)

    (eh, ew), ((top, _), (left, _)) = window.extent, window.padding
    below, behind = height + top - dy.shape[1], width + left - dy.shape[2]
    if window.stride == (1, 1) and min(eh - 1 - top, ew - 1 - left, below, behind) >= 0:
        back = Window(window.kernel, (1, 1), ((eh - 1 - top, below), (ew - 1 - left, behind)), window.dilation)
        return conv2d(dy, _turned(weight, groups), None, back, groups)

    dx = xp.empty(images, xp.result_type(dy, weight))

    def scatter(images: slice) -> None:
        for inputs, outputs in towers(dx.shape[3], weight.shape[3], groups):
            patches = matmul(dy[images][..., outputs], _matrix(weight, outputs).T)
            dx[images, :, :, inputs] = col2im(patches, window, height, width)

    patch_bytes = dy.shape[1] * dy.shape[2] * weight[..., 0].nbytes
    parallel.for_each(scatter, parallel.slices(len(dy), patch_bytes, xp), xp)
    return dx


def _way(a: Array, b: Array, images: Shape, weight: Shape, window: Window, groups: int) -> ModuleType | None:
    """`faster_way` for the two arrays at hand; nobody takes two of different types."""
    return faster_way(get_array_module(a), a.dtype, images, weight, window, groups) if a.dtype == b.dtype else None


def _matrix(weight: Array, outputs: slice) -> Array:
    """The weights of one group as (KH * KW * C / groups, O / groups)."""
    return weight.reshape(-1, weight.shape[3])[:, outputs]


def _turned(weight: Array, groups: int) -> Array:
    """(KH, KW, C / groups, O) -> (KH, KW, O / groups, C): window turned by 180 degrees, input and output exchanged."""
    kh, kw, c, o = weight.shape
    by_group = weight[::-1, ::-1].reshape(kh, kw, c, groups, o // groups)
    return by_group.transpose(0, 1, 4, 3, 2).reshape(kh, kw, o // groups, groups * c)


def _image(x: Array, window: Window, band: slice) -> Array:
    """What `_patches` takes: the padded images, or the images themselves for the CUDA kernel, which reads padding as 0 (and always
    all output rows: `_pieces` makes bands only with NumPy)."""
    return x if cuda.ready("im2col", x) else window.padded(x, rows=band)


def _patches(image: Array, window: Window, band: slice, columns: int) -> Array:
    """im2col of a piece from `_image` into scratch memory: (places, KH * KW * C)."""
    if cuda.ready("im2col", image):
        shape = (len(image), band.stop - band.start, columns, *window.kernel, image.shape[3])
        patches = parallel.scratch("patches", shape, image.dtype, get_array_module(image))
        gather(image, patches, window)
        return patches.reshape(prod(shape[:3]), -1)
    view = window.view(image, band.stop - band.start, columns)
    patches = parallel.scratch("patches", view.shape, image.dtype, get_array_module(image))
    patches[...] = view
    n, r, w = view.shape[:3]
    return patches.reshape(n * r * w, -1)


def _pieces(x: Array, weight: Shape, rows: int, columns: int, chunk_bytes: int) -> list[tuple[slice, slice]]:
    """(images, output rows) whose patches take about `chunk_bytes`: several images, or a band of one that is larger."""
    xp = get_array_module(x)
    row_bytes = columns * prod(weight[:3]) * x.itemsize
    if rows * row_bytes <= chunk_bytes or xp is not np:
        return [(images, slice(0, rows)) for images in parallel.slices(len(x), rows * row_bytes, xp, chunk_bytes)]
    bands = parallel.slices(rows, row_bytes, xp, chunk_bytes)
    return [(slice(n, n + 1), band) for n in range(len(x)) for band in bands]
