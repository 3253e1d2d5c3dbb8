"""Work so small that the framework itself is what takes time: where lessons and the interactive prompt live.

For each framework a training step of a 784-128-10 network at batch 32 (`network`), and 1,000 additions of 4-element tensors with
backward (`additions`); REPEAT of each at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

REPEAT = {"network": 100, "additions": 5}
ADDITIONS = 1000


def _batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.random((32, 784), np.float32), random.integers(0, 10, 32)


class Minidl:
    parts = tuple(REPEAT)
    asynchronous = False

    def __init__(self, threads: int) -> None:
        import minidl
        import minidl.functional as F
        from minidl import nn, optim

        self.minidl, self.F = minidl, F
        self.images, self.labels = map(minidl.Tensor, _batch())
        self.model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        self.optimizer = optim.SGD(self.model.parameters(), 0.01, momentum=0.9)

    def network(self) -> None:
        for _ in range(REPEAT["network"]):
            loss = self.F.cross_entropy(self.model(self.images), self.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def additions(self) -> None:
        for _ in range(REPEAT["additions"]):
            x = y = self.minidl.Tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
            for _ in range(ADDITIONS):
                y = y + x
            y.sum().backward()

    def wait(self) -> None:
        pass

    def device_bytes(self) -> int | None:
        return None


class Torch(Minidl):
    def __init__(self, threads: int) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        self.torch = torch
        self.images, self.labels = map(torch.from_numpy, _batch())
        self.model: Any = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        self.optimizer: Any = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        self.F: Any = nn.functional

    def additions(self) -> None:
        for _ in range(REPEAT["additions"]):
            x = y = self.torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
            for _ in range(ADDITIONS):
                y = y + x
            y.sum().backward()


class Dezero(Minidl):
    def __init__(self, threads: int) -> None:
        import dezero
        import dezero.functions as F
        from dezero.models import MLP
        from dezero.optimizers import MomentumSGD

        self.dezero, self.F = dezero, F
        images, labels = _batch()
        self.images: Any = images
        self.labels: Any = labels.astype(np.int16)  # int64 would make its gradients float64
        self.model: Any = MLP((128, 10), F.relu)
        self.optimizer: Any = MomentumSGD(0.01, 0.9).setup(self.model)

    def network(self) -> None:
        for _ in range(REPEAT["network"]):
            loss = self.F.softmax_cross_entropy(self.model(self.images), self.labels)
            self.model.cleargrads()
            loss.backward()
            self.optimizer.update()

    def additions(self) -> None:
        for _ in range(REPEAT["additions"]):
            x = y = self.dezero.Variable(np.array([1.0, 2.0, 3.0, 4.0], np.float32))
            for _ in range(ADDITIONS):
                y = y + x
            self.F.sum(y).backward()


FRAMEWORKS: dict[str, Any] = {"minidl": Minidl, "torch": Torch, "dezero": Dezero}
