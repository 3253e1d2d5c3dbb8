"""The memory of a training step: what it will take, and what to say when a GPU has not got it.

It is predicted from the model itself: a tiny batch goes forward and back, and after every operation on the way back the arrays
alive are counted: what operations still keep (`Function.keeps_inputs`, `keeps_output`, masks), the gradients of the parameters
so far, the gradients on their way. Each count is a straight line over the batch size, so two small batches tell all others.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import no_grad, operations_behind, set_grad_enabled
from minidl.dtypes import as_dtype
from minidl.kernels import convolution, parallel, pooling, winograd
from minidl.nn.module import Module, evaluating
from minidl.ops.bias import EndsInBias
from minidl.tensor import Tensor, ones_like

MIB, GIB = 2**20, 2**30
USABLE = 0.6
"""The share of a GPU's memory that a step may be planned to use. The next batch is already there, and the blocks of CuPy's pool do not
fit together without gaps: with AlexNet the pool of CuPy 14.2 takes 1.2 (128 images) to 1.6 (1024) times what is in use at the fullest
moment."""


@dataclass
class Memory:
    """Bytes of the arrays at the fullest moment of a training step; a process holds more, in the gaps between them (`USABLE`).

    parameters: and running statistics. gradients: of the parameters. state: SGD's velocity; Adam's is twice as large. kept: the
    batch and what backward will need. passing: the gradients on their way from layer to layer. workspace: the pieces that
    convolutions work on, an estimate.
    """

    batch_size: int
    parameters: int
    gradients: int
    state: int
    kept: int
    passing: int
    workspace: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.state + self.kept + self.passing + self.workspace

    def __repr__(self) -> str:
        rows = {
            "parameters": self.parameters,
            "their gradients": self.gradients,
            "momentum": self.state,
            "kept for backward": self.kept,
            "gradients on their way": self.passing,
            "workspace": self.workspace,
            "about": self.total,
        }
        title = f"memory of a training step, batch size {self.batch_size}"
        return "\n".join([title, *(f"{name:<{len(title) - 15}}{size / MIB:>11,.1f} MiB" for name, size in rows.items())])


@dataclass
class StepMemory:
    """The memory of a training step for any batch size.

    fixed, per_item: for each moment of a step a row of bytes (kept, gradients, passing), without the batch and for each of its items.
    """

    parameters: int
    state: int
    workspace: int
    fixed: np.ndarray
    per_item: np.ndarray

    def at(self, batch_size: int) -> Memory:
        """The fullest moment of a step with `batch_size` items."""
        moments = self.fixed + batch_size * self.per_item
        kept, gradients, passing = (round(n) for n in moments[moments.sum(axis=1).argmax()])
        return Memory(batch_size, self.parameters, gradients, self.state, kept, passing, self.workspace)

    def largest_batch(self, available: float) -> int:
        """The largest batch whose step takes no more than `available` bytes, parameters and all; 0 where not even one item fits."""
        room = available - self.parameters - self.state - self.workspace - self.fixed.sum(axis=1)
        return max(0, int((room / self.per_item.sum(axis=1)).min()))


def step_memory(model: Module, input_shape: tuple[int, ...], dtype: Any = np.float32) -> StepMemory:
    """What a training step of `model` will take, for items of `input_shape` (without the batch axis) and `dtype`.

    Batches of 2 and of 4 zeros go forward and back (batch normalisation wants more than one item). The model, its gradients and
    running statistics, and the random numbers are left as they were.
    """
    parameters, buffers = list(model.parameters()), [buffer for _, buffer in model.named_buffers()]
    device = parameters[0].device if parameters else backend.get_default_device()
    two, four = (_moments(model, Tensor(np.zeros((n, *input_shape), as_dtype(dtype)), device=device)) for n in (2, 4))
    per_item = (four - two) / 2
    return StepMemory(
        parameters=sum(_pieces(parameters, buffers).values()),
        state=sum(_pieces([p for p in parameters if p.requires_grad]).values()),
        workspace=_workspace([p.shape for p in parameters if p.ndim == 4], device),
        fixed=two - 2 * per_item,
        per_item=per_item,
    )


def _workspace(weights: list[tuple[int, ...]], device: str) -> int:
    """The bytes in which all workers compute convolutions with these weights (KH, KW, C, O), pooling and normalisation: buffers stay."""
    if not weights:
        return 0
    patches = 2 * convolution.GRADIENT_CHUNK_BYTES  # and as much again for what they are multiplied into
    if device != "cpu":
        return patches * parallel.GPU_FACTOR
    return parallel.worker_count() * (patches + max(map(winograd.workspace, weights)) + pooling.CHUNK_BYTES)


def _moments(model: Module, batch: Tensor) -> np.ndarray:
    """What is alive when the forward pass is done, and after each operation of the way back: rows of bytes (kept, gradients,
    passing)."""
    buffers = [(buffer, buffer._array) for _, buffer in model.named_buffers()]
    # `evaluating`, because afterwards every layer is in the mode it was in.
    with evaluating(model), backend.fixed_random(0), set_grad_enabled(True):
        try:
            output = model.train()(batch)
        finally:
            for buffer, array in buffers:
                buffer._array = array
    nodes = operations_behind([output])
    own = _pieces(list(model.parameters()), [buffer for buffer, _ in buffers])
    held = [_pieces(list(vars(node).values())) for node in nodes] + [_pieces(batch, output)]  # the training loop holds these two
    last = {piece: i for i, pieces in enumerate(held) for piece in pieces}  # until which operation of the way back it is kept
    kept = {piece: size for pieces in held for piece, size in pieces.items()}
    gradients: dict[int, Tensor] = {}
    passing: dict[int, Tensor] = {}

    def row(*more: Tensor) -> list[int]:
        seen, sizes = set(own), []
        for pieces in (kept, _pieces(*gradients.values()), _pieces(*passing.values(), *more)):
            sizes.append(sum(size for piece, size in pieces.items() if piece not in seen))
            seen |= pieces.keys()
        return sizes

    rows = [row()]
    passing[id(output.grad_fn)] = ones_like(output)
    with no_grad():
        for i, node in enumerate(nodes):
            gradient = passing.pop(id(node), None)
            if gradient is not None:
                for tensor, change in node.input_gradients(gradient):
                    sums, key = (gradients, id(tensor)) if tensor.grad_fn is None else (passing, id(tensor.grad_fn))
                    sums[key] = sums[key] + change if key in sums else change
                inside = [ones_like(gradient)] if isinstance(node, EndsInBias) and node.relu else []  # once more, behind ReLU
                rows.append(row(gradient, *inside))
            kept = {piece: size for piece, size in kept.items() if last[piece] > i}
    return np.array(rows, float)


def _pieces(*values: Any) -> dict[int, int]:
    """The pieces of memory under all arrays in `values`, identity -> bytes: views of one array are one piece."""
    pieces: dict[int, int] = {}
    for value in values:
        if isinstance(value, (tuple, list)):
            pieces |= _pieces(*value)
        array = value._array if isinstance(value, Tensor) else value
        if backend.is_array(array):
            while isinstance(getattr(array, "base", None), type(array)):
                array = array.base
            pieces[id(array)] = array.nbytes
    return pieces


@contextmanager
def memory_explained(model: Module, batch: Tensor) -> Iterator[None]:
    """Around a training step of `model` on `batch`: if the GPU's memory runs out, the error says how much was asked for, how much
    there is, and about which batch size would fit. Raises MemoryError in place of CuPy's errors; all others pass."""
    try:
        yield
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        raise MemoryError(_explanation(model, batch, error)) from error


def _explanation(model: Module, batch: Tensor, error: Exception) -> str:
    n, shape = len(batch), batch.shape[1:]
    with backend.on_device(batch.device) as cupy:
        pool = cupy.get_default_memory_pool()
        held, used, limit = pool.total_bytes(), pool.used_bytes(), pool.get_limit()
        free, total = cupy.cuda.runtime.memGetInfo()
    traceback.clear_frames(error.__traceback__)  # they hold the arrays of the step that failed, and the prediction wants room
    try:
        fits = step_memory(model, shape, batch.dtype).largest_batch(USABLE * min(held + free, limit or held + free))
    except Exception:  # no room even for a tiny batch, or the model wants more than one argument: nothing can be predicted
        fits = n
    if fits >= n:
        advice = f"Try a batch of {n // 2}." if n > 1 else "Make the model or the images smaller."
    elif fits > 0:
        advice = f"A batch of about {fits} would fit; nn.summary(model, {shape}, batch_size={fits}) says what takes how much."
    else:
        advice = f"Not even a batch of one would fit; nn.summary(model, {shape}, batch_size=1) says what takes how much."
    return (
        f"a training step on a batch of {n} does not fit on {batch.device}. {error} CuPy's pool holds {held / GIB:.2f} GiB, "
        f"{used / GIB:.2f} of them in use, and {free / GIB:.2f} of the GPU's {total / GIB:.2f} GiB are free. {advice}"
    )
