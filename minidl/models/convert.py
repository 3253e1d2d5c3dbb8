"""Weights to and from the layout of PyTorch and Caffe.

                       minidl                             PyTorch, Caffe
    convolution        (KH, KW, C_in / groups, C_out)     (C_out, C_in / groups, KH, KW)
    fully connected    (in, out)                          (out, in)
    the first of them  in = H, W, C in this order         in = C, H, W in this order

`model.flattened` says what H, W, C are; the networks of this package have it, others need it set.

Images themselves are N, H, W, C here and N, C, H, W there; and Caffe's first layer expects blue, green, red: turn the channels of
its conv1 with `state["conv1.weight"][:, :, ::-1]` after converting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl.nn import Conv2d, Linear, Module

# The names in torchvision's `alexnet` of the layers of AlexNet("torchvision").
TORCHVISION_NAMES = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}


def to_channels_first(model: Module, names: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """The state of `model` in the layout of PyTorch and Caffe, as NumPy arrays.

    names: their layer name -> ours, e.g. TORCHVISION_NAMES; without it the names stay as they are.
    """
    theirs = {ours: name for name, ours in (names or {}).items()}
    first = _first_linear(model)
    state = {}
    for name, array in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif kind == "weight" and array.ndim == 2:
            if layer == first:
                h, w, c = model.flattened  # type: ignore[attr-defined]
                array = array.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(array.shape)
            array = array.T
        state[_joined(theirs.get(layer, layer), kind)] = np.ascontiguousarray(array)
    return state


def from_channels_first(model: Module, state: Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """`state`, arrays in the layout of PyTorch or Caffe, as a state that `model.load_state_dict` takes.

    PyTorch's tensors are converted by `np.asarray`. names: as in `to_channels_first`. A shape that does not fit is left for
    `load_state_dict` to report, together with all others.
    """
    first = _first_linear(model)
    result = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        layer, array = (names or {}).get(layer, layer), np.asarray(value)
        if kind == "weight" and array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif kind == "weight" and array.ndim == 2:
            array = array.T
            if layer == first:
                h, w, c = model.flattened  # type: ignore[attr-defined]
                if len(array) == h * w * c:
                    array = array.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(array.shape)
        result[_joined(layer, kind)] = np.ascontiguousarray(array)
    return result


def _joined(layer: str, kind: str) -> str:
    """ "fc6" and "weight" -> "fc6.weight"; the parameters of a bare layer have no layer's name before them."""
    return f"{layer}.{kind}" if layer else kind


def _first_linear(model: Module) -> str | None:
    """The name of the layer that reads flattened images, whose inputs need another order; None where there are no images."""
    first = next((name for name, module in model.named_modules() if isinstance(module, Linear)), None)
    if first is None or hasattr(model, "flattened"):
        return first
    if any(isinstance(module, Conv2d) for module in model.modules()):
        raise ValueError(
            f"the inputs of {first} need another order, which depends on what is flattened before it: set model.flattened to that "
            "shape, (H, W, C)"
        )
    return None
