"""Pictures of a run: its curves, the first-layer kernels (figure 3 of the paper), test images with what the network says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minidl.files import replacing

Path = str | os.PathLike[str]


def curves(metrics: Sequence[Mapping[str, float]], classes: int, path: Path) -> None:
    """Loss and error against epochs, training and test. metrics: as `RunFolder.metrics`, one entry an epoch."""
    epochs = [m["epoch"] for m in metrics]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) == 1 else None
    for part, colour in (("train", "tab:blue"), ("test", "tab:orange")):
        left.plot(epochs, [m[f"{part}_loss"] for m in metrics], color=colour, label=part, marker=marker)
        right.plot(epochs, [100 * m[f"{part}_accuracy"] for m in metrics], color=colour, label=part, marker=marker)
    left.axhline(np.log(classes), color="grey", linestyle=":", label=f"guessing: ln {classes} = {np.log(classes):.2f}")
    right.axhline(100 / classes, color="grey", linestyle=":", label=f"guessing: {100 / classes:.3g} %")
    for changed in [m["epoch"] for before, m in pairwise(metrics) if m["lr"] != before["lr"]]:
        for axes in (left, right):
            axes.axvline(changed - 0.5, color="lightgrey", zorder=0)
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    right.set(title=f"Top-1 accuracy, test {100 * metrics[-1]['test_accuracy']:.1f} %", xlabel="epoch", ylabel="%", ylim=(0, 100))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def kernels(weight: np.ndarray, path: Path, towers: int = 1) -> None:
    """The kernels of a first layer as pictures, the towers apart. weight: (KH, KW, 3, C_out).

    All share one scale: mid-grey is 0, and the largest weight of all reaches full black or white.
    """
    kh, kw, channels, count = weight.shape
    if channels != 3 or count % towers:
        raise ValueError(f"kernels: weights of shape {weight.shape} are not {towers} towers of colour kernels (KH, KW, 3, C_out)")
    largest = np.abs(weight).max() or 1.0
    pictures = (0.5 + 0.5 * weight / largest).transpose(3, 0, 1, 2)
    columns = min(16, count // towers)
    rows = -(-(count // towers) // columns)
    figure = Figure(figsize=(0.55 * columns, (0.55 * rows + 0.4) * towers), layout="constrained")
    for tower, axes in enumerate(figure.subplots(towers, 1, squeeze=False)[:, 0]):
        mine = pictures[tower * count // towers : (tower + 1) * count // towers]
        axes.imshow(tiled(mine, columns, fill=1.0), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(
            f"tower {tower + 1}: {len(mine)} kernels of {kh} x {kw}" if towers > 1 else f"{len(mine)} kernels of {kh} x {kw}"
        )
    _save(figure, path)


def tiled(images: np.ndarray, columns: int, fill: float) -> np.ndarray:
    """Images (N, H, W, C) in rows of `columns`, one pixel of `fill` between them."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, c), fill, images.dtype)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + 1), (i % columns) * (w + 1)
        sheet[y : y + h, x : x + w] = image
    return sheet


def contact_sheet(
    images: Sequence[np.ndarray],
    labels: Sequence[int],
    probabilities: np.ndarray,
    classes: Sequence[str],
    path: Path,
    columns: int = 8,
) -> None:
    """Images, each with the network's first guess and its probability: green where right, red with the truth where wrong.

    images: uint8 (H, W, C) each; probabilities: (N, classes).
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.45 * columns, 1.75 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label, p in zip(grid.flat, images, labels, probabilities, strict=False):
        guess = int(p.argmax())
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="grey", vmin=0, vmax=255)
        text = f"{classes[guess]} {p[guess]:.0%}"
        right = guess == label
        caption = text if right else f"{text}\n(is {classes[label]})"
        axes.set_title(caption, fontsize=8, color="tab:green" if right else "tab:red", parse_math=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
