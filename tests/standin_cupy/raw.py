"""`cupy.RawModule` and `cupy.RawKernel` without a GPU: a C++ compiler builds the CUDA source, the CPU runs its threads in turn.

Arguments go to the kernel as CuPy passes them, each as the address of its bytes: a Python int is 8 bytes, a float is a double. CUDA
then reads as many bytes as the parameter has and never looks at the type, so a mistake is a wrong number, or worse. Here every
argument has to be what the kernel's parameter is. Compiling fails where CuPy would say that CUDA's headers are missing, if there is
no C++ compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from . import cuda
from .device_array import ndarray

COMPILE = ["-shared", "-fPIC", "-O1"]
HEADER, BLOCK_HEADER = (Path(__file__).with_name(name) for name in ("cuda_on_host.h", "block_on_host.h"))
LARGEST_BLOCK, LARGEST_GRID = (1024, 1024, 64), (2**31 - 1, 65535, 65535)
SHARED_BYTES, MOST_SHARED_BYTES = 48 << 10, 227 << 10  # that a block may have without asking, and if it asks
NVRTC_OPTIONS = ("-D", "-std=")  # those that a C++ compiler has too


class CompileException(Exception):
    """What CuPy raises for CUDA source that does not compile."""


class _order:
    bits = 0


@contextmanager
def order(threads_backwards: bool, copies_first: bool = False) -> Iterator[None]:
    """Inside the block kernels run their last thread first, and asynchronous copies happen when they are started rather than when a
    thread waits for them: a GPU has no order at all."""
    before, _order.bits = _order.bits, threads_backwards + 2 * copies_first
    try:
        yield
    finally:
        _order.bits = before


class RawModule:
    """CUDA source, compiled when a function of it is asked for."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError("RawModule: code is a str, options a tuple of str")
        self.code, self.options = code, options

    def compile(self, log_stream: Any = None) -> None:
        _library(self.code, self.options)

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self.code, name, self.options)


class RawKernel:
    """One `extern "C"` kernel of some source."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        library = _library(code, options)
        if not hasattr(library, f"launch_{name}"):
            raise cuda.CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        self.name, self._launch = name, getattr(library, f"launch_{name}")
        self._launch.restype = ctypes.c_char_p
        self._shared_bytes = SHARED_BYTES
        self.preferred_shared_memory_carveout = -1  # no matter here
        numbers = (ctypes.c_int * 300)()
        count = getattr(library, f"describe_{name}")(numbers)
        triples = [numbers[3 * i : 3 * i + 3] for i in range(count)]
        self.parameters = [f"{'*' * pointer}{chr(kind)}{size}" for pointer, kind, size in triples]

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._shared_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > MOST_SHARED_BYTES:
            raise cuda.CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._shared_bytes = size

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], *, shared_mem: int = 0) -> None:
        grid, block = (tuple(max(1, n) for n in (*sizes, 1, 1)[:3]) for sizes in (grid, block))
        for sizes, largest in ((grid, LARGEST_GRID), (block, LARGEST_BLOCK)):
            if any(n > most for n, most in zip(sizes, largest, strict=True)) or prod(block) > 1024:
                raise cuda.CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument (grid {grid}, block {block})")
        if shared_mem > self._shared_bytes:
            raise cuda.CUDADriverError(f"CUDA_ERROR_INVALID_VALUE: invalid argument ({shared_mem} bytes of shared memory)")
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, got {len(args)}")
        passed = [_bytes_of(value) for value in args]
        for number, ((kind, _), parameter) in enumerate(zip(passed, self.parameters, strict=True)):
            if kind != parameter and not (kind == "*" and parameter.startswith("*")):
                raise TypeError(f"{self.name}: argument {number} is {kind}, the kernel reads it as {parameter}")
        addresses = (ctypes.c_void_p * len(args))(*(data.ctypes.data for _, data in passed))
        shape = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)
        failure = self._launch(*shape, addresses, _order.bits)
        if failure:
            raise cuda.CUDADriverError(f"CUDA_ERROR_LAUNCH_FAILED: {failure.decode()}")


def _bytes_of(value: Any) -> tuple[str, np.ndarray[Any, Any]]:
    """An argument's type, as NumPy writes it with * for a pointer (*f4, i8, V56), and an array whose first bytes are what CuPy passes.
    None is a null pointer."""
    if value is None:
        return "*", np.array(0, np.uintp)
    if isinstance(value, ndarray):
        value._check_device()
        return f"*{value.dtype.kind}{value.itemsize}", np.array(value._array.ctypes.data, np.uintp)
    if isinstance(value, np.ndarray) and value.size != 1:
        raise TypeError(f"You are trying to pass a numpy.ndarray of shape {value.shape} as a kernel parameter.")
    if not isinstance(value, (np.ndarray, np.bool_, np.number)) and type(value) not in (bool, int, float):
        raise TypeError(f"Unsupported type {type(value)}")
    data = np.array(value)
    return f"{data.dtype.kind}{data.itemsize}", data


def compiler() -> str | None:
    """The C++ compiler that stands in for NVIDIA's; without one, kernels fail to compile as they do where CuPy finds no CUDA."""
    return shutil.which("c++")


@cache
def _library(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The compiled source, kept on disk under the hash of everything it was made from, for the next run of the tests.

    The environment's CXXFLAGS are added: with -fsanitize=address,undefined a kernel that leaves its arrays is found.
    """
    cuda.Device().synchronize()  # which says so where there is none
    program = compiler()
    if program is None:
        raise RuntimeError("Failed to find CUDA headers. Please install CUDA toolkit headers")
    unknown = [option for option in options if not option.startswith(NVRTC_OPTIONS)]
    if unknown:
        raise CompileException(f"nvrtc: error: unrecognized option {unknown[0]}")
    kernels = re.findall(r'extern "C" __global__ void\s+(?:__launch_bounds__\(.*?\)\s+)?(\w+)', code)
    waits = "__syncthreads" in code
    headers = [header.read_text() for header in ((HEADER, BLOCK_HEADER) if waits else (HEADER,))]
    exports = [f"EXPORT_KERNEL({kernel}, {'launch_blocks' if waits else 'launch'})" for kernel in kernels]
    whole = "\n".join([*headers, "#line 1", code, *exports, ""])
    command = [program, *COMPILE, *options, *os.environ.get("CXXFLAGS", "").split()]
    folder = Path(tempfile.gettempdir(), f"minidl-kernels-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's: no code is loaded from there")
    target = folder / (hashlib.sha256(repr([command, whole]).encode()).hexdigest() + ".so")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch, "kernels.so")
            done = subprocess.run([*command, "-x", "c++", "-", "-o", str(built)], input=whole, capture_output=True, text=True)
            if done.returncode:
                raise CompileException(done.stderr)
            built.replace(target)
    return ctypes.CDLL(str(target))
