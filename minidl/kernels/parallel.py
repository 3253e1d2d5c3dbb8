"""Work in pieces that stay in the cache, with one worker for each core.

NumPy computes on one core and lets other Python threads run meanwhile (it releases the interpreter's lock). So the large
operations cut their arrays into pieces of about `CHUNK_BYTES` and hand them to a pool of threads; each piece is copied,
multiplied and written while it is in that core's cache. BLAS has a pool of its own, whose threads keep spinning for a while after
each product, on the very cores that these workers need next: so importing minidl leaves BLAS one thread.

Which worker does which piece is fixed beforehand, so that sums are added in the same order in every run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from minidl.kernels import memory

Piece = TypeVar("Piece")

CHUNK_BYTES = 1 << 20  # half of a core's second-level cache, leaving room for weights and results
GPU_FACTOR = 32  # not measured yet


@cache
def worker_count() -> int:
    """How many threads the pool has: OMP_NUM_THREADS if it is set, else the cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(worker_count(), thread_name_prefix="minidl")


# Once, for the whole process: switching it back and forth made the last bits of large products depend on the moment (seen with
# OpenBLAS 0.3.31 when the loader's threads were at work). `threadpoolctl.threadpool_limits` gives BLAS its threads back for work of
# your own.
threadpool_limits(1, user_api="blas")
memory.keep()


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child makes its own
    os.register_at_fork(after_in_child=_pool.cache_clear)


class _Local(threading.local):
    inside_pool = False  # True in a worker, which does all itself: were it to wait for others, they might all wait for each other

    def __init__(self) -> None:
        self.buffers: dict[str, np.ndarray] = {}


_local = _Local()


def for_each(task: Callable[[Piece], None], pieces: Sequence[Piece], xp: ModuleType) -> None:
    """`task(piece)` for every piece: on the pool with NumPy, one after the other with CuPy, which is parallel by itself."""

    def run(worker: int, mine: Sequence[Piece]) -> None:
        for piece in mine:
            task(piece)

    share(run, pieces, xp)


def share(task: Callable[[int, Sequence[Piece]], Any], pieces: Sequence[Piece], xp: ModuleType) -> list[Any]:
    """`task(worker, its pieces)` for every worker, each taking a run of neighbouring pieces; returns their results in order."""
    workers = min(worker_count() if xp is np else 1, len(pieces))
    if workers <= 1 or _local.inside_pool:
        return [task(0, pieces)]
    cuts = [len(pieces) * i // workers for i in range(workers + 1)]

    def run(worker: int) -> Any:
        _local.inside_pool = True
        return task(worker, pieces[cuts[worker] : cuts[worker + 1]])

    return list(_pool().map(run, range(workers)))


def slices(total: int, item_bytes: int, xp: ModuleType, chunk_bytes: int | None = None) -> list[slice]:
    """0..total cut into slices of about `chunk_bytes` (default: CHUNK_BYTES), none of them larger than an even share for each worker.

    A GPU gets pieces GPU_FACTOR times as large: it needs that much work at a time, and each piece costs the launch of its kernels.
    """
    chunk_bytes = CHUNK_BYTES if chunk_bytes is None else chunk_bytes
    if xp is np:
        step = max(1, min(chunk_bytes // max(1, item_bytes), -(-total // worker_count())))
    else:
        step = max(1, GPU_FACTOR * chunk_bytes // max(1, item_bytes))
    return [slice(start, min(start + step, total)) for start in range(0, total, step)]


def some_slices(x: Any, total: int, xp: ModuleType) -> list[slice]:
    """0..total, of which `x` consists, cut into slices if `x` is large: below a few chunks waking the pool costs more than it saves."""
    small = x.nbytes < CHUNK_BYTES
    return [slice(0, total)] if small else slices(total, x.nbytes // total, xp)


def one_a_worker(total: int) -> list[slice]:
    """0..total (at least 1) cut into equal slices, at most as many as there are workers; the last one may be shorter."""
    step = -(-total // worker_count())
    return [slice(start, min(start + step, total)) for start in range(0, total, step)]


def scratch(name: str, shape: tuple[int, ...], dtype: Any, xp: ModuleType) -> Any:
    """An array whose content is left over from before, to be written and read within one piece of work.

    With NumPy every thread keeps one buffer for each name: fresh memory would cost a page fault every 4 kB. CuPy's memory pool
    does the same by itself.
    """
    if xp is not np:
        return xp.empty(shape, dtype)
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    buffer = _local.buffers.get(name)
    if buffer is None or buffer.nbytes < size:
        buffer = _local.buffers[name] = np.empty(size, np.uint8)
    return buffer[:size].view(dtype).reshape(shape)
