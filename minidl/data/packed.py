"""Images packed by `minidl.data.pack`, mapped into memory: as fast as an array, without the memory of one."""

from bisect import bisect_right
from itertools import accumulate
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidl.data.dataset import check_labels
from minidl.data.manifest import Stored, read_manifest


class PackedImages:
    """The data set in a packed folder: ``packed[i]`` and ``packed.batch(indices)`` are uint8 (size, size, 3), copied.

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
        self.mean_image: NDArray[np.float32] = _open(folder, manifest.mean_image, np.float32, square).copy()
        self.mean_colour: NDArray[np.float32] = np.array(manifest.mean_colour, np.float32)
        self.colour_covariance: NDArray[np.float32] = np.array(manifest.colour_covariance, np.float32)
        self.labels: NDArray[np.int64] = _open(folder, manifest.labels, np.int64, (manifest.images,)).copy()
        check_labels(self.labels, len(self.classes), folder / manifest.labels.file, "pack the images anew")
        self._shards = [_open(folder, stored, np.uint8, (-1, *square)) for stored in manifest.shards]
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]
        if self._starts[-1] != manifest.images:
            raise ValueError(f"{folder}: {manifest.images} images in the manifest, {self._starts[-1]} in the shards; pack anew")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        return self._view(self._checked(index)).copy(), int(self.labels[index])

    def batch(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images (M, size, size, 3) and labels (M,) at the integers `indices` (M,), copied."""
        images = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        for image, index in zip(images, indices, strict=True):
            image[...] = self._view(self._checked(int(index)))
        return images, self.labels[indices]

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a data set of {len(self)}")
        return index % len(self)

    def _view(self, index: int) -> NDArray[np.uint8]:
        shard = bisect_right(self._starts, index) - 1  # the last that starts at or before it
        return self._shards[shard][index - self._starts[shard]]


def _open(folder: Path, stored: Stored, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray:
    """The array in a file, mapped into memory; -1 in `shape` is any length. Errors name the file."""
    stored.check_size(folder)
    try:
        mapped = np.load(folder / stored.file, mmap_mode="r", allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged header is misread in many ways
        raise stored.damaged(folder, "it does not begin as a .npy file") from error
    matches = mapped.ndim == len(shape) and all(wanted in (-1, found) for wanted, found in zip(shape, mapped.shape, strict=True))
    if mapped.dtype != dtype or not matches:
        raise stored.damaged(folder, f"{mapped.dtype} of shape {mapped.shape} instead of {np.dtype(dtype)} of {shape}")
    return np.asarray(mapped)  # a plain array: indexing a memmap takes ten times as long
