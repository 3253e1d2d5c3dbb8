"""How a program of minidl ends when it cannot go on: with a sentence and an exit status that a script sees, not with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def main_or_exit(main: Callable[[], None]) -> None:
    """Call `main`; what it refuses, or finds missing or full, ends the program with status 1, its name and the error's own words."""
    name = Path(sys.argv[0]).stem
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
