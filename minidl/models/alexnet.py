"""The four networks that are called AlexNet, each as a table that can be read aloud.

- "paper": what the text of Krizhevsky, Sutskever and Hinton, NIPS 2012, says.
- "program": what the program that won ILSVRC-2012 did (its layers-145.cfg and layer-params-145.cfg).
- "caffe": the BVLC reference AlexNet.
- "torchvision": the single tower of Krizhevsky 2014, "One weird trick", as torchvision has it.

`towers=2` is a grouped convolution: in 2012 each tower had its own GPU, and conv2, conv4, conv5 saw only the maps on theirs. A row's
`std` and `bias` are its initial values: weights from N(0, std), biases constant; None for the framework's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from minidl import nn
from minidl.nn import init


@dataclass(frozen=True)
class Conv:
    """filters, kernel x kernel; padding="end" adds what makes the last window whole, at the bottom and the right."""

    filters: int
    kernel: int
    stride: int = 1
    padding: int | str = 0
    towers: int = 1
    std: float | None = None
    bias: float | None = None


@dataclass(frozen=True)
class FullyConnected:
    """units=None: one for each class."""

    units: int | None = None
    std: float | None = None
    bias: float | None = None


@dataclass(frozen=True)
class Norm:
    """Response normalisation across channels; alpha multiplies the plain sum. towers=2: the window stays inside a tower."""

    alpha: float
    k: float
    towers: int = 1


@dataclass(frozen=True)
class NormWithin:
    """Response normalisation within each map, over 5 x 5 pixels."""

    alpha: float
    k: float


@dataclass(frozen=True)
class Pool:
    """Overlapping maximum pooling, 3 x 3 with stride 2; ceil: sizes are rounded up, as in the 2012 program and in Caffe."""

    ceil: bool = True


@dataclass(frozen=True)
class AveragePool:
    """To size x size, whatever comes in."""

    size: int


@dataclass(frozen=True)
class Drop:
    """Dropout with probability 0.5; inverted=False: the outputs are halved at test time, as in the paper."""

    inverted: bool


RELU = nn.ReLU
Row = Conv | FullyConnected | Norm | NormWithin | Pool | AveragePool | Drop | type[nn.ReLU]


@dataclass(frozen=True)
class Variant:
    """image_size: what the network was made for. rows: name -> layer, in order."""

    image_size: int
    rows: dict[str, Row]


PAPER = Variant(224, {
    "conv1": Conv(96, 11, stride=4, padding="end", std=0.01, bias=0),
    "relu1": RELU,
    "norm1": Norm(alpha=1e-4, k=2),
    "pool1": Pool(),
    "conv2": Conv(256, 5, padding=2, towers=2, std=0.01, bias=1),
    "relu2": RELU,
    "norm2": Norm(alpha=1e-4, k=2),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1, std=0.01, bias=0),
    "relu3": RELU,
    "conv4": Conv(384, 3, padding=1, towers=2, std=0.01, bias=1),
    "relu4": RELU,
    "conv5": Conv(256, 3, padding=1, towers=2, std=0.01, bias=1),
    "relu5": RELU,
    "pool5": Pool(),
    "fc6": FullyConnected(4096, std=0.01, bias=1),
    "relu6": RELU,
    "drop6": Drop(inverted=False),
    "fc7": FullyConnected(4096, std=0.01, bias=1),
    "relu7": RELU,
    "drop7": Drop(inverted=False),
    "fc8": FullyConnected(std=0.01, bias=0),
})  # fmt: skip

PROGRAM = Variant(224, {
    "conv1": Conv(96, 11, stride=4, padding="end", std=0.01, bias=0),
    "norm1": Norm(alpha=1e-4 / 5, k=2, towers=2),
    "pool1": Pool(),
    "relu1": RELU,
    "conv2": Conv(256, 5, padding=2, towers=2, std=0.01, bias=1),
    "relu2": RELU,
    "norm2": Norm(alpha=1e-4 / 5, k=2, towers=2),
    "within2": NormWithin(alpha=1e-3 / 25, k=1),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1, std=0.03, bias=0),
    "relu3": RELU,
    "conv4": Conv(384, 3, padding=1, towers=2, std=0.03, bias=1),
    "relu4": RELU,
    "conv5": Conv(256, 3, padding=1, towers=2, std=0.03, bias=1),
    "relu5": RELU,
    "pool5": Pool(),
    "fc6": FullyConnected(4096, std=0.01, bias=1),
    "relu6": RELU,
    "drop6": Drop(inverted=False),
    "fc7": FullyConnected(4096, std=0.01, bias=1),
    "relu7": RELU,
    "drop7": Drop(inverted=False),
    "fc8": FullyConnected(std=0.01, bias=0),
})  # fmt: skip

CAFFE = Variant(227, {
    "conv1": Conv(96, 11, stride=4, std=0.01, bias=0),
    "relu1": RELU,
    "norm1": Norm(alpha=1e-4 / 5, k=1),
    "pool1": Pool(),
    "conv2": Conv(256, 5, padding=2, towers=2, std=0.01, bias=0.1),
    "relu2": RELU,
    "norm2": Norm(alpha=1e-4 / 5, k=1),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1, std=0.01, bias=0),
    "relu3": RELU,
    "conv4": Conv(384, 3, padding=1, towers=2, std=0.01, bias=0.1),
    "relu4": RELU,
    "conv5": Conv(256, 3, padding=1, towers=2, std=0.01, bias=0.1),
    "relu5": RELU,
    "pool5": Pool(),
    "fc6": FullyConnected(4096, std=0.005, bias=0.1),
    "relu6": RELU,
    "drop6": Drop(inverted=True),
    "fc7": FullyConnected(4096, std=0.005, bias=0.1),
    "relu7": RELU,
    "drop7": Drop(inverted=True),
    "fc8": FullyConnected(std=0.01, bias=0),
})  # fmt: skip

TORCHVISION = Variant(224, {
    "conv1": Conv(64, 11, stride=4, padding=2),
    "relu1": RELU,
    "pool1": Pool(ceil=False),
    "conv2": Conv(192, 5, padding=2),
    "relu2": RELU,
    "pool2": Pool(ceil=False),
    "conv3": Conv(384, 3, padding=1),
    "relu3": RELU,
    "conv4": Conv(256, 3, padding=1),
    "relu4": RELU,
    "conv5": Conv(256, 3, padding=1),
    "relu5": RELU,
    "pool5": Pool(ceil=False),
    "average": AveragePool(6),
    "drop6": Drop(inverted=True),
    "fc6": FullyConnected(4096),
    "relu6": RELU,
    "drop7": Drop(inverted=True),
    "fc7": FullyConnected(4096),
    "relu7": RELU,
    "fc8": FullyConnected(),
})  # fmt: skip

VARIANTS = {"paper": PAPER, "program": PROGRAM, "caffe": CAFFE, "torchvision": TORCHVISION}
SMALLEST = 63


class AlexNet(nn.Sequential):
    """AlexNet for N, H, W, 3 images; returns logits (N, num_classes).

    variant: "paper", "program", "caffe" or "torchvision". width: factor on the channels of every hidden layer (rounded to an even
    number, so that two towers share them). image_size: height and width of the images, at least 63; None: the variant's own (224,
    and 227 for Caffe). The layers have the names of the table above: `model["conv1"]`, `model[:"relu7"]`.
    Raises ValueError for another variant or a size or width too small. Initial values follow `minidl.manual_seed`.
    """

    def __init__(
        self, variant: str = "paper", num_classes: int = 1000, width: float = 1.0, image_size: int | None = None
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"AlexNet: variant must be one of {', '.join(VARIANTS)}; got {variant!r}")
        image_size = VARIANTS[variant].image_size if image_size is None else image_size
        if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < SMALLEST:
            raise ValueError(f"AlexNet: image_size must be an int of at least {SMALLEST} pixels, got {image_size!r}")
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"AlexNet: num_classes must be an int of at least 1, got {num_classes!r}")
        if not 0 < width <= 16:
            raise ValueError(f"AlexNet: width is a factor on the channels, such as 0.25 or 1.0; got {width!r}")
        self.variant, self.num_classes, self.width, self.image_size = variant, num_classes, width, image_size
        size, channels, layers = image_size, 3, {}
        flat = None  # after flattening: the number of features
        for name, row in VARIANTS[variant].rows.items():
            if isinstance(row, Conv):
                filters = _scaled(row.filters, width)
                layers[name], size = _convolution(row, channels, filters, size)
                channels = filters
            elif isinstance(row, FullyConnected):
                if flat is None:
                    self.flattened = (size, size, channels)
                    layers["flatten"], flat = nn.Flatten(), size * size * channels
                units = num_classes if row.units is None else _scaled(row.units, width)
                layers[name], flat = _initialised(nn.Linear(flat, units), row), units
            else:
                layers[name], size = _plain(row, size)
        super().__init__(layers)

    def extra_repr(self) -> str:
        return f"{self.variant!r}, {self.num_classes}, width={self.width}, image_size={self.image_size}"


def _scaled(channels: int, width: float) -> int:
    return max(2, 2 * round(channels * width / 2))


def _convolution(row: Conv, channels: int, filters: int, size: int) -> tuple[nn.Module, int]:
    # "end": ceil((size - kernel) / stride) + 1 windows, as the 2012 program counts; 224 pixels get 3 more, 227 none.
    padding: Any = row.padding
    before = after = padding
    if row.padding == "end":
        before, after = 0, (row.kernel - size) % row.stride
        padding = ((before, after), (before, after))
    layer = nn.Conv2d(channels, filters, row.kernel, row.stride, padding, groups=row.towers)
    return _initialised(layer, row), (size + before + after - row.kernel) // row.stride + 1


def _initialised(layer: Any, row: Conv | FullyConnected) -> nn.Module:
    if row.std is not None:
        init.normal_(layer.weight, std=row.std)
    if row.bias is not None:
        init.constant_(layer.bias, row.bias)
    return layer


def _plain(row: Any, size: int) -> tuple[nn.Module, int]:
    """A layer without weights, and the size of the image behind it."""
    if isinstance(row, Pool):
        return nn.MaxPool2d(3, 2, ceil_mode=row.ceil), (ceil if row.ceil else int)((size - 3) / 2) + 1
    if isinstance(row, AveragePool):
        return nn.AdaptiveAvgPool2d(row.size), row.size
    if isinstance(row, Norm):
        return nn.LocalResponseNorm(5, row.alpha, 0.75, float(row.k), row.towers), size
    if isinstance(row, NormWithin):
        return nn.LocalResponseNormWithin(5, row.alpha, 0.75, float(row.k)), size
    if isinstance(row, Drop):
        return nn.Dropout(0.5, row.inverted), size
    return row(), size
