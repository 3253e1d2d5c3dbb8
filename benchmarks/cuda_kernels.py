"""Time each CUDA kernel at the sizes of the 2012 AlexNet, beside CuPy's operations and the fastest that memory allows.

    python -m benchmarks.cuda_kernels
    python -m benchmarks.cuda_kernels --batch-size 256 --dtype bfloat16

`of copy`: the bytes that the kernel must move (every array once), per second, as a share of what copying a large array reaches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.ceiling import at_least_one
from minidl.backend import on_device
from minidl.dtypes import as_dtype
from minidl.kernels import cuda, dropout, elementwise, im2col, lrn, pooling, sums, update
from minidl.kernels.window import Window
from minidl.program import main_or_exit

OVERLAPPING = Window((3, 3), (2, 2))
CONV1, CONV2 = Window((11, 11), (4, 4)), Window((5, 5), padding=((2, 2), (2, 2)))
LRN = 5, 1e-4, 0.75, 2.0, 2  # size, alpha, beta, k, groups

Case = tuple[str, int, Callable[[], Any]]  # name, bytes, what is timed


def cases(n: int, dtype: str, xp: Any) -> Iterator[Case]:
    """One at a time, so that memory holds only what one of them needs."""
    real = as_dtype(dtype)
    item, drawn = real.itemsize, xp.float32 if dtype == "bfloat16" else real

    def array(*shape: int) -> Any:  # zeros would be faster than numbers
        return (xp.random.default_rng(0).random(shape, dtype=drawn) - xp.asarray(0.5, drawn)).astype(real, copy=False)

    x, dy = array(n, 55, 55, 96), array(n, 27, 27, 96)
    _, position = pooling.max_pool(x, OVERLAPPING)
    yield "max_pool", (x.size + dy.size) * item + dy.size, lambda: pooling.max_pool(x, OVERLAPPING)
    yield (
        "max_pool_backward",
        (x.size + dy.size) * item + dy.size,
        lambda: pooling.max_pool_backward(dy, position, OVERLAPPING, 55, 55),
    )
    yield "sum_pool", (x.size + dy.size) * item, lambda: pooling.sum_pool(x, OVERLAPPING)
    yield "sum_pool_backward", (x.size + dy.size) * item, lambda: pooling.sum_pool_backward(dy, OVERLAPPING, 55, 55)
    yield "lrn", 2 * x.nbytes, lambda: lrn.lrn(x, *LRN)
    yield "lrn_backward", 3 * x.nbytes, lambda: lrn.lrn_backward(x, x, *LRN)
    yield "relu", 2 * x.nbytes, lambda: elementwise.relu(x)
    yield "relu_backward", 3 * x.nbytes, lambda: elementwise.relu_backward(x, x)
    yield "sum_to_last_axis", x.nbytes, lambda: sums.sum_to_last_axis(x, x.dtype)
    yield "dropout", 2 * x.nbytes, lambda: dropout.dropout(x, 0.5, 2.0, 1, 0)
    few = min(n, 16)  # as many as the patches of a piece of work
    images, towers = array(few, 227, 227, 3), array(few, 27, 27, 96)
    cols1, cols2 = im2col.im2col(images, CONV1), im2col.im2col(towers[..., :48], CONV2)
    yield "im2col, conv1", images.nbytes + cols1.nbytes, lambda: im2col.im2col(images, CONV1)
    yield "im2col, conv2, a tower", towers.nbytes // 2 + cols2.nbytes, lambda: im2col.im2col(towers[..., :48], CONV2)
    yield "col2im, conv1", images.nbytes + cols1.nbytes, lambda: im2col.col2im(cols1, CONV1, 227, 227)
    yield "col2im, conv2, a tower", towers.nbytes // 2 + cols2.nbytes, lambda: im2col.col2im(cols2, CONV2, 27, 27)
    if dtype == "bfloat16":
        return  # weights are updated in float32
    w, v, s, g = array(9216, 4096), array(9216, 4096), array(9216, 4096) + 1, array(9216, 4096)
    yield "sgd_paper, fc6", 5 * w.nbytes, lambda: update.sgd_paper(w, v, g, 1e-6, 0.9, 5e-4)
    yield "sgd_pytorch, fc6", 5 * w.nbytes, lambda: update.sgd_pytorch(w, v, g, 1e-6, 0.9, 5e-4)
    yield "adam, fc6", 7 * w.nbytes, lambda: update.adam(w, v, s, g, 1e-6, (0.9, 0.999), 1e-8, 0.0, 10)


def seconds(task: Callable[[], Any], xp: Any, repeat: int) -> float:
    """The median of five rounds of `repeat` launches, waiting only at the end of each."""
    rounds = []
    for _ in range(6):
        xp.cuda.Stream.null.synchronize()
        start = time.perf_counter()
        for _ in range(repeat):
            task()
        xp.cuda.Stream.null.synchronize()
        rounds.append((time.perf_counter() - start) / repeat)
    return median(rounds[1:])  # the first compiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=at_least_one, default=128)
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16"], default="float32")
    parser.add_argument("--repeat", type=at_least_one, default=50)
    arguments = parser.parse_args()
    with on_device("gpu") as xp:
        large = xp.ones(1 << 28, xp.uint8)
        copy = 2 * large.nbytes / seconds(large.copy, xp, arguments.repeat)
        print(f"copying: {copy / 1e9:.0f} GB/s, read and written\n")
        print(f"{'kernel':24}{'us':>10}{'GB/s':>8}{'of copy':>9}{'CuPy us':>11}{'ratio':>7}")
        for name, size, task in cases(arguments.batch_size, arguments.dtype, xp):
            ours = seconds(task, xp, arguments.repeat)
            with patch.object(cuda, "ready", lambda *_: False):
                plain = seconds(task, xp, max(1, arguments.repeat // 10))
            rate = size / ours
            print(
                f"{name:24}{ours * 1e6:10.1f}{rate / 1e9:8.0f}{rate / copy:9.0%}{plain * 1e6:11.1f}{plain / ours:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main_or_exit(main)
