"""`cupy.random`: the Generator, on one device, with the methods CuPy gives it. The numbers are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import cuda, rules
from .device_array import SCALARS, apply, check_operand


class Generator:
    """CuPy's Generator. Its state lives on the device that was current, and only works there."""

    def __init__(self, seed: Any = None) -> None:
        self._numpy = np.random.default_rng(seed)
        self._device = cuda.Device()

    def __getattr__(self, method: str) -> Any:
        if method not in rules.GENERATOR:
            raise AttributeError(f"'Generator' object has no attribute {method!r} in CuPy")
        return lambda *args, **kwargs: self._draw(method, getattr(self._numpy, method), *args, **kwargs)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = np.float64) -> Any:
        """Unlike NumPy's, with a dtype."""

        def draw(low: Any, high: Any) -> Any:
            return np.asarray(self._numpy.uniform(low, high, size)).astype(dtype)

        return self._draw("uniform", draw, low, high)

    def _draw(self, method: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self._device != cuda.Device():
            raise RuntimeError("This Generator state is allocated in a different device")
        if method == "integers":  # CuPy reads the bounds back to the host, one number each
            for bound in args[:2]:
                check_operand("cupy.random.Generator.integers", bound, SCALARS)
        return apply(f"cupy.random.Generator.{method}", function, *args, **kwargs)


def default_rng(seed: Any = None) -> Generator:
    return seed if isinstance(seed, Generator) else Generator(seed)
