"""`cupy.cuda`: devices that are only numbers, a runtime and streams with nothing to wait for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

MEMORY = 8 << 30  # bytes that each pretended GPU claims to have
_local = threading.local()  # CUDA keeps a current device for each thread


class _machine:
    count = 1


@contextmanager
def pretend_devices(count: int) -> Iterator[None]:
    """Inside the block the machine has `count` GPUs; with 0, CuPy is there but finds none."""
    before, _machine.count = _machine.count, count
    try:
        yield
    finally:
        _machine.count = before


class CUDARuntimeError(RuntimeError):
    """What CuPy raises for every error of the CUDA runtime."""


class CUDADriverError(RuntimeError):
    """What CuPy raises for every error of the CUDA driver, which loads and launches kernels."""


class MemoryHook:
    """Its `malloc_postprocess` is told of every array that is made inside `with hook:`."""

    active: ClassVar[list[MemoryHook]] = []

    def __enter__(self) -> MemoryHook:
        self.active.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        self.active.remove(self)

    def malloc_postprocess(self, *, device_id: int, size: int, mem_size: int, mem_ptr: int, pmem_id: int) -> None:
        pass


def is_available() -> bool:
    return _machine.count > 0


def _device_count() -> int:
    if not is_available():
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return _machine.count


def _current_device() -> int:
    return int(getattr(_local, "device", 0)) if _device_count() else 0


def _set_device(device: int) -> None:
    if not 0 <= device < _device_count():
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    _local.device = device


@dataclass(init=False, unsafe_hash=True)
class Device:
    """A GPU by number; as a context manager it makes itself current. Creating one checks nothing, as in CuPy."""

    id: int

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = _current_device() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> Any:
        before = _current_device()
        _set_device(self.id)
        self._before.append(before)
        return self

    def __exit__(self, *exception: object) -> None:
        _set_device(self._before.pop())

    def use(self) -> Device:
        _set_device(self.id)
        return self

    def synchronize(self) -> None:
        _device_count()

    @property
    def compute_capability(self) -> str:
        return "90"

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 227 << 10}

    @property
    def mem_info(self) -> Any:
        return runtime.memGetInfo()


def alloc_pinned_memory(size: int) -> bytearray:
    """Of the host, from which a GPU copies by itself. There is no GPU here, so it is memory like any other."""
    _device_count()
    return bytearray(b"\xff") * size


runtime: Any = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=_device_count,
    getDevice=_current_device,
    setDevice=_set_device,
    memGetInfo=lambda: (MEMORY, MEMORY) if _device_count() else None,
    getDeviceProperties=lambda device: {"name": b"stand-in", "major": 9, "minor": 0, "totalGlobalMem": MEMORY},
    deviceSynchronize=_device_count,
    runtimeGetVersion=lambda: 12090,
    driverGetVersion=lambda: 12090 if is_available() else 0,
)
Stream = SimpleNamespace(null=SimpleNamespace(synchronize=_device_count, ptr=0))


def get_current_stream() -> Any:
    return Stream.null
