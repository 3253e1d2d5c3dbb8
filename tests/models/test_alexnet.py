"""The four AlexNets against the facts: sizes, counts, order of layers, initial values. Their arithmetic: test_convert.py."""

from functools import partial
from math import sqrt

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minidl
import minidl.functional as F
from minidl import Tensor, nn, optim
from minidl.models import AlexNet
from models.networks import VARIANTS, lively, pixels

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
TWO_TOWERS = [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
ONE_TOWER = [23_296, 307_392, 663_936, 884_992, 590_080, 37_752_832, 16_781_312, 4_097_000]


# At full size


@pytest.fixture(scope="module", params=VARIANTS)
def network(request) -> AlexNet:
    minidl.manual_seed(0)
    return AlexNet(request.param)


def test_counts(network):
    size = {"caffe": 227}.get(network.variant, 224)
    table = nn.summary(network, (size, size, 3))
    assert network.image_size == size and network.num_classes == 1000 and network.flattened == (6, 6, 256)
    rows = {row.name: row for row in table.layers}
    parameters = [rows[name].parameters for name in LAYERS]
    shapes = [rows[name].output_shape for name in [*LAYERS[:5], "pool1", "pool2", "pool5", "flatten", *LAYERS[5:]]]
    if network.variant == "torchvision":
        assert parameters == ONE_TOWER and table.parameters == 61_100_840
        assert table.multiply_accumulates == 714_188_480
        maps = [64, 192, 384, 256, 256, 64, 192, 256]
    else:
        assert parameters == TWO_TOWERS and table.parameters == 60_965_224
        assert table.multiply_accumulates == 724_406_816
        maps = [96, 256, 384, 384, 256, 96, 256, 256]
    sizes = [55, 27, 13, 13, 13, 27, 13, 6]
    assert shapes == [*((n, n, c) for n, c in zip(sizes, maps, strict=True)), (9216,), (4096,), (4096,), (1000,)]


def test_initial_values(network):
    """(mean, standard deviation) of every layer's weights, (smallest, largest) of its biases."""
    weights = {
        "paper": 8 * [0.01],
        "program": [0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01],
        "caffe": [0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01],
    }
    ones = np.array([0, 1, 0, 1, 1, 1, 1, 0])
    biases = {"paper": ones, "program": ones, "caffe": np.float32(0.1) * ones}
    for i, name in enumerate(LAYERS):
        weight, bias = network[name].weight.numpy(), network[name].bias.numpy()
        if network.variant == "torchvision":  # PyTorch's default: uniform up to 1 / sqrt(fan_in)
            bound = 1 / sqrt(weight[..., 0].size)
            std, largest = bound / sqrt(3), bound
            assert bias.std() == pytest.approx(std, rel=0.2) and np.abs(bias).max() <= bound * 1.00001
        else:
            std, largest = weights[network.variant][i], 7 * weights[network.variant][i]
            assert np.abs(weight).max() > 3.5 * std, "not a normal distribution"
            assert (bias.min(), bias.max()) == (biases[network.variant][i], biases[network.variant][i])
        errors = 5 / sqrt(weight.size)  # five standard errors of the mean, in units of std
        assert abs(weight.mean()) < errors * std and abs(weight.std() / std - 1) < errors, name
        assert np.abs(weight).max() <= largest * 1.00001


# The layers

FULLY_CONNECTED = ["fc6 Linear", "relu6 ReLU", "drop6 Dropout", "fc7 Linear", "relu7 ReLU", "drop7 Dropout", "fc8 Linear"]
MIDDLE = ["conv3 Conv2d", "relu3 ReLU", "conv4 Conv2d", "relu4 ReLU", "conv5 Conv2d", "relu5 ReLU", "pool5 MaxPool2d"]
NORM_THEN_POOL = [
    "conv1 Conv2d", "relu1 ReLU", "norm1 LocalResponseNorm", "pool1 MaxPool2d",
    "conv2 Conv2d", "relu2 ReLU", "norm2 LocalResponseNorm", "pool2 MaxPool2d",
    *MIDDLE, "flatten Flatten", *FULLY_CONNECTED,
]  # fmt: skip
ORDER = {
    "paper": NORM_THEN_POOL,
    "program": [
        "conv1 Conv2d", "norm1 LocalResponseNorm", "pool1 MaxPool2d", "relu1 ReLU",
        "conv2 Conv2d", "relu2 ReLU", "norm2 LocalResponseNorm", "within2 LocalResponseNormWithin", "pool2 MaxPool2d",
        *MIDDLE, "flatten Flatten", *FULLY_CONNECTED,
    ],
    "caffe": NORM_THEN_POOL,
    "torchvision": [
        "conv1 Conv2d", "relu1 ReLU", "pool1 MaxPool2d", "conv2 Conv2d", "relu2 ReLU", "pool2 MaxPool2d", *MIDDLE,
        "average AdaptiveAvgPool2d", "drop6 Dropout", "flatten Flatten", "fc6 Linear", "relu6 ReLU",
        "drop7 Dropout", "fc7 Linear", "relu7 ReLU", "fc8 Linear",
    ],
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_layers(variant):
    model = AlexNet(variant, width=0.02)
    assert [f"{name} {type(layer).__name__}" for name, layer in model.named_children()] == ORDER[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_where_the_variants_differ(variant):
    model = AlexNet(variant, width=0.02)
    bottom_right, single = ((0, 3), (0, 3)), variant == "torchvision"
    assert model["conv1"].padding == {"paper": bottom_right, "program": bottom_right, "caffe": 0, "torchvision": 2}[variant]
    assert [model[name].groups for name in LAYERS[:5]] == (5 * [1] if single else [1, 2, 1, 2, 2])
    assert {model[name].ceil_mode for name in ("pool1", "pool2", "pool5")} == {not single}
    assert {(model[name].p, model[name].inverted) for name in ("drop6", "drop7")} == {(0.5, variant in ("caffe", "torchvision"))}
    if not single:
        # alpha / n in program and Caffe; only the program keeps the window inside a tower
        constants = {"paper": (5, 1e-4, 0.75, 2, 1), "program": (5, 2e-5, 0.75, 2, 2), "caffe": (5, 2e-5, 0.75, 1, 1)}[variant]
        for name in ("norm1", "norm2"):
            norm = model[name]
            assert (norm.size, norm.alpha, norm.beta, norm.k, norm.groups) == pytest.approx(constants)
    if variant == "program":
        within = model["within2"]
        assert (within.size, within.alpha, within.beta, within.k) == pytest.approx((5, 0.001 / 25, 0.75, 1))


def test_the_paper_is_the_default():
    model = AlexNet(width=0.02)
    assert (model.variant, model.num_classes, model.image_size) == ("paper", 1000, 224)


def test_features_are_the_part_up_to_a_layer(device):
    model = AlexNet("program", 10, width=0.02, image_size=63).eval()
    x = Tensor(pixels(2, 63))
    features = model[:"relu7"](x)
    assert features.shape == (2, 82) and (features.numpy() >= 0).all()
    assert_array_equal(model["drop7":](features).numpy(), model(x).numpy())


def test_repr_is_the_configuration_and_the_layers():
    text = repr(AlexNet("caffe", 10, width=0.1)).splitlines()
    assert text[0] == "AlexNet(" and "'caffe', 10, width=0.1, image_size=227" in text[1]
    assert text[2] == "  (conv1): Conv2d(3, 10, kernel_size=(11, 11), stride=4)"


# Sizes


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_size_of_image(variant):
    """Constructing counts the size before fc6, computing finds it: a miscount is an error here."""
    for size in [*range(63, 81), 224, 227]:
        model = AlexNet(variant, 3, width=0.02, image_size=size).eval()
        with minidl.no_grad():
            assert model(Tensor(pixels(1, size))).shape == (1, 3)
        if size >= 224:
            assert model.flattened[:2] == (6, 6)


def test_images_of_224_and_227_pixels_are_the_same_to_paper_and_program():
    """227 is 224 with the three pixels that the program reads as 0."""
    for variant in ("paper", "program"):
        small, large = (AlexNet(variant, 3, width=0.02, image_size=size) for size in (224, 227))
        large.load_state_dict(small.state_dict())
        x = pixels(1, 224)
        padded = np.pad(x, ((0, 0), (0, 3), (0, 3), (0, 0)))
        assert_array_equal(small.eval()(Tensor(x)).numpy(), large.eval()(Tensor(padded)).numpy())


@pytest.mark.parametrize("width, expected", [(0.5, [48, 128, 192, 192, 128, 2048, 2048]), (0.1, [10, 26, 38, 38, 26, 410, 410])])
def test_width_is_rounded_to_an_even_number(width, expected):
    model = AlexNet("paper", 7, width, image_size=63)
    assert [model[name].weight.shape[-1] for name in LAYERS] == [*expected, 7]


def test_no_layer_is_narrower_than_two():
    model = AlexNet("program", 7, width=0.0001, image_size=63)
    assert [model[name].weight.shape[-1] for name in LAYERS] == [2, 2, 2, 2, 2, 2, 2, 7]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"variant": "vgg"}, "variant must be one of paper, program, caffe, torchvision; got 'vgg'"),
        ({"image_size": 62}, "image_size must be an int of at least 63 pixels, got 62"),
        ({"image_size": 64.0}, "image_size must be .* got 64.0"),
        ({"image_size": True}, "image_size must be .* got True"),
        ({"num_classes": 0}, "num_classes must be an int of at least 1, got 0"),
        ({"num_classes": 2.5}, "num_classes must be .* got 2.5"),
        ({"width": 0}, "width is a factor on the channels, such as 0.25 or 1.0; got 0"),
        ({"width": -1.0}, "width is a factor .* got -1.0"),
        ({"width": float("nan")}, "width is a factor .* got nan"),
        ({"width": 64}, "width is a factor .* got 64"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"AlexNet: {message}"):
        AlexNet(**arguments)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="linear: x of shape"):
        AlexNet("caffe", 3, width=0.02, image_size=64)(Tensor(pixels(1, 96)))


def test_initial_values_follow_the_seed(device):
    def draw(seed):
        minidl.manual_seed(seed)
        return AlexNet("program", 3, 0.02, 63).state_dict()

    first = draw(4)
    assert all(np.array_equal(array, first[name]) for name, array in draw(4).items())
    assert not np.array_equal(draw(5)["conv1.weight"], first["conv1.weight"])


# Learning


@pytest.mark.parametrize("variant, training", [*((variant, True) for variant in VARIANTS), ("program", False)])
def test_gradients_against_finite_differences(variant, training):
    minidl.manual_seed(0)
    model = lively(AlexNet(variant, 3, width=0.02, image_size=63)).train(training)
    report = minidl.gradcheck(model, pixels(1, 63), eps=1e-5)  # pixels are up to 100: a smaller step drowns in their rounding
    assert report and not report.warnings, report
    assert len(report.rows) == 17


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_training_step_is_the_same_on_every_device(device, variant):
    x, labels = pixels(4, 64), np.array([0, 1, 2, 1])
    with minidl.default_device("cpu"):
        here = lively(AlexNet(variant, 3, width=0.05, image_size=64)).eval()  # no dropout: its random numbers differ
    there, before = AlexNet(variant, 3, width=0.05, image_size=64).eval(), here.state_dict()
    there.load_state_dict(before)
    for model, to in ((here, partial(Tensor, device="cpu")), (there, Tensor)):
        optimizer = optim.SGD(model.parameters(), 1e-5, momentum=0.9, weight_decay=0.0005)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(to(x)), to(labels)).backward()
            optimizer.step()
    for (name, a), b in zip(here.named_parameters(), there.parameters(), strict=True):
        for ours, theirs in ((a.grad.numpy(), b.grad.numpy()), (a.numpy() - before[name], b.numpy() - before[name])):
            largest = np.abs(ours).max()
            assert largest > 0, name
            rounding = 2e-7  # of weights of about 1
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-3 * largest + rounding, err_msg=name)
