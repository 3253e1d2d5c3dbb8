"""Images that stay files until they are asked for: what `ImageFolder` and `ImageList` share."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minidl.data.decode import decode


class ImageFiles:
    """Labelled image files below one directory, decoded by Pillow when asked for.

    ``dataset[i]`` is (image, label): uint8 RGB (H, W, 3), whatever the file holds, see `minidl.data.decode`. With `size`
    every image is prepared as in section 2 of the AlexNet paper: the shorter side is scaled to `size` pixels (bilinear,
    averaging where it shrinks) and the central `size` x `size` is cut out. Without it images keep the sizes that they
    have, and only images of one size can be in a batch. ``path(i)`` is the file of image i.

    Raises FileNotFoundError if a file has vanished, UndecodableImage (a ValueError) if it cannot be decoded.
    """

    def __init__(
        self, directory: Path, files: Sequence[str], labels: Sequence[int], classes: Sequence[str], size: int | None
    ) -> None:
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; expected at least 1 pixel")
        self.directory = directory
        self.files = list(files)  # relative to the directory; a fifth of the memory of as many Path objects
        self.labels: NDArray[np.int64] = np.array(labels, np.int64)
        self.classes = list(classes)
        self.size = size

    def path(self, index: int) -> Path:
        return self.directory / self.files[index]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        return decode(self.path(index), self.size), int(self.labels[index])


def list_images(directory: Path) -> list[str]:
    """The files below `directory` that Pillow can read, by their extension; relative to it, sorted, hidden ones left out."""
    # An extension that Pillow only writes (PDF) is no image to read.
    extensions = {extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN}
    return list(_walk(str(directory), "", extensions))


def _walk(directory: str, prefix: str, extensions: set[str]) -> Iterator[str]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):  # a link could lead back here
            yield from _walk(entry.path, f"{prefix}{entry.name}/", extensions)
        elif os.path.splitext(entry.name)[1].lower() in extensions and entry.is_file():
            yield prefix + entry.name
