"""A stand-in for CuPy on machines without a GPU: CuPy 14's rules over NumPy's arithmetic.

Code written with `xp = get_array_module(x)` goes wrong unseen on a CPU: a stray `np.`, a NumPy array among device
arrays, an argument that only NumPy has, a hidden copy to the host. This package, put into `sys.modules["cupy"]` by
`install`, refuses what CuPy 14.2 refuses and a little more, and counts what crosses between host and device. All else
gives NumPy's results bit for bit in CuPy's forms: a full reduction or a single element is a 0-d device array, fresh
arrays are C-contiguous, and those of `empty` are full of NaN. Kernels of our own run on the CPU (`raw`). A GPU stays
the judge: of speed, of what its compiler makes of a kernel, and the random numbers are not CuPy's.

    with standin_cupy.install(), standin_cupy.count_transfers() as count:
        train_step()
    assert count.to_host == 0
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import bfloat16, cuda, random, rules
from .cuda import is_available, pretend_devices
from .device_array import apply, count_transfers, ndarray, transfers, used_bytes
from .functions import array, as_strided, asarray, ascontiguousarray, asnumpy, empty, empty_like, sliding_window_view, ufunc
from .raw import RawKernel, RawModule, compiler, order

__all__ = ["RawKernel", "RawModule", "array", "asarray", "ascontiguousarray", "asnumpy", "compiler", "count_transfers", "cuda"]
__all__ += ["empty", "empty_like", "install", "is_available", "ndarray", "order", "pretend_devices", "random"]
__all__ += ["transfers", "ufunc", "used_bytes"]
__version__ = "14.2.0"

asanyarray = asarray
_core = bfloat16.core
lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided, sliding_window_view=sliding_window_view))
linalg = SimpleNamespace()
for _name in rules.LINALG:
    setattr(linalg, _name, functools.partial(apply, f"cupy.linalg.{_name}", getattr(np.linalg, _name)))


def __getattr__(name: str) -> Any:
    if name in rules.CONSTANTS:
        return getattr(np, name)
    if name in rules.UFUNCS:
        return ufunc(name)
    if name in rules.FUNCTIONS:
        return functools.partial(apply, f"cupy.{name}", getattr(np, name))
    raise AttributeError(f"module 'cupy' has no attribute {name!r} (or the stand-in does not offer it)")


@contextmanager
def install() -> Iterator[ModuleType]:
    """Inside the block `import cupy`, and importing its submodules, finds this package."""
    ours: dict[str, Any] = {
        "cupy": sys.modules[__name__],
        "cupy.cuda": cuda,
        "cupy.cuda.runtime": cuda.runtime,
        "cupy.random": random,
    }
    ours |= {"cupy.lib": lib, "cupy.lib.stride_tricks": lib.stride_tricks, "cupy.linalg": linalg}
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "cupy"}
    for name in before:
        del sys.modules[name]
    sys.modules.update(ours)
    try:
        yield sys.modules[__name__]
    finally:
        for name in ours:
            del sys.modules[name]
        sys.modules.update(before)


def get_array_module(*args: Any) -> ModuleType:
    return sys.modules[__name__] if any(isinstance(arg, ndarray) for arg in args) else np


def get_default_memory_pool() -> SimpleNamespace:
    return SimpleNamespace(used_bytes=used_bytes, total_bytes=used_bytes, free_all_blocks=lambda: None)
