"""Convolution on a GPU's tensor cores without patches in memory: the host's side of implicit_gemm.cu.

A GPU has the time to gather a patch again for each tile of the product that needs it, and its tensor cores multiply far faster than
patches could be written to memory and read again. Their factors are bfloat16, or float32 rounded to 10 bits of mantissa (TF32), for
which this way is taken only where `set_float32_matmul_precision("high")` allows it. The sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import Array, get_array_module, get_float32_matmul_precision
from minidl.dtypes import is_bfloat16
from minidl.kernels import cuda
from minidl.kernels.window import Window

CAPABILITY = 80  # tensor cores for TF32, and copies behind the threads' back
TILE_N = 128  # as in tiles.cuh, like the next two
STAGES = 3
STEP_BYTES = 128
CORNER_BYTES = 4096  # of shared memory, besides the tiles
WAVES = 2  # of blocks on all multiprocessors, at least, that a weight gradient is cut into
LARGEST = 2**31 - 1  # places and elements are counted in 32 bits


def pays(xp: ModuleType, dtype: np.dtype, images: tuple[int, ...], weight: tuple[int, ...], window: Window, groups: int) -> bool:
    """Whether a convolution of `images` (N, H, W, C) with `weight` (KH, KW, C / groups, O) is done faster here, and can be."""
    chunk = cuda.VECTOR_BYTES // dtype.itemsize
    return (
        xp is not np
        and (is_bfloat16(dtype) or (dtype == np.float32 and get_float32_matmul_precision() == "high"))
        and min(weight) > 0
        and weight[2] % chunk == weight[3] // groups % chunk == 0
        and max(prod(images), prod(weight), images[0] * prod(window.output_size(*images[1:3])) * weight[3]) <= LARGEST
        and int(xp.cuda.Device().compute_capability) >= CAPABILITY
        and cuda.compiles(xp, "implicit_gemm", options(dtype, 128))
    )


def conv2d(x: Array, weight: Array, bias: Array | None, window: Window, groups: int, relu: bool = False) -> Array:
    """x: (N, H, W, C), weight: (KH, KW, C / groups, O), bias: (O,) or None. Returns (N, OH, OW, O), with `relu` max(., 0) of it."""
    xp, o = get_array_module(x), weight.shape[3]
    y = xp.empty((len(x), *window.output_size(*x.shape[1:3]), o), x.dtype)
    if y.size:
        card = _card(xp, xp.cuda.Device().id)
        if bias is not None:
            bytes_of_a_chunk = cuda.VECTOR_BYTES // x.itemsize * np.float32().itemsize
            (bias,) = _in_chunks(bias.astype(np.float32, copy=False), alignment=bytes_of_a_chunk)
        constants = [_geometry(window, x, y, groups), np.int32(o // groups), np.int32(relu)]
        grid = (card.tiles(prod(y.shape[:3]), o // groups), groups)
        _launch(card, "convolve", grid, [*_in_chunks(x, weight), bias, y], constants)
    return y


def weight_gradient(x: Array, dy: Array, window: Window, groups: int) -> Array:
    """x: (N, H, W, C), dy: (N, OH, OW, O). Returns the gradient of the weights, (KH, KW, C / groups, O).

    The sum over all places is cut into shares, so that there is work for all multiprocessors, and these are added up in their order.
    """
    xp, c, o, places = get_array_module(x), x.shape[3] // groups, dy.shape[3], prod(dy.shape[:3])
    dw = xp.empty((*window.kernel, c, o), x.dtype)
    card, depth = _card(xp, xp.cuda.Device().id), STEP_BYTES // x.itemsize
    tiles = card.tiles(prod(dw.shape[:3]), o // groups)
    shares = max(1, WAVES * card.at_once // (tiles * groups))
    share = max(1, -(-places // (shares * depth))) * depth
    parts = xp.empty((-(-places // share), *dw.shape), np.float32)
    if parts.size:
        constants = [_geometry(window, x, dy, groups), np.int32(o // groups), np.int32(share)]
        _launch(card, "weight_gradient", (tiles, groups, len(parts)), [*_in_chunks(x, dy), parts], constants)
    grid, block = cuda.shares((dw.size,), cuda.VECTOR_BYTES // dw.itemsize)
    _function(xp, card, "add_parts", dw.dtype)(grid, block, (parts, dw, dw.size, len(parts)))
    return dw


@dataclass(frozen=True)
class Card:
    """What a GPU has room for: blocks with tiles of 256 rows, for which a quarter fewer bytes have to come out of the L2 cache than for
    those of 128, or two at a time with those."""

    device: int
    tile_m: int
    at_once: int  # blocks

    @property
    def shared_bytes(self) -> int:
        return STAGES * (self.tile_m + TILE_N) * STEP_BYTES

    def tiles(self, rows: int, columns: int) -> int:
        return -(-rows // self.tile_m) * -(-columns // TILE_N)


@cache
def _card(xp: ModuleType, device: int) -> Card:
    has = xp.cuda.Device(device).attributes
    large = Card(device, 256, has["MultiProcessorCount"])
    if large.shared_bytes + CORNER_BYTES <= has["MaxSharedMemoryPerBlockOptin"]:
        return large
    return Card(device, 128, 2 * has["MultiProcessorCount"])


def _in_chunks(*arrays: Array, alignment: int = cuda.VECTOR_BYTES) -> list[Array]:
    """The arrays, or copies of them, without gaps and from an address where a chunk can begin."""
    return [a if a.data.ptr % alignment == 0 else a.copy() for a in cuda.contiguous(*arrays)]


def _geometry(window: Window, x: Array, y: Array, groups: int) -> np.ndarray:
    return cuda.geometry(window, (*x.shape[:3], x.shape[3] // groups), y.shape)


def _launch(card: Card, kernel: str, grid: tuple[int, ...], arrays: list[Array], constants: list[Any]) -> None:
    function = _function(get_array_module(arrays[0]), card, kernel, arrays[0].dtype)
    function(grid, (card.tile_m,), (*arrays, *constants), shared_mem=card.shared_bytes)


def options(dtype: np.dtype, tile_m: int) -> tuple[str, ...]:
    """What tiles.cuh leaves to be said."""
    return (*cuda.options(dtype, cuda.VECTOR_BYTES // dtype.itemsize), f"-DTILE_M={tile_m}")


@cache
def _function(xp: ModuleType, card: Card, kernel: str, dtype: np.dtype) -> Any:
    """The kernel on that GPU, which is told to give it more shared memory than blocks have without asking, and as little of the
    first-level cache as can be: chunks go past it."""
    function = xp.RawModule(code=cuda.source("implicit_gemm"), options=options(dtype, card.tile_m)).get_function(kernel)
    function.max_dynamic_shared_size_bytes = card.shared_bytes
    function.preferred_shared_memory_carveout = 100  # per cent
    return function
