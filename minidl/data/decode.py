"""One image file to pixels: whatever Pillow reads comes out as 8-bit RGB, upright, and if wanted as a square of one size."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError


class UndecodableImage(ValueError):
    """A file that is no image, or a damaged one. `DataLoader` and `minidl.data.pack` pass over a few of them."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot decode this image ({reason}); replace or remove it")
        self.reason = reason


def decode(path: Path, size: int | None = None) -> NDArray[np.uint8]:
    """The image in `path`: uint8 RGB (H, W, 3), or with `size` the (size, size, 3) of `central_square`.

    EXIF rotation is applied, 16-bit grey is scaled to 8 bits, transparent parts are laid on white, of an animation the
    first frame counts. Raises UndecodableImage, also for images above Pillow's limit against decompression bombs
    (179 million pixels), and OSError if the file cannot be read at all.
    """
    content = path.read_bytes()  # outside of the `try`: a missing file or a failing disk is no damaged image
    try:
        with Image.open(io.BytesIO(content)) as image:
            extent = None if size is None else _decode_smaller(image, size)
            ImageOps.exif_transpose(image, in_place=True)
            rgb = to_rgb(image)
            return np.asarray(rgb if size is None else central_square(rgb, size, extent))
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage(path, "no format that Pillow knows") from error
    # Decoders fail in a dozen ways (OSError, SyntaxError, struct.error, ...); all mean the same here.
    except Exception as error:
        raise UndecodableImage(path, str(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB. Raises ValueError for pixels whose range is not known (floats, 32-bit numbers)."""
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion clips these at 255
        image = _grey_to_8_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_8_bits(image: Image.Image) -> Image.Image:
    grey = np.asarray(image)
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"mode {image.mode} with values {grey.min()} to {grey.max()}; save it with 8 or 16 bits")
    return Image.fromarray(((grey.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))


def _decode_smaller(image: Image.Image, size: int) -> tuple[float, float] | None:
    """Have a large JPEG decoded at 1/2, 1/4 or 1/8, which takes less time. Returns the width and height that it will have then.

    With 2 * size pixels left to average over, the result is within about one grey level (root mean square) of that of the
    full image; with only 1 * size it is up to 4 off. The new sides are fractions, 258.5 where the file has 259: the last
    pixel is half outside. A turned image would have it elsewhere, and is decoded in full.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    drafted = image.draft(None, (2 * size, 2 * size))
    return None if drafted is None else drafted[1][2:]


def central_square(image: Image.Image, size: int, extent: tuple[float, float] | None = None) -> Image.Image:
    """Scale the shorter side to `size` pixels and cut out the central `size` x `size`, both in one step.

    extent: width and height of what counts of the image, from the top left; all of it by default.
    """
    width, height = extent or image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
