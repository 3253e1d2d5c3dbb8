"""What the machine can do at best: the rate of its matrix product, the rate of copying. And the images that everybody is given."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import data
from minidl.backend import on_device
from minidl.dtypes import PRECISIONS, as_dtype, set_precision
from minidl.kernels import parallel
from minidl.kernels.matmul import matmul


def real_images(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of the package, enlarged, minus their mean, with labels: (count, size, size, 3) float32, (count,).

    Raises ValueError for more than there are.
    """
    train = data.EmbeddedCIFAR10()
    if count > len(train):
        raise ValueError(f"--batch-size {count}: the package has {len(train):,} images; take a batch of so many at most")
    pixels = data.Resize(size)(train.images[:count], np.random.default_rng(0))
    return pixels - pixels.mean(axis=(0, 1, 2)), train.labels[:count]


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=PRECISIONS, help="of products, default: float32 on a CPU, tf32 on a GPU")


def at_least_one(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def chosen_precision(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """That of the options; stops the program where a CPU is asked for what it has not."""
    if options.device == "cpu" and options.precision not in (None, "float32"):
        parser.error(f"--precision {options.precision} is for GPUs; a CPU computes in float32")
    return options.precision or ("float32" if options.device == "cpu" else "tf32")


def matrix_product_rate(device: str, precision: str) -> float:
    """Operations a second (multiplications and additions) of the product of two square matrices.

    On a CPU minidl's own, in which every worker multiplies a piece with BLAS; `a @ b` has one thread where minidl is imported. On a
    GPU cuBLAS's.
    """
    dtype = as_dtype(set_precision(precision))
    with on_device(device) as xp:
        n = 2048 if xp is np else 8192
        a = xp.random.default_rng(0).random((n, n), dtype="float32").astype(dtype, copy=False)
        return 2 * n**3 / _fastest(lambda: matmul(a, a), xp)


def copy_rate(device: str) -> float:
    """Bytes a second, read and written, of copying an array that no cache holds."""
    with on_device(device) as xp:
        a = xp.ones(1 << 26, xp.float32)
        b = xp.empty_like(a)

        def copy(piece: slice) -> None:
            b[piece] = a[piece]

        return 2 * a.nbytes / _fastest(lambda: parallel.for_each(copy, parallel.slices(a.size, a.itemsize, xp, a.nbytes), xp), xp)


def _fastest(task: Callable[[], Any], xp: Any) -> float:
    """The least of seven times in seconds, after one to warm up: a ceiling is what was reached once."""
    times = []
    for _ in range(8):
        start = time.perf_counter()
        task()
        if xp is not np:
            xp.cuda.get_current_stream().synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
