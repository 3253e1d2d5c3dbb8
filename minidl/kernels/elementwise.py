"""ReLU and biases: work element by element that is worth spreading over the cores, and worth doing in one pass."""

from __future__ import annotations

import numpy as np

from minidl.backend import Array, get_array_module
from minidl.dtypes import computed_in, is_bfloat16, rounded
from minidl.kernels import cuda, parallel


def relu(x: Array) -> Array:
    """max(x, 0); a NaN stays one."""
    xp = get_array_module(x)
    y = xp.empty(x.shape, x.dtype)
    if cuda.ready("elementwise", x):
        cuda.launch("elementwise", "relu", _flat(x, y), [x.size], (x.size,))
        return y
    if is_bfloat16(x.dtype):
        return rounded(relu, x)
    source, target = x.reshape(-1), y.reshape(-1)
    parallel.for_each(lambda piece: xp.maximum(source[piece], 0, out=target[piece]), parallel.some_slices(x, x.size, xp), xp)
    return y


def relu_backward(y: Array, gradient: Array) -> Array:
    """`gradient` where the output `y` is positive, else 0 (with NumPy, 0 times it: of an infinite gradient NaN)."""
    xp = get_array_module(y)
    dx = xp.empty(y.shape, gradient.dtype)
    if cuda.ready("elementwise", y, gradient):
        cuda.launch("elementwise", "relu_backward", _flat(y, gradient, dx), [y.size], (y.size,))
        return dx
    if is_bfloat16(gradient.dtype):
        return rounded(relu_backward, y, gradient)
    output, source, target = y.reshape(-1), gradient.reshape(-1), dx.reshape(-1)
    parallel.for_each(lambda p: xp.multiply(source[p], output[p] > 0, out=target[p]), parallel.some_slices(y, y.size, xp), xp)
    return dx


def add_bias(x: Array, bias: Array, then_relu: bool = False) -> Array:
    """x: (..., C), bias: (C,). Returns their sum; that of bfloat16 and a bias with all digits of float32 is bfloat16."""
    if is_bfloat16(x.dtype) or is_bfloat16(bias.dtype):
        bias = bias.astype(computed_in(x.dtype), copy=False)
    if cuda.ready("elementwise", x) and bias.dtype == computed_in(x.dtype):
        y = get_array_module(x).empty(x.shape, x.dtype)
        over = cuda.pixels(x.shape)
        cuda.launch("elementwise", "add_bias", [*cuda.contiguous(x, bias), y], [*over, int(then_relu)], over)
        return y
    if is_bfloat16(x.dtype):
        return rounded(add_bias, x, bias, then_relu)
    y = x + bias
    return relu(y) if then_relu else y


def finish(y: np.ndarray, bias: np.ndarray | None, then_relu: bool) -> None:
    """Add the bias and take max(y, 0), in place and where asked for, while a piece of a layer's output is in the cache."""
    if bias is not None:
        y += bias
    if then_relu:
        np.maximum(y, 0, out=y)


def _flat(*arrays: Array) -> list[Array]:
    return [a.reshape(-1) for a in cuda.contiguous(*arrays)]
