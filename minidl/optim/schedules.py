"""Learning rate schedules. Call `step()` once after every epoch; each group's rate keeps its ratio to the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

from minidl.optim.optimizer import Optimizer


class LambdaLR:
    """Each group's rate is its initial one times a function of the number of epochs done; one for all groups, or one for each."""

    def __init__(self, optimizer: Optimizer, factors: Callable[[int], float] | Sequence[Callable[[int], float]]) -> None:
        self.optimizer = optimizer
        self.factors = [factors] * len(optimizer.param_groups) if callable(factors) else list(factors)
        if len(self.factors) != len(optimizer.param_groups):
            raise ValueError(f"LambdaLR: {len(self.factors)} functions for {len(optimizer.param_groups)} parameter groups")
        self.initial = [group["lr"] for group in optimizer.param_groups]
        self.epoch = 0

    def step(self) -> None:
        """An epoch is over: set the rates of the next."""
        self._go_to(self.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after `state["epoch"]` epochs, with the rates of the next."""
        self._go_to(int(state["epoch"]))

    def _go_to(self, epoch: int) -> None:
        self.epoch = epoch
        for group, initial, factor in zip(self.optimizer.param_groups, self.initial, self.factors, strict=True):
            group["lr"] = initial * factor(epoch)


class StepLR(LambdaLR):
    """Multiply the rates by `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size is a number of epochs, at least 1; got {step_size!r}")
        super().__init__(optimizer, lambda epoch: gamma ** (epoch // step_size))


class MultiStepLR(LambdaLR):
    """Multiply the rates by `gamma` after each of the epochs in `milestones`: for the 2012 program (25, 51, 79)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        super().__init__(optimizer, lambda epoch: gamma ** sum(epoch >= m for m in milestones))


class ReduceLROnPlateau:
    """Multiply the rates by `factor` when a figure has not improved for more than `patience` epochs.

    The paper's rule is "divide by 10 when the validation error rate stopped improving" (section 5). mode: "min" for an error,
    "max" for an accuracy. threshold: by how much, relative to the best so far, a figure must be better to count as an improvement.
    min_lr: no rate becomes smaller. Raises ValueError for another mode, or a factor that is not between 0 and 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'ReduceLROnPlateau: mode must be "min" or "max", got {mode!r}')
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must lie between 0 and 1, got {factor!r}")
        self.optimizer, self.mode, self.factor = optimizer, mode, factor
        self.patience, self.threshold, self.min_lr = patience, threshold, min_lr
        self.best: float | None = None
        self.bad_epochs = 0

    def step(self, figure: float) -> None:
        """An epoch is over, and `figure` is its error or accuracy."""
        figure = float(figure)
        if not isnan(figure) and (self.best is None or self._improved(figure, self.best)):
            self.best, self.bad_epochs = figure, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.bad_epochs = 0
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on from here."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        return {"best": self.best, "bad_epochs": self.bad_epochs, "rates": rates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, rates included."""
        self.best, self.bad_epochs = state["best"], state["bad_epochs"]
        for group, rate in zip(self.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate

    def _improved(self, figure: float, best: float) -> bool:
        margin = self.threshold * abs(best)
        return figure < best - margin if self.mode == "min" else figure > best + margin
