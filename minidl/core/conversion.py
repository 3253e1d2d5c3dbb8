"""From one dtype to another, and from one device to another; gradients come back the same way."""

from __future__ import annotations

import numpy as np

from minidl import backend
from minidl.function import Function


class AsType(Function):
    keeps_inputs = False

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def forward(self, x):
        return x.astype(self.dtype)

    def backward(self, gradient):
        return gradient.astype(self.inputs[0].dtype)


class ToDevice(Function):
    def __init__(self, device: str) -> None:
        self.device = device

    def forward(self, x):
        return backend.to_device(x, self.device)

    def backward(self, gradient):
        return gradient.to(self.inputs[0].device)
