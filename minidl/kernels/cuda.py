"""Our own CUDA kernels, the `.cu` files of this folder: compiled where one is first needed, and launched on CuPy's arrays.

A function of this folder asks whether they are `ready` for its arrays, and if not computes with the operations that NumPy and CuPy
share: on the CPU, of course, but also on a GPU whose CUDA compiler is missing. Those operations say what the kernel has to compute.

A step of AlexNet launches a hundred kernels, and the host has to be ahead of the GPU all the time: hence plain loops, and caches.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in, is_bfloat16
from minidl.kernels.window import Window

REALS = {np.dtype(np.float32), np.dtype(np.float64)}  # and bfloat16, whose package may be missing
BYTE = np.dtype(np.uint8)
THREADS = 256  # in a block: not measured yet
Block = tuple[int, ...]
BLOCKS = 2**31 - 1  # the most that one launch takes; where there is more to do, the kernels loop
VECTOR_BYTES = 16  # the most that one instruction loads or stores

GEOMETRY = np.dtype([(name, np.int32) for name in (
    "images", "height", "width", "channels", "rows", "columns", "kernel_height", "kernel_width",
    "stride_down", "stride_along", "top", "left", "dilation_down", "dilation_along",
)])  # fmt: skip
"""The struct of the same name in kernel.cuh."""


def ready(file: str, *arrays: Array) -> bool:
    """Whether the kernels of `file`.cu can work on `arrays`: they are CuPy's, all float32, all float64 or all bfloat16, and the file
    `compiles`."""
    xp, real = get_array_module(arrays[0]), arrays[0].dtype
    if xp is np or not (real in REALS or is_bfloat16(real)):
        return False
    for a in arrays[1:]:
        if a.dtype != real:
            return False
    return compiles(xp, file, options(real, 1))


def launch(
    file: str, kernel: str, arrays: Sequence[Array], constants: Sequence[Any], over: tuple[int, ...], position: np.dtype = BYTE
) -> None:
    """Run `kernel` of `file`.cu with `arrays`, contiguous ones unless the kernel knows of strides, and `constants` as arguments.

    constants: a float arrives as `Number`, an int as `long long`, a structured array of size 1 as a struct. over: the shape that the
    threads share out among themselves, (rows, columns, channels) for kernels written with `for_each_pixel`, (size,) for those with
    `for_each_element`. position: the kernel's `Position`. Nothing waits for the kernel to end.
    """
    if 0 in over:
        return
    width = vector_width(arrays[0].dtype, over[-1], arrays)
    run(file, kernel, arrays, constants, width, *shares(over, width), position)


def run(
    file: str,
    kernel: str,
    arrays: Sequence[Array],
    constants: Sequence[Any],
    width: int,
    grid: Block,
    block: Block,
    position: np.dtype = BYTE,
) -> None:
    """As `launch`, with blocks of threads as the kernel wants them, each thread with `width` channels."""
    function, number = _function(get_array_module(arrays[0]), file, kernel, arrays[0].dtype, width, position)
    function(grid, block, (*arrays, *[number(c) if isinstance(c, float) else c for c in constants]))


def contiguous(*arrays: Array) -> list[Array]:
    """The arrays, or copies of them, without gaps and in the order of their axes."""
    xp = get_array_module(arrays[0])
    return [xp.ascontiguousarray(a) for a in arrays]


def geometry(window: Window, images: tuple[int, ...], places: tuple[int, ...]) -> np.ndarray:
    """The struct `Geometry` for a window over images (N, H, W, C) with places (N, OH, OW, ...).

    As plain bytes: an array that has the names of the fields takes CuPy ten times as long to pass on.
    """
    (top, _), (left, _) = window.padding
    values = (*images, *places[1:3], *window.kernel, *window.stride, top, left, *window.dilation)
    return np.array(values, GEOMETRY).view(f"V{GEOMETRY.itemsize}")


def pixels(shape: tuple[int, ...], groups: int = 1) -> tuple[int, int, int]:
    """(rows, columns, channels) for an array (..., C), its towers side by side as if they were pixels of their own."""
    columns, channels = groups * (shape[-2] if len(shape) > 2 else 1), shape[-1] // groups
    return prod(shape) // max(1, columns * channels), columns, channels


def vector_width(real: np.dtype, channels: int, arrays: Sequence[Array]) -> int:
    """How many neighbouring channels a thread works on: 16 bytes' worth where all vectors would be aligned, else 1."""
    width = VECTOR_BYTES // real.itemsize
    if channels % width:
        return 1
    for a in arrays:
        vector = width * a.itemsize
        if a.data.ptr % vector:
            return 1
        for step in a.strides[:-1]:
            if step % vector:
                return 1
    return width


def shares(over: tuple[int, ...], width: int) -> tuple[Block, Block]:
    """(grid, block) for `launch`'s `over`: a block for each row or, of elements without shape, for THREADS vectors."""
    vectors = -(-over[-1] // width)
    if len(over) == 1:
        return (min(-(-vectors // THREADS), BLOCKS),), (THREADS,)
    rows, columns, _ = over
    along_channels = min(vectors, THREADS)
    return (min(rows, BLOCKS),), (along_channels, min(columns, THREADS // along_channels))


@cache
def options(real: np.dtype, width: int, position: np.dtype = BYTE) -> tuple[str, ...]:
    """The compiler's options, which define what kernel.cuh leaves open: `Real`, `WIDTH` and, for pooling, `Position`."""
    return ("-std=c++17", f"-DReal={real.name}", f"-DWIDTH={width}", f"-DPosition={position.name}")


@cache
def source(file: str) -> str:
    """The text of `file`.cu with what it includes in place: CuPy keeps compiled kernels on disk by the text that it is given."""
    folder = Path(__file__).parent
    return re.sub(r'#include "(.+)"', lambda line: (folder / line[1]).read_text(), (folder / f"{file}.cu").read_text())


@cache
def _function(xp: ModuleType, file: str, kernel: str, real: np.dtype, width: int, position: np.dtype) -> tuple[Any, type]:
    """The kernel, and the type of its `Number`."""
    module = xp.RawModule(code=source(file), options=options(real, width, position))
    return module.get_function(kernel), computed_in(real).type


@cache
def compiles(xp: ModuleType, file: str, options: tuple[str, ...]) -> bool:
    """Whether `file`.cu compiles here, with these options. If not, a warning says what to do, once for each error."""
    try:
        xp.RawModule(code=source(file), options=options).compile()
    except Exception as error:  # the compiler may be missing, or its headers, or be too old: CuPy has an exception for each
        _warn(xp, str(error).strip())
        return False
    return True


@cache
def _warn(xp: ModuleType, error: str) -> None:
    warnings.warn(
        f"minidl's CUDA kernels cannot be compiled here, so the GPU goes the slower way through CuPy's operations ({error}). "
        'Install the compiler with `python -m pip install "cupy-cuda12x[ctk]"` (cuda13x for CUDA 13).',
        RuntimeWarning,
        stacklevel=4,
    )
