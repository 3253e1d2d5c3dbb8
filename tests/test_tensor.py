"""Tensor from the outside: making one, its data, the way out into NumPy, operators with numbers and arrays."""

from __future__ import annotations

import operator

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from core.checks import ARITHMETIC, DTYPES
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import minidl
from minidl import Tensor, backend

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


# Making one


@pytest.mark.parametrize(
    "data, dtype",
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1, 2.5], [3, 4]], "float32"),
        ((1.0, 2.0), "float32"),
        ([], "float32"),
        (3, "int64"),
        ([[1, 2], [3, 4]], "int64"),
        (range(3), "int64"),
        (True, "bool"),
        ([True, False], "bool"),
        (np.float64(1.5), "float64"),
        (np.int32(3), "int32"),
        *[(np.ones((2, 3), t), t) for t in ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")],
    ],
)
def test_construction(device, data, dtype):
    x = Tensor(data)
    assert (x.dtype, x.shape, x.ndim, x.size) == (dtype, np.shape(data), np.ndim(data), np.size(data))
    assert_array_equal(x.numpy(), np.asarray(data, dtype))
    assert not x.requires_grad and x.grad is None and x.grad_fn is None
    y = minidl.tensor(x)
    assert y.dtype == dtype and y is not x
    assert_array_equal(y.numpy(), x.numpy())


def test_construction_from_numbers_that_are_tensors(device):
    x = Tensor([Tensor(1.5), 2, Tensor([3.0])])
    assert_array_equal(x.numpy(), [1.5, 2, 3])
    assert Tensor([Tensor(1), Tensor(2)]).dtype == "int64"


def test_construction_copies(device):
    source = np.zeros(3, np.float32)
    there = backend.to_device(source, device)
    tensors = [Tensor(source), Tensor(there), Tensor(Tensor(there).data), Tensor(source, requires_grad=True)]
    tensors.append(Tensor(tensors[0]))
    source += 1
    there += 1
    for x in tensors:
        assert_array_equal(x.numpy(), [0, 0, 0])


def test_a_view_or_a_subclass_becomes_a_plain_array(device):
    assert_array_equal(Tensor(np.arange(6.0).reshape(2, 3).T[::-1]).numpy(), [[2, 5], [1, 4], [0, 3]])
    masked = Tensor(np.ma.masked_array([1.0, 2.0], [False, True]))
    assert_array_equal((masked + masked).numpy(), [2, 4])


@pytest.mark.parametrize("data", [None, "1.5", ["a"], 1j, np.array(["a"]), np.array([1j]), np.array([None]), {}])
def test_what_is_no_number_is_refused(device, data):
    with pytest.raises(TypeError, match=r"a Tensor holds numbers; .* gives an array of dtype"):
        Tensor(data)


def test_a_ragged_list_is_refused(device):
    with pytest.raises(ValueError, match="inhomogeneous"):
        Tensor([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("data", [1, [1, 2], True, np.ones(2, np.uint8)])
def test_integers_have_no_gradient(device, data):
    with pytest.raises(TypeError, match=r"requires_grad: only floating-point .*int|bool.* of shape .*astype\('float32'\)"):
        Tensor(data, requires_grad=True)
    x = Tensor(data)
    with pytest.raises(TypeError, match="requires_grad"):
        x.requires_grad = True
    assert not x.requires_grad


# Its data


def test_data_is_read_only(device):
    x = Tensor([1.0, 2.0])
    if device == "gpu":
        assert x.data is x._array  # CuPy has no read-only arrays
        return
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        x.data += 1
    assert_array_equal(x.numpy(), [1, 2])
    x._writable()[...] *= 2  # the view is, the Tensor's own array is not
    assert_array_equal(x.numpy(), [2, 4])


def test_data_may_be_replaced(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    source = np.array([3.0, 4.0])
    x.data = source
    source[:] = 0
    assert x.dtype == "float32" and x.requires_grad and x.device == backend.canonical_device(device)
    assert_array_equal(x.numpy(), [3, 4])
    x.data = x.data * 2
    assert_array_equal(x.numpy(), [6, 8])
    for value in ([1, 2], Tensor([1.0, 2.0]), Tensor([1.0, 2.0], device="cpu")):
        x.data = value
        assert x.dtype == "float32"
        assert_array_equal(x.numpy(), [1, 2])
    with pytest.raises(ValueError, match=r"cannot assign shape \(3,\) to a Tensor of shape \(2,\)"):
        x.data = np.zeros(3)
    assert_array_equal(x.numpy(), [1, 2])


def test_elements_cannot_be_assigned(device):
    x = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"cannot be changed in place.*minidl\.where.*\.data"):
        x[0] = 1


def test_augmented_assignment_makes_a_new_tensor(device):
    leaf = Tensor([1.0, 2.0], requires_grad=True)
    x = before = leaf * 1
    x += 1
    x *= 3
    x -= 1
    x /= 2
    assert x is not before
    assert_array_equal(x.numpy(), [2.5, 4])
    assert_array_equal(before.numpy(), [1, 2])
    x.sum().backward()
    assert_array_equal(leaf.grad.numpy(), [1.5, 1.5])


def test_a_parameter_is_not_rebound_by_augmented_assignment(device):
    w = Tensor([1.0, 2.0], requires_grad=True)
    for change in ("w += 1", "w -= 1", "w *= 2", "w /= 2"):
        with pytest.raises(TypeError, match=r"cannot be changed in place: .* w.data = w.data - lr"):
            exec(change, {"w": w})


def test_what_pytorch_users_type(device):
    x = Tensor([1.23456])
    assert f"{x:.2f}" == "1.23" and f"{x}" == repr(x) and int(x) == 1
    assert ["a", "b"][Tensor([0.0, 1.0]).argmax()] == "b"
    with pytest.raises(AttributeError, match="no 'view'; here it is reshape"):
        x.view(1)
    with pytest.raises(TypeError, match="is no index"):
        range(Tensor([1.0]))


def test_an_optimiser_does_not_write_through_a_view(device):
    x = Tensor([1.0, 2.0, 3.0, 4.0])
    w = x[1:3]
    w.requires_grad = True
    w._writable()[...] = 9
    assert_array_equal(w.numpy(), [9, 9])
    if device == "cpu":  # the stand-in for CuPy does not tell a view from its base
        assert_array_equal(x.numpy(), [1, 2, 3, 4])


# Out into Python and NumPy


def test_repr(device):
    where = backend.canonical_device(device)
    x = Tensor([[1.5, 2.0]], requires_grad=True)
    assert repr(x) == f"Tensor([[1.5, 2. ]], shape=(1, 2), dtype=float32, device={where}, requires_grad=True)"
    assert repr(x * 2) == f"Tensor([[3., 4.]], shape=(1, 2), dtype=float32, device={where}, from=Multiply)"
    assert repr(Tensor(3)) == f"Tensor(3, shape=(), dtype=int64, device={where})"
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 500


def test_numpy_is_a_copy(device):
    x = Tensor([1.0, 2.0])
    array = x.numpy()
    array += 1
    assert_array_equal(x.numpy(), [1, 2])
    for array in (np.asarray(x), np.array(x), np.asarray(x, "float64")):
        assert type(array) is np.ndarray
        assert_array_equal(array, [1, 2])
    assert np.asarray(x, "float64").dtype == "float64"


def test_numbers(device):
    for x, value in [(Tensor(1.5), 1.5), (Tensor([[2]]), 2), (Tensor([True]), True)]:
        assert x.item() == value and type(x.item()) is type(value)
        assert float(x) == float(value) and bool(x) is True
    assert not Tensor(0.0) and not Tensor([[False]])
    with pytest.raises(ValueError, match=r"item: the Tensor has shape \(2,\)"):
        Tensor([1.0, 2.0]).item()
    for several in (Tensor([1.0, 2.0]), Tensor([])):
        with pytest.raises(ValueError, match=r"neither true nor false"):
            bool(several)


def test_len_and_iteration(device):
    x = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    assert len(x) == 3
    first, second, third = x
    assert_array_equal(second.numpy(), [3, 4])
    (first * third).sum().backward()
    assert_array_equal(x.grad.numpy(), [[5, 6], [0, 0], [1, 2]])
    for use in (len, iter):
        with pytest.raises(TypeError, match=r"shape \(\) has no length"):
            use(Tensor(1.0))


def test_detach(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).detach()
    assert not y.requires_grad and y.grad_fn is None
    (x * y).sum().backward()
    assert_array_equal(x.grad.numpy(), y.numpy())


def test_tensors_are_told_apart_by_identity(device):
    x, y = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert {x: "x", y: "y"}[x] == "x" and len({x, y, x}) == 2


def test_requires_grad_of_a_result_cannot_be_taken_away(device):
    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"result of Multiply; use \.detach\(\)"):
        (x * x).requires_grad = False
    x.requires_grad = False
    assert not (x * x).requires_grad


# Operators with numbers and arrays on either side


@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2), np.uint8(2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_number_does_not_change_the_dtype(device, number, dtype):
    x = Tensor(np.array([1.0, 4.0], dtype), requires_grad=True)
    for op in ARITHMETIC:
        for result, expected in [(op(x, number), op(x.numpy(), float(number))), (op(number, x), op(float(number), x.numpy()))]:
            assert result.dtype == dtype and result.requires_grad
            assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_an_array_on_the_left_gives_a_tensor(device):
    x, host = Tensor([[1.0, 2.0]], requires_grad=True), np.array([[3.0, 4.0]], np.float32)
    array = Tensor(host).data  # on the device under test
    for op in [*ARITHMETIC, *COMPARISONS]:
        result = op(array, x)
        assert isinstance(result, Tensor)
        assert_allclose(result.numpy(), op(host, x.numpy()), rtol=1e-6)
    assert_array_equal((array @ x.T).numpy(), [[11]])
    minidl.grad((array / x).sum(), x)


def test_ufuncs_refuse_tensors():
    with pytest.raises(TypeError, match="__array_ufunc__"):
        np.exp(Tensor([1.0]))
    with pytest.raises(TypeError, match="__array_ufunc__"):
        np.add(np.ones(1), Tensor([1.0]))


def test_integers_and_booleans_mix_with_numbers(device):
    n, b = Tensor([1, 2]), Tensor([True, False])
    assert_array_equal((n * 2 + 1).numpy(), [3, 5])
    assert (n * 2).dtype == "int64" and (n * 2.5).dtype.kind == (n / 2).dtype.kind == (b * 0.5).dtype.kind == "f"
    assert_array_equal((n * 2.5).numpy(), [2.5, 5])
    assert_array_equal((b + 1).numpy(), [2, 1])
    assert_array_equal((b * Tensor([1.5, 2.5])).numpy(), [1.5, 0])
    assert_array_equal((b == True).numpy(), [True, False])  # noqa: E712


@given(data=st.data())
@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons(device, op, data):
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=2, max_side=3)).input_shapes
    a, b = (data.draw(npst.arrays("float32", shape, elements=st.sampled_from([-1.0, 0.0, 2.0]))) for shape in shapes)
    for result, expected in [
        (op(Tensor(a), Tensor(b)), op(a, b)),
        (op(Tensor(a), 0), op(a, 0)),
        (op(2.0, Tensor(b)), op(2.0, b)),
    ]:
        assert result.dtype == bool and not result.requires_grad
        assert_array_equal(result.numpy(), expected)


def test_comparisons_have_no_gradient(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert not (x > 1).requires_grad and not x.argmax().requires_grad
    with pytest.raises(TypeError, match="holds numbers"):
        x == None  # noqa: B015, E711
