"""How each AlexNet was trained: every choice a named field, and the optimiser and the schedule that are made of them.

`RECIPES` are those of the paper, of the 2012 program, of Caffe and of torchvision, for ImageNet; `small` makes of each one for images
of 64 pixels and two cores. What happens to the images is in `preparation.py`; the networks, with their initial values, are in
`models/alexnet.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minidl import optim
from minidl.models.alexnet import VARIANTS
from minidl.nn import Module

CHOICES = {
    "variant": tuple(VARIANTS),
    "rate": ("inside", "outside"),
    "mean": ("image", "colour"),
    "divide": ("none", "deviation"),
    "colour_noise": ("none", "eigenvalue", "deviation"),
}
"""The values of those fields of a `Recipe` that are words."""


@dataclass(frozen=True)
class Recipe:
    """A training recipe. Sizes are in pixels, milestones in epochs done. None in a bias field: as for the weights; in
    conv1_milestones: as for the other layers. Raises ValueError for values that make no sense."""

    variant: str = "program"  # which AlexNet: see models/alexnet.py
    width: float = 1.0  # factor on its channels
    image_size: int = 224  # of the crops that the network sees
    stored_size: int = 256  # of the images that they are cut from
    batch_size: int = 128
    epochs: int = 90
    lr: float = 0.01
    bias_lr: float | None = None
    momentum: float = 0.9
    rate: str = "inside"  # the velocity, or "outside" it: see optim.SGD
    weight_decay: float = 0.0005
    bias_decay: float | None = None
    plateau: int = 0  # divide the rates by 10 after more than this many epochs without a lower test error; 0: at the milestones
    milestones: tuple[int, ...] = ()
    bias_milestones: tuple[int, ...] | None = None
    conv1_milestones: tuple[int, ...] | None = None
    conv1_frozen: int = 0  # the epoch at which the first layer stops learning; 0: never
    mean: str = "image"  # what is subtracted from the pixels 0..255: the mean "image" or "colour"
    divide: str = "none"  # and what they are divided by: "none", or the "deviation" of each colour
    mirror: bool = True
    colour_noise: str = "none"  # along the principal components, times their "eigenvalue" or "deviation": see data.ColourNoise
    colour_noise_until: int = 0  # the epoch at which it is switched off; 0: never
    images_per_crop: int = 1  # this many images of a batch, one after the other, share one crop and one mirroring

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "images_per_crop", "stored_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("plateau", "conv1_frozen", "colour_noise_until"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("lr", "bias_lr"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < math.inf:
                raise ValueError(f"{name} must be a positive number, got {rate}")
        for name in ("weight_decay", "bias_decay"):
            decay = getattr(self, name)
            if decay is not None and not 0 <= decay < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be at least 0 and less than 1, got {self.momentum}")
        for name in ("milestones", "bias_milestones", "conv1_milestones"):
            epochs = list(getattr(self, name) or ())
            if epochs != sorted(set(epochs)) or any(epoch < 1 for epoch in epochs):
                raise ValueError(f"{name} are epochs from 1 on, each once and in order; got {epochs}")
        if self.stored_size < self.image_size:
            raise ValueError(f"images of {self.image_size} pixels cannot be cut from images of stored_size {self.stored_size}")


def recipe_from(fields: Mapping[str, Any]) -> Recipe:
    """The recipe of which `dataclasses.asdict` and JSON made `fields`. Raises ValueError for fields that no recipe has."""
    if not isinstance(fields, Mapping):
        raise ValueError(f"a recipe has names and values, got {fields!r}")
    unknown = fields.keys() - Recipe.__dataclass_fields__.keys()
    if unknown:
        raise ValueError(f"this version of minidl knows no recipe with {sorted(unknown)}; it may be of a newer one")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    try:
        return Recipe(**values)
    except TypeError as error:
        raise ValueError(f"a value of the recipe is of the wrong type ({error})") from error


PAPER = Recipe("paper", epochs=90, plateau=3, colour_noise="eigenvalue")

PROGRAM = Recipe(
    "program", epochs=91, bias_lr=0.02, bias_decay=0.0, milestones=(25, 51, 79), bias_milestones=(),
    conv1_milestones=(25, 51, 67), conv1_frozen=72, colour_noise="deviation", colour_noise_until=67, images_per_crop=32,
)  # fmt: skip

# Caffe's solver has the rate inside its history: history = momentum history + rate gradient; w = w - history.
CAFFE = Recipe(
    "caffe", image_size=227, batch_size=256, epochs=90, bias_lr=0.02, bias_decay=0.0, milestones=(20, 40, 60, 80), mean="colour"
)

TORCHVISION = Recipe(
    "torchvision", batch_size=256, epochs=90, rate="outside", weight_decay=0.0001, milestones=(30, 60), mean="colour", divide="deviation"
)  # fmt: skip

RECIPES = {"paper": PAPER, "program": PROGRAM, "caffe": CAFFE, "torchvision": TORCHVISION}


def small(variant: str) -> Recipe:
    """The recipe of `variant` for half the width, images of 64 pixels, and a few thousand of them: minutes instead of days.

    From the initial values of paper and caffe such small networks stay at the loss of guessing for many epochs.
    """
    full = RECIPES[variant]
    lr = 0.05 if variant == "torchvision" else 0.005
    return replace(
        full, width=0.5, image_size=64, stored_size=73, batch_size=64, epochs=16, lr=lr,
        bias_lr=None if full.bias_lr is None else 2 * lr, plateau=0, milestones=(13,), bias_milestones=None, conv1_milestones=None,
        conv1_frozen=0, colour_noise="none", colour_noise_until=0, images_per_crop=1,
    )  # fmt: skip


def optimiser(recipe: Recipe, model: Module) -> optim.SGD:
    """SGD with four groups: weights and biases, and apart from them those of the first layer, which has a schedule of its own."""
    groups: dict[str, list[Any]] = {"weights": [], "biases": [], "conv1 weights": [], "conv1 biases": []}
    for name, parameter in model.named_parameters():
        kind = "biases" if name.endswith("bias") else "weights"
        groups[f"conv1 {kind}" if name.startswith("conv1.") else kind].append(parameter)
    settings = {
        "weights": {"lr": recipe.lr, "weight_decay": recipe.weight_decay},
        "biases": {
            "lr": recipe.lr if recipe.bias_lr is None else recipe.bias_lr,
            "weight_decay": recipe.weight_decay if recipe.bias_decay is None else recipe.bias_decay,
        },
    }
    named = [
        {"params": params, "name": name, **settings[name.removeprefix("conv1 ")]} for name, params in groups.items() if params
    ]
    return optim.SGD(named, recipe.lr, recipe.momentum, recipe.weight_decay, recipe.rate)


def schedule(recipe: Recipe, optimizer: optim.SGD) -> Any:
    """The schedule of the rates, for `Run`: on a plateau of the test error, or at the milestones of each group."""
    if recipe.plateau:
        return optim.ReduceLROnPlateau(optimizer, patience=recipe.plateau, min_lr=recipe.lr * 1e-3)
    weights = recipe.milestones
    biases = weights if recipe.bias_milestones is None else recipe.bias_milestones
    conv1 = weights if recipe.conv1_milestones is None else recipe.conv1_milestones

    def factor(milestones: Sequence[int], frozen: int = 0) -> Callable[[int], float]:
        return lambda epoch: 0.0 if frozen and epoch >= frozen else 0.1 ** sum(epoch >= m for m in milestones)

    by_name = {
        "weights": factor(weights), "biases": factor(biases),
        "conv1 weights": factor(conv1, recipe.conv1_frozen), "conv1 biases": factor(biases, recipe.conv1_frozen),
    }  # fmt: skip
    return optim.LambdaLR(optimizer, [by_name[group["name"]] for group in optimizer.param_groups])
