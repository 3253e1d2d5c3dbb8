"""The gradient checker: what `backward` says against what small steps say.

    >>> gradcheck(nn.Conv2d(3, 8, 3), (2, 7, 7, 3))

A random upstream gradient v turns the outputs of a function f of several tensors into one number, sum(v * f). Its derivative along
a direction d, by central differences in float64,

    sum(v * (f(x + eps d) - f(x - eps d))) / (2 eps)

must equal <gradient, d>. To check one element, d is a unit vector; to reach every element of a large tensor at once, d is random.
The difference is taken output by output, before the sum: so outputs that do not depend on an element add no rounding error.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from minidl import backend
from minidl.autograd import backpropagate, set_grad_enabled
from minidl.backend import Array, get_array_module
from minidl.dtypes import is_floating
from minidl.tensor import Tensor, wrap

FEW = 100  # a tensor with more elements than this is sampled
SAMPLED = 32
PROJECTIONS = 8
SEED = 2012  # of the drawn inputs, the directions and the held-still dropout masks: a check that fails, fails again


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    order: int = 1,
) -> GradcheckReport:
    """Check the gradients of `f` with respect to its floating-point inputs and, if it is a Module, its parameters.

    f: a function of Tensors that returns a Tensor or several, or an nn.Module.
    inputs: arrays, Tensors, or bare shapes (tuples of ints), which are filled from a normal distribution. Floating-point ones are
    checked, integers (labels) passed on as they are. All is computed in float64 on copies.
    eps: the step. An element passes when |analytic - numeric| <= atol + rtol * the larger of the two + rounding.
    order: 2 checks the second derivatives, against differences of the gradients that `backward` gives without create_graph.

    A tensor of up to 100 elements is checked element by element; a larger one at 32 elements and along 8 random directions
    ("projections"). Dropout masks stay the same in every evaluation. Where the slopes on the two sides differ however small the
    step, as in ReLU at 0, the point is called a kink, and any slope between them passes.
    Returns a report, true when all is well; its repr is a table. Warns (in the report too) when the tolerance is so large that an
    error in the term that makes `f` nonlinear would pass. Everything touched is restored: parameters, their gradients, buffers,
    random numbers. Raises ValueError for NaN among inputs or outputs, TypeError when `f` returns anything but float64 Tensors.
    """
    if order not in (1, 2):
        raise ValueError(f"gradcheck: order must be 1 or 2, got {order!r}")
    if not eps > 0 or not rtol >= 0 or not atol >= 0:
        raise ValueError(f"gradcheck: eps must be positive, rtol and atol at least 0; got {eps}, {rtol}, {atol}")
    random = np.random.default_rng(SEED)
    arguments = [_argument(value, i, random) for i, value in enumerate(inputs)]
    names = _argument_names(f, len(arguments))
    checked = {n: t for n, t in zip(names, arguments, strict=True) if isinstance(t, Tensor) and t.requires_grad}
    tensors = [t for t in arguments if isinstance(t, Tensor)] + (list(f.parameters()) if hasattr(f, "parameters") else [])
    device = tensors[0].device if tensors else backend.get_default_device()
    with backend.on_device(device), _in_float64(f) as (parameters, reset), set_grad_enabled(True):
        checked |= parameters
        if not checked:
            raise ValueError("gradcheck: nothing to check: no floating-point input and no parameter that requires a gradient")

        def outputs() -> list[Tensor]:
            reset()
            with backend.fixed_random(SEED):
                results = f(*arguments)
            return _checked_outputs([results] if isinstance(results, Tensor) else results)

        check = _Check(outputs, outputs, list(checked.values()), random, eps, rtol, atol)
        if order == 2:
            first = partial(check.gradients, create_graph=False)
            check = _Check(first, check.gradients, check.tensors, random, eps, rtol, atol)
        rows = [check.row(i, name) for i, name in enumerate(checked)]
        notes = [f"{row.name}: every comparison was at a kink, so nothing is proved" for row in rows if row.excess < 0]
        notes += [note for i, name in enumerate(checked) for note in check.doubts(i, name)]
    title = getattr(f, "__name__", None) or type(f).__name__
    for note in notes:
        warnings.warn(f"gradcheck({title}): {note}", stacklevel=2)
    return GradcheckReport(title, order, rows, notes, rtol, atol)


class _Check:
    """One scalar function, sum(v * outputs()), of several tensors, and its derivatives both ways.

    `outputs` is what differences are taken of, `recorded` the same function for `backward` to differentiate. For second derivatives
    both are gradients, and only the latter's is recorded: some operations have two formulas, one for each, and they must agree.
    """

    def __init__(
        self,
        outputs: Callable[[], Sequence[Tensor]],
        recorded: Callable[[], Sequence[Tensor]],
        tensors: list[Tensor],
        random: np.random.Generator,
        eps: float,
        rtol: float,
        atol: float,
    ) -> None:
        self.outputs, self.recorded, self.tensors, self.random = outputs, recorded, tensors, random
        self.eps, self.rtol, self.atol = eps, rtol, atol
        first = outputs()
        for t, again in zip(first, outputs(), strict=True):
            if not bool((t._array == again._array).all()):
                raise ValueError(
                    "gradcheck: f gives different values for the same inputs; random numbers must come from minidl's generator "
                    "(minidl.manual_seed), and f may keep no state of its own"
                )
        self.upstream = [wrap(backend.to_device(random.standard_normal(t.shape), t.device)) for t in first]
        self.analytic = [backend.to_device(g._array, "cpu") for g in self.gradients(create_graph=False)]

    def gradients(self, create_graph: bool = True) -> list[Tensor]:
        """The gradient of sum(v * outputs()) with respect to every tensor; zeros where there is no dependence."""
        ends = [(t, v) for t, v in zip(self.recorded(), self.upstream, strict=True) if t.requires_grad]
        found = backpropagate(
            [t for t, _ in ends],
            [v for _, v in ends],
            wanted=self.tensors,
            retain_graph=True,  # `f` may use a Tensor that the caller computed: that graph is not ours to free
            create_graph=create_graph,
        )
        return [
            wrap(get_array_module(t._array).zeros_like(t._array)) if g is None else g
            for t, g in zip(self.tensors, found, strict=True)
        ]

    def values(self, i: int, direction: Array, step: float) -> list[Array]:
        """The outputs with tensor `i` moved by `step` along `direction`."""
        tensor = self.tensors[i]
        before = tensor._array
        try:
            with backend.beside(before):
                tensor._array = before + step * backend.to_device(direction, tensor.device)
            return [backend.to_device(t._array, "cpu") for t in self.outputs()]
        finally:
            tensor._array = before

    def difference(self, above: list[Array], below: list[Array], step: float) -> tuple[float, float]:
        """(sum(v * (above - below)) / step, the rounding error to expect of it)."""
        slope, squares = 0.0, 0.0
        for v, a, b in zip(self.upstream, above, below, strict=True):
            weight = backend.to_device(v._array, "cpu")
            slope += float((weight * (a - b)).sum())
            squares += float((np.where(a != b, weight * a, 0) ** 2).sum())
        return slope / step, 20 * np.finfo(np.float64).eps * squares**0.5 / step

    def slope(self, i: int, direction: Array, eps: float) -> tuple[float, float]:
        """The derivative for tensor `i` along `direction`, by central differences, and the rounding error to expect of it."""
        return self.difference(self.values(i, direction, eps), self.values(i, direction, -eps), 2 * eps)

    def row(self, i: int, name: str) -> Row:
        """All comparisons for tensor `i`."""
        tensor, gradient = self.tensors[i], self.analytic[i]
        size = tensor.size
        elements = range(size) if size <= FEW else sorted(self.random.choice(size, SAMPLED, replace=False).tolist())
        if not size:
            raise ValueError(f"gradcheck: {name} of shape {tensor.shape} has no elements to check")
        row = Row(name, tensor.shape, len(elements), 0 if size <= FEW else PROJECTIONS)
        for element in elements:
            direction = np.zeros(size)
            direction[element] = 1
            where = ", ".join(str(int(n)) for n in np.unravel_index(element, tensor.shape)) if tensor.shape else ""
            self._compare(row, i, f"({where})", direction.reshape(tensor.shape), float(gradient.reshape(-1)[element]))
        for number in range(row.projections):
            direction = self.random.standard_normal(tensor.shape)
            self._compare(row, i, f"projection {number}", direction, float((gradient * direction).sum()))
        return row

    def _compare(self, row: Row, i: int, where: str, direction: Array, analytic: float) -> None:
        numeric, noise = self.slope(i, direction, self.eps)
        tolerance = self.atol + self.rtol * max(abs(analytic), abs(numeric)) + noise
        error = abs(analytic - numeric)
        kink = False
        if not error <= tolerance:
            lowest, highest, kink = self._one_sided(i, direction, tolerance)
            kink = kink and lowest - tolerance <= analytic <= highest + tolerance
        row.add(where, analytic, numeric, tolerance, kink)

    def _one_sided(self, i: int, direction: Array, tolerance: float) -> tuple[float, float, bool]:
        """The slopes on either side, lowest and highest, and whether the point is a kink.

        Where f is smooth the two sides differ by eps * f'': half as much for half the step. At a kink they differ by the same
        amount however small the step, and when it lies a little aside, the central difference changes with the step.
        """
        here = self.values(i, direction, 0.0)
        gaps, middles, sides = [], [], []
        for eps in (self.eps, self.eps / 2):
            right, _ = self.difference(self.values(i, direction, eps), here, eps)
            left, _ = self.difference(here, self.values(i, direction, -eps), eps)
            gaps.append(abs(right - left))
            middles.append((right + left) / 2)
            sides += [right, left]
        kink = gaps[1] > max(0.75 * gaps[0], 4 * tolerance) or abs(middles[1] - middles[0]) > 4 * tolerance
        return min(sides), max(sides), kink

    def doubts(self, i: int, name: str) -> list[str]:
        """Reasons why a pass for tensor `i` would prove little."""
        gradient, tensor = self.analytic[i], self.tensors[i]
        if not gradient.size or not np.any(gradient):
            return [f"{name}: its gradient is zero everywhere, so only a zero was compared with a zero"]
        largest = float(np.abs(gradient).max())
        if self.atol > 0.1 * largest:
            return [
                f"{name}: no element of its gradient exceeds {largest:.1e}, and atol is {self.atol:g}: an error of the gradient's own "
                "size would pass. Use a smaller atol, or larger inputs or weights"
            ]
        # How much does the gradient depend on the tensor's own value? Compare it here and at one and a half times the value. For
        # a linear function it does not change; for a nonlinear one it must change by more than the tolerance, or the check is blind
        # to the nonlinear term.
        before, worst, tolerance, floor = tensor._array, 0.0, 0.0, 0.0
        for _ in range(3):
            direction = self.random.standard_normal(tensor.shape)
            here, noise = self.slope(i, direction, self.eps)
            try:
                tensor._array = before * 1.5
                there, more_noise = self.slope(i, direction, self.eps)
            finally:
                tensor._array = before
            worst = max(worst, abs(there - here))
            tolerance = max(tolerance, self.atol + self.rtol * max(abs(here), abs(there)))
            floor = max(floor, 2 * (noise + more_noise))
        if floor < worst < tolerance:
            return [
                f"{name}: growing it by half changes its gradient by {worst:.1e}, which is less than the tolerance of "
                f"{tolerance:.1e}: an error in the term that makes the function nonlinear would pass. Use a smaller rtol, larger "
                "inputs, or constants that make the term count (for local_response_norm, alpha near 1)"
            ]
        return []


def _argument_names(f: Any, count: int) -> list[str]:
    """What `f` calls its first `count` arguments: "x", "weight", ...; "input 0" where it does not say."""
    try:
        parameters = inspect.signature(getattr(f, "forward", f)).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = {}.values()  # type: ignore[assignment]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    own = {name for name, _ in f.named_parameters()} if hasattr(f, "named_parameters") else set()
    return [names[i] if i < len(names) and names[i] not in own else f"input {i}" for i in range(count)]


def _argument(value: Any, i: int, random: np.random.Generator) -> Any:
    """An input as `f` gets it: floating point as a fresh float64 leaf, anything else unchanged."""
    if isinstance(value, tuple) and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value):
        if any(n < 1 for n in value):
            raise ValueError(f"gradcheck: input {i}: a shape has sizes of at least 1, got {value}")
        return Tensor(random.standard_normal(value), requires_grad=True)
    if isinstance(value, Tensor) or backend.is_array(value) or isinstance(value, (float, list)):
        tensor = Tensor(value)
        if not is_floating(tensor.dtype):
            return value
        tensor = Tensor(tensor._array.astype(np.float64), requires_grad=True)
        if not bool(get_array_module(tensor._array).isfinite(tensor._array).all()):
            raise ValueError(f"gradcheck: input {i} of shape {tensor.shape} contains NaN or infinity")
        return tensor
    return value


def _checked_outputs(results: Any) -> list[Tensor]:
    if not isinstance(results, (list, tuple)) or not all(isinstance(t, Tensor) for t in results):
        raise TypeError(f"gradcheck: f must return a Tensor or several, got {type(results).__name__}")
    if not sum(t.size for t in results):
        raise ValueError("gradcheck: f returned nothing to differentiate")
    for t in results:
        if t.dtype != np.float64:
            raise TypeError(
                f"gradcheck: f returned {t.dtype} for float64 inputs; somewhere it loses the precision the check needs"
            )
        if not bool(get_array_module(t._array).isfinite(t._array).all()):
            raise ValueError(f"gradcheck: f returned NaN or infinity (shape {t.shape}); choose inputs where it is finite")
    return list(results)


@contextmanager
def _in_float64(f: Any) -> Iterator[tuple[dict[str, Tensor], Callable[[], None]]]:
    """A Module's parameters and buffers in float64 for the block: (the parameters to check, a function that resets the buffers)."""
    parameters = dict(f.named_parameters()) if hasattr(f, "named_parameters") else {}
    buffers = dict(f.named_buffers()) if hasattr(f, "named_buffers") else {}
    everything = [*parameters.values(), *buffers.values()]
    saved = [(t, t._array, t.grad, t._version) for t in everything]
    wide = [(t, t._array.astype(np.float64) if is_floating(t.dtype) else t._array.copy()) for t in everything]

    def reset() -> None:
        for t, array in wide[len(parameters) :]:
            t._array = array

    try:
        for t, array in wide:
            t._array = array
        yield {name: t for name, t in parameters.items() if t.requires_grad}, reset
    finally:
        for t, array, gradient, version in saved:
            t._array, t.grad, t._version = array, gradient, version


@dataclass
class Row:
    """What was found for one tensor; `worst` is the comparison that came closest to failing, or failed by most."""

    name: str
    shape: tuple[int, ...]
    elements: int
    projections: int
    kinks: int = 0
    failures: int = 0
    worst: tuple[str, float, float] = ("", 0.0, 0.0)  # where, analytic, numeric
    excess: float = -1.0
    ratios: list[float] = field(default_factory=list)

    def add(self, where: str, analytic: float, numeric: float, tolerance: float, kink: bool) -> None:
        if kink:
            self.kinks += 1
            return
        error = abs(analytic - numeric)
        excess = error / tolerance if tolerance > 0 else (0.0 if error == 0 else np.inf)
        if not excess <= 1:  # NaN is a failure too
            self.failures += 1
            self.ratios.append(analytic / numeric if numeric else np.inf)
        if not excess <= self.excess:
            self.excess, self.worst = excess, (where, analytic, numeric)

    @property
    def cells(self) -> list[str]:
        where, analytic, numeric = self.worst
        size = int(np.prod(self.shape))
        checked = f"{self.elements} of {size}" + (f" + {self.projections} projections" if self.projections else "")
        error = abs(analytic - numeric)
        relative = error / max(abs(analytic), abs(numeric)) if error else 0.0
        verdict = "ok" if not self.failures else f"{self.failures} WRONG"
        if self.kinks:
            verdict += f", {self.kinks} at a kink"
        shape = "x".join(map(str, self.shape)) or "scalar"
        return [self.name, shape, checked, f"{error:.1e}", f"{relative:.1e}", where, f"{analytic:.9g}", f"{numeric:.9g}", verdict]


HEADINGS = ["tensor", "shape", "checked", "worst error", "relative", "where", "analytic", "numeric", ""]


@dataclass
class GradcheckReport:
    """The result of `gradcheck`: true when every comparison passed."""

    name: str
    order: int
    rows: list[Row]
    warnings: list[str]
    rtol: float
    atol: float

    def __bool__(self) -> bool:
        return not any(row.failures for row in self.rows)

    def __repr__(self) -> str:
        kind = "second derivatives" if self.order == 2 else "gradients"
        verdict = "agree with" if self else "DISAGREE with"
        lines = [f"{self.name}: {kind} {verdict} finite differences (rtol {self.rtol:g}, atol {self.atol:g})"]
        table = [HEADINGS, *(row.cells for row in self.rows)]
        widths = [max(len(cells[i]) for cells in table) for i in range(len(HEADINGS))]
        lines += ["  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip() for cells in table]
        for row in self.rows:
            if row.failures > 1 and np.isfinite(row.ratios).all() and np.ptp(row.ratios) < 1e-3 * abs(row.ratios[0]):
                lines.append(f"{row.name}: analytic / numeric = {row.ratios[0]:.4g} at every failure: a constant factor is wrong")
        return "\n".join(lines + [f"note: {note}" for note in self.warnings])
