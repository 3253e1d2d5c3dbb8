"""The data set held in memory, and what it refuses."""

import numpy as np
import pytest

from minidl.data import ArrayDataset

IMAGES = np.arange(3 * 2 * 2 * 1, dtype=np.uint8).reshape(3, 2, 2, 1)


def test_an_item_is_an_image_and_its_label():
    dataset = ArrayDataset(IMAGES, np.array([1, 0, 1], np.uint8), ("a", "b"))
    image, label = dataset[2]
    assert np.array_equal(image, IMAGES[2]) and image.dtype == np.uint8
    assert label == 1 and type(label) is int
    assert len(dataset) == 3
    assert dataset.labels.tolist() == [1, 0, 1] and dataset.labels.dtype == np.int64
    assert dataset.classes == ["a", "b"]
    assert len(list(dataset)) == 3  # IndexError ends it


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), [0, 0, 0], r"float32 of shape \(3, 2, 2, 1\); expected uint8"),
        (IMAGES[..., 0], [0, 0, 0], r"shape \(3, 2, 2\).*images\[\.\.\., None\]"),
        (IMAGES, [0, 0], r"shape \(2,\); expected 3 integers"),
        (IMAGES, [0.0, 1.0, 0.0], "float64 of shape"),
        (IMAGES, [0, 1, 2], r"label 2 of image 2 is not in 0\.\.1"),
        (IMAGES, [0, -1, 0], r"label -1 of image 1 is not in 0\.\.1"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ArrayDataset(images, np.array(labels), ["a", "b"])
