"""The graph, walked backwards: which operations led to a result, in which order, and the sum of the gradients.

This file knows nothing of arrays. An operation (a `Function`, see `function.py`) has `.inputs`, a `._number` that grows with time,
`.input_gradients` and `.release`; a Tensor has `.grad_fn` (the operation that made it, None for a leaf) and `.grad`, and can be added.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidl.function import Function
    from minidl.tensor import Tensor


class _Recording(threading.local):
    on = True


recording = _Recording()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded for `backward`."""
    return recording.on


@contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Record operations, or not, inside the block (in this thread only)."""
    before, recording.on = recording.on, enabled
    try:
        yield
    finally:
        recording.on = before


def no_grad():
    """`with no_grad():` or `@no_grad()`: operations inside are not recorded, so they keep no graph and no memory."""
    return set_grad_enabled(False)


def operations_behind(outputs: Iterable[Tensor]) -> list[Function]:
    """Every operation that `outputs` were computed from, newest first.

    An operation is always newer than those that made its inputs, so sorting by age is a topological sort; a stack of our own
    instead of recursion lets chains of any depth through.
    """
    found: set[Function] = set()
    stack = [t.grad_fn for t in outputs if t.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        if node.inputs is None:
            raise RuntimeError(
                f"{node.name}: the graph behind this result was freed by an earlier backward. "
                "Pass retain_graph=True to that call, or compute the result again."
            )
        found.add(node)
        stack += [t.grad_fn for t in node.inputs if t.grad_fn is not None]
    return sorted(found, key=lambda node: node._number, reverse=True)


def _source(tensor: Tensor) -> Tensor | Function:
    """What stands for a Tensor in the graph: the operation that made it, or itself when it is a leaf."""
    return tensor.grad_fn or tensor


def backpropagate(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    wanted: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Carry `gradients`, one for each of `outputs`, back through the graph.

    With `wanted` the gradients of those Tensors are returned (None for one that the outputs do not depend on); without it those of
    the leaves are added to their `.grad`. With `create_graph` the way back is recorded too, so that its results can be
    differentiated again. Unless `retain_graph` or `create_graph`, the graph is freed, operation by operation.
    Raises RuntimeError if it was freed before, or if a value that it needs was replaced.
    """
    nodes = operations_behind(outputs)
    keep = {id(_source(t)) for t in wanted or ()}
    leaves: dict[int, Tensor] = {}
    totals: dict[int, Tensor] = {}

    def add(tensor: Tensor, gradient: Tensor) -> None:
        key = id(tensor.grad_fn or tensor)  # `_source`, written out: a call costs time for every gradient
        total = totals.get(key)
        if total is not None:
            totals[key] = total + gradient if create_graph else total.plus(gradient)
            return
        totals[key] = gradient
        if tensor.grad_fn is None:
            leaves[key] = tensor

    with set_grad_enabled(create_graph):
        for output, gradient in zip(outputs, gradients, strict=True):
            add(output, gradient)
        for node in nodes:
            total = totals.get(id(node)) if id(node) in keep else totals.pop(id(node), None)
            if total is not None:
                for tensor, gradient in node.input_gradients(total):
                    add(tensor, gradient)
            if not (retain_graph or create_graph):
                node.release()
        if wanted is None:
            for key, leaf in leaves.items():
                total = totals[key] if leaf.grad is None else leaf.grad + totals[key]
                # Two leaves may have received the same Tensor, and a new value for one's .grad must not change the other's.
                leaf.grad = total if total.requires_grad else total.detach()
    return [totals.get(id(_source(t))) for t in wanted or ()]
