"""Train AlexNet.

With no arguments: the two-tower network of 2012 at half its width, on the 5,000 images in the package, enlarged to 64 x 64, for
about two minutes on two cores. It leaves a folder in runs/ with metrics.jsonl, weights.safetensors, checkpoints from which a
stopped run goes on, and pictures: curves, kernels, predictions, guesses, nearest, confusion.

    python examples/train_alexnet.py
    python examples/train_alexnet.py --variant torchvision
    python examples/train_alexnet.py --data path/to/cifar-10-batches-bin --epochs 10
    python examples/train_alexnet.py --data path/to/photographs --image-size 227 --width 1 --batch-size 32
    python examples/train_alexnet.py --resume runs/2026-11-21-120000-program
    python examples/train_alexnet.py --recipe program --device gpu --data path/to/imagenet
    python examples/train_alexnet.py --recipe program --device gpu --data path/to/imagenet --precision bf16
    python examples/train_alexnet.py --eval RUN [RUN ...] --crops 10

A directory of photographs holds one folder for each class; a fifth of each class is kept for testing, unless there are
folders train/ and val/ (ILSVRC's val/ without class folders needs val.txt beside it: a line "file class" for each image).
`python -m minidl.data.pack` packs a large one beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import print_errors

import minidl
from minidl import models
from minidl.checkpoint import save_weights
from minidl.data.open import checked, open_data
from minidl.dtypes import PRECISIONS, set_precision
from minidl.evaluation import read_config
from minidl.gallery import Gallery
from minidl.preparation import FILE as STATISTICS
from minidl.preparation import before_epoch, load_statistics, loaders, statistics
from minidl.program import main_or_exit
from minidl.recipes import CHOICES, RECIPES, Recipe, optimiser, recipe_from, schedule, small
from minidl.run import Run, check_unused, fit_or_exit

HELP = {
    "variant": "which AlexNet: what the paper's text says, the program did, Caffe's, or torchvision's; from the initial values of "
    "paper and caffe, small networks stay at the loss of guessing for many epochs",
    "width": "factor on the number of channels; the original's is 1",
    "image_size": "images are cropped to this size, at least 63; the original's is 224",
    "stored_size": "the size from which they are cropped; by default 256 for 224, and in proportion",
    "batch_size": "images a step",
    "epochs": "passes over the training images",
    "lr": "learning rate of the weights",
    "bias_lr": "learning rate of the biases, if another",
    "momentum": "share of the last step that is repeated",
    "rate": "learning rate inside the velocity (the paper) or outside it (PyTorch)",
    "weight_decay": "of the weights",
    "bias_decay": "of the biases, if another",
    "plateau": "divide the rates by 10 after more than so many epochs without a lower test error; 0: at the milestones",
    "milestones": "epochs after which the rates are divided by 10",
    "bias_milestones": "the same for the biases",
    "conv1_milestones": "the same for the first layer",
    "conv1_frozen": "the epoch at which the first layer stops learning; 0: never",
    "mean": "what is subtracted from the pixels 0..255: the mean image or the mean colour",
    "divide": "divide each colour by its standard deviation",
    "mirror": "mirror half of the training images",
    "colour_noise": "along the principal components, times their eigenvalue or their standard deviation",
    "colour_noise_until": "the epoch at which it is switched off; 0: never",
    "images_per_crop": "so many images share one crop and one mirroring",
}
FIXED = ["variant", "width", "image_size", "stored_size", "batch_size", "mean", "divide"]  # what a checkpoint stands on
FOR_TRAINING = ["recipe", "seed", "out", "resume", "precision", "save_every"]  # and the fields of the recipe


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS
    )
    option = parser.add_argument
    option("--device", default="cpu", help='where to compute: "cpu" (default), "gpu", or "gpu:1" for the second GPU')
    option("--data", type=Path, default=None, metavar="DIR", help="CIFAR-10 (binary version), MNIST or Fashion-MNIST, "
           "photographs in folders, or packed images; default: the images in the package")  # fmt: skip
    option("--seed", type=int, default=None, help="of initial weights, order, crops and dropout (default: 0)")
    option("--out", type=Path, default=None, metavar="DIR", help="folder for the results (default: runs/ and date and time)")
    option("--recipe", choices=RECIPES, default=None, help="train as it was done for ImageNet, at full size (default: a small "
           "version of the program's recipe, or of that of --variant)")  # fmt: skip
    option("--resume", type=Path, default=None, metavar="RUN", help="go on with the run in this folder as it was started, "
           "or with another --lr, --epochs and so on from here")  # fmt: skip
    option("--eval", nargs="+", type=Path, default=None, metavar="RUN", help="test these runs, or checkpoints of them, instead of "
           "training: the errors of each, and of the average of them all")  # fmt: skip
    option(
        "--crops", type=int, choices=[1, 10], default=None, help="with --eval: the centre of each image (default), or ten crops"
    )
    option("--precision", choices=PRECISIONS, default=None, help="of products: float32 throughout; tf32, whose factors have 10 binary "
           "digits after the point instead of 23; bf16, whose images, activations and gradients have 7, too, while the weights that are "
           "trained stay float32. Default: float32 on a CPU; tf32 on a GPU, where tensor cores multiply it about eight times as fast "
           "and networks learn as well with it. Tests are never bf16")  # fmt: skip
    option("--save-every", type=int, default=None, metavar="STEPS", help="steps between checkpoints (default: 1000)")
    group = parser.add_argument_group("the recipe", "what is not given is the recipe's; the values of the default in brackets")
    for f in fields(Recipe):
        value = getattr(small("program"), f.name)
        shown = f"{HELP[f.name]} ({' '.join(map(str, value)) if isinstance(value, tuple) else value})"
        name = "--" + f.name.replace("_", "-")
        if "tuple" in str(f.type):
            group.add_argument(name, nargs="*", type=int, metavar="EPOCH", help=shown)
        elif "bool" in str(f.type):
            group.add_argument(name, action=argparse.BooleanOptionalAction, help=shown)
        elif "str" in str(f.type):
            group.add_argument(name, choices=CHOICES[f.name], help=shown)
        else:
            group.add_argument(name, type=int if str(f.type) == "int" else float, metavar="N", help=shown)
    return parser.parse_args()


def given_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the recipe that were given on the command line."""
    given = {f.name: getattr(options, f.name) for f in fields(Recipe) if hasattr(options, f.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def dashed(names: Iterable[str]) -> str:
    """The names of options as they are given on the command line."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


def changed(recipe: Recipe, given: dict[str, Any]) -> Recipe:
    """`recipe` with the fields `given`; the biases keep their ratio to the rate of the weights."""
    if "lr" in given and recipe.bias_lr is not None:
        given = {"bias_lr": given["lr"] * recipe.bias_lr / recipe.lr, **given}
    return replace(recipe, **given)


def new_run(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder of a run that begins, and its configuration."""
    given = given_fields(options)
    base = RECIPES[options.recipe] if options.recipe else small(given.get("variant", "program"))
    if "image_size" in given:
        given.setdefault("stored_size", round(given["image_size"] * 256 / 224))
    if "epochs" in given and not options.recipe:
        given.setdefault("milestones", (max(1, round(0.8 * given["epochs"])),))
    recipe = changed(base, given)
    out = options.out or Path("runs") / time.strftime(f"%Y-%m-%d-%H%M%S-{recipe.variant}")
    check_unused(out)  # before a million images are gone through
    return out, {
        "recipe": asdict(recipe),
        "data": str(options.data.resolve()) if options.data else None,
        "seed": options.seed or 0,
        "save_every": options.save_every or 1000,
        "precision": options.precision or ("float32" if options.device == "cpu" else "tf32"),
    }


def old_run(options: argparse.Namespace) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder of the run to go on with, its configuration with what was given anew, and what of that is a change."""
    config = read_config(options.resume)
    if missing := {"recipe", "data", "seed", "classes", "images"} - config.keys():
        raise ValueError(f"{options.resume / 'config.json'}: {', '.join(sorted(missing))} is missing; this is no run of AlexNet")
    given = given_fields(options)
    fixed = [name for name in FIXED if name in given]
    fixed += [name for name in ("recipe", "seed", "out") if getattr(options, name) is not None]
    if fixed:
        raise ValueError(f"a run cannot go on with another {dashed(fixed)}; leave that out, or start a new run")
    config.setdefault("precision", "float32")  # older runs know of nothing else
    try:
        before = recipe_from(config["recipe"])
    except ValueError as error:
        raise ValueError(f"{options.resume / 'config.json'}: {error}") from error
    recipe = changed(before, given)
    changes = {name: value for name, value in asdict(recipe).items() if value != getattr(before, name)}
    if options.precision not in (None, config["precision"]):
        changes["precision"] = config["precision"] = options.precision
    if config["precision"] not in PRECISIONS:
        file, known = options.resume / "config.json", ", ".join(PRECISIONS)
        raise ValueError(f"{file}: precision must be one of {known}, got {config['precision']!r}")
    if changes:
        config |= {"recipe": asdict(recipe), "changes": [*config.get("changes", []), changes]}
    if options.data:
        config["data"] = str(options.data.resolve())
    if options.save_every:
        config["save_every"] = options.save_every
    return options.resume, config, changes


def same_images(config: dict[str, Any], train: Any, test: Any) -> None:
    """Note in `config` which images these are. Raises ValueError if it says that there were others."""
    labels = np.concatenate([train.labels, test.labels]).astype(np.int64)
    found = {"train": len(train), "test": len(test), "labels": hashlib.sha256(labels.tobytes()).hexdigest()[:16]}
    for key, value in (("classes", list(train.classes)), ("images", found)):
        if config.setdefault(key, value) != value:
            raise ValueError(f"these are other {key} than when the run was started: {value} instead of {config[key]}")


def describe(recipe: Recipe, model: Any, train: Any, test: Any, side: int, where: str) -> None:
    parameters = sum(p.size for p in model.parameters())
    classes = len(train.classes)
    print(f"AlexNet, variant {recipe.variant}, width {recipe.width}: {parameters:,} parameters")
    print(f"{len(train):,} images to learn from, {len(test):,} to test with, {classes} classes; {where}")
    items = [
        f"{name} {value}"
        for name, value in asdict(recipe).items()
        if value not in (None, ()) and name not in ("variant", "width")
    ]
    print("recipe: " + ", ".join(items))
    if side != recipe.stored_size:
        print(f"images of {side} x {side} pixels are scaled to {recipe.stored_size} x {recipe.stored_size}")
    print(f"a network that only guesses has a loss of ln {classes} = {np.log(classes):.3f}", flush=True)


def main() -> None:
    options = arguments()
    minidl.set_default_device(options.device)
    if options.eval:
        given = [*given_fields(options), *(name for name in FOR_TRAINING if getattr(options, name) is not None)]
        if given:
            raise ValueError(f"{dashed(given)}: for training only; leave that out, --eval tests what is there, in float32")
        return print_errors(options.eval, options.data, options.crops or 1)
    if options.crops:
        raise ValueError("--crops goes with --eval; training tests with the centre of each image")
    if options.save_every is not None and options.save_every < 1:
        raise ValueError(f"--save-every is a number of steps, at least 1; got {options.save_every}")
    out, config, changes = old_run(options) if options.resume else (*new_run(options), {})
    recipe, seed = recipe_from(config["recipe"]), config["seed"]
    precision = config["precision"]
    if options.device == "cpu" and precision != "float32":
        raise ValueError(
            f"--precision {precision} is for GPUs, whose tensor cores are fast with it; a CPU has none and would be slower. "
            "Use --precision float32, or --device gpu"
        )
    dtype = set_precision(precision)
    minidl.manual_seed(seed)

    folder = Path(config["data"]) if config["data"] else None
    train, test = checked(*open_data(folder, recipe.stored_size), folder)
    same_images(config, train, test)
    model = models.AlexNet(recipe.variant, len(train.classes), recipe.width, recipe.image_size)
    optimizer = optimiser(recipe, model)  # what these two refuse is said before a million images are gone through
    known = (out / STATISTICS).exists()
    found = load_statistics(out) if known else statistics(recipe, train)
    batches, tests = loaders(recipe, found, train, test, seed, dtype)
    run = Run(
        out, config, model, optimizer, schedule(recipe, optimizer), batches, tests, seed, save_every=config["save_every"],
        before_epoch=lambda epoch: before_epoch(recipe, batches, epoch),
        after_epoch=lambda p: gallery.draw(run.metrics, p, at_once=run.epoch == recipe.epochs),
        resume=bool(options.resume),
    )  # fmt: skip
    if changes:  # nothing was refused
        print("from here on: " + ", ".join(f"{name} {value}" for name, value in changes.items()))
    if not known:
        found.save(out)
    gallery = Gallery(out, model, train, tests, 1 if recipe.variant == "torchvision" else 2, seed)
    describe(recipe, model, train, test, found.shape[0], f"on {options.device} in {config['precision']}")
    fit_or_exit(run, recipe.epochs, ["python", sys.argv[0], "--resume", str(out), "--device", options.device])

    save_weights(model, out / "weights.safetensors", variant=recipe.variant, width=str(recipe.width),
                 image_size=str(recipe.image_size), classes=",".join(train.classes))  # fmt: skip
    accuracy = f"test accuracy {run.metrics[-1]['test_accuracy']:.1%}; " if run.metrics else ""  # somebody took them away
    print(f"{accuracy}pictures, metrics and weights are in {out}/")


if __name__ == "__main__":
    main_or_exit(main)
