"""Programs end with a sentence."""

import sys

import pytest

from minidl.program import main_or_exit


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("width is -1"), "classify: width is -1"),
        (FileNotFoundError("nowhere: there is no such run"), "classify: nowhere: there is no such run"),
        (RuntimeError("a GPU needs CuPy"), "classify: a GPU needs CuPy"),
        (MemoryError("batch size 64 would fit"), "classify: batch size 64 would fit"),
    ],
)
def test_what_a_program_cannot_do_is_said(monkeypatch, error, sentence):
    monkeypatch.setattr(sys, "argv", ["examples/classify.py", "photo.jpg"])

    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        main_or_exit(main)
    assert ended.value.code == sentence, "text: Python prints it to standard error, and the status is 1"


def test_ctrl_c_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["examples/classify.py"])

    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        main_or_exit(main)
    assert ended.value.code == 130 and capsys.readouterr().err == "classify: interrupted\n"


@pytest.mark.parametrize("error", [TypeError, ZeroDivisionError, AssertionError])
def test_a_mistake_in_the_program_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(error):
        main_or_exit(main)


def test_a_program_that_ends_well_goes_on():
    assert main_or_exit(lambda: None) is None
    assert main_or_exit(lambda: 0) is None


def test_a_status_is_the_programs():
    with pytest.raises(SystemExit) as ended:
        main_or_exit(lambda: 1)
    assert ended.value.code == 1
