"""What a whole training run needs: an epoch of training, a pass of evaluation, and the folder a run leaves behind."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import minidl.functional as F
from minidl.autograd import no_grad
from minidl.data import DataLoader
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Figures:
    """Means over the images of one pass: cross-entropy, share of right first guesses; and its speed."""

    loss: float
    accuracy: float
    images_per_second: float


def train_epoch(
    model: Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: Optimizer, bar: tqdm | None = None
) -> Figures:
    """One pass over `batches` of (images, labels), one step of `optimizer` a batch. `bar` counts the images.

    Raises FloatingPointError at the step whose loss is not finite, before the weights take it up.
    """
    model.train()
    started, images, loss_sum, right = time.perf_counter(), 0, 0.0, 0
    for x, labels in batches:
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        value = loss.item()  # a number, not the Tensor: that would keep its whole graph alive
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} after {images} images of this epoch; try a smaller learning rate")
        loss.backward()
        optimizer.step()
        images += len(labels)
        loss_sum += value * len(labels)
        right += _right(logits, labels)
        if bar is not None:
            bar.set_postfix_str(f"loss {loss_sum / images:.3f}, top-1 {100 * right / images:.1f} %", refresh=False)
            bar.update(len(labels))
    return _figures(images, loss_sum, right, started)


@no_grad()
def evaluate(model: Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Figures, np.ndarray]:
    """The figures of `model` in evaluation mode, and its probabilities: (N, classes) in the order of `batches`."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    started, images, loss_sum, right, probabilities = time.perf_counter(), 0, 0.0, 0, []
    try:
        for x, labels in batches:
            logits = model(x)
            images += len(labels)
            loss_sum += F.cross_entropy(logits, labels, reduction="sum").item()
            right += _right(logits, labels)
            probabilities.append(F.softmax(logits).numpy())
    finally:
        for module, mode in modes:
            module.training = mode
    return _figures(images, loss_sum, right, started), np.concatenate(probabilities)


def _right(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(axis=1) == labels).astype(np.int64).sum().item())


def _figures(images: int, loss_sum: float, right: int, started: float) -> Figures:
    if not images:
        raise ValueError("there was no batch to go through")
    return Figures(loss_sum / images, right / images, images / (time.perf_counter() - started))


class RunFolder:
    """The folder of one run: `config.json`, and `metrics.jsonl` with a line of JSON an epoch.

    Raises FileExistsError rather than write into a folder that already holds something.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any]) -> None:
        self.path = Path(path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(f"{path} already holds something, perhaps an earlier run; choose another folder with --out")
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        self.metrics: list[dict[str, float]] = []

    def log(self, **figures: float) -> None:
        """Add one line to the metrics."""
        self.metrics.append(figures)
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(figures) + "\n")


def fit(
    model: Module, train: DataLoader, test: DataLoader, optimizer: Optimizer, schedule: Any, epochs: int, run: RunFolder
) -> np.ndarray:
    """Train for `epochs`, test after each, and log both; returns the probabilities of the last test.

    schedule: anything with `step()`, called after each epoch. Prints a line an epoch, and at a terminal a bar over the whole run.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    started = time.perf_counter()
    with tqdm(total=epochs * len(train.dataset), unit=" images", disable=None, smoothing=0.05, dynamic_ncols=True) as bar:
        for epoch in range(1, epochs + 1):
            bar.set_description(f"epoch {epoch}/{epochs}")
            rate = optimizer.param_groups[0]["lr"]
            learned = train_epoch(model, train, optimizer, bar)
            tested, probabilities = evaluate(model, test)
            schedule.step()
            seconds = time.perf_counter() - started
            run.log(
                epoch=epoch, lr=rate, train_loss=learned.loss, train_accuracy=learned.accuracy,
                test_loss=tested.loss, test_accuracy=tested.accuracy, images_per_second=learned.images_per_second, seconds=seconds,
            )  # fmt: skip
            bar.write(
                f"epoch {epoch:3d}   train: loss {learned.loss:.3f}, top-1 {learned.accuracy:6.1%}   "
                f"test: loss {tested.loss:.3f}, top-1 {tested.accuracy:6.1%}   {learned.images_per_second:5.0f} images/s   {seconds:4.0f} s"
            )
    return probabilities
