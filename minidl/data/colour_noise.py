"""Other light: the colour noise of the AlexNet paper, along the principal components of the data set's colours."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidl.backend import beside, get_array_module
from minidl.data.transforms import Images


@dataclass(frozen=True, eq=False)
class ColourNoise:
    """Add one colour to all pixels of an image, drawn anew for each image: AlexNet, section 4.1; the result is float32.

    The colour is p1 a1 l1 + p2 a2 l2 + p3 a3 l3: p are the eigenvectors of `covariance`, a ~ N(0, std), and l is

    - magnitude="eigenvalue": the eigenvalue, as the paper writes. That is a variance, the square of a colour, so the
      formula holds on one scale only. Read with pixels of 0..1 it shifts photographs by a few grey levels of 255; with
      pixels of 0..255 it would be 255 times as much, hundreds of them. So l = eigenvalue / 255 here.
    - magnitude="deviation": the square root of the eigenvalue, as the 2012 program computes. It is a colour itself, the
      same on every scale, and about twice as much noise. (The program then divides everything by 1.1.)

    covariance: (C, C) of the colours of pixels on the scale of 0..255, such as ``colour_covariance(dataset)`` or
        ``packed.colour_covariance``; `images` are on that scale too, with or without their mean subtracted.

    Raises ValueError for a covariance that is no symmetric matrix, or of another number of channels than the images.
    """

    covariance: ArrayLike
    magnitude: Literal["eigenvalue", "deviation"] = "eigenvalue"
    std: float = 0.1
    basis: NDArray[np.float64] = field(init=False, repr=False)  # (C, C): column i is p_i l_i

    def __post_init__(self) -> None:
        covariance = np.asarray(self.covariance, np.float64)
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not np.allclose(covariance, covariance.T):
            raise ValueError(
                f"covariance of shape {covariance.shape} is no symmetric (C, C) matrix; use colour_covariance(dataset)"
            )
        if self.magnitude not in ("eigenvalue", "deviation"):
            raise ValueError(f'magnitude is {self.magnitude!r}; expected "eigenvalue" or "deviation"')
        if not self.std >= 0:
            raise ValueError(f"std is {self.std}; expected 0 or more")
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 0)  # a channel that never varies may come out at -1e-17
        # Eigenvectors are free to point either way: fixed, so that a seed means the same noise on every machine.
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
        lengths = values / 255 if self.magnitude == "eigenvalue" else np.sqrt(values)
        object.__setattr__(self, "basis", vectors * np.sign(largest) * lengths)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        count, _, width, channels = images.shape
        if self.basis.shape != (channels, channels):
            raise ValueError(f"a covariance of shape {self.basis.shape} does not fit images of shape {images.shape[1:]}")
        colours = (rng.normal(0, self.std, (count, channels)) @ self.basis.T).astype(np.float32)[:, None, None]
        xp = get_array_module(images)
        with beside(images):
            # On the CPU a row of each colour: one long inner loop instead of many over 3 channels.
            noise = np.repeat(colours, width, axis=2) if xp is np else xp.asarray(colours)
            return xp.add(images, noise, dtype=np.float32)
