"""Starts `examine.py` in a process of its own, so that nothing in a learner's file can hurt or stop the runner."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lessons.runner.course import ROOT, Lesson
from lessons.runner.examine import PARTS, Event, place_in, still_at_work, time_for

SECONDS = 20.0  # that a check may take
GRACE = 10.0  # for the process to start, and to say itself that something takes too long


def findings(
    lesson: Lesson, path: Path, seconds: float = SECONDS, devices: Sequence[str] = ("cpu",), whole: bool = True
) -> Iterator[Event]:
    """What `examine` finds in the file at `path`, as it finds it. The pictures of the file land in its folder."""
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT) + (os.pathsep + inherited if inherited else ""),
        "MPLBACKEND": "agg",  # no windows
        "PYTHONWARNINGS": "ignore",
    }
    extent = "whole" if whole else "checks"
    command = [sys.executable, "-m", "lessons.runner.examine", str(lesson.number), str(path), str(seconds), extent, *devices]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, env=environment
        )
        try:
            title = PARTS
            for event in _events(process, seconds):
                if event.kind == "end":
                    return
                yield event
                if event.kind == "slow":
                    return
                if event.kind == "begin":
                    title = event.title
            yield _end(process, errors, title, time_for(title, seconds), path.parent)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _events(process: subprocess.Popen[bytes], seconds: float) -> Iterator[Event]:
    """Every event until the process ends, or until a step has taken its time and the process has not said so itself.

    It cannot where even `faulthandler` has been put out of action.
    """
    limit = time_for(PARTS, seconds) + GRACE
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=limit)
        except queue.Empty:
            return
        if line is None:
            return
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError):  # printed by something that was imported before the events had their own way out
            continue
        if event.kind == "begin":
            limit = time_for(event.title, seconds) + GRACE
        yield event


def _end(process: subprocess.Popen[bytes], errors: IO[str], title: str, limit: float, folder: Path) -> Event:
    """Why a process has ended that had more to say. `errors` may end with what `faulthandler` has written."""
    try:
        status = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return Event("slow", title, still_at_work(limit, ""))
    errors.seek(0)
    said = errors.read()
    _, timeout, dump = said.rpartition("Timeout (")
    if status == 1 and timeout:
        return Event("slow", title, still_at_work(limit, place_in(dump, folder)))
    if status == 0:
        return Event("crashed", title, "Your code ended Python itself, and a check cannot go on after that.")
    if status < 0:
        where = place_in(said.rpartition("Fatal Python error")[2], folder)
        words = (
            f"Python itself crashed (signal {-status}){where and f', at {where}'}\nMostly this is a recursion too deep for the "
            "machine's stack (sys.setrecursionlimit does not make the stack larger), or too little memory."
        )
        return Event("crashed", title, words)
    last = (said.strip().splitlines() or ["no reason given"])[-1]
    return Event("crashed", title, f"Python ended with status {status}: {last}")
