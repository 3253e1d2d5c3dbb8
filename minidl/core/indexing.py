"""Taking elements out of a Tensor by index, and the transpose of that: putting them back among zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minidl import backend
from minidl.backend import get_array_module
from minidl.function import Function, is_tensor

if TYPE_CHECKING:
    from minidl.tensor import Tensor


def as_index(index: Any, x: Tensor) -> Any:
    """An index as the array of `x` wants it: Tensors, lists and NumPy arrays become arrays of its library.

    Lists and arrays are copied, because backward will need them as they are now.
    """
    if isinstance(index, tuple):
        # Inside an index, a tuple or a range is a list of places, as for NumPy.
        return tuple(as_index(list(i) if isinstance(i, (tuple, range)) else i, x) for i in index)
    if is_tensor(index):
        if index.device != x.device:
            raise ValueError(f"GetItem: inputs on different devices: {x.device} and the index {index.device}. Use .to(device).")
        return index._array
    if isinstance(index, (list, np.ndarray)):
        array = np.array(index)
        if isinstance(index, list) and not array.size:
            array = array.astype(int)  # an empty list is an array of floats to NumPy
        return get_array_module(x._array).asarray(array)
    return index.copy() if backend.is_array(index) else index


class GetItem(Function):
    keeps_inputs = False

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, x):
        _check(self.index)
        return x[self.index]

    def backward(self, gradient):
        return PutItem(self.index, self.inputs[0].shape)(gradient)


class PutItem(Function):
    """Zeros, with the input added at `index`: the transpose of GetItem. An element that was taken twice receives twice."""

    keeps_inputs = False

    def __init__(self, index: Any, shape: tuple[int, ...]) -> None:
        self.index, self.shape = index, shape

    def forward(self, x):
        xp = get_array_module(x)
        zeros = xp.zeros(self.shape, x.dtype)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(backend.is_array(part) and part.dtype.kind != "b" for part in parts):
            xp.add.at(zeros, self.index, x)
        else:
            zeros[self.index] = x  # slices, integers and masks take no element twice
        return zeros

    def backward(self, gradient):
        return GetItem(self.index)(gradient)


def _check(index: Any) -> None:
    """Refuse what NumPy refuses: CuPy makes an integer of anything that can be one, 0 of 0.5."""
    for part in index if isinstance(index, tuple) else (index,):
        for place in (part.start, part.stop, part.step) if isinstance(part, slice) else (part,):
            known = place is None or place is Ellipsis or isinstance(place, np.bool_) or backend.is_array(place)
            if not known and not hasattr(place, "__index__"):
                raise IndexError(f"{place!r} is no index: use integers, slices, ..., None, and arrays of integers or bools")
