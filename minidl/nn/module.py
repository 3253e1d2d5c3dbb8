"""Module: an object that holds parameters and knows how to compute with them.

A Module's parameters, buffers and inner Modules are simply its attributes (Modules in a list or tuple are found as well); their names
are the paths to them, such as "features.0.weight".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from minidl import backend
from minidl.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that an optimiser may change: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, device: str | None = None) -> None:
        super().__init__(data, requires_grad, device)


class Buffer(Tensor):
    """A Tensor that is saved and moved with its Module but not trained, such as running statistics."""

    __slots__ = ()


class Module:
    """The base of layers and networks: write `forward(...)`, and call the object."""

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        for kind, lost in ((Parameter, "trained"), (Buffer, "saved")):
            if isinstance(before, kind) and not (value is None or isinstance(value, kind)):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {kind.__name__} and {type(value).__name__} is not: it would no longer be "
                    f"{lost}. To change its values assign to .{name}.data"
                )
        super().__setattr__(name, value)

    # What is inside

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The Modules directly inside this one, in the order they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This Module (under the name `prefix`) and all inside it, each with its path."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This Module and all inside it."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self, kind: type[Tensor]) -> Iterator[tuple[str, Any]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield f"{prefix}.{name}" if prefix else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter) for every parameter; one that is shared comes once, under its first path."""
        seen: set[int] = set()
        for name, parameter in self._named_tensors(Parameter):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(path, Buffer) for every buffer."""
        return self._named_tensors(Buffer)

    # Its state

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers as NumPy arrays, by path, wherever the Module lives."""
        return {name: t.numpy() for kind in (Parameter, Buffer) for name, t in self._named_tensors(kind)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the values of `state` (arrays or Tensors by path). Shapes and names must match exactly.

        Raises ValueError, with all names that are missing, unexpected or of another shape; then nothing is changed.
        """
        own = {name: t for kind in (Parameter, Buffer) for name, t in self._named_tensors(kind)}
        problems = [f"missing: {name} {own[name].shape}" for name in own if name not in state]
        problems += [f"unexpected: {name} {np.shape(state[name])}" for name in state if name not in own]
        problems += [
            f"shape: {name} is {t.shape} here, {np.shape(state[name])} in the state"
            for name, t in own.items()
            if name in state and np.shape(state[name]) != t.shape
        ]
        values = {}
        for name, t in own.items():
            if name in state and not problems:
                try:
                    values[name] = Tensor(state[name], device=t.device)
                except (TypeError, ValueError) as error:
                    problems.append(f"{name}: {error}")
        if problems:
            raise ValueError(f"load_state_dict: the state does not fit this {type(self).__name__}:\n  " + "\n  ".join(problems))
        for name, t in own.items():
            t.data = values[name]

    def train(self, mode: bool = True) -> Module:
        """Training mode for this Module and all inside it: dropout drops, batch normalisation uses the batch."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str) -> Module:
        """Move all parameters (with their gradients) and buffers to `device`, in place; returns the Module."""
        for kind in (Parameter, Buffer):
            for _, t in self._named_tensors(kind):
                t._array = backend.to_device(t._array, device)
                t._version += 1
                if t.grad is not None:
                    t.grad = t.grad.detach().to(device)
        return self

    def multiply_accumulates(self, output_shape: tuple[int, ...]) -> int:
        """The multiplications (each with its addition) that this layer itself does to make `output_shape`."""
        return 0

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets: the configuration."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        own = [self.extra_repr()] if self.extra_repr() else []
        inside = "".join(own) if not lines else "\n  " + "\n  ".join(own + lines) + "\n"
        return f"{type(self).__name__}({inside})"


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every Module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def observed(model: Module, observer: Callable[[str, Module, Any], None]) -> Iterator[None]:
    """Inside the block `observer(name, layer, result)` is called whenever a layer (a Module with none inside) has computed."""

    def forward(name: str, layer: Module, *args: Any, **kwargs: Any) -> Any:
        result = type(layer).forward(layer, *args, **kwargs)
        observer(name, layer, result)
        return result

    # By object, so that a layer that is used under two names is replaced, and restored, once.
    layers = {id(m): (name, m) for name, m in model.named_modules() if not list(m.named_children())}
    try:
        for name, layer in layers.values():
            layer.__dict__["forward"] = partial(forward, name or type(layer).__name__, layer)
        yield
    finally:
        for _, layer in layers.values():
            layer.__dict__.pop("forward", None)
