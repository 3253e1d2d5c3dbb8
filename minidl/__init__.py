"""minidl: a small framework for learning deep learning, from one array to AlexNet.

    import minidl
    import minidl.functional as F
    from minidl import nn, optim

`README.md` shows the first steps, and an order in which to read the files.
"""

from minidl import data, functional, models, nn, optim
from minidl.autograd import is_grad_enabled, no_grad
from minidl.backend import (
    default_device,
    get_default_device,
    get_float32_matmul_precision,
    manual_seed,
    set_default_device,
    set_float32_matmul_precision,
)
from minidl.function import Function
from minidl.gradcheck import gradcheck
from minidl.ops.array import concatenate, pad, stack, where
from minidl.tensor import Tensor, grad, tensor

__version__ = "0.1.0"

__all__ = [
    "Function",
    "Tensor",
    "concatenate",
    "data",
    "default_device",
    "functional",
    "get_default_device",
    "get_float32_matmul_precision",
    "grad",
    "gradcheck",
    "is_grad_enabled",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "optim",
    "pad",
    "set_default_device",
    "set_float32_matmul_precision",
    "stack",
    "tensor",
    "where",
]
