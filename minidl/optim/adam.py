"""Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl.backend import Array
from minidl.kernels import update
from minidl.optim.optimizer import Optimizer
from minidl.tensor import Tensor


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): steps of about `lr`, whatever the size of the gradient.

    `weight_decay` is added to the gradient, as in PyTorch's Adam (not its AdamW).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if len(group["betas"]) != 2 or any(not 0 <= beta < 1 for beta in group["betas"]) or not group["eps"] > 0:
            raise ValueError(f"Adam: betas must lie in [0, 1) and eps be positive, got {group['betas']!r} and {group['eps']!r}")

    def update(self, parameter: Tensor, gradient: Array, group: dict[str, Any]) -> None:
        mean, square = self.zeros(parameter, "mean"), self.zeros(parameter, "square")
        step = self.state[parameter]["step"] = self.state[parameter].get("step", 0) + 1
        settings = (group["lr"], group["betas"], group["eps"], group["weight_decay"])
        update.adam(parameter._writable(), mean, square, gradient, *settings, step)
