"""Means and (co)variances of a data set's pixels, for `SubtractMean`, `Scale` and `ColourNoise`.

All are sums of integers below 2**53, exact: the order of the images does not matter. A few images that cannot be decoded are
passed over, as in `DataLoader`.
"""

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset
from minidl.data.failures import decodable_images

# So many products of two bytes fit into 32 bits, and sums of 32-bit integers are twice as fast as those of 64.
BLOCK = 2**16


def mean_image(dataset: Dataset) -> NDArray[np.float32]:
    """The mean over all images: (H, W, C), in 0..255. Section 2 of the AlexNet paper subtracts it from every image.

    Raises ValueError if the images differ in shape or there are none.
    """
    _check_not_empty(dataset)
    first, total, count = 0, np.zeros(0), 0
    for index, image in decodable_images(dataset):
        if not count:
            first, total = index, np.zeros(image.shape)
        elif image.shape != total.shape:
            raise ValueError(
                f"image {index} has shape {image.shape}, image {first} {total.shape}: a mean image needs one shape; "
                "use ImageFolder(..., size=...), or mean_colour"
            )
        total += image
        count += 1
    return (total / count).astype(np.float32)


def mean_colour(dataset: Dataset) -> NDArray[np.float32]:
    """The mean over all pixels of all images, a channel: (C,), in 0..255. Raises ValueError if there are none."""
    count, total, _ = _colour_sums(dataset)
    return (total / count).astype(np.float32)


def std_colour(dataset: Dataset) -> NDArray[np.float32]:
    """The standard deviation (of all pixels about `mean_colour`), a channel: (C,), in 0..255. Errors as there."""
    return np.sqrt(np.diagonal(covariance(*_colour_sums(dataset)))).astype(np.float32)


def colour_covariance(dataset: Dataset) -> NDArray[np.float32]:
    """The covariance of the channels over all pixels: (C, C), on the scale of 0..255. Errors as for `mean_colour`."""
    return covariance(*_colour_sums(dataset)).astype(np.float32)


def covariance(count: int, total: NDArray[np.int64], products: NDArray[np.int64]) -> NDArray[np.float64]:
    """The covariance (C, C) of `count` pixels, from the sum of each channel (C,) and of the products of each two (C, C)."""
    mean = total / count
    return products / count - np.outer(mean, mean)


def colour_products(planes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The sums over all pixels of the products of each two channels: (C, C); planes: (C, pixels), values 0 to 255.

    Each channel lies in one run of memory, which is several times as fast to sum as steps of 3.
    """
    channels, pixels = planes.shape
    products = np.zeros((channels, channels), np.int64)
    for start in range(0, pixels, BLOCK):
        block = planes[:, start : start + BLOCK]
        for i in range(channels):
            for j in range(i + 1):
                products[i, j] += np.einsum("p,p", block[i], block[j])
    return np.tril(products) + np.tril(products, -1).T


def _colour_sums(dataset: Dataset) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Of all images: number of pixels, sum of each channel, sum of `colour_products`."""
    _check_not_empty(dataset)
    count, total, products = 0, np.zeros((), np.int64), np.zeros((), np.int64)
    for _, image in decodable_images(dataset):
        planes = image.reshape(-1, image.shape[-1]).T.astype(np.uint32, order="C")
        count += planes.shape[1]
        total = total + planes.sum(axis=1, dtype=np.int64)
        products = products + colour_products(planes)
    return count, total, products


def _check_not_empty(dataset: Dataset) -> None:
    if not len(dataset):
        raise ValueError("the data set is empty; there is nothing to take the mean of")
