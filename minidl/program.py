"""How a program of minidl ends when it cannot go on: with a sentence and an exit status that a script sees, not with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

INTERRUPTED = 130  # the exit status after Ctrl-C, by which a shell that runs a loop of programs ends the loop


def main_or_exit(main: Callable[[], int | None]) -> None:
    """Call `main`, and end the program if it returns a status that is not 0.

    What it refuses, or finds missing or full, ends the program with status 1, its name and the error's own words.
    """
    try:
        status = main()
    except KeyboardInterrupt:
        print(said("interrupted"), file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        sys.exit(said(error))
    if status:
        sys.exit(status)


def said(text: object) -> str:
    """`text` after the name of the program, as every program of minidl says why it ends."""
    return f"{Path(sys.argv[0]).stem}: {text}"
