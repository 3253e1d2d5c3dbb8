"""Arithmetic, element by element with NumPy's broadcasting, and comparisons."""

from __future__ import annotations

from minidl.backend import get_array_module
from minidl.core.shape import sum_to
from minidl.dtypes import is_bfloat16, rounded
from minidl.function import Function


class Add(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gradient):
        a, b = self.inputs
        return sum_to(gradient, a._array.shape), sum_to(gradient, b._array.shape)


class Subtract(Function):
    def forward(self, a, b):
        return a - b

    def backward(self, gradient):
        a, b = self.inputs
        return sum_to(gradient, a.shape), sum_to(-gradient, b.shape) if b.requires_grad else None


class Multiply(Function):
    def forward(self, a, b):
        return a * b

    def backward(self, gradient):
        a, b = self.inputs
        return (
            sum_to(gradient * b, a.shape) if a.requires_grad else None,
            sum_to(gradient * a, b.shape) if b.requires_grad else None,
        )


class Divide(Function):
    def forward(self, a, b):
        return a / b

    def backward(self, gradient):
        a, b = self.inputs
        over_b = gradient / b
        return sum_to(over_b, a.shape), sum_to(-over_b * a / b, b.shape) if b.requires_grad else None


class Negative(Function):
    def forward(self, x):
        return -x

    def backward(self, gradient):
        return -gradient


class Power(Function):
    """x ** exponent, the exponent a plain number."""

    def __init__(self, exponent: float) -> None:
        self.exponent = float(exponent)

    def forward(self, x):
        # Written out, because NumPy's general power takes twenty times as long as a product.
        if self.exponent == 2:
            return x * x
        return rounded(pow, x, self.exponent) if is_bfloat16(x.dtype) else x**self.exponent

    def backward(self, gradient):
        (x,) = self.inputs
        if self.exponent == 0:  # 0 * x ** -1 would be NaN at 0
            return gradient * 0.0
        return gradient * self.exponent if self.exponent == 1 else gradient * (x ** (self.exponent - 1) * self.exponent)


class Exp(Function):
    keeps_inputs, keeps_output = False, True

    def forward(self, x):
        return get_array_module(x).exp(x)

    def backward(self, gradient):
        return gradient * self.output


class Log(Function):
    def forward(self, x):
        return get_array_module(x).log(x)

    def backward(self, gradient):
        return gradient / self.inputs[0]


class Sqrt(Function):
    keeps_inputs, keeps_output = False, True

    def forward(self, x):
        return get_array_module(x).sqrt(x)

    def backward(self, gradient):
        return gradient / (self.output * 2.0)


class Compare(Function):
    """A comparison, by the name NumPy has for it. The result is boolean and has no gradient."""

    def __init__(self, comparison: str) -> None:
        self.comparison = comparison

    def forward(self, a, b):
        return getattr(get_array_module(a), self.comparison)(a, b)
