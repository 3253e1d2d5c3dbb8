"""What the checks of a lesson are written with: everything that `checks/NN_name.py` imports.

A check is a function `check_...(lesson)`. `lesson.slope` is what the learner called `slope`. It returns when all is well, and
otherwise raises `Wrong` with a sentence for the learner, which the functions here find for most cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class Wrong(Exception):
    """The learner's answer is wrong; the message says what differs and what the likely cause is."""


@dataclass(frozen=True)
class Mutant:
    """A mistake that people make: the worked file with `old` replaced by `new` must fail with a message in which `says` occurs.

    cpu_only: on a GPU it is no mistake, or Python says something else first.
    """

    name: str
    old: str
    new: str
    says: str
    cpu_only: bool = False


def same(
    what: str,
    got: Any,
    expected: Any,
    rtol: float = 1e-6,
    atol: float = 1e-12,
    mistakes: Mapping[str, Any] | None = None,
    dtype: Any = None,
) -> None:
    """Raise `Wrong` unless `got` is the number or the array `expected`.

    what: as the learner would say it: "slope(f, 3.0, 0.001) for f(x) = x * x".
    mistakes: {what a mistake is called: what one gets by making it}; the first that fits is named.
    dtype: that `got` must have, where that matters.
    """
    want = _array(expected)
    array = _numbers(what, got, "a number" if want.ndim == 0 else f"an array of shape {want.shape}")
    if array.shape != want.shape:
        raise Wrong(f"{what}: {_shape(array)} instead of {_shape(want)}.{_about_shapes(array, want)}")
    if dtype is not None and array.dtype != np.dtype(dtype):
        raise Wrong(f"{what}: the numbers are {array.dtype} instead of {np.dtype(dtype)}.")
    bad = ~np.isclose(array, want, rtol, atol)
    if not bad.any():
        return
    for mistake, value in (mistakes or {}).items():
        value = _array(value)
        if value.shape == array.shape and np.allclose(array, value, max(rtol, 1e-6), atol, equal_nan=True):
            raise Wrong(f"{what}: {_difference(array, want, bad)}.\nLikely cause: {mistake}")
    raise Wrong(f"{what}: {_difference(array, want, bad)}.{_about_ratio(array, want, bad)}")


def is_a(what: str, got: Any, kind: type | tuple[type, ...]) -> None:
    """Raise `Wrong` unless `got` is a `kind`."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(got, kinds):
        names = " or ".join(dict.fromkeys(k.__name__.rstrip("_") for k in kinds))
        raise Wrong(f"{what}: {_called(got)} instead of {_article(names)} {names}.{_about_type(got)}")


def at_most(what: str, got: Any, limit: float, why: str) -> None:
    """Raise `Wrong` unless the number `got` is at most `limit`; `why` says what a larger one means."""
    number = _numbers(what, got, "a number")
    if number.shape != ():
        raise Wrong(f"{what}: {_shape(number)} instead of one number.")
    if not number <= limit:
        raise Wrong(f"{what}: {_text(number)}, but it should be at most {_text(np.asarray(limit))}. {why}")


def fails(what: str, call: Callable[[], Any], kind: type[Exception], remedy: str) -> None:
    """Raise `Wrong` unless `call()` raises a `kind`: for a lesson in which the learner's code is to refuse something."""
    try:
        got = call()
    except kind:
        return
    raise Wrong(f"{what}: it should raise {kind.__name__}, but it returned {_called(got)}. {remedy}")


def _numbers(what: str, got: Any, wanted: str) -> np.ndarray:
    if got is None or callable(got) or isinstance(got, (str, bytes, dict, set)):
        raise Wrong(f"{what}: {_called(got)} instead of {wanted}.{_about_type(got)}")
    try:
        array = _array(got)
    except (ValueError, TypeError):
        raise Wrong(f"{what}: {_called(got)} instead of {wanted}.{_about_type(got)}") from None
    if array.dtype.kind not in "fiub":
        raise Wrong(f"{what}: {_called(got)} instead of {wanted}.{_about_type(got)}")
    return array


def _array(value: Any) -> np.ndarray:
    """A number, list, array of either library or Tensor, as a NumPy array."""
    for method in ("numpy", "get"):  # a Tensor's; a CuPy array's
        if hasattr(value, method) and not isinstance(value, (np.ndarray, dict)):
            value = getattr(value, method)()
    return np.asarray(value)


def _article(name: str) -> str:
    return "an" if name[:1].lower() in "aeiou" else "a"


def _called(got: Any) -> str:
    """What the learner would call `got`."""
    name = type(got).__name__
    if got is None:
        return "nothing (None)"
    if isinstance(got, type):
        return f"the class {got.__name__}"
    if callable(got) and hasattr(got, "__name__"):
        return f"the function {got.__name__}"
    return f"{_article(name)} {name}"


def _about_type(got: Any) -> str:
    if got is None:
        return " Is a `return` missing?"
    if callable(got) and hasattr(got, "__name__"):
        return " Are the brackets of the call missing?"
    return ""


def _shape(array: np.ndarray) -> str:
    return "one number" if array.shape == () else f"shape {array.shape}"


def _about_shapes(got: np.ndarray, want: np.ndarray) -> str:
    if got.size == want.size and want.shape != ():
        if got.shape == want.shape[::-1]:
            return " The axes are the other way round: transposed?"
        return " The number of elements is right: is a reshape or `keepdims` missing?"
    if got.shape == ():
        return " Is something summed that should stay apart?"
    if want.shape == ():
        return " Is a sum or a mean missing?"
    return ""


def _text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _difference(got: np.ndarray, want: np.ndarray, bad: np.ndarray) -> str:
    """Where, both values, their ratio."""
    if got.shape == ():
        return f"{_text(got)} instead of {_text(want)}{_ratio_text(got, want)}"
    with np.errstate(invalid="ignore"):
        distance = np.where(bad, np.nan_to_num(np.abs(got - want.astype(float)), nan=np.inf, posinf=np.inf), -1)
    index = tuple(int(n) for n in np.unravel_index(int(distance.argmax()), got.shape))
    where = "[" + ", ".join(map(str, index)) + "]"
    most = f", the worst at {where}" if bad.sum() > 1 else f", at {where}"
    count = f"{int(bad.sum())} of {got.size} values are wrong" if bad.sum() > 1 else f"1 of {got.size} values is wrong"
    return f"{count}{most}: {_text(got[index])} instead of {_text(want[index])}{_ratio_text(got[index], want[index])}"


def _ratio_text(got: Any, want: Any) -> str:
    if want == 0 or not np.isfinite(got) or not np.isfinite(want):
        return ""
    return f", ratio {got / want:.4g}"


_CAUSES = {
    2.0: "summed twice, or a 2 too many or too few?",
    0.5: "is a half missing, or is something that is used twice counted once?",
    -1.0: "is a sign turned round?",
    0.0: "does nothing arrive here?",
}


def _about_ratio(got: np.ndarray, want: np.ndarray, bad: np.ndarray) -> str:
    """What a mistake of this kind usually is."""
    if not np.isfinite(got).all() and np.isfinite(want).all():
        kind = "NaN (not a number)" if np.isnan(got).any() else "infinity"
        return f"\nThere is {kind} in it: a division by zero, or a number too large?"
    if not (want != 0).any() or not np.isfinite(got).all() or (got[want == 0] != 0).any():
        return ""
    ratios = (got[want != 0] / want[want != 0]).astype(float)
    if np.ptp(ratios) > 1e-5 * max(1.0, abs(ratios[0])):
        return ""
    for ratio, cause in _CAUSES.items():
        if abs(ratios[0] - ratio) < 1e-5:
            everywhere = f"The ratio is {ratio:.4g} everywhere" if got.shape else f"A ratio of {ratio:.4g}"
            return f"\n{everywhere}: {cause}"
    return f"\nThe ratio is {ratios[0]:.4g} everywhere: a constant factor is wrong." if got.size > 1 else ""
