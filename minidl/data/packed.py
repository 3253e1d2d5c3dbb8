"""Images packed by `minidl.data.pack`, mapped into memory: as fast as an array, without the memory of one."""

import math
import mmap
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidl.data.dataset import check_labels
from minidl.data.manifest import Stored, read_manifest


class PackedImages:
    """The data set in a packed folder: ``packed[i]`` is (image, label), ``packed.batch(indices)`` (images, labels).

    An image is a copy, uint8 (size, size, 3).

    directory: the folder that `minidl.data.pack` wrote; one of the two if the source had train/ and val/. The operating
    system reads what is asked for from disk and keeps as much of it as there is memory to spare.

    mean_image: (size, size, 3), mean_colour: (3,) and colour_covariance: (3, 3) are those of all pixels, on the scale of
    0..255, float32. Those of the training images are the ones to train and to test with.

    Raises FileNotFoundError or ValueError, naming file and remedy, if a file is missing or has not its length; what else
    may be damaged, ``python -m minidl.data.pack --verify`` finds.
    """

    def __init__(self, directory: str | PathLike[str]) -> None:
        folder = Path(directory)
        manifest = read_manifest(folder)
        self.classes = manifest.plan.classes
        self.size = manifest.plan.size
        square = (self.size, self.size, 3)
        self.mean_image: NDArray[np.float32] = _map(folder, manifest.mean_image, np.float32, square).array.copy()
        self.mean_colour: NDArray[np.float32] = np.array(manifest.mean_colour, np.float32)
        self.colour_covariance: NDArray[np.float32] = np.array(manifest.colour_covariance, np.float32)
        self.labels: NDArray[np.int64] = _map(folder, manifest.labels, np.int64, (manifest.images,)).array.copy()
        check_labels(self.labels, len(self.classes), folder / manifest.labels.file, "pack the images anew")
        self._shards = [_map(folder, stored, np.uint8, (-1, *square)) for stored in manifest.shards]
        self._starts = [0, *accumulate(len(shard.array) for shard in self._shards)]
        if self._starts[-1] != manifest.images:
            raise ValueError(f"{folder}: {manifest.images} images in the manifest, {self._starts[-1]} in the shards; pack anew")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        shard, row = self._find(index)
        return shard.array[row].copy(), int(self.labels[index])

    def batch(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images (M, size, size, 3) and labels (M,) at the integers `indices` (M,), copied."""
        places = [self._find(int(index)) for index in indices]
        for shard, row in places:
            shard.announce(row)
        images = np.empty((len(places), self.size, self.size, 3), np.uint8)
        for image, (shard, row) in zip(images, places, strict=True):
            image[...] = shard.array[row]
        return images, self.labels[indices]

    def _find(self, index: int) -> tuple["_Mapped", int]:
        """The shard that holds an image, and the image's place there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a data set of {len(self)}")
        index %= len(self)
        shard = bisect_right(self._starts, index) - 1  # the last that starts at or before it
        return self._shards[shard], index - self._starts[shard]


@dataclass(frozen=True)
class _Mapped:
    """The array in a .npy file, mapped into memory: read from disk as it is used, given up when memory is short."""

    array: NDArray
    memory: mmap.mmap
    start: int  # of the array in the file

    def announce(self, row: int) -> None:
        """Tell the operating system that ``array[row]`` comes next: it reads a batch from disk at once, four times as fast."""
        if hasattr(mmap, "MADV_WILLNEED"):
            start = self.start + row * self.array[0].nbytes
            page = start - start % mmap.PAGESIZE
            self.memory.madvise(mmap.MADV_WILLNEED, page, start + self.array[0].nbytes - page)


def _map(folder: Path, stored: Stored, dtype: DTypeLike, shape: tuple[int, ...]) -> _Mapped:
    """The array in a file; -1 in `shape` is any length. Errors name the file."""
    stored.check_size(folder)
    with (folder / stored.file).open("rb") as file:
        try:
            np.lib.format.read_magic(file)
            found, _, found_dtype = np.lib.format.read_array_header_1_0(file)
        except OSError:
            raise
        except Exception as error:  # a damaged header is misread in many ways
            raise stored.damaged(folder, "it does not begin as a .npy file") from error
        start = file.tell()
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    matches = len(found) == len(shape) and all(want in (-1, length) for want, length in zip(shape, found, strict=True))
    if found_dtype != dtype or not matches or start + math.prod(found) * found_dtype.itemsize != stored.bytes:
        raise stored.damaged(folder, f"{found_dtype} of shape {found} instead of {np.dtype(dtype)} of {shape}")
    return _Mapped(np.ndarray(found, found_dtype, memory, start), memory, start)
