"""One AlexNet training step in each framework, cut into forward, backward and update, for `alexnet_step` to time.

A framework is a class made from (variant, batch size, image size, device); its methods `forward`, `backward` and `update` are called
in turn, and `wait` returns when the device has finished.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES = 1000


def real_images(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of the package, enlarged, minus their mean, with labels: (count, size, size, 3) float32, (count,)."""
    from minidl import data  # PyTorch's process needs minidl for this alone

    train = data.EmbeddedCIFAR10()
    pixels = data.Resize(size)(train.images[:count], np.random.default_rng(0))
    return pixels - pixels.mean(axis=(0, 1, 2)), train.labels[:count]


class Minidl:
    def __init__(self, variant: str, batch: int, size: int, device: str) -> None:
        import minidl
        import minidl.functional as F
        from minidl import models, optim

        minidl.set_default_device(device)
        minidl.manual_seed(0)
        images, labels = real_images(batch, size)
        self.images, self.labels, self.loss_of = minidl.Tensor(images), minidl.Tensor(labels), F.cross_entropy
        self.model = models.AlexNet(variant, CLASSES, image_size=size)
        self.optimizer = optim.SGD(self.model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
        self.no_grad = minidl.no_grad
        self.device = device

    def forward(self) -> None:
        self.loss = self.loss_of(self.model(self.images), self.labels)

    def backward(self) -> None:
        self.loss.backward()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        self.model.eval()
        with self.no_grad():
            self.model(self.images)
        self.model.train()

    def wait(self) -> None:
        if self.device != "cpu":
            import cupy

            cupy.cuda.get_current_stream().synchronize()


class Torch:
    def __init__(self, variant: str, batch: int, size: int, device: str) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        self.torch, self.device = torch, "cuda" if device != "cpu" else "cpu"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        images, labels = real_images(batch, size)
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(self.device, memory_format=torch.channels_last)
        self.labels = torch.from_numpy(labels).to(self.device)
        self.model: Any = _torch_alexnet(nn, variant).to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)

    def forward(self) -> None:
        self.loss = self.torch.nn.functional.cross_entropy(self.model(self.images), self.labels)

    def backward(self) -> None:
        self.loss.backward()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        self.model.eval()
        with self.torch.no_grad():
            self.model(self.images)
        self.model.train()

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


def _torch_alexnet(nn: Any, variant: str) -> Any:
    if variant == "torchvision":
        filters, towers, pad, norm = (64, 192, 384, 256, 256), 1, nn.Identity(), lambda: nn.Identity()
        first = nn.Conv2d(3, 64, 11, stride=4, padding=2)
    else:
        filters, towers, pad, norm = (
            (96, 256, 384, 384, 256),
            2,
            nn.ZeroPad2d((0, 3, 0, 3)),
            lambda: nn.LocalResponseNorm(5, 5e-4, 0.75, 2),
        )
        first = nn.Conv2d(3, 96, 11, stride=4)
    a, b, c, d, e = filters
    return nn.Sequential(
        pad, first, nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2, groups=towers), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(c, d, 3, padding=1, groups=towers), nn.ReLU(inplace=True),
        nn.Conv2d(d, e, 3, padding=1, groups=towers), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(e * 36, 4096), nn.ReLU(inplace=True),
        nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, CLASSES),
    )  # fmt: skip


FRAMEWORKS = {"minidl": Minidl, "torch": Torch}
