"""AlexNet trained from packed images as its recipe says, beside the same step on a batch that is there already: is the loader the limit?

    python -m benchmarks.end_to_end
    python -m benchmarks.end_to_end --device gpu --data path/to/packed
    python -m benchmarks.end_to_end --variant program --batch-size 32

The three take turns: the step alone, training with the loader (random pieces, mirrored, mean subtracted, colour noise), the loader
alone. Images a second and shares, medians of the turns. `waiting`: of training, in which the step stands still until the loader gives
a batch. On a CPU the loader's threads also take their time from the cores of the step; on a GPU its transforms are part of the step's time.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import minidl
from benchmarks.ceiling import add_precision, at_least_one, chosen_precision
from benchmarks.turns import medians, warn_if_busy
from minidl import Tensor, data, models, optim
from minidl.backend import on_device
from minidl.data.open import open_data
from minidl.data.packing import pack
from minidl.dtypes import set_precision
from minidl.preparation import loaders, statistics
from minidl.program import main_or_exit
from minidl.recipes import RECIPES, Recipe, optimiser
from minidl.training import Totals, train_epoch

CLASSES = 1000  # of the network, whatever the images are
TURNS = 5  # after one to warm up
STEPS = {"cpu": 4, "gpu": 50}  # of a turn: batches that the loader has ready when the clock starts must not count for much
Batch = tuple[Tensor, Tensor]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="packed images, or whatever examples/train_alexnet.py takes; default: those of the package, enlarged and packed, as many "
        "as are needed",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument("--variant", default="paper", choices=list(RECIPES), help="the network and its recipe (default: paper)")
    parser.add_argument("--batch-size", type=at_least_one, help="default: the recipe's, 128 or 256")
    parser.add_argument("--image-size", type=at_least_one, default=224, help="of the pieces, cut from images of 256/224 the size")
    parser.add_argument(
        "--steps", type=at_least_one, help=f"of each of {TURNS} turns, after one to warm up; default: 4, on a GPU 50"
    )
    add_precision(parser)
    options = parser.parse_args(arguments)

    dtype = set_precision(chosen_precision(parser, options))
    warn_if_busy()
    minidl.set_default_device(options.device)
    minidl.manual_seed(0)
    recipe = RECIPES[options.variant]
    recipe = replace(
        recipe, image_size=options.image_size, stored_size=round(options.image_size * 256 / 224),
        batch_size=options.batch_size or recipe.batch_size,
    )  # fmt: skip
    steps = options.steps or STEPS[options.device.partition(":")[0]]
    needed = (steps + 1) * recipe.batch_size
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            train, _ = open_data(options.data, recipe.stored_size)
        else:
            train = packed(needed, recipe.stored_size, Path(folder))
        if len(train) < needed:
            raise ValueError(f"{len(train)} images, but a turn needs {needed}: take fewer --steps or a smaller --batch-size")
        report(recipe, train, steps, options.device, dtype)


def packed(count: int, size: int, folder: Path) -> data.PackedImages:
    """So many images of the package, enlarged to size x size, in a packed folder inside `folder`; in turns, if there are not enough."""
    images = data.EmbeddedCIFAR10()
    for i in range(count):
        pixels, label = images[i % len(images)]
        path = folder / "photographs" / images.classes[label] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR).save(path)
    pack(data.ImageFolder(folder / "photographs"), folder / "packed", size)
    return data.PackedImages(folder / "packed")


def report(recipe: Recipe, train: Any, steps: int, device: str, dtype: str) -> None:
    found = statistics(recipe, train)
    batches, _ = loaders(recipe, found, train, train, seed=0, dtype=dtype)
    model = models.AlexNet(recipe.variant, max(CLASSES, len(train.classes)), image_size=recipe.image_size)
    optimizer = optimiser(recipe, model)
    with stopped_after(batches) as coming:
        there = next(coming)
    m = medians([turn(model, optimizer, batches, there, steps, device) for _ in range(1 + TURNS)][1:])
    print(f"{recipe.variant}, batch {recipe.batch_size}, {recipe.image_size} x {recipe.image_size} pixels", end=" ")
    print(f"of {found.shape[0]} x {found.shape[1]}, {device}\n{'':20}images/s")
    print(f"{'the step alone':20}{m['alone']:8.1f}")
    print(f"{'training':20}{m['training']:8.1f}   {m['share']:.1%} of the step alone; waiting {m['waiting']:.1%}")
    print(f"{'the loader alone':20}{m['loader']:8.1f}")


def turn(
    model: models.AlexNet, optimizer: optim.Optimizer, batches: data.DataLoader, there: Batch, steps: int, device: str
) -> dict[str, float]:
    """Images a second of all three; training's share of the step alone, and the share of its time that it waited for the loader."""
    alone = train_epoch(model, repeat(there, steps), optimizer).images_per_second
    waits: list[float] = []
    totals = Totals()
    with stopped_after(batches) as coming:
        train_epoch(model, islice(coming, 1), optimizer)  # until the loader is at work
        training = train_epoch(model, waited(islice(coming, steps), waits), optimizer, totals=totals).images_per_second
    with stopped_after(batches) as coming:
        start = time.perf_counter()
        images = sum(len(labels) for _, labels in islice(coming, steps + 1))
        with on_device(device) as xp:
            if xp is not np:
                xp.cuda.get_current_stream().synchronize()
        loader = images / (time.perf_counter() - start)
    share, waiting = training / alone, sum(waits) / totals.seconds
    return {"alone": alone, "training": training, "loader": loader, "share": share, "waiting": waiting}


@contextmanager
def stopped_after(batches: data.DataLoader) -> Iterator[Iterator[Batch]]:
    """An iteration whose threads are at rest when the block is left: they would go on with the batches that they have begun."""
    coming: Any = iter(batches)
    try:
        yield coming
    finally:
        coming.close()
    for thread in threading.enumerate():
        if thread.name.startswith("minidl-data"):
            thread.join()


def waited(batches: Iterable[Batch], waits: list[float]) -> Iterator[Batch]:
    """`batches`, and into `waits` the seconds until each was there."""
    coming = iter(batches)
    while True:
        start = time.perf_counter()
        batch = next(coming, None)
        waits.append(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


if __name__ == "__main__":
    main_or_exit(main)
