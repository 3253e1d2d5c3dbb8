"""Packed images read back: the same as decoded from the files, in little memory, and every damage named."""

import json
import re
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from minidl.data import Compose, DataLoader, ImageFolder, Mirror, PackedImages, RandomCrop, Subset, packing
from minidl.data.packing import pack

SIZE = 16


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """30 photographs of different sizes in 3 classes; number 7 is damaged."""
    root, rng = tmp_path_factory.mktemp("source"), np.random.default_rng(0)
    for number in range(30):
        path = root / f"class {number // 12}" / f"{number:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number, 40, 3), dtype=np.uint8)).save(path)
    (root / "class 0" / "07.jpg").write_bytes(b"no image")
    return ImageFolder(root, SIZE)


@pytest.fixture
def folder(source, tmp_path, monkeypatch):
    """That, packed into shards of 4 files."""
    monkeypatch.setattr(packing, "SHARD_BYTES", 4 * SIZE * SIZE * 3)
    pack(source, tmp_path / "packed", SIZE, max_failures=0.05)
    return tmp_path / "packed"


def good(source):
    return Subset(source, [index for index in range(len(source)) if index != 7])


def test_images_and_labels_are_those_of_the_files(source, folder):
    packed, expected = PackedImages(folder), good(source)
    assert len(packed) == len(expected) == 29 and packed.classes == source.classes and packed.size == SIZE
    assert packed.labels.tolist() == expected.labels.tolist() and packed.labels.dtype == np.int64
    for (image, label), (expected_image, expected_label) in zip(packed, expected, strict=True):  # IndexError ends it
        assert np.array_equal(image, expected_image) and image.dtype == np.uint8 and type(image) is np.ndarray
        assert label == expected_label and type(label) is int


def test_batches_are_those_images(source, folder):
    packed, expected = PackedImages(folder), good(source)
    indices = np.random.default_rng(0).permutation(29)
    images, labels = packed.batch(indices)
    assert (
        np.array_equal(images, np.stack([expected[i][0] for i in indices]))
        and labels.tolist() == expected.labels[indices].tolist()
    )
    images[...] = 0  # copies: the files cannot be written to
    assert packed[3][0].any() and np.array_equal(packed[-1][0], expected[28][0])
    for index in (29, -30):
        with pytest.raises(IndexError, match=f"image {index} of a data set of 29"):
            packed[index]
        with pytest.raises(IndexError):
            packed.batch(np.array([0, index]))


def test_figures_are_those_of_all_pixels(source, folder):
    packed = PackedImages(folder)
    pixels = np.stack([image for image, _ in packed]).astype(np.float64)
    for found, expected in (
        (packed.mean_image, pixels.mean(axis=0)),
        (packed.mean_colour, pixels.mean(axis=(0, 1, 2))),
        (packed.colour_covariance, np.cov(pixels.reshape(-1, 3).T, bias=True)),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_loader_makes_the_batches_of_an_array(source, folder):
    def epoch(dataset):
        transform = Compose([RandomCrop(12), Mirror()])
        return list(DataLoader(dataset, batch_size=8, shuffle=True, transform=transform, seed=4))

    for (images, labels), (expected_images, expected_labels) in zip(
        epoch(PackedImages(folder)), epoch(good(source)), strict=True
    ):
        assert np.array_equal(images.numpy(), expected_images.numpy())
        assert np.array_equal(labels.numpy(), expected_labels.numpy())


def test_memory_does_not_grow_with_the_data(tmp_path):
    """32 MB of images, one shard: packed and read with less than a fifth of it in memory."""
    (tmp_path / "source" / "only").mkdir(parents=True)
    for number in range(160):
        Image.new("RGB", (256, 256), (number, 0, 0)).save(tmp_path / "source" / "only" / f"{number:03}.bmp")
    tracemalloc.start()
    pack(ImageFolder(tmp_path / "source"), tmp_path / "packed")
    packed = PackedImages(tmp_path / "packed")
    for indices in np.random.default_rng(0).permutation(160).reshape(-1, 8):
        images, _ = packed.batch(indices)
        assert images[:, 0, 0, 0].tolist() == indices.tolist()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "packed" / "shard-00000.npy").stat().st_size > 31e6 and peak < 6e6


def test_a_shard_of_failures_only_is_empty(source, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "SHARD_BYTES", 1)
    pack(source, tmp_path / "packed", SIZE, max_failures=0.05)
    assert len(list((tmp_path / "packed").glob("shard-*.npy"))) == 30
    packed = PackedImages(tmp_path / "packed")
    assert len(packed) == 29 and np.array_equal(packed[7][0], source[8][0])


def test_a_folder_that_is_none_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file {tmp_path / 'x' / 'manifest.json'}; give a folder made by")):
        PackedImages(tmp_path / "x")
    (tmp_path / "two").mkdir()
    folder.rename(tmp_path / "two" / "train")
    with pytest.raises(FileNotFoundError, match=re.escape(f"inside: {tmp_path / 'two' / 'train'}")):
        PackedImages(tmp_path / "two")
    (tmp_path / "two" / "train" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="packing was not finished: run the same `python -m minidl.data.pack` again"):
        PackedImages(tmp_path / "two" / "train")


@pytest.mark.parametrize("name", ["labels.npy", "mean_image.npy", "shard-00003.npy"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: None, "no file {path}"),
        (lambda content: content[:-1], "{path} is damaged: {less} bytes instead of {length}"),
        (lambda content: content + b"x", "{path} is damaged: {more} bytes instead of {length}"),
        (lambda content: b"x" + content[1:], "{path} is damaged: it does not begin as a .npy file"),
        (lambda content: content.replace(b"'descr': '", b"'descr': '>", 1)[: len(content)], "{path} is damaged: "),
    ],
)
def test_damage_that_shows_is_named(folder, name, damage, message):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if (changed := damage(content)) is not None:
        path.write_bytes(changed)
    expected = message.format(path=path, less=len(content) - 1, more=len(content) + 1, length=len(content))
    with pytest.raises(
        (FileNotFoundError, ValueError), match=re.escape(expected) + ".*; delete this file and run the `python -m"
    ):
        PackedImages(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"images"', '"pictures"'),
        lambda text: text.replace('"bytes"', '"octets"'),
        lambda text: json.dumps({**json.loads(text), "shards": 7}),
        lambda text: json.dumps({**json.loads(text), "plan": None}),
    ],
)
def test_a_damaged_manifest_is_named(folder, damage):
    path = folder / "manifest.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged (") + ".*delete this file and run the"):
        PackedImages(folder)


def test_a_later_format_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("version 1", "version 2"))
    with pytest.raises(ValueError, match=r"manifest.json has the format 'minidl packed images, version 2'"):
        PackedImages(folder)


def test_a_manifest_that_counts_wrongly_is_refused(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "shards": manifest["shards"][:-1]}))
    with pytest.raises(ValueError, match="29 images in the manifest, 27 in the shards"):
        PackedImages(folder)
