"""`print(nn.summary(model, (224, 224, 3), batch_size=128))`: what every layer makes, holds and costs, and the memory to train it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidl import backend
from minidl.autograd import no_grad
from minidl.nn.memory import Memory, step_memory
from minidl.nn.module import Module, evaluating, observed
from minidl.tensor import Tensor


@dataclass
class LayerSummary:
    """What one layer makes, holds and costs for one item of a batch. `bytes`: its parameters and its output, in single precision."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_accumulates: int
    bytes: int

    @property
    def cells(self) -> list[str]:
        shape = " x ".join(map(str, self.output_shape))
        return [
            self.name,
            self.kind,
            shape,
            *(f"{n:,}" if n else "-" for n in (self.parameters, self.multiply_accumulates, self.bytes)),
        ]


HEADINGS = ["layer", "kind", "output", "parameters", "multiply-accumulates", "bytes"]


@dataclass
class Summary:
    """The layers in the order in which they compute. `parameters`: of all of them; shared ones count once, as in the rows.

    `memory`: of a training step, if a batch size was given.
    """

    layers: list[LayerSummary]
    parameters: int
    memory: Memory | None = None

    @property
    def multiply_accumulates(self) -> int:
        return sum(layer.multiply_accumulates for layer in self.layers)

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)

    def __repr__(self) -> str:
        rows = [HEADINGS, *(layer.cells for layer in self.layers)]
        rows.append(["total", "", "", f"{self.parameters:,}", f"{self.multiply_accumulates:,}", f"{self.bytes:,}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        rule = "-" * len(lines[0])
        memory = [] if self.memory is None else ["", repr(self.memory)]
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *memory])


def summary(model: Module, input_shape: tuple[int, ...], batch_size: int | None = None) -> Summary:
    """A table of the layers of `model` for one input of `input_shape`, without the batch axis: (H, W, C) for images.

    batch_size: also predict the memory of a training step with so many inputs (see `nn.memory`).
    Sends one input of zeros through in evaluation mode, so an input that does not fit gives the layer's own error; the prediction
    sends a few forward and back in training mode. The model is left as it was.
    """
    if not isinstance(input_shape, (tuple, list)) or any(not isinstance(n, (int, np.integer)) or n < 1 for n in input_shape):
        raise ValueError(f"summary: input_shape is the shape of one input, such as (224, 224, 3); got {input_shape!r}")
    if batch_size is not None and (not isinstance(batch_size, (int, np.integer)) or batch_size < 1):
        raise ValueError(f"summary: batch_size must be an int of at least 1, got {batch_size!r}")
    layers: list[LayerSummary] = []
    seen: set[int] = set()

    def note(name: str, layer: Module, result: Tensor) -> None:
        parameters = [p for p in layer.parameters() if id(p) not in seen]
        seen.update(map(id, parameters))
        size = sum(p.size for p in parameters)
        macs = layer.multiply_accumulates(result.shape)
        layers.append(LayerSummary(name, type(layer).__name__, result.shape[1:], size, macs, 4 * (size + result.size)))

    device = next((p.device for p in model.parameters()), backend.get_default_device())
    with evaluating(model), observed(model, note), no_grad():
        model(Tensor(np.zeros((1, *input_shape), np.float32), device=device))
    memory = None if batch_size is None else step_memory(model, tuple(input_shape)).at(batch_size)
    return Summary(layers, sum(p.size for p in model.parameters()), memory)
