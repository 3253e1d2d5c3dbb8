"""Pack a data set into a folder of plain bytes: the function behind ``python -m minidl.data.pack``."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minidl.data.failures import MAX_FAILURES, check_failures, check_share
from minidl.data.image_files import ImageFiles
from minidl.data.manifest import (
    FAILURES,
    LABELS,
    MANIFEST,
    MEAN_IMAGE,
    PLAN,
    Manifest,
    Plan,
    figures_name,
    read_manifest,
    read_plan,
    shard_name,
    write_json,
)
from minidl.data.pack_pool import make_shards
from minidl.data.pack_shard import Figures, read_figures, write_array
from minidl.data.statistics import covariance
from minidl.files import check_writable, replacing

SHARD_BYTES = 1 << 28  # 256 MiB: 1365 images of 256 x 256
TEMPORARY = re.compile(r"\.(plan\.json|manifest\.json|labels\.npy|mean_image\.npy|failures\.log|shard-\d+\.np[yz])\.\d+\.tmp")


def pack(
    source: ImageFiles, destination: str | PathLike[str], size: int = 256, workers: int = 1, max_failures: float = MAX_FAILURES
) -> Manifest:
    """Pack the images of `source` as squares of `size` pixels into the folder `destination`; go on if that was begun.

    workers: processes, each at a shard of its own. With more than one, a script must make this call under
        ``if __name__ == "__main__":``.
    max_failures: the share of the images that may be undecodable; they are left out and named in failures.log.

    Raises FileExistsError if the folder holds anything else, ValueError for too many undecodable images. What is there
    is left as it is, and so it is if this is stopped: call it again to go on.
    """
    if size < 1 or workers < 1:
        raise ValueError(f"size is {size}, workers is {workers}; expected at least 1 of each")
    packing = _Packing(source, Path(destination), make_plan(source, size), workers, check_share(max_failures))
    packing.claim()
    manifest = packing.finished()
    if manifest is None:
        manifest = packing.make()
    else:
        packing.repair(manifest)
    packing.clean()
    return manifest


def make_plan(source: ImageFiles, size: int) -> Plan:
    """What packing `source` with this size means."""
    digest = hashlib.sha256()
    for file, label in zip(source.files, source.labels, strict=True):
        length = os.stat(source.directory / file).st_size
        digest.update(f"{label} {length} {file}\n".encode("utf-8", "surrogateescape"))
    shard_length = min(max(SHARD_BYTES // (size * size * 3), 1), 1 << 24)  # 2**24 * 255 still fits into 32 bits
    return Plan(len(source), digest.hexdigest(), source.classes, size, shard_length)


@dataclass(frozen=True)
class _Packing:
    """The steps of `pack`."""

    source: ImageFiles
    directory: Path
    plan: Plan
    workers: int
    max_failures: float

    def claim(self) -> None:
        """Make sure that everything in the folder is ours and of this plan."""
        if self.directory.resolve().is_relative_to(self.source.directory.resolve()):
            raise ValueError(f"{self.directory} lies inside of the source {self.source.directory}; choose another folder")
        if not self.directory.is_dir():  # one that is packed may well be read-only
            check_writable(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        left = [entry for entry in self.directory.iterdir() if TEMPORARY.fullmatch(entry.name)]  # by a run that was killed
        before = read_plan(self.directory)
        if before is None and len(left) < len(list(self.directory.iterdir())):
            raise FileExistsError(f"{self.directory} holds files that are no packed images; choose a new or empty folder")
        if before not in (None, self.plan):
            differing = [name for name, value in asdict(self.plan).items() if asdict(before)[name] != value]
            raise FileExistsError(
                f"{self.directory} holds images of another source or size ({', '.join(differing)} differ); choose another folder"
            )
        for entry in left:
            entry.unlink(missing_ok=True)
        if before is None:
            write_json(self.directory / PLAN, self.plan)

    def finished(self) -> Manifest | None:
        """The manifest; None if there is none yet, or if a file is missing for which the figures of all shards are needed."""
        if not (self.directory / MANIFEST).exists():
            return None
        manifest = read_manifest(self.directory)
        if manifest.plan != self.plan:
            raise ValueError(
                f"{self.directory / MANIFEST} and {PLAN} contradict each other; delete {self.directory} and pack anew"
            )
        whole = manifest.labels.has_its_size(self.directory) and manifest.mean_image.has_its_size(self.directory)
        return manifest if whole else None

    def make(self) -> Manifest:
        """Make the shards that are not finished, then the rest of the folder."""
        failures: dict[int, list[str]] = {}  # those of each finished shard
        for number in range(self.plan.shards):
            figures = read_figures(self.directory, number)
            if figures is not None:
                failures[number] = figures.failures
        self.log(failures)

        def take_down(number: int) -> None:
            failures[number] = self.figures(number).failures
            if failures[number]:
                self.log(failures)

        self.make_shards([number for number in range(self.plan.shards) if number not in failures], take_down)
        return self.write_manifest()

    def repair(self, manifest: Manifest) -> None:
        """Make the shards anew that are missing from a finished folder."""

        def compare(number: int) -> None:
            if self.figures(number).stored != manifest.shards[number]:
                (self.directory / shard_name(number)).unlink()
                raise ValueError(
                    f"{self.directory / shard_name(number)}: the source makes other bytes now than when it was packed, perhaps "
                    "because of another version of Pillow; pack it anew into another folder"
                )

        todo = [number for number, stored in enumerate(manifest.shards) if not stored.has_its_size(self.directory)]
        self.make_shards(todo, compare)

    def make_shards(self, numbers: Sequence[int], done: Callable[[int], None]) -> None:
        """Make these shards, with a bar over the whole; `done(number)` is called after each."""
        length = self.plan.shard_length
        files = {number: self.source.files[number * length : (number + 1) * length] for number in numbers}
        total = self.plan.source_files
        before = total - sum(map(len, files.values()))

        def advance(number: int) -> None:
            bar.update(len(files[number]))
            done(number)

        with tqdm(desc=str(self.directory), total=total, initial=before, unit=" images", smoothing=0.05, disable=None) as bar:
            jobs = [(self.directory, number, self.source.directory, files[number], self.plan.size) for number in numbers]
            make_shards(jobs, self.workers, advance)

    def figures(self, number: int) -> Figures:
        """The figures of a shard that is finished."""
        figures = read_figures(self.directory, number)
        if figures is None:
            raise RuntimeError(f"{self.directory / shard_name(number)} changed while it was packed; leave it alone, try again")
        return figures

    def log(self, failures: dict[int, list[str]]) -> None:
        """Write failures.log, if there is anything to write; raise ValueError if it is too much."""
        lines = [line for number in sorted(failures) for line in failures[number]]
        if lines:
            with replacing(self.directory / FAILURES) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
        where = f"they are named in {self.directory / FAILURES}; replace or remove them, or allow more with --max-failures"
        check_failures(len(lines), self.plan.source_files, self.max_failures, where)

    def write_manifest(self) -> Manifest:
        """Add up the figures of all shards; write what comes of them."""
        total, products = np.zeros((3, self.plan.size**2), np.uint64), np.zeros((3, 3), np.int64)
        kept, shards, failures = [], [], 0
        for number in range(self.plan.shards):
            figures = self.figures(number)
            total += figures.total
            products += figures.products
            kept.append(figures.kept)
            shards.append(figures.stored)
            failures += len(figures.failures)
        images = self.plan.source_files - failures
        pixels, colours = images * self.plan.size**2, total.sum(axis=1).astype(np.int64)
        mean_image = (total / images).astype(np.float32).T.reshape(self.plan.size, self.plan.size, 3)
        manifest = Manifest(
            plan=self.plan,
            images=images,
            failures=failures,
            mean_colour=(colours / pixels).tolist(),
            colour_covariance=covariance(pixels, colours, products).tolist(),
            shards=shards,
            labels=write_array(self.directory / LABELS, self.source.labels[np.concatenate(kept)]),
            mean_image=write_array(self.directory / MEAN_IMAGE, mean_image),
        )
        write_json(self.directory / MANIFEST, manifest)
        return manifest

    def clean(self) -> None:
        """Remove the figures, which nobody needs any more."""
        for number in range(self.plan.shards):
            (self.directory / figures_name(number)).unlink(missing_ok=True)
