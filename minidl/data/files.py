"""Finding the files of a data set on disk, with an error that says where to get them."""

from collections.abc import Sequence
from pathlib import Path


def first_existing(candidates: Sequence[Path], remedy: str) -> Path:
    """The first of `candidates` that is a file. Raises FileNotFoundError that names them all and gives the remedy."""
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no file {' or '.join(map(str, candidates))}; {remedy}")
