"""`python -m minidl.doctor`: what minidl finds on this machine, how fast it is, and what to do about what does not work.

The exit status is 0 if everything that is there works, also without a GPU, and 1 if something does not.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import statistics
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
from threadpoolctl import threadpool_info

import minidl
import minidl.functional as F
from minidl import backend
from minidl.dtypes import as_dtype
from minidl.kernels.convolution import conv2d_plain
from minidl.kernels.parallel import worker_count
from minidl.kernels.window import Window
from minidl.program import main_or_exit
from minidl.tensor import Tensor

# NVIDIA: "CUDA 13.x >= 580, CUDA 12.x >= 525 (newer drivers still supported through backward compatibility)", table 1 of
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = {12: "525", 13: "580"}  # by CUDA's major version
WHEEL = "cupy-cuda12x"  # so it works with every driver since 525, those for CUDA 13 included
DRIVER_FILE = Path("/proc/driver/nvidia/version")
SIZES = {"cpu": (1024, 4), "gpu": (4096, 128)}  # of the matrices, and images of the convolution
SECONDS = 0.3  # for which each of the two is timed, at least
PRECISIONS = ("float32", "TF32", "bfloat16")  # of products on a GPU


@dataclass
class Finding:
    """One thing that was found; `advice`: what to do, its commands each on a line of its own."""

    label: str
    text: str
    advice: str = ""
    broken: bool = False

    def __str__(self) -> str:
        lines = _wrapped(f"{self.label:<9} {self.text}", " " * 10)
        for number, line in enumerate(self.advice.splitlines()):
            lines += _wrapped(" " * 10 + ("   " if number else "-> ") + line, " " * 13)
        return "\n".join(lines)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@dataclass
class Cuda:
    """What is made for which version of CUDA (12090 is 12.9; 0: not there). wheels: the CuPy packages that are installed."""

    wheels: list[str]
    driver: int
    runtime: int = 0  # what CuPy was built with
    toolkit: int = 0  # the libraries and the compiler that CuPy finds here


def findings() -> Iterator[Finding]:
    """Everything that is found, in the order in which it is printed."""
    yield Finding("minidl", minidl.__version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    named = [" ".join(filter(None, (b["internal_api"], b["version"], b.get("architecture")))) for b in blas]
    built_with = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]  # type: ignore[call-overload,index]
    yield Finding("NumPy", f"{np.__version__}, BLAS: {', '.join(named) or built_with}")
    yield Finding(
        "threads",
        f"{worker_count()} in minidl's pool, {blas[0]['num_threads'] if blas else 'unknown'} in BLAS; {_cores()}; "
        f"OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}",
    )
    try:
        yield _speed("cpu", "cpu")
    except ArithmeticError as error:
        yield Finding("cpu", str(error), "python -m pip install --force-reinstall numpy", broken=True)
    yield from _gpus()


def _cores() -> str:
    cores = os.cpu_count() or 1
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else cores} of {cores} cores"


def _gpus() -> Iterator[Finding]:
    cuda = Cuda(_installed_wheels(), _driver_version())
    if cuda.driver:
        release = re.search(r"\d{3}\.[\d.]+", DRIVER_FILE.read_text()) if DRIVER_FILE.exists() else None
        yield Finding("driver", f"NVIDIA's{' ' + release[0] if release else ''}, for CUDA up to {_version(cuda.driver)}")
    if len(cuda.wheels) > 1:
        text = f"{' and '.join(cuda.wheels)} are installed at once: they overwrite each other's files"
        yield Finding("CuPy", text, f"Uninstall them all, then install one:\n{_replaced(cuda, WHEEL)}", broken=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what is said above
            import cupy
    except Exception as error:  # mostly ImportError, but a CuPy made for another NumPy may fail in any way
        if cuda.wheels or getattr(error, "name", "") != "cupy":
            yield Finding("CuPy", f"cannot be imported: {_reason(error)}", advice(error, cuda), broken=True)
        else:
            yield Finding("CuPy", "not installed, so no GPU is used", f"If there is an NVIDIA GPU:\n{_install(WHEEL)}")
        return
    cuda.runtime, cuda.toolkit = cupy.cuda.runtime.runtimeGetVersion(), _toolkit_version(cupy)
    yield Finding(
        "CuPy",
        f"{cupy.__version__}{' from ' + ', '.join(cuda.wheels) if cuda.wheels else ''}, built for CUDA {_version(cuda.runtime)}; "
        f"CUDA toolkit: {_version(cuda.toolkit) if cuda.toolkit else 'not found'}",
    )
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # whatever is wrong, the answer is a sentence
        yield Finding("GPU", _reason(error), advice(error, cuda), broken=True)
        return
    for number in range(count):
        label = f"gpu:{number}"
        try:
            yield _card(label, number, cupy)
            label = ""
            for precision in PRECISIONS:
                yield _speed(label, f"gpu:{number}", precision)
        except Exception as error:
            yield Finding(label, _reason(error), advice(error, cuda), broken=True)


def _card(label: str, number: int, cupy: ModuleType) -> Finding:
    name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
    with cupy.cuda.Device(number) as device:
        free, total = cupy.cuda.runtime.memGetInfo()
        major, minor = device.compute_capability[:-1], device.compute_capability[-1]
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return Finding(label, f"{name}, compute capability {major}.{minor}, {memory}")


def advice(error: Exception, cuda: Cuda) -> str:
    """What to do about an error of CuPy's; it is recognised by its text in CuPy 13 and 14."""
    text = f"{type(error).__name__}: {error}"
    wheel = next((name for name in cuda.wheels if name.startswith("cupy-cuda")), WHEEL)
    built_for, found = cuda.runtime // 1000, cuda.toolkit // 1000
    if backend.is_out_of_memory(error):
        return "The GPU's memory is full: end the programs that hold it (`nvidia-smi` lists them), or use another GPU."
    if "cudaErrorInsufficientDriver" in text and not cuda.driver:
        return "There is no NVIDIA driver: install one. A container must be given the GPU, for Docker with `--gpus all`."
    if "cudaErrorInsufficientDriver" in text:
        remedy = f"The driver is too old for {wheel}: install version {OLDEST_DRIVER.get(built_for, 'for its CUDA')} or newer"
        return remedy + (f",\nor use the other wheel:\n{_replaced(cuda, WHEEL)}" if built_for > cuda.driver // 1000 > 11 else ".")
    if "cudaErrorNoDevice" in text and "CUDA_VISIBLE_DEVICES" in os.environ:
        value = os.environ["CUDA_VISIBLE_DEVICES"]
        return f'CUDA_VISIBLE_DEVICES is "{value}", which hides every GPU: unset it, or set it to 0 for the first.'
    if "cudaErrorNoDevice" in text:
        return "The driver sees no GPU: look what `nvidia-smi` lists. A container must be given it, for Docker with `--gpus all`."
    if found and built_for and found != built_for:
        fits = f"cupy-cuda{found}x"
        mixed = f"{wheel} is built for CUDA {built_for}, but the toolkit that it finds is CUDA {found}. "
        if cuda.driver // 1000 >= found:
            return f"{mixed}Use the wheel for that:\n{_replaced(cuda, fits)}"
        return f"{mixed}The driver does not serve that. Make a fresh virtual environment, and there:\n{_install(wheel)}"
    if re.search(r"CUDA headers|DynamicLibNotFound|Failure finding|failed to load|shared object file|open source file", text):
        return f"Parts of the CUDA toolkit are missing (NVRTC, headers or libraries). They come with:\n{_install(wheel)}"
    return f"None of the known failures. A restart may help, after a new driver say, or a fresh CuPy:\n{_replaced(cuda, wheel)}"


def _install(wheel: str) -> str:
    return f'python -m pip install "{wheel}[ctk]"'


def _replaced(cuda: Cuda, wheel: str) -> str:
    return f"python -m pip uninstall {' '.join(cuda.wheels or [wheel])}\n{_install(wheel)}"


def _reason(error: Exception) -> str:
    """The one line of an error that says most; CuPy's ImportError frames it with general advice."""
    lines = str(error).partition("Original error:")[2] or str(error) or type(error).__name__
    return textwrap.shorten(lines.strip().splitlines()[0], 240)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _installed_wheels() -> list[str]:
    names = {distribution.name for distribution in metadata.distributions()}
    return sorted(name for name in names if re.fullmatch(r"cupy(-cuda\d+x?)?", name or ""))


def _driver_version() -> int:
    """The newest CUDA that the NVIDIA driver serves; asked of the driver itself, because CuPy may not be there."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value


def _toolkit_version(cupy: ModuleType) -> int:
    try:
        major, minor = cupy.cuda.nvrtc.getVersion()
    except Exception:  # the library cannot be loaded; which exception that is depends on CuPy's version
        return 0
    return 1000 * major + 10 * minor


def _speed(label: str, device: str, precision: str = "float32") -> Finding:
    """How fast `device` does a matrix product and the convolution of AlexNet's second layer. Raises ArithmeticError for results whose
    first two digits are wrong; the others may be, because factors may be rounded."""
    try:
        dtype = as_dtype("bfloat16" if precision == "bfloat16" else "float32")
    except RuntimeError:
        return Finding(label, "bfloat16: ml_dtypes is not installed", "python -m pip install ml_dtypes")
    side, images = SIZES[device[:3]]
    rng = np.random.default_rng(0)
    a, b, x, w = (rng.random(s, np.float32) - 0.5 for s in ((side, side), (side, side), (images, 27, 27, 96), (5, 5, 48, 256)))
    there = [Tensor(array, device=device).astype(dtype) for array in (a, b, x, w)]
    plain = conv2d_plain(x[:1], w, None, Window((5, 5), padding=((2, 2), (2, 2))), 2)
    speeds = []
    for name, work, multiplications, expected in (
        ("matrix product", lambda: there[0] @ there[1], side**3, a[:8] @ b),
        ("convolution", lambda: F.conv2d(there[2], there[3], padding=2, groups=2), images * 27 * 27 * w.size, plain),
    ):
        with _products(precision):
            seconds, result = _timed(work, device)
        error = np.linalg.norm(result[: len(expected)].astype("float32").numpy() - expected) / np.linalg.norm(expected)
        if not error < 0.01:
            raise ArithmeticError(f"a {name} in {precision} on {device} came out wrong (relative error {error:.1g})")
        speeds.append(f"{name} {2 * multiplications / seconds / 1e9:,.0f} GFLOP/s")
    return Finding(label, f"{precision}: {', '.join(speeds)}")


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Inside the block the factors of float32 products are rounded to TF32 if `precision` says so, and not otherwise."""
    before = backend.get_float32_matmul_precision()
    backend.set_float32_matmul_precision("high" if precision == "TF32" else "highest")
    try:
        yield
    finally:
        backend.set_float32_matmul_precision(before)


def _timed(work: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    """The median of the seconds that `work` takes, after one call that compiles and warms up; and its result."""
    seconds: list[float] = []
    result = work()
    _wait(device)
    while len(seconds) < 3 or sum(seconds) < SECONDS:
        started = time.perf_counter()
        result = work()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def _wait(device: str) -> None:
    if device != "cpu":
        with backend.on_device(device) as cupy:
            cupy.cuda.runtime.deviceSynchronize()


def main() -> int:
    """Print what is found; returns the exit status."""
    broken = 0
    for finding in findings():
        print(finding, flush=True)
        broken += finding.broken
    print("\nEverything that is there works." if not broken else "\nSomething does not work: see above.")
    return 1 if broken else 0


if __name__ == "__main__":
    main_or_exit(main)
