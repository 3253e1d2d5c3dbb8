"""The graph: order, sums, second derivatives, what is kept and what is let go, and the errors that guard it."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minidl
from minidl import Function, Tensor, grad, no_grad


def leaf(data=(1.0, 2.0, 3.0)) -> Tensor:
    return Tensor(data, requires_grad=True)


# The walk backwards


def test_shared_nodes_add_up(device):
    a, b = leaf(3.0), leaf(2.0)
    (a + a + b * b).backward()
    assert (a.grad.item(), b.grad.item()) == (2, 4)


def test_a_diamond(device):
    x = leaf(2.0)
    y = x * x
    left, right = y * 3, y.exp() + y
    (left * right * y).backward()  # 3 y^3 + 3 y^2 exp(y), y = x^2
    y = 4.0
    assert_allclose(x.grad.item(), (9 * y**2 + np.exp(y) * (6 * y + 3 * y**2)) * 2 * 2.0, rtol=1e-5)


def test_every_operation_is_walked_once(device):
    """64 diamonds in a row: 2**64 paths, but 128 operations."""
    calls = []

    class Same(Function):
        def forward(self, x):
            return x * 1

        def backward(self, gradient):
            calls.append(self._number)
            return gradient

    x = y = leaf(1.0)
    for _ in range(64):
        y = Same()(y)
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.item() == 1
    assert len(calls) == 64 and calls == sorted(calls, reverse=True)


def test_an_old_operation_may_meet_a_new_one(device):
    """The order is by age, not by distance from the result."""
    x = leaf(3.0)
    old = x * 2
    new = (x * x).exp().log()
    (old * new + new).backward()  # 2 x^3 + x^2
    assert_allclose(x.grad.item(), 6 * 9 + 6, rtol=1e-5)


@pytest.mark.parametrize("depth", [30_000])
def test_deep_chains_do_not_recurse(depth):
    x = y = leaf(1.0)
    for _ in range(depth):
        y = y + 1
    y.backward()
    assert y.item() == depth + 1 and x.grad.item() == 1
    for _ in range(depth):
        y = y * x
    del y  # the whole chain goes at once
    (gradient,) = grad(sum((x * 1 for _ in range(2000)), x), [x])
    assert gradient.item() == 2001


def test_two_backward_passes_accumulate(device):
    x = leaf()
    (x * x).sum().backward()
    (x * 3).sum().backward()
    assert_array_equal(x.grad.numpy(), [5, 7, 9])
    x.grad = None
    (x * 3).sum().backward()
    assert_array_equal(x.grad.numpy(), [3, 3, 3])


def test_a_leaf_is_its_own_result(device):
    x = leaf(2.0)
    x.backward()
    x.backward()
    assert x.grad.item() == 2


def test_gradients_of_two_leaves_are_separate(device):
    a, b, upstream = leaf(), leaf(), Tensor([1.0, 1.0, 1.0])
    (a + b).backward(upstream)
    a.grad.data = a.grad.data * 10
    upstream.data = [7.0, 7.0, 7.0]
    assert_array_equal(a.grad.numpy(), [10, 10, 10])
    assert_array_equal(b.grad.numpy(), [1, 1, 1])


@pytest.mark.parametrize("gradient", [[1.0, 10.0], np.array([1.0, 10.0]), Tensor([1, 10], device="cpu")])
def test_a_gradient_for_a_result_that_is_no_scalar(device, gradient):
    x = leaf([3.0, 4.0])
    if isinstance(gradient, np.ndarray):
        gradient = Tensor(gradient).data
    elif isinstance(gradient, Tensor):
        gradient = gradient.to(device)
    x.backward(gradient)
    (x * x).backward(gradient)
    assert x.grad.dtype == "float32"
    assert_array_equal(x.grad.numpy(), [7, 90])


def test_results_without_a_gradient(device):
    x, constant = leaf(), Tensor([1.0, 2.0, 3.0])
    assert not (constant * 2).requires_grad and (constant * 2).grad_fn is None
    (x * constant).sum().backward()
    assert constant.grad is None
    with pytest.raises(ValueError, match=r"backward: this Tensor of shape \(\) depends on nothing with requires_grad=True"):
        constant.sum().backward()


def test_backward_of_what_is_no_scalar(device):
    x = leaf(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"gradient of a Tensor of shape \(2, 3\) is not defined.*\.sum\(\).*gradient="):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), the Tensor \(2, 3\)"):
        (x * 2).backward([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"grad: outputs\[1\] has shape \(2, 3\), not one element"):
        grad([x.sum(), x * 2], x)
    assert x.grad is None
    x[:1, :1].backward()  # of one element
    assert x.grad.numpy().sum() == 1


# The graph is freed, unless asked to stay


def test_a_second_backward_names_the_operation(device):
    y = (leaf() * 2).exp().sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"Sum: the graph .* was freed by an earlier backward.*retain_graph=True"):
        y.backward()


def test_a_freed_graph_behind_a_new_operation(device):
    x = leaf()
    shared = x.exp()
    shared.sum().backward()
    with pytest.raises(RuntimeError, match="Exp: the graph"):
        (shared * 2).sum().backward()
    with pytest.raises(RuntimeError, match="Exp: the graph"):
        grad(shared.mean(), x)


def test_retain_graph(device):
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert_array_equal(x.grad.numpy(), [4, 8, 12])
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


@pytest.fixture
def no_gc():
    """What is freed here is freed by counting references: there are no cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_backward_frees_what_the_operations_kept(device, no_gc):
    x = leaf()
    h = x * 2
    y = (h * h).sum()
    kept = [weakref.ref(h), weakref.ref(h._array)]
    del h
    assert all(ref() is not None for ref in kept)
    y.backward()
    assert all(ref() is None for ref in kept)


def test_backward_frees_what_an_operation_saved_though_its_result_stays(device, no_gc):
    result = leaf().max()
    saved = weakref.ref(result.grad_fn.first)
    assert saved() is not None
    result.backward()
    assert saved() is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_dropping_the_result_frees_the_graph(device, no_gc, create_graph):
    x = leaf()
    h = x.exp()
    y = (h * h).max() + (h.sqrt() @ h.reshape(3, 1)).sum()
    slope = grad(y, x, create_graph=True) if create_graph else y
    kept = [weakref.ref(t) for t in (h, h._array, h.grad_fn, y, y.grad_fn, slope)]
    del h, y, slope
    assert all(ref() is None for ref in kept)


@pytest.mark.parametrize(
    "operation", [Tensor.exp, Tensor.sqrt, Tensor.sum, Tensor.mean, Tensor.max, lambda h: h.astype("float64")]
)
def test_operations_do_not_keep_inputs_that_backward_does_not_need(device, no_gc, operation):
    h = leaf() * 2
    array = weakref.ref(h._array)
    result = operation(h)
    del h
    assert array() is None and result.requires_grad


def test_an_error_leaves_no_cycle(no_gc):
    x = leaf()
    array = weakref.ref(x._array)
    with pytest.raises(ValueError):
        x + Tensor([1.0, 2.0])
    with pytest.raises(NotImplementedError):
        Function()(x)
    del x
    assert array() is None


# Second derivatives, and grad()


def test_create_graph_in_backward(device):
    x = leaf()
    (x * x * x).sum().backward(create_graph=True)
    slope, x.grad = x.grad, None
    slope.sum().backward()
    assert_array_equal(x.grad.numpy(), [6, 12, 18])


def test_derivatives_of_x_to_the_fourth(device):
    x = leaf([2.0, -1.0])
    y, found = x**4, []
    for _ in range(4):
        y = grad(y.sum(), x, create_graph=True)
        found.append(y.numpy().tolist())
    assert_allclose(found, [[32, -4], [48, 12], [48, -24], [24, 24]], rtol=1e-6)
    assert x.grad is None


def test_grad_without_create_graph_is_not_recorded(device):
    x = leaf()
    slope = grad((x * x).sum(), x)
    assert not slope.requires_grad and slope.grad_fn is None
    assert_array_equal(slope.numpy(), [2, 4, 6])


def test_grad_of_leaves_results_and_both(device):
    x, w = leaf(3.0), leaf(5.0)
    h = x * w
    y = h * h
    assert grad(y, [h, x, y, w], create_graph=True)[0].item() == 30
    assert [g.item() for g in grad(y, (h, x, y, w))] == [30, 150, 1, 90]
    assert x.grad is None and h.grad is None


def test_grad_of_several_outputs(device):
    x = leaf(3.0)
    h = x * x
    assert grad([h, h * x, x], x).item() == 6 + 27 + 1


def test_grad_of_a_result_through_an_operation_that_let_its_input_go(device):
    h = leaf() * 2
    assert_allclose(grad(h.exp().sum(), h).numpy(), np.exp([2, 4, 6]), rtol=1e-6)


def test_grad_through_a_gradient_penalty(device):
    """The gradient with respect to the weights of a function of the gradient with respect to the inputs."""
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    slope = grad(((x * w) ** 2).sum(), x, create_graph=True)  # 2 x w^2
    (slope * slope).sum().backward()  # 4 x^2 w^4
    assert_array_equal(w.grad.numpy(), [16 * 1 * 27, 16 * 4 * 64])
    assert_array_equal(x.grad.numpy(), [8 * 1 * 81, 8 * 2 * 256])


def test_grad_for_what_has_none(device):
    x, unused, constant = leaf(1.0), leaf([1.0, 2.0]), Tensor([[1.0]])
    with pytest.raises(ValueError, match=r"inputs\[1\] of shape \(2,\): the outputs do not depend on it"):
        grad(x * 2, [x, unused])
    with pytest.raises(ValueError, match=r"inputs\[0\] of shape \(1, 1\): it does not require a gradient"):
        grad((x * constant).sum(), constant)
    with pytest.raises(ValueError, match=r"inputs\[0\] of shape \(\): the outputs do not depend on it"):
        grad((x * 2).detach(), x)


# no_grad


def test_no_grad_records_nothing(device):
    x = leaf()
    with no_grad():
        assert not minidl.is_grad_enabled()
        y = x * 2
        with no_grad():
            pass
        assert not (x * 2).requires_grad
    assert minidl.is_grad_enabled()
    assert not y.requires_grad and y.grad_fn is None and (x * 2).requires_grad


def test_no_grad_as_decorator(device):
    @no_grad()
    def doubled(x, times):
        return x * 2 if times == 1 else doubled(x * 2, times - 1)

    x = leaf()
    for _ in range(2):
        assert not doubled(x, 3).requires_grad
        assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert minidl.is_grad_enabled()


def test_backward_that_fails_restores_recording():
    class Broken(Function):
        def forward(self, x):
            return x + 1

        def backward(self, gradient):
            raise KeyError(minidl.is_grad_enabled())

    for create_graph in (False, True):
        with pytest.raises(KeyError, match=str(create_graph)):
            Broken()(leaf(1.0)).backward(create_graph=create_graph)
        assert minidl.is_grad_enabled()


def test_backward_inside_no_grad(device):
    x = leaf()
    y = (x * x).sum()
    with no_grad():
        y.backward()
    assert_array_equal(x.grad.numpy(), [2, 4, 6])


def test_no_grad_holds_for_one_thread():
    seen = []

    def look():
        seen.append(minidl.is_grad_enabled())
        with no_grad():
            seen.append(minidl.is_grad_enabled())
            entered.set()
            leave.wait(5)

    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=look)
    with no_grad():
        thread.start()
        entered.wait(5)
    seen.append(minidl.is_grad_enabled())
    leave.set()
    thread.join()
    assert seen == [True, False, True]


# Values changed between forward and backward


def replaced(w):
    w.data = [4.0, 5.0, 6.0]


def stepped(w):
    w._writable()[...] *= 2


@pytest.mark.parametrize("change", [replaced, stepped])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_value_replaced_before_backward_is_noticed(device, change, create_graph):
    w = leaf()
    y = (w * w).sum()
    change(w)
    with pytest.raises(RuntimeError, match=r"Multiply: an input \(shapes \(3,\), \(3,\)\) was given a new value after"):
        y.backward(create_graph=create_graph)
    assert w.grad is None
    (w * w).sum().backward()
    assert_array_equal(w.grad.numpy(), 2 * w.numpy())


def test_a_result_replaced_before_backward_is_noticed(device):
    h = leaf() * 2
    y = (h * h).sum()
    h.data = [0.0, 0.0, 0.0]
    with pytest.raises(RuntimeError, match="Multiply: an input"):
        y.backward()


def test_a_value_may_be_replaced_before_it_is_used(device):
    h, constant = leaf() * 2, Tensor([0.0])
    h.data = [1.0, 4.0, 16.0]
    constant.data = [5.0]
    slope = grad(minidl.concatenate([h.sqrt(), constant]).sum() + h.max(), h)
    assert_array_equal(slope.numpy(), [0.5, 0.25, 1.125])


def test_a_value_may_be_replaced_after_backward(device):
    w = leaf()
    for _ in range(2):
        (w * w).sum().backward()
        w.data = w.data - 0.5 * w.grad.data
        w.grad = None
    assert_array_equal(w.numpy(), [0, 0, 0])


def test_what_was_detached_keeps_its_values_while_the_optimiser_steps(device):
    w = Tensor([1.0, 2.0], requires_grad=True)
    detached, view = w.detach(), w.data
    array = w._writable()
    array[...] = 7
    assert w.numpy().tolist() == [7, 7]
    assert detached.numpy().tolist() == Tensor(view).numpy().tolist() == [1, 2]
    del array
    first = id(w._array)
    w._writable()
    assert id(w._array) == first, "nobody else holds it: no copy"


def test_sums_of_gradients_without_axes_are_arrays_too(device):
    x = Tensor(2.0, requires_grad=True)
    (x * x * x).backward()
    assert x.grad.item() == 12 and x.grad.shape == () and isinstance(x.grad.data, type(x.data))
