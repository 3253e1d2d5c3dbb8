"""Convolution, im2col and col2im.

Convolution is linear in the images and in the weights, so three operations close under differentiation: with x the images, w the
weights and g a gradient of the output,

    Conv2d(x, w)            derivatives: InputGradient(g, w), WeightGradient(x, g)
    InputGradient(g, w)     derivatives: Conv2d(., w),        WeightGradient(., g)
    WeightGradient(x, g)    derivatives: InputGradient(g, .), Conv2d(x, .)

and second derivatives need nothing new.
"""

from __future__ import annotations

from minidl.function import Function
from minidl.kernels import convolution
from minidl.kernels import im2col as patches
from minidl.kernels.window import Window
from minidl.ops.arguments import IntOrPair, Padding, check_fit, check_images, check_tensor, padding_pairs, pair, to_go_with
from minidl.ops.bias import EndsInBias
from minidl.tensor import Tensor


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation, as everywhere in the field); `kernels/convolution.py` says how it is computed.

    x: (N, H, W, C_in). weight: (KH, KW, C_in / groups, C_out). bias: (C_out,) or None.
    stride, dilation: an int or (vertical, horizontal). padding: zeros added, an int, (vertical, horizontal) or
    ((top, bottom), (left, right)). groups: input and output channels fall into this many towers that do not see each other
    (the restricted connectivity of Krizhevsky et al. 2012, section 3.5). relu: take max(., 0) of the result in the same pass.
    Returns (N, OH, OW, C_out) with OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1, OW likewise.
    If x is bfloat16, the weight is rounded to it; the gradients of weight and bias keep their own type.
    Raises ValueError for shapes that do not go together, TypeError for integer images or arguments that are no Tensors.

    PyTorch's conv2d has the same arguments but (N, C, H, W) images and (C_out, C_in / groups, KH, KW) weights.
    """
    check_images("conv2d", x)
    check_tensor("conv2d", "weight", weight)
    if weight.ndim != 4:
        raise ValueError(f"conv2d: weight must have 4 axes (KH, KW, C_in / groups, C_out), got shape {weight.shape}")
    kh, kw, c, o = weight.shape
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"conv2d: groups must be an int of at least 1, got {groups!r}")
    if x.shape[3] != c * groups:
        raise ValueError(
            f"conv2d: x of shape {x.shape} has {x.shape[3]} channels, but weight of shape {weight.shape} with groups={groups} "
            f"reads {c} * {groups} = {c * groups}; images are N, H, W, C and weights KH, KW, C_in / groups, C_out"
        )
    if o % groups:
        raise ValueError(f"conv2d: the {o} output channels of weight {weight.shape} do not divide into groups={groups}")
    if bias is not None:
        check_tensor("conv2d", "bias", bias)
        if bias.shape != (o,):
            raise ValueError(f"conv2d: bias must have shape ({o},) to go with weight {weight.shape}, got {bias.shape}")
    window = _window("conv2d", (kh, kw), stride, padding, dilation)
    check_fit("conv2d", window, x)
    weight = to_go_with(x, weight)
    operation = Conv2d(window, groups, relu)
    return operation(x, weight) if bias is None else operation(x, weight, bias)


class Conv2d(EndsInBias):
    def __init__(self, window: Window, groups: int, relu: bool = False) -> None:
        super().__init__(relu)
        self.window, self.groups = window, groups

    def forward(self, x, weight, bias=None):
        return convolution.conv2d(x, weight, bias, self.window, self.groups, self.relu)

    def backward(self, gradient):
        x, weight, *bias = self.inputs
        _, height, width, _ = x.shape
        gradient, *bias_gradient = self.back_through_the_end(gradient, bias)
        return (
            InputGradient(self.window, self.groups, height, width)(gradient, weight) if x.requires_grad else None,
            WeightGradient(self.window, self.groups)(x, gradient) if weight.requires_grad else None,
            *bias_gradient,
        )


class InputGradient(Function):
    """The gradient of Conv2d with respect to its images, also known as transposed convolution."""

    def __init__(self, window: Window, groups: int, height: int, width: int) -> None:
        self.window, self.groups, self.height, self.width = window, groups, height, width

    def forward(self, gradient, weight):
        return convolution.input_gradient(gradient, weight, self.window, self.groups, self.height, self.width)

    def backward(self, gradient):
        dy, weight = self.inputs
        return (
            Conv2d(self.window, self.groups)(gradient, weight) if dy.requires_grad else None,
            WeightGradient(self.window, self.groups)(gradient, dy) if weight.requires_grad else None,
        )


class WeightGradient(Function):
    """The gradient of Conv2d with respect to its weights."""

    def __init__(self, window: Window, groups: int) -> None:
        self.window, self.groups = window, groups

    def forward(self, x, gradient):
        return convolution.weight_gradient(x, gradient, self.window, self.groups)

    def backward(self, gradient):
        x, dy = self.inputs
        _, height, width, _ = x.shape
        return (
            InputGradient(self.window, self.groups, height, width)(dy, gradient) if x.requires_grad else None,
            Conv2d(self.window, self.groups)(x, gradient) if dy.requires_grad else None,
        )


def im2col(x: Tensor, kernel_size: IntOrPair, stride: IntOrPair = 1, padding: Padding = 0, dilation: IntOrPair = 1) -> Tensor:
    """Every window of the images as one row, so that `im2col(x, (KH, KW)) @ weight.reshape(-1, C_out)` is a convolution.

    x: (N, H, W, C). Returns (N, OH, OW, KH * KW * C), the row in the order KH, KW, C; padding reads as 0.
    """
    check_images("im2col", x)
    window = _window("im2col", kernel_size, stride, padding, dilation)
    check_fit("im2col", window, x)
    return Im2col(window)(x)


def col2im(
    cols: Tensor,
    image_size: tuple[int, int],
    kernel_size: IntOrPair,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
) -> Tensor:
    """The transpose of `im2col`: every row is added back to the pixels its window covers.

    cols: (N, OH, OW, KH * KW * C) as im2col returns them from images of `image_size` (H, W). Returns (N, H, W, C).
    """
    check_images("col2im", cols)
    height, width = pair("col2im", "image_size", image_size, 1)
    window = _window("col2im", kernel_size, stride, padding, dilation)
    kh, kw = window.kernel
    if cols.shape[1:3] != window.output_size(height, width) or cols.shape[3] % (kh * kw):
        raise ValueError(
            f"col2im: cols of shape {cols.shape} do not come from images of {height}x{width}: expected "
            f"(N, {', '.join(map(str, window.output_size(height, width)))}, {kh} * {kw} * C)"
        )
    return Col2im(window, height, width)(cols)


class Im2col(Function):
    keeps_inputs = False

    def __init__(self, window: Window) -> None:
        self.window = window

    def forward(self, x):
        return patches.im2col(x, self.window)

    def backward(self, gradient):
        _, height, width, _ = self.inputs[0].shape
        return Col2im(self.window, height, width)(gradient)


class Col2im(Function):
    keeps_inputs = False

    def __init__(self, window: Window, height: int, width: int) -> None:
        self.window, self.height, self.width = window, height, width

    def forward(self, cols):
        return patches.col2im(cols, self.window, self.height, self.width)

    def backward(self, gradient):
        return Im2col(self.window)(gradient)


def _window(operation: str, kernel: IntOrPair, stride: IntOrPair, padding: Padding, dilation: IntOrPair) -> Window:
    return Window(
        pair(operation, "kernel_size", kernel, 1),
        pair(operation, "stride", stride, 1),
        padding_pairs(operation, padding),
        pair(operation, "dilation", dilation, 1),
    )
