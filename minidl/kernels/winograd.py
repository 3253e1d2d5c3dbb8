"""Convolution with fewer multiplications: Winograd's minimal filtering (Lavin and Gray 2016, after Winograd 1980), on a CPU.

For m x m outputs of a k x k window the sum of products takes m^2 k^2 multiplications for each pair of channels. Seen as the product of
two polynomials, which is known when it is known at m + k - 1 points along each axis, it takes (m + k - 1)^2:

    y = A^T [ (G w G^T) * (B^T d B) ] A          d: a tile of the image, (m + k - 1)^2 pixels; * is element by element

A, G and B evaluate and interpolate polynomials. As rows of flattened tiles they are matrix products themselves, with the Kronecker
squares of A, G, B; and for a fixed point the element-by-element product, summed over the input channels, is one too: (tiles, C) @
(C, O). So everything here is again a copy of patches and products of matrices, with 4 times fewer multiplications for 3 x 3 and 6
times fewer for 5 x 5. The price is rounding: in single precision errors of 2e-6 of the result for 3 x 3 and 5e-6 for 5 x 5, against
3e-7 for the sum of products. For float64, which is asked for where digits count, `convolution.py` keeps to the latter.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import prod
from types import ModuleType

import numpy as np

from minidl.backend import Array
from minidl.kernels import parallel
from minidl.kernels.elementwise import finish
from minidl.kernels.matmul import matmul
from minidl.kernels.sheets import Sheet
from minidl.kernels.window import Window, towers

M = 4  # outputs along an axis of a tile, for windows of 3 and of 5
# As many as needed; infinity comes besides. None of many others tried rounds better.
POINTS = (0, 1, -1, Fraction(1, 2), -2, 2, Fraction(-1, 2))
TILES = 128  # in a piece: enough rows for BLAS, and little enough to stay in the second-level cache
ADVANTAGE = 1.4  # by which multiplications have to be fewer before the smaller products pay


def pays(xp: ModuleType, dtype: np.dtype, images: tuple[int, ...], weight: tuple[int, ...], window: Window, groups: int) -> bool:
    """Whether a convolution of `images` (N, H, W, C) with `weight` (KH, KW, C / groups, O) is done faster here."""
    k, (n, height, width, c), o = window.kernel[0], images, weight[3]
    square = window.kernel == (k, k) and window.stride == window.dilation == (1, 1)
    if xp is not np or dtype != np.float32 or not square or k not in (3, 5):
        return False
    rows, columns = window.output_size(height, width)
    tiles, points = n * -(-rows // M) * -(-columns // M), (M + k - 1) ** 2
    plain = n * rows * columns * k * k * weight[2] * o
    transforms = tiles * points * (points * c + M * M * o) + points * k * k * weight[2] * o
    return plain > ADVANTAGE * (tiles * points * weight[2] * o + transforms)


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool = False) -> Array:
    """x: (N, H, W, C), weight: (K, K, C / groups, O), bias: (O,) or None. Returns (N, OH, OW, O), with `relu` max(., 0) of it."""
    at, g, bt = transforms(window.kernel[0], x.dtype)
    _, _, c, o = weight.shape
    u = matmul(g, weight.reshape(-1, c * o)).reshape(-1, c, o)
    y = np.empty((len(x), *window.output_size(*x.shape[1:3]), o), x.dtype)

    def convolve(piece: tuple[slice, Sheet]) -> None:
        images, sheet = piece
        v = _product("points", bt, sheet.cut_images(x[images]), x.shape[3])
        products = parallel.scratch("products", (*v.shape[:2], o), x.dtype, np)
        for inputs, outputs in towers(x.shape[3], o, groups):
            np.matmul(v[..., inputs], u[..., outputs], out=products[..., outputs])
        target = y[images]
        sheet.join_outputs(_product("joined", at, products, o), target)
        finish(target, bias, relu)

    parallel.for_each(convolve, _pieces(x, window), np)
    return y


def weight_gradient(x: Array, dy: Array, window: Window, groups: int) -> Array:
    """x: (N, H, W, C), dy: (N, OH, OW, O). Returns the gradient of the weights, (K, K, C / groups, O).

    The output is linear in the weights: this is the transpose of each step, from the last to the first.
    """
    k = window.kernel[0]
    at, g, bt = transforms(k, x.dtype)
    c, o = x.shape[3] // groups, dy.shape[3]

    def accumulate(worker: int, pieces) -> Array:
        total = np.empty((len(g), c, o), x.dtype)
        product = parallel.scratch("product", total.shape, x.dtype, np)
        for number, (images, sheet) in enumerate(pieces):
            v = _product("points", bt, sheet.cut_images(x[images]), x.shape[3])
            dproducts = _product("products", at.T, sheet.cut_outputs(dy[images]), o)
            for inputs, outputs in towers(x.shape[3], o, groups):
                target = product if number else total
                np.matmul(v[..., inputs].transpose(0, 2, 1), dproducts[..., outputs], out=target[..., outputs])
            if number:
                total += product
        return total

    totals = parallel.share(accumulate, _pieces(x, window), np)
    total = sum(totals[1:], totals[0])
    return matmul(g.T, total.reshape(len(g), -1)).reshape(k, k, c, o)


def input_gradient(dy: Array, weight: Array, window: Window, groups: int, height: int, width: int) -> Array:
    """dy: (N, OH, OW, O), weight: (K, K, C / groups, O). Returns the gradient of the images, (N, height, width, C).

    The transpose of each step again. It is also a convolution of dy with the weights turned round; but that evaluates dy at all points,
    O channels, where this goes back from the points of the C channels that the images have.
    """
    at, g, bt = transforms(window.kernel[0], dy.dtype)
    _, _, c, o = weight.shape
    u = matmul(g, weight.reshape(-1, c * o)).reshape(-1, c, o)
    dx = np.empty((len(dy), height, width, c * groups), dy.dtype)

    def spread(piece: tuple[slice, Sheet]) -> None:
        images, sheet = piece
        dproducts = _product("products", at.T, sheet.cut_outputs(dy[images]), o)
        dv = parallel.scratch("points", (*dproducts.shape[:2], c * groups), dy.dtype, np)
        for inputs, outputs in towers(c * groups, o, groups):
            np.matmul(dproducts[..., outputs], u[..., outputs].transpose(0, 2, 1), out=dv[..., inputs])
        sheet.join_images(_product("joined", bt.T, dv, c * groups), dx[images])

    parallel.for_each(spread, _pieces(dx, window), np)
    return dx


def workspace(weight: tuple[int, ...]) -> int:
    """About the bytes that a worker has in use for weights of this shape, in single precision: a piece before and after each of the
    transforms, and three times the transformed weights. 0 for windows of other sizes than 3 and 5."""
    k, _, c, o = weight
    points = (M + k - 1) ** 2
    return np.float32().itemsize * points * (4 * TILES * max(c, o) + 3 * c * o) if k in (3, 5) else 0


@cache
def transforms(k: int, dtype: np.dtype) -> tuple[Array, Array, Array]:
    """The Kronecker squares of A^T, G and B^T for a window of k x k: (M^2, P^2), (P^2, k^2), (P^2, P^2), with P = M + k - 1.

    From Toom and Cook: row i of G evaluates the window, a polynomial of k coefficients, at point i; A evaluates one of M
    coefficients; B is the transpose of the interpolation. At infinity a polynomial's value is its leading coefficient.
    """
    count = M + k - 2
    points = [Fraction(p) for p in POINTS[:count]]

    def evaluation(coefficients: int) -> list[list[Fraction]]:
        finite = [[p**power for power in range(coefficients)] for p in points]
        return [*finite, [Fraction(power == coefficients - 1) for power in range(coefficients)]]

    def with_roots(roots: list[Fraction]) -> list[Fraction]:
        polynomial = [Fraction(1)]
        for root in roots:
            shifted = [Fraction(0), *polynomial]
            polynomial = [high - root * low for high, low in zip(shifted, [*polynomial, Fraction(0)], strict=True)]
        return polynomial

    a, g = evaluation(M), evaluation(k)
    b: list[list[Fraction]] = []
    for i, p in enumerate(points):
        others = [q for q in points if q != p]
        b.append([*with_roots(others), Fraction(0)])
        scale = prod(p - q for q in others)
        g[i] = [value / scale for value in g[i]]
    b.append(with_roots(points))

    # What a row of G is multiplied by, the row of B may be divided by: numbers of equal size round best. Powers of two are exact.
    matrices = [np.array(matrix, np.float64) for matrix in (a, g, b)]
    balance = 2.0 ** np.round(np.log2(np.sqrt(np.abs(matrices[2]).sum(axis=1) / np.abs(matrices[1]).sum(axis=1))))
    scaled = matrices[0].T, matrices[1] * balance[:, None], matrices[2] / balance[:, None]
    at, g2, bt = (np.kron(matrix, matrix).astype(dtype) for matrix in scaled)
    return at, g2, bt


def _product(name: str, transform: Array, tiles: Array, channels: int) -> Array:
    """transform @ tiles, whose rows are the pixels or the points of all tiles: (rows, tiles, channels), in scratch memory."""
    tiles = tiles.reshape(transform.shape[1], -1)
    product = parallel.scratch(name, (len(transform), tiles.shape[1]), tiles.dtype, np)
    return np.matmul(transform, tiles, out=product).reshape(len(transform), -1, channels)


def _pieces(x: Array, window: Window) -> list[tuple[slice, Sheet]]:
    """Images whose outputs make about TILES tiles, and at least a piece a worker; those left over have sheets of their own."""
    n, height, width, _ = x.shape
    one, four = Sheet(window, height, width, M), Sheet(window, height, width, M, side=2)
    fewer = prod(four.tiles) < four.images * prod(one.tiles)
    sheet = four if fewer and n >= four.images * parallel.worker_count() else one
    sheets = n // sheet.images
    step = sheet.images * max(1, min(TILES // prod(sheet.tiles), -(-sheets // parallel.worker_count())))
    whole = sheets * sheet.images
    pieces = [(slice(start, min(start + step, whole)), sheet) for start in range(0, whole, step)]
    return [*pieces, (slice(whole, n), one)] if whole < n else pieces
