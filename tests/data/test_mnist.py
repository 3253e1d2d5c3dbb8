"""IDX files, compressed or not, whole or damaged."""

import gzip
import re
import struct

import numpy as np
import pytest

from minidl.data import MNIST, FashionMNIST

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, images=None, labels=None, part="train", compress=False):
    images, labels = idx(IMAGES) if images is None else images, idx(LABELS) if labels is None else labels
    for name, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        (folder / (name + ".gz" if compress else name)).write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("reader", [MNIST, FashionMNIST])
@pytest.mark.parametrize("part", ["train", "t10k"])
def test_images_and_labels_are_read(tmp_path, reader, part, compress):
    write(tmp_path, part=part, compress=compress)
    dataset = reader(str(tmp_path), train=part == "train")
    assert np.array_equal(dataset.images, IMAGES[..., None])
    assert np.array_equal(dataset.labels, LABELS) and dataset.labels.dtype == np.int64
    assert len(dataset.classes) == 10
    dataset.images[0] = 0  # a reader's images can be written to, as everyone else's


def test_class_names(tmp_path):
    write(tmp_path)
    assert MNIST(tmp_path).classes[7] == "7"
    assert FashionMNIST(tmp_path).classes[7] == "Sneaker"


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte or .*\.gz; .*zalandoresearch/fashion-mnist"):
        FashionMNIST(tmp_path)
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-labels-idx1-ubyte or .*\.gz; .*yann\.lecun\.com"):
        MNIST(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(LABELS), "expected magic number 00000803, found '00000801'"),
        (b"", "expected magic number 00000803, found ''"),
        (idx(IMAGES)[:-1], f"expected {16 + 12 * 784} bytes of IDX, found {15 + 12 * 784}"),
        (idx(IMAGES) + b"\0", f"expected {16 + 12 * 784} bytes of IDX, found {17 + 12 * 784}"),
        (idx(IMAGES)[:9], "bytes of IDX, found 9"),
        (idx(IMAGES[:, :27]), r"expected images of 28 x 28, found (27, 28)"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "bytes of IDX, found 16"),
    ],
)
def test_a_damaged_image_file_is_refused(tmp_path, images, message):
    write(tmp_path, images=images)
    path = tmp_path / "train-images-idx3-ubyte"
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*" + re.escape(message) + ".*; download"):
        MNIST(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (idx(LABELS[:-2]), "expected 12 labels, one an image, found 10"),
        (idx(LABELS + 1), "label 10 of image 9 is not in 0..9"),
        (idx(IMAGES), "expected magic number 00000801, found '00000803'"),
    ],
)
def test_a_damaged_label_file_is_refused(tmp_path, labels, message):
    write(tmp_path, labels=labels)
    path = tmp_path / "train-labels-idx1-ubyte"
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}; download")):
        MNIST(tmp_path)


def overwrite(content):
    """Damage in the middle: the decompressor meets a code that does not exist."""
    return content[:30] + b"\xff" * 30 + content[60:]


def flip_a_bit_of_the_checksum(content):
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-20], lambda c: b"no gzip" + c, overwrite, flip_a_bit_of_the_checksum, lambda c: b""]
)
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    write(tmp_path, images=idx(IMAGES // 64), compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: ") + ".*; download"):
        MNIST(tmp_path)
