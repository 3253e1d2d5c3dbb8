"""Module: how it finds what is inside it, its state, its modes, and Sequential."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
from minidl import Tensor, nn


class Block(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(2, 2)
        self.norm = nn.BatchNorm(2)

    def forward(self, x):
        return self.norm(self.fc(x))


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 2, bias=False)
        self.blocks = [Block(), Block()]
        self.scale = nn.Parameter([2.0])
        self.ends = (nn.Dropout(), nn.Linear(2, 1))
        self.name = "not a part"

    def forward(self, x):
        x = self.first(x) * self.scale
        for part in [*self.blocks, *self.ends]:
            x = part(x)
        return x


PARAMETERS = {
    "scale": (1,),
    "first.weight": (3, 2),
    "blocks.0.fc.weight": (2, 2),
    "blocks.0.fc.bias": (2,),
    "blocks.0.norm.weight": (2,),
    "blocks.0.norm.bias": (2,),
    "blocks.1.fc.weight": (2, 2),
    "blocks.1.fc.bias": (2,),
    "blocks.1.norm.weight": (2,),
    "blocks.1.norm.bias": (2,),
    "ends.1.weight": (2, 1),
    "ends.1.bias": (1,),
}
BUFFERS = [f"blocks.{i}.norm.running_{kind}" for i in (0, 1) for kind in ("mean", "var")]


# What is inside


def test_attributes_are_found_by_path_and_in_order():
    net = Net()
    assert [(name, p.shape) for name, p in net.named_parameters()] == list(PARAMETERS.items())
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert [name for name, _ in net.named_buffers()] == BUFFERS
    assert [name for name, _ in net.named_children()] == ["first", "blocks.0", "blocks.1", "ends.0", "ends.1"]
    assert [name for name, _ in net.named_modules()] == [
        "", "first", "blocks.0", "blocks.0.fc", "blocks.0.norm", "blocks.1", "blocks.1.fc", "blocks.1.norm", "ends.0", "ends.1",
    ]  # fmt: skip
    assert next(net.modules()) is net and len(list(net.modules())) == 10


def test_a_shared_parameter_counts_once():
    net = nn.Sequential({"encode": nn.Linear(3, 3), "decode": nn.Linear(3, 3)})
    net["decode"].weight = net["encode"].weight
    assert [name for name, _ in net.named_parameters()] == ["encode.weight", "encode.bias", "decode.bias"]
    assert list(net.state_dict()) == ["encode.weight", "encode.bias", "decode.weight", "decode.bias"]


def test_a_shared_module_counts_once_and_learns_from_both_places(device):
    layer = nn.Linear(2, 2, bias=False)
    net = nn.Sequential(layer, layer)
    assert len(list(net.parameters())) == 1
    layer.weight.data = [[1.0, 0.0], [0.0, 3.0]]
    net(Tensor([[1.0, 1.0]])).sum().backward()
    # y = x W W, so d(sum y)/dW = x.T (1 W.T) + (x W).T 1
    assert layer.weight.grad.numpy().tolist() == [[1 + 1, 3 + 1], [1 + 3, 3 + 3]]


def test_a_parameter_requires_a_gradient_and_a_buffer_does_not(device):
    assert nn.Parameter([1.0]).requires_grad and nn.Parameter([1.0]).grad_fn is None
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    assert not nn.Buffer([1.0]).requires_grad


def test_a_parameter_cannot_be_overwritten_by_accident():
    layer = nn.Linear(2, 3)
    weight, before = layer.weight, layer.weight.numpy()
    for value in (Tensor(np.zeros((2, 3))), np.zeros((2, 3)), 0.0):
        with pytest.raises(TypeError, match=rf"Linear.weight is a Parameter and {type(value).__name__} is not.*\.weight\.data"):
            layer.weight = value
    assert layer.weight is weight and np.array_equal(weight.numpy(), before)
    layer.weight = nn.Parameter(np.ones((2, 3), np.float32))
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer(Tensor(np.ones((1, 2), np.float32))).numpy().tolist() == [[2, 2, 2]]


def test_a_buffer_cannot_be_overwritten_by_accident():
    layer = nn.BatchNorm(2)
    with pytest.raises(TypeError, match=r"BatchNorm.running_mean is a Buffer and ndarray is not: it would no longer be saved"):
        layer.running_mean = np.zeros(2)
    layer.running_mean = nn.Buffer([1.0, 2.0])
    assert layer.state_dict()["running_mean"].tolist() == [1, 2]


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"Module must define forward"):
        nn.Module()(1)


# Its state


def test_state_dict_holds_copies(device):
    net = Net()
    state = net.state_dict()
    assert list(state) == [*PARAMETERS, *BUFFERS]
    assert all(type(array) is np.ndarray for array in state.values())
    assert_array_equal(state["scale"], [2])
    state["scale"][:] = 7
    assert net.scale.numpy() == [2]
    net.scale.data = [5.0]
    assert state["scale"] == [7]


def test_load_state_dict_takes_everything_over(device):
    minidl.manual_seed(1)
    there, here = Net(), Net()
    there.blocks[0].norm.running_mean.data = [1.0, 2.0]
    objects = list(map(id, here.parameters()))
    here.load_state_dict(there.state_dict())
    for name, array in there.state_dict().items():
        assert_array_equal(here.state_dict()[name], array)
    assert objects == list(map(id, here.parameters())), "an optimiser holds the old ones"
    here.load_state_dict({name: Tensor(array) for name, array in there.state_dict().items()})  # Tensors will do as well


def test_load_state_dict_keeps_dtype_and_device(device):
    layer = nn.Linear(1, 1, bias=False)
    layer.load_state_dict({"weight": np.array([[0.1]], np.float64)})
    assert layer.weight.dtype == np.float32 and layer.weight.device == minidl.get_default_device()


def test_load_state_dict_reports_everything_at_once_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["scale"], state["blocks.1.norm.running_var"]
    state |= {"first.weight": np.zeros((2, 3)), "ends.1.bias": np.zeros(()), "stranger": np.zeros((4, 5)), "blocks.2": [1, 2]}
    with pytest.raises(ValueError) as error:
        net.load_state_dict(state)
    assert str(error.value).splitlines() == [
        "load_state_dict: the state does not fit this Net:",
        "  missing: scale (1,)",
        "  missing: blocks.1.norm.running_var (2,)",
        "  unexpected: stranger (4, 5)",
        "  unexpected: blocks.2 (2,)",
        "  shape: first.weight is (3, 2) here, (2, 3) in the state",
        "  shape: ends.1.bias is (1,) here, () in the state",
    ]
    for name, array in net.state_dict().items():
        assert_array_equal(array, before[name])


@pytest.mark.parametrize("state", [{}, {"weight": np.ones((2, 1)), "more": 1}, {"weight": np.ones((1, 2))}])
def test_one_problem_is_enough(state):
    with pytest.raises(ValueError, match="the state does not fit this Linear:\n  (missing|unexpected|shape): "):
        nn.Linear(2, 1, bias=False).load_state_dict(state)


def test_train_and_eval_reach_every_part():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net and not any(module.training for module in net.modules())
    net.blocks[0].train()
    assert [module.training for module in net.modules()] == [False, False, True, True, True, *5 * [False]]
    assert net.train() is net and all(module.training for module in net.modules())


def test_zero_grad(device):
    net = Net()
    net(Tensor(np.ones((2, 3), np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_moves_parameters_gradients_and_buffers(device):
    with minidl.default_device("cpu"):
        net = Net().eval()
        x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
        y = net(Tensor(x))
        y.sum().backward()
        before, gradient = net.state_dict(), net.first.weight.grad.numpy()
        objects = list(map(id, net.parameters()))

        assert net.to(device) is net
        assert objects == list(map(id, net.parameters())), "an optimiser holds the old ones"
        moved = [*net.parameters(), *(p.grad for p in net.parameters()), *(b for _, b in net.named_buffers())]
        assert {t.device for t in moved} == {Tensor(0.0, device=device).device}
        assert_array_equal(net.first.weight.grad.numpy(), gradient)
        assert np.allclose(net(Tensor(x, device=device)).numpy(), y.numpy(), atol=1e-6)

        assert {t.device for t in net.to("cpu").parameters()} == {"cpu"}
        for name, array in net.state_dict().items():
            assert_array_equal(array, before[name])


def test_repr_is_the_tree():
    assert repr(nn.Sequential({"conv": nn.Conv2d(3, 8, 5, stride=2), "act": nn.ReLU()})) == (
        "Sequential(\n  (conv): Conv2d(3, 8, kernel_size=(5, 5), stride=2)\n  (act): ReLU()\n)"
    )
    net = Net()
    net.blocks = [nn.Sequential(nn.Linear(2, 3))]
    assert repr(net).splitlines() == [
        "Net(",
        "  (first): Linear(3, 2, bias=False)",
        "  (blocks.0): Sequential(",
        "    (0): Linear(2, 3)",
        "  )",
        "  (ends.0): Dropout(p=0.5, inverted=True)",
        "  (ends.1): Linear(2, 1)",
        ")",
    ]
