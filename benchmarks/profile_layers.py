"""Where the time of a training step goes, layer by layer.

    python -m benchmarks.profile_layers
    python -m benchmarks.profile_layers --variant torchvision --batch-size 128
    python -m benchmarks.profile_layers --device gpu
    python -m benchmarks.profile_layers --device gpu --precision bf16

Milliseconds are medians. MB and GFLOP: the least that the layer moves and computes, forward and backward (see `counts`). `share`: the
least time for that, at the rates of the machine's own matrix product and of copying, whichever takes longer, divided by the time taken.
It may pass 100 %: minidl's Winograd convolutions multiply less than is counted, and small arrays stay in caches that are faster than
memory. `between`: what belongs to no layer, adding up gradients and the engine itself. A ReLU, which in a step is done in the pass of the
layer before it, is timed apart.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import minidl
import minidl.functional as F
from benchmarks import counts
from benchmarks.ceiling import (
    add_precision,
    at_least_one,
    chosen_precision,
    copy_rate,
    matrix_product_rate,
    real_images,
)
from benchmarks.turns import warn_if_busy
from minidl import Function, Tensor, models, nn, optim
from minidl.autograd import operations_behind
from minidl.backend import on_device
from minidl.dtypes import set_precision
from minidl.nn.module import observed
from minidl.program import main_or_exit

Times = dict[tuple[str, str], float]  # (layer, "forward" or "backward") -> seconds


class Clock:
    """Moments and the seconds between two. On a GPU an event among the launches: nobody waits for the device within a step."""

    def __init__(self, device: str) -> None:
        self.cupy: Any = None
        if device != "cpu":
            import cupy

            self.cupy = cupy

    def now(self) -> Any:
        if self.cupy is None:
            return time.perf_counter()
        event = self.cupy.cuda.Event()
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        if self.cupy is None:
            return end - start
        end.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, end) / 1e3


@contextmanager
def noted(clock: Clock, layer_of: dict[Function, str], note: Callable[[str, Any, Any], None]) -> Iterator[None]:
    """Inside the block `note(layer, start, end)` is called for every operation on the way back; layer_of: its layer."""
    plain = Function.input_gradients

    def timed(node: Function, gradient: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        layer, start = layer_of.get(node, "loss"), clock.now()
        gradients = list(plain(node, gradient))
        note(layer, start, clock.now())
        return iter(gradients)

    with patch.object(Function, "input_gradients", timed):
        yield


def step(model: nn.Module, optimizer: optim.Optimizer, images: Tensor, labels: Tensor, clock: Clock) -> Times:
    """One training step; what the layers do not account for is under "between"."""
    spans: list[tuple[tuple[str, str], Any, Any]] = []
    layer_of: dict[Function, str] = {}
    moment = start = clock.now()

    def computed(name: str, layer: nn.Module, result: Tensor) -> None:
        nonlocal moment
        spans.append(((name, "forward"), moment, clock.now()))
        for node in operations_behind([result]):
            layer_of.setdefault(node, name)
        moment = clock.now()

    with observed(model, computed):
        logits = model(images)
    loss = F.cross_entropy(logits, labels)
    forward_end = clock.now()
    spans.append((("loss", "forward"), moment, forward_end))
    with noted(clock, layer_of, lambda name, *span: spans.append(((name, "backward"), *span))):
        loss.backward()
    backward_end = clock.now()
    optimizer.step()
    optimizer.zero_grad()
    end = clock.now()

    times: Times = defaultdict(float)
    for key, begun, done in spans:
        times[key] += clock.seconds(begun, done)
    for part, begun, done in (("forward", start, forward_end), ("backward", forward_end, backward_end)):
        times["between", part] = clock.seconds(begun, done) - sum(t for (_, p), t in times.items() if p == part)
    times["update", "update"] = clock.seconds(backward_end, end)
    return times


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    add_precision(parser)
    parser.add_argument("--variant", default="paper", choices=list(models.VARIANTS))
    parser.add_argument("--batch-size", type=at_least_one, default=32)
    parser.add_argument("--image-size", type=at_least_one, default=224)
    parser.add_argument("--steps", type=at_least_one, default=9, help="timed steps, after two to warm up")
    options = parser.parse_args(arguments)
    precision = chosen_precision(parser, options)
    warn_if_busy()
    minidl.set_default_device(options.device)
    minidl.manual_seed(0)
    images, labels = map(Tensor, real_images(options.batch_size, options.image_size))
    images = images.astype(set_precision(precision))
    model = models.AlexNet(options.variant, image_size=options.image_size)
    optimizer = optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
    run = partial(step, model, optimizer, images, labels, Clock(options.device))
    with on_device(options.device):  # where the clock's events are
        steps = [run() for _ in range(options.steps + 2)][2:]
    times: Times = defaultdict(float, {key: median(t[key] for t in steps) for key in steps[0]})
    rates = matrix_product_rate(options.device, precision), copy_rate(options.device)
    pixels = f"{options.image_size} x {options.image_size} pixels"
    print(f"{options.variant}, batch {options.batch_size}, {pixels}, {options.device}, {precision}; ", end="")
    print(f"matrix product {rates[0] / 1e9:.0f} GFLOP/s, copying {rates[1] / 1e9:.0f} GB/s\n")
    table(counts.layers(model, options.image_size, options.batch_size, images.dtype.itemsize), counts.update(model), times, rates)


def table(layers: list[counts.Layer], update: counts.Work, times: Times, rates: tuple[float, float]) -> None:
    whole = sum(times.values())
    nothing = counts.Work()
    rows = [(layer.name, " x ".join(map(str, layer.shape)), layer.forward, layer.backward) for layer in layers]
    print(f"{'':23}{'forward':>11}{'':6}{'backward':>11}{'':6}{'both':>9}")
    print(f"{'layer':9}{'output':14}{'ms':>9}{'share':>8}{'ms':>9}{'share':>8}{'ms':>9}{'of step':>9}{'MB':>9}{'GFLOP':>8}")

    def line(name: str, shape: str, parts: list[tuple[float, float]], both: float, work: counts.Work) -> None:
        """parts: (seconds, least seconds), forward and backward."""
        cells = "".join(f"{1e3 * taken:9.1f}{f'{least / taken:.0%}' if least and taken else '':>8}" for taken, least in parts)
        size = f"{work.bytes / 1e6:9.1f}{work.operations / 1e9:8.1f}" if work.bytes else ""
        print(f"{name:9}{shape:14}{cells or ' ' * 34}{1e3 * both:9.1f}{both / whole:9.1%}{size}")

    sums = [(0.0, 0.0), (0.0, 0.0)]
    for name, shape, *works in [*rows, ("loss", "", nothing, nothing), ("between", "", nothing, nothing)]:
        taken = [times[name, part] for part in ("forward", "backward")]
        parts = [(t, work.seconds(*rates)) for t, work in zip(taken, works, strict=True)]
        sums = [(total[0] + part[0], total[1] + part[1]) for total, part in zip(sums, parts, strict=True)]
        line(name, shape, parts, sum(taken), works[0] + works[1])
    line("update", "", [], times["update", "update"], update)
    line("total", "", sums, whole, sum([f + b for _, _, f, b in rows], update))
    least = sums[0][1] + sums[1][1] + update.seconds(*rates)
    print(f"\nAt the rates above the step takes {1e3 * least:.1f} ms at least: {least / whole:.0%} of what it took.")


if __name__ == "__main__":
    main_or_exit(main)
