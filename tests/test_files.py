"""Files are replaced whole or not at all."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from minidl.files import check_writable, replacing


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_new_file_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "notes.txt"
    for text in ("old", "new"):
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path and temporary != path, "a rename must not cross file systems"
            temporary.write_text(text)
        assert path.read_text() == text
    assert names(tmp_path) == ["notes.txt"]


def test_until_the_end_of_the_block_the_old_file_is_there(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"


def test_when_the_block_raises_the_old_file_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["notes.txt"]


def test_when_renaming_fails_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old" and names(tmp_path) == ["notes.txt"]


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("fsync") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replace") or replace(*paths))
    with replacing(tmp_path / "notes.txt") as temporary:
        temporary.write_text("new")
    assert done == ["fsync", "replace"]


def test_folders_are_made(tmp_path):
    with replacing(str(tmp_path / "a" / "b" / "notes.txt")) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "notes.txt").read_text() == "new"


def test_a_folder_that_can_be_made_is_fit_to_write_to(tmp_path, monkeypatch):
    check_writable(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    check_writable("a")
    check_writable(Path())
    assert names(tmp_path) == [], "nothing is left behind"


def refused(folder, nearest):
    return pytest.raises(OSError, match=re.escape(f"nothing can be written to the folder {folder} ({nearest}: "))


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/a", "file/a/b"):
        with refused(tmp_path / folder, tmp_path / "file"):
            check_writable(tmp_path / folder)
        with refused(tmp_path / folder, tmp_path / "file"), replacing(tmp_path / folder / "notes.txt"):
            raise AssertionError("the block was entered")


def test_a_link_to_nowhere_is_refused(tmp_path):
    for name, target in (("link", "nowhere"), ("circle", "circle")):
        (tmp_path / name).symlink_to(tmp_path / target)
        for folder in (name, f"{name}/a"):
            with refused(tmp_path / folder, tmp_path / name):
                check_writable(tmp_path / folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can write")
def test_a_folder_that_cannot_be_made_is_refused():
    with refused("/proc/minidl/run", "/proc"):
        check_writable("/proc/minidl/run")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    """Root may write anywhere: so the refusal is put on."""

    def denied(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    with refused(tmp_path / "run", tmp_path) as raised:
        check_writable(tmp_path / "run")
    with refused(tmp_path, tmp_path), replacing(tmp_path / "notes.txt") as temporary:
        denied(temporary)
    assert str(raised.value).endswith(
        f"({tmp_path}: Permission denied); choose another one, or see to it that {tmp_path} is a folder in which you may write"
    )


@pytest.mark.parametrize("name", ["a" * 300, "runs/" + "b" * 300, "b" * 300 + "/c"])
def test_a_name_that_is_too_long_is_refused(tmp_path, monkeypatch, name):
    long = next(part for part in name.split("/") if len(part) > 255)
    with pytest.raises(OSError, match=rf"^{re.escape(str(tmp_path / long))}: File name too long; choose a shorter name$"):
        check_writable(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=f"^{long}: File name too long"):
        check_writable(name)
    assert names(tmp_path) == []


def test_the_temporary_name_is_never_too_long(tmp_path):
    with replacing(tmp_path / ("a" * 255)) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["a" * 255]


def test_an_error_names_the_file_that_was_wanted(tmp_path):
    path = tmp_path / "notes.txt"
    for named in (False, True):  # it may name the temporary file
        with pytest.raises(OSError, match=f"No space left on device: '{re.escape(str(path))}'$"), replacing(path) as temporary:
            raise OSError(28, "No space left on device", *[temporary] * named)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory: '[^']*folder'$"), replacing(tmp_path / "folder") as temporary:
        temporary.touch()
    with pytest.raises(FileNotFoundError, match="another"), replacing(tmp_path / "notes.txt"):
        (tmp_path / "another").read_text()


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "notes.txt"):
        pass
    assert names(tmp_path) == []
