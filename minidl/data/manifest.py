"""A folder of packed images: what it holds, its table of contents, whether it is whole.

    plan.json         written first: what is packed, and how
    manifest.json     written last: the plan, the figures, and bytes and SHA-256 of every other file
    shard-00000.npy   uint8 (n, size, size, 3), about 256 MiB; then shard-00001.npy and so on, in the order of the source
    labels.npy        int64 (N,)
    mean_image.npy    float32 (size, size, 3)
    failures.log      the files that could not be decoded, if there were any

`minidl.data.pack` writes it, `PackedImages` reads it. Until the manifest is there, each finished shard has its figures beside
it in shard-00000.npz.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minidl.files import replacing

FORMAT = "minidl packed images, version 1"
PLAN, MANIFEST = "plan.json", "manifest.json"
UNFINISHED = "packing was not finished: run the same `python -m minidl.data.pack` again, it goes on where it was stopped"
LABELS, MEAN_IMAGE, FAILURES = "labels.npy", "mean_image.npy", "failures.log"


@dataclass(frozen=True)
class Plan:
    """What is to be packed, and how. Two runs with equal plans make equal bytes."""

    source_files: int
    source_sha256: str  # of the names, sizes and labels of the source's files
    classes: list[str]
    size: int
    shard_length: int  # source files a shard; a shard has fewer images if some could not be decoded
    format: str = FORMAT

    @property
    def shards(self) -> int:
        return -(-self.source_files // self.shard_length)


@dataclass(frozen=True)
class Stored:
    """A file of the folder as it should be."""

    file: str
    bytes: int
    sha256: str

    def has_its_size(self, directory: Path) -> bool:
        """Whether the file is there, as long as it should be."""
        path = directory / self.file
        return path.is_file() and path.stat().st_size == self.bytes

    def check_size(self, directory: Path) -> None:
        """Raise FileNotFoundError or ValueError, with the remedy, unless the file is there and has its length."""
        path = directory / self.file
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}; {_remedy(path)}")
        if not self.has_its_size(directory):
            raise self.damaged(directory, f"{path.stat().st_size} bytes instead of {self.bytes}")

    def check(self, directory: Path) -> None:
        """Raise as `check_size` does, and ValueError unless every byte is as it was written."""
        self.check_size(directory)
        if sha256(directory / self.file) != self.sha256:
            raise self.damaged(directory, "its SHA-256 is not that of the manifest")

    def damaged(self, directory: Path, why: str) -> ValueError:
        """The error that says so, with the remedy."""
        return ValueError(f"{directory / self.file} is damaged: {why}; {_remedy(directory / self.file)}")


@dataclass(frozen=True)
class Manifest:
    """The table of contents."""

    plan: Plan
    images: int
    failures: int
    mean_colour: list[float]
    colour_covariance: list[list[float]]
    shards: list[Stored]
    labels: Stored
    mean_image: Stored

    @property
    def files(self) -> list[Stored]:
        return [self.labels, self.mean_image, *self.shards]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.npy"


def figures_name(number: int) -> str:
    return f"shard-{number:05d}.npz"


def read_manifest(directory: Path) -> Manifest:
    """The manifest in `directory`. Raises FileNotFoundError or ValueError, with the remedy, if there is no whole one."""
    if not (directory / MANIFEST).is_file():
        raise FileNotFoundError(f"no file {directory / MANIFEST}; {_why_no_manifest(directory)}")
    fields = _read_json(directory / MANIFEST)
    try:
        plan, labels, mean_image = Plan(**fields.pop("plan")), Stored(**fields.pop("labels")), Stored(**fields.pop("mean_image"))
        shards = [Stored(**shard) for shard in fields.pop("shards")]
        manifest = Manifest(plan=plan, labels=labels, mean_image=mean_image, shards=shards, **fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{directory / MANIFEST} is damaged ({error}); {_remedy(directory / MANIFEST)}") from error
    if plan.format != FORMAT:
        raise ValueError(f"{directory / MANIFEST} has the format {plan.format!r}, not {FORMAT!r}; pack the images anew")
    return manifest


def read_plan(directory: Path) -> Plan | None:
    """The plan of what is packed in `directory`, finished or not; None if nothing is."""
    if not (directory / PLAN).is_file():
        return None
    try:
        return Plan(**_read_json(directory / PLAN))
    except TypeError as error:
        raise ValueError(f"{directory / PLAN} is damaged ({error}); {_remedy(directory / PLAN)}") from error


def write_json(path: Path, value: Plan | Manifest) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(value), indent=1) + "\n", encoding="utf-8")


def damages(directory: Path) -> Iterator[str]:
    """What is missing or damaged in a packed folder, of which every byte is read: for each file a sentence, with the remedy."""
    try:
        manifest = read_manifest(directory)
    except (OSError, ValueError) as error:
        yield str(error)
        return
    for stored in manifest.files:
        try:
            stored.check(directory)
        except (OSError, ValueError) as error:
            yield str(error)


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def packed_folders(directory: Path) -> Iterator[Path]:
    """`directory` if it is a packed folder, finished or not, else those of its train/ and val/ that are."""
    for folder in (directory, directory / "train", directory / "val"):
        if any((folder / name).is_file() for name in (PLAN, MANIFEST, shard_name(0))):
            yield folder


def _why_no_manifest(directory: Path) -> str:
    if (directory / PLAN).is_file():
        return UNFINISHED
    if (directory / shard_name(0)).is_file():
        return f"{PLAN} is missing too: this is part of a packed folder; copy all of it, or pack the images into a new one"
    if inside := list(packed_folders(directory)):
        return f"give one of the packed folders inside: {', '.join(map(str, inside))}"
    return "give a folder made by `python -m minidl.data.pack`"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or not even UTF-8
        raise ValueError(f"{path} is damaged ({error}); {_remedy(path)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (no table); {_remedy(path)}")
    return value


def _remedy(path: Path) -> str:
    if path.name == PLAN:
        return f"delete {path.parent} and pack anew"
    return "delete this file and run the `python -m minidl.data.pack` that made it again: it makes anew what is missing"
