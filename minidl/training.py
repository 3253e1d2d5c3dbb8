"""What every training run does: an epoch of training, a pass of evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import minidl.functional as F
from minidl.autograd import no_grad
from minidl.backend import get_array_module
from minidl.nn.module import Module, evaluating, observed
from minidl.optim import Optimizer
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Figures:
    """Means over the images of one pass: cross-entropy, share of right first guesses; and its speed."""

    loss: float
    accuracy: float
    images_per_second: float


@dataclass
class Totals:
    """The sums of a pass so far, over images."""

    images: int = 0
    loss: float = 0.0
    right: int = 0
    seconds: float = 0.0

    def add(self, loss_sum: float, logits: Tensor, labels: Tensor) -> None:
        """Count one batch, whose losses sum to `loss_sum`."""
        self.images += len(labels)
        self.loss += loss_sum
        self.right += int((logits.argmax(axis=1) == labels).astype(np.int64).sum().item())

    def figures(self) -> Figures:
        if not self.images:
            raise ValueError("there was no batch to go through")
        return Figures(self.loss / self.images, self.right / self.images, self.images / self.seconds)


def train_epoch(
    model: Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    bar: tqdm | None = None,
    totals: Totals | None = None,
) -> Figures:
    """One pass over `batches` of (images, labels), one step of `optimizer` a batch. `bar` counts the images.

    totals: the sums to go on from, when a part of the pass was done earlier; kept up to date after every step.
    Raises FloatingPointError, which names the layer that saw it first, when NaN or infinity comes out; the weights do not take it up.
    """
    model.train()
    totals = Totals() if totals is None else totals
    clock = time.perf_counter()
    for x, labels in batches:
        optimizer.zero_grad()
        logits = model(x)
        if not _finite(logits):
            raise FloatingPointError(
                f"training diverged after {totals.images} images of this epoch: {first_not_finite(model, x)}. "
                "Try a smaller learning rate"
            )
        loss = F.cross_entropy(logits, labels)
        value = loss.item()  # a number, not the Tensor: that would keep its whole graph alive
        loss.backward()
        optimizer.step()
        totals.add(value * len(labels), logits, labels)
        now = time.perf_counter()
        totals.seconds += now - clock
        clock = now
        if bar is not None:
            mean, share = totals.loss / totals.images, 100 * totals.right / totals.images
            bar.set_postfix_str(f"loss {mean:.3f}, top-1 {share:.1f} %", refresh=False)
            bar.update(len(labels))
    return totals.figures()


def _finite(tensor: Tensor) -> bool:
    return bool(get_array_module(tensor.data).isfinite(tensor.data).all())


def first_not_finite(model: Module, x: Tensor) -> str:
    """Where NaN or infinity comes from when `x` goes through `model`: the images, a parameter, or the first layer to give one."""
    if not _finite(x):
        return "there is NaN or infinity among the images"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"{name} holds NaN or infinity"
    seen: list[str] = []

    def note(name: str, layer: Module, result: Tensor) -> None:
        if not _finite(result):
            seen.append(name)

    with observed(model, note), no_grad():
        model(x)
    return f"layer {seen[0]} was the first to give NaN or infinity" if seen else "the outputs hold NaN or infinity"


@no_grad()
def evaluate(model: Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Figures, np.ndarray]:
    """The figures of `model` in evaluation mode, and its probabilities: (N, classes) in the order of `batches`."""
    totals, clock, probabilities = Totals(), time.perf_counter(), []
    with evaluating(model):
        for x, labels in batches:
            logits = model(x)
            totals.add(F.cross_entropy(logits, labels, reduction="sum").item(), logits, labels)
            probabilities.append(F.softmax(logits).numpy())
    totals.seconds = time.perf_counter() - clock
    return totals.figures(), np.concatenate(probabilities)
