"""The summary table: what it counts, and that the model does not notice. AlexNet's totals are in tests/models."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
from minidl import nn


def small_network() -> nn.Sequential:
    return nn.Sequential({
        "conv": nn.Conv2d(4, 6, 3, stride=2, groups=2),
        "norm": nn.BatchNorm(6),
        "pool": nn.MaxPool2d(2),
        "tail": nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(24, 10, bias=False)),
    })  # fmt: skip


def test_rows_and_totals(device):
    table = nn.summary(small_network(), (9, 11, 4))
    convolution = 3 * 3 * 2 * 6 + 6
    assert [
        (row.name, row.kind, row.output_shape, row.parameters, row.multiply_accumulates, row.bytes) for row in table.layers
    ] == [
        ("conv", "Conv2d", (4, 5, 6), convolution, 4 * 5 * 6 * (3 * 3 * 2), 4 * (convolution + 120)),
        ("norm", "BatchNorm", (4, 5, 6), 12, 0, 4 * (12 + 120)),
        ("pool", "MaxPool2d", (2, 2, 6), 0, 0, 4 * 24),
        ("tail.0", "Flatten", (24,), 0, 0, 4 * 24),
        ("tail.1", "Dropout", (24,), 0, 0, 4 * 24),
        ("tail.2", "Linear", (10,), 240, 240, 4 * (240 + 10)),
    ]
    assert table.parameters == convolution + 12 + 240
    assert table.multiply_accumulates == 2160 + 240
    assert table.bytes == 4 * (convolution + 12 + 240 + 120 + 120 + 24 + 24 + 24 + 10)


def test_the_text():
    assert repr(nn.summary(nn.Sequential({"fc": nn.Linear(1000, 30), "act": nn.ReLU()}), (1000,))).splitlines() == [
        "layer  kind    output  parameters  multiply-accumulates    bytes",
        "----------------------------------------------------------------",
        "fc     Linear  30          30,030                30,000  120,240",
        "act    ReLU    30               -                     -      120",
        "----------------------------------------------------------------",
        "total                      30,030                30,000  120,360",
    ]


def test_a_single_layer_has_a_row():
    (row,) = nn.summary(nn.Linear(3, 2), (5, 3)).layers
    assert (row.name, row.output_shape, row.parameters, row.multiply_accumulates) == ("Linear", (5, 2), 8, 5 * 6)


def test_what_is_shared_counts_once_but_computes_twice():
    layer = nn.Linear(3, 3)
    table = nn.summary(nn.Sequential(layer, layer), (3,))
    assert [row.parameters for row in table.layers] == [12, 0]
    assert table.parameters == 12 and table.multiply_accumulates == 2 * 9


def test_parameters_of_a_module_around_layers_count_in_the_total():
    class Scaled(nn.Module):
        def __init__(self):
            self.scale, self.layer = nn.Parameter([2.0]), nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x) * self.scale

    assert nn.summary(Scaled(), (3,)).parameters == 13


@pytest.mark.parametrize("fits", [True, False])
def test_the_model_is_left_as_it_was(device, fits):
    model = small_network().train()
    model["tail"].eval()
    before, modes = model.state_dict(), [module.training for module in model.modules()]
    attributes = [list(vars(module)) for module in model.modules()]
    minidl.manual_seed(1)
    expected = nn.Linear(2, 2).weight.numpy()
    minidl.manual_seed(1)
    if fits:
        nn.summary(model, (9, 11, 4))
    else:
        with pytest.raises(ValueError, match="does not fit weight"):
            nn.summary(model, (20, 11, 4))
    assert_array_equal(nn.Linear(2, 2).weight.numpy(), expected, "it used random numbers")
    assert [module.training for module in model.modules()] == modes
    assert [list(vars(module)) for module in model.modules()] == attributes
    for name, array in model.state_dict().items():
        assert_array_equal(array, before[name])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("shape", [8, "8", (3, 0), (3.0,), (-1, 3), np.zeros(3)])
def test_what_is_no_input_shape(shape):
    with pytest.raises(ValueError, match="input_shape is the shape of one input"):
        nn.summary(nn.ReLU(), shape)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "8"])
def test_what_is_no_batch_size(batch_size):
    with pytest.raises(ValueError, match="batch_size must be an int of at least 1"):
        nn.summary(nn.ReLU(), (3,), batch_size)


def test_without_a_batch_size_no_memory_is_predicted():
    assert nn.summary(nn.ReLU(), (3,)).memory is None and "memory" not in repr(nn.summary(nn.ReLU(), (3,)))
    assert nn.summary(nn.ReLU(), (3,), np.int64(7)).memory.batch_size == 7
