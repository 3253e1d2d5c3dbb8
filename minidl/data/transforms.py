"""Changes to a batch of images on its way to the network: ``transform(images, rng) -> images``.

images: (N, H, W, C), uint8 or float32; never changed in place. rng decides what is random, so that a batch is the same
whichever thread makes it. Keep images uint8 as long as possible (crop and mirror first): a quarter of the bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Images = NDArray[Any]
Transform = Callable[[Images, np.random.Generator], Images]


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    transforms: Sequence[Transform]

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        for transform in self.transforms:
            images = transform(images, rng)
        return images


@dataclass(frozen=True)
class RandomCrop:
    """A `size` x `size` piece of each image at a place of its own, after a border of `padding` zeros is laid round.

    AlexNet, section 4.1: ``RandomCrop(224)`` of 256 x 256. For CIFAR-10: ``RandomCrop(32, padding=4)``.
    Zero is black, or the mean if that is subtracted before. Raises ValueError if the images are too small.
    """

    size: int
    padding: int = 0

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding is {self.padding}; expected 0 or more pixels")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        p = self.padding
        images = np.pad(images, ((0, 0), (p, p), (p, p), (0, 0))) if p else images
        count, height, width, channels = images.shape
        _check_crop(self.size, height, width)
        tops = rng.integers(height - self.size + 1, size=count)
        lefts = rng.integers(width - self.size + 1, size=count)
        crops = np.empty((count, self.size, self.size, channels), images.dtype)
        for crop, image, top, left in zip(crops, images, tops, lefts, strict=True):
            crop[...] = image[top : top + self.size, left : left + self.size]
        return crops


@dataclass(frozen=True)
class CenterCrop:
    """The central `size` x `size` piece of each image. Raises ValueError if the images are too small."""

    size: int

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        _, height, width, _ = images.shape
        _check_crop(self.size, height, width)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return images[:, top : top + self.size, left : left + self.size]


def _check_crop(size: int, height: int, width: int) -> None:
    if not 1 <= size <= min(height, width):
        raise ValueError(f"cannot crop {size} x {size} from images of {height} x {width}; use Resize first, or padding")


@dataclass(frozen=True)
class Mirror:
    """Each image is flipped left to right with probability `p` (AlexNet, section 4.1: horizontal reflections)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p is {self.p}; expected a probability between 0 and 1")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        flip = rng.random(len(images)) < self.p
        flipped = images.copy()
        flipped[flip] = images[flip, :, ::-1]
        return flipped


@dataclass(frozen=True)
class Resize:
    """Scale images to `size` x `size` (float32, not rounded): bilinear, averaging over all pixels where it shrinks.

    Interpolation is linear in the pixels and separate in height and width, so it is a matrix from the left and one
    from the right, R @ image @ S.T: two matrix products for the batch, faster than a Pillow call for each small image.
    The matrices are dense, so large photographs are better brought down by ``ImageFolder(..., size=...)``.
    Equals Pillow's BILINEAR up to its rounding.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; expected at least 1 pixel")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        count, height, width, channels = images.shape
        rows, columns = interpolation_matrix(height, self.size), interpolation_matrix(width, self.size)
        wide = columns @ images.astype(np.float32)  # (size, W) @ each row's (W, C)
        tall = rows @ wide.reshape(count, height, -1)  # (size, H) @ each image's (H, size * C)
        return tall.reshape(count, self.size, self.size, channels)


def interpolation_matrix(old: int, new: int) -> NDArray[np.float32]:
    """(new, old): row i holds the weights with which the old pixels make up new pixel i; rows sum to 1.

    Pixel i of the new image has its centre at (i + 1/2) * old / new in the old one. The weight falls linearly with the
    distance, to zero at one pixel of whichever image has the larger pixels.
    """
    centres = (np.arange(new) + 0.5) * old / new
    distances = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(old / new, 1)
    weights: NDArray[np.float64] = np.maximum(1 - distances, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)


@dataclass(frozen=True, eq=False)
class SubtractMean:
    """Subtract a mean image (H, W, C), a mean colour (C,) or a number; the result is float32.

    AlexNet, section 2: ``SubtractMean(mean_image(dataset))``. Raises ValueError if the shapes do not fit.
    """

    mean: ArrayLike

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        return np.subtract(images, _for_each_pixel(self.mean, images.shape[1:]), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiply by an image (H, W, C), a number a channel (C,) or one number; the result is float32.

    ``Scale(1 / 255)`` brings pixels to 0..1, ``Scale(1 / std_colour(dataset))`` to a deviation of 1 in each channel.
    Raises ValueError if the shapes do not fit.
    """

    factor: ArrayLike

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        return np.multiply(images, _for_each_pixel(self.factor, images.shape[1:]), dtype=np.float32)


def _for_each_pixel(values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """`values` spread over a whole image (H, W, C), for one long inner loop instead of many over 3 channels."""
    array = np.asarray(values, np.float32)
    if array.shape not in ((), shape[-1:], shape):
        raise ValueError(
            f"values of shape {array.shape} for images of shape {shape}; expected {shape}, {shape[-1:]} or a number: "
            "apply a mean image before cropping or resizing, or use mean_colour"
        )
    return np.broadcast_to(array, shape).copy()
