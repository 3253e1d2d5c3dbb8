"""Sequential: its layers by name, number and slice; and a ReLU in the pass of the layer before it."""

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
    assert fused.grad_fn.name == "ReLU" and apart.grad_fn.name == "ReLU", "there is no bias to go with"
    assert model[:3:2](x).grad_fn.relu is False and model[:4](x).grad_fn.relu is True
    assert_array_equal(fused.numpy(), apart.numpy())
    for actual, expected in zip(gradients(model, fused), gradients(model, apart), strict=True):
        assert_array_equal(actual, expected)


def test_fewer_operations():
    model, names = network(), []
    node = model[:7](images(5, 13, 13, 3)).grad_fn
    while node is not None:
        names.append(node.name)
        node = node.inputs[0].grad_fn
    assert names == ["AddBias", "MatMul", "Reshape", "Conv2d", "Conv2d"]


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
    plain.forward = lambda x: x
    assert_array_equal(nn.Sequential(plain, nn.ReLU())(x).numpy(), F.relu(x).numpy())
