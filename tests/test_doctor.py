"""What the doctor says of a machine, healthy or with each of the known failures, whose symptoms are faked with CuPy 14's texts."""

import ctypes
import runpy
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import standin_cupy
import threadpoolctl
from standin_cupy.memory import OutOfMemoryError

import minidl
from minidl import doctor
from minidl.kernels import implicit_gemm

INSTALL = 'python -m pip install "cupy-cuda12x[ctk]"'
# The texts were read from CuPy 14.2, where it could be made to raise them.
NO_LIBRARY = (
    'Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file: libnvrtc.so.13 or libnvrtc.so.12, '
    "No such file: libnvrtc.so.13 or libnvrtc.so.12\n"
)
NO_HEADERS = (
    "Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip install cupy-cuda12x[ctk]) or specify CUDA_PATH "
    "environment variable."
)
NOT_IMPORTED = """
================================================================
Failed to import CuPy.

If you installed CuPy via wheels (cupy-cudaXXX or cupy-rocm-X-X), make sure that the package matches with the version of CUDA or ROCm installed.

Original error:
  ImportError: libcudart.so.12: cannot open shared object file: No such file or directory
================================================================
"""  # noqa: E501
OLD_DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"


class DynamicLibNotFoundError(RuntimeError):
    """CUDA's pathfinder, by which CuPy 14 finds the toolkit, raises one of this name."""


class Machine:
    """A pretended machine, at first a healthy one with two GPUs; `examine` returns the exit status and what was printed."""

    def __init__(self, monkeypatch, capsys, folder):
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(doctor, "SIZES", {"cpu": (32, 1), "gpu": (64, 1)})
        monkeypatch.setattr(doctor, "SECONDS", 0)
        find = metadata.distributions
        monkeypatch.setattr(doctor.metadata, "distributions", lambda: find(path=[str(folder)]))
        monkeypatch.setattr(doctor, "DRIVER_FILE", folder / "version")
        doctor.DRIVER_FILE.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n")
        self.wheels("cupy-cuda12x")
        self.versions(driver=13000, runtime=12090, toolkit=(12, 9))

    def wheels(self, *names):
        for old in self.folder.glob("*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        for name in ("numpy", "cupyx-helpers", *names):
            info = self.folder / f"{name.replace('-', '_')}-14.2.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.2.0\n")

    def versions(self, driver, runtime=12090, toolkit=(12, 9)):
        """driver=0: there is none. toolkit: what NVRTC says, or the error that loading it raises."""

        def library(name):
            if not driver:
                raise OSError(f"{name}: cannot open shared object file: No such file or directory")
            return SimpleNamespace(cuDriverGetVersion=lambda pointer: setattr(pointer._obj, "value", driver))

        def nvrtc():
            if isinstance(toolkit, Exception):
                raise toolkit
            return toolkit

        # Not CDLL inside the module: the stand-in loads its kernels with that.
        self.monkeypatch.setattr(doctor, "ctypes", SimpleNamespace(CDLL=library, c_int=ctypes.c_int, byref=ctypes.byref))
        self.monkeypatch.setattr(standin_cupy.cuda, "nvrtc", SimpleNamespace(getVersion=nvrtc), raising=False)
        self.monkeypatch.setattr(standin_cupy.cuda.runtime, "runtimeGetVersion", lambda: runtime)

    def devices_raise(self, text):
        def count():
            raise standin_cupy.cuda.CUDARuntimeError(text)

        self.monkeypatch.setattr(standin_cupy.cuda.runtime, "getDeviceCount", count)

    def work_raises(self, error):
        """Every computation on a GPU fails."""
        timed = doctor._timed

        def fail(work, device):
            if device != "cpu":
                raise error
            return timed(work, device)

        self.monkeypatch.setattr(doctor, "_timed", fail)

    def examine(self):
        with standin_cupy.install(), standin_cupy.pretend_devices(2):
            return self.without_standin()

    def without_standin(self):
        status = doctor.main()
        printed = self.capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 80, printed
        assert ("Everything that is there works." in printed) is (status == 0)
        return status, printed


@pytest.fixture
def machine(monkeypatch, capsys, tmp_path):
    return Machine(monkeypatch, capsys, tmp_path)


def unwrapped(printed: str) -> str:
    return " ".join(printed.split())


# Nothing is wrong


def test_a_healthy_machine(machine, monkeypatch):
    monkeypatch.setattr(standin_cupy.cuda.runtime, "memGetInfo", lambda: (3 << 29, 8 << 30))
    status, printed = machine.examine()
    assert status == 0
    for expected in (
        r"driver    NVIDIA's 580.95.05, for CUDA up to 13.0",
        r"CuPy      14.2.0 from cupy-cuda12x, built for CUDA 12.9; CUDA toolkit: 12.9",
        r"gpu:0     stand-in, compute capability 9.0, 1.5 of 8.0 GiB free",
        r"gpu:1     stand-in, compute capability 9.0, 1.5 of 8.0 GiB free",
    ):
        assert expected in printed.splitlines()
    assert printed.count("GFLOP/s") == 2 * (1 + 2 * 3)  # the CPU, and two GPUs in three precisions
    for precision in ("float32", "TF32", "bfloat16"):
        assert printed.count(f"\n          {precision}: matrix product ") == 2
    assert minidl.get_float32_matmul_precision() == "highest"


@pytest.mark.tensor_cores
def test_tensor_cores_are_tried(machine, monkeypatch):
    asked = set()
    pays = implicit_gemm.pays
    monkeypatch.setattr(implicit_gemm, "pays", lambda *case: asked.add((case[1].name, pays(*case))) or False)
    machine.examine()
    assert asked == {("float32", False), ("float32", True), ("bfloat16", True)}


def test_without_ml_dtypes(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    status, printed = machine.examine()
    assert (
        status == 0
        and "\n          bfloat16: ml_dtypes is not installed\n          -> python -m pip install ml_dtypes" in printed
    )


def test_a_driver_that_does_not_tell_its_release(machine):
    doctor.DRIVER_FILE.unlink()
    assert "driver    NVIDIA's, for CUDA up to 13.0\n" in machine.examine()[1]


def test_threads_and_blas(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(doctor, "worker_count", lambda: 3)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: range(5), raising=False)
    blas = {"user_api": "blas", "internal_api": "mkl", "version": "2026.1", "num_threads": 7}
    monkeypatch.setattr(doctor, "threadpool_info", lambda: [{"user_api": "openmp"}, blas])
    _, printed = machine.examine()
    assert f"NumPy     {np.__version__}, BLAS: mkl 2026.1" in printed
    assert "3 in minidl's pool, 7 in BLAS; 5 of 64 cores; OMP_NUM_THREADS 3" in unwrapped(printed)


def test_a_blas_that_is_not_recognised(machine, monkeypatch):
    monkeypatch.setattr(doctor, "threadpool_info", list)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    _, printed = machine.examine()
    assert "unknown in BLAS" in printed and "OMP_NUM_THREADS not set" in unwrapped(printed)


def test_the_speed_is_of_the_median(monkeypatch):
    """Each takes 1, 40 and 2 ms: 2 * 100 ** 3 in 2 ms are 1 GFLOP/s, twice 2 * 27 ** 2 * 5 ** 2 * 48 * 256 are 448."""
    clock = iter(np.cumsum([0, 0.001, 0, 0.04, 0, 0.002] * 2))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(doctor, "SECONDS", 0.005)
    monkeypatch.setattr(doctor, "SIZES", {"cpu": (100, 2)})
    assert str(doctor._speed("cpu", "cpu")) == "cpu       float32: matrix product 1 GFLOP/s, convolution 448 GFLOP/s"


def test_cupy_is_not_installed(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    machine.wheels()
    machine.versions(driver=0)
    status, printed = machine.without_standin()
    assert status == 0 and "driver" not in printed
    assert f"not installed, so no GPU is used\n          -> If there is an NVIDIA GPU:\n             {INSTALL}\n" in printed


def test_as_a_program():
    """In a fresh process, on whatever machine this is."""
    result = subprocess.run([sys.executable, "-m", "minidl.doctor"], capture_output=True, text=True, timeout=300)
    assert result.returncode == (0 if "Everything that is there works." in result.stdout else 1), result.stderr
    assert "cpu       float32: matrix product" in result.stdout and not result.stderr


# Something is wrong: the error, and the sentence that says what to do


def test_no_driver(machine):
    """CuPy reports an old driver where there is none."""
    machine.versions(driver=0)
    machine.devices_raise(OLD_DRIVER)
    status, printed = machine.examine()
    assert status == 1 and "There is no NVIDIA driver: install one." in unwrapped(printed) and OLD_DRIVER in unwrapped(printed)


@pytest.mark.parametrize(
    "wheel, runtime, driver, sentence",
    [
        ("cupy-cuda12x", 12090, 11080, "too old for cupy-cuda12x: install version 525 or newer."),
        ("cupy-cuda13x", 13000, 11080, "too old for cupy-cuda13x: install version 580 or newer."),
        ("cupy-cuda13x", 13000, 12080, "too old for cupy-cuda13x: install version 580 or newer, or use the other wheel: "
         f"python -m pip uninstall cupy-cuda13x {INSTALL}"),
        ("cupy-cuda12x", 12090, 12000, "too old for cupy-cuda12x: install version 525 or newer."),
    ],
)  # fmt: skip
def test_a_driver_too_old_for_the_wheel(machine, wheel, runtime, driver, sentence):
    machine.wheels(wheel)
    machine.versions(driver, runtime)
    machine.devices_raise(OLD_DRIVER)
    status, printed = machine.examine()
    assert status == 1 and sentence in unwrapped(printed)
    assert ("other wheel" in printed) is ("other wheel" in sentence)


@pytest.mark.parametrize(
    "error", [DynamicLibNotFoundError(NO_LIBRARY), RuntimeError("CuPy failed to load libnvrtc.so.12: OSError")]
)
def test_no_nvrtc(machine, error):
    machine.versions(driver=13000, toolkit=error)
    machine.work_raises(error)
    status, printed = machine.examine()
    assert status == 1 and "CUDA toolkit: not found" in unwrapped(printed)
    assert "Parts of the CUDA toolkit are missing" in unwrapped(printed) and INSTALL in printed


@pytest.mark.parametrize("error", [RuntimeError(NO_HEADERS), ImportError("libcublas.so.12: cannot open shared object file")])
def test_no_headers_or_libraries(machine, error):
    machine.work_raises(error)
    status, printed = machine.examine()
    assert status == 1 and "They come with: " + INSTALL in unwrapped(printed)


def test_two_wheels(machine):
    machine.wheels("cupy-cuda12x", "cupy-cuda13x")
    status, printed = machine.examine()
    assert status == 1
    assert "cupy-cuda12x and cupy-cuda13x are installed at once" in unwrapped(printed)
    assert f"             python -m pip uninstall cupy-cuda12x cupy-cuda13x\n             {INSTALL}\n" in printed


def test_a_toolkit_of_another_major_version(machine):
    """As when PyTorch has brought CUDA 13 along. With a driver for 13 the other wheel is the way out, else a fresh environment."""
    machine.work_raises(RuntimeError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid"))
    for driver, remedy in (
        (13000, 'python -m pip uninstall cupy-cuda12x python -m pip install "cupy-cuda13x[ctk]"'),
        (12080, f"The driver does not serve that. Make a fresh virtual environment, and there: {INSTALL}"),
    ):
        machine.versions(driver, 12090, toolkit=(13, 0))
        status, printed = machine.examine()
        assert status == 1
        assert "cupy-cuda12x is built for CUDA 12, but the toolkit that it finds is CUDA 13. " in unwrapped(printed)
        assert remedy in unwrapped(printed)


def test_a_toolkit_of_another_major_version_that_works_is_no_failure(machine):
    machine.versions(13000, 12090, toolkit=(13, 0))
    assert machine.examine()[0] == 0


def test_no_gpu(machine):
    machine.devices_raise(NO_DEVICE)
    status, printed = machine.examine()
    assert status == 1 and "The driver sees no GPU: look what `nvidia-smi` lists." in unwrapped(printed)


@pytest.mark.parametrize("value", ["", "7"])
def test_gpus_that_are_hidden(machine, monkeypatch, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    machine.devices_raise(NO_DEVICE)
    status, printed = machine.examine()
    assert status == 1 and f'CUDA_VISIBLE_DEVICES is "{value}", which hides every GPU: unset it' in unwrapped(printed)


def test_a_gpu_without_free_memory(machine, monkeypatch):
    machine.work_raises(OutOfMemoryError(67108864, 0))
    status, printed = machine.examine()
    assert status == 1 and printed.count("end the programs that hold it") == 2
    assert "\n          Out of memory allocating 67,108,864 bytes (allocated so far: 0 bytes)." in printed

    def no_context():
        raise type("CUDARuntimeError", (RuntimeError,), {"__module__": "cupy_backends"})(
            "cudaErrorMemoryAllocation: out of memory"
        )

    monkeypatch.setattr(standin_cupy.cuda.runtime, "memGetInfo", no_context)
    status, printed = machine.examine()
    assert status == 1 and printed.count("end the programs that hold it") == 2
    assert "gpu:1     cudaErrorMemoryAllocation: out of memory" in printed


def test_cupy_cannot_be_imported(machine, monkeypatch):
    package = machine.folder / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise ImportError({NOT_IMPORTED!r})")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(str(machine.folder))
    status, printed = machine.without_standin()
    assert status == 1 and "cannot be imported: ImportError: libcudart.so.12: cannot open" in unwrapped(printed)
    assert "They come with: " + INSTALL in unwrapped(printed)


def test_half_of_cupy_is_gone(machine, monkeypatch):
    """As after uninstalling one of two wheels."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    status, printed = machine.without_standin()
    assert status == 1 and f"python -m pip uninstall cupy-cuda12x {INSTALL}" in unwrapped(printed)


def test_another_wheel_than_usual_is_kept(machine):
    machine.wheels("cupy-cuda13x")
    machine.versions(13000, 13000, (13, 0))
    machine.work_raises(RuntimeError(NO_HEADERS))
    assert 'They come with: python -m pip install "cupy-cuda13x[ctk]"' in unwrapped(machine.examine()[1])


def test_an_error_that_nobody_knows(machine):
    machine.work_raises(RuntimeError("cudaErrorUnknown: unknown error"))
    status, printed = machine.examine()
    assert status == 1 and "\n          cudaErrorUnknown: unknown error\n          -> None of the known" in printed
    assert f"or a fresh CuPy: python -m pip uninstall cupy-cuda12x {INSTALL}" in unwrapped(printed)


@pytest.mark.parametrize("wrong", ["cpu", "gpu"])
def test_wrong_results(machine, wrong):
    timed = doctor._timed

    def twice(work, device):
        seconds, result = timed(work, device)
        return seconds, result * 1.02 if device.startswith(wrong) else result

    machine.monkeypatch.setattr(doctor, "_timed", twice)
    status, printed = machine.examine()
    assert status == 1 and printed.count("matrix product in float32 on") == (1 if wrong == "cpu" else 2)
    assert ("install --force-reinstall numpy" in printed) is (wrong == "cpu")


def test_ctrl_c_ends_it_with_a_word(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(threadpoolctl, "threadpool_info", interrupted)
    with pytest.raises(SystemExit) as ended, pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("minidl.doctor", run_name="__main__")
    assert ended.value.code == 130 and capsys.readouterr().err.endswith(": interrupted\n")
