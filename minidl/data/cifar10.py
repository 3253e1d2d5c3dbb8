"""CIFAR-10 from its official binary version: 50,000 + 10,000 colour images of 32 x 32 in 10 classes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. A record is one label byte, then 3072 pixel
bytes: the red plane, the green, the blue, each in rows of 32.
"""

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import ArrayDataset, check_labels
from minidl.data.files import first_existing

REMEDY = 'download "CIFAR-10 binary version" anew from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it'
FOLDER = "cifar-10-batches-bin"
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS_PER_FILE = 10_000


class CIFAR10(ArrayDataset):
    """The 50,000 training images (``train=True``) or 10,000 test images: ``images`` is uint8 (N, 32, 32, 3).

    directory: ``cifar-10-batches-bin`` or the folder that contains it.
    Raises FileNotFoundError for a missing file, ValueError for a damaged one; both say what to do.
    """

    def __init__(self, directory: str | PathLike[str], train: bool = True) -> None:
        names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
        classes = _read_classes(_find(directory, "batches.meta.txt"))
        batches = [_read_batch(_find(directory, name)) for name in names]
        images, labels = zip(*batches, strict=True)
        super().__init__(np.concatenate(images), np.concatenate(labels), classes)


def _find(directory: str | PathLike[str], name: str) -> Path:
    return first_existing([Path(directory, name), Path(directory, FOLDER, name)], REMEDY)


def _read_classes(path: Path) -> list[str]:
    names = path.read_text().split()
    if len(names) != 10:
        raise ValueError(f"{path}: expected 10 class names, found {len(names)}; {REMEDY}")
    return names


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    expected, found = RECORDS_PER_FILE * RECORD_BYTES, path.stat().st_size
    if found != expected:
        raise ValueError(f"{path}: expected {expected} bytes, found {found}; {REMEDY}")
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0]
    check_labels(labels, 10, path, REMEDY)
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
