"""Lesson 17: fan-in and fan-out, He's rule, the share of a signal that tells images apart, the signal layer by layer, drawing anew."""

import math

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import nn
from minidl.backend import to_device


def check_fans_of_a_matrix(lesson):
    """fans: of a matrix"""
    mistakes = {"the two are swapped: our weights are (in, out), the inputs stand first.": [100, 256]}
    same("fans((256, 100))", _pair("fans((256, 100))", lesson.fans((256, 100))), [256, 100], mistakes=mistakes)


def check_fans_of_a_convolution(lesson):
    """fans: of a convolution"""
    for shape in ((3, 5, 4, 7), (11, 11, 3, 96)):
        h, w, c_in, c_out = shape
        mistakes = {
            "the window is missing: one number of a convolution sums over KH x KW places.": [c_in, c_out],
            "fan_in is right, but each input is used at KH x KW places too: fan_out needs the window.": [h * w * c_in, c_out],
            "the two are swapped: C_in stands before C_out.": [h * w * c_out, h * w * c_in],
            "fan_in and fan_out are the window times channels; the last axis must not count for fan_in.": [
                h * w * c_in * c_out,
                h * w * c_out,
            ],
            "only one side of the window is counted: KH x KW.": [h * c_in, h * c_out],
            "those are the first two numbers of the shape, which are the window.": [h, w],
        }
        what = f"fans({shape})"
        same(what, _pair(what, lesson.fans(shape)), [h * w * c_in, h * w * c_out], mistakes=mistakes)


def _pair(what, got):
    if isinstance(got, (tuple, list)) and len(got) != 2:
        raise Wrong(f"{what}: {len(got)} numbers instead of two, (fan_in, fan_out).")
    return got


def check_he(lesson):
    """he_std: of a matrix and of a convolution"""
    for shape in ((512, 100), (3, 3, 64, 32)):
        n = math.prod(shape[:-1])
        m = math.prod(shape[:-2]) * shape[-1]
        mistakes = {
            "that is the variance, s^2; the standard deviation is its root.": 2 / n,
            "the 2 is missing: ReLU loses half of the squares.": math.sqrt(1 / n),
            "the 2 is on the wrong side: n s^2 / 2 = 1.": math.sqrt(1 / (2 * n)),
            "the 2 stands outside of the root.": 2 / math.sqrt(n),
            "that is the rule with fan-out; it keeps gradients, and He's forward rule takes fan-in.": math.sqrt(2 / m),
            "that is Glorot's compromise, with both fans.": math.sqrt(2 / (n + m)),
        }
        same(f"he_std({shape})", lesson.he_std(shape), math.sqrt(2 / n), mistakes=mistakes)


def _signal():
    """(N, H, W, C): every unit has a mean of its own over the images, and differs a little between them."""
    rng = np.random.default_rng(5)
    return 3 * rng.standard_normal((1, 3, 4, 5)) + 0.5 * rng.standard_normal((6, 3, 4, 5)) + 1.0


def _size(x):
    return np.sqrt((x * x).mean())


def check_share_of_two(lesson, device):
    """image_share: two images, four numbers"""
    signal = np.array([[3.0, 10.0], [5.0, 10.0]])
    size = math.sqrt((9 + 100 + 25 + 100) / 4)
    mistakes = {
        "the mean of everything is taken away; take the mean over the images alone, axis 0.": float(signal.std() / size),
        "the mean is taken within each image; take it over the images, axis 0.": float(
            _size(signal - signal.mean(axis=1, keepdims=True)) / size
        ),
        "that is the size of the part that differs; divide by the size of the whole signal.": math.sqrt(0.5),
        "it is divided by the standard deviation; divide by the size, which contains the mean.": math.sqrt(0.5)
        / float(signal.std()),
        "that is a ratio of mean squares; the size is the root of the mean square.": 0.5 / size**2,
    }
    got = lesson.image_share(to_device(signal, device))
    same("image_share([[3, 10], [5, 10]])", got, math.sqrt(0.5) / size, mistakes=mistakes)


def check_share_of_a_signal(lesson, device):
    """image_share: of a signal (6, 3, 4, 5)"""
    x = _signal()
    part = x - x.mean(axis=0)
    wrong_mean = {
        "the mean of everything is taken away; take the mean over the images alone, axis 0.": x - x.mean(),
        "the mean is taken over the channels, the last axis; take it over the images, axis 0.": x
        - x.mean(axis=-1, keepdims=True),
        "the mean is taken within each image; take it over the images, axis 0.": x - x.mean(axis=(1, 2, 3), keepdims=True),
        "the mean is taken over the images and their pixels; take it over axis 0 alone.": x - x.mean(axis=(0, 1, 2)),
    }
    mistakes = {sentence: _size(value) / _size(x) for sentence, value in wrong_mean.items()}
    mistakes |= {
        "it is divided by the standard deviation; divide by the size, which contains the mean.": _size(part) / x.std(),
        "that is the size of the part that differs; divide by the size of the whole signal.": _size(part),
        "that is a ratio of mean squares; the size is the root of the mean square.": (part**2).mean() / (x**2).mean(),
        "that is the share of what all images have in common.": _size(x.mean(axis=0)) / _size(x),
    }
    same("image_share(signal)", lesson.image_share(to_device(x, device)), _size(part) / _size(x), mistakes=mistakes)


def check_share_limits(lesson):
    """image_share: 0 when all images are alike"""
    same("image_share of the same image three times", lesson.image_share(np.full((3, 2, 2), 4.0)), 0.0, atol=1e-9)


def _three_layers():
    rng = np.random.default_rng(3)
    model = nn.Sequential({"fc1": nn.Linear(4, 4), "relu1": nn.ReLU(), "drop": nn.Dropout(0.5), "fc2": nn.Linear(4, 4)})
    weights = []
    for parameter in model.parameters():
        parameter.data = rng.standard_normal(parameter.shape).astype(np.float32)
        weights.append(parameter.numpy().astype(float))
    return model, weights, rng.standard_normal((6, 4)).astype(np.float32)


def _noted(*signals):
    return [[_size(x), _size(x - x.mean(axis=0)) / _size(x)] for x in signals]


def check_signal_through(lesson, device):
    """signal_through: size and share behind each of four layers"""
    model, (w1, b1, w2, b2), images = _three_layers()
    rows = lesson.signal_through(model, to_device(images, device))
    is_a("signal_through(model, images)", rows, list)
    if len(rows) != 4:
        raise Wrong(f"signal_through of a model of four layers: {len(rows)} entries. There should be one for each layer.")
    if not all(isinstance(row, (tuple, list)) and len(row) == 3 and isinstance(row[0], str) for row in rows):
        raise Wrong("signal_through: each entry should be a tuple (name, size, share).")
    if [row[0] for row in rows] != ["fc1", "relu1", "drop", "fc2"]:
        raise Wrong(f"signal_through: the names are {', '.join(row[0] for row in rows)} instead of fc1, relu1, drop, fc2.")
    y1 = images @ w1 + b1
    y2 = np.maximum(y1, 0)
    y4 = y2 @ w2 + b2
    mistakes = {
        "what goes into the layer is noted; note what comes out of it.": _noted(images, y1, y2, y2),
        "every layer gets the images; it should get what the layer before gave: x = layer(x).": _noted(
            y1, np.maximum(images, 0), images, images @ w2 + b2
        ),
        "size and share are swapped: (name, size, share).": [pair[::-1] for pair in _noted(y1, y2, y2, y4)],
    }
    got = [[size, share] for _, size, share in rows]
    same("size and share behind fc1, relu1, drop, fc2", got, _noted(y1, y2, y2, y4), 1e-4, mistakes=mistakes)


def _layers():
    """Two layers of one shape, so that numbers drawn twice would show, and a convolution."""
    return nn.Sequential({"conv": nn.Conv2d(8, 32, 5), "fc1": nn.Linear(100, 100), "fc2": nn.Linear(100, 100)})


def _std_of(shape):
    return 0.5 if len(shape) == 2 else 0.05


def check_initialise_weights(lesson, device):
    """initialise: each layer's weights get their standard deviation"""
    model = _layers()
    before = model.state_dict()
    lesson.initialise(model, _std_of, np.random.default_rng(1))
    for name, std in (("conv.weight", 0.05), ("fc1.weight", 0.5)):
        parameter = dict(model.named_parameters())[name]
        values = parameter.numpy()
        if np.array_equal(values, before[name]):
            raise Wrong(
                f"{name} is as it was. Assign to parameter.data: `parameter = ...` only gives the name to something else."
            )
        if np.array_equal(values, np.zeros_like(values)):
            raise Wrong(f"{name} is 0 everywhere. Weights are those with two axes or more, biases have one: are they mixed up?")
        mistakes = {
            "numbers of standard deviation 1 are multiplied by the variance; multiply by the standard deviation.": std**2,
            "they are multiplied by the root of the standard deviation.": std**0.5,
            "the numbers are as drawn, with standard deviation 1; multiply by std_of(shape).": 1.0,
            "they are uniform between 0 and std_of(shape); the normal distribution is `rng.standard_normal`.": std / 12**0.5,
            "they are uniform between plus and minus std_of(shape); `rng.standard_normal` is normal.": std / 3**0.5,
            "what was there is scaled; draw new numbers from rng.": float(before[name].std() * std),
        }
        # 6,400 and 10,000 numbers: their standard deviation is known to 1 %.
        got = float(values.std())
        fitting = [wrong for wrong in mistakes.values() if abs(got / wrong - 1) < 0.04]
        if abs(got / std - 1) > 0.04:
            near = {sentence: got for sentence, wrong in mistakes.items() if wrong in fitting}
            same(f"the standard deviation of {name}", got, std, mistakes=near)
        if abs(values.mean()) > 0.1 * std:
            raise Wrong(f"The mean of {name} is {values.mean():.3g}. It should be near 0.")
        if np.abs(values).max() < 2.5 * std:
            raise Wrong(
                f"No number of {name} is larger than {np.abs(values).max() / std:.2g} standard deviations: not drawn from N?"
            )


def check_initialise_biases(lesson, device):
    """initialise: biases are 0"""
    model = _layers()
    lesson.initialise(model, _std_of, np.random.default_rng(1))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and parameter.numpy().any():
            raise Wrong(
                f"{name} is not 0. Only parameters with two axes or more are weights; is a bias drawn, or left as it was?"
            )


def check_initialise_draws(lesson):
    """initialise: the numbers come from rng, one after the other"""
    model, again, other = _layers(), _layers(), _layers()
    for one, seed in ((model, 1), (again, 1), (other, 2)):
        lesson.initialise(one, _std_of, np.random.default_rng(seed))
    fc1, fc2 = model["fc1"].weight.numpy(), model["fc2"].weight.numpy()
    if np.array_equal(fc1, fc2):
        raise Wrong("Two layers of the same shape have the same weights. Is a new generator made for every layer? Use `rng`.")
    if not np.array_equal(fc1, again["fc1"].weight.numpy()):
        raise Wrong("The same seed gave other weights the second time. Draw from `rng`, not from np.random.")
    if np.array_equal(fc1, other["fc1"].weight.numpy()):
        raise Wrong("Another seed gave the same weights. Draw from `rng`, the one that is handed over.")


HINTS = {
    "fans": (
        "The last axis of the shape counts outputs, the one before it inputs. What stands before these two is the window.",
        "fan_in = KH * KW * C_in, fan_out = KH * KW * C_out. For a matrix there is no window, and the product of nothing is 1.",
        "    window = int(np.prod(shape[:-2]))\n    return window * ..., window * ...",
    ),
    "he_std": (
        "A layer with ReLU multiplies the mean square by n s^2 / 2, where n is the fan-in. What must s be for that to be 1?",
        "s = sqrt(2 / n); fans(shape)[0] is n.",
        "    return (... / fans(shape)[0]) ** 0.5",
    ),
    "image_share": (
        "Axis 0 counts the images. The mean over them is what they have in common; taken away, what differs remains.",
        "size(signal - mean over axis 0) / size(signal)",
        "    return size(signal - signal.mean(axis=...)) / ...",
    ),
    "signal_through": (
        "What a layer gives is what the next one gets. So x gets a new value each time round.",
        "x <- layer(x); then note the name, size and image_share of the array in x, which is x.data.",
        "            x = ...\n            found.append((name, size(...), image_share(...)))",
    ),
    "initialise": (
        "A parameter with more than one axis is a weight. Numbers from rng.standard_normal(shape) have standard deviation 1.",
        "weights: N(0, 1) * std_of(shape); biases: zeros. Both are assigned to parameter.data.",
        "        if parameter.ndim > 1:\n"
        "            numbers = rng.standard_normal(parameter.shape)\n"
        "            parameter.data = ...\n"
        "        else:\n"
        "            parameter.data = np.zeros(...)",
    ),
}

_FANS = "return window * shape[-2], window * shape[-1]"
_HE = "return (2 / fans(shape)[0]) ** 0.5"
_SHARE = "return size(signal - signal.mean(axis=0)) / size(signal)"
_NOTE = """\
            x = layer(x)
            found.append((name, size(x.data), image_share(x.data)))
"""
_DRAW = """\
            numbers = rng.standard_normal(parameter.shape, np.float32)
            parameter.data = numbers * std_of(parameter.shape)
"""

MUTANTS = [
    Mutant("in and out swapped", _FANS, "return window * shape[-1], window * shape[-2]", "the two are swapped"),
    Mutant("window forgotten", _FANS, "return shape[-2], shape[-1]", "the window is missing"),
    Mutant("fan-out without window", _FANS, "return window * shape[-2], shape[-1]", "fan_out needs the window"),
    Mutant("variance", _HE, "return 2 / fans(shape)[0]", "that is the variance"),
    Mutant("half forgotten", _HE, "return (1 / fans(shape)[0]) ** 0.5", "ReLU loses half"),
    Mutant("Glorot for He", _HE, "return glorot_std(shape)", "Glorot's compromise"),
    Mutant("fan-out", _HE, "return (2 / fans(shape)[1]) ** 0.5", "rule with fan-out"),
    Mutant("mean of everything", _SHARE, "return size(signal - signal.mean()) / size(signal)", "the images alone, axis 0"),
    Mutant("mean over the channels", _SHARE, _SHARE.replace("axis=0", "axis=-1, keepdims=True"), "axis 0"),
    Mutant("not divided", _SHARE, "return size(signal - signal.mean(axis=0))", "divide by the size of the whole"),
    Mutant("by the deviation", _SHARE, _SHARE.replace("/ size(signal)", "/ float(signal.std())"), "divide by the size, which"),
    Mutant("mean squares", _SHARE, f"return ({_SHARE[7:]}) ** 2", "ratio of mean squares"),
    Mutant("noted before", _NOTE, "\n".join(_NOTE.splitlines()[::-1]) + "\n", "note what comes out of it"),
    Mutant(
        "every layer sees the images",
        _NOTE,
        "            y = layer(x)\n            found.append((name, size(y.data), image_share(y.data)))\n",
        "every layer gets the images",
    ),
    Mutant("variance drawn", "numbers * std_of(parameter.shape)", "numbers * std_of(parameter.shape) ** 2", "by the variance"),
    Mutant("not scaled", "numbers * std_of(parameter.shape)", "numbers", "standard deviation 1; multiply"),
    Mutant("only a name", "            parameter.data = numbers", "            parameter = numbers", "is as it was"),
    Mutant(
        "biases left",
        "            parameter.data = np.zeros(parameter.shape)\n",
        "            pass\n",
        "is a bias drawn, or left",
    ),
    Mutant("biases drawn", "if parameter.ndim > 1:", "if parameter.ndim > 0:", "is a bias drawn, or left"),
    Mutant(
        "a generator for each layer",
        "numbers = rng.standard_normal",
        "numbers = np.random.default_rng(0).standard_normal",
        "a new generator made for every layer",
    ),
]
