"""Operations of the user's own: what a Function does for them, and what it says when they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
from minidl import Function, Tensor, grad, nn, no_grad
from minidl.core.arithmetic import Add, Exp


def leaf(data=(1.0, 2.0, 3.0)) -> Tensor:
    return Tensor(data, requires_grad=True)


class Clip(Function):
    """min(max(x, low), high), with a number stored on the way."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def forward(self, x):
        return x.clip(self.low, self.high)

    def backward(self, gradient):
        (x,) = self.inputs
        return minidl.where(x > self.low, minidl.where(x < self.high, gradient, 0.0), 0.0)


class Hypotenuse(Function):
    keeps_output = True

    def forward(self, a, b):
        return (a * a + b * b) ** 0.5

    def backward(self, gradient):
        a, b = self.inputs
        return gradient * a / self.output, gradient * b / self.output


def test_an_operation_of_the_users_own(check_gradients):
    check_gradients(lambda a, b: Hypotenuse()(a, b), (2, 3), (2, 3))
    check_gradients(lambda x: Clip(-0.5, 0.5)(x) * x, (2, 3))
    assert repr(Clip(0, 1)(leaf())).endswith("from=Clip)")


def test_the_result_is_a_plain_tensor_whatever_goes_in():
    """A Parameter times 2 is a Tensor, not something to be trained."""
    w = nn.Parameter([1.0, 2.0])
    y = Exp()(w)
    assert {type(t) for t in (y, y.grad_fn.output, w * 2, w.detach(), grad(y.sum(), w))} == {Tensor}
    with no_grad():
        assert type(Exp()(w)) is Tensor


class Returns(Function):
    """The sum of its inputs, whose backward returns whatever it is told to."""

    def __init__(self, *gradients):
        self.gradients = gradients[0] if len(gradients) == 1 else gradients

    def forward(self, *arrays):
        return sum(arrays)

    def backward(self, gradient):
        return self.gradients


def test_none_for_an_input_that_needs_no_gradient(device):
    a, b = leaf(), leaf()
    Returns(None, Tensor([1.0, 2.0, 3.0]))(a, b).sum().backward()
    assert a.grad is None
    assert_array_equal(b.grad.numpy(), [1, 2, 3])


@pytest.mark.parametrize(
    "gradients, message",
    [
        ((Tensor([1.0, 1.0, 1.0]),), "Returns.backward returned 1 gradients for 2 inputs"),
        ((None,) * 3, "Returns.backward returned 3 gradients for 2 inputs"),
        ((None, Tensor(1.0)), r"Returns.backward returned shape \(\) for an input of shape \(3,\)"),
        ((None, np.ones(3)), r"Returns.backward returned ndarray, which is no Tensor, for an input of shape \(3,\)"),
        ((1.0, None), r"Returns.backward returned float, which is no Tensor, for an input of shape \(3,\)"),
    ],
)
def test_a_backward_that_returns_something_else(gradients, message):
    with pytest.raises(RuntimeError, match=message):
        Returns(*gradients)(leaf(), leaf()).sum().backward()


def test_an_operation_without_forward_or_backward():
    with pytest.raises(NotImplementedError, match=r"Function must define forward\(\*arrays\)"):
        Function()(leaf())

    class Half(Function):
        def forward(self, x):
            return x / 2

    with pytest.raises(NotImplementedError, match=r"Half must define backward\(gradient\)"):
        Half()(leaf(1.0)).backward()


def test_an_operation_is_used_once():
    for operation, inputs in [(Exp(), 1), (Add(), 2)]:
        operation(*[leaf() for _ in range(inputs)])
        with pytest.raises(RuntimeError, match=f"{operation.name}: .* used once"):
            operation(*[leaf() for _ in range(inputs)])


def test_an_operation_cannot_write_into_its_input():
    class Doubling(Function):
        def forward(self, x):
            x *= 2
            return x

    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="Doubling of .*read-only"):
        Doubling()(x)
    assert_array_equal(x.numpy(), [1, 2])


def test_values_that_were_let_go_are_missed_with_a_reason(device):
    class Twice(Function):
        keeps_inputs = False

        def __init__(self, backward):
            self.way_back = backward

        def forward(self, x):
            return x + x

        def backward(self, gradient):
            return self.way_back(gradient, self.inputs[0])

    x = Tensor([1.0, 2.0], requires_grad=True)
    for backward in (lambda g, x: g * (x > 0), lambda g, x: g * x, lambda g, x: x * g):
        with pytest.raises(AttributeError, match="its operation has keeps_inputs = False"):
            Twice(backward)(x * 1).sum().backward()


def test_an_output_that_was_not_kept_is_missed_with_a_reason():
    class Growth(Function):
        def forward(self, x):
            return np.exp(x)

        def backward(self, gradient):
            return gradient * self.output

    with pytest.raises(RuntimeError, match="Growth: the output was not kept; write keeps_output = True"):
        Growth()(leaf()).sum().backward()


def test_an_operation_may_call_its_constants_what_it_likes():
    class Times(Function):
        def __init__(self, number, versions):
            self.number, self.versions = number, versions

        def forward(self, x):
            return x * (self.number * self.versions)

        def backward(self, gradient):
            return gradient * (self.number * self.versions)

    x = Tensor([1.0, 2.0], requires_grad=True)
    Times(3.0, 2.0)(x).sum().backward()
    assert_array_equal(x.grad.numpy(), [6, 6])


def test_an_error_of_another_kind_comes_through_unchanged():
    class Broken(minidl.Function):
        def forward(self, x):
            raise MemoryError("none left")

    with pytest.raises(MemoryError, match=r"^none left$") as caught:
        Broken()(Tensor(1.0))
    assert caught.value.__cause__ is None
