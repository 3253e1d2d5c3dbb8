"""Small networks whose signals are large enough to test with."""

import numpy as np

from minidl import models, nn
from minidl.nn import init

VARIANTS = list(models.VARIANTS)


def lively(model: nn.Module) -> nn.Module:
    """`model` with weights that keep the size of signals, and random biases: every layer and constant then matters."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            init.kaiming_normal_(parameter)
        else:
            init.normal_(parameter, std=0.3)
    return model


def pixels(n: int, size: int, channels: int = 3) -> np.ndarray:
    """Images (N, H, W, C) like photographs minus their mean: response normalisation then changes signals noticeably."""
    return np.random.default_rng(0).uniform(-100, 100, (n, size, size, channels)).astype(np.float32)
