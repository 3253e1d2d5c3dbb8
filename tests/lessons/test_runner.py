"""`python -m lessons` as a learner uses it, in a clone of its own: what it prints, what it leaves alone."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lessons.runner import commands, workbook
from lessons.runner.course import COURSE, ROOT

HOLE = re.compile(r"( *)# TODO: [^\n]*\n *raise NotImplementedError\(\"(\S+) is not written yet\"\)\n")


class Desk:
    """A learner's desk: a workbook of its own, and the commands, called in this process (the checks start theirs)."""

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self.workbook = folder, folder / "workbook"
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.setattr(workbook, "FOLDER", self.workbook)
        monkeypatch.chdir(folder)

    def says(self, *arguments, status=0, typed="") -> str:
        """What a command prints; it keeps to 80 columns and shows no traceback."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        found = commands.main([str(a) for a in arguments])
        text = "".join(self.capsys.readouterr())
        assert found == status, text
        assert [line for line in text.splitlines() if len(line) > 80] == []
        assert "Traceback" not in text and "\033" not in text
        return text

    def fill(self, number: int, **code: str) -> Path:
        """Lesson `number` with the hole of each name filled."""
        path = self.workbook / f"{COURSE[number].name}.py"
        path.write_text(HOLE.sub(lambda m: f"{m[1]}{code[m[2]]}\n" if m[2] in code else m[0], path.read_text()))
        return path

    def solve(self, number: int) -> Path:
        """The worked version in place of the learner's."""
        self.workbook.mkdir(exist_ok=True)
        return Path(shutil.copy(COURSE[number].path, self.workbook))


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys) -> Desk:
    return Desk(tmp_path, monkeypatch, capsys)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_map(desk):
    text = desk.says()
    assert re.search(r"^next  0  \d+ minutes +Slopes by hand", text, re.M)
    assert re.search(r"^     23  \d+ minutes +Paper against program", text, re.M)
    assert text.endswith("Begin with\n\n    python -m lessons start 0\n")
    assert not desk.workbook.exists()


def test_start_never_overwrites(desk):
    text = desk.says("start", 0)
    assert "workbook/00_slopes.py is yours now" in text and "4 places" in text
    path = desk.workbook / "00_slopes.py"
    assert path.read_text().count("# TODO: ") == 4 and "SOLUTION" not in path.read_text()
    path.write_text("mine")
    assert "is there already, and stays as it is" in desk.says("start", 0)
    assert path.read_text() == "mine"


def test_what_cannot_be_done_is_said(desk):
    assert "There is no lesson '24'" in desk.says("start", 24, status=2)
    assert "There is no lesson 'one'" in desk.says("hint", "one", status=2)
    assert "You have not started lesson 0:\n    python -m lessons start 0" in desk.says("check", 0, status=2)
    desk.says("start", "00_slopes")
    for seconds in (0, "inf", "nan"):
        assert "--seconds must be more than 0" in flat(desk.says("check", 0, "--seconds", seconds, status=2))
    assert "--epochs must be at least 1, not 0" in desk.says("assemble", "--epochs", 0, status=2)


def test_an_open_hole(desk):
    desk.says("start", 0)
    text = desk.says("check", 0, status=1)
    lines = (desk.workbook / "00_slopes.py").read_text().splitlines()
    line = lines.index('    raise NotImplementedError("slope is not written yet")') + 1
    assert "  open   slope: x * x has slope 6 at 3\n" in text
    assert f"         slope is not written yet (your code takes the place of line {line})\n" in text
    assert text.endswith("A hint: `python -m lessons hint 0`\n")


def test_a_wrong_value(desk):
    desk.says("start", 0)
    desk.fill(0, slope="return (f(x + eps) - f(x - eps)) / eps")
    text = desk.says("check", 0, status=1)
    assert "slope(f, 3.0, 0.5) of f(x) = x * x: 12 instead of 6, ratio 2.\n" in text
    assert "Likely cause: the two points lie 2 eps apart: divide by 2 * eps." in text
    assert "9 more checks will be done when this is mended" in text


def test_a_wrong_shape(desk):
    desk.says("start", 0)
    desk.fill(0, slope="return (f(x + eps) - f(x - eps)) / (2 * eps)", gradient="print('Ä'); return np.zeros(6)")
    text = flat(desk.says("check", 0, status=1))
    assert "shape (6,) instead of shape (2, 3). The number of elements is right" in text
    assert "Your code printed: Ä" in text and "3 of 10 checks pass." in text


def test_an_exception(desk):
    desk.says("start", 0)
    path = desk.fill(0, slope="return (f(x + eps) - f(x - eps)) / (2 * epz)")
    line = path.read_text().splitlines().index("    return (f(x + eps) - f(x - eps)) / (2 * epz)") + 1
    text = desk.says("check", 0, status=1)
    assert (
        f"         line {line}, in slope:\n             return (f(x + eps) - f(x - eps)) / (2 * epz)\n         NameError: name 'epz'"
        in text
    )


def test_an_exception_behind_an_operation_of_minidl(desk):
    """minidl raises again what `forward` raised; the learner's line is behind that."""
    path = desk.solve(13)
    path.write_text(path.read_text().replace("return xp.maximum(x, 0)", "return xp.maximum(x, [0, 1])"))
    line = path.read_text().splitlines().index("        return xp.maximum(x, [0, 1])") + 1
    assert f"line {line}, in forward:\n             return xp.maximum(x, [0, 1])" in desk.says("check", 13, status=1)


def test_files_with_the_names_of_modules_of_python_do_no_harm(desk):
    desk.solve(0)
    (desk.workbook / "random.py").write_text("print('mine')\n")
    assert "All 10 checks pass." in desk.says("check", 0)


def test_a_file_that_begins_with_a_byte_order_mark(desk):
    path = desk.solve(0)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert "All 10 checks pass." in desk.says("check", 0)


def test_a_syntax_error(desk):
    desk.says("start", 0)
    desk.fill(0, slope="return (f(x + eps")
    text = desk.says("check", 0, status=1)
    assert "your file cannot be read" in text and "Python cannot read this line:" in text and "SyntaxError" in text
    assert "Mend this first" in desk.says("hint", 0, status=1)
    (desk.workbook / "00_slopes.py").write_bytes(b"x = '\xff'\n")
    assert "not text in UTF-8" in desk.says("check", 0, status=1)


@pytest.mark.parametrize(
    "code,words",
    [
        ("x = (1", "'(' was never closed"),
        ("x = 1\n\treturn x", "Put four spaces in place of every tab."),
        ("  return 1", "The spaces at its beginning do not fit."),
        ("return \u201ca\u201d", "It looks like one that Python knows, but is another"),
        ("return 1 \u2212 2", "It looks like one that Python knows, but is another"),
        ("return 'a", "A quotation mark is missing."),
        ('return """a', "Three quotation marks are missing somewhere"),
        ("return 1 2", "Look for a missing bracket or colon"),
    ],
)
def test_what_a_syntax_error_usually_means(desk, code, words):
    desk.says("start", 0)
    desk.fill(0, slope=code)
    assert words in flat(desk.says("check", 0, status=1))


def test_a_function_that_is_defined_twice(desk):
    path = desk.solve(0)
    path.write_text(path.read_text() + "\n\ndef slope(f, x):\n    return 1\n")
    lines = path.read_text().splitlines()
    first, second = lines.index("def slope(f, x, eps):") + 1, lines.index("def slope(f, x):") + 1
    text = desk.says("check", 0, status=1)
    assert f"line {second}:\n             def slope(f, x):\n" in text
    assert f"`slope` is defined more than once, at lines {first} and {second}: the last one counts." in flat(text)


def test_a_dictionary_that_a_loop_fills_is_full_when_the_checks_run(desk):
    desk.solve(0)
    path = desk.workbook / "00_slopes.py"
    filled = "halves = {}\nfor k in (1, 2):\n    halves[k] = k / 2\n\n\ndef slope(f, x, eps):\n    eps = 2 * eps * halves[1]"
    path.write_text(path.read_text().replace("def slope(f, x, eps):", filled))
    assert "All 10 checks pass." in desk.says("check", 0)


@pytest.mark.parametrize(
    "code,words",
    [
        ("while True: pass", "Still at work after 0.5 s, at line {line}, in slope: while True: pass A loop without end"),
        ("return sum(range(10**12))", "Still at work after 0.5 s, at line {line}, in slope: return sum(range(10**12))"),
        ("import os; os._exit(0)", "line {line}, in slope: import os; os._exit(0) SystemExit: os._exit(0) Python is ended here"),
        ("import posix; posix._exit(0)", "Your code ended Python itself"),
        ("import posix; posix._exit(3)", "Python ended with status 3"),
        (
            "import os; os.kill(os.getpid(), 11)",
            "Python itself crashed (signal 11), at line {line}, in slope: import os; os.kill",
        ),
        ("input()", "EOFError: EOF when reading a line There is no keyboard"),
    ],
)
def test_code_that_does_not_come_back(desk, code, words):
    desk.says("start", 0)
    path = desk.fill(0, slope=code)
    line = path.read_text().splitlines().index(f"    {code}") + 1
    begin = time.monotonic()
    text = flat(desk.says("check", 0, "--seconds", 0.5, status=1))
    assert words.format(line=line) in text
    assert time.monotonic() - begin < 10


def test_a_pass_is_remembered_and_its_picture_is_in_the_workbook(desk):
    desk.solve(3)
    text = desk.says("check", 3)
    assert "All 10 checks pass." in text and "Look at workbook/03_accumulate.png." in text
    assert (desk.workbook / "03_accumulate.png").stat().st_size > 5000
    progress = json.loads((desk.workbook / ".progress.json").read_text())
    assert list(progress["passed"]) == ["3"]
    assert re.search(r"^done  3 ", desk.says(), re.M)
    assert "for a GPU too" not in text
    assert sorted(p.name for p in desk.folder.iterdir() if p.suffix == ".png") == []


def test_hints_come_one_after_the_other(desk):
    first = desk.says("hint", 0)
    assert first.startswith("slope, hint 1 of 3: the idea\n")
    desk.says("start", 0)
    assert desk.says("hint", 0).startswith("slope, hint 2 of 3: the formula\n")
    for _ in range(2):
        text = desk.says("hint", 0)
        assert text.startswith("slope, hint 3 of 3: nearly the code\n") and "That was the last" in text
    desk.fill(0, slope="return (f(x + eps) - f(x - eps)) / (2 * eps)")
    assert desk.says("hint", 0).startswith("gradient, hint 1 of 3: the idea\n")
    desk.solve(3)
    assert "nothing to hint at" in desk.says("hint", 3)


def test_the_solution_stands_beside_the_learners_own(desk):
    desk.says("start", 0)
    desk.fill(0, slope="return 7")
    text = desk.says("solution", 0)
    assert "\n-    return 7\n+    return (f(x + eps) - f(x - eps)) / (2 * eps)\n" in text
    assert "BEGIN SOLUTION" not in text
    (desk.workbook / "00_slopes.py").write_text(re.sub(r" *### (BEGIN|END).*\n", "", COURSE[0].text))
    assert "to the letter" in desk.says("solution", 0)


def test_reset_asks_and_keeps_every_version(desk):
    assert "yours now" in desk.says("reset", 0)
    assert "nothing to reset" in desk.says("reset", 0)
    path = desk.workbook / "00_slopes.py"
    fresh = path.read_text()
    for number in (1, 2):
        path.write_text(f"version {number}")
        for answer in ("", "n\n", "what?\n"):
            assert "Nothing has changed." in desk.says("reset", 0, typed=answer, status=1)
            assert path.read_text() == f"version {number}"
        text = flat(desk.says("reset", 0, typed="y\n"))
        assert f"Your work is kept as workbook/backups/00_slopes.{number}.py." in text
        assert path.read_text() == fresh
    backups = sorted((desk.workbook / "backups").iterdir())
    assert [p.read_text() for p in backups] == ["version 1", "version 2"]


@pytest.mark.parametrize(
    "content", ['{"passed": {"0', "[]", '{"passed": [], "hints": {}}', '{"passed": {"x": "y"}, "hints": {}}', "\0"]
)
def test_damaged_progress_is_put_aside(desk, content):
    desk.workbook.mkdir()
    (desk.workbook / ".progress.json").write_text(content)
    text = flat(desk.says())
    assert "The record of your progress was damaged; it is kept as workbook/backups/.progress.1.json" in text
    assert (desk.workbook / "backups" / ".progress.1.json").read_text() == content
    assert "damaged" not in desk.says()


def test_a_gpu_that_is_not_there(desk):
    desk.solve(3)
    desk.monkeypatch.setitem(sys.modules, "cupy", None)
    for device in ("gpu", "both"):
        text = desk.says("check", 3, "--device", device, status=2)
        assert "a GPU needs CuPy" in text and "minidl.doctor" in text


# As programs


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone's folder, with minidl to import from elsewhere."""
    shutil.copytree(ROOT / "lessons", tmp_path / "lessons", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def environment(clone: Path, **variables: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**ours, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(clone), **variables}


def program(*command, cwd: Path, **variables):
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment(cwd, **variables), timeout=60)


def test_watching(clone):
    (clone / "workbook").mkdir()
    path = clone / "workbook" / "03_accumulate.py"
    path.write_text("def backward(result):\n    pass\n")
    command = [sys.executable, "-u", "-m", "lessons", "check", "3", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=clone, env=environment(clone)) as process:
        try:
            before = "".join(iter(process.stdout.readline, "watching workbook/03_accumulate.py; Ctrl-C ends it\n"))
            assert "There is no `Scalar` in your file" in before
            path.write_text(COURSE[3].text)
            rest = process.stdout.read()
            assert rest.count("saved at") == 1 and "All 10 checks pass." in rest
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    assert sorted(p.name for p in clone.iterdir() if p.suffix == ".png") == []


def on_a_terminal(clone: Path, **variables: str) -> str:
    """What the map prints when standard output is a terminal."""
    ours, theirs = pytest.importorskip("pty").openpty()
    command = [sys.executable, "-m", "lessons"]
    process = subprocess.Popen(command, stdout=theirs, cwd=clone, env=environment(clone, **{"TERM": "xterm", **variables}))
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait() == 0
    return text.decode()


def test_colour_on_a_terminal_only_and_not_with_no_color(clone):
    assert "\033[1m" in on_a_terminal(clone)
    assert "\033" not in on_a_terminal(clone, NO_COLOR="1")
    assert "\033" not in on_a_terminal(clone, TERM="dumb")


def test_from_any_folder(clone, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = program(clone / "lessons", "start", 0, cwd=elsewhere)
    assert done.returncode == 0 and f"python {clone / 'lessons'} check 0 --watch" in done.stdout
    assert (clone / "workbook" / "00_slopes.py").exists() and not (elsewhere / "workbook").exists()
    both = f"{clone}{os.pathsep}{ROOT}"
    assert "Go on with" in program("-m", "lessons", cwd=elsewhere, PYTHONPATH=both).stdout


def test_without_minidl_it_says_what_to_install(clone):
    done = program("-S", "-m", "lessons", cwd=clone, PYTHONPATH="")  # -S: without installed packages
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "The lessons need minidl" in done.stderr and f"-m pip install -e {clone}" in done.stderr


def test_a_reader_that_stops_reading(clone):
    command = f"{sys.executable} -m lessons | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=clone, env=environment(clone))
    assert done.stderr == "" and "Slopes" not in done.stdout
