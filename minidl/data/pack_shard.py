"""One shard of a packed folder: decode its images, write them, and put their figures beside them."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minidl.data.decode import UndecodableImage, decode
from minidl.data.manifest import Stored, figures_name, sha256, shard_name
from minidl.data.statistics import colour_products
from minidl.files import replacing


@dataclass(frozen=True)
class Figures:
    """What is known of a finished shard; sums of integers, so that shards can be added up in any order."""

    stored: Stored
    kept: NDArray[np.bool_]  # (source files,): False for those that could not be decoded
    failures: list[str]  # "file: reason" for each of these
    total: NDArray[np.uint32]  # (3, size * size): the sum of the images, channel by channel
    products: NDArray[np.int64]  # (3, 3): see `colour_products`


def make_shard(
    directory: Path, number: int, source: Path, files: Sequence[str], size: int, between: Callable[[], None] = lambda: None
) -> None:
    """Write shard `number` into `directory`, of the images `files` in the folder `source`; its figures last.

    Calls `between` before each image, which may raise to stop: nothing is left behind then.
    """
    path, shape = directory / shard_name(number), (size, size, 3)
    kept = np.zeros(len(files), bool)
    planes = np.empty((3, size * size), np.uint32)  # one for all images: fresh memory costs page faults
    total, products = np.zeros_like(planes), np.zeros((3, 3), np.int64)
    failures = []
    with replacing(path) as temporary, temporary.open("wb") as shard:
        header = npy_header((len(files), *shape), np.uint8)
        digest = hashlib.sha256(header)
        shard.write(header)
        for index, file in enumerate(files):
            between()
            try:
                image = decode(source / file, size)
            except UndecodableImage as error:
                failures.append(f"{file}: {error.reason}")
                continue
            kept[index] = True
            shard.write(image.data)
            digest.update(image.data)
            np.copyto(planes, image.reshape(-1, 3).T)
            total += planes
            products += colour_products(planes)
        checksum = digest.hexdigest()
        if failures:  # the header promised more: it is as long for fewer images
            shard.seek(0)
            shard.write(npy_header((int(kept.sum()), *shape), np.uint8))
            shard.flush()
            checksum = sha256(temporary)
    with replacing(directory / figures_name(number)) as temporary, temporary.open("wb") as output:
        np.savez(
            output, bytes=np.array(path.stat().st_size), sha256=np.array(checksum), kept=kept,
            failures=np.array(failures, str), total=total, products=products,
        )  # fmt: skip


def read_figures(directory: Path, number: int) -> Figures | None:
    """The figures of shard `number`; None if it is not finished."""
    try:
        with np.load(directory / figures_name(number), allow_pickle=False) as found:
            stored = Stored(shard_name(number), int(found["bytes"]), str(found["sha256"]))
            figures = Figures(stored, found["kept"], found["failures"].tolist(), found["total"], found["products"])
            return figures if stored.has_its_size(directory) else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # missing, short or damaged: made anew
        return None


def write_array(path: Path, array: NDArray) -> Stored:
    """Write a small array as a .npy file."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(npy_header(array.shape, array.dtype) + array.tobytes())
    return Stored(path.name, path.stat().st_size, sha256(path))


def npy_header(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """What a .npy file begins with; NumPy pads it to the same length for any number of images."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()
