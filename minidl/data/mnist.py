"""MNIST and Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 in 10 classes, in IDX files.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998; Xiao, Rasul, Vollgraf,
"Fashion-MNIST", 2017. An IDX file is a magic number (0, 0, type 8 for unsigned bytes, number of axes), the length of
each axis as a big-endian 32-bit integer, then the bytes of the array.
"""

import gzip
import math
import zlib
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import ArrayDataset, check_labels
from minidl.data.files import first_existing

FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


class MNIST(ArrayDataset):
    """60,000 training (``train=True``) or 10,000 test images of digits: ``images`` is uint8 (N, 28, 28, 1).

    directory: holds the official files, gzip-compressed (``train-images-idx3-ubyte.gz``, ...) or not.
    Raises FileNotFoundError for a missing file, ValueError for a damaged one; both say what to do.
    """

    def __init__(self, directory: str | PathLike[str], train: bool = True) -> None:
        images, labels = _read(Path(directory), train, "download it anew: see http://yann.lecun.com/exdb/mnist/")
        super().__init__(images, labels, [str(digit) for digit in range(10)])


class FashionMNIST(ArrayDataset):
    """60,000 training (``train=True``) or 10,000 test images of clothes: ``images`` is uint8 (N, 28, 28, 1).

    Files and errors as for `MNIST`.
    """

    def __init__(self, directory: str | PathLike[str], train: bool = True) -> None:
        remedy = "download it anew: see https://github.com/zalandoresearch/fashion-mnist"
        images, labels = _read(Path(directory), train, remedy)
        super().__init__(images, labels, FASHION_CLASSES)


def _read(directory: Path, train: bool, remedy: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    part = "train" if train else "t10k"
    image_path = _find(directory, f"{part}-images-idx3-ubyte", remedy)
    label_path = _find(directory, f"{part}-labels-idx1-ubyte", remedy)
    images, labels = _read_idx(image_path, 3, remedy), _read_idx(label_path, 1, remedy)
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{image_path}: expected images of 28 x 28, found {images.shape[1:]}; {remedy}")
    if len(labels) != len(images):
        raise ValueError(f"{label_path}: expected {len(images)} labels, one an image, found {len(labels)}; {remedy}")
    check_labels(labels, 10, label_path, remedy)
    return images[..., None], labels


def _find(directory: Path, name: str, remedy: str) -> Path:
    return first_existing([directory / name, directory / f"{name}.gz"], remedy)


def _read_idx(path: Path, axes: int, remedy: str) -> NDArray[np.uint8]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a complete gzip file ({error}); {remedy}") from error
    magic = bytes([0, 0, 8, axes])
    if content[:4] != magic:
        raise ValueError(f"{path}: expected magic number {magic.hex()}, found {content[:4].hex()!r}; {remedy}")
    header = 4 + 4 * axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{path}: expected {expected} bytes of IDX, found {len(content)}; {remedy}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()  # bytes are read-only
