"""Tensor: an array that remembers the operation that made it.

An operation is a `Function` (`function.py`). Those behind a Tensor's operators and methods, arithmetic and the moving about of
elements, are in `core/`; everything a network needs beyond that is in `ops/`. `autograd.py` walks back through what was recorded.

Arrays are never changed in place: `Tensor(...)` copies, `.data` is a read-only view, and a new value is assigned
(`w.data = w.data - lr * w.grad.data`). So two Tensors may share memory, and a value that `backward` will need cannot change
unnoticed: assignments are counted, and `backward` refuses to use a value that was replaced after `forward` saw it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import backpropagate, no_grad
from minidl.backend import Array, get_array_module
from minidl.core.arithmetic import Add, Compare, Divide, Exp, Log, Multiply, Negative, Power, Sqrt, Subtract
from minidl.core.conversion import AsType, ToDevice
from minidl.core.indexing import GetItem, as_index
from minidl.core.matmul import matmul
from minidl.core.reduction import Axis, Sum, axes_of, maximum
from minidl.core.shape import Reshape, Transpose
from minidl.dtypes import as_dtype, is_floating
from minidl.function import Function


def wrap(array: Array, requires_grad: bool = False, grad_fn: Function | None = None) -> Tensor:
    """A Tensor around an array that nobody else will change: no copy, no checks. The array becomes read-only."""
    tensor = Tensor.__new__(Tensor)
    tensor._array = _frozen(array)
    tensor._version = 0
    tensor.grad = None
    tensor._requires_grad = requires_grad
    tensor.grad_fn = grad_fn
    return tensor


def _frozen(array: Array) -> Array:
    """`array`, read-only from now on; CuPy has no such thing."""
    if type(array) is np.ndarray:
        array.setflags(False)  # type: ignore[call-arg]  # write=False: twice as fast by position
    return array


# What PyTorch's users look for, and what it is here.
_PYTORCH = {
    "view": "reshape", "permute": "transpose, with all axes", "clone": "Tensor(x)", "cpu": '.to("cpu")', "cuda": '.to("gpu")',
    "zero_": "x.grad = None, or optimizer.zero_grad()", "add_": "an assignment to .data", "float": '.astype("float32")',
    "double": '.astype("float64")', "tolist": ".numpy().tolist()", "requires_grad_": "x.requires_grad = True", "dim": ".ndim",
    "relu": "functional.relu(x)", "squeeze": "reshape", "unsqueeze": "reshape", "numel": ".size",
}  # fmt: skip


class Tensor:
    """An array that can be differentiated.

    data: anything NumPy makes an array of, an array of either library, or a Tensor; always copied. Python floats become
    float32; float arrays keep their dtype; integers and booleans keep theirs.
    requires_grad: whether `backward` should leave the gradient in `.grad`; only floating-point Tensors can.
    device: "cpu", "gpu", "gpu:1"; by default a CuPy array stays where it is and all else goes to the default device.
    """

    __slots__ = ("_array", "_version", "grad", "_requires_grad", "grad_fn", "__weakref__")
    __array_ufunc__ = None  # `array + tensor` is ours to answer, not NumPy's

    _wrap = staticmethod(wrap)  # for Functions, which are below this file

    _array: Array
    _version: int
    grad: Tensor | None
    grad_fn: Function | None

    def __init__(self, data: Any, requires_grad: bool = False, device: str | None = None) -> None:
        self._array = _frozen(_new_array(data, device))
        self._version = 0
        self.grad = None
        self.grad_fn = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    # What it is

    @property
    def data(self) -> Array:
        """The array itself, on its device; read-only, because a change behind the graph's back would falsify gradients.

        Assign to it to give the Tensor a new value of the same shape (it is copied and keeps the Tensor's dtype). CuPy has no
        read-only arrays: on a GPU, not writing into it is up to you.
        """
        if not isinstance(self._array, np.ndarray):
            return self._array
        view = self._array.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, value: Any) -> None:
        array = _new_array(value, self.device)
        if array.shape != self.shape:
            raise ValueError(f"data: cannot assign shape {array.shape} to a Tensor of shape {self.shape}")
        with backend.beside(array):
            self._array = _frozen(array.astype(self.dtype, copy=False))
        self._version += 1

    def _writable(self) -> Array:
        """The array, to be changed in place: for optimisers, which own the parameters while they step.

        Whoever else holds it (a detached Tensor, a view from `.data`) keeps the old values: then this Tensor gets a copy.
        """
        # Two references are this Tensor's own and getrefcount's argument; an array with a base is a view of another's memory.
        if sys.getrefcount(self._array) > 2 or getattr(self._array, "base", None) is not None:
            with backend.beside(self._array):
                self._array = self._array.copy()
        if isinstance(self._array, np.ndarray):
            self._array.flags.writeable = True
        self._version += 1
        return self._array

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not is_floating(self._array.dtype):
            raise TypeError(
                f"requires_grad: only floating-point Tensors have gradients, this one is {self.dtype} of shape {self.shape}; "
                "convert it first, e.g. with .astype('float32')"
            )
        if not value and self.grad_fn is not None:
            raise ValueError(f"requires_grad: this Tensor is the result of {self.grad_fn.name}; use .detach() to cut it off")
        self._requires_grad = bool(value)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def device(self) -> str:
        return backend.device_of(self._array)

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"a Tensor of shape {self.shape} is neither true nor false; reduce it to one element first")
        return bool(self._array)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"a Tensor of {self.dtype} is no index; only integers are")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __getattr__(self, name: str) -> Any:
        remedy = _PYTORCH.get(name)
        raise AttributeError(f"a Tensor has no {name!r}" + (f"; here it is {remedy}" if remedy else ""))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype, copy=False)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=200, edgeitems=3)
        notes = [f"shape={self.shape}", f"dtype={self.dtype}", f"device={self.device}"]
        if self.grad_fn is not None:
            notes.append(f"from={self.grad_fn.name}")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"{type(self).__name__}({values}, {', '.join(notes)})"

    # Out of the graph

    def numpy(self) -> np.ndarray:
        """A copy of the values as a NumPy array, from whichever device."""
        return np.array(backend.to_device(self._array, "cpu"), order="C")

    def item(self) -> float | int | bool:
        """The one element of a Tensor of size 1, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: the Tensor has shape {self.shape}, not one element")
        return self._array.item()

    def detach(self) -> Tensor:
        """The same values with no past: no gradient flows through."""
        return wrap(self._array)

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this Tensor with respect to every leaf it was computed from to that leaf's `.grad`.

        gradient: d(final result)/d(this Tensor), same shape; may be left out when this Tensor has one element.
        retain_graph: keep the graph, so that `backward` can be called again.
        create_graph: record the way back as well, for second derivatives (and keep the graph).
        Raises ValueError if the Tensor has no past, or needs a `gradient` or another shape of it; RuntimeError if its graph was
        freed already.
        """
        if not self.requires_grad:
            raise ValueError(
                f"backward: this Tensor of shape {self.shape} depends on nothing with requires_grad=True "
                "(or was computed under no_grad, or detached)"
            )
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: the gradient of a Tensor of shape {self.shape} is not defined by itself; make it a scalar, e.g. with "
                    ".sum() or .mean(), or pass gradient= of the same shape"
                )
            gradient = ones_like(self)
        else:
            gradient = as_tensor(gradient, self).astype(self.dtype)
        if gradient.shape != self.shape:
            raise ValueError(f"backward: gradient has shape {gradient.shape}, the Tensor {self.shape}")
        backpropagate([self], [gradient], retain_graph=retain_graph, create_graph=create_graph)

    def to(self, device: str) -> Tensor:
        """This Tensor on `device`; gradients flow back to where it came from."""
        device = backend.canonical_device(device)
        return self if device == self.device else ToDevice(device)(self)

    def astype(self, dtype: Any) -> Tensor:
        """This Tensor in another dtype, also "bfloat16"; between floating-point types gradients flow back."""
        dtype = as_dtype(dtype)
        if dtype == self.dtype:
            return self
        if not is_floating(dtype) or not is_floating(self.dtype):
            with backend.beside(self._array):
                return wrap(self._array.astype(dtype))
        return AsType(dtype)(self)

    # Arithmetic, with NumPy's broadcasting. `x += y` makes a new Tensor, x = x + y; for a parameter that would be a trap.

    def __iadd__(self, other: Any) -> Tensor:
        return self._not_in_place() + other

    def __isub__(self, other: Any) -> Tensor:
        return self._not_in_place() - other

    def __imul__(self, other: Any) -> Tensor:
        return self._not_in_place() * other

    def __itruediv__(self, other: Any) -> Tensor:
        return self._not_in_place() / other

    def _not_in_place(self) -> Tensor:
        if self.requires_grad and self.grad_fn is None:
            raise TypeError(
                "a Tensor that requires a gradient cannot be changed in place: `w -= ...` would only give the name w to a new Tensor. "
                "To change its values write w.data = w.data - lr * w.grad.data"
            )
        return self

    def plus(self, other: Tensor) -> Tensor:
        """self + other, of one shape and device, without recording it: for sums of gradients, of which there are many small ones."""
        if type(self._array) is np.ndarray:
            total = self._array + other._array
            return wrap(total if type(total) is np.ndarray else np.asarray(total))  # two arrays without axes make a scalar
        with backend.beside(self._array):
            return wrap(self._array + other._array)

    def __add__(self, other: Any) -> Tensor:
        return _binary(Add, self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _binary(Add, self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _binary(Subtract, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return Subtract()(as_tensor(other, self), self)

    def __mul__(self, other: Any) -> Tensor:
        return _binary(Multiply, self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _binary(Multiply, self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _binary(Divide, self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return Divide()(as_tensor(other, self), self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, as_tensor(other, self))

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(as_tensor(other, self), self)

    def __neg__(self) -> Tensor:
        return Negative()(self)

    def __pow__(self, exponent: float) -> Tensor:
        if not isinstance(exponent, (int, float, np.number)):
            raise TypeError(f"power: the exponent must be a number, got {type(exponent).__name__}; use (b * a.log()).exp()")
        return Power(exponent)(self)

    def __getitem__(self, index: Any) -> Tensor:
        """The elements at `index`, by NumPy's rules. On a GPU indices in an array that are out of bounds wrap around without an error."""
        with backend.beside(self._array):
            return GetItem(as_index(index, self))(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "a Tensor cannot be changed in place: an operation may still need the old values for its gradient. "
            "Use minidl.where to build a new one, or assign a whole new array to .data"
        )

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self._compare("equal", other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return self._compare("not_equal", other)

    def __lt__(self, other: Any) -> Tensor:
        return self._compare("less", other)

    def __le__(self, other: Any) -> Tensor:
        return self._compare("less_equal", other)

    def __gt__(self, other: Any) -> Tensor:
        return self._compare("greater", other)

    def __ge__(self, other: Any) -> Tensor:
        return self._compare("greater_equal", other)

    def _compare(self, name: str, other: Any) -> Tensor:
        with no_grad():
            return Compare(name)(self, as_tensor(other, self))

    # Shape

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one -1 is worked out. `x.reshape(2, -1)` or `x.reshape((2, -1))`."""
        return Reshape(_unpacked(shape))(self)

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order; none given: reversed."""
        return Transpose(_unpacked(axes) or tuple(range(self.ndim))[::-1])(self)

    # Reduction and element by element

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over `axis` (an integer, several, or None for all)."""
        return Sum(axes_of(axis, self), keepdims)(self)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over `axis` (an integer, several, or None for all)."""
        axes = axes_of(axis, self)
        return self.sum(axes, keepdims) / math.prod([self.shape[a] for a in axes])

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The maximum over `axis`; of equal maxima the first takes the whole gradient."""
        return maximum(self, axis, keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The minimum over `axis`; of equal minima the first takes the whole gradient."""
        if not is_floating(self.dtype):  # an unsigned type has no -x
            with backend.beside(self._array):
                return wrap(self._array.min(axis=axes_of(axis, self), keepdims=keepdims))
        return -maximum(-self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """The index of the (first) maximum along `axis`, or in the flattened Tensor; integers, no gradient."""
        with backend.beside(self._array):
            return wrap(self._array.argmax(axis=axis))

    def exp(self) -> Tensor:
        return Exp()(self)

    def log(self) -> Tensor:
        return Log()(self)

    def sqrt(self) -> Tensor:
        return Sqrt()(self)


def _binary(operation: type[Function], a: Tensor, b: Any) -> Tensor:
    return operation()(a, b if isinstance(b, Tensor) else as_tensor(b, a))


def _unpacked(values: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


# Making Tensors


def tensor(data: Any, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """A Tensor of `data`: the same as `Tensor(data, ...)`, for those whose fingers know `torch.tensor`."""
    return Tensor(data, requires_grad, device)


def _new_array(data: Any, device: str | None) -> Array:
    """A fresh array of `data` on `device`; Python floats become float32."""
    if isinstance(data, Tensor):
        data = data._array
    if device is None:
        device = backend.get_default_device() if get_array_module(data) is np else backend.device_of(data)
    made_here = not backend.is_array(data)
    if made_here:
        array = np.array(
            [x.item() if isinstance(x, Tensor) else x for x in data] if isinstance(data, (list, tuple)) else data, order="C"
        )
        if array.dtype == np.float64 and not isinstance(data, np.generic):
            array = array.astype(np.float32)
    else:
        array = np.asarray(data) if isinstance(data, np.ndarray) else data  # a matrix or a memmap becomes a plain array
    if array.dtype.kind not in "iub" and not is_floating(array.dtype):
        raise TypeError(f"a Tensor holds numbers; {type(data).__name__} gives an array of dtype {array.dtype}")
    moved = backend.to_device(array, device)
    if made_here or moved is not array:
        return moved
    with backend.beside(moved):
        return moved.copy()


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """`value` as a Tensor to go with `like`: itself if it is one; a number takes the dtype and device of `like`.

    An array of the other library, or a Tensor on another device, is not moved: the operation will say so.
    """
    if isinstance(value, Tensor):
        return value
    array = like._array
    if isinstance(value, np.generic):
        value = value.item()  # so that float32 * np.int64(2) stays float32, as float32 * 2 does
    if isinstance(value, (int, float)):
        dtype = array.dtype
        if isinstance(value, float) and not is_floating(dtype):
            dtype = np.dtype(np.float64)  # as NumPy has it: integers with a float become float64
        elif dtype.kind == "b" and not isinstance(value, bool):
            dtype = np.dtype(np.int64)
        if isinstance(array, np.ndarray):
            return wrap(np.asarray(value, dtype))
        with backend.on_device(like.device) as xp:
            return wrap(xp.asarray(value, dtype))
    if backend.is_array(value) and get_array_module(value) is not get_array_module(array):
        raise TypeError(
            f"a {type(value).__module__}.ndarray of shape {value.shape} meets a Tensor on {like.device}: "
            "make it a Tensor there first, Tensor(array, device=...)"
        )
    return Tensor(value, device=like.device)


def ones_like(other: Tensor) -> Tensor:
    """Ones with the shape, dtype and device of `other`."""
    with backend.beside(other._array):
        return wrap(get_array_module(other._array).ones_like(other._array))


def grad(outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], create_graph: bool = False) -> Any:
    """The gradient of `outputs` with respect to `inputs`, returned instead of added to `.grad`.

    outputs: a Tensor of one element, or several (their gradients add up); inputs: a Tensor or several.
    Returns a Tensor for a Tensor, a list for several. With `create_graph` the result can be differentiated again; otherwise
    the graph is freed. Raises ValueError for an output that is not a scalar and for an input the outputs do not depend on,
    RuntimeError if the graph was freed already.
    """
    ends = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    starts = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, t in enumerate(ends):
        if t.size != 1:
            raise ValueError(f"grad: outputs[{i}] has shape {t.shape}, not one element; reduce it, e.g. with .sum()")
    results = backpropagate(ends, [ones_like(t) for t in ends], wanted=starts, create_graph=create_graph)
    for i, (t, result) in enumerate(zip(starts, results, strict=True)):
        if result is None:
            why = "it does not require a gradient" if not t.requires_grad else "the outputs do not depend on it"
            raise ValueError(f"grad: no gradient for inputs[{i}] of shape {t.shape}: {why}")
    return results[0] if isinstance(inputs, Tensor) else results
