"""Pieces of images: at random places while training, from the centre or from ten places while testing.

Transforms like those in `minidl.data.transforms`: ``crop(images, rng) -> images``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidl.backend import beside, get_array_module
from minidl.data.transforms import Images, mirror


@dataclass(frozen=True)
class RandomCrop:
    """A `size` x `size` piece of each image, at a random place of its own; before, a border of `padding` zeros is added.

    AlexNet, section 4.1: ``RandomCrop(224)`` of 256 x 256. For CIFAR-10: ``RandomCrop(32, padding=4)``.
    Zero is black, or the mean if that is subtracted before. `together`: this many images, one after the other, are cut at the
    same place, as the program of 2012 did with 32. Raises ValueError if the images are too small.
    """

    size: int
    padding: int = 0
    together: int = 1

    def __post_init__(self) -> None:
        if self.padding < 0 or self.together < 1:
            raise ValueError(f"padding is {self.padding}, together is {self.together}; expected at least 0 pixels, 1 image")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        with beside(images):
            p = self.padding
            images = get_array_module(images).pad(images, ((0, 0), (p, p), (p, p), (0, 0))) if p else images
            count, height, width, _ = images.shape
            _check_crop(self.size, height, width)
            places = -(-count // self.together)
            tops = rng.integers(height - self.size + 1, size=places).repeat(self.together)[:count]
            lefts = rng.integers(width - self.size + 1, size=places).repeat(self.together)[:count]
            return _cut(images, tops, lefts, self.size)


@dataclass(frozen=True)
class CenterCrop:
    """The central `size` x `size` piece of each image. Raises ValueError if the images are too small."""

    size: int

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        _, height, width, _ = images.shape
        _check_crop(self.size, height, width)
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return images[:, top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class TenCrop:
    """Ten `size` x `size` pieces of each image, (N, H, W, C) -> (10 N, size, size, C), as AlexNet is tested (section 4.1).

    Image by image: top left, top right, bottom left, bottom right, centre, then the mirror images of these five in the
    same order. The average of the ten predictions: ``probabilities.reshape(N, 10, classes).mean(axis=1)``. The labels stay
    (N,). Raises ValueError if the images are too small.
    """

    size: int

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        count, height, width, channels = images.shape
        _check_crop(self.size, height, width)
        bottom, right = height - self.size, width - self.size
        xp = get_array_module(images)
        with beside(images):
            crops = xp.empty((count, 10, self.size, self.size, channels), images.dtype)
            for number, (top, left) in enumerate([(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]):
                crops[:, number] = images[:, top : top + self.size, left : left + self.size]
            if xp is np:
                for of_image in crops:  # small enough to stay in the cache
                    for number in range(5):
                        mirror(of_image[number], out=of_image[5 + number])
            else:
                mirror(crops[:, :5], out=crops[:, 5:])
            return crops.reshape(-1, self.size, self.size, channels)


def _cut(images: Images, tops: NDArray[np.int64], lefts: NDArray[np.int64], size: int) -> Images:
    """The pieces (N, size, size, C) of the images (N, H, W, C) whose first pixels are at `tops` (N,) and `lefts` (N,)."""
    xp = get_array_module(images)
    if xp is not np:  # one gather, instead of a kernel an image
        top, left = xp.asarray(np.stack([tops, lefts]))[:, :, None, None]
        pixels = xp.arange(size)
        return images[xp.arange(len(images))[:, None, None], top + pixels[:, None], left + pixels]
    crops = np.empty((len(images), size, size, images.shape[3]), images.dtype)
    for crop, image, top, left in zip(crops, images, tops, lefts, strict=True):
        crop[...] = image[top : top + size, left : left + size]
    return crops


def _check_crop(size: int, height: int, width: int) -> None:
    if not 1 <= size <= min(height, width):
        raise ValueError(f"cannot crop {size} x {size} from images of {height} x {width}; use Resize first, or padding")
