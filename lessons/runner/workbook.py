"""The learner's folder, `workbook/` in the clone. Nothing of a learner's is ever overwritten: what makes way is kept in backups/.

.progress.json holds the lessons that have passed and the hints that were given; when it is damaged it is put aside, and the course
goes on as if nothing had been done yet.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from lessons.runner import source
from lessons.runner.course import ROOT, Lesson
from minidl.files import replacing

FOLDER = ROOT / "workbook"


class Workbook:
    def __init__(self) -> None:
        self.folder = FOLDER

    def path(self, lesson: Lesson) -> Path:
        return self.folder / f"{lesson.name}.py"

    def start(self, lesson: Lesson) -> bool:
        """Write the copy with holes, unless there is a file already; whether it was written."""
        self.folder.mkdir(exist_ok=True)
        try:
            with open(self.path(lesson), "x", encoding="utf-8", newline="\n") as file:  # "x": never an existing file
                file.write(source.with_holes(lesson.text))
        except FileExistsError:
            return False
        return True

    def reset(self, lesson: Lesson) -> Path:
        """Put the learner's file aside and write a fresh one; where the old one is now."""
        path = self.path(lesson)
        kept = self._put_aside(path)
        with replacing(path) as temporary:
            temporary.write_text(source.with_holes(lesson.text), encoding="utf-8")
        return kept

    def _put_aside(self, path: Path) -> Path:
        """A copy of `path` under the first free number in backups/."""
        content = path.read_bytes()
        folder = self.folder / "backups"
        folder.mkdir(exist_ok=True)
        number = 1
        while True:
            kept = folder / f"{path.stem}.{number}{path.suffix}"
            try:
                with open(kept, "xb") as file:
                    file.write(content)
                return kept
            except FileExistsError:
                number += 1

    # Progress

    @property
    def _progress_file(self) -> Path:
        return self.folder / ".progress.json"

    def progress(self) -> dict[str, dict[str, Any]]:
        """{"passed": {lesson: date}, "hints": {lesson: {hole: how many}}}."""
        try:
            found = json.loads(self._progress_file.read_text(encoding="utf-8"))
            passed = {str(int(n)): str(day) for n, day in found["passed"].items()}
            hints = {str(int(n)): {str(h): int(count) for h, count in given.items()} for n, given in found["hints"].items()}
        except FileNotFoundError:
            return {"passed": {}, "hints": {}}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # any other content is damage
            return {"passed": {}, "hints": {}}
        return {"passed": passed, "hints": hints}

    def mend_progress(self) -> Path | None:
        """Put a damaged progress file aside; where it is now, None when all is well."""
        try:
            content = self._progress_file.read_bytes()
        except OSError:
            return None
        try:
            found = json.loads(content)
            if set(found) == {"passed", "hints"} and self.progress() == found:
                return None
        except (ValueError, TypeError):
            pass
        kept = self._put_aside(self._progress_file)
        self._progress_file.unlink()
        return kept

    def _store(self, progress: dict[str, dict[str, Any]]) -> None:
        with replacing(self._progress_file) as temporary:
            temporary.write_text(json.dumps(progress, indent=1) + "\n", encoding="utf-8")

    def has_passed(self, lesson: Lesson) -> bool:
        return str(lesson.number) in self.progress()["passed"]

    def note_pass(self, lesson: Lesson) -> None:
        progress = self.progress()
        progress["passed"].setdefault(str(lesson.number), date.today().isoformat())
        self._store(progress)

    def next_hint(self, lesson: Lesson, hole: str, count: int) -> int:
        """Which of `count` hints is due for `hole` (from 0); after the last one the last again."""
        progress = self.progress()
        given = progress["hints"].setdefault(str(lesson.number), {})
        due = min(given.get(hole, 0), count - 1)
        given[hole] = due + 1
        self._store(progress)
        return due
