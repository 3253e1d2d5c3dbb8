"""The operations and the least bytes of a training step, layer by layer, and the time that a GPU's datasheet leaves for them.

    python -m benchmarks.counts
    python -m benchmarks.counts --batch-size 256 --precision bf16

Operations are those of the direct convolutions and of the products, a multiplication with its addition being two: forward, for the
gradient of the input and for the gradient of the weights; the first layer's input needs none. All other layers count as bytes only.

Least bytes: each layer on its own reads and writes each of its arrays once, 4 bytes a number, with bf16 2. Patches, masks and whatever
else an implementation makes besides are not in it, but for the position of each maximum, one byte. A step that computes one layer in the
pass of another moves less.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import chain, product
from math import prod

from benchmarks.ceiling import at_least_one
from minidl import models, nn

# Rates of the datasheets of both boards: tensor cores without sparsity (operations a second; they print twice as much, with); memory
# (bytes).
OPERATIONS = {"tf32": 494.7e12, "bf16": 989.4e12}
BANDWIDTH = {"H100 SXM": 3.35e12, "H200 SXM": 4.8e12}
ITEM = {"tf32": 4, "bf16": 2}  # bytes a number
VIEWS = ("Flatten",)  # layers that move nothing
LOOKS_BACK = (
    "Conv2d",
    "Linear",
    "LocalResponseNorm",
    "LocalResponseNormWithin",
    "ReLU",
)  # backward reads an array of forward again


@dataclass(frozen=True)
class Work:
    operations: float = 0
    bytes: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def seconds(self, rate: float, bandwidth: float) -> float:
        """The least time for it."""
        return max(self.operations / rate, self.bytes / bandwidth)


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    shape: tuple[int, ...]  # of its output, for one image
    forward: Work
    backward: Work


def layers(model: nn.Module, image_size: int, batch: int, item: int = 4) -> list[Layer]:
    """The layers of a network in which each takes the output of the one before. item: bytes of a number, weights included."""
    found: list[Layer] = []
    shape: tuple[int, ...] = (image_size, image_size, 3)
    for row in nn.summary(model, shape).layers:
        x, y, weights = batch * prod(shape), batch * prod(row.output_shape), row.parameters
        shape, first = row.output_shape, not found
        positions = y if row.kind == "MaxPool2d" else 0
        operations = 2 * batch * row.multiply_accumulates
        if row.kind in VIEWS:
            forward = backward = Work()
        else:
            forward = Work(operations, item * (x + y + weights) + positions)
            again = x if row.kind in LOOKS_BACK else 0  # or y, for ReLU: as large
            into_x = 0 if first else x + weights  # its gradient is written, for which the weights are read
            backward = Work(operations * (1 if first else 2), item * (y + again + weights + into_x) + positions)
        found.append(Layer(row.name, row.kind, row.output_shape, forward, backward))
    return found


def update(model: nn.Module) -> Work:
    """SGD with momentum: weights and velocity are read and written, gradients read.

    As many bytes with bf16: weights and velocity stay float32, and of the 4 bytes for the gradient 2 are the weights rounded for the
    next step.
    """
    return Work(0, 5 * 4 * sum(p.size for p in model.parameters()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="*", default=["paper", "torchvision"], choices=list(models.VARIANTS))
    parser.add_argument("--batch-size", type=at_least_one, default=128)
    parser.add_argument("--precision", nargs="*", default=["tf32", "bf16"], choices=list(OPERATIONS))
    options = parser.parse_args(arguments)
    print(f"{'variant':12}{'':6}{'part':10}{'GFLOP':>9}{'MB':>9}" + "".join(f"{name:>18}" for name in BANDWIDTH))
    for variant, precision in product(options.variant, options.precision):
        model = models.AlexNet(variant)
        table = layers(model, model.image_size, options.batch_size, ITEM[precision])
        parts = {
            "forward": [layer.forward for layer in table],
            "backward": [layer.backward for layer in table],
            "update": [update(model)],
        }
        parts["step"] = list(chain.from_iterable(parts.values()))
        for part, works in parts.items():
            total = sum(works, Work())
            # Each layer waits for the one before, so what one leaves idle (arithmetic or memory) the next cannot use.
            floors = [sum(work.seconds(OPERATIONS[precision], bandwidth) for work in works) for bandwidth in BANDWIDTH.values()]
            cells = "".join(f"{1e3 * floor:15.2f} ms" for floor in floors)
            print(f"{variant:12}{precision:6}{part:10}{total.operations / 1e9:9.1f}{total.bytes / 1e6:9.1f}{cells}")


if __name__ == "__main__":
    main()
