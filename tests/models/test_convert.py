"""Weights to the layout of PyTorch and Caffe and back, and whether a network in that layout computes the same."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minidl import Tensor, models, nn
from minidl.models import TORCHVISION_NAMES, from_channels_first, to_channels_first
from models.channels_first import forward
from models.networks import VARIANTS, lively, pixels

SIZE = 92  # the maps are 2 x 2 before fc6, and pools round up somewhere in every variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_channels_first_network_computes_the_same(device, variant):
    model = lively(models.AlexNet(variant, 10, width=0.06, image_size=SIZE)).eval()
    x = pixels(2, SIZE)
    state = {name: array.astype(np.float64) for name, array in to_channels_first(model).items()}
    expected = forward(variant, state, x.transpose(0, 3, 1, 2).astype(np.float64))
    np.testing.assert_allclose(model(Tensor(x)).numpy(), expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("make", [*[lambda v=v: models.AlexNet(v, 7, 0.03, SIZE) for v in VARIANTS], models.LeNet5])
def test_there_and_back(device, make):
    model = make()
    names = {f"their.{name}": name for name, _ in model.named_children()}
    state = to_channels_first(model, names)
    assert set(state) == {f"their.{name}" for name in model.state_dict()}
    back = from_channels_first(model, state, names)
    for name, array in model.state_dict().items():
        assert_array_equal(back[name], array, strict=True)
    model.load_state_dict(back)


def test_shapes_and_order():
    model = models.LeNet5(in_channels=3, image_size=32)
    state = to_channels_first(model)
    assert {name: array.shape for name, array in state.items() if name.endswith("weight")} == {
        "conv1.weight": (6, 3, 5, 5),
        "conv2.weight": (16, 6, 5, 5),
        "fc3.weight": (120, 400),
        "fc4.weight": (84, 120),
        "fc5.weight": (10, 84),
    }
    ours = model.state_dict()
    assert state["conv1.weight"][4, 2, 1, 3] == ours["conv1.weight"][1, 3, 2, 4]
    assert state["fc4.weight"][7, 9] == ours["fc4.weight"][9, 7]
    row, column, channel = 1, 3, 11
    assert state["fc3.weight"][50, channel * 25 + row * 5 + column] == ours["fc3.weight"][(row * 5 + column) * 16 + channel, 50]
    assert_array_equal(state["conv1.bias"], ours["conv1.bias"])


def test_torchvisions_names():
    model = models.AlexNet("torchvision", 10, width=0.03)
    assert list(to_channels_first(model, TORCHVISION_NAMES)) == [
        f"{layer}.{kind}"
        for layer in [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
        for kind in ("weight", "bias")
    ]
    shapes = {name: array.shape for name, array in to_channels_first(model, TORCHVISION_NAMES).items()}
    assert shapes["classifier.1.weight"] == (122, 36 * 8) and shapes["features.0.weight"] == (2, 3, 11, 11)


def test_what_does_not_fit_is_reported_with_everything_else():
    small, large = models.AlexNet("caffe", 10, 0.03, 63), models.AlexNet("caffe", 12, 0.03, 128)
    state = to_channels_first(large)
    state["conv9.weight"] = state.pop("conv3.weight")
    with pytest.raises(ValueError) as error:
        small.load_state_dict(from_channels_first(small, state))
    for line in ("missing: conv3.weight", "unexpected: conv9.weight", "shape: fc6.weight", "shape: fc8.weight"):
        assert line in str(error.value)


def test_batch_norm_and_layers_without_images():
    model = nn.Sequential({"fc": nn.Linear(3, 2), "norm": nn.BatchNorm(2)})
    state = to_channels_first(model)
    assert {name: array.shape for name, array in state.items()} == {
        "fc.weight": (2, 3), "fc.bias": (2,), "norm.weight": (2,), "norm.bias": (2,), "norm.running_mean": (2,), "norm.running_var": (2,),
    }  # fmt: skip
    model.load_state_dict(from_channels_first(model, state))


def test_a_layer_by_itself():
    layer = nn.Linear(3, 2)
    state = to_channels_first(layer)
    assert {name: array.shape for name, array in state.items()} == {"weight": (2, 3), "bias": (2,)}
    layer.load_state_dict(from_channels_first(layer, state))


@pytest.mark.parametrize("convert", [to_channels_first, lambda model: from_channels_first(model, {})])
def test_a_network_must_say_what_it_flattens(convert):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match=r"the inputs of 2 need another order.*set model.flattened to that shape, \(H, W, C\)"):
        convert(model)
    model.flattened = (2, 2, 2)
    convert(model)
