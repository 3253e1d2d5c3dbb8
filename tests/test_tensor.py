"""Tensor from the outside, and every core operation: values against NumPy, gradients against finite differences."""

from __future__ import annotations

import operator

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import standin_cupy
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import minidl
from minidl import Function, Tensor, backend
from minidl.core.shape import BroadcastTo, SumTo

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
DTYPES = ["float32", "float64"]


def positive(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 2.0, shape)


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


def test_an_operation_cannot_write_into_its_input():
    class Doubling(Function):
        def forward(self, x):
            x *= 2
            return x

    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="Doubling of .*read-only"):
        Doubling()(x)
    assert_array_equal(x.numpy(), [1, 2])


@pytest.mark.parametrize("make", [lambda i: i, lambda i: (slice(None), i)])
def test_an_index_that_is_changed_later_does_not_move_the_gradient(device, make):
    x = Tensor(np.ones((3, 3), np.float32), requires_grad=True)
    index = np.array([0, 1])
    y = x[make(index)]
    index[:] = 2
    y.sum().backward()
    assert_array_equal(x.grad.numpy() if make(0) == 0 else x.grad.numpy().T, [[1, 1, 1], [1, 1, 1], [0, 0, 0]])


def test_a_tuple_inside_an_index_is_a_list_of_places(device):
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (x[:, (0, 0)].sum() + x[range(2), (1, 1)].sum()).backward()
    assert_array_equal(x.grad.numpy(), [[2, 1, 0], [2, 1, 0]])


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


# Values against NumPy


def layouts(x):
    """The same elements in other places of memory: as they are, transposed, backwards, every second."""
    return [x, x.T, x[(slice(None, None, -1),) * x.ndim], x[(slice(None, None, 2),) * x.ndim]]


@st.composite
def operands(draw, shapes, low=-4.0, dtypes=DTYPES):
    """Pairs of (Tensor, NumPy array), in the same layout, contiguous or not."""
    pairs = []
    for shape in shapes:
        dtype = draw(st.sampled_from(dtypes))
        array = draw(npst.arrays(dtype, shape[::-1], elements=st.floats(low, 4.0, width=32, allow_subnormal=False)))
        pairs.append((Tensor(array).T, array.T))
    return pairs


def assert_equal(result: Tensor, expected: np.ndarray) -> None:
    assert isinstance(result, Tensor) and result.device == backend.canonical_device(minidl.get_default_device())
    assert (result.shape, result.dtype) == (np.shape(expected), expected.dtype)
    assert_allclose(result.numpy(), expected, rtol=2e-5 if expected.dtype == "float32" else 1e-12, atol=1e-6)


UNARY = {
    "negative": (lambda x: -x, lambda x: -x),
    "power 0": (lambda x: x**0, lambda x: x**0),
    "power 1": (lambda x: x**1, lambda x: x**1),
    "power 2": (lambda x: x**2, lambda x: x**2),
    "power 3": (lambda x: x**3, lambda x: x**3),
    "power 0.5": (lambda x: x**0.5, lambda x: x**0.5),
    "power -1.5": (lambda x: x ** np.float64(-1.5), lambda x: x**-1.5),
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), np.log),
    "sqrt": (lambda x: x.sqrt(), np.sqrt),
    "astype 32": (lambda x: x.astype("float32"), lambda x: x.astype("float32")),
    "astype 64": (lambda x: x.astype(np.float64), lambda x: x.astype("float64")),
    "astype int": (lambda x: x.astype(int), lambda x: x.astype(int)),
    "flat": (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    "ravelled": (lambda x: x.reshape((1, x.size)), lambda x: x.reshape((1, x.size))),
}


@given(data=st.data())
@pytest.mark.parametrize("name", UNARY)
def test_unary(device, name, data):
    ours, numpys = UNARY[name]
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    [(x, array)] = data.draw(operands([shape], low=0.5))
    for tensor, same in zip(layouts(x), layouts(array), strict=True):
        assert_equal(ours(tensor), np.asarray(numpys(same)))


@given(data=st.data())
@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic_with_broadcasting(device, op, data):
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=3, max_side=3)).input_shapes
    (a, first), (b, second) = data.draw(operands(shapes, low=0.5))
    assert_equal(op(a, b), op(first, second))


@given(data=st.data())
def test_broadcasting_and_its_transpose(device, data):
    """broadcast_to against NumPy's; sum_to by <broadcast(x), y> = <x, sum_to(y)>."""
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 3, 2), min_side=0, max_dims=3, max_side=3))
    (shape,), full = shapes.input_shapes, shapes.result_shape
    (x, array), (y, other) = data.draw(operands([shape, full], dtypes=["float64"]))
    assert_equal(BroadcastTo(full)(x), np.broadcast_to(array, full))
    summed = SumTo(shape)(y)
    assert summed.shape == shape
    assert_allclose((summed * x).sum().item(), (np.broadcast_to(array, full) * other).sum(), atol=1e-9)


@given(data=st.data())
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_reductions(device, name, data):
    least = 0 if name == "sum" else 1
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=least, max_side=3))
    axes = npst.valid_tuple_axes(len(shape))
    axis = data.draw(st.none() | axes | (st.integers(-len(shape), len(shape) - 1) if shape else st.none()))
    keepdims = data.draw(st.booleans())
    [(x, array)] = data.draw(operands([shape]))
    assert_equal(getattr(x, name)(axis, keepdims), np.asarray(getattr(array, name)(axis=axis, keepdims=keepdims)))


@given(data=st.data())
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_reductions_of_integers(device, dtype, data):
    elements = st.booleans() if dtype == "bool" else st.integers(0 if dtype == "uint8" else -200, 200)
    array = data.draw(npst.arrays(dtype, npst.array_shapes(max_dims=2, max_side=3), elements=elements))
    for name in ("sum", "max", "min", "mean"):
        assert_equal(getattr(Tensor(array), name)(axis=0), np.asarray(getattr(array, name)(axis=0)))


@given(data=st.data())
def test_argmax(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, max_side=3))
    [(x, array)] = data.draw(operands([shape]))
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    assert_array_equal(x.argmax(axis).numpy(), array.argmax(axis))


@given(data=st.data())
def test_matmul(device, data):
    strategy = npst.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3, min_side=0)
    (a, first), (b, second) = data.draw(operands(data.draw(strategy).input_shapes))
    assert_equal(a @ b, np.asarray(first @ second))
    if first.dtype == "float32" and first.size:
        assert_equal(first.tolist() @ b, np.asarray(first @ second))


def test_matmul_of_large_matrices(device):
    a, b = np.random.default_rng(0).standard_normal((2, 150, 150))
    assert_equal(Tensor(a) @ Tensor(b), a @ b)
    assert_equal(Tensor(a).T @ Tensor(b)[:, :140], a.T @ b[:, :140])


@given(data=st.data())
def test_transpose(device, data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
    axes = data.draw(st.permutations(range(len(shape))))
    axes = tuple(a - len(shape) * data.draw(st.booleans()) for a in axes)  # some counted from the end
    x, array = Tensor(np.zeros(shape)), np.zeros(shape)
    assert x.T.shape == x.transpose().shape == array.T.shape
    results = [x.transpose(axes), x.transpose(*axes)] if axes else [x.transpose(axes)]
    upstream = np.random.default_rng(0).standard_normal(array.transpose(axes).shape)
    for result in results:
        assert_equal(result, array.transpose(axes))
    x.requires_grad = True
    x.transpose(axes).backward(Tensor(upstream))
    assert_array_equal(x.grad.numpy().transpose(axes), upstream)


# Indexing: values, and gradients against a count of how often each element was taken


def check_index(array: np.ndarray, index: object, numpys: object = None) -> None:
    numpys = index if numpys is None else numpys
    x = Tensor(array, requires_grad=True)
    result = x[index]
    assert_equal(result, np.asarray(array[numpys]))
    upstream = np.arange(1.0, result.size + 1).reshape(result.shape)
    result.backward(Tensor(upstream))
    positions = np.asarray(np.arange(array.size).reshape(array.shape)[numpys])
    expected = np.bincount(positions.ravel(), upstream.ravel(), array.size).reshape(array.shape)
    assert_array_equal(x.grad.numpy(), expected)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape)


@given(data=st.data())
def test_basic_indices(device, data):
    """Integers, slices with steps of either sign, None, Ellipsis, and tuples of them."""
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    check_index(numbered(shape), data.draw(npst.basic_indices(shape, allow_newaxis=True)))


@given(data=st.data())
def test_integer_array_indices(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, max_side=4))
    index = data.draw(npst.integer_array_indices(shape, result_shape=npst.array_shapes(max_dims=2, max_side=4)))
    check_index(numbered(shape), index)
    check_index(numbered(shape), tuple(Tensor(i) for i in index), index)
    check_index(numbered(shape), index[0].tolist(), index[0])


@given(data=st.data())
def test_boolean_masks(device, data):
    shape = data.draw(npst.array_shapes(max_dims=3, min_side=0, max_side=4))
    mask = data.draw(npst.arrays(bool, shape[: data.draw(st.integers(1, len(shape)))]))
    check_index(numbered(shape), mask)
    check_index(numbered(shape), Tensor(mask), mask)


MIXED_INDICES = {
    "array and slice": (np.s_[[0, 2, 0], 1:], None),
    "slice and array": (np.s_[::-1, [1, 1, 3]], None),
    "arrays apart": (np.s_[[0, 1], :, [2, 2]], None),
    "array and integer": (np.s_[1, [0, 0, 1]], None),
    "array and None": (np.s_[[2, 0], None, ..., 1], None),
    "mask and integer": (np.s_[[True, False, True], 2], None),
    "mask and slice": (np.s_[:, [True, False, True, True], ::2], None),
    "mask and array": (np.s_[[True, False, True], [3, 3]], None),
    "empty list": ([], None),
    "empty list in a tuple": (np.s_[:, []], None),
    "0-d array": (np.array(1), None),
    "negative duplicates": (np.array([-1, 2, 2]), None),
    "Tensor and slice": ((Tensor([0, 2, 0], device="cpu"), slice(1, 3)), np.s_[[0, 2, 0], 1:3]),
    "0-d Tensor": (Tensor(2, device="cpu"), 2),
}


@pytest.mark.parametrize("index, numpys", MIXED_INDICES.values(), ids=MIXED_INDICES)
def test_mixed_indices(device, index, numpys):
    def moved(part):
        return part.to(device) if isinstance(part, Tensor) else part

    index = tuple(moved(part) for part in index) if isinstance(index, tuple) else moved(index)
    check_index(numbered((3, 4, 3)), index, numpys)


@pytest.mark.parametrize("index", [np.s_[3], np.s_[0, 0, 0], np.s_["a"], np.s_[0.5], np.s_[[0.5]], np.s_[[True]]])
def test_an_index_that_is_none(device, index):
    with pytest.raises((IndexError, TypeError), match=r"GetItem of \(3, 2\) float32 on"):
        Tensor(np.zeros((3, 2), np.float32))[index]


# Gradients against finite differences, and what crosses between host and device

OPERATIONS = {
    "a + b": (lambda a, b: a + b, (2, 3), (2, 3)),
    "a + b broadcast": (lambda a, b: a + b, (2, 1, 3), (4, 1)),
    "a - b": (lambda a, b: a - b, (3,), (2, 1)),
    "a * b": (lambda a, b: a * b, (2, 3), (2, 3)),
    "a * b broadcast": (lambda a, b: a * b, (), (2, 3)),
    "a / b": (lambda a, b: a / b, (2, 3), (2, 3)),
    "a / b broadcast": (lambda a, b: a / b, (2, 1), (1, 3)),
    "a + a": (lambda a: a + a, (3,)),
    "a * a": (lambda a: a * a, (3,)),
    "a / a * a": (lambda a: a / (a * a), (3,)),
    "numbers": (lambda a: 3 - 2 / (1.5 * a) + 1, (3,)),
    "-a": (lambda a: -a, (2, 3)),
    "a ** 0": (lambda a: a**0 * a, (3,)),
    "a ** 1": (lambda a: a**1, (3,)),
    "a ** 2": (lambda a: a**2, (3,)),
    "a ** 3": (lambda a: a**3, (2, 3)),
    "a ** -0.5": (lambda a: a**-0.5, (2, 3)),
    "exp": (lambda a: a.exp(), (2, 3)),
    "log": (lambda a: a.log(), (2, 3)),
    "sqrt": (lambda a: a.sqrt() * a, (2, 3)),
    "matrix @ matrix": (lambda a, b: a @ b, (2, 3), (3, 2)),
    "vector @ vector": (lambda a, b: a @ b, (3,), (3,)),
    "matrix @ vector": (lambda a, b: a @ b, (2, 3), (3,)),
    "vector @ batch": (lambda a, b: a @ b, (3,), (2, 3, 2)),
    "batch @ vector": (lambda a, b: a @ b, (2, 2, 3), (3,)),
    "batch @ matrix": (lambda a, b: a @ b, (2, 2, 3), (3, 2)),
    "matrix @ batch": (lambda a, b: a @ b, (2, 3), (2, 3, 2)),
    "batch @ batch": (lambda a, b: a @ b, (2, 1, 2, 2), (3, 2, 1)),
    "reshape": (lambda a: a.reshape(3, -1), (2, 3)),
    "transpose": (lambda a: a.transpose(1, -1, 0), (2, 3, 1)),
    "T": (lambda a: a.T @ a, (2, 3)),
    "broadcast": (lambda a: BroadcastTo((2, 3))(a), (3,)),
    "sum_to": (lambda a: SumTo((3, 1))(a), (2, 3, 2)),
    "sum": (lambda a: a.sum(), (2, 3)),
    "sum of axes": (lambda a: a.sum(axis=(0, -1)), (2, 3, 2)),
    "sum keeping": (lambda a: a.sum(axis=1, keepdims=True), (2, 3)),
    "mean": (lambda a: a.mean(), (2, 3)),
    "mean of axis": (lambda a: a.mean(axis=1), (2, 3)),
    "max": (lambda a: a.max(), (2, 3)),
    "max of axis": (lambda a: a.max(axis=1, keepdims=True), (2, 3)),
    "max of axes": (lambda a: a.max(axis=(2, 0)), (2, 3, 2)),
    "min": (lambda a: a.min(axis=0), (2, 3)),
    "integer": (lambda a: a[1, -1], (2, 3)),
    "slice": (lambda a: a[::-1, None, 1:], (2, 3)),
    "array": (lambda a: a[Tensor([0, 1, 0])], (2, 3)),
    "arrays": (lambda a: a[Tensor([0, 1, 0]), :, Tensor([1, 1, 1])], (2, 3, 2)),
}
MASK = {"mask": (lambda a: a[Tensor([[True, False, True], [False, True, True]])], (2, 3))}


@pytest.mark.parametrize("f, shapes", [(f, shapes) for f, *shapes in (OPERATIONS | MASK).values()], ids=OPERATIONS | MASK)
def test_gradients(check_gradients, f, shapes):
    check_gradients(f, *[positive(shape) + i / 7 for i, shape in enumerate(shapes)])


@pytest.mark.parametrize(
    "name",
    ["a / b", "exp", "matrix @ vector", "transpose", "broadcast", "sum_to", "sum of axes", "max of axis", "slice", "arrays"],
)
def test_third_derivatives(name):
    """The second derivatives of a gradient: what `backward` is made of has a derivative, and so has the derivative's."""
    f, *shapes = OPERATIONS[name]

    def gradient(*tensors):
        return [g * g for g in minidl.grad((f(*tensors) ** 3).sum(), tensors, create_graph=True)]

    report = minidl.gradcheck(gradient, *map(positive, shapes), order=2)
    assert report, report


@given(data=st.data())
@pytest.mark.parametrize("op", ARITHMETIC)
def test_gradients_of_broadcasting(device, op, data):
    """For shapes of all kinds the gradient of each operand has the operand's shape, and is right along one direction."""
    shapes = data.draw(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
    a, b = (Tensor(positive(shape), requires_grad=True) for shape in shapes)
    op(a, b).sum().backward()
    step = 1e-6
    slope = (op(a.numpy() + step, b.numpy() - step).sum() - op(a.numpy() - step, b.numpy() + step).sum()) / (2 * step)
    assert a.grad.shape == a.shape and b.grad.shape == b.shape
    assert_allclose(a.grad.numpy().sum() - b.grad.numpy().sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay_and_nothing_crosses_to_the_host(device, name, dtype):
    f, *shapes = OPERATIONS[name]
    index = [Tensor([0, 1, 0]), Tensor([1, 1, 1])] if "array" in name else []
    if index:
        f = {"array": lambda a: a[index[0]], "arrays": lambda a: a[index[0], :, index[1]]}[name]
    inputs = [Tensor(positive(shape).astype(dtype), requires_grad=True) for shape in shapes]
    with standin_cupy.count_transfers() as count:
        result = f(*inputs)
        total = (result * result).sum()
        slopes = minidl.grad(total, inputs, create_graph=True)
        sum((slope * slope).sum() for slope in slopes).backward()
    assert (count.to_device, count.to_host) == (0, 0)
    assert {t.dtype for t in [result, *slopes, *[x.grad for x in inputs]]} == {np.dtype(dtype)}


def test_gradients_keep_the_dtype_of_each_input(device):
    a, b = Tensor(np.ones(2, np.float32), requires_grad=True), Tensor(np.ones((3, 2)), requires_grad=True)
    (a * b).sum().backward()
    assert ((a * b).dtype, a.grad.dtype, b.grad.dtype) == ("float64", "float32", "float64")


def test_astype_carries_the_gradient_back(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.astype("float64")
    (y * y).sum().backward()
    assert (y.dtype, x.grad.dtype) == ("float64", "float32")
    assert_array_equal(x.grad.numpy(), [2, 4])
    assert x.astype(np.float32) is x
    assert not x.astype(int).requires_grad and not Tensor([1]).astype(float).requires_grad


def test_the_first_of_equal_maxima_takes_the_gradient(device):
    x = Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    (x.max(axis=1) + x.min(axis=1)).sum().backward()
    assert_array_equal(x.grad.numpy(), [[1, 1, 0], [2, 0, 0]])


def test_powers_at_zero(device):
    """No 0 * infinity, nor a warning, where the derivative exists."""
    for exponent, slope in [(0, 0), (1, 1), (2, 0), (3, 0), (1.5, 0)]:
        x = Tensor([0.0], requires_grad=True)
        (x**exponent).backward()
        assert x.grad.numpy() == slope


# Errors


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


def test_an_error_of_another_kind_comes_through_unchanged():
    class Broken(minidl.Function):
        def forward(self, x):
            raise MemoryError("none left")

    with pytest.raises(MemoryError, match=r"^none left$") as caught:
        Broken()(Tensor(1.0))
    assert caught.value.__cause__ is None
