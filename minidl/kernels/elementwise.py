"""Element-by-element work that is worth spreading over the cores."""

from __future__ import annotations

from math import prod

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
    parallel.for_each(lambda piece: xp.maximum(source[piece], 0, out=target[piece]), _pieces(source), xp)
    return y


def relu_backward(y: Array, gradient: Array) -> Array:
    """`gradient` where the output `y` is positive, else 0."""
    xp = get_array_module(y)
    dx = xp.empty(y.shape, gradient.dtype)
    if cuda.ready("elementwise", y, gradient):
        cuda.launch("elementwise", "relu_backward", _flat(y, gradient, dx), [y.size], (y.size,))
        return dx
    if is_bfloat16(gradient.dtype):
        return rounded(relu_backward, y, gradient)
    output, source, target = y.reshape(-1), gradient.reshape(-1), dx.reshape(-1)
    parallel.for_each(lambda p: xp.multiply(source[p], output[p] > 0, out=target[p]), _pieces(output), xp)
    return dx


def add_bias(x: Array, bias: Array) -> Array:
    """x: (..., C), bias: (C,). Returns their sum; that of bfloat16 and a bias with all digits of float32 is bfloat16."""
    if is_bfloat16(x.dtype) or is_bfloat16(bias.dtype):
        bias = bias.astype(computed_in(x.dtype), copy=False)
    if cuda.ready("elementwise", x) and bias.dtype == computed_in(x.dtype):
        y = get_array_module(x).empty(x.shape, x.dtype)
        rows, channels = prod(x.shape[:-1]), x.shape[-1]
        cuda.launch("elementwise", "add_bias", [*cuda.contiguous(x, bias), y], [rows, channels], (rows, 1, channels))
        return y
    return rounded(add_bias, x, bias) if is_bfloat16(x.dtype) else x + bias


def _flat(*arrays: Array) -> list[Array]:
    return [a.reshape(-1) for a in cuda.contiguous(*arrays)]


def _pieces(x: Array) -> list[slice]:
    # Below a few chunks waking the pool costs more than it saves.
    return [slice(None)] if x.nbytes < parallel.CHUNK_BYTES else parallel.slices(x.size, x.itemsize, get_array_module(x))
