"""Images in one folder, their classes in a text file: the form in which ILSVRC's validation images come."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from minidl.data.image_files import ImageFiles, list_images


class ImageList(ImageFiles):
    """The images below a directory, labelled by a text file.

    directory: holds the images, such as ILSVRC's val/.
    labels: the text file. Either each line is a class, for the images in the order of their names; or each line is
        "file class", the file relative to `directory`, in the order of the lines: every image once.
    classes: the names, numbered as everywhere from 0: those of the training set, ``train.classes``.
    size: the side of the square that every image is brought to; images and errors are those of `ImageFiles`.
    numbers: which class each number means, if the text file has numbers. ``dict(enumerate(classes))`` counts them from
        0, ``dict(enumerate(classes, 1))`` from 1. ILSVRC2012_validation_ground_truth.txt counts from 1, but in an order
        of its own, not sorted by name: it needs the table of the development kit, see `read_numbers`.

    Raises FileNotFoundError for a missing directory or file; ValueError, naming the line, for a class that is none, and for
    images that are in the directory but not in the text file, or twice in it.
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
        named = len(lines[0].split()) > 1 and lines[0] not in meanings
        if named:
            files, names = _split(lines, source)
            if not os.path.isfile(root / files[0]) and (names[0] not in meanings or "," in lines[0]):
                raise _no_line(source, lines[0])
            missing = next((file for file in files if not os.path.isfile(root / file)), None)
            if missing is not None:
                raise FileNotFoundError(f"{source} lists {missing!r}, but there is no file {root / missing}")
        else:
            files, names = list_images(root), lines
            if names[0] not in meanings and ("," in names[0] or (len(names) == len(files) + 1 and not names[0].isdecimal())):
                raise _no_line(source, lines[0])
            if len(names) != len(files):
                raise ValueError(f"{source} has {len(names)} lines for the {len(files)} images in {root}; expected one an image")
        for number, name in enumerate(names, 1):
            if name not in meanings:
                raise ValueError(f"{source}, line {number}: {_why_unknown(name, numbers)}")
        if named:
            _check_each_once(files, root, source)
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


def has_numbers(path: Path, classes: Sequence[str]) -> bool:
    """Whether the classes in the text file of an `ImageList` are numbers."""
    name = _read_lines(path)[0].split()[-1:]
    return name[0].isdecimal() and name[0] not in classes if name else False


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
    """The files and the classes of lines "file class"; a file's name may have spaces in it."""
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise ValueError(f"{source}, line {number}: expected a file and its class, found {lines[number - 1]!r}")
    return [file for file, _ in pairs], [name for _, name in pairs]


def _no_line(source: Path, line: str) -> ValueError:
    return ValueError(
        f"{source}, line 1: found {line!r}; expected, without a header or commas, a line for each image: its class, in the order "
        'of the names of the images, or "file class", such as "ILSVRC2012_val_00000001.JPEG n01751748"'
    )


def _check_each_once(files: Sequence[str], root: Path, source: Path) -> None:
    """Raise ValueError if a file is listed twice, or an image below `root` is not listed, as when the list was cut off."""
    counts = Counter(map(os.path.normpath, files))
    twice = [file for file, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} lists {len(twice)} files more than once, the first is {twice[0]!r}; expected a line for each image"
        )
    left = [file for file in list_images(root) if os.path.normpath(file) not in counts]
    if left:
        raise ValueError(
            f"{source} names {len(files)} images, but {len(left)} more are in {root}, the first is {left[0]!r}; the list may have "
            "been cut off: expected a line for each image"
        )


def _why_unknown(name: str, numbers: Mapping[int, str] | None) -> str:
    if numbers is not None:
        return f"{name!r} is none of the {len(numbers)} numbers in the argument `numbers`"
    if name.isdecimal():
        return (
            f"{name!r} is a number: say which class it means, with numbers={{1: ...}} or dict(enumerate(classes)) from 0 in Python, "
            "or with a table such as map_clsloc.txt of ILSVRC's development kit: --val-numbers of python -m minidl.data.pack"
        )
    return f"{name!r} is none of the classes, which are the folders of the training images (train/)"


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give the text file with a line for each image or class")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}); save it as such") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} is empty; expected a line for each image or class")
    return lines
