"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, section II.B), as it is usually rebuilt."""

from __future__ import annotations

from minidl import nn


class LeNet5(nn.Sequential):
    """LeNet-5 for N, 28, 28, 1 digits (padded to the original's 32 x 32) or N, 32, 32, C images; returns logits (N, num_classes).

    Layers and sizes are those of 1998: 5 x 5 convolutions with 6 and 16 maps, 2 x 2 averages, 120 and 84 units, tanh. Simpler than
    the original in three places: the averages have no weights of their own, every map of conv2 sees all six of conv1, and the
    output is a softmax layer instead of distances to drawn characters.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        if image_size not in (28, 32):
            raise ValueError(f"LeNet5: image_size must be 28 (padded to 32) or 32, got {image_size!r}")
        self.num_classes = num_classes
        self.flattened = (5, 5, 16)
        super().__init__({
            "conv1": nn.Conv2d(in_channels, 6, 5, padding=(32 - image_size) // 2),
            "tanh1": nn.Tanh(),
            "pool1": nn.AvgPool2d(2),
            "conv2": nn.Conv2d(6, 16, 5),
            "tanh2": nn.Tanh(),
            "pool2": nn.AvgPool2d(2),
            "flatten": nn.Flatten(),
            "fc3": nn.Linear(5 * 5 * 16, 120),
            "tanh3": nn.Tanh(),
            "fc4": nn.Linear(120, 84),
            "tanh4": nn.Tanh(),
            "fc5": nn.Linear(84, num_classes),
        })  # fmt: skip
