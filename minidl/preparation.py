"""What happens to images on their way to an AlexNet: the mean is subtracted, they are cropped, mirrored and given other light (paper,
sections 2 and 4.1).

The mean and the covariance of the colours are those of the training images, and belong to the network as its weights do. They are
kept in the folder of the run: so a million photographs are gone through once, and not again to classify one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minidl import data
from minidl.checkpoint import load_state, save_state
from minidl.data.statistics import sums
from minidl.data.transforms import Transform
from minidl.recipes import Recipe

FILE = "statistics.safetensors"


@dataclass(frozen=True)
class Statistics:
    """What a recipe has to know of its training images.

    shape: that of each image, (H, W, C). mean: the mean image, of this shape, or the mean colour (C,), in 0..255.
    covariance: that of the colours, (C, C); None if the recipe does not use it.
    """

    shape: tuple[int, int, int]
    mean: np.ndarray
    covariance: np.ndarray | None = None

    def save(self, folder: Path) -> None:
        """Write them into the folder of a run."""
        arrays = {"mean": self.mean} if self.covariance is None else {"mean": self.mean, "covariance": self.covariance}
        save_state(arrays, {"shape": self.shape}, folder / FILE)


def statistics(recipe: Recipe, train: Any) -> Statistics:
    """What `recipe` has to know of the data set `train`. Packed images bring it with them; others are gone through, with a bar at a
    terminal."""
    image, covariance = recipe.mean == "image", recipe.divide != "none" or recipe.colour_noise != "none"
    if isinstance(train, data.PackedImages):
        mean = train.mean_image if image else train.mean_colour
        return Statistics(train[0][0].shape, mean, train.colour_covariance if covariance else None)
    what = "mean of the training images"
    with tqdm(desc=what, total=len(train), unit=" images", disable=None, delay=1, leave=False, dynamic_ncols=True) as bar:
        found = sums(train, image, covariance or not image, bar)
    height, width, channels = found.shape
    return Statistics(
        (height, width, channels),
        found.mean_image if image else found.mean_colour,
        found.colour_covariance.astype(np.float32) if covariance else None,
    )


def load_statistics(folder: Path) -> Statistics:
    """The statistics in the folder of a run. Raises FileNotFoundError, and ValueError for a damaged file."""
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder / FILE}, with the mean of the training images, is missing: it belongs to the run")
    arrays, description = load_state(folder / FILE)
    height, width, channels = description["shape"]
    return Statistics((height, width, channels), arrays["mean"], arrays.get("covariance"))


def preparation(recipe: Recipe, found: Statistics) -> list[Transform]:
    """What happens to every image before it is cropped: mean subtracted, divided, three channels made of one, brought to stored_size."""
    steps: list[Transform] = [data.SubtractMean(found.mean)]
    if recipe.divide == "deviation":
        steps.append(data.Scale(1 / np.sqrt(np.diagonal(_covariance(found)))))
    steps.append(_colour)  # after the mean, which is as grey as the images
    if found.shape[:2] != (recipe.stored_size, recipe.stored_size):
        steps.append(data.Resize(recipe.stored_size))
    return steps


def loaders(
    recipe: Recipe, found: Statistics, train: Any, test: Any, seed: int, dtype: str = "float32"
) -> tuple[data.DataLoader, data.DataLoader]:
    """The training and the test loader: random crops in training, the centre in testing.

    dtype: that of the training images, and so of what is computed from them; tests are float32.
    """
    prepare = preparation(recipe, found)
    testing = data.Compose([*prepare, data.CenterCrop(recipe.image_size)])
    return (
        data.DataLoader(
            train, recipe.batch_size, shuffle=True, transform=_training(recipe, found, prepare), seed=seed, dtype=dtype
        ),
        data.DataLoader(test, recipe.batch_size, transform=testing),
    )


def before_epoch(recipe: Recipe, batches: data.DataLoader, epoch: int) -> None:
    """Switch the colour noise of the training loader off when its time is over. epoch: the number of those done."""
    if recipe.colour_noise_until and epoch >= recipe.colour_noise_until and isinstance(batches.transform, data.Compose):
        kept = [t for t in batches.transform.transforms if not isinstance(t, _Noise)]
        batches.transform = data.Compose(kept)


class _Noise(data.Compose):
    """The transforms that `before_epoch` switches off: a class of its own, to be found again."""


def _training(recipe: Recipe, found: Statistics, prepare: list[Transform]) -> data.Compose:
    steps: list[Transform] = [*prepare, data.RandomCrop(recipe.image_size, together=recipe.images_per_crop)]
    if recipe.mirror:
        steps.append(data.Mirror(together=recipe.images_per_crop))
    if recipe.colour_noise == "eigenvalue":
        steps.append(_Noise([data.ColourNoise(_covariance(found), "eigenvalue")]))
    elif recipe.colour_noise == "deviation":  # the program then divides everything by 1.1
        steps.append(_Noise([data.ColourNoise(_covariance(found), "deviation"), data.Scale(1 / 1.1)]))
    return data.Compose(steps)


def _covariance(found: Statistics) -> np.ndarray:
    if found.covariance is None:
        raise ValueError("this recipe needs the covariance of the colours, which these statistics do not have")
    return found.covariance


def _colour(images: Any, rng: np.random.Generator) -> Any:
    """Grey images as colour images."""
    return images.repeat(3, axis=3) if images.shape[3] == 1 else images
