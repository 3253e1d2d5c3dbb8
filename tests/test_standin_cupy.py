"""The stand-in for CuPy refuses what CuPy refuses, counts what crosses to the host, and else computes like NumPy."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
import standin_cupy as cp
from numpy.testing import assert_array_equal


@pytest.fixture
def host() -> np.ndarray[Any, Any]:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def x(host: np.ndarray[Any, Any]) -> Any:
    return cp.asarray(host)


def test_numpy_cannot_touch_a_device_array(x: Any, host: np.ndarray[Any, Any]) -> None:
    assert not isinstance(x, np.ndarray) and type(x).__module__ == "cupy"
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        np.asarray(x)
    with pytest.raises(TypeError, match="Implicit conversion"):
        host[...] = x
    with pytest.raises(TypeError, match=r"numpy\.exp"):
        np.exp(x)
    with pytest.raises(TypeError, match=r"numpy\.add\.reduce"):
        np.add.reduce(x)
    with pytest.raises(TypeError, match=r"numpy\.concatenate"):
        np.concatenate([x, x])


def test_numpy_arrays_do_not_mix_with_device_arrays(x: Any, host: np.ndarray[Any, Any]) -> None:
    rows = np.array([0, 1])
    mix: Any
    for mix in [
        lambda: x + host,
        lambda: host * x,
        lambda: x < host,
        lambda: x @ host.T,
        lambda: x.__iadd__(host),
        lambda: cp.maximum(x, host),
        lambda: cp.concatenate([x, host]),
        lambda: cp.add(x, x, out=host),
        lambda: cp.sum(host),
        lambda: x.take(rows),
        lambda: x[rows],
        lambda: x.__setitem__(0, host[0]),
    ]:
        with pytest.raises(TypeError, match="Unsupported type <class 'numpy.ndarray'>"):
            mix()


def test_lists_and_other_objects_are_no_operands(x: Any) -> None:
    call: Any
    for call in [lambda: x + [1.0], lambda: cp.exp([1.0]), lambda: cp.sum([1.0]), lambda: cp.stack([1.0, 2.0])]:
        with pytest.raises(TypeError, match="Unsupported type"):
            call()


def test_scalars_of_python_and_numpy_are_operands(x: Any, host: np.ndarray[Any, Any]) -> None:
    assert_array_equal((2 - x).get(), 2 - host)
    assert_array_equal((np.float32(2) * x).get(), np.float32(2) * host)
    assert_array_equal((np.float32(2) < x).get(), np.float32(2) < host)
    assert (np.float64(2) * x).dtype == (np.float64(2) * host).dtype


def test_a_class_that_opts_out_of_ufuncs_gets_its_reflected_operator(x: Any) -> None:
    class Tensor:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "reflected"

    assert x + Tensor() == "reflected"


@pytest.mark.parametrize("name", ["block", "insert", "errstate", "nditer", "nanquantile", "spacing", "float128"])
def test_what_cupy_lacks_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(cp, name)


def test_arguments_that_cupy_lacks_are_refused(x: Any) -> None:
    call: Any
    for call in [
        lambda: cp.max(x, initial=0),
        lambda: x.sum(where=x > 1),
        lambda: cp.add(x, 1, where=x > 1),
        lambda: cp.zeros(3, device="cpu"),
        lambda: cp.einsum("ij->i", x, out=cp.zeros(2, x.dtype)),
        lambda: cp.take(x, cp.asarray([0]), mode="clip"),
        lambda: cp.clip(x, min=0, max=1),
        lambda: cp.lib.stride_tricks.as_strided(x, writeable=False),
        lambda: x.astype(cp.float64, casting="safe"),
        lambda: x.reshape(x.sum()),
    ]:
        with pytest.raises(TypeError):
            call()


def test_ufunc_methods_are_the_few_that_cupy_has(x: Any, host: np.ndarray[Any, Any]) -> None:
    assert_array_equal(cp.add.reduce(x).get(), np.add.reduce(host))
    with pytest.raises(NotImplementedError, match=r"maximum\.reduce"):
        cp.maximum.reduce(x)
    cp.add.at(x, cp.asarray([0, 0]), 1)
    np.add.at(host, [0, 0], 1)
    assert_array_equal(x.get(), host)
    with pytest.raises(NotImplementedError, match=r"multiply\.at"):
        cp.multiply.at(x, cp.asarray([0]), 2)
    with pytest.raises(TypeError, match="int16"):
        cp.add.at(x.astype(cp.int16), cp.asarray([0]), 1)


def test_repeated_indices_with_different_values_are_refused(x: Any) -> None:
    x[cp.asarray([0, 0])] = 7
    with pytest.raises(ValueError, match="repeat"):
        x[cp.asarray([0, 0]), 0] = cp.asarray([1, 2], dtype=cp.float32)


def test_results_have_cupys_forms(x: Any, host: np.ndarray[Any, Any]) -> None:
    for scalar in (x.sum(), x[0, 0], cp.array_equal(x, x), cp.exp(1.0), cp.random.default_rng(0).random()):
        assert isinstance(scalar, cp.ndarray) and scalar.shape == ()
    assert (x.T + 1).flags.c_contiguous and not (host.T + 1).flags.c_contiguous
    out = cp.empty_like(x)
    assert cp.exp(x, out=out) is out and cp.asarray(x) is x
    x[0][...] = 9  # a view, as is x.reshape(-1)
    x.reshape(-1)[5] = 9
    assert_array_equal(x.get(), [[9, 9, 9], [3, 4, 9]])


def test_device_memory_is_apart_from_host_memory(x: Any, host: np.ndarray[Any, Any]) -> None:
    host += 1
    x.get()[...] = -1
    assert_array_equal(x.get(), host - 1)


def test_transfers_are_counted(x: Any, host: np.ndarray[Any, Any]) -> None:
    with cp.count_transfers() as count:
        y = cp.matmul(x, x.T) + cp.ones((2, 2), cp.float32) * 2
        y[cp.argmax(y, axis=1)] = 0
        assert x.shape == (2, 3) and len(x) == 2
    assert (count.to_device, count.to_host) == (0, 0)
    read: Any
    for read in [float, int, bool, str, cp.ndarray.item, cp.ndarray.tolist, cp.ndarray.get, cp.asnumpy]:
        with cp.count_transfers() as count:
            read(x[0, 1])
        assert (count.to_device, count.to_host) == (0, 1), read
    with cp.count_transfers() as count:
        cp.asarray(host), cp.array([1.0, 2.0]), x[[0, 1]], cp.asarray(3.0), cp.asarray(x), cp.array([x, x])
    assert (count.to_device, count.to_host) == (3, 0)


def test_functions_that_wait_for_the_device_are_counted(x: Any) -> None:
    labels, window = cp.asarray([1, 2, 2]), cp.lib.stride_tricks.sliding_window_view
    call: Any
    for call, reads in [
        (lambda: x[x > 2], 1),
        (lambda: cp.nonzero(x), 1),
        (lambda: cp.where(x > 2), 1),
        (lambda: cp.where(x > 2, x, 0), 0),
        (lambda: cp.bincount(labels), 1),
        (lambda: cp.unique(x), 1),
        (lambda: window(x, (1, 2)), 2),
        (lambda: cp.lib.stride_tricks.as_strided(x, (2, 2), (12, 4)), 0),
    ]:
        with cp.count_transfers() as count:
            call()
        assert count.to_host == reads


def test_the_generator_has_cupys_methods() -> None:
    rng = cp.random.default_rng(7)
    assert rng.random((2, 3), dtype=cp.float32).dtype == cp.float32
    assert rng.uniform(-1, 1, 3, dtype=cp.float32).dtype == cp.float32
    assert rng.standard_normal(3, dtype=cp.float32).shape == (3,)
    assert int(rng.integers(5, 6)) == 5
    for name in ("normal", "choice", "permutation", "shuffle"):
        with pytest.raises(AttributeError, match=name):
            getattr(rng, name)


def test_two_devices(x: Any) -> None:
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="invalid device"), cp.cuda.Device(1):
        pass
    with cp.pretend_devices(2):
        rng = cp.random.default_rng(0)
        with cp.cuda.Device(1):
            y = cp.zeros((2, 3), cp.float32)
            assert y.device.id == 1 and cp.asarray(x).device.id == 1
            with pytest.raises(RuntimeError, match="different device"):
                rng.random()
        assert y.T.device.id == 1 and x.device.id == 0
        with pytest.raises(ValueError, match="different from the current device"):
            x + y
        assert_array_equal((x + y.copy()).get(), x.get())


def test_no_device() -> None:
    with cp.pretend_devices(0):
        assert not cp.is_available()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="no CUDA-capable device"):
            cp.cuda.runtime.getDeviceCount()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
            cp.zeros(3)


def test_memory_pool_counts_buffers_that_are_alive() -> None:
    pool = cp.get_default_memory_pool()
    before = pool.used_bytes()
    buffer = cp.zeros((10, 10), cp.float32)
    view = buffer[2:].T
    assert pool.used_bytes() == before + 400
    del buffer
    assert pool.used_bytes() == before + 400
    del view
    assert pool.used_bytes() == before


def test_install_lets_import_find_it(x: Any) -> None:
    before = sys.modules.get("cupy")
    with cp.install():
        cupy = importlib.import_module("cupy")
        assert cupy is cp and cupy.get_array_module(x) is cupy and cupy.get_array_module(np.ones(1)) is np
        assert importlib.import_module("cupy.cuda").Device is cp.cuda.Device
        assert importlib.import_module("cupy.lib.stride_tricks").as_strided is cp.lib.stride_tricks.as_strided
        cupy.cuda.Stream.null.synchronize()
    assert sys.modules.get("cupy") is before


def test_what_is_full_of_anything_on_a_gpu_is_full_of_nan_here() -> None:
    assert np.isnan(cp.empty((2, 3), cp.float32).get()).all() and np.isnan(cp.empty_like(cp.zeros(3)).get()).all()
    assert (cp.empty(3, cp.uint8).get() == 255).all() and (cp.empty(3, cp.int64).get() == -1).all()
