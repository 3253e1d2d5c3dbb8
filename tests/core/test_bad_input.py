"""What the core operations refuse, and with which words."""

from __future__ import annotations

import numpy as np
import pytest

from minidl import Tensor

ERRORS = {
    "add": (lambda x: x + Tensor([1.0, 2.0]), ValueError, r"Add of \(2, 3\) float32 on .*, \(2,\) float32 on"),
    "compare": (lambda x: x < Tensor([1.0, 2.0]), ValueError, r"Compare of \(2, 3\) float32 on .*, \(2,\) float32 on"),
    "matmul": (
        lambda x: x @ x,
        ValueError,
        r"MatMul of \(2, 3\).*, \(2, 3\).*: the 3 columns of the first .* 2 rows of the second",
    ),
    "matmul of batches": (lambda x: x @ Tensor(np.ones((2, 2, 2))), ValueError, r"MatMul of \(2, 3\).*\(2, 2, 2\)"),
    "matmul with a number": (lambda x: x @ 2, ValueError, r"matmul: shapes \(2, 3\) and \(\): a scalar is no matrix; use \*"),
    "number matmul": (lambda x: 2 @ x, ValueError, r"matmul: shapes \(\) and \(2, 3\)"),
    "reshape": (lambda x: x.reshape(4, -1), ValueError, r"Reshape of \(2, 3\)"),
    "transpose": (lambda x: x.transpose(0, 2), ValueError, r"Transpose of \(2, 3\)"),
    "transpose twice": (lambda x: x.transpose(0, 0), ValueError, r"Transpose of \(2, 3\)"),
    "sum": (lambda x: x.sum(axis=2), ValueError, r"axis 2 of a Tensor of shape \(2, 3\), which has 2 axes"),
    "mean": (lambda x: x.mean(axis=(0, -3)), ValueError, r"axis -3 of a Tensor of shape \(2, 3\)"),
    "max": (lambda x: x.max(axis=(0, -2)), ValueError, r"axis \(0, -2\) names an axis twice"),
    "sum over no axis": (lambda x: x.sum(1.0), TypeError, r"axis must be an int, several of them, or None for all; got 1.0"),
    "mean over a name": (lambda x: x.mean("a"), TypeError, r"axis must be an int, .* got 'a'"),
    "min": (lambda x: x.min(axis=5), ValueError, r"axis 5 of a Tensor"),
    "min of integers": (lambda x: x.astype(int).min(axis=5), ValueError, r"axis 5 of a Tensor"),
    "argmax": (lambda x: x.argmax(axis=2), ValueError, r"axis"),
    "max of nothing": (lambda x: x[:0].max(), ValueError, r"RowMax of \(0,\).*: no elements to take the maximum of"),
    "power": (lambda x: x**x, TypeError, r"power: the exponent must be a number, got Tensor; use \(b \* a\.log\(\)\)\.exp\(\)"),
    "addend": (lambda x: x + "a", TypeError, "a Tensor holds numbers"),
}


@pytest.mark.parametrize("wrong, kind, message", ERRORS.values(), ids=ERRORS)
def test_errors(device, wrong, kind, message):
    with pytest.raises(kind, match=message):
        wrong(Tensor(np.ones((2, 3), np.float32)))
