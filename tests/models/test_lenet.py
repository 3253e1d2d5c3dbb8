"""LeNet-5: counts, sizes, gradients."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn
from minidl.models import LeNet5
from models.networks import lively


@pytest.mark.parametrize("size", [28, 32])
def test_counts_and_shapes(device, size):
    model = LeNet5(image_size=size)
    table = nn.summary(model, (size, size, 1))
    assert [row.parameters for row in table.layers if row.parameters] == [156, 2_416, 48_120, 10_164, 850]
    assert table.parameters == 61_706
    shapes = {row.name: row.output_shape for row in table.layers}
    assert [shapes[name] for name in ("conv1", "pool1", "conv2", "pool2")] == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)]
    assert [shapes[name] for name in ("flatten", "fc3", "fc4", "fc5")] == [(400,), (120,), (84,), (10,)]
    assert model(Tensor(np.zeros((3, size, size, 1), np.float32))).shape == (3, 10)


def test_classes_and_colours():
    model = LeNet5(num_classes=7, in_channels=3, image_size=32)
    assert model(Tensor(np.zeros((2, 32, 32, 3), np.float32))).shape == (2, 7)


def test_28_pixels_are_32_with_a_border(device):
    small, large = LeNet5(image_size=28), LeNet5(image_size=32)
    large.load_state_dict(small.state_dict())
    digit = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    border = np.pad(digit, ((0, 0), (2, 2), (2, 2), (0, 0)))
    assert np.allclose(small(Tensor(digit)).numpy(), large(Tensor(border)).numpy(), atol=1e-6)


def test_gradients_against_finite_differences():
    minidl.manual_seed(0)
    report = minidl.gradcheck(lively(LeNet5()), (1, 28, 28, 1))
    assert report and not report.warnings, report


@pytest.mark.parametrize("size", [27, 64, "28"])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match="image_size must be 28 .* or 32, got"):
        LeNet5(image_size=size)
