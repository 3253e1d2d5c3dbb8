"""Means and (co)variances of a data set's pixels, for `SubtractMean`, `Scale` and `ColourNoise`.

All are sums of integers below 2**53, exact: the order of the images does not matter, and several threads decode them. A few images
that cannot be decoded are passed over, as in `DataLoader`.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from minidl.data.dataset import Dataset
from minidl.data.failures import Failures, decodable_images
from minidl.kernels.parallel import worker_count

# So many products of two bytes fit into 32 bits, and sums of 32-bit integers are twice as fast as those of 64.
BLOCK = 2**16
PART = 32  # images that a thread goes through at a time


@dataclass
class Sums:
    """What one pass over images has added up. shape: that of the first image, whose index is `first`; images: how many there were.

    total: the sum of the images, of this shape. pixels, channels, products: the number of pixels, the sum of each channel (C,) and
    the sum of all `colour_products` (C, C). What is not wanted stays 0.
    """

    shape: tuple[int, ...]
    first: int
    images: int = 0
    total: np.ndarray | int = 0
    pixels: int = 0
    channels: np.ndarray | int = 0
    products: np.ndarray | int = 0

    def check_shape(self, shape: tuple[int, ...], index: int) -> None:
        """Raise ValueError if image `index` is of another shape than the first."""
        if shape != self.shape:
            raise ValueError(
                f"image {index} has shape {shape}, image {self.first} {self.shape}: a mean image needs one shape; "
                "use ImageFolder(..., size=...), or mean_colour"
            )

    @property
    def mean_image(self) -> NDArray[np.float32]:
        return (np.asarray(self.total) / self.images).astype(np.float32)

    @property
    def mean_colour(self) -> NDArray[np.float32]:
        return (np.asarray(self.channels) / self.pixels).astype(np.float32)

    @property
    def colour_covariance(self) -> NDArray[np.float64]:
        return covariance(self.pixels, np.asarray(self.channels), np.asarray(self.products))


def sums(dataset: Dataset, image: bool, colours: bool, bar: tqdm | None = None) -> Sums:
    """The sums over all images of `dataset`, in one pass. image, colours: which are wanted; `bar` counts the images.

    Raises ValueError if there are none, or if the image is wanted and they differ in shape.
    """
    if not len(dataset):
        raise ValueError("the data set is empty; there is nothing to take the mean of")
    failures, workers = Failures(len(dataset)), worker_count()
    waiting: deque[tuple[range, Future[Sums | None]]] = deque()
    whole: Sums | None = None
    pool = ThreadPoolExecutor(workers, thread_name_prefix="minidl-statistics")

    def take() -> Sums | None:
        indices, future = waiting.popleft()
        part = future.result()
        if bar is not None:
            bar.update(len(indices))
        if whole is None or part is None:
            return whole or part
        if image:
            whole.check_shape(part.shape, part.first)
        whole.images += part.images
        whole.total += part.total
        whole.pixels += part.pixels
        whole.channels += part.channels
        whole.products += part.products
        return whole

    try:
        for start in range(0, len(dataset), PART):
            indices = range(start, min(start + PART, len(dataset)))
            waiting.append((indices, pool.submit(_part, dataset, indices, failures, image, colours)))
            if len(waiting) > 2 * workers:  # a part has the size of several images: not all of them at once
                whole = take()
        while waiting:
            whole = take()
    finally:  # also reached by Ctrl-C
        pool.shutdown(wait=False, cancel_futures=True)
    assert whole is not None  # without a single decodable image `failures` has raised
    return whole


def _part(dataset: Dataset, indices: range, failures: Failures, image: bool, colours: bool) -> Sums | None:
    """In a thread: the sums of the images at `indices`; None if none of them can be decoded."""
    found: Sums | None = None
    for index, pixels in decodable_images(dataset, indices, failures):
        if found is None:
            found = Sums(pixels.shape, index, total=np.zeros(pixels.shape, np.int64) if image else 0)
        found.images += 1
        if image:
            found.check_shape(pixels.shape, index)
            found.total += pixels
        if colours:
            planes = pixels.reshape(-1, pixels.shape[-1]).T.astype(np.uint32, order="C")
            found.pixels += planes.shape[1]
            found.channels = found.channels + planes.sum(axis=1, dtype=np.int64)
            found.products = found.products + colour_products(planes)
    return found


def mean_image(dataset: Dataset) -> NDArray[np.float32]:
    """The mean over all images: (H, W, C), in 0..255. Section 2 of the AlexNet paper subtracts it from every image.

    Raises ValueError if the images differ in shape or there are none.
    """
    return sums(dataset, image=True, colours=False).mean_image


def mean_colour(dataset: Dataset) -> NDArray[np.float32]:
    """The mean of each channel over all pixels of all images: (C,), in 0..255. Raises ValueError if there are none."""
    return sums(dataset, image=False, colours=True).mean_colour


def std_colour(dataset: Dataset) -> NDArray[np.float32]:
    """The standard deviation of each channel over all pixels, about `mean_colour`: (C,), in 0..255. Errors as there."""
    return np.sqrt(np.diagonal(sums(dataset, image=False, colours=True).colour_covariance)).astype(np.float32)


def colour_covariance(dataset: Dataset) -> NDArray[np.float32]:
    """The covariance of the channels over all pixels: (C, C), on the scale of 0..255. Errors as for `mean_colour`."""
    return sums(dataset, image=False, colours=True).colour_covariance.astype(np.float32)


def covariance(count: int, total: NDArray[np.int64], products: NDArray[np.int64]) -> NDArray[np.float64]:
    """The covariance (C, C) of `count` pixels, from the sum of each channel (C,) and of the products of each two (C, C)."""
    mean = total / count
    return products / count - np.outer(mean, mean)


def colour_products(planes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The sums over all pixels of the products of each two channels: (C, C); planes: (C, pixels), values 0 to 255.

    Each channel lies in one run of memory, which is several times as fast to add up as every third number.
    """
    channels, pixels = planes.shape
    products = np.zeros((channels, channels), np.int64)
    for start in range(0, pixels, BLOCK):
        block = planes[:, start : start + BLOCK]
        for i in range(channels):
            for j in range(i + 1):
                products[i, j] += np.einsum("p,p", block[i], block[j])
    return np.tril(products) + np.tril(products, -1).T
