"""The lessons are honest: holes fail, worked files pass and run anywhere, every mutant is named; the text says what is true."""

import ast
import os
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
from PIL import Image

import minidl
from lessons.runner import source
from lessons.runner.course import COURSE, FOLDER, ROOT, TITLES, Lesson
from lessons.runner.examine import Event, check_functions, examine, title_of

MUTANTS = [(lesson, mutant) for lesson in COURSE for mutant in lesson.checks.MUTANTS]
every_lesson = pytest.mark.parametrize("lesson", COURSE, ids=lambda lesson: lesson.name)
SECONDS = 120  # that a worked file may take beside another test: a minute with two cores for itself


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def outcome(lesson: Lesson, text: str, device: str = "cpu") -> list[Event]:
    """What the checks find in `text`; the whole file is not run."""
    events = examine(text, lesson.name, lesson.checks, (device,), whole=False)
    return [event for event in events if event.kind != "begin"]


@every_lesson
def test_with_its_holes_open_every_check_says_so(lesson):
    events = outcome(lesson, source.with_holes(lesson.text))
    assert events and all(event.kind == "open" for event in events), events
    told = {event.text.partition(f" {source.OPEN} (")[0] for event in events}
    assert told <= {hole.name for hole in lesson.holes}


@every_lesson
def test_each_hole_alone_is_noticed(lesson):
    """No check passes over a hole because the others are filled."""
    for hole in lesson.holes:
        lines = lesson.text.splitlines()
        indent = re.match(r"\s*", lines[hole.first - 1])[0]
        lines[hole.first - 1 : hole.last] = [f'{indent}raise NotImplementedError("{hole.name} {source.OPEN}")']
        kinds = {event.hole: event.kind for event in outcome(lesson, "\n".join(lines))}
        assert kinds[hole.name] == "open", hole.name


@every_lesson
def test_the_worked_file_passes(lesson, device):
    events = outcome(lesson, lesson.text, device)
    assert events and all(event.kind == "ok" for event in events), events


@every_lesson
def test_the_worked_file_without_its_marks_passes(lesson):
    assert all(event.kind == "ok" for event in outcome(lesson, source.worked(lesson.text)))


@pytest.mark.parametrize("lesson,mutant", MUTANTS, ids=[f"{lesson.number}: {mutant.name}" for lesson, mutant in MUTANTS])
def test_a_mutant_is_named(lesson, mutant):
    named(lesson, mutant, "cpu")


@every_lesson
def test_mutants_are_named_on_a_gpu(lesson):
    try:
        with minidl.default_device("gpu"):
            pass
    except RuntimeError as error:
        pytest.skip(str(error))
    for mutant in lesson.checks.MUTANTS:
        if not mutant.cpu_only:
            named(lesson, mutant, "gpu")


def named(lesson, mutant, device):
    assert lesson.text.count(mutant.old) == 1, "a mutant replaces one place of the worked file"
    wrong = [event for event in outcome(lesson, lesson.text.replace(mutant.old, mutant.new), device) if event.kind == "wrong"]
    assert len(wrong) == 1
    assert re.search(mutant.says, wrong[0].text), wrong[0].text


@every_lesson
def test_the_worked_file_runs_as_a_script(lesson, tmp_path):
    """Anywhere: it leaves its pictures there, and prints what its text quotes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "PYTHONWARNINGS": "error::RuntimeWarning"}
    command = [sys.executable, str(lesson.path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=SECONDS)
    assert result.returncode == 0 and not result.stderr, result.stderr
    for quoted in re.findall(r"^# %% \[markdown\]\n((?:#     .+\n)+)", lesson.text, re.M):
        text = re.sub(r"^#     ", "", quoted, flags=re.M)
        assert text in result.stdout, text
    pictures = sorted(tmp_path.iterdir())
    assert pictures and all(p.name.startswith(f"{lesson.number:02}_") and p.suffix == ".png" for p in pictures)
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.width >= 600 and len(image.convert("RGB").getcolors(1 << 24)) > 50


@every_lesson
def test_what_a_lesson_says_of_itself(lesson):
    text = re.sub(r"\n# ?", "\n", lesson.text)  # the markdown cells as they read
    assert lesson.text.startswith(f"# %% [markdown]\n# # Lesson {lesson.number}: ")
    top = text[: text.index("\n%%", 5)]
    for part in ("**You will be able to**", "**Time:**", "**Builds on:**", "**Source:**"):
        assert part in top, part
    assert 0 < lesson.minutes <= 45
    for part in ("## What you can now do", "Now read", "**The next lesson**"):
        assert part in text or lesson.number == len(COURSE) - 1, part
    for path in re.findall(r"`(minidl/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


@every_lesson
def test_names_of_the_source_that_a_lesson_mentions_exist(lesson):
    """`_Check.values`, `operations_behind`, `totals`: whatever the last cell names in backquotes is in the files that it names."""
    last = re.sub(r"\n# ?", "\n", lesson.text[lesson.text.rindex("# %% [markdown]") :])
    paragraph = last[last.index("Now read") : last.index("**The next lesson**")]
    paths = [ROOT / path for path in re.findall(r"`(minidl/[\w/.]*)`", paragraph)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.glob("*.py"))]
    known = "\n".join(file.read_text(encoding="utf-8") for file in files)
    own = {hole.name for hole in lesson.holes} | {"grad", "None"}
    for name in set(re.findall(r"`([\w.]+)(?:\(\)|=True)?`", paragraph)) - own:
        assert all(part in known for part in name.split(".")[-1:]), name


@every_lesson
def test_a_lesson_fits_eighty_columns_and_needs_no_lessons(lesson):
    for text in (lesson.text, source.with_holes(lesson.text)):
        assert [line for line in text.splitlines() if len(line) > 79] == []
    assert not re.search(r"^\s*(from|import) lessons", lesson.text, re.M), "it must run by itself"


@every_lesson
def test_checks_hints_and_mutants_are_complete(lesson):
    holes = [hole.name for hole in lesson.holes]
    assert holes and len(set(holes)) == len(holes)
    assert all(hole.todo for hole in lesson.holes), "### BEGIN SOLUTION: what is to be done"
    hints = lesson.checks.HINTS
    assert list(hints) == holes
    assert all(len(three) == 3 and all(three) for three in hints.values())
    titles = [title_of(check) for check in check_functions(lesson.checks)]
    assert len(set(titles)) == len(titles)
    about = [title.partition(": ")[0] for title in titles]
    assert list(dict.fromkeys(about)) == holes, "checks stand in the order of the holes, each hole has some"
    assert len(lesson.checks.MUTANTS) >= 3
    assert len({mutant.name for mutant in lesson.checks.MUTANTS}) == len(lesson.checks.MUTANTS)


def test_every_lesson_has_its_two_files():
    pattern = "[0-9][0-9]_*.py"
    assert [p.name for p in sorted(FOLDER.glob(pattern))] == [p.name for p in sorted((FOLDER / "checks").glob(pattern))]
    assert [p.name[:2] for p in sorted(FOLDER.glob(pattern))] == [f"{number:02}" for number in range(len(TITLES))]


def test_the_readme_has_the_map():
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.+) \|$", (FOLDER / "README.md").read_text(encoding="utf-8"), re.M)
    times = [str(lesson.minutes) for lesson in COURSE]
    assert rows == [(str(n), title, time) for n, (title, time) in enumerate(zip(TITLES, times, strict=True))]


# The format


def test_the_holes_of_a_file():
    text = (
        "class A:\n    def f(self):\n        x = 1\n        ### BEGIN SOLUTION: set y\n        y = 2\n        z = 3\n"
        "        ### END SOLUTION\n        return y\n\n\ndef g():\n    ### BEGIN SOLUTION: all\n    return 1\n    ### END SOLUTION\n"
    )
    assert [(hole.name, hole.todo) for hole in source.holes(text)] == [("A.f", "set y"), ("g", "all")]
    assert source.with_holes(text) == (
        "class A:\n    def f(self):\n        x = 1\n        # TODO: set y\n"
        '        raise NotImplementedError("A.f is not written yet")\n        return y\n\n\n'
        'def g():\n    # TODO: all\n    raise NotImplementedError("g is not written yet")\n'
    )
    assert source.worked(text) == re.sub(r" *###.*\n", "", text)


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    ### BEGIN SOLUTION: x\n    pass\n",
        "def f():\n    pass\n    ### END SOLUTION\n",
        "### BEGIN SOLUTION: x\nx = 1\n### END SOLUTION\n",
    ],
)
def test_marks_that_do_not_fit_are_refused(text):
    with pytest.raises(ValueError, match="line"):
        source.holes(text)


def test_what_a_file_defines_and_what_it_does():
    text = """
import numpy as np
SIZE = 3
size = SIZE
figure = plt.figure()
axes = figure.gca()
STEPS = np.arange(size)
table = [1, 2]
def f(x): return np.abs(x) + table[0]
class C: pass
C.twice = lambda self: 2
g = f
y = f(1)
z = y + 1
print(y)
for i in range(3):
    k = i
for i in range(3):
    table[1] = i
for i in range(3):
    table.append(f(i))
for axis in axes:
    axis.plot([])
table.append(3)
seen = []
seen.append(3)
np.seterr()
m = k + 1
y = 5
"""
    kept = [ast.unparse(node).splitlines()[0] for node in source.definitions(ast.parse(text))]
    assert kept == [
        "import numpy as np", "SIZE = 3", "size = SIZE", "STEPS = np.arange(size)", "table = [1, 2]", "def f(x):", "class C:",
        "C.twice = lambda self: 2", "g = f", "for i in range(3):", "table.append(3)", "seen = []", "y = 5",
    ]  # fmt: skip
    kept = source.definitions(ast.parse("figure = plt.figure()\nf = partial(print)\n"), keep={"f"})
    assert [ast.unparse(node) for node in kept] == ["f = partial(print)"]
