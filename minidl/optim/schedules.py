"""Learning rate schedules. Call `step()` once after every epoch; each group's rate keeps its ratio to the others."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from minidl.optim.optimizer import Optimizer


class _Schedule:
    """Rates that are a function of the epoch: the initial ones times `factor(epoch)`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.epoch = 0
        self.initial = [group["lr"] for group in optimizer.param_groups]

    def factor(self) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """An epoch is over: set the rates of the next."""
        self.epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.initial, strict=True):
            group["lr"] = lr * self.factor()


class StepLR(_Schedule):
    """Multiply the rates by `gamma` every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        if step_size < 1:
            raise ValueError(f"StepLR: step_size is a number of epochs, at least 1; got {step_size!r}")
        self.step_size, self.gamma = step_size, gamma

    def factor(self) -> float:
        return self.gamma ** (self.epoch // self.step_size)


class MultiStepLR(_Schedule):
    """Multiply the rates by `gamma` after each of the epochs in `milestones`: for the 2012 program (25, 51, 79)."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.milestones, self.gamma = sorted(milestones), gamma

    def factor(self) -> float:
        return self.gamma ** sum(self.epoch >= m for m in self.milestones)


class ReduceLROnPlateau:
    """Multiply the rates by `factor` when a figure has not improved for more than `patience` epochs.

    The paper's rule is "divide by 10 when the validation error rate stopped improving" (section 5). mode: "min" for an error,
    "max" for an accuracy. An improvement is a change of at least `threshold`, relative to the best so far.
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
        """An epoch is over, and `figure` is what it came to."""
        figure = float(figure)
        if not isnan(figure) and (self.best is None or self._improved(figure, self.best)):
            self.best, self.bad_epochs = figure, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.bad_epochs = 0
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)

    def _improved(self, figure: float, best: float) -> bool:
        margin = self.threshold * abs(best)
        return figure < best - margin if self.mode == "min" else figure > best + margin
