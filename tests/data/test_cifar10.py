"""The official binary files, written small here, and the program that cuts the embedded set from them."""

import re

import numpy as np
import pytest

from minidl.data import CIFAR10, EmbeddedCIFAR10, cifar10, cut_cifar10, embedded

RECORDS = 8


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A folder of official files, five times 8 images and 8, and what is in them."""
    monkeypatch.setattr(cifar10, "RECORDS_PER_FILE", RECORDS)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    train, test = EmbeddedCIFAR10(True), EmbeddedCIFAR10(False)
    names = [f"data_batch_{number}" for number in range(1, 6)]
    for start, name in enumerate(names):
        write_batch(folder / f"{name}.bin", train, start * RECORDS)
    write_batch(folder / "test_batch.bin", test, 0)
    (folder / "batches.meta.txt").write_text("\n".join(train.classes) + "\n\n")
    return tmp_path


def write_batch(path, dataset, start):
    record = b""
    for image, label in (dataset[i] for i in range(start, start + RECORDS)):
        record += bytes([label]) + b"".join(image[..., channel].tobytes() for channel in range(3))
    path.write_bytes(record)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_records_are_read_in_order(official, inside):
    expected = EmbeddedCIFAR10(True)
    dataset = CIFAR10(official / inside)
    assert np.array_equal(dataset.images, expected.images[: 5 * RECORDS])
    assert np.array_equal(dataset.labels, expected.labels[: 5 * RECORDS])
    assert dataset.classes == expected.classes
    assert np.array_equal(CIFAR10(official / inside, train=False).images, EmbeddedCIFAR10(False).images[:RECORDS])


@pytest.mark.parametrize("name", ["data_batch_3.bin", "batches.meta.txt"])
def test_a_missing_file_is_named(official, name):
    (official / "cifar-10-batches-bin" / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(name) + ".*download .CIFAR-10 binary version"):
        CIFAR10(official)


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0", lambda _: b""])
def test_a_file_of_the_wrong_length_is_refused(official, change):
    path = official / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(change(path.read_bytes()))
    found = path.stat().st_size
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected {RECORDS * 3073} bytes, found {found}; download")):
        CIFAR10(official, train=False)


def test_a_label_that_is_none_is_refused(official):
    path = official / "cifar-10-batches-bin" / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[7 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: label 10 of image 7 is not in 0..9; download")):
        CIFAR10(official, train=False)


def test_class_names_are_counted(official):
    path = official / "cifar-10-batches-bin" / "batches.meta.txt"
    path.write_text("airplane\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}: expected 10 class names, found 1; download")):
        CIFAR10(official)


def test_a_set_that_is_cut_reads_back_unchanged(official, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "FOLDER", tmp_path / "cut")
    monkeypatch.setattr(embedded, "ACROSS", RECORDS)
    cut_cifar10.cut(official, tmp_path / "cut")
    for train in (True, False):
        cut, full = EmbeddedCIFAR10(train), CIFAR10(official, train)
        assert np.array_equal(cut.images, full.images) and np.array_equal(cut.labels, full.labels)


def test_the_first_of_each_class_are_taken_in_the_order_of_the_set():
    assert cut_cifar10.first_of_each_class(np.array([1, 0, 1, 1, 0, 0, 0]), 2).tolist() == [0, 1, 2, 4]
