"""Decoding: bombs, damaged EXIF, and what the faster decoding of large photographs costs."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minidl.data import UndecodableImage
from minidl.data.decode import central_square, decode


def test_a_decompression_bomb_is_refused(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)  # 7.5 GB of pixels
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(UndecodableImage, match="bomb.png: cannot decode this image .*decompression bomb"):
        decode(path, 64)


def test_reasons_do_not_depend_on_where_in_memory_the_file_lies(tmp_path):
    path = tmp_path / "page.jpg"
    path.write_bytes(b"<html>")
    with pytest.raises(UndecodableImage, match="no format that Pillow knows") as raised:
        decode(path)
    assert raised.value.reason == "no format that Pillow knows"


def test_a_disk_that_fails_is_no_damaged_image(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder\.png"):
        decode(tmp_path / "folder.png")


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x63\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_image_as_it_is(tmp_path, exif):
    path = tmp_path / "image.jpg"
    Image.new("RGB", (8, 4), (200, 0, 0)).save(path, exif=exif)
    assert decode(path).shape == (4, 8, 3)


def photograph(width, height):
    """Noise on every scale from the whole image down to single pixels, as a JPEG."""
    rng, total = np.random.default_rng(0), np.zeros((height, width, 3))
    for cells in (4, 16, 64, 256):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float)
    content = io.BytesIO()
    Image.fromarray((total / 4).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def test_large_jpegs_that_are_turned_come_out_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(io.BytesIO(photograph(517, 389))) as image:
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        expected = np.rot90(np.asarray(central_square(image.convert("RGB"), 96)), -1).astype(float)
    assert np.sqrt(np.mean((decode(tmp_path / "turned.jpg", 96) - expected) ** 2)) < 1.5


@pytest.mark.parametrize(("width", "height"), [(380, 300), (517, 389), (1021, 771)])  # decoded at 1/1, 1/2 and 1/4
def test_large_jpegs_come_out_as_if_decoded_in_full(tmp_path, width, height):
    path = tmp_path / "large.jpg"
    path.write_bytes(photograph(width, height))
    with Image.open(path) as image:
        expected = np.asarray(central_square(image.convert("RGB"), 96)).astype(float)
    difference = decode(path, 96) - expected
    assert np.sqrt(np.mean(difference**2)) < 1.5 and abs(difference.mean()) < 0.1  # 3 if it were shifted by half a pixel
    assert decode(path).shape == (height, width, 3)
