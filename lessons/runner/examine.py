"""Runs a learner's file and its checks, and puts into words what goes wrong. It works in a process of its own (`process.py`):

    python -m lessons.runner.examine 1 workbook/01_scalar.py 20 whole cpu

prints one event a line, as JSON. First comes what the file defines, without what it does with it; then the checks in their order, until
one finds something wrong; and when all is well the whole file, from top to bottom, for its pictures. So a mistake is found by the check
that knows it, not by some line of the lesson that uses the wrong function.
"""

from __future__ import annotations

import ast
import faulthandler
import io
import json
import os
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import minidl
from lessons.checking import Wrong
from lessons.runner import source

PARTS, WHOLE = "what your file defines", "your file, from top to bottom"
FILE_FACTOR = 6  # these two may take so many times as long as a check; the first import of Matplotlib is slow
LATE = 2.0  # seconds after which a step that should have been stopped is stopped by force


@dataclass(frozen=True)
class Event:
    """What happened. kind:

    begin: `title` starts now              ok, open, wrong: the outcome of a check    later: a check after the first wrong one
    syntax: the file cannot be read        stopped: the file raises on its way
    slow: `title` took too long            crashed: Python itself ended               end: nothing more comes
    """

    kind: str
    title: str = ""
    text: str = ""
    printed: str = ""

    @property
    def hole(self) -> str:
        """The hole that a check is about: its title reads `hole: what is checked`."""
        return self.title.partition(":")[0]


class Answers:
    """What the learner's file has defined, for the checks to look at."""

    def __init__(self, names: dict[str, Any], stopped: Sequence[str]) -> None:
        self.__names, self.__stopped = names, stopped

    def __getattr__(self, name: str) -> Any:
        if name in self.__names:
            return self.__names[name]
        raise Wrong("\n".join([f"There is no `{name}` in your file; was it renamed or deleted?", *self.__stopped[:1]]))


def time_for(title: str, seconds: float) -> float:
    """What the step `title` may take, where a check may take `seconds`."""
    return (FILE_FACTOR if title in (PARTS, WHOLE) else 1) * seconds


def check_functions(checks: types.ModuleType) -> list[Callable[..., None]]:
    """The checks of a lesson, in the order in which they are written."""
    return [f for name, f in vars(checks).items() if name.startswith("check_")]


def title_of(check: Callable[..., None], device: str = "") -> str:
    return (check.__doc__ or check.__name__).strip() + (f" ({device})" if device else "")


def examine(
    text: str, path: str, checks: types.ModuleType, devices: Sequence[str] = ("cpu",), whole: bool = True
) -> Iterator[Event]:
    """Check the file whose content is `text`. path: what it is called in messages; whole: run all of it when the checks pass."""
    lines = text.splitlines()
    try:
        compile(text, path, "exec")  # it sees more than `ast.parse`: a `return` outside of a function
        tree = ast.parse(text, path)
    except (SyntaxError, ValueError) as error:
        yield Event("syntax", text=_syntax(error, lines))
        return
    yield Event("begin", PARTS)
    module, raised = defined(text, path, keep={hole.partition(".")[0] for hole in checks.HINTS})
    answers = Answers(vars(module), ["Your file stops here:\n" + explain(error, path, lines) for error in raised])
    twice = source.defined_twice(tree)
    kinds = set()
    for check in check_functions(checks):
        for device in devices if "device" in signature(check).parameters else ("",):
            title = title_of(check, device)
            if "wrong" in kinds:
                yield Event("later", title)
                continue
            yield Event("begin", title)
            event = _check(check, device, title, answers, path, lines)
            if event.kind == "wrong" and event.hole in twice:
                numbers = " and ".join(map(str, twice[event.hole]))
                note = f"`{event.hole}` is defined more than once, at lines {numbers}: the last one counts."
                event = replace(event, text=f"{event.text}\n{note}")
            kinds.add(event.kind)
            yield event
    if whole and kinds <= {"ok"}:
        yield Event("begin", WHOLE)
        ended = _run(tree.body, path, _module(path))
        if ended is not None:
            yield Event("stopped", WHOLE, explain(ended, path, lines))


def defined(
    text: str, path: str, name: str = "lesson", keep: Collection[str] = ()
) -> tuple[types.ModuleType, list[BaseException]]:
    """A module with what the file defines, and what its definitions raised. keep: see `source.definitions`."""
    module = _module(path, name)
    raised = [_run([statement], path, module) for statement in source.definitions(ast.parse(text, path), keep)]
    return module, [error for error in raised if error is not None]


def _module(path: str, name: str = "lesson") -> types.ModuleType:
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module  # dataclasses look their module up
    return module


def _run(body: list[ast.stmt], path: str, module: types.ModuleType) -> BaseException | None:
    """Run statements of the learner's; what they raise."""
    try:
        with redirect_stdout(Printed()):
            exec(compile(ast.Module(body, []), path, "exec"), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        return error
    return None


def _check(check: Callable[..., None], device: str, title: str, answers: Answers, path: str, lines: list[str]) -> Event:
    printed = Printed()
    minidl.manual_seed(0)
    try:
        with redirect_stdout(printed), minidl.default_device(device) if device else nullcontext():
            check(answers, device) if device else check(answers)
    except Wrong as error:
        return Event("wrong", title, str(error), printed.getvalue())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        hole = open_hole(error, path)
        if hole:
            return Event("open", title, hole)
        return Event("wrong", title, explain(error, path, lines), printed.getvalue())
    return Event("ok", title)


class Printed(io.StringIO):
    """What the learner's code prints, up to a limit: it may print in an endless loop."""

    def write(self, text: str) -> int:
        if self.tell() < 2000:
            super().write(text)
        return len(text)


# Words


def _frames(error: BaseException, path: str) -> list[tuple[int, str]]:
    """(line number, function) of the learner's lines that led to `error`, the innermost last.

    minidl raises an error of an operation again, with more words: the learner's `forward` is then behind its cause.
    """
    found = _frames(error.__cause__, path) if error.__cause__ is not None else []
    if found:
        return found
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == path:
            found.append((traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return found


def open_hole(error: BaseException, path: str) -> str:
    """ "slope is not written yet (...)" when that is what `error` says."""
    if isinstance(error, NotImplementedError) and str(error).endswith(source.OPEN) and (frames := _frames(error, path)):
        return f"{error} (your code takes the place of line {frames[-1][0]})"
    return ""


def place(line: int, function: str, lines: list[str]) -> str:
    """A line of the learner's, for a message."""
    where = f"line {line}" + (f", in {function}" if function != "<module>" else "")
    code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return f"{where}:\n    {code if len(code) <= 60 else code[:57] + '...'}"


def explain(error: BaseException, path: str, lines: list[str]) -> str:
    """The learner's own line, what Python says, and what it usually means."""
    said = _said(error)
    frames = _frames(error, path)
    if frames:
        return f"{place(*frames[-1], lines)}\n{said}\n{_left_out(error, lines) or _meaning(error)}".strip()
    if isinstance(error, TypeError) and (called := re.search(r"(\w+)\(\) ", said)):  # it did not even begin
        for number, line in reversed(list(enumerate(lines, 1))):
            if re.match(rf"\s*def {called[1]}\b", line):
                return f"{place(number, '<module>', lines)}\n{said}\n{_meaning(error)}"
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    file = Path(last.tb_frame.f_code.co_filename) if last else Path()
    where = "" if last is None or file.parent.name == "checks" else f" ({file.name}, line {last.tb_lineno})"
    return f"The check could not go on with what your code gave it{where}:\n{said}\n{_meaning(error)}".strip()


def _left_out(error: BaseException, lines: list[str]) -> str:
    """Where the name that is missing is given a value, by something that only runs after the checks."""
    given = source.left_out(ast.parse("\n".join(lines))) if isinstance(error, NameError) else {}
    if getattr(error, "name", None) not in given:
        return ""
    return (
        f"Line {given[error.name]} gives it a value, but loops, and lines that use functions of this file, run only after the checks. "  # type: ignore[attr-defined]
        "Move it into the function that needs it."
    )


def _said(error: BaseException) -> str:
    """ "NameError: name 'epz' is not defined"; of a message of many lines the first three, of a word without end the beginning."""
    try:
        message = "\n".join(str(error).splitlines()[:3])[:400]
    except Exception:  # an exception of the learner's own whose __str__ fails
        message = ""
    message = re.sub(r"\S{61,}", lambda word: word[0][:57] + "...", message)
    return f"{type(error).__name__}: {message}".rstrip(": ")


def _meaning(error: BaseException) -> str:
    said = _said(error)
    if isinstance(error, (AttributeError, TypeError)) and "NoneType" in said:
        return "Something is None here: does a function lack its `return`, or has no gradient arrived yet?"
    if isinstance(error, TypeError) and "argument" in said:
        return "It is called with other arguments than it takes."
    if "setting an array element with a sequence" in said:
        return "Here an array is put where one number should be."
    if "truth value of an array" in said:
        return "`if`, `and`, `or`, `not` ask one question; an array has many answers. Use &, |, ~, or .any() and .all()."
    if "does not support ufuncs" in said:
        return "A Tensor came where NumPy wants an array: use the Tensor's own operations, or its array."
    if "matmul" in said and "mismatch" in said:
        return "In a product a @ b, a must have as many columns as b has rows. Print both shapes just before this line."
    if isinstance(error, ValueError) and any(word in said for word in ("mismatch", "dimension", "broadcast", "cannot reshape")):
        return "The shapes do not fit together. Print them just before this line."
    return next((words for kind, words in _MEANINGS.items() if isinstance(error, kind)), "")


_MEANINGS: dict[type[BaseException], str] = {
    UnboundLocalError: "The function uses this variable before it has given it a value.",
    NameError: "Nothing has this name here: a typing error, or a variable of another function?",
    AttributeError: "Things of this kind have no such attribute: a typing error, or another object than you think?",
    TypeError: "These kinds of values do not go together here.",
    ZeroDivisionError: "The divisor is 0 here.",
    IndexError: "The index lies outside; the last one is the length minus 1.",
    KeyError: "The dictionary has no such entry.",
    RecursionError: "A function calls itself again and again, deeper than Python goes: about 1,000 calls.",
    ModuleNotFoundError: "The lessons need NumPy, Matplotlib and minidl, and nothing else.",
    AssertionError: "An `assert` in your code does not hold.",
    EOFError: "There is no keyboard here: input() has nothing to read.",
    SystemExit: "Python is ended here, and nothing can go on after that.",
    MemoryError: "There is not enough memory: is an array, or a list, larger than you think?",
}


def _syntax(error: SyntaxError | ValueError, lines: list[str]) -> str:
    if not isinstance(error, SyntaxError) or error.lineno is None:
        return f"Python cannot read your file: {error}."
    line = (error.text or "".join(lines[error.lineno - 1 : error.lineno])).rstrip("\n")
    code = line.lstrip()
    parts = [f"line {error.lineno}: Python cannot read this line:"]
    if code:
        parts.append(f"    {code[:70]}")
        column = (error.offset or 1) - 1 - (len(line) - len(code))
        if 0 <= column < 70:
            parts.append("    " + " " * column + "^")
    parts.append(f"{type(error).__name__}: {error.msg}")
    if isinstance(error, TabError):
        parts.append("It begins with a tab, and lines around it with spaces. Put four spaces in place of every tab.")
    elif isinstance(error, IndentationError):
        parts.append("The spaces at its beginning do not fit. (A function, an `if` or a loop needs at least one line inside.)")
    else:
        parts += [words for beginning, words in _SYNTAX.items() if error.msg.startswith(beginning)]
    return "\n".join(parts)


_SYNTAX = {
    "invalid syntax": "Look for a missing bracket or colon, here or at the end of the line before.",
    "invalid character": "It looks like one that Python knows, but is another: was it copied from a text? Type it anew.",
    "unterminated string": "A quotation mark is missing.",
    "unterminated triple-quoted": "Three quotation marks are missing somewhere, perhaps far above: look at every docstring.",
}


# The process


def still_at_work(seconds: float, where: str) -> str:
    """where: `place`, or "" when nobody knows."""
    return f"Still at work after {seconds:g} s{where and f', at {where}'}\nA loop without end, or far more work than needed?"


@contextmanager
def without_exit() -> Iterator[None]:
    """In here `os._exit`, which would end Python without a word, raises SystemExit, of which a line can be named."""

    def exit_(status: int) -> None:
        raise SystemExit(f"os._exit({status})")

    own, os._exit = os._exit, exit_  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = own


def place_in(dump: str, folder: Path) -> str:
    """`place` of the innermost of the learner's lines in what `faulthandler` has written."""
    for file, line, function in re.findall(r'^  File "(.+)", line (\d+) in (.+)$', dump, re.M):
        if Path(file).parent == folder and Path(file).exists():
            return place(int(line), function, Path(file).read_text(encoding=source.ENCODING, errors="replace").splitlines())
    return ""


class Watch(threading.Thread):
    """Calls `too_slow`, which does not come back, when a step takes too long, with the words for it and the learner's line.

    folder: whose files are the learner's. Where a call never gives up Python's lock, `faulthandler` ends the process a little later, and
    writes the lines that led there to file descriptor 2.
    """

    def __init__(self, too_slow: Callable[[str], None], folder: Path) -> None:
        super().__init__(daemon=True)
        self.too_slow, self.folder = too_slow, folder
        self.main = threading.get_ident()
        self.over = threading.Event()
        self.begin(float("inf"))

    def begin(self, limit: float) -> None:
        """A step begins, which may take so many seconds."""
        self.limit, self.deadline = limit, time.monotonic() + limit
        if limit < float("inf"):
            faulthandler.dump_traceback_later(limit + LATE, exit=True, file=2)
        else:
            faulthandler.cancel_dump_traceback_later()

    def end(self) -> None:
        """Nothing is watched any more."""
        self.begin(float("inf"))
        self.over.set()

    def run(self) -> None:
        while time.monotonic() < self.deadline:
            if self.over.wait(0.05):
                return
        frame = sys._current_frames().get(self.main)
        while frame is not None and Path(frame.f_code.co_filename).parent != self.folder:
            frame = frame.f_back
        where = ""
        if frame is not None:
            lines = Path(frame.f_code.co_filename).read_text(encoding=source.ENCODING, errors="replace").splitlines()
            where = place(frame.f_lineno, frame.f_code.co_name, lines)
        self.too_slow(still_at_work(self.limit, where))


def main() -> None:
    from lessons.runner.course import COURSE

    number, path, seconds, extent, *devices = sys.argv[1:]
    os.chdir(Path(path).parent)  # here pictures are saved
    sys.path.append(str(Path(path).parent))  # last: a learner's random.py must not take the place of Python's
    # The events go where standard output was; what the learner prints, also from C, must not get between them.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(event: Event) -> None:
        with lock:
            print(json.dumps(asdict(event)), file=events, flush=True)

    try:
        text = Path(path).read_text(encoding=source.ENCODING)
    except UnicodeDecodeError as error:
        send(Event("syntax", text=f"It is not text in UTF-8 (byte {error.start}); have your editor save it as UTF-8."))
        send(Event("end"))
        return
    checks = COURSE[int(number)].checks
    title = PARTS
    end = os._exit

    def too_slow(words: str) -> None:
        send(Event("slow", title, words))
        end(0)

    watch = Watch(too_slow, Path(path).parent)
    watch.start()
    faulthandler.enable()  # where Python crashes, only this can still say at which line: see `process.py`
    try:
        with without_exit():
            for event in examine(text, path, checks, devices, whole=extent == "whole"):
                if event.kind == "begin":
                    title = event.title
                    watch.begin(time_for(title, float(seconds)))
                send(event)
        send(Event("end"))
    except KeyboardInterrupt:
        pass
    end(0)  # whatever threads the learner has started


if __name__ == "__main__":
    main()
