"""The commands of `python -m lessons`. Exit status: 0 all is well, 1 something in the learner's file is not, 2 the command is no good."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import minidl
from lessons.runner import source
from lessons.runner.course import COURSE, FOLDER, Lesson
from lessons.runner.examine import Event
from lessons.runner.process import SECONDS, findings
from lessons.runner.terminal import colour, wrapped
from lessons.runner.workbook import Workbook

# "python path/to/lessons" for whoever has started it so.
PROGRAM = f"python {sys.argv[0]}" if Path(sys.argv[0]).resolve() == FOLDER else "python -m lessons"
HINT_KINDS = ("the idea", "the formula", "nearly the code")
MARKS = {"ok": "green", "open": "yellow"}  # and in all other cases
WRONG = "red"
POLL = 0.3  # seconds between two looks at a watched file
LONGEST = 3600  # seconds that a check may be given


class Refused(Exception):
    """The command cannot be done; the message says why, and what can."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        PROGRAM, description="From a finite difference to your own AlexNet. Without a command: the map of the course."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, does in {
        "start": "put lesson N into workbook/, where you work on it",
        "check": "check your work on lesson N",
        "hint": "the next hint: first the idea, then the formula, then nearly the code",
        "solution": "the worked version of lesson N beside your own",
        "reset": "start lesson N anew; your work is kept in workbook/backups/",
    }.items():
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("lesson", metavar="N", help="the number of a lesson, 0 to 23")
        if name == "check":
            command.add_argument("--watch", action="store_true", help="check again at every save, until all is well")
            command.add_argument(
                "--device", choices=("cpu", "gpu", "both"), default="cpu", help="where arrays live (lesson 7 on)"
            )
            command.add_argument("--seconds", type=float, default=SECONDS, help=f"a step may take so long (default {SECONDS:g})")
    does = "AlexNet from your own parts where their checks pass, minidl's elsewhere; trains it"
    command = commands.add_parser("assemble", help=does, description=does)
    command.add_argument("--epochs", type=int, default=8, help="times that it sees the 5,000 images (default 8)")
    command.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it is trained")
    options = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter of a message shows the rest
    try:
        status = _run(options, Workbook())
        sys.stdout.flush()
        return status
    except Refused as refusal:
        print(wrapped(str(refusal)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except BrokenPipeError:  # `python -m lessons | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # a full disk, a folder that may not be written to
        print(wrapped(str(error)), file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, workbook: Workbook) -> int:
    damaged = workbook.mend_progress()
    if damaged is not None:
        text = f"The record of your progress was damaged; it is kept as {_shown(damaged)}, and a new one begins. Your files are untouched."
        print(wrapped(text + "\n"))
    if options.command is None:
        return show_map(workbook)
    if options.command == "assemble":
        return assemble(workbook, options.epochs, options.device)
    lesson = _lesson(options.lesson)
    if options.command == "check":
        devices = ("cpu", "gpu") if options.device == "both" else (options.device,)
        return check(lesson, workbook, devices, options.seconds, options.watch)
    return {"start": start, "hint": hint, "solution": solution, "reset": reset}[options.command](lesson, workbook)


def _lesson(given: str) -> Lesson:
    """The lesson that "3", "03" or "03_zero" means."""
    number = given.partition("_")[0]
    if not number.isdecimal() or int(number) >= len(COURSE):
        raise Refused(f"There is no lesson {given!r}: they are numbered from 0 to {len(COURSE) - 1}. `{PROGRAM}` shows them.")
    return COURSE[int(number)]


def _shown(path: Path) -> str:
    """As short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _started(lesson: Lesson, workbook: Workbook) -> Path:
    path = workbook.path(lesson)
    if not path.exists():
        raise Refused(f"You have not started lesson {lesson.number}:\n    {PROGRAM} start {lesson.number}")
    return path


# The commands


def show_map(workbook: Workbook) -> int:
    print(colour("From a finite difference to your own AlexNet", "bold") + "\n")
    upcoming = next((lesson for lesson in COURSE if not workbook.has_passed(lesson)), None)
    for lesson in COURSE:
        mark = "done" if workbook.has_passed(lesson) else "next" if lesson is upcoming else ""
        line = wrapped(lesson.title, " " * 21, f"{mark:<4} {lesson.number:>2}  {lesson.minutes} minutes  ")
        name = {"done": "green", "next": "bold"}.get(mark)
        print(colour(line, name) if name else line)
    print()
    if upcoming is None:
        print(f"You have done every lesson. Put together what you have written:\n\n    {PROGRAM} assemble")
    elif workbook.path(upcoming).exists():
        print(f"Go on with {_shown(workbook.path(upcoming))}; check it with\n\n    {PROGRAM} check {upcoming.number}")
    else:
        print(f"Begin with\n\n    {PROGRAM} start {upcoming.number}")
    return 0


def start(lesson: Lesson, workbook: Workbook) -> int:
    path = _shown(workbook.path(lesson))
    if not workbook.start(lesson):
        print(wrapped(f"{path} is there already, and stays as it is. To begin anew:\n    {PROGRAM} reset {lesson.number}"))
        return 0
    holes = len(lesson.holes)
    print(
        wrapped(
            f"Lesson {lesson.number}: {lesson.title}\n\n"
            f"{path} is yours now. It takes about {lesson.minutes} minutes and has {holes} place{'s' * (holes > 1)} marked TODO for you "
            "to fill. Open it in an editor (VS Code and Jupyter show it as a notebook), read from the top, and let this run beside it:\n\n"
            f"    {PROGRAM} check {lesson.number} --watch"
        )
    )
    return 0


def check(lesson: Lesson, workbook: Workbook, devices: Sequence[str], seconds: float, watch: bool) -> int:
    path = _started(lesson, workbook)
    if not 0 < seconds <= LONGEST:
        raise Refused(f"--seconds must be more than 0, and at most {LONGEST}, which is an hour; not {seconds:g}.")
    for device in devices:
        _there_is(device)
    while True:
        seen = _saved(path)
        passed = _check_once(lesson, workbook, path, devices, seconds)
        if passed or not watch:
            return 0 if passed else 1
        print(colour(f"\nwatching {_shown(path)}; Ctrl-C ends it", "grey"), flush=True)
        while _saved(path) in (seen, None):
            time.sleep(POLL)
        while (now := _saved(path)) != seen:  # until the editor has finished
            seen = now
            time.sleep(POLL)
        print(colour(f"\n-- saved at {time.strftime('%H:%M:%S')} " + "-" * 50, "grey"))


def _there_is(device: str) -> None:
    try:
        with minidl.default_device(device):
            pass
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error)) from None


def _saved(path: Path) -> tuple[int, int] | None:
    """What changes when a file is saved; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _check_once(lesson: Lesson, workbook: Workbook, path: Path, devices: Sequence[str], seconds: float) -> bool:
    print(colour(wrapped(f"Lesson {lesson.number}: {lesson.title}") + "\n", "bold"), flush=True)
    pictures = _pictures(path.parent)
    found: list[Event] = []
    for event in findings(lesson, path, seconds, devices):
        if event.kind != "begin":
            found.append(event)
            if event.kind != "later":
                _show(event, is_news=len(found) < 2 or found[-2].text != event.text)
    waiting = sum(event.kind == "later" for event in found)
    if waiting:
        print(colour(f"  -      {waiting} more check{'s' * (waiting > 1)} will be done when this is mended", "grey"))
    print()
    good = sum(event.kind == "ok" for event in found)
    if any(event.kind != "ok" for event in found):
        if good and found[-1].kind not in ("slow", "crashed"):  # after these two nobody knows how many were to come
            print(f"{good} of {good + sum(e.kind in ('wrong', 'open', 'later') for e in found)} checks pass. ", end="")
        no_hint = any(event.kind in ("syntax", "stopped") for event in found)
        print("Mend this first." if no_hint else f"A hint: `{PROGRAM} hint {lesson.number}`")
        return False
    workbook.note_pass(lesson)
    print(colour(f"All {good} checks pass.", "green"))
    drawn = [p for p, saved in _pictures(path.parent).items() if pictures.get(p) != saved]
    if drawn:
        print(wrapped(f"Look at {' and '.join(map(_shown, drawn))}."))
    if devices != ("cpu",) and not any(event.title.endswith("(gpu)") for event in found):
        print(wrapped("Nothing in this lesson depends on the device, so this holds for a GPU too."))
    is_last = lesson is COURSE[-1]
    print(wrapped(f"Next: `{PROGRAM} assemble`" if is_last else f"Next: `{PROGRAM} start {lesson.number + 1}`"))
    return True


def _pictures(folder: Path) -> dict[Path, tuple[int, int] | None]:
    return {p: _saved(p) for p in sorted(folder.glob("*.png"))}


def _show(event: Event, is_news: bool = True) -> None:
    """One line for a check that passes or waits, and all there is to say where one fails. Of an open hole it is said once."""
    titles = {"syntax": "your file cannot be read", "stopped": "your file does not run to its end"}
    mark = event.kind if event.kind in MARKS else "wrong"
    line = wrapped(titles.get(event.kind, event.title), " " * 9, f"  {mark:<5}  ")
    print(colour(line, MARKS.get(event.kind, WRONG)), flush=True)
    if event.text and is_news:
        print(wrapped(event.text, " " * 9), flush=True)
    if event.printed.strip():
        shown = event.printed.rstrip().splitlines()
        print(wrapped("Your code printed:", " " * 9))
        print("\n".join(" " * 13 + line[:66] for line in shown[:8]) + ("\n             ..." if len(shown) > 8 else ""))


def hint(lesson: Lesson, workbook: Workbook) -> int:
    path = workbook.path(lesson)
    hints = lesson.checks.HINTS
    hole = next(iter(hints))
    if path.exists():
        found = [event for event in findings(lesson, path) if event.kind not in ("begin", "ok")]
        if not found:
            print(f"All checks of lesson {lesson.number} pass; there is nothing to hint at.")
            return 0
        first = found[0]
        if first.kind in ("syntax", "stopped", "crashed") or first.hole not in hints:
            _show(first)
            print(f"Mend this first; then `{PROGRAM} check {lesson.number}`.")
            return 1
        hole = first.hole
    else:
        workbook.folder.mkdir(exist_ok=True)
    due = workbook.next_hint(lesson, hole, len(hints[hole]))
    print(colour(f"{hole}, hint {due + 1} of {len(hints[hole])}: {HINT_KINDS[due]}", "bold") + "\n")
    print(wrapped(hints[hole][due], "  "))
    if due + 1 == len(hints[hole]):
        print(f"\nThat was the last. The worked version: `{PROGRAM} solution {lesson.number}`")
    return 0


def solution(lesson: Lesson, workbook: Workbook) -> int:
    path = workbook.path(lesson)
    own = path.read_text(encoding=source.ENCODING, errors="replace") if path.exists() else source.with_holes(lesson.text)
    changes = list(
        difflib.unified_diff(
            own.splitlines(), source.worked(lesson.text).splitlines(), "yours", "the worked version", "", "", 2, ""
        )
    )
    if not changes:
        print("Yours is the worked version, to the letter.")
        return 0
    print(wrapped("Lines with - are yours, lines with + the worked version's; many ways lead to a pass.\n"))
    for line in changes:
        name = "bold" if line.startswith(("---", "+++")) else {"-": "red", "+": "green", "@": "grey"}.get(line[:1])
        print(colour(line, name) if name else line)
    return 0


def reset(lesson: Lesson, workbook: Workbook) -> int:
    path = workbook.path(lesson)
    if not path.exists():
        return start(lesson, workbook)
    if path.read_bytes() == source.with_holes(lesson.text).encode():
        print(f"{_shown(path)} is as it was at the start; there is nothing to reset.")
        return 0
    print(
        wrapped(f"A fresh {_shown(path)} will take the place of yours; yours is kept in {_shown(workbook.folder / 'backups')}.")
    )
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        answer = ""
    if not sys.stdin.isatty():
        print()  # where nobody types, nobody has ended the line
    if answer.strip().lower() not in ("y", "yes"):
        print("Nothing has changed.")
        return 1
    kept = workbook.reset(lesson)
    print(wrapped(f"Your work is kept as {_shown(kept)}. {_shown(path)} is fresh."))
    return 0


def assemble(workbook: Workbook, epochs: int, device: str) -> int:
    if epochs < 1:
        raise Refused(f"--epochs must be at least 1, not {epochs}.")
    _there_is(device)
    # Imported here because it draws: Matplotlib takes longer to load than the other commands take altogether.
    from lessons.runner import assemble as assembly

    print(colour("AlexNet, part by part", "bold") + "\n")
    modules = {}
    for part, module, whose in assembly.find_parts(workbook, device):
        print(f"  {part.title:<24} {colour(whose, 'green' if module is not None else 'grey')}", flush=True)
        if module is not None:
            modules[part.title] = module
    print(wrapped(f"\n{len(modules)} of {len(assembly.PARTS)} parts are yours. {assembly.ABOUT}") + "\n")
    try:
        for line in assembly.trained(modules, epochs, device, workbook.folder):
            print(line, flush=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and whatever a learner derives from BaseException
        print(wrapped(assembly.in_words(error, workbook)))
        return 1
    pictures = [workbook.folder / f"alexnet_{name}.png" for name in ("curves", "kernels")]
    print(wrapped(f"\nLook at {' and '.join(map(_shown, pictures))}."))
    return 0
