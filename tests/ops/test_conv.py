"""What convolution means, beyond the values and derivatives of `test_every_operation.py`."""

import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Tensor
from minidl.kernels import convolution


def normal(*shape, seed=0, dtype=np.float64, **options):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), **options)


def test_it_is_a_correlation_and_not_a_convolution_with_a_flipped_kernel(device):
    x = np.zeros((1, 3, 3, 1))
    x[0, 0, 0] = 1
    weight = Tensor(np.arange(9.0).reshape(3, 3, 1, 1))
    assert F.conv2d(Tensor(x), weight).item() == 0  # the top left pixel meets the top left weight
    x = np.roll(x, 1, axis=2)
    assert F.conv2d(Tensor(x), weight).item() == 1


def test_it_is_im2col_times_the_weights(device):
    x, weight, options = normal(2, 6, 5, 3), normal(3, 2, 3, 4, seed=1), {"stride": (1, 2), "padding": ((1, 0), (2, 1))}
    product = F.im2col(x, (3, 2), **options) @ weight.reshape(-1, 4)
    np.testing.assert_allclose(F.conv2d(x, weight, **options).numpy(), product.numpy(), rtol=1e-12, atol=1e-12)


def test_towers_are_convolutions_of_their_own_channels(device):
    x, weight, bias = normal(2, 5, 5, 6), normal(3, 3, 2, 9, seed=1), normal(9, seed=2)
    towers = [F.conv2d(x[..., 2 * g : 2 * g + 2], weight[..., 3 * g : 3 * g + 3], bias[3 * g : 3 * g + 3]) for g in range(3)]
    together = F.conv2d(x, weight, bias, groups=3)
    np.testing.assert_allclose(together.numpy(), F.concatenate(towers, axis=-1).numpy(), rtol=1e-12, atol=1e-12)


def test_a_kernel_as_large_as_the_image_is_a_linear_layer(device):
    x, weight, bias = normal(3, 4, 4, 2), normal(4, 4, 2, 5, seed=1), normal(5, seed=2)
    linear = F.linear(F.flatten(x), weight.reshape(32, 5), bias)
    np.testing.assert_allclose(F.conv2d(x, weight, bias).numpy()[:, 0, 0], linear.numpy(), rtol=1e-12, atol=1e-12)


def test_the_2012_network_pads_224_pixels_to_55_places_at_the_bottom_and_the_right(device):
    x, weight = Tensor(np.zeros((1, 224, 224, 1), np.float32)), Tensor(np.zeros((11, 11, 1, 1), np.float32))
    assert F.conv2d(x, weight, stride=4, padding=((0, 3), (0, 3))).shape == (1, 55, 55, 1)
    assert F.conv2d(x, weight, stride=4).shape == (1, 54, 54, 1)


def test_only_the_gradients_that_are_asked_for_are_computed(monkeypatch):
    calls = []
    for name in ("input_gradient", "weight_gradient"):
        real = getattr(convolution, name)
        monkeypatch.setattr(convolution, name, lambda *a, real=real, name=name: calls.append(name) or real(*a))
    F.conv2d(normal(1, 4, 4, 1), normal(3, 3, 1, 1, requires_grad=True)).sum().backward()
    assert calls == ["weight_gradient"]
    F.conv2d(normal(1, 4, 4, 1, requires_grad=True), normal(3, 3, 1, 1)).sum().backward()
    assert calls == ["weight_gradient", "input_gradient"]


@pytest.mark.parametrize("layout", ["transposed", "every other"])
def test_images_in_another_order_in_memory(device, layout):
    x, weight = normal(2, 4, 5, 6), normal(2, 2, 3, 2, seed=1)
    y = x.transpose(0, 2, 3, 1)[..., :3] if layout == "transposed" else x[:, :, :, ::2]
    y = y[:, :4, :4]
    expected = F.conv2d(Tensor(np.ascontiguousarray(y.numpy())), weight).numpy()
    np.testing.assert_allclose(F.conv2d(y, weight).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_an_empty_batch(device):
    x, weight, bias = (
        normal(0, 4, 4, 2, requires_grad=True),
        normal(3, 3, 2, 5, requires_grad=True),
        normal(5, requires_grad=True),
    )
    y = F.conv2d(x, weight, bias)
    y.sum().backward()
    assert y.shape == (0, 2, 2, 5) and x.grad.shape == x.shape
    assert not weight.grad.numpy().any() and not bias.grad.numpy().any()


def test_col2im_counts_how_many_windows_see_a_pixel(device):
    ones = F.im2col(Tensor(np.ones((1, 4, 4, 1))), 3)
    counts = F.col2im(ones, (4, 4), 3).numpy()[0, :, :, 0]
    assert counts.tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]


def test_the_third_derivative_exists(device):
    x, weight = normal(1, 4, 4, 1, requires_grad=True), normal(2, 2, 1, 1, seed=1, requires_grad=True)
    first = minidl.grad((F.conv2d(x, weight) ** 3).sum(), x, create_graph=True)
    second = minidl.grad((first * first).sum(), weight, create_graph=True)
    assert np.isfinite(minidl.grad((second * second).sum(), x).numpy()).all()
