"""The layers: each an operation of `functional` with its configuration and, where it has any, its parameters.

Shapes, errors and sources stand at the functions of the same name in `functional`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

import minidl.functional as F
from minidl.nn import init
from minidl.nn.module import Buffer, Module, Parameter
from minidl.ops.activation import check_axis
from minidl.ops.arguments import IntOrPair, Padding, pair
from minidl.ops.dropout import check_probability
from minidl.ops.loss import check_reduction, check_smoothing
from minidl.ops.normalization import check_batch_constants, check_response_constants
from minidl.ops.pooling import pooling_window
from minidl.tensor import Tensor


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _count(layer: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{layer}: {name} must be an int of at least 1, got {value!r}")
    return int(value)


class Conv2d(Module):
    """Convolution of N, H, W, C images; weight (KH, KW, in_channels / groups, out_channels), bias (out_channels,)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        groups = _count("Conv2d", "groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if _count("Conv2d", name, channels) % groups:
                raise ValueError(f"Conv2d: {name}={channels} does not divide into groups={groups}")
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = Parameter(_zeros(*self.kernel_size, in_channels // groups, out_channels))
        self.bias = Parameter(_zeros(out_channels)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def then_relu(self, x: Tensor) -> Tensor:
        """max(., 0) of what `forward` returns, in the same pass: for `Sequential`."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, relu=True)

    def multiply_accumulates(self, output_shape: tuple[int, ...]) -> int:
        return prod(output_shape[:-1]) * self.weight.size

    def extra_repr(self) -> str:
        _, _, c, o = self.weight.shape
        parts = [f"{c * self.groups}, {o}, kernel_size={self.kernel_size}"]
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        parts += [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        return ", ".join(parts if self.bias is not None else [*parts, "bias=False"])


class Linear(Module):
    """x @ weight + bias; weight (in_features, out_features), bias (out_features,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        in_features, out_features = _count("Linear", "in_features", in_features), _count("Linear", "out_features", out_features)
        self.weight = Parameter(_zeros(in_features, out_features))
        self.bias = Parameter(_zeros(out_features)) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def then_relu(self, x: Tensor) -> Tensor:
        """max(., 0) of what `forward` returns, in the same pass: for `Sequential`."""
        return F.linear(x, self.weight, self.bias, relu=True)

    def multiply_accumulates(self, output_shape: tuple[int, ...]) -> int:
        return prod(output_shape[:-1]) * self.weight.size

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}" + ("" if self.bias is not None else ", bias=False")


class BatchNorm(Module):
    """Batch normalisation of the last axis, for (N, C) and (N, H, W, C) alike (PyTorch's BatchNorm1d and BatchNorm2d)."""

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        channels = _count("BatchNorm", "channels", channels)
        check_batch_constants("BatchNorm", momentum, eps)
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = Parameter(_zeros(channels) + 1), Parameter(_zeros(channels))
        self.running_mean, self.running_var = Buffer(_zeros(channels)), Buffer(_zeros(channels) + 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, momentum={self.momentum}, eps={self.eps}"


class _Configured(Module):
    """A layer without parameters: its configuration is its attributes."""

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if name != "training")


class MaxPool2d(_Configured):
    """The maximum of every window; stride defaults to kernel_size."""

    def __init__(
        self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: Padding = 0, ceil_mode: bool = False
    ) -> None:
        pooling_window("MaxPool2d", kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class AvgPool2d(_Configured):
    """The mean of every window; stride defaults to kernel_size."""

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        pooling_window("AvgPool2d", kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AdaptiveAvgPool2d(_Configured):
    """Average pooling to a given size."""

    def __init__(self, output_size: IntOrPair) -> None:
        pair("AdaptiveAvgPool2d", "output_size", output_size, 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)


class LocalResponseNorm(_Configured):
    """Response normalisation across channels; `alpha` multiplies the sum, as in the paper (PyTorch's is `size` times ours)."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, groups: int = 1) -> None:
        check_response_constants("LocalResponseNorm", size, alpha, k)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.groups = _count("LocalResponseNorm", "groups", groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k, self.groups)


class LocalResponseNormWithin(_Configured):
    """Response normalisation within each map, over size x size pixels."""

    def __init__(self, size: int = 5, alpha: float = 1e-3 / 25, beta: float = 0.75, k: float = 1.0) -> None:
        check_response_constants("LocalResponseNormWithin", size, alpha, k)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm_within(x, self.size, self.alpha, self.beta, self.k)


class Dropout(_Configured):
    """Dropout in training mode; inverted=False scales at test time, as the paper does."""

    def __init__(self, p: float = 0.5, inverted: bool = True) -> None:
        check_probability("Dropout", p)
        self.p, self.inverted = p, inverted

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training, self.inverted)


class ReLU(_Configured):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Tanh(_Configured):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Sigmoid(_Configured):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Softmax(_Configured):
    """exp(x) / sum of exp(x) along an axis."""

    def __init__(self, axis: int = -1) -> None:
        check_axis("Softmax", axis)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.axis)


class LogSoftmax(_Configured):
    """The logarithm of softmax along an axis."""

    def __init__(self, axis: int = -1) -> None:
        check_axis("LogSoftmax", axis)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(x, self.axis)


class Flatten(_Configured):
    """(N, H, W, C) -> (N, H * W * C)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.flatten(x)


class CrossEntropyLoss(_Configured):
    """Softmax cross-entropy of logits (N, K) and integer labels (N,)."""

    def __init__(self, label_smoothing: float = 0.0, reduction: str = "mean") -> None:
        check_smoothing("CrossEntropyLoss", label_smoothing)
        check_reduction("CrossEntropyLoss", reduction)
        self.label_smoothing, self.reduction = label_smoothing, reduction

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return F.cross_entropy(logits, labels, self.label_smoothing, self.reduction)


class NLLLoss(_Configured):
    """Minus the log-probability of the right class."""

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction("NLLLoss", reduction)
        self.reduction = reduction

    def forward(self, log_probabilities: Tensor, labels: Any) -> Tensor:
        return F.nll_loss(log_probabilities, labels, self.reduction)


class MSELoss(_Configured):
    """The squared difference of two Tensors of one shape."""

    def __init__(self, reduction: str = "mean") -> None:
        check_reduction("MSELoss", reduction)
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Any) -> Tensor:
        return F.mse_loss(prediction, target, self.reduction)
