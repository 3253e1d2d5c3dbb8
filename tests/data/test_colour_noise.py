"""The colour noise against the paper's formula, written out image by image."""

import numpy as np
import pytest

from minidl import backend
from minidl.data import ColourNoise, EmbeddedCIFAR10, colour_covariance

PHOTOGRAPHS = EmbeddedCIFAR10(train=False)
COVARIANCE = colour_covariance(PHOTOGRAPHS)


def one_image(image, covariance, magnitude, alphas):
    """Section 4.1: [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T is added to every pixel; on the scale of 0..1 for eigenvalues."""
    pixels, scale = image.astype(float), 1.0
    if magnitude == "eigenvalue":
        pixels, scale = pixels / 255, 255.0
    values, vectors = np.linalg.eigh(covariance.astype(float) / scale**2)
    lengths = values if magnitude == "eigenvalue" else np.sqrt(values)
    for vector, length, alpha in zip(vectors.T, lengths, alphas, strict=True):
        vector = vector if vector[np.abs(vector).argmax()] > 0 else -vector
        for channel in range(3):
            pixels[..., channel] += vector[channel] * alpha * length
    return pixels * scale


@pytest.mark.parametrize("magnitude", ["eigenvalue", "deviation"])
@pytest.mark.parametrize("std", [0.1, 0.5])
def test_noise_equals_the_formula(device, magnitude, std):
    images = PHOTOGRAPHS.images[:6]
    alphas = np.random.default_rng(5).normal(0, std, (6, 3))
    expected = [one_image(image, COVARIANCE, magnitude, of_image) for image, of_image in zip(images, alphas, strict=True)]
    found = ColourNoise(COVARIANCE, magnitude, std)(backend.to_device(images, device), np.random.default_rng(5))
    assert found.dtype == np.float32 and backend.device_of(found) == backend.canonical_device(device)
    np.testing.assert_allclose(backend.to_device(found, "cpu"), expected, atol=1e-3)


def test_the_noise_has_the_covariance_that_was_asked_for():
    grey = np.zeros((20_000, 1, 1, 3), np.uint8)
    shifts = ColourNoise(COVARIANCE, "deviation", 0.1)(grey, np.random.default_rng(0)).reshape(-1, 3)
    np.testing.assert_allclose(np.cov(shifts.T), COVARIANCE * 0.1**2, rtol=0.05)
    weaker = ColourNoise(COVARIANCE, std=0.1)(grey, np.random.default_rng(0)).reshape(-1, 3)
    assert 1 < weaker.std() < shifts.std()  # grey levels: seen, and no more than that


def test_one_colour_an_image():
    images = PHOTOGRAPHS.images[:3]
    shifts = ColourNoise(COVARIANCE)(images, np.random.default_rng(0)) - images
    assert np.abs(shifts - shifts[:, :1, :1]).max() < 1e-4
    assert len(np.unique(shifts[:, 0, 0, 0])) == 3


def test_grey_images_have_one_component():
    images = np.zeros((2, 2, 2, 1), np.float32)
    assert ColourNoise([[400.0]], "deviation")(images, np.random.default_rng(0)).shape == images.shape


def test_a_channel_without_variance_gets_no_noise():
    shifts = ColourNoise(np.diag([0.0, 100.0, 0.0]), "deviation")(np.zeros((5, 1, 1, 3)), np.random.default_rng(0))
    assert (shifts[..., [0, 2]] == 0).all() and shifts[..., 1].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariance": np.ones(3)}, r"covariance of shape \(3,\) is no symmetric"),
        ({"covariance": [[1, 2], [3, 4]]}, r"covariance of shape \(2, 2\) is no symmetric"),
        ({"covariance": np.full((3, 3), np.nan)}, "is no symmetric"),
        ({"magnitude": "variance"}, "magnitude is 'variance'; expected"),
        ({"std": -1}, "std is -1; expected 0 or more"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        ColourNoise(**{"covariance": np.eye(3), **arguments})


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"covariance of shape \(3, 3\) does not fit images of shape \(4, 4, 1\)"):
        ColourNoise(np.eye(3))(np.zeros((2, 4, 4, 1)), np.random.default_rng(0))
