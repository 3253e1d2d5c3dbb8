"""What a trained network is worth, and what it sees: errors with one crop or ten, averages of networks, similar images.

`training.py` measures a network while it learns; here it comes out of the folder of its run (`run.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

import minidl.functional as F
from minidl import data
from minidl.autograd import no_grad
from minidl.checkpoint import load_state, load_weights
from minidl.data.failures import MAX_FAILURES, decodable_images
from minidl.data.image_files import ImageFiles
from minidl.data.transforms import Transform
from minidl.models import AlexNet
from minidl.nn import Module
from minidl.nn.module import evaluating
from minidl.preparation import Statistics, load_statistics, preparation
from minidl.recipes import Recipe, recipe_from
from minidl.run import checkpoints

PathLike = str | os.PathLike[str]
CROPS: dict[int, type[data.CenterCrop] | type[data.TenCrop]] = {1: data.CenterCrop, 10: data.TenCrop}


@dataclass(frozen=True)
class Trained:
    """The network of a run, in evaluation mode. statistics: those of the images that it learnt from.

    data_folder: the folder of these images, None for those in the package. weights: the file with its weights; moment: of which
    moment of the run they are, in words.
    """

    model: AlexNet
    recipe: Recipe
    statistics: Statistics
    classes: list[str]
    data_folder: Path | None
    weights: Path
    moment: str

    def fitting(self, images: Any) -> Any:
        """`images`, if they have the classes and the shape of those that the network learnt from. Raises ValueError otherwise."""
        if list(images.classes) != self.classes:
            raise ValueError(
                f"{self.weights} knows the classes {_shown(self.classes)}; these images have {_shown(images.classes)}; "
                "they must be the same, in the same order"
            )
        _, image = next(decodable_images(images))
        if image.shape != self.statistics.shape:
            side, own = self.recipe.stored_size, self.statistics.shape[0]
            raise ValueError(
                f"{self.weights} learnt from images of {self.statistics.shape}; these are of {image.shape}. Photographs in folders are "
                f"brought to the stored_size of the run, {side}, packed ones stay as they are: give "
                + ("those folders, not packed images" if side == own else f"images packed with `--size {own}`, as it had them")
            )
        return images

    def loader(self, images: Any, crops: int = 1, max_failures: float = MAX_FAILURES) -> data.DataLoader:
        """`images` as the network is to see them: prepared as its training images were; crops: 1, the centre, or 10 of each.

        With ten, a batch (N,) of labels comes with 10 N images, see `data.TenCrop`. Raises ValueError for another number.
        """
        if crops not in CROPS:
            raise ValueError(
                f"crops is {crops}; expected 1, the centre, or 10, the corners and the centre with their mirror images"
            )
        steps: list[Transform] = [*preparation(self.recipe, self.statistics), CROPS[crops](self.recipe.image_size)]
        size = max(1, self.recipe.batch_size // crops)
        return data.DataLoader(images, size, transform=data.Compose(steps), max_failures=max_failures)


def load_run(path: PathLike) -> Trained:
    """The network of the run in the folder `path`, with its best weights (by test accuracy), or else the latest.

    path may also be one of the run's checkpoints. Raises FileNotFoundError if there is no such run, or nothing in it yet;
    ValueError for damaged files.
    """
    path = Path(path)
    if path.is_file():
        return _from_checkpoint(path)
    read_config(path)  # to refuse what is no run
    best = path / "checkpoints" / "best.safetensors"
    found = [best] if best.is_file() else checkpoints(path)[-1:]
    if found:
        return _from_checkpoint(found[0])
    if (path / "weights.safetensors").is_file():
        return _from_weights(path)
    raise FileNotFoundError(f"{path}: there is no checkpoint yet, nor weights.safetensors; a run saves the first after an epoch")


def read_config(folder: PathLike) -> dict[str, Any]:
    """What a run was started with, its class names included. Raises FileNotFoundError if there is no run in `folder`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such run")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: there is no run in this folder, for it has no config.json")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: damaged ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: damaged (it holds no configuration)")
    return {**config, "classes": _class_names(config, folder)}


def _from_checkpoint(path: Path) -> Trained:
    arrays, description = load_state(path)
    if "config" not in description:
        raise ValueError(f"{path}: this is no checkpoint of a run")
    config = description["config"]
    folder = path.parent.parent
    classes = _class_names(config, folder)
    recipe, model = _rebuilt(config, classes)
    try:
        model.load_state_dict({n.removeprefix("model."): array for n, array in arrays.items() if n.startswith("model.")})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    steps = f" and {description['batch']} steps" if description["batch"] else ""
    found = load_statistics(folder)
    return Trained(model, recipe, found, classes, _data_of(config), path, f"epoch {description['epoch']}{steps}")


def _from_weights(folder: Path) -> Trained:
    config = read_config(folder)
    recipe, model = _rebuilt(config, config["classes"])
    path = folder / "weights.safetensors"
    load_weights(model, path)
    return Trained(model, recipe, load_statistics(folder), config["classes"], _data_of(config), path, "end")


def _rebuilt(config: dict[str, Any], classes: list[str]) -> tuple[Recipe, AlexNet]:
    try:
        recipe = recipe_from(config["recipe"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"this run has no recipe of an AlexNet that this version of minidl knows ({error})") from error
    model = AlexNet(recipe.variant, len(classes), recipe.width, recipe.image_size)
    model.eval()
    return recipe, model


def _data_of(config: dict[str, Any]) -> Path | None:
    return Path(config["data"]) if config["data"] else None


def _class_names(config: dict[str, Any], folder: Path) -> list[str]:
    """From the configuration, or else from the description of the weights, which a run writes at its end."""
    if "classes" in config:
        if not isinstance(config["classes"], list):
            raise ValueError(f"{folder / 'config.json'}: damaged (classes must be a list of names, got {config['classes']!r})")
        return config["classes"]
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise ValueError(f"{folder}: config.json does not name the classes, and there is no {path.name} that would")
    try:
        with safe_open(path, framework="numpy") as file:
            return str((file.metadata() or {})["classes"]).split(",")
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: damaged, or without the names of the classes ({error})") from error


def _shown(classes: Sequence[str]) -> str:
    return ", ".join(classes[:5]) + (f", ... ({len(classes)} in all)" if len(classes) > 5 else "")


# What networks say


@no_grad()
def probabilities(models: Module | Sequence[Module], batches: data.DataLoader) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities (N, classes) that the network gives to each image, and the labels (N,).

    Of several crops of an image, and of several networks, the softmax outputs are averaged (AlexNet, sections 4.1 and 6); all
    networks are shown the same batches. The crops of an image lie one after the other, as many as there are images for each
    label: see `data.TenCrop`. Images that cannot be decoded are left out: `batches.kept` are the numbers of the others.
    """
    networks = [models] if isinstance(models, Module) else list(models)
    means, labels = [], []
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(evaluating(network))
        for x, y in batches:
            each = [F.softmax(network(x)).numpy() for network in networks]
            means.append(average([p.reshape(len(y), -1, p.shape[1]).mean(axis=1) for p in each]))
            labels.append(y.numpy())
    return np.concatenate(means), np.concatenate(labels)


def average(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the probabilities (N, classes) of several networks. Raises ValueError if they are not of the same shape."""
    shapes = [p.shape for p in predictions]
    if not shapes or len(set(shapes)) > 1:
        raise ValueError(f"average: probabilities of shapes {shapes}; expected those of one or more networks for the same images")
    return np.mean(predictions, axis=0)


def top_k_error(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of images whose label is not among the `k` most probable ones; of equal ones those of lower number come first.

    probabilities: (N, classes); labels: (N,). Raises ValueError for shapes that do not fit, and for NaN, which is no probability.
    """
    if k < 1 or not len(labels) or probabilities.shape[:1] != labels.shape or probabilities.ndim != 2:
        raise ValueError(
            f"top_k_error: probabilities of shape {probabilities.shape}, labels of {labels.shape}, k {k}; "
            "expected (N, classes), (N,) and at least 1 of each"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("top_k_error: there is NaN or infinity among the probabilities; the network has diverged")
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    equal_before = (probabilities == own) & (np.arange(probabilities.shape[1]) < labels[:, None])
    rank = ((probabilities > own) | equal_before).sum(axis=1)
    return float((rank >= k).mean())


# Photographs and features


class Photographs(ImageFiles):
    """Image files without labels (all 0), brought to `shape` (size, size, C): that of the images that a network learnt from."""

    def __init__(self, paths: Sequence[PathLike], shape: tuple[int, int, int]) -> None:
        super().__init__(Path(), [os.fspath(path) for path in paths], [0] * len(paths), [""], shape[0])
        self.channels = shape[2]

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        image, label = super().__getitem__(index)
        return image if self.channels == 3 else np.asarray(Image.fromarray(image).convert("L"))[..., None], label


@no_grad()
def features(model: AlexNet, batches: data.DataLoader, layer: str = "relu7") -> np.ndarray:
    """What `layer` gives for each image: (N, units). By default the last hidden layer, as in section 6.1 of AlexNet.

    Images that cannot be decoded are left out: `batches.kept` are the numbers of the others.
    """
    with evaluating(model):
        return np.concatenate([model[:layer](x).numpy() for x, _ in batches])


def most_similar(features: np.ndarray, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` rows of `features` (N, units) that are nearest to `query` (units,): their numbers, and Euclidean distances."""
    distances = np.linalg.norm(features - query, axis=1)
    nearest = np.argsort(distances, kind="stable")[:count]
    return nearest, distances[nearest]
