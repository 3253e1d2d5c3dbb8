"""Pictures: that they are there, have a sensible size, and show what they should."""

import json
import sys

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.testing import assert_array_equal
from PIL import Image

import minidl.plots
from minidl.plots import (
    compare,
    confusion_matrix,
    contact_sheet,
    curves,
    five_guesses,
    kernels,
    main,
    nearest,
    tiled,
    unused,
    unused_picture,
)

TRAIN, TEST, RIGHT, WRONG = (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)  # tab:blue, orange, green, red
RATE_CHANGED = (211, 211, 211)  # lightgrey


def picture(path) -> np.ndarray:
    """(H, W, 3), and only if it is a PNG and nothing else is left in the folder."""
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    return pixels


def where(pixels, colour) -> np.ndarray:
    return (pixels == np.array(colour, np.uint8)).all(axis=2)


def count(pixels, colour) -> int:
    return int(where(pixels, colour).sum())


# Curves


def epoch(number: int, lr: float) -> dict[str, float]:
    return {
        "epoch": number, "lr": lr, "train_loss": 2 / number, "train_accuracy": 1 - 0.9 / number,
        "test_loss": 2.2 / number, "test_accuracy": 1 - 0.95 / number,
    }  # fmt: skip


def test_curves(tmp_path):
    curves([epoch(1, 0.1), epoch(2, 0.1), epoch(3, 0.1)], 10, tmp_path / "curves.png")
    pixels = picture(tmp_path / "curves.png")
    assert pixels.shape == (440, 1100, 3)
    for half in (pixels[:, :550], pixels[:, 550:]):
        assert count(half, TRAIN) > 200 and count(half, TEST) > 200
    assert count(pixels, RATE_CHANGED) < 100

    curves([epoch(1, 0.1), epoch(2, 0.1), epoch(3, 0.01)], 10, tmp_path / "curves.png")
    lowered = where(picture(tmp_path / "curves.png"), RATE_CHANGED)
    assert (lowered.sum(axis=0) > 200).any(), "an upright line where the rate was lowered"


def test_one_epoch_is_a_point(tmp_path):
    curves([epoch(1, 0.1)], 10, tmp_path / "curves.png")
    pixels = picture(tmp_path / "curves.png")
    assert count(pixels, TRAIN) > 100 and count(pixels, TEST) > 100


@pytest.mark.parametrize("draw", [lambda m, path: curves(m, 10, path), lambda m, path: compare({"a run": m}, path)])
def test_a_point_is_drawn_whole_above_a_whole_epoch(tmp_path, monkeypatch, draw):
    """The highest loss of all, and no error at all: on the frame, if nothing is done about it."""
    figures = []
    monkeypatch.setattr(minidl.plots, "_save", lambda figure, path: figures.append(figure))
    draw([{**epoch(1, 0.1), "train_loss": 1.0, "test_loss": 2.4, "test_accuracy": 1.0}], tmp_path / "curves.png")
    losses, shares = figures[0].axes
    low, high = losses.get_ylim()
    assert low == 0 and 1.01 * 2.4 < high < 1.2 * 2.4
    assert all(line.get_clip_on() is False for axes in (losses, shares) for line in axes.lines if line.get_marker() == "o")
    for axes in (losses, shares):
        left, right = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if left <= tick <= right] == [1]


@pytest.mark.filterwarnings("error")  # an axis from 0 to 0
def test_losses_of_zero(tmp_path):
    compare({"a run": [{**epoch(n, 0.1), "test_loss": 0.0} for n in (1, 2)]}, tmp_path / "comparison.png")
    assert count(picture(tmp_path / "comparison.png"), TRAIN) > 200


# Kernels

COLOURS = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])


def test_every_kernel_has_its_tile_and_every_tower_its_half(tmp_path):
    weight = np.broadcast_to(0.02 * COLOURS.T, (11, 11, 3, 6))
    kernels(weight, tmp_path / "kernels.png", towers=2)
    pixels = picture(tmp_path / "kernels.png")
    tiles = [where(pixels, 255 * (colour > 0)) for colour in COLOURS]
    sizes = [tile.sum() for tile in tiles]
    assert min(sizes) > 1000 and max(sizes) < 1.15 * min(sizes)
    rows, columns = zip(*(np.argwhere(tile).mean(axis=0) for tile in tiles), strict=True)
    assert max(rows[:3]) < min(rows[3:]), "tower 1 above tower 2"
    assert columns[0] < columns[1] < columns[2] and columns[3] < columns[4] < columns[5]
    assert all(tile.sum() == (np.ptp(np.argwhere(tile), axis=0) + 1).prod() for tile in tiles), "each is one rectangle"


def test_grey_is_zero_and_all_kernels_share_one_scale(tmp_path):
    weight = np.zeros((11, 11, 3, 3), np.float32)
    weight[..., 1], weight[..., 2] = 0.5, -0.25
    kernels(weight, tmp_path / "kernels.png")
    pixels = picture(tmp_path / "kernels.png")
    # (1 + w / 0.5) / 2 of 255
    assert count(pixels, [127, 127, 127]) + count(pixels, [128, 128, 128]) > 1000
    assert count(pixels, [63, 63, 63]) + count(pixels, [64, 64, 64]) > 1000


def test_ninety_six_kernels_are_a_wide_picture(tmp_path):
    weight = np.random.default_rng(0).standard_normal((11, 11, 3, 96))
    kernels(weight, tmp_path / "kernels.png", towers=2)
    height, width, _ = picture(tmp_path / "kernels.png").shape
    assert 900 < width < 1100 and 350 < height < 600


def test_kernels_that_are_all_zero(tmp_path):
    kernels(np.zeros((3, 3, 3, 4)), tmp_path / "kernels.png")
    pixels = picture(tmp_path / "kernels.png")
    assert count(pixels, [127, 127, 127]) + count(pixels, [128, 128, 128]) > 1000


@pytest.mark.parametrize("shape, towers", [((3, 3, 1, 4), 1), ((3, 3, 3, 5), 2), ((3, 3, 64, 4), 1)])
def test_what_are_no_kernels(tmp_path, shape, towers):
    with pytest.raises(ValueError, match=f"are not {towers} towers of colour kernels"):
        kernels(np.ones(shape), tmp_path / "kernels.png", towers)
    assert not (tmp_path / "kernels.png").exists()


def test_tiled():
    images = np.arange(1, 4).reshape(3, 1, 1, 1) * np.ones((3, 2, 1, 1), int)
    assert tiled(images, columns=2, fill=9)[..., 0].tolist() == [
        [1, 9, 2],
        [1, 9, 2],
        [9, 9, 9],
        [3, 9, 9],
        [3, 9, 9],
    ]
    assert_array_equal(tiled(images[:1], columns=1, fill=9), images[0])


# Contact sheet


def test_contact_sheet(tmp_path):
    colours = [(200, 0, 100), (0, 90, 30), (10, 20, 250)]
    images = [np.full((32, 32, 3), colour, np.uint8) for colour in colours]
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    contact_sheet(images, [0, 1, 1], probabilities, ["cat", "dog"], tmp_path / "sheet.png", columns=2)
    pixels = picture(tmp_path / "sheet.png")
    assert all(count(pixels, colour) > 5000 for colour in colours)
    tops = [np.argwhere(where(pixels, colour))[:, 0].min() for colour in colours]
    assert abs(tops[0] - tops[1]) < 20 and tops[2] > tops[0] + 100, "two in the first row, one in the second"
    # the first is right, the second wrong, the third right
    middle = pixels.shape[1] // 2
    for row, column, colour, other in ((0, 0, RIGHT, WRONG), (0, 1, WRONG, RIGHT), (1, 0, RIGHT, WRONG)):
        top, bottom = (0, tops[0]) if row == 0 else (tops[0] + 100, tops[2])
        title = pixels[top:bottom, :middle] if column == 0 else pixels[top:bottom, middle:]
        near = [(np.abs(title.astype(int) - c).sum(axis=2) < 60).sum() for c in (colour, other)]
        assert near[0] > 10 and near[1] == 0


def test_contact_sheet_of_grey_images(tmp_path):
    image = np.full((28, 28, 1), 77, np.uint8)
    contact_sheet([image], [0], np.array([[1.0]]), ["0"], tmp_path / "sheet.png", columns=1)
    assert count(picture(tmp_path / "sheet.png"), (77, 77, 77)) > 5000


# Figure 4

OWN, OTHER = (244, 151, 142), (169, 204, 227)  # bars: the right label, the others
FLAT = [np.full((32, 32, 3), colour, np.uint8) for colour in ((200, 0, 100), (0, 90, 30), (10, 20, 250))]


def bar_lengths(pixels, colour) -> list[int]:
    """The widths of the bars, from the top: of each run of rows the widest."""
    rows = where(pixels, colour).sum(axis=1)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], rows > 0, [0]]).astype(int)))
    return [int(rows[a:b].max()) for a, b in ends.reshape(-1, 2)]


def test_five_guesses_in_order_and_the_right_one_red(tmp_path):
    p = np.array([[0.02, 0.5, 0.1, 0.25, 0.01, 0.12]])
    five_guesses(FLAT[:1], [3], p, list("abcdef"), tmp_path / "five.png")
    pixels = picture(tmp_path / "five.png")
    others, own = bar_lengths(pixels, OTHER), bar_lengths(pixels, OWN)
    assert others == sorted(others, reverse=True), "the most probable first"
    assert len(own) == 1 and own[0] == pytest.approx(max(others) / 2, rel=0.1), "0.25 against 0.5"
    assert np.argwhere(where(pixels, OWN))[:, 0].min() > np.argwhere(where(pixels, OTHER))[:, 0].min()
    assert count(pixels, FLAT[0][0, 0]) > 20_000

    five_guesses(FLAT[:1], None, p, list("abcdef"), tmp_path / "five.png")
    assert count(picture(tmp_path / "five.png"), OWN) == 0


def test_guesses_of_many_images_and_few_classes(tmp_path):
    five_guesses(
        FLAT, [0, 1, 1], np.array([[0.9, 0.1]] * 3), ["a long name of a class $that goes on", "b"], tmp_path / "five.png", 2
    )
    pixels = picture(tmp_path / "five.png")
    assert all(count(pixels, image[0, 0]) > 20_000 for image in FLAT)
    tops = [np.argwhere(where(pixels, image[0, 0]))[:, 0].min() for image in FLAT]
    assert tops[0] == tops[1] < tops[2] - 200


def test_nearest(tmp_path):
    nearest(FLAT[:2], [[FLAT[2], FLAT[1]], [FLAT[0], FLAT[2]]], tmp_path / "nearest.png", [["1", "2"], ["3", "4"]])
    pixels = picture(tmp_path / "nearest.png")
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 3
    for row, images in enumerate([[0, 2, 1], [1, 0, 2]]):
        for column, number in enumerate(images):
            part = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert count(part, FLAT[number][0, 0]) > 5000


def test_nearest_of_grey_images(tmp_path):
    nearest([np.full((8, 8, 1), 77, np.uint8)], [[np.full((8, 8, 1), 99, np.uint8)]], tmp_path / "nearest.png")
    assert count(picture(tmp_path / "nearest.png"), (77, 77, 77)) > 5000


# Confusion matrix


def test_confusion_matrix_has_the_class_in_the_row(tmp_path):
    p = np.eye(3)[[0, 0, 2, 2]]  # the guesses
    confusion_matrix(p, [0, 0, 1, 1], ["a", "b", "c"], tmp_path / "confusion.png")
    full = where(picture(tmp_path / "confusion.png"), (8, 48, 107))  # the darkest of Blues: all of a class
    rows, columns = np.nonzero(full[:, : int(0.75 * full.shape[1])])
    first = rows < rows.min() + 20
    assert rows.max() - rows.min() < 0.7 * full.shape[0], "no image of class c, in the last row"
    assert columns[first].max() < columns[~first].max(), "a for a, on the left; c for b, on the right"
    assert len(rows) > 2000


def test_confusion_matrix_of_many_classes(tmp_path):
    confusion_matrix(np.eye(200), np.arange(200), [str(i) for i in range(200)], tmp_path / "confusion.png")
    assert picture(tmp_path / "confusion.png").shape[0] < 1000


LONG = "c" * 255  # the longest folder, and so the longest name of a class


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: contact_sheet(FLAT, [0, 1, 1], np.eye(2)[[0, 1, 0]], ["a", LONG], path),
        lambda path: confusion_matrix(np.eye(2), [0, 1], ["a", LONG], path),
        lambda path: five_guesses(FLAT, [0, 1, 1], np.eye(2)[[0, 1, 0]], ["a", LONG], path),
        lambda path: nearest(FLAT[:1], [FLAT[1:]], path, [["a", LONG]]),
    ],
    ids=["contact sheet", "confusion matrix", "five guesses", "nearest"],
)
def test_a_long_name_is_cut_short(tmp_path, monkeypatch, draw):
    """It would leave no room for the picture, or lie on its neighbours."""
    figures = []
    monkeypatch.setattr(minidl.plots, "_save", lambda figure, path: figures.append(figure))
    draw(tmp_path / "picture.png")
    lines = [line for text in figures[0].findobj(Text) for line in text.get_text().splitlines()]
    assert any("ccc..." in line for line in lines) and max(map(len, lines)) < 40


# Several runs


def test_compare(tmp_path):
    runs = {"one": [epoch(1, 0.1), epoch(2, 0.1)], "two, of $5 and a_b": [epoch(1, 0.1)]}
    compare(runs, tmp_path / "comparison.png")
    pixels = picture(tmp_path / "comparison.png")
    assert count(pixels, TRAIN) > 200 and count(pixels, TEST) > 100


@pytest.fixture
def two_runs(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"classes": ["a", "b"]}))
        lines = [epoch(1, 0.1), {"epoch": 2, "step": 100, "train_loss": 1.0}, epoch(2, 0.1)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_the_command_draws_curves_anew_and_compares(two_runs, monkeypatch, capsys):
    monkeypatch.chdir(two_runs)
    monkeypatch.setattr(sys, "argv", ["plots", "one"])
    main()
    assert capsys.readouterr().out.split() == ["one/curves.png"] and not (two_runs / "comparison.png").exists()
    for out in ("comparison.bmp", "one/config.json/comparison.png"):
        monkeypatch.setattr(sys, "argv", ["plots", "one", "two", "--out", out])
        with pytest.raises((ValueError, OSError), match="expected a name that ends|nothing can be written to the folder"):
            main()
    monkeypatch.setattr(sys, "argv", ["plots", "one", "two"])
    main()
    assert capsys.readouterr().out.split() == ["one/curves.png", "two/curves.png", "comparison.png"]
    with pytest.raises(FileExistsError, match=r"comparison\.png is already there"):
        main()


def test_runs_of_which_there_is_nothing_to_draw(two_runs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plots", str(two_runs / "one"), str(two_runs / "nowhere")])
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such run"):
        main()
    assert not (two_runs / "one" / "curves.png").exists()
    monkeypatch.setattr(sys, "argv", ["plots", str(two_runs / "one")])
    (two_runs / "one" / "metrics.jsonl").write_text('{"epoch": 1, "loss"')
    with pytest.raises(ValueError, match="damaged"):
        main()
    (two_runs / "one" / "metrics.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="no epoch is complete yet"):
        main()


def test_unused(tmp_path):
    assert unused(tmp_path / "new.png") == tmp_path / "new.png"
    (tmp_path / "link.png").symlink_to("nowhere.png")
    for there in (tmp_path, tmp_path / "link.png"):
        with pytest.raises(FileExistsError, match="already there; choose another name"):
            unused(there)
    with pytest.raises(OSError, match=r"aaa\.png: File name too long; choose a shorter name"):
        unused(tmp_path / ("a" * 300 + ".png"))


@pytest.mark.parametrize(
    ("name", "begins"), [("a.jpg", b"\xff\xd8\xff"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")]
)
def test_the_suffix_says_what_is_written(tmp_path, name, begins):
    kernels(np.zeros((3, 3, 3, 4)), unused_picture(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.parametrize("name", ["picture", "a.bmp", ".png", "png"])
def test_a_picture_needs_a_known_suffix(tmp_path, name):
    for refuses in (unused_picture, lambda path: kernels(np.zeros((3, 3, 3, 4)), path)):
        with pytest.raises(ValueError, match=r"expected a name that ends in \.png, \.jpg, \.jpeg, \.webp, \.svg, \.pdf"):
            refuses(tmp_path / name)
    assert not list(tmp_path.iterdir())
