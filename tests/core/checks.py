"""What the tests of the core operations share."""

from __future__ import annotations

import operator

import numpy as np
from numpy.testing import assert_allclose

import minidl
from minidl import Tensor, backend

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]
DTYPES = ["float32", "float64"]


def assert_equal(result: Tensor, expected: np.ndarray) -> None:
    assert isinstance(result, Tensor) and result.device == backend.canonical_device(minidl.get_default_device())
    assert (result.shape, result.dtype) == (np.shape(expected), expected.dtype)
    assert_allclose(result.numpy(), expected, rtol=2e-5 if expected.dtype == "float32" else 1e-12, atol=1e-6)
