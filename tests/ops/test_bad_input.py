"""What is refused, and that the message names the operation, shows what was given and says what to do about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import standin_cupy

import minidl
import minidl.functional as F
from minidl import Tensor

X, WEIGHT = (1, 4, 4, 3), (3, 3, 3, 2)  # images and weights that go together


@dataclass
class Integers:
    shape: tuple[int, ...]


BAD: list[Any] = []


def bad(error, message, f, *inputs, **options):
    """`f(*inputs, **options)` must raise `error`; a tuple among the inputs is the shape of a Tensor of ones."""
    BAD.append(pytest.param(error, message, f, inputs, options, id=f"{f.__name__}: {message[:60]}"))


def made(value):
    if isinstance(value, tuple):
        return Tensor(np.ones(value, np.float32))
    return Tensor(np.ones(value.shape, np.int64)) if isinstance(value, Integers) else value


# Whatever takes images

with_options = [
    (F.conv2d, (WEIGHT,)),
    (F.im2col, (2,)),
    (F.max_pool2d, (2,)),
    (F.avg_pool2d, (2,)),
    (F.adaptive_avg_pool2d, (2,)),
    (F.local_response_norm_within, ()),
]
for f, rest in with_options:
    bad(TypeError, f"{f.__name__}: x must be a Tensor, got numpy.ndarray; wrap it with minidl.Tensor", f, np.ones(X), *rest)
    bad(TypeError, f"{f.__name__}: x must be a Tensor, got builtins.NoneType", f, None, *rest)
    bad(TypeError, rf"{f.__name__}: x must be floating point, got int64 of shape \(1, 4, 4, 3\); convert", f, Integers(X), *rest)
    bad(ValueError, rf"{f.__name__}: x must have 4 axes .* \(4, 4, 3\); a single image becomes a batch", f, (4, 4, 3), *rest)
    bad(ValueError, rf"{f.__name__}: x must have 4 axes \(N, H, W, C\), got shape \(4, 4\)$", f, (4, 4), *rest)

# Windows

too_large = "the window of 5x5 pixels .* does not fit into x of shape .* 4x4 with padding; use a smaller kernel or more padding"
bad(ValueError, f"conv2d: {too_large}", F.conv2d, X, (5, 5, 3, 2))
bad(ValueError, r"conv2d: .*kernel \(3, 3\), dilation \(2, 2\)\) does not fit", F.conv2d, X, WEIGHT, dilation=2)
bad(ValueError, "conv2d: .* 6x4 with padding", F.conv2d, X, (5, 5, 3, 2), padding=(1, 0))
bad(ValueError, f"im2col: {too_large}", F.im2col, X, 5)
bad(ValueError, f"max_pool2d: {too_large}", F.max_pool2d, X, 5)
bad(ValueError, f"avg_pool2d: {too_large}", F.avg_pool2d, X, 5)
bad(ValueError, r"conv2d: kernel_size must be an int of at least 1 .* got \(0, 3\)", F.conv2d, X, (0, 3, 3, 2))
for value in (0, -1, 1.0, True, None, "same", (2,), (1, 2, 3), (1, 0), (1, 1.5), [1, "2"]):
    shown = repr(value).replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")
    refused = f"must be an int of at least 1 or a pair of them, got {shown}"
    for name in ("stride", "dilation"):
        bad(ValueError, f"conv2d: {name} {refused}", F.conv2d, X, WEIGHT, **{name: value})
    bad(ValueError, f"max_pool2d: kernel_size {refused}", F.max_pool2d, X, kernel_size=value)
    if value is not None:  # no stride is the kernel size
        bad(ValueError, f"avg_pool2d: stride {refused}", F.avg_pool2d, X, 2, stride=value)
bad(ValueError, r"stride must .* got \(True, 2\)", F.conv2d, X, WEIGHT, stride=(True, 2))
for value in (-1, 0.5, "same", (1, 2, 3), (1, -1), ((1, 1), 1), (1, 1, 1, 1), None):
    bad(ValueError, "conv2d: padding must be an int of at least 0 or a pair of them, got", F.conv2d, X, WEIGHT, padding=value)
    bad(ValueError, "max_pool2d: padding must be an int of at least 0 or a pair of them, got", F.max_pool2d, X, 2, padding=value)
bad(ValueError, r"padding \(left, right\) must be .* got \(1,\)", F.conv2d, X, WEIGHT, padding=((1, 1), (1,)))
bad(ValueError, r"padding \(top, bottom\) must be .* got \(-1, 0\)", F.im2col, X, 2, padding=((-1, 0), (0, 0)))
for pool in (F.max_pool2d, F.avg_pool2d):
    bad(ValueError, rf"{pool.__name__}: padding 2 is more than half of kernel_size \(2, 2\)", pool, X, 2, padding=2)
    bad(ValueError, rf"{pool.__name__}: padding .* more than half of", pool, X, 3, padding=((0, 0), (0, 2)))
bad(ValueError, "adaptive_avg_pool2d: output_size must be an int of at least 1", F.adaptive_avg_pool2d, X, 0)
bad(ValueError, r"adaptive_avg_pool2d: x of shape \(1, 0, 3, 3\) has no pixels", F.adaptive_avg_pool2d, (1, 0, 3, 3), 2)

# Convolution and the patches

bad(TypeError, "conv2d: weight must be a Tensor, got numpy.ndarray", F.conv2d, X, np.ones(WEIGHT))
bad(TypeError, "conv2d: bias must be a Tensor, got builtins.float", F.conv2d, X, WEIGHT, 1.0)
bad(ValueError, r"conv2d: weight must have 4 axes .* got shape \(3, 3, 3\)", F.conv2d, X, (3, 3, 3))
bad(ValueError, r"conv2d: bias must have shape \(2,\) to go with weight .* got \(3,\)", F.conv2d, X, WEIGHT, (3,))
bad(
    ValueError,
    r"conv2d: x of shape \(1, 4, 4, 3\) has 3 channels, but weight .* reads 2 \* 1 = 2; images are N, H, W, C",
    F.conv2d,
    X,
    (3, 3, 2, 2),
)
bad(ValueError, r"conv2d: x .* has 3 channels, but .* groups=3 reads 3 \* 3 = 9", F.conv2d, X, WEIGHT, groups=3)
bad(
    ValueError,
    r"conv2d: the 2 output channels of weight \(3, 3, 1, 2\) do not divide into groups=3",
    F.conv2d,
    X,
    (3, 3, 1, 2),
    groups=3,
)
for value in (0, -1, 1.0, True, "2"):
    bad(ValueError, f"conv2d: groups must be an int of at least 1, got {value!r}", F.conv2d, X, WEIGHT, groups=value)
bad(
    ValueError,
    r"col2im: cols of shape \(1, 2, 2, 12\) do not come from images of 4x4: expected \(N, 3, 3, 2 \* 2 \* C\)",
    F.col2im,
    (1, 2, 2, 12),
    image_size=(4, 4),
    kernel_size=2,
)
bad(ValueError, "col2im: cols .* do not come from images", F.col2im, (1, 3, 3, 11), image_size=(4, 4), kernel_size=2)

# Normalisation

for lrn in (F.local_response_norm, F.local_response_norm_within):
    for value in (4, 0, -1, 5.0, True, None):
        bad(ValueError, f"{lrn.__name__}: size must be an odd int, so that the window has a centre; got {value!r}", lrn, X, value)
    bad(ValueError, f"{lrn.__name__}: k must be positive and alpha at least 0", lrn, X, k=0.0)
    bad(ValueError, f"{lrn.__name__}: k must be .* alpha=-0.1", lrn, X, alpha=-0.1)
    bad(ValueError, f"{lrn.__name__}: k must be .* alpha=nan", lrn, X, alpha=float("nan"))
for value in (2, 0, -3, 1.0):
    bad(
        ValueError,
        rf"the last axis of x, shape \(1, 4, 4, 3\), does not divide into groups={value!r}",
        F.local_response_norm,
        X,
        groups=value,
    )
bad(ValueError, r"the last axis of x, shape \(\), does not divide", F.local_response_norm, ())
bad(TypeError, "local_response_norm: x must be floating point, got int64", F.local_response_norm, Integers(X))
bad(TypeError, "local_response_norm: x must be a Tensor", F.local_response_norm, 1.0)
bad(TypeError, "batch_norm: x must be floating point, got int64", F.batch_norm, Integers(X), (3,), (3,))
bad(TypeError, "batch_norm: running_mean must be a Tensor, got numpy.ndarray", F.batch_norm, X, np.zeros(3), (3,))
bad(TypeError, "batch_norm: running_var must be a Tensor, got builtins.NoneType", F.batch_norm, X, (3,), None)
bad(TypeError, "batch_norm: weight must be a Tensor, got builtins.list", F.batch_norm, X, (3,), (3,), [1.0, 1.0, 1.0])
bad(
    ValueError,
    r"batch_norm: running_mean of shape \(4,\) does not fit the channels of x, shape \(1, 4, 4, 3\)",
    F.batch_norm,
    X,
    (4,),
    (3,),
)
bad(ValueError, r"batch_norm: bias of shape \(2,\) does not fit", F.batch_norm, X, (3,), (3,), (3,), (2,))
bad(ValueError, r"batch_norm: .* does not fit the channels of x, shape \(3,\)", F.batch_norm, (3,), (3,), (3,))
bad(ValueError, r"batch_norm: x of shape \(1, 3\) has one value a channel", F.batch_norm, (1, 3), (3,), (3,), training=True)
for value in (-0.1, 1.1, float("nan")):
    bad(ValueError, f"batch_norm: momentum is .* 0 to 1; got {value}", F.batch_norm, (2, 3), (3,), (3,), momentum=value)
for value in (-1e-5, float("nan")):
    bad(ValueError, f"batch_norm: eps .* must be at least 0, got {value}", F.batch_norm, (2, 3), (3,), (3,), eps=value)

# Activations and dropout

for activation in (F.relu, F.tanh, F.sigmoid, F.softmax, F.log_softmax, F.dropout):
    bad(
        TypeError,
        f"{activation.__name__}: x must be a Tensor, got numpy.ndarray; wrap it with minidl.Tensor",
        activation,
        np.ones(3),
    )
for activation in (F.tanh, F.sigmoid, F.softmax, F.log_softmax, F.dropout):
    bad(TypeError, f"{activation.__name__}: x must be floating point, got int64 .* convert with", activation, Integers((3,)))
for softmax in (F.softmax, F.log_softmax):
    for value in (2, -3):
        bad(ValueError, rf"{softmax.__name__}: x of shape \(2, 3\) has no elements along axis", softmax, (2, 3), axis=value)
    for value in (1.0, None, True, [0]):
        bad(ValueError, f"{softmax.__name__}: axis must be an int, got {value}".replace("[", r"\["), softmax, (2, 3), axis=value)
    bad(ValueError, rf"{softmax.__name__}: x of shape \(2, 0\) has no elements along axis -1", softmax, (2, 0))
    bad(ValueError, rf"{softmax.__name__}: x of shape \(\) has no elements", softmax, ())
for value in (1.0, 1, -0.1, 1.5, float("nan"), True, False):
    bad(
        ValueError,
        f"dropout: p is the probability of dropping a unit, at least 0 and less than 1; got {value!r}",
        F.dropout,
        X,
        value,
    )
    bad(ValueError, "dropout: p is the probability", F.dropout, X, value, training=False)

# Losses

for loss in (F.cross_entropy, F.nll_loss):
    name = loss.__name__
    bad(TypeError, f"{name}: .* must be a Tensor, got numpy.ndarray", loss, np.ones((2, 3)), [0, 1])
    bad(
        ValueError,
        rf"{name}: expected floating-point scores of shape \(N, classes\), got float32 of shape \(3,\)",
        loss,
        (3,),
        [0],
    )
    bad(ValueError, rf"{name}: expected floating-point scores .* got int64", loss, Integers((2, 3)), [0, 1])
    bad(ValueError, rf"{name}: scores of shape \(0, 3\) are empty", loss, (0, 3), [])
    bad(ValueError, rf"{name}: 2 rows of scores need labels of shape \(2,\), got \(3,\)", loss, (2, 3), [0, 1, 2])
    bad(ValueError, rf"{name}: 2 rows of scores need labels of shape \(2,\), got \(2, 1\)", loss, (2, 3), [[0], [1]])
    bad(ValueError, rf"{name}: labels\[1\] is 3, but scores of shape \(2, 3\) have classes 0 to 2", loss, (2, 3), [0, 3])
    bad(ValueError, rf"{name}: labels\[0\] is -1, but", loss, (2, 3), np.array([-1, 0]))
    bad(TypeError, rf"{name}: labels must be integers \(class numbers\), got float64 of shape \(2,\)", loss, (2, 3), [0.0, 1.0])
    bad(TypeError, f"{name}: labels must be integers .* got bool", loss, (2, 3), np.array([True, False]))
    bad(TypeError, f"{name}: labels must be integers .* got float32", loss, (2, 3), (2,))
    bad(TypeError, f"{name}: labels must be integers .* got object", loss, (2, 3), None)
for value in (-0.1, 1.1, float("nan")):
    bad(
        ValueError, f"cross_entropy: label_smoothing must be between 0 and 1, got {value}", F.cross_entropy, (2, 3), [0, 1], value
    )
bad(TypeError, "mse_loss: prediction must be a Tensor", F.mse_loss, np.ones(3), (3,))
bad(ValueError, r"mse_loss: prediction has shape \(2, 3\), target \(3,\); they must be equal", F.mse_loss, (2, 3), (3,))
for value in ("average", None, "Mean"):
    for loss, labels in [(F.cross_entropy, [0, 1]), (F.nll_loss, [0, 1]), (F.mse_loss, (2, 3))]:
        message = f'{loss.__name__}: reduction must be "mean", "sum" or "none", got {value!r}'
        bad(ValueError, message, loss, (2, 3), labels, reduction=value)


@pytest.mark.parametrize("error, message, f, inputs, options", BAD)
def test_bad_input_is_refused(device, error, message, f, inputs, options):
    with pytest.raises(error, match=message):
        f(*map(made, inputs), **options)


@pytest.mark.parametrize("bad_number", [np.nan, np.inf])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_a_diverged_network_is_told_so(loss, bad_number):
    logits = np.zeros((4, 3))
    logits[1, 2] = logits[3, 0] = bad_number
    message = f"{loss.__name__}: 2 of 4 rows of scores contain NaN or infinity, the first is row 1; training has diverged"
    with pytest.raises(ValueError, match=message):
        loss(Tensor(logits), [0, 0, 0, 0])


MIXED = {
    "conv2d": (F.conv2d, X, WEIGHT),
    "conv2d, bias": (lambda x, b: F.conv2d(x, x.detach().reshape(4, 4, 3, 1), b), X, (1,)),
    "linear": (F.linear, (2, 3), (3, 4)),
    "mse_loss": (F.mse_loss, (2, 3), (2, 3)),
    "batch_norm": (lambda x, mean: F.batch_norm(x, mean, mean), (2, 3), (3,)),
    "where": (lambda a, b: F.where(a > 0, a, b), (3,), (3,)),
    "concatenate": (lambda a, b: F.concatenate([a, b]), (3,), (3,)),
    "cross_entropy": (F.cross_entropy, (2, 3), Integers((2,))),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("devices", [("cpu", "gpu"), ("gpu", "cpu")])
def test_tensors_on_different_devices_are_refused(name, devices):
    f, *shapes = MIXED[name]
    with standin_cupy.install():
        tensors = []
        for shape, where in zip(shapes, devices, strict=True):
            with minidl.default_device(where):
                tensors.append(made(shape))
        with pytest.raises(ValueError, match=r"inputs on different devices: .*(cpu.*gpu:0|gpu:0.*cpu).* \.to\(device\)"):
            f(*tensors)
