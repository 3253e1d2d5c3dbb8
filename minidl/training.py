"""What every training run does: an epoch of training, a pass of evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import minidl.functional as F
from minidl.autograd import no_grad
from minidl.backend import beside, get_array_module
from minidl.nn.memory import memory_explained
from minidl.nn.module import Module, evaluating, observed
from minidl.optim import Optimizer
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Figures:
    """The figures of one pass: the mean cross-entropy, the share of images whose first guess was right, and the speed."""

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

    def add(self, images: int, loss: float, right: int, seconds: float) -> None:
        """Count one batch; `loss` is the sum of its losses."""
        self.images += images
        self.loss += loss
        self.right += right
        self.seconds += seconds

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
    Raises FloatingPointError, which names the layer where it began, when the loss becomes NaN or infinite; that step is not made.
    Raises MemoryError if a step does not fit on the GPU, with the batch size that would.
    """
    model.train()
    totals = Totals() if totals is None else totals
    clock = time.perf_counter()
    for x, labels in batches:
        with memory_explained(model, x):
            loss, right = _step(model, x, labels, optimizer)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"training diverged after {totals.images} images of this epoch: {first_not_finite(model, x)}. "
                "Try a smaller learning rate"
            )
        now = time.perf_counter()
        totals.add(len(labels), loss * len(labels), right, now - clock)
        clock = now
        if bar is not None:
            mean, share = totals.loss / totals.images, 100 * totals.right / totals.images
            bar.set_postfix_str(f"loss {mean:.3f}, top-1 {share:.1f} %", refresh=False)
            bar.update(len(labels))
    return totals.figures()


def _step(model: Module, x: Tensor, labels: Tensor, optimizer: Optimizer) -> tuple[float, int]:
    """One step on one batch. Returns the mean loss, and how many first guesses were right; if the loss is not finite, the weights stay
    as they are. A function of its own, so that nothing of the batch is alive when the next one comes."""
    optimizer.zero_grad()
    logits = model(x)
    # For NaN `cross_entropy` would raise an error of its own on the CPU. On a GPU it does not look, to save the wait: the loss shows it.
    if logits.device == "cpu" and not _finite(logits):
        return math.nan, 0
    loss = F.cross_entropy(logits, labels)
    right = _right(logits, labels)
    loss.backward()
    value = loss.item()  # the one moment of a step at which a GPU is waited for
    if math.isfinite(value):
        optimizer.step()
    return value, int(right.item())


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of first guesses that are right, as a Tensor."""
    return (logits.argmax(axis=1) == labels).astype(np.int64).sum()


def _finite(tensor: Tensor) -> bool:
    array = tensor.data
    with beside(array):
        return bool(get_array_module(array).isfinite(array).all())


def first_not_finite(model: Module, x: Tensor) -> str:
    """Where NaN or infinity comes from when `x` goes through `model`, in words: the images, a parameter, or the first layer to give
    one."""
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
    """The figures of `model` in evaluation mode, and its probabilities: (N, classes) in the order of `batches`.

    Raises FloatingPointError, which names the layer where it began, when NaN or infinity comes out.
    """
    totals, clock, probabilities = Totals(), time.perf_counter(), []
    with evaluating(model):
        for x, labels in batches:
            logits = model(x)
            if not _finite(logits):
                raise FloatingPointError(f"the network has diverged: {first_not_finite(model, x)}. Try a smaller learning rate")
            loss = F.cross_entropy(logits, labels, reduction="sum").item()
            totals.add(len(labels), loss, int(_right(logits, labels).item()), 0.0)
            probabilities.append(F.softmax(logits).numpy())
    totals.seconds = time.perf_counter() - clock
    return totals.figures(), np.concatenate(probabilities)
