"""Cutting work into pieces and sharing it among threads."""

import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from minidl.kernels import parallel


@given(st.integers(0, 50), st.integers(0, 10), st.integers(1, 100))
def test_slices_cover_everything_once_in_order(total, item_bytes, chunk_bytes):
    cut = parallel.slices(total, item_bytes, np, chunk_bytes)
    assert [i for piece in cut for i in range(piece.start, piece.stop)] == list(range(total))
    assert all(0 < (piece.stop - piece.start) * item_bytes <= max(chunk_bytes, item_bytes) for piece in cut if item_bytes)


def test_every_worker_gets_a_slice_where_there_are_enough_items(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 3)
    assert len(parallel.slices(9, 1, np)) == 3
    assert len(parallel.slices(2, 1, np)) == 2


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_each_worker_takes_a_run_of_neighbours_and_results_keep_their_order(monkeypatch, workers):
    monkeypatch.setattr(parallel, "worker_count", lambda: workers)
    results = parallel.share(lambda worker, mine: (worker, list(mine)), list(range(5)), np)
    assert [worker for worker, _ in results] == list(range(min(workers, 5)))
    assert [piece for _, mine in results for piece in mine] == [0, 1, 2, 3, 4]


def test_no_pieces_are_one_empty_share():
    assert parallel.share(lambda worker, mine: list(mine), [], np) == [[]]


def test_inside_the_pool_work_is_not_shared_again(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)

    def outer(worker, mine):
        names = parallel.share(lambda _, inner: threading.current_thread().name, [0, 1], np)
        return names == [threading.current_thread().name]

    assert parallel.share(outer, [0, 1], np) == [True, True]


def test_another_array_library_is_not_spread_over_threads(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    assert len(parallel.share(lambda worker, mine: worker, [0, 1], object())) == 1


def test_inside_the_pool_blas_uses_one_thread(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    counts = parallel.share(lambda *_: [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"], [0, 1], np)
    assert all(count == 1 for each in counts for count in each)


def test_an_error_in_a_worker_comes_out(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        parallel.for_each(lambda piece: 1 / piece, [1, 0], np)


@pytest.mark.parametrize("setting, expected", [("3", 3), ("0", None), ("many", None), ("", None)])
def test_the_number_of_workers_follows_omp_num_threads(monkeypatch, setting, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    count = parallel.worker_count.__wrapped__()
    assert count == expected if expected else count >= 1


def test_scratch_memory_is_used_again_and_grows():
    first = parallel.scratch("test", (2, 3), np.float32, np)
    first[...] = 5
    again = parallel.scratch("test", (3,), np.float64, np)
    assert np.shares_memory(first, again) and again.shape == (3,) and again.dtype == np.float64
    assert parallel.scratch("test", (100,), np.float64, np).shape == (100,)


def test_every_thread_has_its_own_scratch_memory(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    both = threading.Barrier(2)  # so that the two tasks run on two threads

    def buffer(worker, mine):
        both.wait(timeout=10)
        return parallel.scratch("test", (4,), np.float32, np)

    first, second = parallel.share(buffer, [0, 1], np)
    assert not np.shares_memory(first, second)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_makes_its_own_pool(monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda: 2)
    parallel.share(lambda *_: None, [0, 1], np)  # now the parent has threads
    child = multiprocessing.get_context("fork").Process(target=parallel.share, args=(lambda *_: None, [0, 1], np))
    child.start()
    child.join(timeout=30)
    assert child.exitcode == 0
