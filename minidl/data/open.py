"""Whatever is in a folder, as a training set and a test set: for programs that are given a path by their user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minidl.data.cifar10 import CIFAR10
from minidl.data.embedded import EmbeddedCIFAR10
from minidl.data.folder import ImageFolder
from minidl.data.image_files import ImageFiles
from minidl.data.image_list import ImageList, has_numbers, read_numbers
from minidl.data.manifest import UNFINISHED, packed_folders
from minidl.data.mnist import MNIST, FashionMNIST
from minidl.data.packed import PackedImages
from minidl.data.subset import split


def open_data(path: Path | None, size: int) -> tuple[Any, Any]:
    """(training set, test set) of whatever is at `path`; photographs are brought to size x size.

    path: CIFAR-10 (binary version), MNIST, packed images, or photographs in folders; None: the images in the package. Without
    folders train/ and val/, a fifth of each class is the test set, the same in every run. Where val/ has no class folders, as in
    ILSVRC, val.txt beside it names the classes of its images: see `validation_images`.
    Raises FileNotFoundError if there is no such folder, or if packing was not finished; and what the data sets raise.
    """
    if path is None:
        return EmbeddedCIFAR10(train=True), EmbeddedCIFAR10(train=False)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    names = {p.name for p in path.iterdir()}
    if "data_batch_1.bin" in names:
        return CIFAR10(path, train=True), CIFAR10(path, train=False)
    if any(name.startswith("train-images") for name in names):
        reader = FashionMNIST if "fashion" in path.name.lower() else MNIST
        return reader(path, train=True), reader(path, train=False)
    packed = list(packed_folders(path))
    if path in packed:
        return split(PackedImages(path), 0.2, seed=0)
    if packed:
        for folder in (path / "train", path / "val"):
            if folder not in packed:
                raise FileNotFoundError(f"{packed[0]} holds packed images, but {folder} does not; {UNFINISHED}")
        return PackedImages(path / "train"), PackedImages(path / "val")
    if {"train", "val"} <= names:
        train = ImageFolder(path / "train", size)
        return train, validation_images(path, train.classes, size)
    return split(ImageFolder(path, size), 0.2, seed=0)


def validation_images(
    path: Path, classes: list[str], size: int | None = None, labels: Path | None = None, numbers: Path | None = None
) -> ImageFiles:
    """The photographs in `path`/val: in class folders or, as in ILSVRC, in val/ itself.

    labels: the text file that then names their classes, by default `path`/val.txt. numbers: the table for `read_numbers` if it names
    numbers, by default map_clsloc.txt beside it. Raises FileNotFoundError if there is no such text file, and what `ImageFolder` and
    `ImageList` raise.
    """
    folder = path / "val"
    if labels is None:
        if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
            return ImageFolder(folder, size)
        labels = path / "val.txt"
        if not labels.is_file():
            raise FileNotFoundError(
                f"{folder} holds no class folders, and {labels} is missing: "
                'a line "file class" for each image, such as "ILSVRC2012_val_00000001.JPEG n01751748" '
                "(`python -m minidl.data.pack --val-labels` takes any other file)"
            )
    if numbers is None and has_numbers(labels, classes) and (labels.parent / "map_clsloc.txt").is_file():
        numbers = labels.parent / "map_clsloc.txt"
    return ImageList(folder, labels, classes, size, None if numbers is None else read_numbers(numbers, classes))


def checked(train: Any, test: Any, path: Path | None) -> tuple[Any, Any]:
    """The two sets from `path` themselves. Raises ValueError unless they have the same classes, at least two, and images in both."""
    if list(train.classes) != list(test.classes):
        one = min(set(train.classes) ^ set(test.classes), default="their order")
        raise ValueError(
            f"{path}: the {len(train.classes)} classes of the training images and the {len(test.classes)} of the test images "
            f"differ, in {one} for one; both need the same"
        )
    if len(train.classes) < 2 or not len(train) or not len(test):
        raise ValueError(
            f"{path}: {len(train)} images to learn from and {len(test)} to test with, in {len(train.classes)} class(es): "
            "there must be images in both, and two classes or more; a class needs five images to have one for testing"
        )
    return train, test
