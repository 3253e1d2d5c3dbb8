"""Sequential: its layers by name, number and slice; and a ReLU in the pass of the layer before it."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
import minidl.functional as F
from minidl import Tensor, nn
from minidl.nn.module import observed


@pytest.fixture
def three() -> nn.Sequential:
    return nn.Sequential({"fc": nn.Linear(2, 3), "act": nn.ReLU(), "out": nn.Linear(3, 1)})


def test_sequential_computes_one_layer_after_the_other(device, three):
    x = Tensor([[1.0, -2.0]])
    expected = three["out"](three["act"](three["fc"](x)))
    assert_array_equal(three(x).numpy(), expected.numpy())
    assert_array_equal(nn.Sequential(three["fc"], three["act"], three["out"])(x).numpy(), expected.numpy())
    assert nn.Sequential()(x) is x


def test_sequential_names(three):
    assert list(three.state_dict()) == ["fc.weight", "fc.bias", "out.weight", "out.bias"]
    assert list(nn.Sequential(nn.Tanh(), nn.Linear(1, 1)).state_dict()) == ["1.weight", "1.bias"]


def test_sequential_is_indexed_by_number_name_and_slice(three):
    fc, act, out = three
    assert len(three) == 3
    assert three[0] is fc and three[-1] is out and three["act"] is act

    def names(part):
        assert type(part) is nn.Sequential and all(part[name] is three[name] for name in part.layers)
        return list(part.layers)

    assert names(three[:2]) == ["fc", "act"]
    assert names(three[1:]) == ["act", "out"]
    assert names(three[:"act"]) == ["fc", "act"]
    assert names(three["act":]) == ["act", "out"]
    assert names(three["fc":"fc"]) == ["fc"]
    assert names(three[::2]) == ["fc", "out"]
    for key, error in ((3, IndexError), ("none", KeyError), (slice("none"), ValueError)):
        with pytest.raises(error):
            three[key]


def test_a_subclass_of_sequential_may_have_parts_of_its_own():
    class WithHead(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 3))
            self.head = nn.Linear(3, 1, bias=False)

        def forward(self, x):
            return self.head(super().forward(x))

    assert list(WithHead().state_dict()) == ["0.weight", "0.bias", "head.weight"]
    assert len(WithHead()) == 1


def test_sequential_takes_modules_only():
    with pytest.raises(TypeError, match="1 is function, not a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    with pytest.raises(TypeError, match="0 is list, not a Module"):
        nn.Sequential([nn.ReLU()])


# ReLU in the pass of the layer before


def network() -> nn.Sequential:
    minidl.manual_seed(0)
    first = nn.Conv2d(3, 8, 5, stride=2, groups=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.ReLU()
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(6 * 25, 7), nn.ReLU(), nn.Linear(7, 4, bias=False), nn.ReLU())


def images(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape, np.float32))


def one_by_one(model: nn.Sequential, x: Tensor) -> Tensor:
    for layer in model:
        x = layer(x)
    return x


def gradients(model: nn.Sequential, result: Tensor) -> list[np.ndarray]:
    model.zero_grad()
    (result * images(*result.shape).astype(result.dtype)).sum().backward()
    return [p.grad.numpy() for p in model.parameters()]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_the_same_numbers_and_gradients(device, dtype):
    model = network()
    x = images(5, 13, 13, 3).astype(dtype)
    fused, apart = model(x), one_by_one(model, x)
    assert fused.grad_fn.name == "Linear" and apart.grad_fn.name == "ReLU"
    assert model[:3:2](x).grad_fn.relu is False and model[:4](x).grad_fn.relu is True
    assert_array_equal(fused.numpy(), apart.numpy())
    for actual, expected in zip(gradients(model, fused), gradients(model, apart), strict=True):
        assert_array_equal(actual, expected)


@pytest.mark.parametrize("frozen", [{"weight"}, {"bias"}, {"x"}, {"weight", "bias"}, {"x", "bias"}, {"x", "weight"}])
@pytest.mark.parametrize("layer, shape", [(nn.Conv2d(2, 4, 3), (3, 5, 5, 2)), (nn.Linear(6, 4), (5, 6))])
def test_frozen_parts_have_no_gradient_and_the_others_the_same(device, layer, shape, frozen):
    layer = copy.deepcopy(layer).to(minidl.get_default_device())
    layer.weight.requires_grad, layer.bias.requires_grad = "weight" not in frozen, "bias" not in frozen
    found = []
    for model in (nn.Sequential(layer, nn.ReLU()), lambda x: F.relu(layer(x))):
        x = Tensor(images(*shape), requires_grad="x" not in frozen)
        layer.zero_grad()
        result = model(x)
        (result * images(*result.shape)).sum().backward()
        found.append([None if t.grad is None else t.grad.numpy() for t in (x, layer.weight, layer.bias)])
    for name, actual, expected in zip(("x", "weight", "bias"), *found, strict=True):
        assert (actual is None) == (expected is None) == (name in frozen)
        if name not in frozen:
            assert_array_equal(actual, expected)


def test_only_where_there_is_a_relu_the_output_is_kept():
    for layer, x in ((nn.Conv2d(3, 2, 1), images(1, 2, 2, 3)), (nn.Linear(3, 2), images(4, 3))):
        assert hasattr(nn.Sequential(layer, nn.ReLU())(x).grad_fn, "output_array")
        assert not hasattr(layer(x).grad_fn, "output_array")


def test_nan_stays_nan(device):
    for layer, x in ((nn.Conv2d(3, 2, 1), images(1, 2, 2, 3)), (nn.Linear(3, 2), images(4, 3))):
        layer.bias.data = [0.0, float("nan")]
        assert np.isnan(nn.Sequential(layer, nn.ReLU())(x).numpy()[..., 1]).all()


def test_what_is_no_layer_is_no_end():
    model = network()
    model.layers["3"] = None
    with pytest.raises(TypeError, match="NoneType"):
        model(images(5, 13, 13, 3))


def test_fewer_operations():
    model, names = network(), []
    node = model[:7](images(5, 13, 13, 3)).grad_fn
    while node is not None:
        names.append(node.name)
        node = node.inputs[0].grad_fn
    assert names == ["Linear", "Reshape", "Conv2d", "Conv2d"]


def test_where_layers_are_watched_each_computes_by_itself():
    model, seen = network(), []
    x = images(5, 13, 13, 3)
    with observed(model, lambda name, layer, result: seen.append((type(layer).__name__, float(result.min().numpy()) < 0))):
        watched = model(x)
    assert seen[:4] == [("Conv2d", True), ("ReLU", False), ("Conv2d", True), ("ReLU", False)] and len(seen) == len(model)
    assert_array_equal(watched.numpy(), model(x).numpy())


def test_layers_that_are_not_quite_these_are_called_one_by_one(monkeypatch):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Leaky(nn.ReLU):
        def forward(self, x):
            return F.relu(x) - 0.1 * F.relu(-x)

    x, plain = images(4, 2), nn.Linear(2, 3)
    for layers in ((Doubled(2, 3), nn.ReLU()), (plain, Leaky()), (nn.BatchNorm(2), nn.ReLU())):
        assert_array_equal(nn.Sequential(*layers)(x).numpy(), layers[1](layers[0](x)).numpy())
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, x: -x)
    assert_array_equal(nn.Sequential(plain, nn.ReLU())(x).numpy(), F.relu(-x).numpy())
    monkeypatch.undo()
    watched = nn.ReLU()
    watched.forward = lambda x: -x
    assert_array_equal(nn.Sequential(plain, watched)(x).numpy(), -plain(x).numpy())
    plain.forward = lambda x: x
    assert_array_equal(nn.Sequential(plain, nn.ReLU())(x).numpy(), F.relu(x).numpy())
