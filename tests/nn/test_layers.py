"""Every layer: the functional with its configuration, its gradients, its text, and what its constructor refuses."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
import minidl.functional as F
from minidl import Tensor, nn

IMAGES, FLAT, LABELS = (2, 7, 6, 4), (5, 4), np.array([3, 0, 1, 2, 3])

# how to make the layer, the same thing by hand, shape of the input
LAYERS = [
    (lambda: nn.Conv2d(4, 6, 3), lambda m, x: F.conv2d(x, m.weight, m.bias), IMAGES),
    (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=((0, 2), (1, 0)), dilation=(1, 2), groups=2, bias=False),
        lambda m, x: F.conv2d(x, m.weight, None, (2, 1), ((0, 2), (1, 0)), (1, 2), 2),
        IMAGES,
    ),
    (lambda: nn.Linear(4, 3), lambda m, x: F.linear(x, m.weight, m.bias), FLAT),
    (lambda: nn.Linear(4, 3, bias=False), lambda m, x: F.linear(x, m.weight), IMAGES),
    (lambda: nn.MaxPool2d(2), lambda m, x: F.max_pool2d(x, 2), IMAGES),
    (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), lambda m, x: F.max_pool2d(x, 3, 2, 1, True), IMAGES),
    (lambda: nn.AvgPool2d((2, 3)), lambda m, x: F.avg_pool2d(x, (2, 3)), IMAGES),
    (lambda: nn.AvgPool2d(3, 2, 1, True, False), lambda m, x: F.avg_pool2d(x, 3, 2, 1, True, False), IMAGES),
    (lambda: nn.AdaptiveAvgPool2d((3, 2)), lambda m, x: F.adaptive_avg_pool2d(x, (3, 2)), IMAGES),
    (lambda: nn.LocalResponseNorm(), lambda m, x: F.local_response_norm(x, 5, 1e-4, 0.75, 2.0), IMAGES),
    (lambda: nn.LocalResponseNorm(3, 1.5, 0.5, 1.2, 2), lambda m, x: F.local_response_norm(x, 3, 1.5, 0.5, 1.2, 2), IMAGES),
    (lambda: nn.LocalResponseNormWithin(), lambda m, x: F.local_response_norm_within(x, 5, 4e-5, 0.75, 1.0), IMAGES),
    (
        lambda: nn.LocalResponseNormWithin(3, 1.5, 0.5, 1.2),
        lambda m, x: F.local_response_norm_within(x, 3, 1.5, 0.5, 1.2),
        IMAGES,
    ),
    (lambda: nn.ReLU(), lambda m, x: F.relu(x), IMAGES),
    (lambda: nn.Tanh(), lambda m, x: F.tanh(x), IMAGES),
    (lambda: nn.Sigmoid(), lambda m, x: F.sigmoid(x), IMAGES),
    (lambda: nn.Softmax(), lambda m, x: F.softmax(x, -1), IMAGES),
    (lambda: nn.Softmax(1), lambda m, x: F.softmax(x, 1), FLAT),
    (lambda: nn.LogSoftmax(), lambda m, x: F.log_softmax(x, -1), IMAGES),
    (lambda: nn.LogSoftmax(0), lambda m, x: F.log_softmax(x, 0), FLAT),
    (lambda: nn.Flatten(), lambda m, x: F.flatten(x), IMAGES),
    (lambda: nn.Dropout(0.3), lambda m, x: F.dropout(x, 0.3, True), IMAGES),
    (lambda: nn.Dropout(0.3, inverted=False), lambda m, x: F.dropout(x, 0.3, True, False), IMAGES),
    (lambda: nn.Dropout(0.3).eval(), lambda m, x: x, IMAGES),
    (lambda: nn.Dropout(0.3, inverted=False).eval(), lambda m, x: F.dropout(x, 0.3, False, False), IMAGES),
    (lambda: nn.BatchNorm(4).eval(), lambda m, x: F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias), FLAT),
]
LOSSES = [
    (lambda: nn.CrossEntropyLoss(), lambda x: F.cross_entropy(x, LABELS)),
    (lambda: nn.CrossEntropyLoss(0.1, "sum"), lambda x: F.cross_entropy(x, LABELS, 0.1, "sum")),
    (lambda: nn.NLLLoss(), lambda x: F.nll_loss(x, LABELS)),
    (lambda: nn.NLLLoss("none"), lambda x: F.nll_loss(x, LABELS, "none")),
]


def test_no_layer_is_left_out():
    tested = {type(make()) for make, *_ in [*LAYERS, *LOSSES]} | {nn.MSELoss}
    exported = {value for name in nn.__all__ if isinstance(value := getattr(nn, name), type) and issubclass(value, nn.Module)}
    assert tested == exported - {nn.Module, nn.Sequential}


def texts(cases):
    return [repr(make()) for make, *_ in cases]


@pytest.mark.parametrize("make, functional, shape", LAYERS, ids=texts(LAYERS))
def test_a_layer_is_its_functional(device, make, functional, shape):
    layer, x = make(), Tensor(np.random.default_rng(0).standard_normal(shape, np.float32))
    minidl.manual_seed(3)
    y = layer(x)
    minidl.manual_seed(3)
    assert_array_equal(y.numpy(), functional(layer, x).numpy(), strict=True)


@pytest.mark.parametrize("make, functional", LOSSES, ids=texts(LOSSES))
def test_a_loss_is_its_functional(device, make, functional):
    scores = Tensor(np.random.default_rng(0).standard_normal(FLAT, np.float32))
    assert_array_equal(make()(scores, LABELS).numpy(), functional(scores).numpy(), strict=True)


def test_mse_loss(device):
    prediction, target = Tensor([[1.0, 2.0]]), Tensor([[3.0, 1.0]])
    assert nn.MSELoss()(prediction, target).item() == 2.5
    assert nn.MSELoss("sum")(prediction, target).item() == 5
    assert nn.MSELoss("none")(prediction, target).numpy().tolist() == [[4, 1]]


# Parameters


def test_shapes_of_parameters():
    def shapes(layer):
        return {name: p.shape for name, p in layer.named_parameters()}

    assert shapes(nn.Conv2d(4, 6, (3, 2), groups=2)) == {"weight": (3, 2, 2, 6), "bias": (6,)}
    assert shapes(nn.Linear(4, 3)) == {"weight": (4, 3), "bias": (3,)}
    assert shapes(nn.Linear(4, 3, bias=False)) == {"weight": (4, 3)}
    assert shapes(nn.BatchNorm(5)) == {"weight": (5,), "bias": (5,)}


def test_batch_norm_learns_the_statistics_in_training_only(device):
    layer = nn.BatchNorm(2, momentum=0.25)
    x = Tensor([[0.0, 1.0], [4.0, 1.0], [8.0, 7.0]])
    y = layer(x)
    assert np.allclose(y.numpy().mean(0), 0, atol=1e-6) and np.allclose(y.numpy().std(0), 1, atol=1e-4)
    # mean 4 and 3; variance with N - 1: 16 and 12
    assert np.allclose(layer.running_mean.numpy(), [1, 0.75])
    assert np.allclose(layer.running_var.numpy(), [0.75 + 4, 0.75 + 3])
    before = layer.state_dict()
    y = layer.eval()(x)
    assert np.allclose(y.numpy(), (x.numpy() - [1, 0.75]) / np.sqrt([4.75, 3.75]), atol=1e-5)
    for name, array in layer.state_dict().items():
        assert_array_equal(array, before[name])


def small_network() -> nn.Sequential:
    """Everything at once. Response normalisation with constants that make its window count."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 2, stride=2, padding=((0, 1), (1, 1)), groups=2),
        nn.LocalResponseNorm(3, 1.0, 0.75, 1.0, groups=2),
        nn.MaxPool2d(2, 1),
        nn.BatchNorm(4),
        nn.ReLU(),
        nn.LocalResponseNormWithin(3, 1.0, 0.75, 1.0),
        nn.AvgPool2d(2, 1, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(8, 3),
        nn.Dropout(0.25, inverted=False),
        nn.Sequential(nn.Tanh(), nn.Linear(3, 2)),
        nn.LogSoftmax(),
    )


CHECKED = {
    "conv": lambda: (nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=((0, 2), (1, 0)), groups=2), (2, 4, 5, 2)),
    "conv without bias": lambda: (nn.Conv2d(2, 3, 2, dilation=2, bias=False), (1, 4, 5, 2)),
    "linear": lambda: (nn.Linear(4, 3), (5, 4)),
    "batch norm, training": lambda: (nn.BatchNorm(3), (2, 3, 2, 3)),
    "batch norm, evaluation": lambda: (nn.BatchNorm(3).eval(), (4, 3)),
    "small network, training": lambda: (small_network(), (2, 5, 6, 2)),
    "small network, evaluation": lambda: (small_network().eval(), (2, 5, 6, 2)),
}


class Squared(nn.Module):
    """A linear layer has no second derivative of its own; its square passes through all of its gradients."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return self.layer(x) ** 2


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", CHECKED)
def test_gradients_against_finite_differences(device, name, order):
    layer, shape = CHECKED[name]()
    before = layer.state_dict()
    checked = layer if order == 1 else Squared(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in the report
        report = minidl.gradcheck(checked, shape, order=order)
    assert report and not report.warnings, report
    assert [row.name for row in report.rows][1:] == [name for name, _ in checked.named_parameters()]
    for name, array in layer.state_dict().items():
        assert_array_equal(array, before[name])


# Texts


def test_repr_shows_the_configuration():
    assert repr(nn.Conv2d(4, 6, 3)) == "Conv2d(4, 6, kernel_size=(3, 3))"
    assert (
        repr(nn.Conv2d(4, 6, (3, 2), 2, ((0, 3), (0, 3)), 2, 2, False))
        == "Conv2d(4, 6, kernel_size=(3, 2), stride=2, padding=((0, 3), (0, 3)), dilation=2, groups=2, bias=False)"
    )
    assert repr(nn.Linear(4, 3, bias=False)) == "Linear(4, 3, bias=False)"
    assert repr(nn.BatchNorm(4)) == "BatchNorm(4, momentum=0.1, eps=1e-05)"
    assert repr(nn.MaxPool2d(3, 2).eval()) == "MaxPool2d(kernel_size=3, stride=2, padding=0, ceil_mode=False)"
    assert repr(nn.LocalResponseNorm()) == "LocalResponseNorm(size=5, alpha=0.0001, beta=0.75, k=2.0, groups=1)"
    assert repr(nn.Flatten()) == "Flatten()"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Conv2d(0, 4, 3), "Conv2d: in_channels must be an int of at least 1, got 0"),
        (lambda: nn.Conv2d(3, 2.0, 3), "Conv2d: out_channels must be an int of at least 1, got 2.0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=0), "Conv2d: groups must be an int of at least 1, got 0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels=3 does not divide into groups=2"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "Conv2d: out_channels=3 does not divide into groups=2"),
        (lambda: nn.Conv2d(3, 4, 0), "Conv2d: kernel_size must be an int of at least 1"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "Conv2d: kernel_size .* got \\(3, 3, 3\\)"),
        (lambda: nn.Linear(-1, 4), "Linear: in_features must be an int of at least 1, got -1"),
        (lambda: nn.Linear(4, True), "Linear: out_features must be an int of at least 1, got True"),
        (lambda: nn.BatchNorm(0), "BatchNorm: channels must be an int of at least 1, got 0"),
        (lambda: nn.Dropout(1.0), "Dropout: p is the probability of dropping a unit, .* got 1.0"),
        (lambda: nn.Dropout(-0.1), "Dropout: p .* got -0.1"),
        (lambda: nn.Dropout(float("nan")), "Dropout: p .* got nan"),
        (lambda: nn.Dropout(False), "Dropout: p .* got False"),
        (lambda: nn.BatchNorm(3, momentum=1.5), "BatchNorm: momentum is the share .*, 0 to 1; got 1.5"),
        (lambda: nn.BatchNorm(3, momentum=float("nan")), "BatchNorm: momentum .* got nan"),
        (lambda: nn.BatchNorm(3, eps=-1e-5), "BatchNorm: eps .* must be at least 0, got -1e-05"),
        (lambda: nn.AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d: output_size must be an int of at least 1 .* got 0"),
        (lambda: nn.AdaptiveAvgPool2d((2, None)), r"AdaptiveAvgPool2d: output_size .* got \(2, None\)"),
        (lambda: nn.LocalResponseNorm(groups=0), "LocalResponseNorm: groups must be an int of at least 1, got 0"),
        (lambda: nn.LocalResponseNorm(groups=True), "LocalResponseNorm: groups .* got True"),
        (lambda: nn.CrossEntropyLoss(1.1), "CrossEntropyLoss: label_smoothing must be between 0 and 1, got 1.1"),
        *[
            case
            for layer in (nn.MaxPool2d, nn.AvgPool2d)
            for case in [
                (lambda layer=layer: layer(0), f"{layer.__name__}: kernel_size must be an int of at least 1 .* got 0"),
                (lambda layer=layer: layer((2, -1)), rf"{layer.__name__}: kernel_size .* got \(2, -1\)"),
                (lambda layer=layer: layer(2, 0), f"{layer.__name__}: stride must be an int of at least 1 .* got 0"),
                (lambda layer=layer: layer(2, 2, -1), f"{layer.__name__}: padding must be an int of at least 0 .* got -1"),
                (lambda layer=layer: layer(2, padding=2), f"{layer.__name__}: padding 2 is more than half of kernel_size"),
            ]
        ],
        *[
            case
            for layer in (nn.LocalResponseNorm, nn.LocalResponseNormWithin)
            for case in [
                (lambda layer=layer: layer(0), f"{layer.__name__}: size must be an odd int, .* got 0"),
                (lambda layer=layer: layer(4), f"{layer.__name__}: size must be an odd int, .* got 4"),
                (lambda layer=layer: layer(alpha=-1e-4), f"{layer.__name__}: k must be .* alpha=-0.0001"),
                (lambda layer=layer: layer(k=0.0), f"{layer.__name__}: k must be positive .* got k=0.0"),
            ]
        ],
        *[
            (lambda layer=layer: layer(1.5), f"{layer.__name__}: axis must be an int, got 1.5")
            for layer in (nn.Softmax, nn.LogSoftmax)
        ],
        *[
            (lambda layer=layer: layer(reduction="average"), f"{layer.__name__}: reduction must be .* got 'average'")
            for layer in (nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss)
        ],
    ],
)
def test_what_a_constructor_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_constructor_keeps_what_it_was_given():
    """The checks are for the error alone: the text of a layer shows the arguments as they were written."""
    assert repr(nn.AvgPool2d(3, padding=((0, 1), (1, 1)))) == (
        "AvgPool2d(kernel_size=3, stride=None, padding=((0, 1), (1, 1)), ceil_mode=False, count_include_pad=True)"
    )
    assert repr(nn.AdaptiveAvgPool2d([6, 5])) == "AdaptiveAvgPool2d(output_size=[6, 5])"


def test_numpy_integers_are_integers():
    assert nn.Conv2d(np.int64(2), np.int32(4), np.int64(3), groups=np.int64(2)).weight.shape == (3, 3, 1, 4)
