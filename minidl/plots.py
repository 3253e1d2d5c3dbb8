"""Pictures of a run: its curves, the first-layer kernels (figure 3 of the paper), what the network says to images (figure 4).

    python -m minidl.plots RUN [RUN ...]

draws the curves and the kernels of each run anew, and the curves of several runs in one picture.
"""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minidl.checkpoint import load_state
from minidl.evaluation import read_config
from minidl.files import check_length, check_writable, replacing
from minidl.program import main_or_exit
from minidl.run import checkpoints, read_lines

Path = str | os.PathLike[str]
FORMATS = ("png", "jpg", "jpeg", "webp", "svg", "pdf")  # of a picture, by the suffix of its name


def curves(metrics: Sequence[Mapping[str, float]], classes: int, path: Path) -> None:
    """Loss and error against epochs, training and test. metrics: as `Run.metrics`, one entry an epoch."""
    epochs = [m["epoch"] for m in metrics]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    style = _style(epochs)
    for part, colour in (("train", "tab:blue"), ("test", "tab:orange")):
        left.plot(epochs, [m[f"{part}_loss"] for m in metrics], color=colour, label=part, **style)
        right.plot(epochs, [100 * m[f"{part}_accuracy"] for m in metrics], color=colour, label=part, **style)
    left.axhline(np.log(classes), color="grey", linestyle=":", label=f"guessing: ln {classes} = {np.log(classes):.2f}")
    right.axhline(100 / classes, color="grey", linestyle=":", label=f"guessing: {100 / classes:.3g} %")
    for changed in [m["epoch"] for before, m in pairwise(metrics) if m["lr"] != before["lr"]]:
        for axes in (left, right):
            axes.axvline(changed - 0.5, color="lightgrey", zorder=0)
    left.set(title="Loss", ylabel="cross-entropy (nats)")
    right.set(title=f"Top-1 accuracy, test {100 * metrics[-1]['test_accuracy']:.1f} %", ylabel="%")
    _finish(left, right)
    for axes in (left, right):
        axes.legend(frameon=False)
    _save(figure, path)


def compare(runs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Test loss and test error of several runs against epochs. runs: name -> metrics, one entry an epoch."""
    figure = Figure(figsize=(10, 4.4 + 0.2 * len(runs)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, metrics) in enumerate(runs.items()):
        epochs = [m["epoch"] for m in metrics]
        style = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--", **_style(epochs)}
        errors = [100 * (1 - m["test_accuracy"]) for m in metrics]
        left.plot(epochs, [m["test_loss"] for m in metrics], **style)
        right.plot(epochs, errors, label=f"{name}: {errors[-1]:.1f} %, lowest {min(errors):.1f} %".replace("$", r"\$"), **style)
    left.set(title="Test loss", ylabel="cross-entropy (nats)")
    right.set(title="Top-1 test error", ylabel="%")
    _finish(left, right)
    figure.legend(loc="outside lower center", frameon=False)
    _save(figure, path)


def _style(epochs: Sequence[float]) -> dict[str, Any]:
    """A single epoch has no line: it is a point, drawn whole also where it lies on the frame."""
    return {"marker": "o", "clip_on": False} if len(epochs) == 1 else {}


def _finish(losses: Axes, shares: Axes) -> None:
    """Losses from 0 and per cents against epochs, when all of them are drawn; epochs are whole numbers, also if there is one."""
    losses.set_ylim(0, 1.05 * losses.dataLim.ymax or 1)
    shares.set_ylim(0, 100)
    for axes in (losses, shares):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)


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
    classes = [_short(name) for name in classes]
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


def confusion_matrix(probabilities: np.ndarray, labels: Sequence[int] | np.ndarray, classes: Sequence[str], path: Path) -> None:
    """What the images of each class (rows) are taken for (columns), in per cent of the row. probabilities: (N, classes).

    Up to 25 classes are named and have numbers; of more, only the shades are shown.
    """
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (np.asarray(labels), probabilities.argmax(axis=1)), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = len(classes) <= 25
    side = 3 + 0.5 * len(classes) if named else 8
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shades, ax=axes, label="% of the class", shrink=0.8)
    axes.set(title=f"Right: {100 * np.trace(counts) / counts.sum():.1f} %", xlabel="guess", ylabel="class")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    if named:
        names = [_short(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.tick_params(length=0)
        for row, column in np.argwhere(shares >= 0.5):
            shade = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=8, color=shade)
    _save(figure, path)


def five_guesses(
    images: Sequence[np.ndarray],
    labels: Sequence[int] | None,
    probabilities: np.ndarray,
    classes: Sequence[str],
    path: Path,
    columns: int = 4,
) -> None:
    """Images, each above the five most probable labels with bars; the right one is red (figure 4 of the paper, left).

    images: uint8 (H, W, C) each; labels: None if they are not known; probabilities: (N, classes).
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.3 * columns, 3.7 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.2, 1.3] * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (image, p) in enumerate(zip(images, probabilities, strict=True)):
        row, column = divmod(number, columns)
        label = None if labels is None else int(labels[number])
        _show(grid[2 * row, column], image)
        if label is not None:
            grid[2 * row, column].set_title(_short(classes[label]), fontsize=10, parse_math=False)
        _bars(grid[2 * row + 1, column], p, label, classes)
    _save(figure, path)


def _bars(axes: Axes, p: np.ndarray, label: int | None, classes: Sequence[str]) -> None:
    """The five most probable labels, written into their bars."""
    best = np.argsort(-p, kind="stable")[:5]
    axes.barh(range(len(best)), p[best], color=["#f4978e" if i == label else "#a9cce3" for i in best], height=0.86)
    for place, i in enumerate(best):
        axes.text(0.02, place, _short(classes[i]), va="center", fontsize=8, parse_math=False)
        axes.text(1.2, place, f"{p[i]:.0%}", va="center", ha="right", fontsize=8, color="dimgrey", parse_math=False)
    axes.set(xlim=(0, 1.2), ylim=(4.6, -0.6))


def nearest(
    queries: Sequence[np.ndarray],
    neighbours: Sequence[Sequence[np.ndarray]],
    path: Path,
    captions: Sequence[Sequence[str]] | None = None,
) -> None:
    """A row for each query: the image, and then those that are most similar to it (figure 4 of the paper, right).

    All images: uint8 (H, W, C). captions: what is written above each neighbour.
    """
    columns = 1 + max(len(row) for row in neighbours)
    figure = Figure(figsize=(1.5 * columns, (1.75 if captions else 1.5) * len(queries) + 0.25), layout="constrained")
    grid = figure.subplots(len(queries), columns, squeeze=False, width_ratios=[1.25] + [1] * (columns - 1))
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (query, row) in enumerate(zip(queries, neighbours, strict=True)):
        _show(grid[number, 0], query)
        for column, image in enumerate(row):
            _show(grid[number, 1 + column], image)
            if captions:
                grid[number, 1 + column].set_title(_short(captions[number][column]), fontsize=8, parse_math=False)
    _save(figure, path)


def _show(axes: Axes, image: np.ndarray) -> None:
    """One image in a thin frame, for many photographs have a white ground."""
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="grey", vmin=0, vmax=255)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("lightgrey")


def _short(name: str, length: int = 26) -> str:
    return name if len(name) <= length else name[: length - 3] + "..."


def unused(path: Path) -> pathlib.Path:
    """`path`, if there is nothing yet. Raises FileExistsError, so that no picture is lost, OSError if nothing can be written there."""
    if os.path.lexists(path):  # a link to nowhere, too, would be replaced
        raise FileExistsError(f"{path} is already there; choose another name")
    check_writable(pathlib.Path(path).parent)
    check_length(path)
    return pathlib.Path(path)


def unused_picture(path: Path) -> pathlib.Path:
    """The same for a picture. Raises ValueError besides, for a name without the suffix of a format that there is."""
    _format(path)
    return unused(path)


def _format(path: Path) -> str:
    suffix = pathlib.Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ValueError(f"{path}: expected a name that ends in .{', .'.join(FORMATS)}")
    return suffix


def _save(figure: Figure, path: Path) -> None:
    kind = _format(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format=kind)


def read_metrics(run: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl that end an epoch. Raises FileNotFoundError before there is one, ValueError for damage."""
    metrics = [line for line in read_lines(run) if "test_loss" in line]
    if not metrics:
        raise FileNotFoundError(f"{run}: no epoch is complete yet, so there is nothing to draw")
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m minidl.plots", description="Draw runs anew, and compare several.")
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run; its curves.png and kernels.png are drawn anew"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("comparison.png"), metavar="FILE",
                        help="the picture that compares several runs (default: comparison.png)")  # fmt: skip
    options = parser.parse_args()
    configs = {run: read_config(run) for run in options.runs}
    metrics = {run: read_metrics(run) for run in options.runs}
    if len(metrics) > 1:
        unused_picture(options.out)
    for run, config in configs.items():
        curves(metrics[run], len(config["classes"]), run / "curves.png")
        print(run / "curves.png")
        for latest in checkpoints(run)[-1:]:
            weight = load_state(latest)[0].get("model.conv1.weight")
            if weight is not None:
                one = config.get("recipe", {}).get("variant", "torchvision") == "torchvision"
                kernels(weight, run / "kernels.png", towers=1 if one else 2)
                print(run / "kernels.png")
    if len(metrics) > 1:
        compare({str(run): lines for run, lines in metrics.items()}, options.out)
        print(options.out)


if __name__ == "__main__":
    main_or_exit(main)
