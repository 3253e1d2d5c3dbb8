"""Whatever is in a folder, as a training set and a test set: for programs that are given a path by their user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minidl.data.cifar10 import CIFAR10
from minidl.data.embedded import EmbeddedCIFAR10
from minidl.data.folder import ImageFolder
from minidl.data.image_list import ImageList
from minidl.data.mnist import MNIST, FashionMNIST
from minidl.data.packed import PackedImages
from minidl.data.subset import split


def open_data(path: Path | None, size: int) -> tuple[Any, Any]:
    """(training set, test set) of whatever is at `path`; photographs are brought to size x size.

    path: CIFAR-10 (binary version), MNIST, packed images, or photographs in folders; None: the images in the package. Without
    folders train/ and val/, a fifth of each class is the test set, the same in every run. Where val/ has no class folders, as that
    of ILSVRC, val.txt beside it names the classes of its images: see `ImageList`.
    Raises FileNotFoundError if there is no such folder, and what the data sets raise.
    """
    if path is None:
        return EmbeddedCIFAR10(train=True), EmbeddedCIFAR10(train=False)
    if not path.is_dir():
        raise FileNotFoundError(f"--data {path}: there is no such folder")
    names = {p.name for p in path.iterdir()}
    if "data_batch_1.bin" in names:
        return CIFAR10(path, train=True), CIFAR10(path, train=False)
    if any(name.startswith("train-images") for name in names):
        reader = FashionMNIST if "fashion" in path.name.lower() else MNIST
        return reader(path, train=True), reader(path, train=False)
    if {"train", "val"} <= names:
        folders = path / "train", path / "val"
        if (folders[0] / "manifest.json").is_file():
            return PackedImages(folders[0]), PackedImages(folders[1])
        train = ImageFolder(folders[0], size)
        if any(entry.is_dir() for entry in folders[1].iterdir()):
            return train, ImageFolder(folders[1], size)
        if "val.txt" not in names:
            raise FileNotFoundError(
                f"{folders[1]} holds no class folders, and {path / 'val.txt'} is missing: "
                'a line "file class" for each image, such as "ILSVRC2012_val_00000001.JPEG n01751748"'
            )
        return train, ImageList(folders[1], path / "val.txt", train.classes, size)
    whole = PackedImages(path) if "manifest.json" in names else ImageFolder(path, size)
    return split(whole, 0.2, seed=0)


def checked(train: Any, test: Any) -> tuple[Any, Any]:
    """The two sets, if they can be learnt from: the same classes, at least two, and images in both."""
    if list(train.classes) != list(test.classes):
        raise ValueError(
            f"the training images have the classes {train.classes}, the test images {test.classes}; they must be the same"
        )
    if len(train.classes) < 2 or not len(train) or not len(test):
        raise ValueError(
            f"{len(train)} images to learn from and {len(test)} to test with, in {len(train.classes)} class(es): there must be images "
            "in both, and two classes or more; a class needs five images to have one for testing"
        )
    return train, test
