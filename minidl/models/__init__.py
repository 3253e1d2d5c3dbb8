"""Networks: a configuration to read, and its assembly."""

from minidl.models.alexnet import VARIANTS, AlexNet
from minidl.models.convert import TORCHVISION_NAMES, from_channels_first, to_channels_first
from minidl.models.lenet import LeNet5

__all__ = ["TORCHVISION_NAMES", "VARIANTS", "AlexNet", "LeNet5", "from_channels_first", "to_channels_first"]
