"""NVIDIA's compilers where a machine has one: the library NVRTC, which is what CuPy uses, else the program nvcc.

A GPU is not needed. `pip install nvidia-cuda-nvrtc-cu12` (or `nvidia-cuda-nvrtc` for CUDA 13) brings NVRTC to any machine.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from ctypes.util import find_library
from functools import cache
from pathlib import Path


class Refused(Exception):
    """The compiler's own words."""


class NVRTC:
    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self.library.nvrtcGetSupportedArchs(found)
        return list(found)

    def compile(self, source: str, options: tuple[str, ...]) -> None:
        program, lib = ctypes.c_void_p(), self.library
        options += ("--device-as-default-execution-space",)  # as CuPy does
        lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        strings = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = lib.nvrtcCompileProgram(program, len(options), strings)
        size = ctypes.c_size_t()
        lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        lib.nvrtcGetProgramLog(program, log)
        lib.nvrtcDestroyProgram(ctypes.byref(program))
        if failed or "kernels.cu(" in log.value.decode():  # a warning about the source, not about the options
            raise Refused(log.value.decode())


class NVCC:
    def architectures(self) -> list[int]:
        listed = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
        return [int(number) for number in re.findall(r"sm_(\d+)\b", listed)]

    def compile(self, source: str, options: tuple[str, ...]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "kernels.cu")
            path.write_text(source)
            command = ["nvcc", *options, "-Werror", "all-warnings", "-cubin", "-o", str(path.with_suffix(".cubin")), str(path)]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr)


@cache
def found() -> NVRTC | NVCC | None:
    packages = importlib.util.find_spec("nvidia")
    folders = list(packages.submodule_search_locations or []) if packages else []
    names = [str(path) for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")] + [find_library("nvrtc")]
    for name in filter(None, names):
        try:
            return NVRTC(ctypes.CDLL(name))
        except OSError:
            continue
    return NVCC() if shutil.which("nvcc") else None
