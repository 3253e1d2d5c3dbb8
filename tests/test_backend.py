"""Devices, array libraries and random numbers."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import standin_cupy
from numpy.testing import assert_array_equal

import minidl
import minidl.functional as F
from minidl import Tensor, backend, nn, optim, training


@pytest.fixture
def two_gpus():
    """A machine with two GPUs, as far as the stand-in can pretend."""
    with standin_cupy.install() as cupy, standin_cupy.pretend_devices(2), backend.fixed_random(0):
        yield cupy


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # `import cupy` then raises ImportError
    with backend.fixed_random(0):
        yield


def numbers(device: str) -> np.ndarray:
    return backend.to_device(backend.generator(device).standard_normal(5), "cpu")


# Which library, which device


def test_new_tensors_go_to_the_default_device(device):
    assert Tensor([1.0]).device == minidl.get_default_device() == backend.canonical_device(device)


def test_the_library_of_an_array(device):
    array = Tensor([1.0]).data
    assert backend.get_array_module(array) is (np if device == "cpu" else sys.modules["cupy"])
    assert backend.is_array(array) and not backend.is_array([1.0]) and not backend.is_array(np.float32(1))
    assert backend.get_array_module(np.float32(1)) is backend.get_array_module(1.0) is np


@pytest.mark.parametrize("name, full", [("cpu", "cpu"), ("gpu", "gpu:0"), ("gpu:0", "gpu:0"), ("gpu:12", "gpu:12")])
def test_canonical_device(name, full):
    assert backend.canonical_device(name) == full


@pytest.mark.parametrize("name", ["cuda", "GPU", "cpu:0", "gpu:", "gpu:-1", "gpu:one", "gpu0", "", None, 0])
def test_unknown_device_names(name):
    for use in (backend.canonical_device, minidl.set_default_device, Tensor([1.0]).to, lambda n: Tensor([1.0], device=n or "")):
        with pytest.raises(ValueError, match=r'unknown device .*: use "cpu", "gpu" or "gpu:1"'):
            use(name)


def test_to_device(device):
    host = np.arange(6.0).reshape(2, 3)
    there = backend.to_device(host, device)
    assert backend.device_of(there) == backend.canonical_device(device)
    assert backend.to_device(there, device) is there
    assert_array_equal(backend.to_device(there, "cpu"), host)


def test_default_device_is_restored(device):
    before = minidl.get_default_device()
    with pytest.raises(KeyError), minidl.default_device("cpu"):
        assert minidl.get_default_device() == Tensor([1.0]).device == "cpu"
        raise KeyError
    assert minidl.get_default_device() == Tensor([1.0]).device == before


def test_a_default_device_that_fails_is_not_set(no_cupy):
    with pytest.raises(RuntimeError):
        minidl.set_default_device("gpu")
    assert minidl.get_default_device() == "cpu"


# Moving Tensors


def test_staged(device):
    if device == "cpu":
        pytest.skip("for GPUs")
    for host in (np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2], np.zeros((0, 3), np.uint8)):
        copy = backend.staged(host, device)
        assert copy.dtype == host.dtype and copy is not host
        assert_array_equal(backend.to_device(backend.to_device(copy, device), "cpu"), host)


def test_staged_where_there_is_no_more_pinned_memory(monkeypatch):
    with standin_cupy.install() as cupy:

        def full(size):
            raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")

        monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", full)
        host = np.arange(3)
        assert backend.staged(host, "gpu") is host


def test_tensor_to_device_and_its_gradient_back(device):
    x = Tensor([1.0, 2.0], requires_grad=True, device="cpu")
    y = x.to(device)
    assert y.device == backend.canonical_device(device) and (y is x) == (device == "cpu")
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert_array_equal(x.grad.numpy(), [2.0, 4.0])


def test_an_array_on_a_gpu_stays_there(two_gpus):
    with two_gpus.cuda.Device(1):
        array = two_gpus.ones(2, np.float32)
    assert minidl.get_default_device() == "cpu"
    assert Tensor(array).device == Tensor(Tensor(array)).device == "gpu:1"
    assert Tensor(array, device="gpu").device == "gpu:0" and Tensor(array, device="cpu").device == "cpu"


def test_operations_follow_their_inputs_to_a_second_gpu(two_gpus):
    """CuPy makes arrays on the current GPU, which is another one than the Tensors' here."""
    x = Tensor([[3.0, 1.0], [2.0, 5.0]], requires_grad=True, device="gpu:1")
    y = ((2 * x @ x.T).max(axis=1).exp().log() / x[[0, 1], 0]).astype("float64").sum()
    (slope,) = minidl.grad(y, [x], create_graph=True)
    (slope * slope).sum().backward()
    everything = [y, slope, x.grad, x > 1, x.argmax(axis=0), x.detach(), x.astype(int), Tensor(x), minidl.where(x > 1, x, 0)]
    x.data = np.zeros((2, 2))
    assert {t.device for t in [*everything, x]} == {"gpu:1"}
    x.to("gpu:0").sum().backward()
    assert x.grad.device == "gpu:1"


@pytest.mark.parametrize("devices", [("cpu", "gpu:1"), ("gpu:0", "cpu"), ("gpu:0", "gpu:1"), ("gpu:1", "gpu:0")])
def test_mixed_devices_are_named_with_the_remedy(two_gpus, devices):
    a, b = (Tensor(np.ones((2, 2), np.float32), device=name) for name in devices)
    operations = [
        lambda: a + b,
        lambda: a / b,
        lambda: a @ b,
        lambda: a < b,
        lambda: minidl.concatenate([a, b]),
        lambda: minidl.stack([a, b]),
        lambda: minidl.where(a > 0, a, b),
    ]
    for operation in operations:
        with pytest.raises(ValueError, match=rf"different devices: .*{devices[0]}.*{devices[1]}.*\.to\(device\)"):
            operation()
    with pytest.raises(ValueError, match=rf"different devices: {devices[0]} and the index {devices[1]}"):
        a[b > 0]


def test_arrays_of_the_other_library_are_not_moved_silently(two_gpus):
    with pytest.raises(TypeError, match=r"numpy.ndarray of shape \(2,\) meets a Tensor on gpu:0: make it a Tensor"):
        Tensor([1.0, 2.0], device="gpu") + np.ones(2)
    with pytest.raises(TypeError, match=r"cupy.ndarray of shape \(2,\) meets a Tensor on cpu"):
        two_gpus.ones(2) * Tensor([1.0, 2.0])


# How exact products are


def test_factors_are_rounded_only_where_that_is_allowed_and_only_on_a_gpu(device):
    """TF32 keeps 10 binary digits after the point: 1 + 2 ** -13 is 1 to it."""
    if device != "cpu" and sys.modules["cupy"] is not standin_cupy:
        pytest.skip("a GPU may round or not")
    a, b = Tensor(np.full((2, 3), 1 + 2**-13, np.float32)), Tensor(np.ones((3, 2), np.float32))
    exact = [[3 * (1 + 2**-13)] * 2] * 2
    assert minidl.get_float32_matmul_precision() == "highest" and (a @ b).numpy().tolist() == exact
    minidl.set_float32_matmul_precision("high")
    assert minidl.get_float32_matmul_precision() == "high"
    assert (a @ b).numpy().tolist() == (exact if device == "cpu" else [[3.0] * 2] * 2)
    images, window = a.reshape(1, 2, 1, 3), b.reshape(1, 1, 3, 2)
    assert F.conv2d(images, window).numpy().reshape(2, 2).tolist() == (exact if device == "cpu" else [[3.0] * 2] * 2)
    double = a.astype("float64") @ b.astype("float64")
    assert double.numpy().tolist() == exact, "float64 is never rounded"
    minidl.set_float32_matmul_precision("highest")
    assert (a @ b).numpy().tolist() == exact


def test_the_precision_may_be_set_before_cupy_is_there_and_holds_for_every_gpu(no_cupy, monkeypatch):
    minidl.set_float32_matmul_precision("high")
    monkeypatch.delitem(sys.modules, "cupy")
    with standin_cupy.install(), standin_cupy.pretend_devices(2):
        for device in ("gpu:0", "gpu:1"):
            a = Tensor(np.full((2, 2), 1 + 2**-13, np.float32), device=device)
            assert (a @ a).numpy().tolist() == [[2.0, 2.0]] * 2
        ours = sys.modules["cupy"].full((2, 2), np.float32(1 + 2**-13), np.float32)
        minidl.set_float32_matmul_precision("highest")
        assert (Tensor(ours) @ Tensor(ours)).numpy()[0, 0] > 2, "also where an array was made by CuPy"
        minidl.set_float32_matmul_precision("high")
        with backend.on_device("gpu") as xp:
            assert xp is sys.modules["cupy"] and float((ours @ ours)[0, 0]) == 2, "and where CuPy's own operations do the work"
    told = []
    another = SimpleNamespace(_core=SimpleNamespace(set_compute_type=lambda *setting: told.append(setting)))
    assert backend._with_precision(another) is another and told == [(np.float32, 7)], (
        "what one CuPy was told, another has not heard"
    )


def test_the_environment_does_not_decide(monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    with standin_cupy.install():
        standin_cupy._core.set_compute_type(np.float32, 7)
        backend._told = None
        a = Tensor(np.full((2, 2), 1 + 2**-13, np.float32), device="gpu")
        assert minidl.get_float32_matmul_precision() == "highest" and (a @ a).numpy()[0, 0] > 2


@pytest.mark.parametrize("wrong", ["medium", "tf32", "HIGH", "", None, True, 1])
def test_unknown_precisions(wrong):
    with pytest.raises(ValueError, match=r'precision must be "highest" or "high", got '):
        minidl.set_float32_matmul_precision(wrong)
    assert minidl.get_float32_matmul_precision() == "highest"


# No GPU


def test_without_cupy_the_error_says_what_to_install(no_cupy):
    for ask in (Tensor([1.0]).to, minidl.set_default_device, backend.generator, lambda name: Tensor([1.0], device=name)):
        with pytest.raises(RuntimeError, match=r"needs CuPy.*pip install \"cupy-cuda12x\[ctk\]\".*minidl\.doctor"):
            ask("gpu")


def test_without_a_driver_the_error_says_so(two_gpus):
    with (
        standin_cupy.pretend_devices(0),
        pytest.raises(
            RuntimeError, match=r"finds no GPU it can use \(.*no CUDA-capable device.*\).*minidl\.doctor. says what to do"
        ),
    ):
        Tensor([1.0], device="gpu")


@pytest.mark.parametrize(
    "kind, module, text, full",
    [
        (MemoryError, "cupy.cuda.memory", "Out of memory allocating 512 bytes (allocated so far: 0 bytes).", True),
        (RuntimeError, "cupy_backends.cuda.api.runtime", "cudaErrorMemoryAllocation: out of memory", True),
        (RuntimeError, "cupy_backends.cuda.api.driver", "CUDA_ERROR_OUT_OF_MEMORY: out of memory", True),
        (RuntimeError, "cupy_backends.cuda.libs.cublas", "CUBLAS_STATUS_ALLOC_FAILED", True),
        (
            RuntimeError,
            "cupy_backends.cuda.api.runtime",
            "cudaErrorIllegalAddress: an illegal memory access was encountered",
            False,
        ),
        (MemoryError, "numpy", "Unable to allocate 1. TiB for an array", False),
        (ValueError, "builtins", "cudaErrorMemoryAllocation", False),
    ],
)
def test_which_errors_say_that_a_gpu_is_full(kind, module, text, full):
    assert backend.is_out_of_memory(type("Error", (kind,), {"__module__": module})(text)) is full


def test_a_gpu_number_too_high(two_gpus):
    with pytest.raises(ValueError, match=r'device "gpu:2": this machine has 2 GPU\(s\), numbered from 0'):
        Tensor([1.0], device="gpu:2")


def test_importing_minidl_imports_no_cupy(monkeypatch):
    class Forbidden(ModuleType):
        def __getattr__(self, name):
            raise AssertionError(f"cupy.{name} was asked for")

    monkeypatch.setitem(sys.modules, "cupy", Forbidden("cupy"))
    (Tensor([1.0], requires_grad=True) * 2).sum().backward()
    assert not backend.is_array(SimpleNamespace())


# Random numbers


def test_manual_seed_repeats_the_numbers(device):
    minidl.manual_seed(1)
    first, second = numbers(device), numbers(device)
    minidl.manual_seed(1)
    assert_array_equal(numbers(device), first)
    assert_array_equal(numbers(device), second)
    assert not np.array_equal(first, second)
    minidl.manual_seed(2)
    assert not np.array_equal(numbers(device), first)


def test_without_a_seed_the_numbers_differ(monkeypatch):
    monkeypatch.setattr(backend, "_seed", None)
    monkeypatch.setattr(backend, "_generators", {})
    first = numbers("cpu")
    backend._generators.clear()
    assert not np.array_equal(numbers("cpu"), first)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None])
def test_a_seed_that_is_none(seed):
    with pytest.raises(ValueError, match="manual_seed: the seed must be an integer of at least 0"):
        minidl.manual_seed(seed)


def test_fixed_random_leaves_the_stream_untouched(device):
    expected = numbers(device), numbers(device)
    minidl.manual_seed(0)
    first = numbers(device)
    with pytest.raises(KeyError), backend.fixed_random(7):
        inside = numbers(device)
        raise KeyError
    with backend.fixed_random(7):
        assert_array_equal(numbers(device), inside)
    assert_array_equal([first, numbers(device)], expected)
    minidl.manual_seed(0)
    with backend.fixed_random(7):
        numbers(device)
    assert_array_equal(numbers(device), first)  # a generator made only after the block starts from the seed before it


def test_each_gpu_has_its_own_generator(two_gpus):
    backend.manual_seed(3)
    first, second = backend.generator("gpu:0"), backend.generator("gpu:1")
    assert first is backend.generator("gpu") and first is not second
    with backend.on_device("gpu:1"):
        assert second.standard_normal(2).device.id == 1


@pytest.mark.parametrize("work", ["layers", "dropout", "batch_norm", "optimiser", "nll_loss", "training", "gradcheck"])
def test_everything_stays_on_the_second_gpu(two_gpus, work):
    with minidl.default_device("gpu:1"):
        minidl.manual_seed(0)
        x = Tensor(np.ones((4, 3), np.float32), requires_grad=True)
        if work == "layers":
            y = nn.Linear(3, 2)(x)
        elif work == "dropout":
            y = F.dropout(x, 0.5)
        elif work == "batch_norm":
            y = nn.BatchNorm(3)(x * Tensor(np.arange(12.0).reshape(4, 3).astype(np.float32)))
        elif work == "optimiser":
            layer = nn.Linear(3, 2)
            for optimizer in (optim.SGD(layer.parameters(), 0.1, momentum=0.9), optim.Adam(layer.parameters())):
                keep = [p.detach() for p in layer.parameters()]  # so that the step has to copy
                (layer(x) ** 2).sum().backward()
                optimizer.step()
                assert {p.device for p in [*layer.parameters(), *keep]} == {"gpu:1"}
            y = layer(x)
        elif work == "nll_loss":
            y = F.nll_loss(F.log_softmax(x), Tensor([0, 1, 2, 0])).reshape(1)
        elif work == "training":
            layer, batches = nn.Linear(3, 2), [(x.detach(), Tensor([0, 1, 1, 0]))]
            training.train_epoch(layer, batches, optim.SGD(layer.parameters(), 0.1))
            training.evaluate(layer, batches)
            y = layer(x)
        else:
            assert minidl.gradcheck(nn.Linear(3, 2), (4, 3))
            y = x * 1
        assert y.device == "gpu:1"
        y.sum().backward()
        assert x.grad.device == "gpu:1"
