"""The images that come with minidl are those of CIFAR-10, to the last bit."""

import hashlib
import re

import numpy as np
import pytest

from minidl.data import EmbeddedCIFAR10, embedded

# Of the pixels in the order (N, H, W, C), then the labels as bytes; checked against the official files when it was cut.
SHA256 = {
    True: "002a1dd991bc6394a8ee4eeafc261090244ac2d20a5a7e07459fa373c619531c",
    False: "2d34d5dc5491f71e1de575ecdfc7287f543e2c8ae81278990a0dba0f0af2d57d",
}


@pytest.mark.parametrize("train", [True, False])
def test_pixels_and_labels_are_the_official_ones(train):
    dataset = EmbeddedCIFAR10(train)
    content = dataset.images.tobytes() + dataset.labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(content).hexdigest() == SHA256[train]


@pytest.mark.parametrize(("train", "each"), [(True, 500), (False, 100)])
def test_classes_are_balanced_but_not_sorted(train, each):
    dataset = EmbeddedCIFAR10(train)
    assert dataset.images.shape == (10 * each, 32, 32, 3) and dataset.images.dtype == np.uint8
    assert np.bincount(dataset.labels).tolist() == [each] * 10
    assert len(set(dataset.labels[:20])) > 5
    assert len(dataset.classes) == 10


def test_the_whole_is_at_most_15_megabytes():
    assert sum(file.stat().st_size for file in embedded.FOLDER.iterdir()) <= 15e6


def test_an_incomplete_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "test-labels.npy")) + ".*install minidl again"):
        EmbeddedCIFAR10(train=False)
    np.save(tmp_path / "test-labels.npy", np.zeros(5, np.uint8))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "test-0.webp"))):
        EmbeddedCIFAR10(train=False)
