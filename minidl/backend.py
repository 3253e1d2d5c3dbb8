"""The array backend: NumPy on the CPU, CuPy on the GPU. The only file that decides which.

An operation never asks for a device: it takes `xp = get_array_module(x)` from the array in its hands and calls `xp`. A device
name ("cpu", "gpu", "gpu:1") only chooses where new arrays are made. CuPy is imported when a GPU is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: CuPy may be absent, so its type cannot be named here

_default_device = "cpu"
_seed: int | None = None
_generators: dict[str, Any] = {}
_NOTHING_TO_DO = nullcontext()

_matmul_precision = "highest"
_COMPUTE_TYPES = {"highest": 1, "high": 7}  # COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32: CuPy's names for them do not reach Python
_told: tuple[ModuleType, str] | None = None  # which CuPy was told which precision


def get_array_module(array: Array) -> ModuleType:
    """`numpy` or `cupy`, whichever made `array`. NumPy scalars and Python numbers belong to NumPy."""
    library = _library(type(array))  # type: ignore[arg-type]  # types are hashable
    return np if library is np else _with_precision(library)


@cache
def _library(kind: type) -> ModuleType:
    """The library of arrays of this type, looked up once for each: a step on a GPU asks some 400 times."""
    return _cupy() if kind.__module__.startswith("cupy") else np


def is_array(value: object) -> bool:
    """Whether `value` is an array of either library."""
    return isinstance(value, np.ndarray) or (type(value).__module__.startswith("cupy") and hasattr(value, "get"))


def canonical_device(name: str) -> str:
    """The full name of a device: "gpu" -> "gpu:0". Raises ValueError for what is no device's name."""
    kind, colon, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if name == "cpu":
        return "cpu"
    if kind == "gpu" and (not colon or number.isdecimal()):
        return f"gpu:{int(number or 0)}"
    raise ValueError(f'unknown device {name!r}: use "cpu", "gpu" or "gpu:1"')


def device_of(array: Array) -> str:
    """The device an array lives on: "cpu", "gpu:0", ..."""
    return "cpu" if get_array_module(array) is np else f"gpu:{array.device.id}"


def to_device(array: Array, device: str) -> Array:
    """`array` on `device`: itself when it is there already, else a copy."""
    device = canonical_device(device)
    here = device_of(array)
    if here == device:
        return array
    if device == "cpu":
        return _cupy().asnumpy(array)
    with on_device(device) as xp:
        # Between two GPUs the copy goes through the host: slow, but it works without peer access.
        return xp.asarray(array if here == "cpu" else _cupy().asnumpy(array))


def staged(array: np.ndarray, device: str) -> np.ndarray:
    """A copy of `array`, to be given to `to_device`, in memory that a GPU can read while the program goes on ("pinned" memory).

    Meant to be called in a thread: from ordinary memory `to_device` has to make such a copy first, and its caller waits. Returns
    `array` itself where no such memory is left.
    """
    with on_device(device) as xp:
        try:
            memory = xp.cuda.alloc_pinned_memory(array.nbytes)
        except xp.cuda.runtime.CUDARuntimeError:
            return array
    copy = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    return copy


@contextmanager
def on_device(device: str) -> Iterator[ModuleType]:
    """Make new arrays on `device`: `with on_device("gpu:1") as xp: xp.zeros(3)`.

    Raises RuntimeError without CuPy or a GPU that it can use, ValueError for a GPU that this machine does not have.
    """
    device = canonical_device(device)
    if device == "cpu":
        yield np
        return
    cupy, number = _cupy(), int(device[4:])
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own exception type cannot be named without CuPy
        raise RuntimeError(
            f'device "{device}": CuPy is installed but finds no GPU it can use ({error}). '
            "`python -m minidl.doctor` says what to do."
        ) from error
    if number >= count:
        raise ValueError(f'device "{device}": this machine has {count} GPU(s), numbered from 0')
    with cupy.cuda.Device(number):
        yield _with_precision(cupy)


def beside(array: Array) -> AbstractContextManager[Any]:
    """`with beside(x): ...`: new arrays are made where `x` is. CuPy makes them on its current GPU, whatever the operands."""
    return _NOTHING_TO_DO if isinstance(array, (np.ndarray, np.generic)) else array.device


def _cupy() -> ModuleType:
    try:
        import cupy  # optional: only a GPU needs it
    except ImportError as error:
        raise RuntimeError(
            f"a GPU needs CuPy, which cannot be imported here ({error}). Install it with "
            '`python -m pip install "cupy-cuda12x[ctk]"`; `python -m minidl.doctor` says more.'
        ) from error
    return cupy


def get_float32_matmul_precision() -> str:
    """How exact products of float32 matrices are on a GPU: see `set_float32_matmul_precision`."""
    return _matmul_precision


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products of float32 matrices are on a GPU, all GPUs of this program, from here on; a CPU takes no notice.

    "highest" (the default): float32 throughout. "high": the factors may be rounded to TF32, 10 binary digits after the point in
    place of 23, which the tensor cores of a GPU of 2020 or later multiply several times as fast; sums stay float32. Names are
    PyTorch's; CuPy's environment variable CUPY_TF32 is not asked. Raises ValueError for any other name.
    """
    global _matmul_precision
    if precision not in _COMPUTE_TYPES:
        raise ValueError(f'set_float32_matmul_precision: precision must be "highest" or "high", got {precision!r}')
    _matmul_precision = precision


def _with_precision(cupy: ModuleType) -> ModuleType:
    """`cupy`, told to multiply as `set_float32_matmul_precision` says; only here, where a GPU is used, because CuPy looks at the GPU."""
    global _told
    if _told is None or _told[0] is not cupy or _told[1] != _matmul_precision:
        cupy._core.set_compute_type(np.float32, _COMPUTE_TYPES[_matmul_precision])
        _told = cupy, _matmul_precision
    return cupy


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` is one that CuPy raises when a GPU's memory is full: its memory pool's, or one of a CUDA library."""
    codes = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")
    from_cupy = type(error).__module__.startswith("cupy")  # NumPy's MemoryError is not about a GPU
    return from_cupy and (isinstance(error, MemoryError) or any(code in str(error) for code in codes))


def get_default_device() -> str:
    """The device on which Tensors, parameters and random numbers are made when none is named."""
    return _default_device


def set_default_device(device: str) -> None:
    """Make `device` the default for the whole program. The device is tried at once, so a missing GPU shows here."""
    global _default_device
    with on_device(device):
        _default_device = canonical_device(device)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    """The default device for a block: `with minidl.default_device("gpu"): ...`."""
    before = _default_device
    set_default_device(device)
    try:
        yield
    finally:
        set_default_device(before)


def manual_seed(seed: int) -> None:
    """Start every device's random numbers anew from `seed`: same seed, same program, same numbers."""
    global _seed
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"manual_seed: the seed must be an integer of at least 0, got {seed!r}")
    _seed = int(seed)
    _generators.clear()


def generator(device: str) -> Any:
    """The random number generator of `device` (numpy.random.Generator or its CuPy twin)."""
    device = canonical_device(device)
    if device not in _generators:
        seed = int.from_bytes(os.urandom(4), "little") if _seed is None else _seed
        with on_device(device) as xp:
            _generators[device] = xp.random.default_rng(seed)
    return _generators[device]


@contextmanager
def fixed_random(seed: int) -> Iterator[None]:
    """Inside the block random numbers start from `seed`; afterwards they go on as if the block had not been."""
    global _seed
    before = _seed, dict(_generators)
    try:
        manual_seed(seed)
        yield
    finally:
        _seed = before[0]
        _generators.clear()
        _generators.update(before[1])
