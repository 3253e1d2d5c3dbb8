"""ReLU and biases: work element by element that is worth spreading over the cores, and worth doing in one pass."""

from __future__ import annotations

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


def finish(y: Array, bias: Array | None, then_relu: bool) -> None:
    """The end of a layer: y <- y + bias, then max(y, 0), in place and each only where asked for.

    y: (..., C), contiguous; bias: (C,) or None, of any type. bfloat16 is computed in float32 and rounded once.
    """
    assert y.flags.c_contiguous, "what is in pieces of memory cannot be changed through a reshape"
    if not y.size or (bias is None and not then_relu):
        return
    xp, wide = get_array_module(y), computed_in(y.dtype)
    bias = bias if bias is None else bias.astype(wide, copy=False)
    if cuda.ready("elementwise", y):
        if bias is None:
            cuda.launch("elementwise", "relu", 2 * [y.reshape(-1)], [y.size], (y.size,))
        else:
            over = cuda.pixels(y.shape)
            cuda.launch("elementwise", "finish", [y, *cuda.contiguous(bias)], [*over, int(then_relu)], over)
        return
    if is_bfloat16(y.dtype):
        sums = y.astype(wide)
        finish(sums, bias, then_relu)
        y[...] = sums.astype(y.dtype)
        return
    rows = y.reshape(-1, y.shape[-1])

    def work(piece: slice) -> None:
        part = rows[piece]
        if bias is not None:
            part += bias
        if then_relu:
            xp.maximum(part, 0, out=part)

    parallel.for_each(work, parallel.some_slices(y, len(rows), xp), xp)


def _flat(*arrays: Array) -> list[Array]:
    return [a.reshape(-1) for a in cuda.contiguous(*arrays)]
