"""What a folder holds is found out; what is not whole is said to be so."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from minidl.data import ImageList, PackedImages, Subset
from minidl.data.open import open_data
from minidl.data.pack import main


@pytest.fixture
def photographs(tmp_path):
    """train/ with two classes of three images, and val/ likewise."""
    for part in ("train", "val"):
        for number in range(6):
            path = tmp_path / "photographs" / part / f"n0{number % 2}" / f"{part}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 24, 3), 10 * number, np.uint8)).save(path)
    return tmp_path / "photographs"


@pytest.fixture
def flat(photographs):
    """The same, with the images of val/ directly in it."""
    for path in list((photographs / "val").glob("*/*.png")):
        path.rename(photographs / "val" / path.name)
    for name in ("n00", "n01"):
        (photographs / "val" / name).rmdir()
    (photographs / "val" / ".thumbnails").mkdir()
    return photographs


@pytest.fixture
def packed(photographs, tmp_path):
    assert main([str(photographs), str(tmp_path / "packed"), "--size=16", "--workers=1"]) == 0
    return tmp_path / "packed"


def test_packed_images_come_as_they_are(packed):
    train, test = open_data(packed, 99)
    assert isinstance(train, PackedImages) and train[0][0].shape == (16, 16, 3) and len(test) == 6
    train, test = open_data(packed / "train", 99)
    assert isinstance(train, Subset) and (len(train), len(test)) == (4, 2)


@pytest.mark.parametrize("part", ["train", "val"])
def test_packing_that_was_stopped_is_said_so(packed, part):
    other = packed / ("train" if part == "val" else "val")
    (packed / part / "manifest.json").unlink()  # it is written last
    again = r"packing was not finished: run the same `python -m minidl.data.pack` again"
    for folder in (packed, packed / part):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no file {packed / part / 'manifest.json'}; ") + again):
            open_data(folder, 16)
    (packed / part / "plan.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"plan.json is missing too: .* copy all of it, or pack the images into a new one"
    ):
        open_data(packed, 16)
    for path in (packed / part).iterdir():
        path.unlink()
    for _ in range(2):
        with pytest.raises(
            FileNotFoundError, match=re.escape(f"{other} holds packed images, but {packed / part} does not; ") + again
        ):
            open_data(packed, 16)
        if (packed / part).exists():
            (packed / part).rmdir()


def test_flat_validation_images_are_labelled_by_val_txt(flat):
    with pytest.raises(FileNotFoundError, match=r"val holds no class folders, and .*val.txt is missing"):
        open_data(flat, 16)
    (flat / "val.txt").write_text("".join(f"val_{number}.png n0{number % 2}\n" for number in range(6)))
    _, test = open_data(flat, 16)
    assert isinstance(test, ImageList) and test.labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("names", [True, False])
def test_numbers_mean_what_map_clsloc_says(flat, names):
    (flat / "val.txt").write_text("".join(f"{f'val_{number}.png ' * names}{1 + number % 2}\n" for number in range(6)))
    with pytest.raises(ValueError, match="'1' is a number"):
        open_data(flat, 16)
    (flat / "map_clsloc.txt").write_text("n01 1 fox\nn00 2 owl\n")
    assert open_data(flat, 16)[1].labels.tolist() == [1, 0, 1, 0, 1, 0]
    (flat / "val.txt").write_text("n00\nn01\nn00\nn01\nn00\nn01\n")  # no numbers: no table
    assert open_data(flat, 16)[1].labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_plan_alone_is_no_folder_of_photographs(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({}))
    with pytest.raises(FileNotFoundError, match="packing was not finished"):
        open_data(tmp_path, 16)
