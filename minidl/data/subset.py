"""Parts of a data set: some of its images, or two disjoint parts with the same mix of classes."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset


class Subset:
    """The images of `dataset` at `indices`, in that order, not copied.

    indices: integers (M,) in 0..len(dataset) - 1. Raises ValueError for others.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int] | NDArray[np.integer]) -> None:
        chosen = np.asarray(indices, None if len(indices) else np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"indices are {chosen.dtype} of shape {chosen.shape}; expected integers (M,): "
                "turn a mask into indices with np.flatnonzero"
            )
        outside = chosen[(chosen < 0) | (chosen >= len(dataset))]
        if outside.size:
            raise ValueError(f"index {outside[0]} is outside of the data set; expected 0..{len(dataset) - 1}")
        self.dataset = dataset
        self.indices: NDArray[np.int64] = chosen.astype(np.int64)
        self.labels: NDArray[np.int64] = dataset.labels[self.indices]
        self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        return self.dataset[int(self.indices[index])]

    @property
    def batch(self) -> Callable[[NDArray[np.integer]], tuple[NDArray[np.uint8], NDArray[np.integer]]] | None:
        """The fast way to many images, see `Dataset`; None if the whole data set has none."""
        whole = getattr(self.dataset, "batch", None)
        return None if whole is None else lambda indices: whole(self.indices[indices])


def split(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Subset, Subset]:
    """Two disjoint parts that together are the whole: (rest, `fraction` of each class), each in the original order.

    Every class of two or more images is in both parts; a class of one image is in the first. The same seed draws
    the same parts: ``train, test = split(photographs, 0.2)``. Raises ValueError unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; expected a share of each class between 0 and 1, such as 0.2")
    rng = np.random.default_rng(seed)
    second = np.zeros(len(dataset), bool)
    for label in np.unique(dataset.labels):
        members = rng.permutation(np.flatnonzero(dataset.labels == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        second[members[:count]] = True
    return Subset(dataset, np.flatnonzero(~second)), Subset(dataset, np.flatnonzero(second))
