"""One AlexNet training step in each framework, cut into parts, for `worker` to time.

A framework is a class made from (variant, file of images, image size, device, threads, precision). Its methods `forward`, `backward`
and `update` are called in turn and make a training step; `infer` is a forward pass that keeps nothing; `wait` returns when the device
has finished, and `device_bytes` says what its memory held at most, None on a CPU.

Nothing but NumPy is imported before a framework is made: importing minidl gives BLAS one thread and tells malloc to keep freed memory,
which would change the peers. So minidl is imported in its own process only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

CLASSES = 1000


class Minidl:
    parts = ("forward", "backward", "update", "infer")

    def __init__(self, variant: str, images: str, size: int, device: str, threads: int, precision: str) -> None:
        import minidl
        import minidl.functional as F
        from minidl import backend, models, optim
        from minidl.dtypes import set_precision

        minidl.set_default_device(device)
        dtype = set_precision(precision)
        minidl.manual_seed(0)
        with np.load(images) as stored:
            self.images, self.labels = minidl.Tensor(stored["images"]), minidl.Tensor(stored["labels"])
        self.images = self.images.astype(dtype)
        self.model = models.AlexNet(variant, CLASSES, image_size=size)
        self.optimizer = optim.SGD(self.model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
        self.loss_of, self.no_grad, self.asynchronous = F.cross_entropy, minidl.no_grad, device != "cpu"
        self.on_device = partial(backend.on_device, device)

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
        if self.asynchronous:
            with self.on_device() as cupy:
                cupy.cuda.get_current_stream().synchronize()

    def device_bytes(self) -> int | None:
        """What is in use at the fullest moment of one more step: CuPy's pool holds more."""
        if not self.asynchronous:
            return None
        with self.on_device() as cupy:
            pool, hook, fullest = cupy.get_default_memory_pool(), cupy.cuda.MemoryHook, 0

            class Watch(hook):  # type: ignore[misc, valid-type]
                name = "Watch"

                def malloc_postprocess(self, **allocation: int) -> None:
                    nonlocal fullest
                    fullest = max(fullest, pool.used_bytes())

            with Watch():
                self.forward()
                self.backward()
                self.update()
            return fullest


class Torch:
    """PyTorch, eager, at its best: channels last, an update fused into one kernel, cudnn.benchmark on a GPU.

    "bf16" is its autocast, and images that are bfloat16 already, so that it need not convert them in every step.
    """

    parts = ("forward", "backward", "update", "infer")
    layout = "channels_last"

    def __init__(self, variant: str, images: str, size: int, device: str, threads: int, precision: str) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True
        self.torch, self.asynchronous, self.device = torch, device != "cpu", device.replace("gpu", "cuda")
        place: Any = {"device": self.device, "memory_format": getattr(torch, self.layout)}
        with np.load(images) as stored:
            self.images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).to(**place)
            self.labels = torch.from_numpy(stored["labels"]).to(self.device)
        self.model: Any = _torch_alexnet(torch, nn, variant, size).to(**place)
        if precision == "bf16":
            self.images = self.images.to(torch.bfloat16)
        self.autocast = partial(torch.autocast, self.device.partition(":")[0], torch.bfloat16, enabled=precision == "bf16")
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4, fused=True)

    def forward(self) -> None:
        with self.autocast():
            self.loss = self.torch.nn.functional.cross_entropy(self.model(self.images), self.labels)

    def backward(self) -> None:
        self.loss.backward()

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def infer(self) -> None:
        self.model.eval()
        with self.torch.inference_mode(), self.autocast():
            self.model(self.images)
        self.model.train()

    def wait(self) -> None:
        if self.asynchronous:
            self.torch.cuda.synchronize(self.device)

    def device_bytes(self) -> int | None:
        """What is in use at the fullest moment of one more step, without what cuDNN took to try out its algorithms: the pool holds more."""
        if not self.asynchronous:
            return None
        self.torch.cuda.reset_peak_memory_stats(self.device)
        self.forward()
        self.backward()
        self.update()
        return self.torch.cuda.max_memory_allocated(self.device)


class TorchChannelsFirst(Torch):
    """PyTorch's own layout, which may be the faster one where response normalisation is: it was written for it."""

    layout = "contiguous_format"


def _torch_alexnet(torch: Any, nn: Any, variant: str, size: int) -> Any:
    """The layers of minidl's table."""
    single = variant == "torchvision"
    a, b, c, d, e = (64, 192, 384, 256, 256) if single else (96, 256, 384, 384, 256)
    towers = 1 if single else 2
    # The paper's sizes are rounded up: 3 more pixels for the first windows, and a pooling window more where the last is not whole.
    end = 0 if single else (11 - size) % 4
    first = (
        [nn.Conv2d(3, a, 11, stride=4, padding=2)] if single else [nn.ZeroPad2d((0, end, 0, end)), nn.Conv2d(3, a, 11, stride=4)]
    )

    def relu() -> Any:
        return nn.ReLU(inplace=True)

    def pool() -> Any:
        return nn.MaxPool2d(3, 2, ceil_mode=not single)

    def norm() -> list[Any]:
        return [] if single else [nn.LocalResponseNorm(5, 5e-4, 0.75, 2)]  # alpha is divided by the size of the window

    features = nn.Sequential(
        *first, relu(), *norm(), pool(),
        nn.Conv2d(a, b, 5, padding=2, groups=towers), relu(), *norm(), pool(),
        nn.Conv2d(b, c, 3, padding=1), relu(),
        nn.Conv2d(c, d, 3, padding=1, groups=towers), relu(),
        nn.Conv2d(d, e, 3, padding=1, groups=towers), relu(), pool(),
        *([nn.AdaptiveAvgPool2d(6)] if single else []), nn.Flatten(),
    )  # fmt: skip
    with torch.no_grad():
        flat = features(torch.zeros(1, 3, size, size)).shape[1]
    hidden = [nn.Linear(flat, 4096), relu(), nn.Dropout(0.5), nn.Linear(4096, 4096), relu(), nn.Dropout(0.5)]
    if single:  # torchvision drops what goes into a layer, the paper what comes out of it
        hidden = [hidden[i] for i in (2, 0, 1, 5, 3, 4)]
    return nn.Sequential(features, *hidden, nn.Linear(4096, CLASSES))


class Dezero:
    """DeZero 0.0.13 has neither towers nor response normalisation nor adaptive averages: the torchvision variant at 224 pixels."""

    parts = ("forward", "backward", "update", "infer")
    asynchronous = False

    def __init__(self, variant: str, images: str, size: int, device: str, threads: int, precision: str) -> None:
        import dezero
        import dezero.functions as F
        import dezero.layers as L
        from dezero.optimizers import MomentumSGD, WeightDecay

        if (variant, size, device, precision) != ("torchvision", 224, "cpu", "float32"):
            raise ValueError("DeZero runs the torchvision variant at 224 pixels on a CPU, in float32")
        np.random.seed(0)  # noqa: NPY002  # where DeZero takes its random numbers from
        self.dezero, self.F = dezero, F
        with np.load(images) as stored:
            self.images = np.ascontiguousarray(stored["images"].transpose(0, 3, 1, 2))
            self.labels = stored["labels"].astype(np.int16)  # int64 would make its gradients float64, and all before them
        self.layers = [
            L.Conv2d(64, 11, 4, 2), F.relu, _dezero_pool(F),
            L.Conv2d(192, 5, 1, 2), F.relu, _dezero_pool(F),
            L.Conv2d(384, 3, 1, 1), F.relu,
            L.Conv2d(256, 3, 1, 1), F.relu,
            L.Conv2d(256, 3, 1, 1), F.relu, _dezero_pool(F),
            F.flatten,
            F.dropout, L.Linear(4096), F.relu,
            F.dropout, L.Linear(4096), F.relu,
            L.Linear(CLASSES),
        ]  # fmt: skip
        self.model = dezero.Model()
        for i, layer in enumerate(self.layers):
            if isinstance(layer, dezero.Layer):
                setattr(self.model, f"layer{i}", layer)
        self.optimizer = MomentumSGD(1e-3, 0.9).setup(self.model)
        self.optimizer.add_hook(WeightDecay(5e-4))

    def logits(self) -> Any:
        x = self.dezero.as_variable(self.images)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self) -> None:
        self.loss = self.F.softmax_cross_entropy(self.logits(), self.labels)

    def backward(self) -> None:
        self.loss.backward()

    def update(self) -> None:
        self.optimizer.update()
        self.model.cleargrads()

    def infer(self) -> None:
        with self.dezero.no_grad(), self.dezero.test_mode():
            self.logits()

    def wait(self) -> None:
        pass

    def device_bytes(self) -> int | None:
        return None


def _dezero_pool(F: Any) -> Any:
    return lambda x: F.pooling(x, 3, 2)


FRAMEWORKS: dict[str, Any] = {"minidl": Minidl, "torch": Torch, "torch-nchw": TorchChannelsFirst, "dezero": Dezero}
