"""A folder of images: DIRECTORY/class/anything.jpg."""

from os import PathLike
from pathlib import Path

from minidl.data.image_files import ImageFiles, list_images


class ImageFolder(ImageFiles):
    """One class a folder, classes sorted by name; images anywhere below their class folder, sorted by path.

    directory: holds the class folders, such as ILSVRC's train/. Hidden files and folders (".name") are passed over.
    size: the side of the square that every image is brought to; images and errors are those of `ImageFiles`.

    Raises FileNotFoundError if there is no such directory, ValueError if there are no class folders or if one of them
    holds no images.
    """

    def __init__(self, directory: str | PathLike[str], size: int | None = None) -> None:
        root = Path(directory)
        if not root.is_dir():
            raise FileNotFoundError(f"no directory {root}; give the folder that holds one folder for each class")
        classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not classes:
            raise ValueError(f"{root} holds no class folders; put the images of each class in {root}/CLASS/")
        files: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            found = list_images(root / name)
            if not found:
                raise ValueError(f"{root / name} holds no images that Pillow can read; add some or remove the folder")
            files += [f"{name}/{file}" for file in found]
            labels += [label] * len(found)
        super().__init__(root, files, labels, classes, size)
