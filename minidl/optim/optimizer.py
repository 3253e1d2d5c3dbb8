"""What optimisers share: groups of parameters, each group with its own settings, and the state kept for each parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minidl import backend
from minidl.backend import Array, get_array_module
from minidl.tensor import Tensor


class Optimizer:
    """The base of optimisers. A subclass writes `update(parameter, gradient, group)`.

    params: Tensors, or dicts {"params": Tensors, "lr": ..., ...} whose other entries replace the defaults for that group.
    `param_groups` is the list of these dicts, defaults filled in; schedules change "lr" in it. Raises TypeError for a single
    Tensor or dict; ValueError if there are no parameters, or one that is no leaf, does not require a gradient or occurs twice.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, (Tensor, dict)):
            raise TypeError(f"{name}: params must be a list (or model.parameters()), got a single {type(params).__name__}")
        given: list[Any] = list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for i, group in enumerate(groups):
            if not isinstance(group, dict):
                raise ValueError(f"{name}: params are either all Tensors or all dicts; group {i} is {type(group).__name__}")
            unknown = group.keys() - defaults.keys() - {"params", "name"}
            if unknown or "params" not in group:
                raise ValueError(f"{name}: group {i} needs 'params' and may set {sorted(defaults)}; it has {sorted(group)}")
            tensors = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
            for t in tensors:
                if not isinstance(t, Tensor) or not t.requires_grad or t.grad_fn is not None:
                    raise ValueError(
                        f"{name}: group {i} holds something that is no parameter (a leaf that requires a gradient): {t!r}"
                    )
                if id(t) in seen:
                    raise ValueError(
                        f"{name}: a parameter of shape {t.shape} occurs twice (again in group {i}); it would step twice"
                    )
                seen.add(id(t))
            self.param_groups.append({**defaults, **group, "params": tensors})
        if not seen:
            raise ValueError(f"{name}: there are no parameters to optimise")
        for group in self.param_groups:
            self.check(group)
        self.state: dict[Tensor, dict[str, Any]] = {}

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueError for settings that make no sense."""
        for key in ("lr", "weight_decay"):
            if not 0 <= group[key] < math.inf:
                raise ValueError(f"{type(self).__name__}: {key} must be at least 0 and finite, got {group[key]!r}")

    def zero_grad(self) -> None:
        """Forget the gradients; `backward` adds to what is there."""
        for group in self.param_groups:
            for t in group["params"]:
                t.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient, in place. A group whose rate is 0 stays as it is, its velocities too.

        Raises ValueError for a gradient of another shape or on another device than its parameter.
        """
        for group in self.param_groups:
            if group["lr"] == 0:
                continue
            for t in group["params"]:
                if t.grad is not None:
                    if not isinstance(t.grad, Tensor) or t.grad.shape != t.shape:
                        what = t.grad.shape if isinstance(t.grad, Tensor) else type(t.grad).__name__
                        raise ValueError(
                            f"{type(self).__name__}: the .grad of a parameter of shape {t.shape} must be a Tensor of its shape, got {what}"
                        )
                    if t.grad.device != t.device:
                        raise ValueError(
                            f"{type(self).__name__}: a parameter of shape {t.shape} is on {t.device}, its gradient on {t.grad.device}"
                        )
                    with backend.beside(t._array):
                        self.update(t, t.grad._array, group)

    def update(self, parameter: Tensor, gradient: Array, group: dict[str, Any]) -> None:
        """Change one parameter in place; written by the subclass."""
        raise NotImplementedError

    def _parameters(self) -> list[Tensor]:
        return [t for group in self.param_groups for t in group["params"]]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all state as NumPy arrays: "3.velocity" belongs to the fourth parameter. Without the rates, which are the
        schedule's, or the caller's."""
        return {
            f"{i}.{name}": np.array(backend.to_device(np.asarray(value) if isinstance(value, int) else value, "cpu"))
            for i, t in enumerate(self._parameters())
            for name, value in self.state.get(t, {}).items()
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over `state`, from an optimiser of the same parameters. Raises ValueError if it does not fit; then nothing is
        changed."""
        parameters = self._parameters()
        fresh: dict[Tensor, dict[str, Any]] = {}
        for key, array in state.items():
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(parameters):
                raise ValueError(
                    f"{type(self).__name__}: state {key!r} is for another optimiser; this has {len(parameters)} parameters"
                )
            t = parameters[int(number)]
            if array.ndim and array.shape != t.shape:
                raise ValueError(f"{type(self).__name__}: state {key!r} has shape {array.shape}, the parameter {t.shape}")
            value = int(array) if not array.ndim and array.dtype.kind == "i" else backend.to_device(array.copy(), t.device)
            fresh.setdefault(t, {})[name] = value
        self.state = fresh

    def zeros(self, parameter: Tensor, name: str) -> Array:
        """The state array `name` of a parameter, made of zeros the first time. Raises ValueError if the parameter was moved since."""
        state = self.state.setdefault(parameter, {})
        if name not in state:
            xp = get_array_module(parameter._array)
            state[name] = xp.zeros_like(parameter._array, order="C")
        elif get_array_module(state[name]) is not get_array_module(parameter._array):
            raise ValueError(
                f"{type(self).__name__}: the model was moved to {parameter.device} after the first step; move it before"
            )
        return state[name]
