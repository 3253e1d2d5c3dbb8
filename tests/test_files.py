"""Files are replaced whole or not at all."""

import os

import pytest

from minidl.files import replacing


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


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "notes.txt"):
        pass
    assert names(tmp_path) == []
