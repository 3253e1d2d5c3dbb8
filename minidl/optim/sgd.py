"""Stochastic gradient descent with momentum, as the paper writes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl.backend import Array
from minidl.kernels import update
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay (Krizhevsky et al. 2012, section 5).

    rate="inside" (the paper):   v <- momentum v - weight_decay lr w - lr g;   w <- w + v
    rate="outside" (PyTorch):    v <- momentum v + weight_decay w + g;         w <- w - lr v

    With a constant rate both make the same steps. When the rate is lowered, the paper's velocity still has the old rate in it, and
    slows down over the next 1 / (1 - momentum) steps; PyTorch's steps become smaller at once.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        rate: str = "inside",
    ) -> None:
        if rate not in ("inside", "outside"):
            raise ValueError(f'SGD: rate must be "inside" the velocity (the paper) or "outside" (PyTorch), got {rate!r}')
        self.kernel = update.sgd_paper if rate == "inside" else update.sgd_pytorch
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"SGD: momentum must be at least 0 and less than 1, got {group['momentum']!r}")

    def update(self, parameter: Tensor, gradient: Array, group: dict[str, Any]) -> None:
        velocity = self.zeros(parameter, "velocity")
        self.kernel(parameter._writable(), velocity, gradient, group["lr"], group["momentum"], group["weight_decay"])
