"""Images in one folder, their classes in a text file: the form in which ILSVRC's validation images come."""

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from minidl.data.image_files import ImageFiles, list_images


class ImageList(ImageFiles):
    """The images below a directory, labelled by a text file.

    directory: holds the images, such as ILSVRC's val/.
    labels: the text file. Either each line is a class, for the images in the order of their names; or each line is
        "file class", the file relative to `directory`, and only those images count, in the order of the lines.
    classes: the names, numbered as everywhere from 0: those of the training set, ``train.classes``.
    size: the side of the square that every image is brought to; images and errors are those of `ImageFiles`.
    numbers: which class each number means, if the text file has numbers. ``dict(enumerate(classes))`` counts them from
        0, ``dict(enumerate(classes, 1))`` from 1. ILSVRC2012_validation_ground_truth.txt counts from 1, but in an order
        of its own, not sorted by name: it needs the table of the development kit, see `read_numbers`.

    Raises FileNotFoundError for a missing directory or file; ValueError, naming the line, for a class that is none.
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        labels: str | PathLike[str],
        classes: Sequence[str],
        size: int | None = None,
        numbers: Mapping[int, str] | None = None,
    ) -> None:
        root, source = Path(directory), Path(labels)
        if not root.is_dir():
            raise FileNotFoundError(f"no directory {root}; give the folder that holds the images")
        meanings = _meanings(classes, numbers)
        lines = _read_lines(source)
        if len(lines[0].split()) > 1 and lines[0] not in meanings:
            files, names = _split(lines, source)
            missing = next((file for file in files if not os.path.isfile(root / file)), None)
            if missing is not None:
                raise FileNotFoundError(f"{source} lists {missing!r}, but there is no file {root / missing}")
        else:
            files, names = list_images(root), lines
            if len(names) != len(files):
                raise ValueError(f"{source} has {len(names)} lines for the {len(files)} images in {root}; expected one an image")
        for number, name in enumerate(names, 1):
            if name not in meanings:
                raise ValueError(f"{source}, line {number}: {_why_unknown(name, numbers)}")
        super().__init__(root, files, [meanings[name] for name in names], classes, size)


def read_numbers(path: str | PathLike[str], classes: Sequence[str]) -> dict[int, str]:
    """The table of class numbers in a text file: in each line a number and a class, or a class and a number.

    What follows on the line does not matter: map_clsloc.txt of ILSVRC's development kit ("n02119789 1 kit_fox") is
    such a file. Raises ValueError, naming the line, for one that holds no number and class.
    """
    known, numbers = set(classes), {}
    for count, line in enumerate(_read_lines(Path(path)), 1):
        first, second = [*line.split(), "", ""][:2]
        name, number = (first, second) if first in known else (second, first)
        if name not in known or not number.isdecimal():
            raise ValueError(f"{path}, line {count}: expected the number and the name of a class, found {line!r}")
        numbers[int(number)] = name
    return numbers


def _meanings(classes: Sequence[str], numbers: Mapping[int, str] | None) -> dict[str, int]:
    """The label that each name or number in the text file stands for."""
    labels = {name: label for label, name in enumerate(classes)}
    if numbers is None:
        return labels
    for number, name in numbers.items():
        if name not in labels:
            raise ValueError(f"numbers[{number}] is {name!r}, which is none of the {len(labels)} classes")
    return {str(number): labels[name] for number, name in numbers.items()}


def _split(lines: list[str], source: Path) -> tuple[list[str], list[str]]:
    """Files and classes of lines "file class"; spaces in a file's name are its own."""
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise ValueError(f"{source}, line {number}: expected a file and its class, found {lines[number - 1]!r}")
    return [file for file, _ in pairs], [name for _, name in pairs]


def _why_unknown(name: str, numbers: Mapping[int, str] | None) -> str:
    if numbers is not None:
        return f"{name!r} is none of the {len(numbers)} numbers in the argument `numbers`"
    if name.isdecimal():
        return f"{name!r} is a number: say which class it means with numbers={{1: ...}}, or dict(enumerate(classes)) from 0"
    return f"{name!r} is none of the classes"


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give the text file with a line for each image or class")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} is empty; expected a line for each image or class")
    return lines
