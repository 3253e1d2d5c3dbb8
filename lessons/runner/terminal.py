"""What is printed: at most 80 columns, in colour where there is a terminal and nobody has set NO_COLOR (https://no-color.org)."""

from __future__ import annotations

import os
import sys
import textwrap

WIDTH = 79
_COLOURS = {"green": "32", "red": "31", "yellow": "33", "grey": "90", "bold": "1"}


def colour(text: str, name: str) -> str:
    """`text` in a colour, or bold, or as it is."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{_COLOURS[name]}m{text}\033[0m" if wanted else text


def wrapped(text: str, indent: str = "", first: str | None = None) -> str:
    """`text` in lines of at most 79 characters; a line that begins with a space (code, a command) stays as it is.

    first: what stands before the first line in place of `indent`.
    """
    lines: list[str] = []
    for line in text.splitlines():
        start = first if first is not None and not lines else indent
        if line.startswith(" ") or not line:
            lines.append((start + line).rstrip())
        else:
            lines += textwrap.wrap(
                line, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines)
