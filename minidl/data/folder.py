"""A folder of images: DIRECTORY/class/anything.jpg, decoded by Pillow when asked for."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


class ImageFolder:
    """One class a folder, classes sorted by name; images anywhere below their class folder, sorted by path.

    directory: holds the class folders. Hidden files and folders (".name") are passed over.
    size: if given, every image is prepared as in section 2 of the AlexNet paper: the shorter side is scaled to `size`
        pixels (bilinear, averaging where it shrinks) and the central `size` x `size` is cut out. Without it, images
        keep the sizes they have, and a batch can only be made of equal ones.

    ``dataset[i]`` is (image, label): uint8 RGB (H, W, 3), whatever the file holds. EXIF rotation is applied, 16-bit
    grey is scaled to 8 bits, transparent parts are laid on white, of an animation the first frame counts.
    ``paths[i]`` is the file of image i.

    Raises FileNotFoundError if there is no such directory or a file has vanished, ValueError if there are no class
    folders, if one of them holds no images, or (by ``dataset[i]``) if a file cannot be decoded.
    """

    def __init__(self, directory: str | PathLike[str], size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; expected at least 1 pixel")
        root = Path(directory)
        if not root.is_dir():
            raise FileNotFoundError(f"no directory {root}; give the folder that holds one folder for each class")
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            raise ValueError(f"{root} holds no class folders; put the images of each class in {root}/CLASS/")
        self.size = size
        self.classes = [folder.name for folder in folders]
        self.paths: list[Path] = []
        labels: list[int] = []
        for label, folder in enumerate(folders):
            paths = sorted(_image_files(folder))
            if not paths:
                raise ValueError(f"{folder} holds no images that Pillow can read; add some or remove the folder")
            self.paths += paths
            labels += [label] * len(paths)
        self.labels: NDArray[np.int64] = np.array(labels, np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> tuple[NDArray[np.uint8], int]:
        path = self.paths[index]
        with path.open("rb") as file:
            try:
                with Image.open(file) as opened:
                    image = to_rgb(ImageOps.exif_transpose(opened))
            # Decoders fail in a dozen ways (OSError, SyntaxError, struct.error, ...); all mean the same here.
            except Exception as error:
                raise ValueError(f"{path}: cannot decode this image ({error}); replace or remove it") from error
        if self.size is not None:
            image = central_square(image, self.size)
        return np.asarray(image), int(self.labels[index])


def _image_files(folder: Path) -> Iterator[Path]:
    # An extension that Pillow only writes (PDF) is no image to read.
    extensions = {extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN}
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in extensions and not hidden and path.is_file():
            yield path


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB. Raises ValueError for pixels whose range is not known (floats, 32-bit numbers)."""
    if image.mode.startswith(("I", "F")):  # Pillow's own conversion clips these at 255
        image = _grey_to_8_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _grey_to_8_bits(image: Image.Image) -> Image.Image:
    grey = np.asarray(image)
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"mode {image.mode} with values {grey.min()} to {grey.max()}; save it with 8 or 16 bits")
    return Image.fromarray(((grey.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))


def central_square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` pixels and cut out the central `size` x `size`, both in one step."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
