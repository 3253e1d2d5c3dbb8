"""Sequential: layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minidl.nn.layers import Conv2d, Linear, ReLU
from minidl.nn.module import Module

FORWARD: dict[type[Module], Any] = {kind: kind.forward for kind in (Conv2d, Linear, ReLU)}


def _in_one_pass(layer: Module, following: Module) -> bool:
    """Whether `following` is a ReLU that `layer` can compute as well: each of exactly such a class, and with the `forward` that the class
    has here, which layers that are watched have not (`module.observed`)."""
    if (type(layer), type(following)) not in ((Conv2d, ReLU), (Linear, ReLU)):
        return False
    return all(getattr(m.forward, "__func__", None) is FORWARD[type(m)] for m in (layer, following))


class Sequential(Module):
    """Modules one after the other: `Sequential(nn.Linear(2, 3), nn.ReLU())`, or with names, `Sequential({"fc": nn.Linear(2, 3)})`.

    A ReLU right behind a convolution or a linear layer is computed in the pass that writes what it is given; the numbers are the same.

    `model[1]`, `model["fc"]` is one of them; `model[:2]`, `model[:"fc"]` a Sequential that shares them (a name as the end of a
    slice is included).
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self.layers = dict(layers[0])
        else:
            self.layers = {str(i): layer for i, layer in enumerate(layers)}  # type: ignore[misc]
        for name, layer in self.layers.items():
            if not isinstance(name, str) or "." in name:
                raise ValueError(f"Sequential: {name!r} cannot be the name of a layer; names are text without dots")
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: {name} is {type(layer).__name__}, not a Module; call functions in forward instead")

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from self.layers.items()
        yield from super().named_children()  # what a subclass has besides

    def forward(self, x: Any) -> Any:
        layers: list[Any] = list(self.layers.values())
        while layers:
            layer, *layers = layers
            if layers and _in_one_pass(layer, layers[0]):
                x, layers = layer.then_relu(x), layers[1:]
            else:
                x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers.values())

    def __getitem__(self, key: int | str | slice) -> Any:
        names = list(self.layers)
        if isinstance(key, slice):
            start = names.index(key.start) if isinstance(key.start, str) else key.start
            stop = names.index(key.stop) + 1 if isinstance(key.stop, str) else key.stop
            return Sequential({name: self.layers[name] for name in names[start : stop : key.step]})
        return self.layers[names[key] if isinstance(key, int) else key]
