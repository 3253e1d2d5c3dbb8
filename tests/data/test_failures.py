"""A few undecodable files do not stop a training run; too many do."""

import logging
import re

import numpy as np
import pytest
from PIL import Image

from minidl.data import DataLoader, ImageFolder, Subset, colour_covariance, mean_colour, mean_image

BROKEN = (3, 4, 17)


@pytest.fixture
def folder(tmp_path):
    """20 images of 4 x 4 whose red is 10 times their number; three of them are truncated or no images."""
    (tmp_path / "only").mkdir()
    for number in range(20):
        path = tmp_path / "only" / f"{number:02}.png"
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(path)
        if number in BROKEN:
            path.write_bytes(path.read_bytes()[: 40 if number == 3 else 5])
    return ImageFolder(tmp_path)


def reds(loader):
    return [int(red) // 10 for images, _ in loader for red in images.numpy()[:, 0, 0, 0]]


def test_in_order_failures_are_left_out(folder, caplog):
    loader = DataLoader(folder, batch_size=3, max_failures=0.15)
    expected = [number for number in range(20) if number not in BROKEN]
    with caplog.at_level(logging.WARNING, "minidl.data"):
        assert reds(loader) == expected
    assert [failure.index for failure in loader.failures] == [3, 4, 17]
    assert all(str(folder.path(failure.index)) in failure.message for failure in loader.failures)
    named = [str(folder.path(number)) for number in BROKEN]
    assert len(caplog.records) == 3  # each is named once
    assert sorted(re.search(r"\S+\.png", record.getMessage()).group() for record in caplog.records) == [f"{n}" for n in named]
    assert loader.kept.tolist() == expected
    with caplog.at_level(logging.WARNING, "minidl.data"):
        mean_colour(Subset(folder, range(10, 20)))
        assert reds(loader) == expected and reds(DataLoader(folder, 3, shuffle=True, max_failures=0.15))
    assert len(loader.failures) == 3 == len(caplog.records), "each once a process, whoever meets it"


def test_labels_stay_with_their_images(folder):
    folder.labels = np.arange(20)
    found = [int(label) for _, labels in DataLoader(folder, 4, max_failures=0.2) for label in labels.numpy()]
    assert found == [number for number in range(20) if number not in BROKEN]
    shuffled = DataLoader(folder, 4, shuffle=True, max_failures=0.2)
    assert all(int(x) // 10 == int(y) for xs, ys in shuffled for x, y in zip(xs.numpy()[:, 0, 0, 0], ys.numpy(), strict=True))


def test_a_batch_of_failures_only_is_left_out(folder):
    loader = DataLoader(Subset(folder, [0, 1, 3, 4, 5, 6]), batch_size=2, max_failures=0.5)
    assert [images.shape[0] for images, _ in loader] == [2, 2] and reds(loader) == [0, 1, 5, 6]


def test_one_failure_is_put_up_with_in_a_small_data_set(folder):
    few = Subset(folder, [0, 1, 3])
    assert reds(DataLoader(few, batch_size=3)) == [0, 1]
    assert mean_colour(few).tolist() == [5, 0, 0]
    with pytest.raises(ValueError, match=r"1 of 3 images cannot be decoded \(33 %; 0 % may be\)"):
        reds(DataLoader(few, batch_size=3, max_failures=0))


def test_replacements_do_not_depend_on_threads_or_order(folder):
    def shuffled(prefetch):
        return reds(DataLoader(folder, batch_size=3, shuffle=True, seed=1, prefetch=prefetch, max_failures=0.2))

    assert shuffled(1) == shuffled(4)
    assert sorted(shuffled(1)) == sorted(number if number not in BROKEN else 5 if number < 10 else 18 for number in range(20))


def test_the_last_image_is_replaced_by_the_first(folder):
    loader = DataLoader(Subset(folder, [0, 1, 2, 3]), batch_size=4, shuffle=True, max_failures=0.25)
    assert sorted(reds(loader)) == [0, 0, 1, 2]


@pytest.mark.parametrize(("share", "fails"), [(0.15, False), (0.14, True), (0.01, True), (0, True)])
def test_more_than_the_share_is_fatal(folder, share, fails):
    loader = DataLoader(folder, batch_size=20, max_failures=share)
    if not fails:
        assert len(reds(loader)) == 17
        return
    message = (
        rf"of 20 images cannot be decoded \(.* %; {100 * share:g} % may be\); the first is image 3: .*03\.png.*data.pack --max-f"
    )
    for _ in range(2):  # and stays so
        with pytest.raises(ValueError, match=message):
            reds(loader)


def test_a_data_set_without_any_image_ends_in_an_error(folder):
    with pytest.raises(ValueError, match="2 of 2 images cannot be decoded"):
        reds(DataLoader(Subset(folder, [3, 4]), batch_size=2, max_failures=1))


def test_the_share_is_checked(folder):
    with pytest.raises(ValueError, match=r"max_failures is 2; expected a share"):
        DataLoader(folder, batch_size=2, max_failures=2)


def test_other_errors_are_no_failures(folder):
    folder.path(7).unlink()
    with pytest.raises(FileNotFoundError, match=r"07\.png"):
        reds(DataLoader(folder, batch_size=20, max_failures=1))


def test_statistics_pass_over_failures(tmp_path):
    (tmp_path / "only").mkdir()
    for number in range(100):
        Image.new("RGB", (2, 2), (number, 2 * number, 7)).save(tmp_path / "only" / f"{number:02}.png")
    (tmp_path / "only" / "00.png").write_bytes(b"")
    dataset = ImageFolder(tmp_path)
    assert mean_colour(dataset).tolist() == [50, 100, 7]
    assert mean_image(dataset)[0, 0].tolist() == [50, 100, 7]
    variance = np.var(np.arange(1, 100))
    assert colour_covariance(dataset)[:2, :2].tolist() == pytest.approx(np.outer([1, 2], [1, 2]) * variance, rel=1e-6)
    (tmp_path / "only" / "01.png").write_bytes(b"")
    with pytest.raises(ValueError, match="2 of 100 images cannot be decoded"):
        mean_colour(dataset)
