"""The stand-in's arrays, the one way from them to NumPy and back (`apply`), and the count of what crosses."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import bfloat16, cuda, rules

SCALARS = (bool, int, float, complex, np.bool_, np.number)
_alive: weakref.WeakValueDictionary[int, ndarray] = weakref.WeakValueDictionary()

# How many copies went to the device and how many came back; reading one number counts as one.
transfers = SimpleNamespace(to_device=0, to_host=0)
_counts = [transfers]


@contextmanager
def count_transfers() -> Iterator[SimpleNamespace]:
    """Count the transfers inside the block: `.to_device` and `.to_host`."""
    count = SimpleNamespace(to_device=0, to_host=0)
    _counts.append(count)
    try:
        yield count
    finally:
        _counts[:] = [other for other in _counts if other is not count]


def crossed(to_device: int = 0, to_host: int = 0) -> None:
    for count in _counts:
        count.to_device += to_device
        count.to_host += to_host


def used_bytes() -> int:
    """The bytes under all device arrays alive, views of one buffer counted once."""
    buffers = {}
    for array in list(_alive.values()):
        buffer: Any = array._array
        while getattr(buffer, "base", None) is not None:
            buffer = buffer.base
        buffers[id(buffer)] = buffer.nbytes
    return sum(buffers.values())


def apply(label: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Check the arguments by CuPy's rules, call a NumPy function on the arrays inside, wrap what comes back."""
    name = label.rpartition(".")[2]
    _check_arguments(label, name, args, kwargs)
    operands: list[ndarray] = []
    inside, named = _unwrap(args, label, operands), {key: _unwrap(v, label, operands) for key, v in kwargs.items()}
    if len(operands) > rules.ARRAYS_AT_MOST.get(name, len(operands)):
        raise TypeError(f"{label}: 'ndarray' object cannot be interpreted as an integer; int(...) waits for the device")
    if name not in rules.ANY_DEVICE:
        for operand in operands:
            operand._check_device()
    function = bfloat16.as_cupy_has_it(name, function, inside)
    result = function(*inside, **named)
    by_counts = (name == "where" and len(args) == 1) or (name in ("average", "repeat") and len(operands) > 1)
    crossed(to_host=name in rules.SYNCHRONISE or by_counts)
    return result if name in rules.HOST_RESULTS else _wrap(result, name, operands)


def _unwrap(value: Any, label: str, operands: list[ndarray]) -> Any:
    if isinstance(value, ndarray):
        operands.append(value)
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"{label}: Unsupported type {type(value)}; cupy.asarray copies it to the device")
    return type(value)(_unwrap(v, label, operands) for v in value) if type(value) in (list, tuple) else value


def _wrap(value: Any, name: str, operands: list[ndarray]) -> Any:
    if isinstance(value, (list, tuple)):
        wrapped = [_wrap(v, name, operands) for v in value]
        return wrapped if isinstance(value, list) else tuple(wrapped)
    if not isinstance(value, (np.ndarray, *SCALARS)):
        return value
    for operand in operands:
        if value is operand._array:
            return operand
    value = np.asarray(value)
    is_view = any(np.may_share_memory(value, operand._array) for operand in operands)
    if not is_view and name not in rules.KEEP_LAYOUT:
        value = np.asarray(value, order="C")
    return ndarray._of(value, operands[0].device if is_view else None)


def _check_arguments(label: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    refused = [key for key in kwargs if {name, label} & rules.REFUSED.get(key, set())]
    if refused:
        raise TypeError(f"{label} takes no argument {refused} in CuPy")
    if len(args) + len(kwargs) < rules.ARGUMENTS_AT_LEAST.get(label, 0):
        raise TypeError(f"{label} needs {rules.ARGUMENTS_AT_LEAST[label]} arguments in CuPy")
    if name in rules.ARRAY_FIRST and args:
        sequence = name in rules.SEQUENCE_FIRST and isinstance(args[0], (list, tuple))
        for value in args[0] if sequence else args[:1]:
            check_operand(label, value, (ndarray,))
    if name in rules.NO_LISTS:
        for value in args:
            check_operand(label, value)


def check_operand(label: str, value: Any, kinds: tuple[type, ...] = ()) -> None:
    """An operand is a device array or a number; a list or a NumPy array is neither."""
    if not isinstance(value, kinds or (ndarray, *SCALARS)):
        raise TypeError(f"{label}: Unsupported type {type(value)}")


def index(key: Any) -> tuple[tuple[Any, ...], bool]:
    """The key for the NumPy array inside, and whether it indexes with arrays (a copy) or makes a view."""
    parts, by_arrays = [], False
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, ndarray):
            part._check_device()
            crossed(to_host=part.dtype == bool)  # CuPy reads back how many are True
            part, by_arrays = part._array, True
        elif isinstance(part, list):
            crossed(to_device=1)
            part, by_arrays = np.array(part, None if part else np.intp), True
        elif isinstance(part, slice):
            part = slice(*(None if place is None else int(place) for place in (part.start, part.stop, part.step)))
        elif isinstance(part, (float, np.floating, str)):
            part = int(part)  # CuPy does that to whatever is a scalar
        elif isinstance(part, bool) or not (part is None or isinstance(part, (type(...), int, np.integer))):
            # CuPy does take a NumPy array here, and copies it to the device each time.
            raise TypeError(f"Unsupported type {type(part)} for an index of a device array")
        parts.append(part)
    if not by_arrays and Ellipsis not in parts:
        parts.append(Ellipsis)  # NumPy then makes a 0-d view, as CuPy does, and no scalar
    return tuple(parts), by_arrays


class ndarray:
    """A device array. It is no subclass of `numpy.ndarray`, and NumPy may not touch it."""

    __module__ = "cupy"  # as CuPy's own class says
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, *, order: Any = "C") -> None:
        self._hold(np.empty(shape, dtype, order))

    @classmethod
    def _of(cls, array: np.ndarray[Any, Any], device: cuda.Device | None = None) -> ndarray:
        self = object.__new__(cls)
        self._hold(array, device)
        return self

    def _hold(self, array: np.ndarray[Any, Any], device: cuda.Device | None = None) -> None:
        if array.dtype.char not in rules.DTYPES and not bfloat16.is_it(array):
            raise ValueError(f"Unsupported dtype {array.dtype}")
        self._array, self.device = array, cuda.Device(device)
        _alive[id(self)] = self
        for hook in cuda.MemoryHook.active:
            hook.malloc_postprocess(
                device_id=self.device.id, size=array.nbytes, mem_size=array.nbytes, mem_ptr=array.ctypes.data, pmem_id=id(array)
            )

    def _check_device(self) -> None:
        current = cuda.Device()
        if self.device != current:
            raise ValueError(
                f"The device where the array resides ({self.device.id}) is different from the current device "
                f"({current.id}). Peer access is unavailable between these devices."
            )

    def __getattr__(self, name: str) -> Any:
        if name in rules.ATTRIBUTES:
            return getattr(self._array, name)
        if name in rules.METHODS:
            return functools.partial(apply, f"cupy.ndarray.{name}", getattr(np.ndarray, name), self)
        raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r} (or the stand-in does not offer it)")

    @property
    def T(self) -> Any:
        return self.transpose()

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self._array.ctypes.data)

    @property
    def flags(self) -> SimpleNamespace:
        names = ("c_contiguous", "f_contiguous", "owndata", "fnc", "forc")  # CuPy has no `writeable`
        return SimpleNamespace(**{name: getattr(self._array.flags, name) for name in names})

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        with self.device:
            return self.copy()

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True) -> Any:
        crossed(to_host=1)
        if out is None:
            return np.array(self._array, order=order)
        if out.shape != self.shape or out.dtype != self.dtype:
            raise ValueError(f"get: out is {out.dtype} {out.shape}, the array is {self.dtype} {self.shape}")
        out[...] = self._array
        return out

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def fill(self, value: Any) -> None:
        if isinstance(value, ndarray) and value.ndim:
            raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
        self[...] = value

    def __getitem__(self, key: Any) -> ndarray:
        parts, by_arrays = index(key)
        if not by_arrays:
            return ndarray._of(self._array[parts], self.device)
        self._check_device()
        return ndarray._of(np.asarray(self._array[parts], order="C"))

    def __setitem__(self, key: Any, value: Any) -> None:
        check_operand("cupy.ndarray.__setitem__", value)
        parts, by_arrays = index(key)
        self._check_device()
        if isinstance(value, ndarray):
            value._check_device()
            value = value._array
        self._array[parts] = value
        if by_arrays:
            stored = self._array[parts]
            given = np.empty_like(stored)
            given[...] = value
            if not np.array_equal(stored, given, equal_nan=given.dtype.kind in "fcV"):
                raise ValueError("indices repeat with different values: a GPU may store any of them")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name, first = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}", inputs[0]
        from_scalar = isinstance(first, np.generic) or (isinstance(first, np.ndarray) and name in _COMPARISONS.values())
        if from_scalar and not kwargs and first.ndim == 0 and name in _OPERATORS.values():
            return _operate(name, first[()], inputs[1])  # np.float32(2) * x: CuPy takes NumPy's scalars
        mixed = [type(value) for value in inputs if isinstance(value, np.ndarray)]
        problem = f"Unsupported type {mixed[0]} beside a device array" if mixed else "called on a device array"
        raise TypeError(f"numpy.{name}: {problem}; use xp = get_array_module(x) and xp.{name}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        raise TypeError(f"numpy.{name}: called on a device array; use xp = get_array_module(x) and xp.{name}")


# The operators, ufunc by ufunc. There is no `@=`: CuPy has none.
_COMPARISONS = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal"}
_COMPARISONS |= {"gt": "greater", "ge": "greater_equal"}
_IN_PLACE = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}
_IN_PLACE |= {"floordiv": "floor_divide", "mod": "remainder"}
_IN_PLACE |= {"pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
_IN_PLACE |= {"lshift": "left_shift", "rshift": "right_shift"}
_OPERATORS = {**_COMPARISONS, **_IN_PLACE, "matmul": "matmul", "divmod": "divmod"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _operate(name: str, *operands: Any, **kwargs: Any) -> Any:
    return apply(f"cupy.{name}", getattr(np, name), *operands, order="C", **kwargs)


def _binary(name: str, reflected: bool = False) -> Any:
    def operate(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, np.ndarray, *SCALARS)):
            # CuPy's rule: give way to a type that opts out of ufuncs, or has none and ranks itself higher.
            protocol = getattr(other, "__array_ufunc__", self)
            if protocol is None or (protocol is self and getattr(other, "__array_priority__", 0) > 100):
                return NotImplemented
        return _operate(name, other, self) if reflected else _operate(name, self, other)

    return operate


for _symbol, _name in _OPERATORS.items():
    setattr(ndarray, f"__{_symbol}__", _binary(_name))
    if _symbol not in _COMPARISONS:
        setattr(ndarray, f"__r{_symbol}__", _binary(_name, reflected=True))
for _symbol, _name in _IN_PLACE.items():
    setattr(ndarray, f"__i{_symbol}__", lambda self, other, name=_name: _operate(name, self, other, out=self))
for _symbol, _name in _UNARY.items():
    setattr(ndarray, f"__{_symbol}__", lambda self, name=_name: _operate(name, self))
for _convert in (int, float, complex, bool, repr, str, format):  # each of these waits for the device
    setattr(ndarray, f"__{_convert.__name__}__", lambda self, *spec, to=_convert: to(self.get(), *spec))
