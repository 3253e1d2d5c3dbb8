"""Work cut into tiny pieces, so that small arrays meet every seam that large ones do."""

import tracemalloc
from contextlib import contextmanager

import pytest

from minidl.kernels import convolution, matmul, parallel, pooling


@contextmanager
def in_pieces(chunk_bytes, workers=2):
    """Inside the block the kernels cut their work into pieces of this size, for so many workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(convolution, "GRADIENT_CHUNK_BYTES", chunk_bytes)
        patch.setattr(pooling, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(matmul, "SMALL", 1)
        patch.setattr(parallel, "worker_count", lambda: workers)
        yield


def workspace(operation):
    """The most memory that `operation` had in use at a time, in bytes, beyond the arrays that it returns."""
    parallel._local.buffers.clear()  # scratch memory of this thread: measure with one worker
    tracemalloc.start()
    results = operation()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - sum(a.nbytes for a in (results if isinstance(results, tuple) else (results,)))
