"""Changes to a batch of images on its way to the network: ``transform(images, rng) -> images``.

images: (N, H, W, C), uint8 or float32, a NumPy or a CuPy array; never changed in place. The result is on the same device.
rng decides what is random, so that a batch is the same whichever thread makes it. It draws on the host, a few numbers for each
batch: so a seed means the same crops, flips and colours on every device. Keep images uint8 as long as possible (crop and mirror
first): they take a quarter of the bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidl.backend import Array, beside, device_of, get_array_module, to_device

Images = Array
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
class Mirror:
    """Each image is flipped left to right with probability `p` (AlexNet, section 4.1: horizontal reflections).

    `together`: this many images, one after the other, share one decision, as 32 did in the program of 2012.
    """

    p: float = 0.5
    together: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1 or self.together < 1:
            raise ValueError(f"p is {self.p}, together is {self.together}; expected a probability, and at least 1 image")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        flips = (rng.random(-(-len(images) // self.together)) < self.p).repeat(self.together)[: len(images)]
        xp = get_array_module(images)
        if xp is not np:
            with beside(images):
                return xp.where(xp.asarray(flips)[:, None, None, None], images[:, :, ::-1], images)
        mirrored = np.empty(images.shape, images.dtype)
        for out, image, flip in zip(mirrored, images, flips, strict=True):
            if flip:
                mirror(image, out)
            else:
                out[...] = image
        return mirrored


def mirror(images: Images, out: Images) -> None:
    """Write `images` (..., H, W, C) into `out` flipped left to right: channel by channel, since runs of 3 bytes copy slowly."""
    for channel in range(images.shape[-1]):
        out[..., channel] = images[..., ::-1, channel]


@dataclass(frozen=True)
class Resize:
    """Scale images to `size` x `size` (float32, not rounded): bilinear, averaging over all pixels where it shrinks.

    Interpolation is linear in the pixels and separate in height and width, so it is a matrix from the left and one
    from the right, R @ image @ S.T: matrix products for the batch, faster than a Pillow call for each small image.
    The matrices are dense, so large photographs are better brought down by ``ImageFolder(..., size=...)``.
    Equals Pillow's BILINEAR up to its rounding; a GPU that may use TF32 rounds the factors to 11 bits, tenths of a grey level.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; expected at least 1 pixel")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        count, height, width, channels = images.shape
        rows, columns = (to_device(interpolation_matrix(old, self.size), device_of(images)) for old in (height, width))
        xp = get_array_module(images)
        with beside(images):
            if xp is not np:  # `@` would be a product for each row of each image, with C columns; here are two large ones
                wide = xp.tensordot(images.astype(np.float32), columns, (2, 1))  # (N, H, C, size)
                return xp.tensordot(wide, rows, (1, 1)).transpose(0, 3, 2, 1)  # (N, C, size, size), columns before rows
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
    _copies: dict[str, Array] = field(default_factory=dict, init=False, repr=False)  # of the mean, by GPU

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        with beside(images):
            mean = _for_each_pixel(self.mean, images, self._copies)
            return get_array_module(images).subtract(images, mean, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiply by an image (H, W, C), by a number for each channel (C,) or by one number; the result is float32.

    ``Scale(1 / 255)`` brings pixels to 0..1, ``Scale(1 / std_colour(dataset))`` to a deviation of 1 in each channel.
    Raises ValueError if the shapes do not fit.
    """

    factor: ArrayLike
    _copies: dict[str, Array] = field(default_factory=dict, init=False, repr=False)  # of the factor, by GPU

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        with beside(images):
            factor = _for_each_pixel(self.factor, images, self._copies)
            return get_array_module(images).multiply(images, factor, dtype=np.float32)


def _for_each_pixel(values: ArrayLike, images: Images, copies: dict[str, Array]) -> Array:
    """`values` as float32 on the device of `images`, to be broadcast over them. `copies` keeps those of each GPU for the next batch."""
    array = np.asarray(values, np.float32)
    shape = images.shape[1:]
    if array.shape not in ((), shape[-1:], shape):
        raise ValueError(
            f"values of shape {array.shape} for images of shape {shape}; expected {shape}, {shape[-1:]} or a number: "
            "apply a mean image before cropping or resizing, or use mean_colour"
        )
    device = device_of(images)
    if device == "cpu":
        return np.broadcast_to(array, shape).copy()  # a whole image: one long inner loop instead of many over 3 channels
    if device not in copies:
        copies[device] = to_device(array, device)
    return copies[device]
