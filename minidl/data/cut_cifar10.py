"""Cut the embedded data set from the official files: ``python -m minidl.data.cut_cifar10 SOURCE DESTINATION``.

SOURCE holds the binary version of CIFAR-10. The repository's copy was made by this file, in ten seconds.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidl.data.cifar10 import CIFAR10
from minidl.data.embedded import PER_SHEET, write_sheet


def first_of_each_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of the first `count` images of every class, in the order of the whole set."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def cut(source: Path, destination: Path) -> None:
    """Write the sheets and labels of both parts into `destination`."""
    destination.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 500), ("test", 100)):
        full = CIFAR10(source, train=part == "train")
        chosen = first_of_each_class(full.labels, count)
        np.save(destination / f"{part}-labels.npy", full.labels[chosen].astype(np.uint8))
        for number, start in enumerate(range(0, len(chosen), PER_SHEET)):
            write_sheet(full.images[chosen[start : start + PER_SHEET]], destination / f"{part}-{number}.webp")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    cut(Path(sys.argv[1]), Path(sys.argv[2]))
