"""The functions of the stand-in that are more than NumPy's behind `apply`: ufuncs, array creation, views by strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import bfloat16, cuda, rules
from .device_array import apply, check_operand, crossed, index, ndarray


class ufunc:
    """A universal function with the few arguments and methods that CuPy's have."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._numpy = getattr(np, name)
        self.nin, self.nout, self.nargs = self._numpy.nin, self._numpy.nout, self._numpy.nargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wrong = set(kwargs) - (rules.MATMUL_ARGUMENTS if self.__name__ == "matmul" else rules.UFUNC_ARGUMENTS)
        if wrong:
            raise TypeError(f"cupy.{self.__name__}: Wrong arguments {sorted(wrong)}")
        return apply(f"cupy.{self.__name__}", self._numpy, *args, **{"order": "C", **kwargs})

    def __getattr__(self, method: str) -> Any:
        if method not in rules.UFUNC_METHODS:
            raise AttributeError(f"cupy.{self.__name__} has no attribute {method!r} (or not here)")
        if self.__name__ not in rules.UFUNC_METHODS[method]:
            raise NotImplementedError(f"`cupy_{self.__name__}.{method}` is not supported yet")
        return lambda *args, **kwargs: apply(f"ufunc.{method}", getattr(self._numpy, method), *args, **kwargs)

    def at(self, a: ndarray, indices: Any, b: Any) -> None:
        if self.__name__ not in rules.UFUNC_AT:
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet")
        check_operand("ufunc.at", a, (ndarray,))
        check_operand("ufunc.at", b)
        if a.dtype.char not in rules.UFUNC_AT[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at does not support {a.dtype}")
        key, _ = index(indices)
        apply("ufunc.at", lambda inside, values: self._numpy.at(inside, key, values), a, b)


def array(
    obj: Any, dtype: Any = None, copy: bool | None = True, order: Any = "K", *, ndmin: int = 0, blocking: bool = False
) -> Any:
    """A device array from anything: host data is copied to the device and counted, device arrays stay there."""
    if isinstance(obj, ndarray):
        copy = True if obj.device != cuda.Device() else copy
        inside = np.array(obj._array, dtype, copy=copy, order=order or "K", ndmin=ndmin)
        return obj if inside is obj._array else ndarray._of(inside)
    if isinstance(obj, (list, tuple)) and obj and all(isinstance(item, ndarray) for item in obj):
        return apply("cupy.stack", np.stack, obj, dtype=dtype)
    host = np.asarray(obj, dtype)
    order = ("F" if host.flags.fnc else "C") if order in ("K", "A", None) else order
    host = np.array(host, order=order, ndmin=ndmin)
    crossed(to_device=host.ndim > 0)  # a single number travels with the kernel that fills it in
    return ndarray._of(host)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: Any = False) -> Any:
    return array(a, dtype, copy, order)


def ascontiguousarray(a: ndarray, dtype: Any = None) -> Any:
    check_operand("cupy.ascontiguousarray", a, (ndarray,))
    return apply("cupy.ascontiguousarray", lambda inside: np.asarray(inside, dtype, order="C"), a)  # 0-d stays 0-d


def empty(*args: Any, **kwargs: Any) -> Any:
    return _spoilt(apply("cupy.empty", np.empty, *args, **kwargs))


def empty_like(*args: Any, **kwargs: Any) -> Any:
    return _spoilt(apply("cupy.empty_like", np.empty_like, *args, **kwargs))


def _spoilt(fresh: ndarray) -> ndarray:
    """Full of NaN, or of the largest number: what is never written shall show."""
    kind = "f" if bfloat16.is_it(fresh._array) else fresh.dtype.kind
    fresh._array.fill({"f": np.nan, "c": np.nan, "b": True}.get(kind, np.array(-1).astype(fresh.dtype)))
    return fresh


def asnumpy(a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True) -> Any:
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    if out is None:
        return np.asarray(a, order=order)
    out[...] = a
    return out


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> Any:
    check_operand("cupy.lib.stride_tricks.as_strided", x, (ndarray,))
    return apply("as_strided", np.lib.stride_tricks.as_strided, x, shape, strides)


def sliding_window_view(x: ndarray, window_shape: Any, axis: Any = None) -> Any:
    """CuPy 14 copies the window's shape to the device and reads it back number by number: counted here too."""
    check_operand("cupy.lib.stride_tricks.sliding_window_view", x, (ndarray,))
    crossed(to_device=1, to_host=np.size(window_shape))
    return apply("sliding_window_view", np.lib.stride_tricks.sliding_window_view, x, window_shape, axis)
