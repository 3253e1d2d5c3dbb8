"""Means and deviations against one line of NumPy."""

import numpy as np
import pytest

from minidl.data import ArrayDataset, EmbeddedCIFAR10, Subset, colour_covariance, mean_colour, mean_image, statistics, std_colour
from minidl.data.statistics import colour_products


@pytest.fixture(scope="module")
def dataset():
    return EmbeddedCIFAR10(train=False)


def test_statistics_equal_those_of_all_pixels(dataset):
    pixels = dataset.images.astype(np.float64)
    for found, expected in (
        (mean_image(dataset), pixels.mean(axis=0)),
        (mean_colour(dataset), pixels.mean(axis=(0, 1, 2))),
        (std_colour(dataset), pixels.std(axis=(0, 1, 2))),
        (colour_covariance(dataset), np.cov(pixels.reshape(-1, 3).T, bias=True)),
    ):
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_subset_has_statistics_of_its_own(dataset):
    expected = dataset.images[[3, 5]].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_image(Subset(dataset, [3, 5])), expected, rtol=1e-6)


def test_products_of_large_bright_images_do_not_overflow():
    planes = np.full((2, 3 * 2**16 + 5), 255, np.uint32)
    planes[1] = 254
    count = planes.shape[1]
    assert colour_products(planes).tolist() == [[count * 255**2, count * 255 * 254], [count * 254 * 255, count * 254**2]]


class TwoSizes:
    """A black image of 2 x 2 pixels and a white one of 2 x 6."""

    labels, classes = np.zeros(2, np.int64), ["only"]

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (np.full((2, 6, 1), 255, np.uint8) if index else np.zeros((2, 2, 1), np.uint8)), 0


def test_every_pixel_of_images_of_different_sizes_counts_once():
    assert mean_colour(TwoSizes()).tolist() == [255 * 12 / 16]
    np.testing.assert_allclose(std_colour(TwoSizes()), [255 * np.sqrt(0.75 * 0.25)], rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 4])
def test_threads_make_the_same_sums_in_one_pass(dataset, monkeypatch, workers):
    monkeypatch.setattr(statistics, "worker_count", lambda: workers)
    asked = []

    class Asked(Subset):
        batch = None

        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    some = Asked(dataset, range(100))
    found = statistics.sums(some, image=True, colours=True)
    pixels = dataset.images[:100].astype(np.int64)
    assert sorted(asked) == list(range(100))
    assert found.images == 100 and found.pixels == 100 * 32 * 32 and found.shape == (32, 32, 3)
    assert np.array_equal(found.total, pixels.sum(axis=0)) and np.array_equal(found.channels, pixels.sum(axis=(0, 1, 2)))
    assert np.array_equal(found.products, np.einsum("nhwi,nhwj->ij", pixels, pixels))


def test_ctrl_c_goes_through():
    class Interrupted(TwoSizes):
        def __getitem__(self, index):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mean_colour(Interrupted())


def test_images_of_different_sizes_have_no_mean_image():
    with pytest.raises(ValueError, match=r"image 1 has shape \(2, 6, 1\), image 0 \(2, 2, 1\).*size="):
        mean_image(TwoSizes())


@pytest.mark.parametrize("statistic", [mean_image, mean_colour, std_colour, colour_covariance])
def test_nothing_has_no_mean(statistic):
    with pytest.raises(ValueError, match="empty"):
        statistic(ArrayDataset(np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, int), ["a"]))
