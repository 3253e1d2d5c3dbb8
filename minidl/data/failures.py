"""Images that cannot be decoded: named in a log, counted, passed over, and fatal only if there are too many."""

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidl.data.dataset import Dataset
from minidl.data.decode import UndecodableImage

MAX_FAILURES = 0.01  # share of a data set
PACK = "python -m minidl.data.pack"

logger = logging.getLogger("minidl.data")
_reported: set[str] = set()  # statistics, loaders and pictures meet the same files


@dataclass(frozen=True)
class Failure:
    """An image that could not be decoded: its index in the data set, and why, with the name of the file."""

    index: int
    message: str


class Failures:
    """The failures among `count` images. The share `maximum` of them is tolerated, and at least one, unless `maximum` is 0.

    Threads may share it. Each file is reported once in a process, as a warning of Python's logger "minidl.data": on the screen, or
    wherever `logging` is told to.
    """

    def __init__(self, count: int, maximum: float = MAX_FAILURES) -> None:
        self.count = count
        self.maximum = check_share(maximum)
        self._messages: dict[int, str] = {}
        self._lock = threading.Lock()

    def add(self, index: int, error: UndecodableImage) -> None:
        """Note that image `index` failed, and why."""
        with self._lock:
            if index in self._messages:
                return
            self._messages[index] = message = str(error)
            known = message in _reported
            _reported.add(message)
        if not known:
            logger.warning("passed over %s", message)

    def check(self) -> None:
        """Raise ValueError if more images failed than are tolerated, or all of them; at least one has failed."""
        failures = self.in_order()
        first = f"the first is image {failures[0].index}: {failures[0].message}"
        check_failures(len(failures), self.count, self.maximum, f"{first}; or `{PACK} --max-failures` leaves more of them out")

    def __contains__(self, index: int) -> bool:
        return index in self._messages

    def in_order(self) -> list[Failure]:
        """All of them, in the order of the data set."""
        with self._lock:
            return [Failure(index, self._messages[index]) for index in sorted(self._messages)]


def check_share(share: float) -> float:
    """`share` itself. Raises ValueError unless it lies between 0 and 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"max_failures is {share}; expected a share of the data set between 0 and 1, such as 0.01")
    return share


def check_failures(failed: int, count: int, maximum: float, remedy: str) -> None:
    """Raise ValueError if all `count` images failed, or more than the share `maximum` of them and (unless it is 0) more than one.
    The message ends with `remedy`."""
    if failed == count or failed > (max(1, maximum * count) if maximum else 0):
        raise ValueError(
            f"{failed} of {count} images cannot be decoded ({100 * failed / count:.2g} %; {100 * maximum:g} % may be); {remedy}"
        )


def decodable_images(
    dataset: Dataset, indices: Iterable[int] | None = None, failures: Failures | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(index, image) of every image of the data set, or of those at `indices`, that can be decoded.

    failures: where the others are noted. Raises ValueError if there are too many.
    """
    failures = Failures(len(dataset)) if failures is None else failures
    for index in range(len(dataset)) if indices is None else indices:
        try:
            image, _ = dataset[index]
        except UndecodableImage as error:
            failures.add(index, error)
            failures.check()
        else:
            yield index, image
