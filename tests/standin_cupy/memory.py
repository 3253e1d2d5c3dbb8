"""A device whose memory ends: allocating beyond it raises what CuPy 14.2 raises, and the pool and the runtime give the figures."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import standin_cupy

from . import cuda, device_array
from .device_array import ndarray


class OutOfMemoryError(MemoryError):
    """With the text of `cupy.cuda.memory.OutOfMemoryError`."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, size: int, total: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


@contextmanager
def limited_memory(limit: int) -> Iterator[None]:
    """Inside the block new device arrays may take `limit` bytes together."""
    gc.collect()
    before = device_array.used_bytes()

    def used_bytes() -> int:
        return max(0, device_array.used_bytes() - before)

    hold, pool, info = ndarray._hold, standin_cupy.get_default_memory_pool, cuda.runtime.memGetInfo

    def checked(self: ndarray, array: Any, device: Any = None) -> None:
        used = used_bytes()
        hold(self, array, device)
        if used_bytes() > limit:
            self._array = array[:0].copy() if array.ndim else array  # it was never made
            raise OutOfMemoryError(array.nbytes, used)

    figures = SimpleNamespace(used_bytes=used_bytes, total_bytes=used_bytes, get_limit=lambda: 0)
    try:
        ndarray._hold = checked  # type: ignore[method-assign]
        standin_cupy.get_default_memory_pool = lambda: figures
        cuda.runtime.memGetInfo = lambda: (limit - used_bytes(), limit)
        yield
    finally:
        ndarray._hold = hold  # type: ignore[method-assign]
        standin_cupy.get_default_memory_pool = pool
        cuda.runtime.memGetInfo = info
