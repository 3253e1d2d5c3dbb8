"""Each convolution of AlexNet and its two gradients, by the way that minidl takes and by the sum of products over patches.

    python -m benchmarks.convolutions
    python -m benchmarks.convolutions --variant torchvision --batch-size 128
    python -m benchmarks.convolutions --device gpu --batch-size 128 1024
    python -m benchmarks.convolutions --device gpu --precision bf16

The faster way is Winograd's on a CPU, implicit_gemm.cu on a GPU. `share`: of the machine's matrix product, what it reaches with the
operations of the direct convolution. `patches / it`: how many times as long the patches take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.ceiling import add_precision, at_least_one, chosen_precision, matrix_product_rate
from benchmarks.turns import warn_if_busy
from minidl import models, nn
from minidl.backend import on_device
from minidl.dtypes import as_dtype, set_precision
from minidl.kernels import convolution
from minidl.kernels.window import Window
from minidl.ops.arguments import padding_pairs, pair
from minidl.program import main_or_exit

ROUNDS = 7  # of each way, taking turns, after one to warm up


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument("--variant", nargs="*", default=["paper", "torchvision"], choices=["paper", "torchvision"])
    parser.add_argument("--batch-size", nargs="*", type=at_least_one, default=[], help="default: 32, on a GPU 128")
    parser.add_argument("--image-size", type=at_least_one, default=224)
    add_precision(parser)
    options = parser.parse_args(arguments)
    precision = chosen_precision(parser, options)
    warn_if_busy()
    rate = matrix_product_rate(options.device, precision)
    print(f"matrix product in {precision}: {rate / 1e12:.3g} TFLOP/s\n")
    print(f"{'variant':12}{'batch':>6}  {'layer':7}{'product':17}{'ms':>9}{'TFLOP/s':>10}{'share':>7}{'patches / it':>14}")
    with on_device(options.device) as xp:
        dtype = as_dtype(set_precision(precision))
        for variant in options.variant:
            for batch in options.batch_size or [32 if options.device == "cpu" else 128]:
                model = models.AlexNet(variant, image_size=options.image_size)
                for name, product, operations, task in products(model, options.image_size, batch, dtype, xp):
                    ours, patches = by_turns(task, xp)
                    speed = operations / ours
                    print(
                        f"{variant:12}{batch:6}  {name:7}{product:17}{1e3 * ours:9.3f}{speed / 1e12:10.3g}{speed / rate:7.0%}"
                        f"{patches / ours:14.2f}",
                        flush=True,
                    )


def products(model: nn.Module, size: int, n: int, dtype: Any, xp: Any) -> Iterator[tuple[str, str, int, Callable[[], Any]]]:
    """(layer, product, operations, what computes it) for the convolutions of a network in which each layer takes the output of the
    one before."""
    random = xp.random.default_rng(0)

    def array(*shape: int) -> Any:
        return random.standard_normal(shape, dtype="float32").astype(dtype, copy=False)

    layers = dict(model.named_modules())
    shape: tuple[int, ...] = (size, size, 3)
    for row in nn.summary(model, shape).layers:
        layer = layers[row.name]
        if isinstance(layer, nn.Conv2d):
            padding = padding_pairs("conv2d", layer.padding)
            window = Window(layer.kernel_size, pair("conv2d", "stride", layer.stride, 1), padding)
            x, weight, dy = array(n, *shape), array(*layer.weight.shape), array(n, *row.output_shape)
            name, operations = row.name.rpartition(".")[2], 2 * prod(dy.shape) * prod(weight.shape[:3])
            yield name, "forward", operations, partial(convolution.conv2d, x, weight, None, window, layer.groups)
            yield name, "weight gradient", operations, partial(convolution.weight_gradient, x, dy, window, layer.groups)
            if shape[2] > 3:  # nobody asks for the gradient of the images
                task = partial(convolution.input_gradient, dy, weight, window, layer.groups, *shape[:2])
                yield name, "input gradient", operations, task
        shape = row.output_shape


def by_turns(task: Callable[[], Any], xp: Any) -> tuple[float, float]:
    """The medians of the seconds that `task` takes, as it is and with patches."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 + ROUNDS):
        times[0].append(seconds(task, xp))
        with patch.object(convolution, "faster_way", lambda *_: None):
            times[1].append(seconds(task, xp))
    return median(times[0][1:]), median(times[1][1:])


def seconds(task: Callable[[], Any], xp: Any) -> float:
    """Of one; on a GPU of ten, launched one after the other."""
    on_gpu = hasattr(xp, "cuda")
    wait, repeat = (xp.cuda.get_current_stream().synchronize, 10) if on_gpu else (lambda: None, 1)
    wait()
    start = time.perf_counter()
    for _ in range(repeat):
        task()
    wait()
    return (time.perf_counter() - start) / repeat


if __name__ == "__main__":
    main_or_exit(main)
