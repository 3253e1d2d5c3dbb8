"""What a data set is: images with labels and the names of the classes. Every reader in this package is one."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Dataset(Protocol):
    """N labelled images; ``dataset[i]`` is (image, label).

    image: uint8 (H, W, C), values 0 to 255; label: int, an index into ``classes``. Images may differ in height and
    width. The loader calls ``dataset[i]`` from several threads, so it must not change the data set.

    A data set that fetches many images faster than one by one also has ``batch(indices)`` for integers (M,), which
    returns new arrays: uint8 (M, H, W, C) and integers (M,). The loader uses it unless it is missing or None.
    """

    labels: NDArray[np.int64]  # (N,): known without decoding a single image
    classes: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]: ...


class ArrayDataset:
    """A data set held in memory.

    images: uint8 (N, H, W, C); labels: integers (N,); classes: one name a class.
    Raises ValueError if these do not fit together.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer], classes: Sequence[str]) -> None:
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                f"images are {images.dtype} of shape {images.shape}; expected uint8 (N, H, W, C): "
                "scale to 0..255, and give grey images a last axis with images[..., None]"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; expected {len(images)} integers")
        check_labels(labels, len(classes), "labels", "number the classes from 0")
        self.images = images
        self.labels: NDArray[np.int64] = labels.astype(np.int64)
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images (M, H, W, C) and labels (M,) at the integers `indices` (M,), copied."""
        return self.images[indices], self.labels[indices]


def check_labels(labels: NDArray[np.integer], classes: int, source: object, remedy: str) -> None:
    """Raise ValueError, naming `source` and the first offender, unless every label is in 0..classes - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ValueError(f"{source}: label {labels[wrong[0]]} of image {wrong[0]} is not in 0..{classes - 1}; {remedy}")
