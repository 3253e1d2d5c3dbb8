"""bfloat16: which types count as floating point, conversion there and back, and sums that are float32 until the last moment."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import standin_cupy
from kernels.pieces import in_pieces

import minidl
import minidl.functional as F
from minidl import Tensor
from minidl.backend import to_device
from minidl.data import DataLoader, EmbeddedCIFAR10
from minidl.dtypes import PRECISIONS, as_dtype, is_bfloat16, is_floating, rounded, set_precision
from minidl.kernels import convolution, parallel
from minidl.kernels.window import Window

BFLOAT16 = as_dtype("bfloat16")


def narrow(*shape: int, value: float = 1.0) -> Tensor:
    return Tensor(np.full(shape, value, np.float32)).astype("bfloat16")


# What there is


@pytest.mark.parametrize("dtype, floating", [
    ("float16", True), ("float32", True), ("float64", True), ("bfloat16", True), ("int64", False), ("uint8", False), ("bool", False),
    ("V2", False), ("float8_e4m3fn", False),
])  # fmt: skip
def test_which_types_are_floating_point(dtype, floating):
    assert is_floating(np.dtype(dtype)) is floating
    assert is_bfloat16(np.dtype(dtype)) is (dtype == "bfloat16")


def test_other_kinds_are_refused_as_before(device):
    for array in (np.zeros(2, "V2"), np.zeros(2, "float8_e4m3fn"), np.zeros(2, complex)):
        with pytest.raises(TypeError, match="a Tensor holds numbers; ndarray gives an array of dtype"):
            Tensor(array, device="cpu")


@pytest.mark.parametrize("dtype", ["bfloat17", "S3", "complex64", object, 3])
def test_a_tensor_of_anything_but_numbers_is_refused(dtype):
    for make in (Tensor([1.0]).astype, lambda dtype: DataLoader(EmbeddedCIFAR10(), 5, dtype=dtype)):
        with pytest.raises(TypeError, match=f"expected a type of real numbers, .* got {dtype!r}"):
            make(dtype)


def test_without_its_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(RuntimeError, match=r"bfloat16 needs the package ml_dtypes, .*`python -m pip install ml_dtypes`"):
        Tensor([1.0]).astype("bfloat16")
    assert Tensor([1.0]).astype("float16").dtype == np.float16


def test_a_precision_is_products_and_the_type_of_images(monkeypatch):
    found = [(set_precision(precision), minidl.get_float32_matmul_precision()) for precision in PRECISIONS]
    assert found == [("float32", "highest"), ("float32", "high"), ("bfloat16", "highest")]
    set_precision("tf32")
    with pytest.raises(ValueError, match="precision must be one of float32, tf32, bf16, got 'half'"):
        set_precision("half")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(RuntimeError, match="ml_dtypes"):
        set_precision("bf16")
    assert minidl.get_float32_matmul_precision() == "high"  # what is refused changes nothing


def test_nothing_imports_the_package_before_it_is_needed(tmp_path):
    import subprocess

    program = (
        "import minidl, sys; (minidl.Tensor([1.0], requires_grad=True) * 2).sum().backward(); print('ml_dtypes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# There and back


def test_there_and_back(device):
    x = Tensor(np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -3.1415927, 1e30, 1e-40, 0, -0.0, np.inf, np.nan], np.float32))
    y = x.astype("bfloat16")
    assert y.dtype == BFLOAT16 and y.device == x.device and y.astype("bfloat16") is y and y.astype(BFLOAT16) is y
    back = y.astype("float32").numpy()
    assert back[:4].tolist() == [1, 1, 1 + 2**-6, -3.140625], "8 binary digits; of two that are equally near the even one"
    np.testing.assert_allclose(back[4:], x.numpy()[4:], rtol=2**-8, atol=1e-40)
    assert Tensor(y).dtype == Tensor(y.numpy()).dtype == BFLOAT16 and np.signbit(back[7])
    assert y[3].item() == -3.140625 and isinstance(y[3].item(), float) and "bfloat16" in repr(y)


def test_gradients_come_back_in_the_other_type(device):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.astype("bfloat16")
    (y * y).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.numpy().tolist() == [2.0, 4.0]
    z = Tensor(y.detach(), requires_grad=True)
    (z.astype("float32") * 3).sum().backward()
    assert z.grad.dtype == BFLOAT16 and z.grad.astype("float32").numpy().tolist() == [3.0, 3.0]
    z.data = [1.00390625, 7.0]
    assert z.dtype == BFLOAT16 and z.astype("float32").numpy().tolist() == [1.0, 7.0]


def test_arithmetic_and_numbers_keep_the_type(device):
    x = Tensor([1.0, -2.0, 3.0]).astype("bfloat16")
    kept = [x + 1, 2 - x, x * 0.1, 1 / x, -x, x**2, x**3, (x * x).sqrt(), x.exp(), (x * x).log(), x.sum(), x.mean(), x.max(), x.min(),
            x[[0, 2]], x.reshape(3, 1) @ x.reshape(1, 3), x @ x, minidl.where(x > 0, x, 0.0), minidl.pad(x, [(1, 1)])]  # fmt: skip
    assert [t.dtype.name for t in kept] == ["bfloat16"] * len(kept)
    assert x.argmax().item() == 2 and (x > 0).numpy().tolist() == [True, False, True] and x.min().item() == -2


def test_beside_a_wider_type_the_wider_one_wins(device):
    x = narrow(2, 3)
    for dtype in (np.float32, np.float64):
        other = Tensor(np.full((2, 3), 1 + 2**-12, dtype))
        results = [x + other, other * x, x @ other.T, other @ x.T, minidl.concatenate([x, other]), minidl.where(x > 0, other, x)]
        assert all(t.dtype == dtype for t in results)
        assert results[2].numpy()[0, 0] == 3 * (1 + 2**-12)


# Sums in float32. In bfloat16 adding 1 to 256 changes nothing.


def test_sums_are_added_up_in_float32(device):
    x = narrow(1000, 3)
    for total in (x.sum(axis=0), x.sum(axis=0, keepdims=True), x.T.sum(axis=1), x[:, 0].sum(), x.mean(axis=0) * 1000):
        assert total.dtype == BFLOAT16 and (total.astype("float32").numpy() == 1000).all()
    bias = Tensor(np.zeros(3, np.float32), requires_grad=True)
    (x + bias.astype("bfloat16")).backward(x)
    assert bias.grad.dtype == np.float32 and bias.grad.numpy().tolist() == [1000] * 3


@pytest.mark.parametrize("shapes", [
    ((2, 1000), (1000, 3)), ((1, 1000), (1000, 1)), ((1000,), (1000,)), ((4, 2, 1000), (1000, 3)), ((4, 2, 1000), (4, 1000, 3)),
    ((2, 1000), (4, 1000, 3)), ((0, 1000), (1000, 3)), ((2, 0, 1000), (1000, 3)),
])  # fmt: skip
def test_products_are_added_up_in_float32(device, shapes):
    a, b = (narrow(*shape) for shape in shapes)
    product = a @ b
    assert product.dtype == BFLOAT16 and product.shape == np.matmul(np.ones(shapes[0]), np.ones(shapes[1])).shape
    assert (product.astype("float32").numpy() == 1000).all()


def test_products_are_rounded_once(device):
    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.standard_normal(shape).astype(np.float32)).astype("bfloat16") for shape in ((40, 500), (500, 30)))
    with in_pieces(1):
        product = (a @ b).astype("float32").numpy()
    exact = a.astype("float64").numpy() @ b.astype("float64").numpy()
    once = Tensor(exact.astype(np.float32)).astype("bfloat16").astype("float32").numpy()
    assert (product == once).mean() > 0.99, "float32 may have rounded over the middle between two"


ONCE = {
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 3),
    "max_pool2d": lambda x: F.max_pool2d(x, 3),
    "local_response_norm": lambda x: F.local_response_norm(x, 5, 0.1),
    "local_response_norm_within": lambda x: F.local_response_norm_within(x, 3, 0.1),
    "batch_norm": lambda x: F.batch_norm(x, Tensor(np.zeros(6, np.float32)), Tensor(np.ones(6, np.float32)), training=True),
    "dropout": lambda x: F.dropout(x, 0.3),
    "conv2d": lambda x: F.conv2d(x, narrow(3, 3, 6, 4, value=0.3)),
    "col2im": lambda x: F.col2im(x.reshape(2, 4, 4, 24), (5, 5), 2),
    "sigmoid": F.sigmoid,
    "power": lambda x: x**-0.75,
    "sum": lambda x: x.sum(axis=(0, 1)),
}


@pytest.mark.parametrize("operation", ONCE.values(), ids=ONCE.keys())
def test_what_an_operation_computes_is_rounded_once(device, operation):
    """So it is float32's result, rounded: but for a number that float32 itself rounded over the middle between two."""
    x = Tensor(np.abs(np.random.default_rng(0).standard_normal((2, 8, 8, 6))).astype(np.float32)).astype("bfloat16")
    results = []
    for dtype in ("bfloat16", "float32"):
        minidl.manual_seed(0)
        results.append(operation(x.astype(dtype)).astype("bfloat16").astype("float32").numpy())
    assert (results[0] == results[1]).mean() > 0.98


def test_a_convolution_and_its_gradients_are_added_up_in_float32(device, monkeypatch):
    """The weight gradient also from piece to piece: a piece holds one image here."""
    images, ones, window = narrow(1000, 1, 1, 2), narrow(1, 1, 1000, 3), Window((1, 1))
    wide = narrow(2, 2, 2, 1000)
    assert (F.conv2d(wide, ones).astype("float32").numpy() == 1000).all()
    there = [
        to_device(t.data, "gpu" if device == "gpu" else "cpu") for t in (images, narrow(1000, 1, 1, 3), narrow(1, 2, 2, 1000))
    ]
    monkeypatch.setattr(parallel, "GPU_FACTOR", 1)
    with in_pieces(1):
        total = convolution.weight_gradient(there[0], there[1], window, 1)
    assert total.dtype == BFLOAT16 and (to_device(total, "cpu").astype(np.float32) == 1000).all()
    strided = Window((1, 1), (2, 2))
    weight = narrow(1, 1, 2, 1000).data
    dx = convolution.input_gradient(there[2], weight, strided, 1, 4, 4)
    assert (to_device(dx, "cpu")[0, ::2, ::2].astype(np.float32) == 1000).all()


# Master weights


@pytest.mark.parametrize("layer", [
    lambda x, w, b: F.linear(x.reshape(2, 9), w.reshape(9, 4), b), lambda x, w, b: F.conv2d(x, w.reshape(3, 3, 1, 4), b),
])  # fmt: skip
def test_a_bias_keeps_its_digits(device, layer):
    """And so does its gradient, the sum of 1 and 2 ** -10, of which bfloat16 would leave 1."""
    bias = Tensor(np.full(4, 1 + 2**-10, np.float32), requires_grad=True)
    x, weight = Tensor(np.eye(2, 9, dtype=np.float32).reshape(2, 3, 3, 1)), Tensor(-np.ones(36, np.float32))
    y = layer(x.astype("bfloat16"), weight, bias)
    assert y.dtype == BFLOAT16 and (y.astype("float32").numpy() == 2**-10).all()
    gradient = np.array([1, 2**-10], np.float32).reshape(-1, *[1] * (y.ndim - 1))
    y.backward(Tensor(np.broadcast_to(gradient, y.shape)).astype("bfloat16"))
    assert (bias.grad.numpy() == 1 + 2**-10).all()


@pytest.mark.parametrize("layer", [
    lambda x, w, b: F.linear(x.reshape(2, 9), w.reshape(9, 4), b), lambda x, w, b: F.conv2d(x, w.reshape(3, 3, 1, 4), b),
])  # fmt: skip
@pytest.mark.parametrize("images, bias", [
    ("bfloat16", "float16"), ("bfloat16", "float32"), ("bfloat16", "float64"), ("float32", "bfloat16"), ("float64", "bfloat16"),
])  # fmt: skip
def test_a_bias_of_another_type_changes_nobodys(device, layer, images, bias):
    x, w, b = (
        Tensor(np.ones(shape)).astype(dtype).detach() for shape, dtype in (((2, 3, 3, 1), images), (36, images), (4, bias))
    )
    b.requires_grad = True
    y = layer(x, w, b)
    y.sum().backward()
    assert y.dtype == images and (y.astype("float32").numpy() == 10).all()
    assert b.grad.dtype == bias and (b.grad.astype("float32").numpy() == 2).all()


@pytest.mark.parametrize("layer", [
    lambda x, w, b: F.linear(x.reshape(2, 9), w.reshape(9, 4), b), lambda x, w, b: F.conv2d(x, w.reshape(3, 3, 1, 4), b),
])  # fmt: skip
def test_layers_round_their_parameters_and_get_float32_gradients(device, layer):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 3, 1), (36,), (4,))]
    x, w, b = (Tensor(a, requires_grad=True) for a in arrays)
    y = layer(x.astype("bfloat16"), w, b)
    y.sum().backward()
    assert y.dtype == BFLOAT16 and x.grad.dtype == w.grad.dtype == b.grad.dtype == w.dtype == np.float32
    assert w.numpy().tobytes() == arrays[1].tobytes() and b.grad.numpy().ravel()[0] == y.size / 4
    coarse = [Tensor(a).astype("bfloat16").astype("float32") for a in arrays]
    exact = layer(*coarse).numpy()
    np.testing.assert_allclose(y.astype("float32").numpy(), exact, rtol=2**-7, atol=2**-7 * np.abs(exact).max())
    with_float32_images = layer(x, *(t.astype("bfloat16") for t in (w, b)))
    assert with_float32_images.dtype == np.float32, "a layer computes in the type of its images"


def test_the_loss_of_bfloat16_scores_is_float32(device):
    scores = Tensor(np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)).astype("bfloat16")
    labels = np.arange(4)
    x = Tensor(scores, requires_grad=True)
    loss = F.cross_entropy(x, labels)
    loss.backward()
    assert loss.dtype == np.float32 and x.grad.dtype == BFLOAT16
    assert loss.item() == F.cross_entropy(scores.astype("float32"), labels).item()
    assert F.softmax(scores).dtype == F.log_softmax(scores).dtype == np.float32


def test_rounded_leaves_what_is_no_float32_alone(device):
    x = narrow(3).data
    value, place = rounded(lambda a, n: (a * n, a.argmax()), x, 3)
    assert value.dtype == BFLOAT16 and place.dtype.kind == "i"


# The stand-in is as strict as it should be


def test_what_cupy_cannot_do_with_it():
    with standin_cupy.install() as cupy:
        a = cupy.asarray(np.ones((2, 2), BFLOAT16))
        for crash in (lambda: a[0] @ a, lambda: a.reshape(1, 2, 2) @ a, lambda: cupy.dot(a[0], a[0])):
            with pytest.raises(SystemError, match="crashes in CuPy 14"):
                crash()
        for wrong in (lambda: a[:1] @ a[:, :1], lambda: a * 2.0, lambda: cupy.cumsum(a), lambda: cupy.add.at(a, [0], a[0])):
            with pytest.raises(TypeError):
                wrong()
        assert (a @ a).dtype == BFLOAT16 and cupy.where(a > a, a, a).dtype == np.float32
        assert np.isnan(cupy.empty(3, BFLOAT16).get().astype(np.float32)).all()
        with pytest.raises(ValueError, match="Unknown compute type: 6"):
            cupy._core.set_compute_type(np.float32, 6)
