"""Images in one folder with a text file of their classes."""

import re

import pytest
from PIL import Image

from minidl.data import ImageList, read_numbers

CLASSES = ["n01", "n02", "n03"]


@pytest.fixture
def folder(tmp_path):
    """Four images of 2 x 2 whose red is their number, 0 to 3, in the order of their names."""
    for number, name in enumerate(["ILSVRC_1.JPEG", "ILSVRC_2.JPEG", "a b.png", "z.png"]):
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / "val" / name)
    return tmp_path / "val"


def write(folder, text):
    path = folder.parent / "labels.txt"
    path.write_text(text)
    return path


def test_a_class_a_line_in_the_order_of_the_names(folder):
    dataset = ImageList(folder, write(folder, "n03\nn01\nn01\nn02\n\n"), CLASSES)
    assert dataset.files == ["ILSVRC_1.JPEG", "ILSVRC_2.JPEG", "a b.png", "z.png"]
    assert dataset.labels.tolist() == [2, 0, 0, 1] and dataset.classes == CLASSES and len(dataset) == 4
    image, label = dataset[3]
    assert image[0, 0, 0] == 3 and label == 1
    assert ImageList(folder, write(folder, "n03\nn01\nn01\nn02"), CLASSES, size=5)[0][0].shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2\n0\n0\n1", dict(enumerate(CLASSES))),
        ("3\n1\n1\n2", dict(enumerate(CLASSES, 1))),
        ("1\n3\n3\n2", {1: "n03", 2: "n02", 3: "n01"}),  # an order of its own, as that of ILSVRC
    ],
)
def test_numbers_mean_what_the_caller_says(folder, text, numbers):
    assert ImageList(folder, write(folder, text), CLASSES, numbers=numbers).labels.tolist() == [2, 0, 0, 1]


def test_a_file_and_its_class_a_line_in_the_order_of_the_lines(folder):
    dataset = ImageList(folder, write(folder, "z.png n02\na b.png  n01\nILSVRC_2.JPEG n03\n./ILSVRC_1.JPEG n01"), CLASSES)
    assert dataset.files == ["z.png", "a b.png", "ILSVRC_2.JPEG", "./ILSVRC_1.JPEG"] and dataset.labels.tolist() == [1, 0, 2, 0]
    text = "z.png 1\na b.png 0\nILSVRC_2.JPEG 2\n./ILSVRC_1.JPEG 0"
    numbered = ImageList(folder, write(folder, text), CLASSES, numbers=dict(enumerate(CLASSES)))
    assert numbered.files == dataset.files and numbered.labels.tolist() == [1, 0, 2, 0]


def test_names_of_classes_may_hold_spaces(folder):
    assert ImageList(folder, write(folder, "red fox\nowl\nowl\nowl"), ["owl", "red fox"]).labels.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "numbers", "message"),
    [
        ("n01\nn02\nn03", None, "3 lines for the 4 images in"),
        ("n01\nn04\nn03\nn01", None, r"line 2: 'n04' is none of the classes, which are the folders .*train/"),
        (
            "1\n2\n3\n1",
            None,
            r"line 1: '1' is a number: say which class it means, with numbers=\{1: .* --val-numbers of python -m",
        ),
        ("1\n2\n3\n0", {1: "n01", 2: "n02", 3: "n03"}, "line 4: '0' is none of the 3 numbers"),
        ("1\n2\n3\n0", {1: "n01", 2: "fox"}, r"numbers\[2\] is 'fox', which is none of the 3 classes"),
        ("z.png n02\nz.png", None, "line 2: expected a file and its class, found 'z.png'"),
        ("z.png n02\na b.png 7", None, "line 2: '7' is a number"),
        ("\n\n", None, "is empty"),
        (
            "z.png n02\na b.png n01",
            None,
            "names 2 images, but 2 more are in .*, the first is 'ILSVRC_1.JPEG'; the list may have been",
        ),
        ("z.png n02\na b.png n01\n./z.png n01", None, r"lists 1 files more than once, the first is 'z.png'"),
        (
            "file class\nz.png n02",
            None,
            "line 1: found 'file class'; expected, without a header or commas, a line for each image",
        ),
        ("class\nn01\nn02\nn03\nn01", None, "line 1: found 'class'; expected, without a header"),
        ("ImageId,PredictionString\nz.png,n02 1 2 3 4", None, "line 1: found 'ImageId,PredictionString'; expected"),
        ("z.png,n02\na b.png,n01", None, "line 1: found 'z.png,n02'; expected"),
        ("z.png, n02\na b.png, n01", None, "line 1: found 'z.png, n02'; expected"),
    ],
)
def test_what_does_not_fit_is_refused(folder, text, numbers, message):
    with pytest.raises(ValueError, match=message):
        ImageList(folder, write(folder, text), CLASSES, numbers=numbers)


def test_text_that_is_none_is_named(folder):
    path = write(folder, "")
    path.write_bytes("Füchse\n".encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(f"{path} is no text in UTF-8 (invalid start byte at byte 1)")):
        ImageList(folder, path, CLASSES)
    path.write_bytes(b"\xef\xbb\xbfn03\r\nn01\r\nn01\r\nn02\r\n")  # as Windows' editor writes it
    assert ImageList(folder, path, CLASSES).labels.tolist() == [2, 0, 0, 1]


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no directory {folder / 'x'}; give")):
        ImageList(folder / "x", write(folder, "n01"), CLASSES)
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file {folder / 'x.txt'}; give")):
        ImageList(folder, folder / "x.txt", CLASSES)
    with pytest.raises(FileNotFoundError, match=r"labels.txt lists 'y.png', but there is no file .*y\.png"):
        ImageList(folder, write(folder, "z.png n01\ny.png n01"), CLASSES)


def test_a_table_of_numbers_is_read_either_way_round(tmp_path):
    path = tmp_path / "map_clsloc.txt"
    path.write_text("n03 1 kit_fox\nn01 2 English_setter\n")
    assert read_numbers(path, CLASSES) == {1: "n03", 2: "n01"}
    path.write_text("     0\tn01\n     1\tn02\n     2\tn03\n")  # nl -v 0
    assert read_numbers(path, CLASSES) == dict(enumerate(CLASSES))
    path.write_text("1 n01\n2 fox\n")
    with pytest.raises(ValueError, match=r"map_clsloc.txt, line 2: expected the number and the name of a class, found '2 fox'"):
        read_numbers(path, CLASSES)
