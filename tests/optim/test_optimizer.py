"""What all optimisers share: parameters and groups, errors, state."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, optim

OPTIMIZERS = [
    lambda params, lr=0.1, **settings: optim.SGD(params, lr, **settings),
    lambda params, lr=0.1, **settings: optim.SGD(params, lr, momentum=0.9, rate="outside", **settings),
    lambda params, lr=0.1, **settings: optim.Adam(params, lr, **settings),
]
each = pytest.mark.parametrize("make", OPTIMIZERS, ids=["SGD", "SGD outside", "Adam"])


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(list(values))


@each
def test_a_minimum_is_found(device, make):
    w = parameter(3.0, -2.0)
    optimizer = make([w])
    for _ in range(300):
        optimizer.zero_grad()
        ((w - Tensor([1.0, 2.0])) ** 2).sum().backward()
        optimizer.step()
    assert np.allclose(w.numpy(), [1, 2], atol=1e-3)


@each
def test_a_parameter_without_gradient_stays(device, make):
    used, unused = parameter(1.0), parameter(1.0)
    optimizer = make([used, unused], weight_decay=0.1)
    used.grad = Tensor([1.0])
    optimizer.step()
    assert used.numpy() < 1 and unused.numpy() == 1
    used.grad = None
    before = used.numpy()
    optimizer.step()
    assert used.numpy() == before


@each
def test_zero_grad(device, make):
    w = parameter(1.0)
    w.grad = Tensor([1.0])
    make([w]).zero_grad()
    assert w.grad is None


@each
def test_a_step_after_forward_is_noticed_by_backward(device, make):
    w = parameter(2.0)
    loss = (w * w).sum()
    w.grad = Tensor([1.0])
    make([w]).step()
    with pytest.raises(RuntimeError, match="new value after this operation"):
        loss.backward()


@each
def test_parameters_may_come_from_a_generator_and_settings_in_groups(device, make):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for p in model.parameters():
        p.data = np.ones(p.shape)
        p.grad = Tensor(np.full(p.shape, 2.0, np.float32))
    optimizer = make(
        [
            {"params": model[0].parameters(), "lr": 0.5, "name": "first"},
            {"params": model[1].weight, "weight_decay": 0.5},
            {"params": [model[1].bias]},
        ]
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1, 0.1]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0.5, 0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1, 1]
    optimizer.step()
    # The first step of SGD is lr times (gradient + decay), of Adam lr.
    adam = isinstance(optimizer, optim.Adam)
    expected = [0.5, 0.5, 0.9, 0.9] if adam else [1 - 0.5 * 2, 1 - 0.5 * 2, 1 - 0.1 * (2 + 0.5), 1 - 0.1 * 2]
    assert np.allclose([p.numpy().mean() for p in model.parameters()], expected)

    whole = make(p for p in model.parameters())
    assert len(whole.param_groups) == 1 and len(whole.param_groups[0]["params"]) == 4


@each
def test_a_changed_rate_counts_from_the_next_step(device, make):
    w = parameter(1.0)
    optimizer = make([w])
    optimizer.param_groups[0]["lr"] = 0.0
    w.grad = Tensor([1.0])
    optimizer.step()
    assert w.numpy() == 1


@each
def test_values_loaded_with_their_axes_swapped_are_trained(device, make):
    """Another layout in memory, as a transposed checkpoint has it, must not make the step write into a copy."""
    w = nn.Parameter(np.zeros((3, 2), np.float32))
    w.data = np.arange(6, dtype=np.float32).reshape(2, 3).T
    w.grad = Tensor(np.array([[1, 0], [1, 0], [1, 0]], np.float32))
    before = w.numpy()
    make([w]).step()
    change = w.numpy() - before
    assert np.all(change[:, 0] < -0.05) and np.all(change[:, 1] == 0)


@each
@pytest.mark.parametrize("rows", [1, 4])
def test_a_gradient_that_is_one_number_seen_many_times(device, make, rows):
    """As that of a sum is."""
    w, layer = nn.Parameter(np.zeros(8, np.float32)), nn.Linear(3, 8)
    before = layer.bias.numpy()
    (w.sum() + layer(Tensor(np.ones((rows, 3), np.float32))).sum()).backward()
    make([w, layer.bias]).step()
    for change in (w.numpy(), layer.bias.numpy() - before):
        assert np.all(change < -0.05) and np.allclose(change, change[0])


@each
def test_the_dtype_stays(device, make):
    for dtype in (np.float32, np.float64):
        w = nn.Parameter(np.ones(3, dtype))
        w.grad = Tensor(np.ones(3, dtype))
        make([w], weight_decay=0.1).step()
        assert w.dtype == dtype


@each
def test_moving_the_model(device, make):
    with minidl.default_device("cpu"):
        layer = nn.Linear(2, 2)
        optimizer = make(layer.parameters())
        layer.to(device)  # before the first step: fine
        layer(Tensor(np.ones((1, 2), np.float32), device=device)).sum().backward()
        optimizer.step()
        assert {p.device for p in layer.parameters()} == {Tensor(0.0, device=device).device}
        layer.to("cpu")
        if device == "cpu":
            optimizer.step()
        else:
            with pytest.raises(ValueError, match="moved to cpu after the first step; move it before"):
                optimizer.step()
            layer.weight.grad = Tensor(np.ones((2, 2), np.float32), device=device)
            with pytest.raises(ValueError, match=r"a parameter of shape \(2, 2\) is on cpu, its gradient on gpu:0"):
                optimizer.step()


W = parameter(1.0)


@each
@pytest.mark.parametrize(
    "params, settings, message",
    [
        ([], {}, "there are no parameters"),
        ([{"params": []}], {}, "there are no parameters"),
        (iter([]), {}, "there are no parameters"),
        ([W, parameter(1.0), W], {}, r"shape \(1,\) occurs twice \(again in group 0\)"),
        ([{"params": W}, {"params": [W]}], {}, r"occurs twice \(again in group 1\)"),
        ([W * 2], {}, "group 0 holds something that is no parameter .*Tensor"),
        ([Tensor([1.0])], {}, "holds something that is no parameter"),
        ([("weight", W)], {}, "holds something that is no parameter .*'weight'"),
        ([{"params": W}, W], {}, "either all Tensors or all dicts; group 1 is Parameter"),
        ([{"params": W, "rate": 0.1}], {}, r"group 0 needs 'params' and may set \[.*'lr'.*\]; it has \['params', 'rate'\]"),
        ([{"lr": 0.1}], {}, "group 0 needs 'params'"),
        ([W], {"lr": -0.1}, "lr must be at least 0 and finite, got -0.1"),
        ([W], {"lr": float("nan")}, "lr must be at least 0 and finite, got nan"),
        ([{"params": W, "lr": -1}], {}, "lr must be at least 0 and finite, got -1"),
        ([W], {"weight_decay": -0.1}, "weight_decay must be at least 0 and finite, got -0.1"),
    ],
)
def test_what_is_refused(make, params, settings, message):
    with pytest.raises(ValueError, match=message):
        make(params, **settings)


@each
@pytest.mark.parametrize("params", [W, {"params": [W]}])
def test_a_single_parameter_is_no_list(make, params):
    with pytest.raises(TypeError, match="params must be a list"):
        make(params)
