"""The processes that make shards for `minidl.data.pack`. They end when told to, and when the process that started them is gone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.synchronize import Event
from pathlib import Path

from minidl.data.pack_shard import make_shard

Job = tuple[Path, int, Path, Sequence[str], int]  # the arguments of `make_shard`

_stop: Event  # in a worker: set when it should leave its shard


class Stopped(Exception):
    """A worker was told to leave its shard."""


def make_shards(jobs: Sequence[Job], workers: int, done: Callable[[int], None]) -> None:
    """Make the shards in `jobs`, in `workers` processes; `done(number)` is called here after each.

    Whatever is raised, here or in a worker, ends all of them: within an image's time, leaving finished shards only.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            make_shard(*job)
            done(job[1])
        return
    # Not forked: threads of this process may hold locks, which a fork would copy and never release.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (stop,))
    try:
        futures = {pool.submit(_work, job): job[1] for job in jobs}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one tells the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job) -> None:
    make_shard(*job, between=_leave_if_told)


def _leave_if_told() -> None:
    if _stop.is_set():
        raise Stopped
