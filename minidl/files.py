"""Writing files so that none is ever half written, to a temporary name first, then renamed; and whether a folder can be written to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block has ended well.

    Whoever looks at `path` sees the old file or the new one, whole, also after a crash or on a full disk. Raises OSError as
    `check_writable` does, and others with the name `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[-200:]}.{os.getpid()}.tmp")  # file systems take 255
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())  # some writers make files that only their owner can read
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        check_writable(path.parent)  # where that is the reason, it says so better
        if error.strerror and error.filename in (None, temporary, str(temporary)):  # a full disk names nothing
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise OSError, which names the folder and the remedy, unless files can be made in `folder`; or, if that does not exist yet, in
    the nearest folder above it.

    Nothing is left behind. It lets a program refuse a place to write to before its work is done, not after it.
    """
    nearest = Path(folder)
    try:
        while not os.path.lexists(nearest) and nearest != nearest.parent:  # a link to nowhere is there, and in the way
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):  # permissions alone do not tell: a file system may be mounted read-only
            pass
    except OSError as error:
        raise OSError(
            f"nothing can be written to the folder {folder} ({nearest}: {error.strerror}); choose another one, or see to it that "
            f"{nearest} is a folder in which you may write"
        ) from error
    for name in Path(folder).parts[len(nearest.parts) :]:  # those that will be made
        check_length(nearest / name)


def check_length(path: str | os.PathLike[str]) -> None:
    """Raise OSError, with the remedy, if the file system takes no name as long as that of `path`."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}; choose a shorter name") from error


def _umask() -> int:
    """The bits that new files are denied; the only way to read them is to set them."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
