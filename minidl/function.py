"""One operation in the graph: it computes on arrays, remembers its inputs, and carries a gradient back to them.

`forward` computes on plain arrays; `backward` works with Tensors, and therefore can itself be differentiated. Every operation, in
`core/` or in `ops/`, is a `Function`. The class Tensor is above them, in `tensor.py`, because its operators are such operations.
Here a Tensor is whatever has `_array`, `grad_fn` (the Function that made it, None for a leaf), `_requires_grad`, `_version` (how
often it was given another value) and `_wrap(array, requires_grad, grad_fn)`, which makes the Tensor of a result.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl import backend
from minidl.autograd import recording
from minidl.backend import Array

if TYPE_CHECKING:
    from minidl.tensor import Tensor

_clock = itertools.count()


class Function:
    """One operation in the graph. A subclass writes `forward` (arrays to array) and `backward` (Tensor to Tensors).

    `backward(gradient)` returns one gradient for each input, in their order, or None for an input that needs none; a single
    input's gradient may be returned bare. It finds its inputs in `self.inputs` and may use whatever `forward` stored on `self`.
    An operation is used once: make a new object for each call.
    """

    inputs: tuple[Tensor, ...] = None  # type: ignore[assignment]  # None: not recorded yet, or freed
    _number: int  # operations are numbered as they are recorded
    _versions: int  # of the inputs, added up, when they were recorded
    output_array: Array
    keeps_inputs = True  # False: backward needs only the shapes of its inputs, so their memory is let go
    keeps_output = False  # True: backward uses self.output

    @property
    def name(self) -> str:
        return type(self).__name__

    def forward(self, *arrays: Array) -> Array:
        raise NotImplementedError(f"{self.name} must define forward(*arrays)")

    def backward(self, gradient: Tensor) -> Tensor | tuple[Tensor | None, ...] | None:
        raise NotImplementedError(f"{self.name} must define backward(gradient)")

    def __call__(self, *inputs: Tensor) -> Tensor:
        try:
            arrays = [t._array for t in inputs]
            if type(arrays[0]) is np.ndarray:  # `beside` would do nothing, in a tenth of a small operation's time
                array = self.forward(*arrays)
            else:
                with backend.beside(arrays[0]):
                    array = self.forward(*arrays)
        except Exception as error:
            self._explain(error, inputs)
            raise
        if type(array) is not np.ndarray and not backend.is_array(array):
            array = self._as_array(array)
        if recording.on:
            for t in inputs:
                if t._requires_grad:
                    return self._record(inputs, array)
        return inputs[0]._wrap(array)

    def _as_array(self, result: Any) -> np.ndarray:
        """A NumPy scalar, such as a sum over everything, as an array. Raises TypeError for anything else that is no array."""
        if isinstance(result, np.generic):
            return np.asarray(result)
        raise TypeError(f"{self.name}.forward must return an array, got {type(result).__name__}")

    def _record(self, inputs: tuple[Tensor, ...], array: Array) -> Tensor:
        if self.inputs is not None:
            raise RuntimeError(f"{self.name}: an operation keeps what its backward needs, so it is used once; make one a call")
        self._number = next(_clock)
        self.inputs = inputs if self.keeps_inputs else tuple([_husk(t) for t in inputs])
        # A version only ever grows, so the sum stays the same only while none of them changes.
        self._versions = _versions(inputs)
        output = inputs[0]._wrap(array, True, self)
        if self.keeps_output:
            self.output_array = output._array
        return output

    @property
    def output(self) -> Tensor:
        """The result of `forward`, as part of the graph (and without a reference cycle)."""
        if not self.keeps_output:
            raise RuntimeError(
                f"{self.name}: the output was not kept; write keeps_output = True into the class, for its backward needs it"
            )
        return self.inputs[0]._wrap(self.output_array, True, self)

    def input_gradients(self, gradient: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(input, its gradient) for every input that asks for one."""
        if _versions(self.inputs) != self._versions:
            shapes = ", ".join(str(t.shape) for t in self.inputs)
            raise RuntimeError(
                f"{self.name}: an input (shapes {shapes}) was given a new value after this operation had used it, so its gradient "
                "would be wrong. Call backward before changing values, or compute the result again."
            )
        if type(gradient._array) is np.ndarray:
            gradients = self.backward(gradient)
        else:
            with backend.beside(gradient._array):
                gradients = self.backward(gradient)
        if not isinstance(gradients, tuple):
            gradients = (gradients,)
        if len(gradients) != len(self.inputs):
            raise RuntimeError(f"{self.name}.backward returned {len(gradients)} gradients for {len(self.inputs)} inputs")
        found = []
        for tensor, g in zip(self.inputs, gradients, strict=True):
            if g is None or not tensor._requires_grad:
                continue
            array = tensor._array
            if not hasattr(g, "_wrap") or g._array.shape != array.shape:  # `is_tensor`, without the time of a call
                what = f"shape {g.shape}" if is_tensor(g) else f"{type(g).__name__}, which is no Tensor,"
                raise RuntimeError(f"{self.name}.backward returned {what} for an input of shape {array.shape}")
            found.append((tensor, g if g._array.dtype is array.dtype else g.astype(array.dtype)))
        return found

    def release(self) -> None:
        """Let go of everything the operation kept: inputs, saved arrays."""
        self.__dict__.clear()

    def _explain(self, error: Exception, inputs: tuple[Tensor, ...]) -> None:
        """Raise the error of `forward` again with the operation and its inputs in the message; return where there is nothing to add."""
        if not inputs or not all(map(is_tensor, inputs)):
            kinds = ", ".join(type(t).__name__ for t in inputs) or "nothing"
            raise TypeError(
                f"{self.name}: an operation is called with Tensors, got {kinds}; wrap arrays with Tensor(...)"
            ) from error
        if any(type(t._array) is _Hollow for t in inputs):  # which NumPy and CuPy refused, as an object that they do not know
            raise AttributeError(f"{self.name}: {_LET_GO}") from error
        what = ", ".join(f"{t.shape} {t.dtype} on {t.device}" for t in inputs)
        if len({t.device for t in inputs}) > 1:
            raise ValueError(f"{self.name}: inputs on different devices: {what}. Move them together with .to(device).") from error
        for kind in (ValueError, IndexError, TypeError):  # not type(error): its constructor may want other arguments
            if isinstance(error, kind):
                raise kind(f"{self.name} of {what}: {error}") from error


def is_tensor(value: Any) -> bool:
    """Whether `value` is a Tensor, known by what only a Tensor has."""
    return hasattr(value, "_wrap")


def _versions(tensors: tuple[Tensor, ...]) -> int:
    total = 0
    for t in tensors:
        total += t._version
    return total


_LET_GO = (
    "only shape and dtype are left of this input, because its operation has keeps_inputs = False; "
    "leave that out where backward needs the values"
)


class _Hollow:
    """In place of an array: its shape and dtype without its memory. Whoever reaches for the values gets an error."""

    __slots__ = ("dtype", "shape")

    def __init__(self, array: Array) -> None:
        self.shape, self.dtype = array.shape, array.dtype

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: {_LET_GO}")


def _husk(tensor: Tensor) -> Tensor:
    """`tensor` without its values: its place in the graph, shape and dtype stay, the memory goes."""
    if tensor.grad_fn is None and tensor.requires_grad:
        return tensor  # a leaf must stay itself: its .grad is what backward is for
    husk = tensor._wrap(_Hollow(tensor._array), tensor.requires_grad, tensor.grad_fn)
    husk._version = tensor._version
    return husk
