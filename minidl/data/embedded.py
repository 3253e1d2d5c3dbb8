"""A tenth of CIFAR-10 that comes with minidl, so that every lesson runs without a download.

5,000 training and 1,000 test images, 500 and 100 of each class, in ``cifar10_small/`` (see the NOTICE there). The
images lie 1,000 to a sheet, 40 across and 25 down, in lossless WebP. Measured for all 6,000 images: WebP 10.0 MB,
JPEG 2000 10.2 MB and twelve times slower to read, PNG 13.0 MB, raw 18.4 MB; AVIF is not exactly lossless.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minidl.data.dataset import ArrayDataset
from minidl.data.files import first_existing

FOLDER = Path(__file__).with_name("cifar10_small")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PER_SHEET = 1000
ACROSS = 40
REMEDY = "install minidl again: its files are incomplete"


class EmbeddedCIFAR10(ArrayDataset):
    """5,000 training images (``train=True``) or 1,000 test images of CIFAR-10: ``images`` is uint8 (N, 32, 32, 3).

    The first 500 (100) images of each class of the official set, in the official order, pixels unchanged. Balanced.
    Raises FileNotFoundError if the installation is incomplete.
    """

    def __init__(self, train: bool = True) -> None:
        part = "train" if train else "test"
        labels = np.load(first_existing([FOLDER / f"{part}-labels.npy"], REMEDY), allow_pickle=False)
        sheets = [FOLDER / f"{part}-{number}.webp" for number in range(math.ceil(len(labels) / PER_SHEET))]
        images = [read_sheet(first_existing([sheet], REMEDY)) for sheet in sheets]
        super().__init__(np.concatenate(images), labels, CLASSES)


def write_sheet(images: NDArray[np.uint8], path: Path) -> None:
    """Store images (N, 32, 32, 3), N a multiple of 40, side by side in one lossless WebP file."""
    sheet = images.reshape(-1, ACROSS, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, ACROSS * 32, 3)
    Image.fromarray(sheet).save(path, lossless=True, quality=90, method=6)  # quality: effort


def read_sheet(path: Path) -> NDArray[np.uint8]:
    """The images (N, 32, 32, 3) that `write_sheet` stored."""
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    return pixels.reshape(-1, 32, ACROSS, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
