"""A folder of images: any mode comes out as RGB, any damage names the file."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from minidl.data import ImageFolder

RED, HALF = (255, 0, 0), (128, 128, 128)


def save(root, image, name="class/image.png", **options):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def only_image(root, size=None):
    return ImageFolder(root, size)[0][0]


def picture(width=30, height=20):
    """Smooth colours, different in every corner."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


def test_classes_and_paths_are_sorted(tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a/deep/er/1.bmp", "a/0.gif", "a/notes.txt", "b/.hidden.png", ".git/x.png"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save(tmp_path, picture(), name)
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ["a", "b"]
    assert dataset.files == ["a/0.gif", "a/deep/er/1.bmp", "b/10.PNG", "b/2.png"]
    assert dataset.path(3) == tmp_path / "b" / "2.png"
    assert dataset.labels.tolist() == [0, 0, 1, 1] and dataset.labels.dtype == np.int64
    assert len(dataset) == 4
    image, label = dataset[3]
    assert np.array_equal(image, np.asarray(picture())) and image.dtype == np.uint8 and image.shape == (20, 30, 3)
    assert label == 1 and type(label) is int


def palette():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    return image


def transparent_palette():
    image = palette()
    image.info["transparency"] = 1
    return image


# What a file holds, how it is saved, and the colour that every pixel must come out as.
MODES = {
    "1 bit": (Image.new("1", (4, 4), 1), ".png", (255, 255, 255)),
    "grey": (Image.new("L", (4, 4), 128), ".png", HALF),
    "grey, jpeg": (Image.new("L", (4, 4), 128), ".jpg", HALF),
    "colour": (Image.new("RGB", (4, 4), RED), ".png", RED),
    "palette": (palette(), ".png", RED),
    "palette, gif": (palette(), ".gif", RED),
    "palette, clear": (transparent_palette(), ".png", (255, 255, 255)),
    "cmyk, jpeg": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), ".jpg", (254, 0, 0)),
    "cmyk, tiff": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), ".tif", RED),
    "alpha, opaque": (Image.new("RGBA", (4, 4), (*RED, 255)), ".png", RED),
    "alpha, clear": (Image.new("RGBA", (4, 4), (*RED, 0)), ".png", (255, 255, 255)),
    "alpha, half": (Image.new("RGBA", (4, 4), (*RED, 128)), ".webp", (255, 127, 127)),
    "grey alpha": (Image.new("LA", (4, 4), (0, 0)), ".png", (255, 255, 255)),
    "16 bits, black": (Image.new("I;16", (4, 4), 0), ".png", (0, 0, 0)),
    "16 bits, dark": (Image.new("I;16", (4, 4), 1000), ".png", (4, 4, 4)),  # 3.89; clipped it would be white
    "16 bits, half": (Image.new("I;16", (4, 4), 128 * 257), ".tif", HALF),
    "16 bits, white": (Image.new("I;16", (4, 4), 65535), ".png", (255, 255, 255)),
    "32 bits that hold 16": (Image.new("I", (4, 4), 128 * 257), ".tif", HALF),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(tmp_path, name):
    image, extension, colour = MODES[name]
    options = {"lossless": True} if extension == ".webp" else {}
    save(tmp_path, image, "class/image" + extension, **options)
    result = only_image(tmp_path)
    assert result.shape == (4, 4, 3) and result.dtype == np.uint8
    assert np.abs(result.astype(int) - colour).max() <= (2 if extension == ".jpg" else 0)


def test_16_bit_colour_is_scaled(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">3H", 65535, 128 * 257, 1000)  # Pillow writes no such file
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "image.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    )
    assert only_image(tmp_path)[0, 0].tolist() in ([255, 128, 3], [255, 128, 4])


@pytest.mark.parametrize("mode", ["F", "I"])
def test_grey_of_unknown_range_is_refused(tmp_path, mode):
    path = save(tmp_path, Image.new(mode, (4, 4), 70000), "class/image.tif")
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot decode") + ".*save it with 8 or 16 bits"):
        only_image(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.asarray(picture())
    # What the camera stores, so that the viewer's turn brings the picture upright (EXIF 2.3, tag 274).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    save(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(only_image(tmp_path), upright)


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 60), (24, 24)])
def test_size_scales_the_shorter_side_and_cuts_the_centre(tmp_path, width, height):
    image = picture(width, height)
    save(tmp_path, image)
    size = 10
    scale = size / min(width, height)
    scaled = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    expected = np.asarray(scaled.crop((left, top, left + size, top + size)))
    result = only_image(tmp_path, size)
    assert result.shape == (size, size, 3)
    assert np.abs(result.astype(int) - expected).max() <= 1  # two roundings instead of one


def test_size_applies_after_rotation_and_to_small_images(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path, picture(30, 20), exif=exif)
    turned = picture(30, 20).rotate(-90, expand=True)
    expected = np.asarray(ImageOps.fit(turned, (40, 40), Image.Resampling.BILINEAR))
    assert np.abs(only_image(tmp_path, 40).astype(int) - expected).max() <= 1


def whole_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return save(tmp_path, Image.fromarray(noise), "class/photo.jpg")


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"<html>", lambda c: c[:3]])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = whole_jpeg(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    dataset = ImageFolder(tmp_path)  # nothing is decoded yet
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot decode this image (") + ".*replace or remove it"):
        dataset[0]


@pytest.mark.parametrize("extension", [".png", ".gif", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_truncated_files_of_every_kind_are_named(tmp_path, extension, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(noise), "class/image" + extension)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot decode")):
        only_image(tmp_path)


def test_a_file_that_vanished_is_named(tmp_path):
    path = whole_jpeg(tmp_path)
    dataset = ImageFolder(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        dataset[0]


def test_folders_without_images_are_refused(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match=re.escape(f"no directory {missing}; give the folder")):
        ImageFolder(missing)
    save(tmp_path, picture(), "image.png")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path} holds no class folders; put the images")):
        ImageFolder(tmp_path)
    save(tmp_path, picture(), "full/image.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "report.pdf").write_bytes(b"Pillow writes PDF but does not read it")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'empty'} holds no images that Pillow can read")):
        ImageFolder(tmp_path)


def test_size_is_checked(tmp_path):
    save(tmp_path, picture())
    with pytest.raises(ValueError, match="size is 0"):
        ImageFolder(tmp_path, size=0)
