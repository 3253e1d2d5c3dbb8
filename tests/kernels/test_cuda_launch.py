"""Kernels without a GPU: what the stand-in refuses to launch, and what happens where kernels cannot be compiled."""

import importlib
import warnings

import numpy as np
import pytest
import standin_cupy
from hypothesis import given, settings

import minidl
from kernels.cuda_cases import CHECKS
from minidl.kernels import cuda, elementwise, pooling
from minidl.kernels.window import Window

SOURCE = """
extern "C" __global__ void everything(const float* x, double* y, long long n, int i, float f, double d, bool b) {
    for (long long at = blockIdx.x * blockDim.x + threadIdx.x; at < n; at += gridDim.x * blockDim.x) y[at] = x[at] + i + f + d + b;
}
"""
needs_compiler = pytest.mark.skipif(standin_cupy.compiler() is None, reason="no C++ compiler to build the kernels with")


@pytest.fixture
def cupy():
    with standin_cupy.install():
        yield importlib.import_module("cupy")


@pytest.fixture
def everything(cupy):
    """A function of what is to be passed otherwise: each argument has a name."""
    x, y = cupy.asarray(np.arange(3, dtype=np.float32)), cupy.empty(3)
    right = {"x": x, "y": y, "n": 3, "i": np.int32(10), "f": np.float32(0.5), "d": 0.25, "b": True}
    kernel = cupy.RawModule(code=SOURCE, options=("-std=c++17",)).get_function("everything")

    def launch(grid=(2,), block=(2,), **other):
        kernel(grid, block, tuple({**right, **other}.values()))
        return y.get().tolist()

    return launch


@needs_compiler
def test_arguments_arrive(everything):
    assert everything() == [11.75, 12.75, 13.75]
    assert everything(n=np.int64(3), d=np.float64(1.25), b=np.bool_(False)) == [11.75, 12.75, 13.75]
    assert everything(f=np.array(0.5, np.float32)) == [11.75, 12.75, 13.75], "a NumPy array of one element goes by value"


@needs_compiler
@pytest.mark.parametrize("other, message", [
    ({"i": 10}, "argument 3 is i8, the kernel reads it as i4"),  # a Python int has 8 bytes
    ({"n": np.int32(3)}, "argument 2 is i4, the kernel reads it as i8"),
    ({"f": 0.5}, "argument 4 is f8, the kernel reads it as f4"),  # a Python float is a double
    ({"d": np.float32(0.25)}, "argument 5 is f4, the kernel reads it as f8"),
    ({"d": 1}, "argument 5 is i8, the kernel reads it as f8"),
    ({"b": 1}, "argument 6 is i8, the kernel reads it as b1"),
    ({"more": 1}, "everything takes 7 arguments, got 8"),
    ({"x": np.zeros(3, np.float32)}, "numpy.ndarray of shape"),
    ({"n": "3"}, "Unsupported type"),
    ({"n": None}, "argument 2 is [*], the kernel reads it as i8"),  # None is a null pointer
])  # fmt: skip
def test_arguments_of_another_type_are_refused(everything, other, message):
    with pytest.raises(TypeError, match=message):
        everything(**other)


@needs_compiler
def test_arrays_of_another_type_or_device_are_refused(cupy, everything):
    with pytest.raises(TypeError, match=r"argument 0 is \*f8, the kernel reads it as \*f4"):
        everything(x=cupy.zeros(3))
    with cupy.pretend_devices(2), cupy.cuda.Device(1), pytest.raises(ValueError, match="different from the current device"):
        everything()


@needs_compiler
@pytest.mark.parametrize("sizes", [{"block": (2048,)}, {"block": (32, 64)}, {"grid": (1, 70000)}, {"grid": (2**31,)}])
def test_grids_and_blocks_have_limits(everything, sizes):
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        everything(**sizes)


WAITING = """
extern "C" __global__ void mirror(float* x, bool all) {
    __shared__ float found[64];
    found[threadIdx.x] = x[threadIdx.x];
    if (all || threadIdx.x < 32) __syncthreads();
    x[threadIdx.x] = found[blockDim.x - 1 - threadIdx.x];
    if (!all) __syncthreads();
}
"""


@needs_compiler
def test_threads_of_a_block_wait_for_each_other(cupy):
    kernel = cupy.RawModule(code=WAITING, options=("-std=c++17",)).get_function("mirror")
    x = cupy.asarray(np.arange(64, dtype=np.float32))
    kernel((1,), (64,), (x, True))
    assert x.get().tolist() == list(range(63, -1, -1))
    with standin_cupy.order(threads_backwards=True):
        kernel((1,), (64,), (x, True))
    assert x.get().tolist() == list(range(64))
    with pytest.raises(RuntimeError, match="CUDA_ERROR_LAUNCH_FAILED: threads of a block wait at different barriers"):
        kernel((1,), (64,), (x, False))


@needs_compiler
def test_shared_memory_has_to_be_asked_for(cupy):
    kernel = cupy.RawModule(code=WAITING, options=("-std=c++17",)).get_function("mirror")
    x = cupy.zeros(64, np.float32)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel((1,), (64,), (x, True), shared_mem=49 << 10)
    kernel.max_dynamic_shared_size_bytes = 49 << 10
    kernel((1,), (64,), (x, True), shared_mem=49 << 10)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel.max_dynamic_shared_size_bytes = 228 << 10


@needs_compiler
def test_what_does_not_compile(cupy):
    with pytest.raises(standin_cupy.raw.CompileException, match="nonsense"):
        cupy.RawModule(code=SOURCE + "nonsense;").compile()
    with pytest.raises(standin_cupy.raw.CompileException, match="unrecognized option -O3"):
        cupy.RawModule(code=SOURCE, options=("-O3",)).compile()
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NOT_FOUND"):
        cupy.RawModule(code=SOURCE).get_function("nothing")


@pytest.fixture
def no_compiler(monkeypatch):
    """A GPU, but nothing to compile kernels with."""
    monkeypatch.setattr(standin_cupy.raw, "compiler", lambda: None)
    for cached in (standin_cupy.raw._library, cuda.compiles, cuda._warn):
        cached.cache_clear()
    with standin_cupy.install(), minidl.default_device("gpu"):
        yield importlib.import_module("cupy")
    for cached in (cuda.compiles, cuda._warn):
        cached.cache_clear()


def test_without_a_compiler_one_warning_says_what_to_install(no_compiler):
    x = no_compiler.ones((1, 2, 2, 1))
    remedy = r'cannot be compiled here(.|\n)*Failed to find CUDA headers(.|\n)*pip install "cupy-cuda12x\[ctk\]"'
    with pytest.warns(RuntimeWarning, match=remedy) as caught:
        elementwise.relu(x)
    assert len(caught) == 1 and caught[0].filename == elementwise.__file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elementwise.relu(x)
        pooling.max_pool(x, Window((2, 2)))
        elementwise.relu(x.astype(np.float32))


@pytest.mark.filterwarnings("ignore:minidl's CUDA kernels cannot be compiled")
@pytest.mark.parametrize("check, cases", CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_without_a_compiler_cupys_operations_do_the_work(no_compiler, check, cases):
    @settings(max_examples=20)
    @given(cases)
    def run(case):
        check("gpu", case)

    run()
    assert not cuda.ready("pooling", no_compiler.zeros(1))
