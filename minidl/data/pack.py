"""Decode a data set once, for ever: ``python -m minidl.data.pack SOURCE DESTINATION``.

Every image is brought to one size as in section 2 of the AlexNet paper (the shorter side scaled to 256 pixels, the central
256 x 256 cut out) and stored as plain bytes, which `PackedImages` maps into memory; `minidl.data.manifest` says what is in
the folder. Packing can be stopped at any moment, by Ctrl-C or by pulling the plug: the same command goes on from there, and
the result is the same to the last byte, however often it was stopped and however many processes took part.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from minidl.data.failures import MAX_FAILURES
from minidl.data.folder import ImageFolder
from minidl.data.image_files import ImageFiles
from minidl.data.manifest import FAILURES, damages, packed_folders
from minidl.data.open import validation_images
from minidl.data.packing import pack
from minidl.kernels.parallel import worker_count
from minidl.program import INTERRUPTED, said

STOPPED = "stopped; the same command goes on from here"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, 1 for an error or damage, 130 if it was stopped, 143 by SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _terminate) if threading.current_thread() is threading.main_thread() else None
    try:
        if options.verify:
            return _verify(options.destination)
        if options.source is None:
            parser.error("give a source and a destination")
        for source, destination in _sources(options):
            manifest = pack(source, destination, options.size, options.workers, options.max_failures)
            skipped = f", {manifest.failures} undecodable: see {destination / FAILURES}" if manifest.failures else ""
            print(f"{destination}: {manifest.images} images of {len(manifest.plan.classes)} classes{skipped}")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a worker was killed
        print(said(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(said(STOPPED), file=sys.stderr)
        return INTERRUPTED
    except _Terminated:
        print(said(STOPPED), file=sys.stderr)
        return 143
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


class _Terminated(BaseException):
    """SIGTERM: the machine goes down, or a scheduler's time is over. Not even `concurrent.futures` takes it for an error."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m minidl.data.pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, nargs="?", help="a folder of class folders; or one with train/ and val/, which are packed into two"
    )
    parser.add_argument("destination", type=Path, help="the folder to write; anything else in it is refused")
    parser.add_argument("--verify", action="store_true", help="read every byte of DESTINATION and name what is damaged")
    parser.add_argument("--size", type=int, default=256, help="the side of the squares in pixels (default %(default)s)")
    parser.add_argument("--workers", type=int, default=worker_count(), help="processes (default: one a core)")
    parser.add_argument(
        "--max-failures", type=float, default=MAX_FAILURES, metavar="SHARE",
        help="the share of the images that may be undecodable, and is left out (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--val-labels", type=Path, metavar="FILE",
        help="if val/ has no class folders: a line for each image with its class (default: SOURCE/val.txt)",
    )  # fmt: skip
    parser.add_argument(
        "--val-numbers", type=Path, metavar="FILE",
        help="if those are numbers: lines of a number and a class folder (default: map_clsloc.txt of ILSVRC's development kit, if it "
        "lies beside them); for folders numbered from 0, `ls SOURCE/train | nl -v 0` makes it",
    )  # fmt: skip
    return parser


def _sources(options: argparse.Namespace) -> Iterator[tuple[ImageFiles, Path]]:
    """What to pack, and where to."""
    source, destination = options.source, options.destination
    if not ((source / "train").is_dir() and (source / "val").is_dir()):
        yield ImageFolder(source), destination
        return
    train = ImageFolder(source / "train")
    val = _val(options, train.classes)
    yield train, destination / "train"
    yield val, destination / "val"


def _val(options: argparse.Namespace, classes: list[str]) -> ImageFiles:
    val = validation_images(options.source, classes, labels=options.val_labels, numbers=options.val_numbers)
    if differing := set(val.classes) ^ set(classes):
        raise ValueError(
            f"{options.source}: train/ and val/ have different classes, such as {min(differing)!r}; both need the same"
        )
    return val


def _verify(destination: Path) -> int:
    folders = list(packed_folders(destination))
    if not folders:
        raise FileNotFoundError(f"no packed images in {destination}; give a folder made by this command")
    status = 0
    for folder in folders:
        found = list(damages(folder))
        print("\n".join(found) if found else f"{folder}: everything is as it was packed")
        status = 1 if found else status
    return status


if __name__ == "__main__":
    sys.exit(main())
