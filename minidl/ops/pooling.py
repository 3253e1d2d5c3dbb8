"""Maximum and average pooling.

The 2012 network pools 3x3 windows two pixels apart, so they overlap (section 3.4), and rounds the number of windows up
(`ceil_mode`). Average pooling is a sum pool, which is linear, times one factor a place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minidl.autograd import is_grad_enabled
from minidl.function import Function
from minidl.kernels import pooling
from minidl.kernels.window import Pair, Window
from minidl.ops.arguments import IntOrPair, Padding, check_fit, check_images, in_float32, padding_pairs, pair
from minidl.tensor import Tensor


def max_pool2d(
    x: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: Padding = 0, ceil_mode: bool = False
) -> Tensor:
    """The maximum of every window; stride defaults to kernel_size.

    x: (N, H, W, C). Padding counts as minus infinity. Of equal maxima the first, row by row, takes the whole gradient;
    a NaN makes the maximum of its windows NaN, and takes their gradient (of several the last, as in PyTorch).
    ceil_mode: a last window may hang over the bottom or right edge (it must begin inside the image or its top or left padding).
    Returns (N, OH, OW, C), OH = (H + top + bottom - KH) / stride + 1 rounded down (or up), OW likewise.
    Raises ValueError for a window that does not fit, or padding of more than half the window (it could see nothing else).
    """
    window = _window("max_pool2d", x, kernel_size, stride, padding, ceil_mode)
    return MaxPool2d(window)(x)


def avg_pool2d(
    x: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of every window; arguments and result as `max_pool2d`, padding counting as 0.

    The sum is divided by the number of pixels in the window. With count_include_pad those in the padding count too, but never
    those beyond it, over which ceil_mode lets a last window hang.
    """
    window = _window("avg_pool2d", x, kernel_size, stride, padding, ceil_mode)
    _, height, width, _ = x.shape
    (top, bottom), (left, right) = padding_pairs("avg_pool2d", padding) if count_include_pad else ((0, 0), (0, 0))
    counts = np.outer(
        _counted(height, window.kernel[0], window.stride[0], window.padding[0], (top, bottom)),
        _counted(width, window.kernel[1], window.stride[1], window.padding[1], (left, right)),
    )
    sums = SumPool2d(window)(in_float32(x))
    return (sums * Tensor((1 / counts)[:, :, None].astype(sums.dtype), device=x.device)).astype(x.dtype)


def sum_pool2d(x: Tensor, window: Window) -> Tensor:
    """The sum over every window of x: (N, H, W, C), padding counting as 0."""
    return SumPool2d(window)(x)


def adaptive_avg_pool2d(x: Tensor, output_size: IntOrPair) -> Tensor:
    """Average pooling to `output_size` (an int or (OH, OW)), whatever the size of x: (N, H, W, C).

    Place i of OH averages the rows floor(i * H / OH) to ceil((i + 1) * H / OH), as in PyTorch; columns likewise. Averaging is
    linear, so it is two products with matrices of weights, one along each axis. Where x has that size already the result is x.
    """
    check_images("adaptive_avg_pool2d", x)
    rows, columns = pair("adaptive_avg_pool2d", "output_size", output_size, 1)
    n, height, width, c = x.shape
    if not height or not width:
        raise ValueError(f"adaptive_avg_pool2d: x of shape {x.shape} has no pixels")
    if (rows, columns) == (height, width):
        return x  # each place has one pixel: so it is in AlexNet, with images of the size that it was made for
    images = in_float32(x)
    down = Tensor(_averages(height, rows).astype(images.dtype), device=x.device)
    along = Tensor(_averages(width, columns).astype(images.dtype), device=x.device)
    return (along @ (down @ images.reshape(n, height, width * c)).reshape(n, rows, width, c)).astype(x.dtype)


def _averages(size: int, places: int) -> np.ndarray:
    """(places, size): row i holds the weights with which place i averages."""
    weights = np.zeros((places, size))
    for i in range(places):
        first, last = i * size // places, -(-(i + 1) * size // places)
        weights[i, first:last] = 1 / (last - first)
    return weights


def _counted(size: int, kernel: int, stride: int, padding: Pair, counted_padding: Pair) -> np.ndarray:
    """For every window along one axis: how many of its pixels lie in the image or in the padding that counts."""
    before, after = padding
    starts = np.arange((size + before + after - kernel) // stride + 1) * stride - before
    return np.minimum(starts + kernel, size + counted_padding[1]) - np.maximum(starts, -counted_padding[0])


def pooling_window(operation: str, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding) -> Window:
    """The window that the arguments describe. Raises ValueError for what is wrong with them whatever the images are."""
    kernel = pair(operation, "kernel_size", kernel_size, 1)
    strides = kernel if stride is None else pair(operation, "stride", stride, 1)
    window = Window(kernel, strides, padding_pairs(operation, padding))
    for (before, after), size in zip(window.padding, kernel, strict=True):
        if max(before, after) > size / 2:
            raise ValueError(
                f"{operation}: padding {padding!r} is more than half of kernel_size {kernel}, so that a window could see only padding"
            )
    return window


def _window(
    operation: str, x: Tensor, kernel_size: IntOrPair, stride: IntOrPair | None, padding: Padding, ceil_mode: bool
) -> Window:
    check_images(operation, x)
    window = pooling_window(operation, kernel_size, stride, padding)
    check_fit(operation, window, x)
    if ceil_mode:
        sizes = (x.shape[1], x.shape[2])
        vertical, horizontal = (
            _overhang(*each) for each in zip(sizes, window.kernel, window.stride, window.padding, strict=True)
        )
        window = replace(window, padding=(vertical, horizontal))
    return window


def _overhang(size: int, kernel: int, stride: int, padding: Pair) -> Pair:
    """`padding`, with so many more pixels at the end that the last window is whole."""
    before, after = padding
    places = -(-(size + before + after - kernel) // stride) + 1
    if (places - 1) * stride >= size + before:  # the last window would begin outside
        places -= 1
    return before, max(after, (places - 1) * stride + kernel - size - before)


class MaxPool2d(Function):
    keeps_inputs = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def forward(self, x):
        if not is_grad_enabled():
            return pooling.max_pool_values(x, self.window)
        y, self.position = pooling.max_pool(x, self.window)
        return y

    def backward(self, gradient):
        return MaxPool2dBackward(self.window, self.position, self.inputs[0].shape)(gradient)


class MaxPool2dBackward(Function):
    """Each gradient to the pixel that was the maximum; the transpose of MaxPool2dGather."""

    keeps_inputs = False

    def __init__(self, window: Window, position, shape: tuple[int, ...]) -> None:
        self.window, self.position, self.shape = window, position, shape

    def forward(self, gradient):
        return pooling.max_pool_backward(gradient, self.position, self.window, self.shape[1], self.shape[2])

    def backward(self, gradient):
        return MaxPool2dGather(self.window, self.position)(gradient)


class MaxPool2dGather(Function):
    """From every window the pixel at the recorded position."""

    keeps_inputs = False

    def __init__(self, window: Window, position) -> None:
        self.window, self.position = window, position

    def forward(self, x):
        return pooling.max_pool_gather(x, self.position, self.window)

    def backward(self, gradient):
        return MaxPool2dBackward(self.window, self.position, self.inputs[0].shape)(gradient)


class SumPool2d(Function):
    keeps_inputs = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def forward(self, x):
        return pooling.sum_pool(x, self.window)

    def backward(self, gradient):
        return SumPool2dBackward(self.window, self.inputs[0].shape)(gradient)


class SumPool2dBackward(Function):
    keeps_inputs = False

    def __init__(self, window: Window, shape: tuple[int, ...]) -> None:
        self.window, self.shape = window, shape

    def forward(self, gradient):
        return pooling.sum_pool_backward(gradient, self.window, self.shape[1], self.shape[2])

    def backward(self, gradient):
        return SumPool2d(self.window)(gradient)
