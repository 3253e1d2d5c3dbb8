"""Lesson 12: the maximum of every window, its gradient where windows overlap and where maxima tie, and LeNet."""

import numpy as np

import minidl
import minidl.functional as F
from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, gradcheck, nn, no_grad, optim
from minidl.backend import get_array_module, to_device


def _places(size, kernel, stride):
    return (size - kernel) // stride + 1


def _highest(x, kernel, stride, better=lambda new, old: new > old, start=None):
    """The maximum of every window and where it was, window by window; `better` and `start` are where one goes wrong."""
    n, height, width, channels = x.shape
    shape = (n, _places(height, kernel, stride), _places(width, kernel, stride), channels)
    best, position = np.zeros(shape, x.dtype), np.zeros(shape, int)
    for place in np.ndindex(shape):
        image, row, column, channel = place
        window = x[image, row * stride : row * stride + kernel, column * stride : column * stride + kernel, channel].ravel()
        value, at = (window[0], 0) if start is None else (start, 0)
        for number, new in enumerate(window):
            if (number or start is not None) and better(new, value):
                value, at = new, number
        best[place], position[place] = value, at
    return best, position


def _spread(dy, position, kernel, stride, shape, how="add"):
    dx = np.zeros(shape, dy.dtype)
    for image, row, column, channel in sorted(np.ndindex(dy.shape), key=lambda place: position[place]):  # as with taps
        number = position[image, row, column, channel]
        i, j = (number % kernel, number // kernel) if how == "transposed" else divmod(number, kernel)
        at = (image, row * stride + i, column * stride + j, channel)
        value = 1.0 if how == "ones" else dy[image, row, column, channel]
        dx[at] = value if how == "assign" else dx[at] + value
    return dx


def _everywhere(dy, kernel, stride, shape):
    """Each window's gradient to all of its pixels."""
    dx = np.zeros(shape, dy.dtype)
    for image, row, column, channel in np.ndindex(dy.shape):
        down, along = row * stride, column * stride
        dx[image, down : down + kernel, along : along + kernel, channel] += dy[image, row, column, channel]
    return dx


def _images(*shape, seed=0):
    """Random numbers of both signs, no two of them equal."""
    return np.random.default_rng(seed).permutation(np.arange(np.prod(shape)) / 10 - np.prod(shape) / 20).reshape(shape)


def _pair(lesson, x, kernel, stride, device):
    """What `highest` gives: two arrays beside x."""
    array = to_device(x.copy(), device)
    got = lesson.highest(array, kernel, stride)
    what = f"highest(x, {kernel}, {stride})"
    is_a(what, got, tuple)
    if len(got) != 2:
        raise Wrong(f"{what}: {len(got)} results instead of two, the maxima and their positions.")
    if (to_device(array, "cpu") != x).any():
        raise Wrong(f"{what} has changed x itself. The taps are views: what is written into values[0] is written into x.")
    for name, result in zip(("the maxima", "the positions"), got, strict=True):
        if not hasattr(result, "ravel"):
            raise Wrong(f"{what}: {name} are {result!r}, no array. Each window has its own: an array (N, OH, OW, C).")
        if get_array_module(result) is not get_array_module(array):
            raise Wrong(f"{what}: {name} come back in another array library than x. Use `xp`, not `np`.")
    return got


def check_one_window(lesson, device):
    """highest: one window of 2 x 2"""
    x = np.array([[1.0, 3.0], [7.0, 5.0]]).reshape(1, 2, 2, 1)
    best, position = _pair(lesson, x, 2, 2, device)
    mistakes = {"that is the smallest, not the largest.": 1.0, "that is the average.": 4.0, "that is the sum.": 16.0}
    same("the maximum of [[1, 3], [7, 5]]", best.ravel()[0], 7.0, mistakes=mistakes)
    mistakes = {"the number is counted column by column: row i, column j has the number i * kernel + j, as in `taps`.": 1}
    same("the position of the 7 in [[1, 3], [7, 5]]", position.ravel()[0], 2, mistakes=mistakes)


def check_negative(lesson, device):
    """highest: a window in which all numbers are negative"""
    x = np.array([[-4.0, -2.0], [-3.0, -5.0]]).reshape(1, 2, 2, 1)
    best, position = _pair(lesson, x, 2, 2, device)
    zero = "the search starts at 0, which is more than all of these; start with the first tap."
    same("the maximum of [[-4, -2], [-3, -5]]", best.ravel()[0], -2.0, mistakes={zero: 0.0})
    same("the position of the -2 in [[-4, -2], [-3, -5]]", position.ravel()[0], 1, mistakes={zero: 0})


def check_ties(lesson, device):
    """highest: of equal maxima the first"""
    x = np.array([[6.0, 8.0, 8.0], [8.0, 2.0, 8.0], [8.0, 0.0, 0.0]]).reshape(1, 3, 3, 1)
    best, position = _pair(lesson, x, 2, 1, device)
    same("the maxima of the windows", best, np.full((1, 2, 2, 1), 8.0))
    last = _highest(x, 2, 1, better=lambda new, old: new >= old)[1]
    mistakes = {"that is the last of the equal maxima: a later one must be larger, not only as large.": last}
    same("the positions where several pixels are 8", position, _highest(x, 2, 1)[1], mistakes=mistakes)
    zeros = _pair(lesson, np.zeros((1, 3, 3, 1)), 3, 2, device)[1]
    mistakes = {"that is the last of the equal maxima: a later one must be larger, not only as large.": 8}
    same("the position in a window full of zeros", zeros.ravel()[0], 0, mistakes=mistakes)


def check_highest(lesson, device):
    """highest: overlapping windows, several images and channels"""
    x = _images(2, 7, 6, 3)
    best, position = _pair(lesson, x, 3, 2, device)
    expected, positions = _highest(x, 3, 2)
    mixed = np.broadcast_to(expected.max(axis=3, keepdims=True), expected.shape)
    mistakes = {
        "those are the smallest.": -_highest(-x, 3, 2)[0],
        "the channels are mixed: each one has its own maxima.": mixed,
    }
    same("the maxima of 3 x 3 windows, stride 2", best, expected, mistakes=mistakes)
    mistakes = {"the numbers are counted column by column.": positions % 3 * 3 + positions // 3}
    same("the positions in 3 x 3 windows, stride 2", position, positions, mistakes=mistakes)
    best, position = _pair(lesson, x, 2, 2, device)
    expected, positions = _highest(x, 2, 2)
    same("the maxima of 2 x 2 windows, stride 2", best, expected)
    same("the positions in 2 x 2 windows, stride 2", position, positions)


def _arrived(lesson, dy, position, kernel, stride, shape, device):
    return lesson.spread(to_device(dy, device), to_device(position, device), kernel, stride, shape)


def check_spread_one(lesson, device):
    """spread: windows side by side"""
    position = np.array([2, 1]).reshape(1, 1, 2, 1)
    dy = np.array([5.0, -3.0]).reshape(1, 1, 2, 1)
    got = _arrived(lesson, dy, position, 2, 2, (1, 2, 4, 1), device)
    expected = _spread(dy, position, 2, 2, (1, 2, 4, 1))
    mistakes = {
        "nothing has arrived. Is it written into the taps themselves (`tap += ...`, and not `tap = tap + ...`)?": 0 * expected,
        "all pixels of a window get its gradient; only the one at `position` does.": _everywhere(dy, 2, 2, (1, 2, 4, 1)),
        "a 1 arrives where the number in `dy` should.": _spread(dy, position, 2, 2, (1, 2, 4, 1), "ones"),
        "position 1 is the second in the first row, not in the first column.": _spread(
            dy, position, 2, 2, (1, 2, 4, 1), "transposed"
        ),
    }
    same("spread of 5 and -3 to the positions 2 and 1 of two windows", got, expected, mistakes=mistakes)


def check_spread_overlap(lesson, device):
    """spread: a pixel that is the maximum of several windows"""
    x = np.zeros((1, 5, 5, 1))
    x[0, 2, 2, 0] = 1.0
    position = _highest(x, 3, 2)[1]
    dy = np.array([[1.0, 20.0], [300.0, 4000.0]]).reshape(1, 2, 2, 1)
    got = _arrived(lesson, dy, position, 3, 2, x.shape, device)
    mistakes = {
        "each window replaces what an earlier one has sent; it must be added.": _spread(dy, position, 3, 2, x.shape, "assign"),
        "all pixels of a window get its gradient; only the one at `position` does.": _everywhere(dy, 3, 2, x.shape),
        "nothing has arrived. Is it written into the taps themselves (`tap += ...`)?": 0 * x,
    }
    expected = _spread(dy, position, 3, 2, x.shape)
    same("spread of 1, 20, 300, 4000 to the pixel that four windows share", got, expected, mistakes=mistakes)


def check_spread_random(lesson, device):
    """spread: overlapping windows, several images and channels; nothing is lost"""
    x = np.maximum(_images(2, 8, 7, 3), 0)  # half of it zeros, as after a ReLU: many ties
    position = _highest(x, 3, 2)[1]
    dy = np.random.default_rng(1).normal(size=position.shape)
    got = _arrived(lesson, dy, position, 3, 2, x.shape, device)
    expected = _spread(dy, position, 3, 2, x.shape)
    mistakes = {
        "each window replaces what an earlier one has sent; it must be added.": _spread(dy, position, 3, 2, x.shape, "assign"),
        "all pixels of a window get its gradient.": _everywhere(dy, 3, 2, x.shape),
    }
    same("dx of 3 x 3 windows, stride 2", got, expected, mistakes=mistakes)
    same("the sum of all dx, which is the sum of all dy", got.sum(), dy.sum(), rtol=1e-9, atol=1e-9)


def check_max_pool(lesson, device):
    """spread: max_pool2d against finite differences, first and second derivatives"""
    x = Tensor(_images(2, 6, 5, 2, seed=2), requires_grad=True)
    y = lesson.max_pool2d(x, 3, 2)
    is_a("max_pool2d(x, 3, 2)", y, Tensor)
    same("max_pool2d(x, 3, 2)", y, _highest(x.numpy(), 3, 2)[0])
    for order in (1, 2):
        report = gradcheck(lambda x: lesson.max_pool2d(x, 3, 2) ** 2, x, order=order)
        if not report:
            kind = "gradient" if order == 1 else "gradient of the gradient"
            raise Wrong(f"max_pool2d(x, 3, 2) ** 2: the {kind} is not that of small steps.\n{report}")


LAYERS = [
    ("Conv2d", (28, 28, 6)), ("Tanh", (28, 28, 6)), ("pool", (14, 14, 6)), ("Conv2d", (10, 10, 16)), ("Tanh", (10, 10, 16)),
    ("pool", (5, 5, 16)), ("Flatten", (400,)), ("Linear", (120,)), ("Tanh", (120,)), ("Linear", (84,)), ("Tanh", (84,)), ("Linear", (10,)),
]  # fmt: skip


class _Pool(nn.Module):
    """A pooling layer that the learner has not written."""

    def __init__(self, kernel, stride):
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return F.max_pool2d(x, self.kernel, self.stride)


def _kind(layer):
    return "pool" if isinstance(layer, _Pool) else type(layer).__name__


def check_layers(lesson):
    """lenet: the twelve layers of the table"""
    model = lesson.lenet(_Pool)
    is_a("lenet(pool)", model, nn.Sequential)
    kinds = [_kind(layer) for layer in model]
    expected = [kind for kind, _ in LAYERS]
    if kinds != expected:
        if {"MaxPool", "MaxPool2d", "AvgPool2d"} & set(kinds):
            raise Wrong(
                "lenet(pool): the pooling layers are not made with `pool`, but with a class of their own. Write pool(kernel, 2)."
            )
        if kinds == [*expected, "Tanh"]:
            raise Wrong(
                "lenet(pool): a tanh after the last layer. The logits go into the cross-entropy as they are, of any size."
            )
        if [kind for kind in kinds if kind != "Tanh"] == [kind for kind in expected if kind != "Tanh"]:
            which = next(i for i, (a, b) in enumerate(zip(kinds, expected, strict=False), 1) if a != b)
            raise Wrong(
                f"lenet(pool): layer {which} is a {kinds[which - 1]} instead of a {expected[which - 1]}. A tanh follows each "
                "convolution and each linear layer but the last: two linear layers without anything between them are only one."
            )
        raise Wrong(f"lenet(pool) has the layers\n{', '.join(kinds)}\ninstead of\n{', '.join(expected)}.")
    with no_grad():
        x = Tensor(np.zeros((2, 28, 28, 1), np.float32))
        for number, (layer, (kind, shape)) in enumerate(zip(model, LAYERS, strict=True), 1):
            try:
                x = layer(x)
            except ValueError as error:
                raise Wrong(f"lenet(pool): layer {number}, {kind}, cannot take what comes, {x.shape}:\n{error}") from None
            if x.shape[1:] != shape:
                causes = {
                    (1, (24, 24, 6)): "\nWithout padding a 5 x 5 filter takes 4 pixels off: padding=2.",
                    (4, (14, 14, 16)): "\nOnly the first convolution has padding.",
                }
                cause = causes.get((number, x.shape[1:]), "")
                raise Wrong(f"lenet(pool): {x.shape[1:]} comes out of layer {number}, {kind}, instead of {shape}.{cause}")
    same("the number of its parameters", sum(p.size for p in model.parameters()), 61_706)


def check_layers_overlapping(lesson):
    """lenet: pooling with windows of 3 x 3"""
    model = lesson.lenet(_Pool, 3)
    for layer in model:
        if isinstance(layer, _Pool) and (layer.kernel, layer.stride) != (3, 2):
            raise Wrong(
                f"lenet(pool, 3): pools with pool({layer.kernel}, {layer.stride}) instead of pool(3, 2). Is `kernel` used?"
            )
    with no_grad():
        try:
            shape = model(Tensor(np.zeros((2, 28, 28, 1), np.float32))).shape
        except ValueError as error:
            raise Wrong(
                f"lenet(pool, 3): 4 x 4 x 16 numbers reach the first linear layer, not 400. Use `side`.\n{error}"
            ) from None
    same("the shape of lenet(pool, 3)(images)", shape, (2, 10))


def check_reads(lesson):
    """lenet: reads digits after a second of training"""
    images, labels = lesson.draw_digits(240, seed=5, wobble=0.0, noise=0.1)
    train, test = slice(0, 160), slice(160, None)
    minidl.manual_seed(0)
    model = lesson.lenet(lesson.MaxPool)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(6):
        for chosen in rng.permutation(160).reshape(-1, 10):
            loss = F.cross_entropy(model(Tensor(images[train][chosen])), labels[train][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with no_grad():
        said = model(Tensor(images[test])).numpy().argmax(axis=1)
    right = int((said == labels[test]).sum())
    if right < 48:
        raise Wrong(
            f"After six passes over 160 straight digits it reads {right} of 80 new ones; at least 48 are expected (guessing: 8)."
        )


HINTS = {
    "highest": (
        "Go through the taps one after the other. Keep for each window the largest number so far, and the number of its tap.",
        "larger = tap > best; where larger: best is the tap, position its number. xp.where(condition, a, b) takes a or b, place by "
        "place. With > and not >= the first of equal maxima stays.",
        "    best = values[0]\n"
        "    position = xp.zeros(best.shape, dtype=int)\n"
        "    for number, tap in enumerate(values):\n"
        "        larger = ...\n"
        "        best = xp.where(larger, ..., best)\n"
        "        position = xp.where(larger, ..., position)",
    ),
    "spread": (
        "The taps of dx are windows into dx itself. Each gets the numbers of dy that belong to it, and zeros for the others.",
        "tap[...] grows by dy where position == number: dy * (position == number). Change the tap in place, with +=.",
        "    for number, tap in enumerate(taps(dx, kernel, stride)):\n        tap += ...",
    ),
    "lenet": (
        "Read the table from the top: each row is one layer or two, a convolution or a product with its tanh.",
        "What comes out of a layer goes into the next: 1 -> 6 -> 16 maps, then side * side * 16 -> 120 -> 84 -> 10 numbers.",
        "    return nn.Sequential(\n"
        "        nn.Conv2d(1, 6, 5, padding=2),\n"
        "        nn.Tanh(),\n"
        "        pool(kernel, 2),\n"
        "        nn.Conv2d(...),\n"
        "        nn.Tanh(),\n"
        "        ...,\n"
        "        nn.Flatten(),\n"
        "        nn.Linear(side * side * 16, 120),\n"
        "        nn.Tanh(),\n"
        "        ...\n"
        "        nn.Linear(84, 10),\n"
        "    )",
    ),
}

SEARCH = """\
    best = values[0]
    position = xp.zeros(best.shape, dtype=int)
    for number, tap in enumerate(values):
"""
ADD = "        tap += dy * (position == number)\n"

MUTANTS = [
    Mutant("the smallest", "        larger = tap > best\n", "        larger = tap < best\n", "the smallest, not the largest"),
    Mutant(
        "the last of equals", "        larger = tap > best\n", "        larger = tap >= best\n", "the last of the equal maxima"
    ),
    Mutant("starts at 0", SEARCH, SEARCH.replace("values[0]", "xp.zeros(values[0].shape)"), "the search starts at 0"),
    Mutant(
        "column by column",
        "position = xp.where(larger, number, position)",
        "position = xp.where(larger, number % kernel * kernel + number // kernel, position)",
        "counted column by column",
    ),
    Mutant(
        "assigned", ADD, "        tap[...] = xp.where(position == number, dy, tap)\n", "replaces what an earlier one has sent"
    ),
    Mutant(
        "into the taps",
        "        best = xp.where(larger, tap, best)\n",
        "        best[...] = xp.where(larger, tap, best)\n",
        "has changed x itself",
    ),
    Mutant("not into the picture", ADD, ADD.replace("tap +=", "tap = tap +"), "written into the taps themselves"),
    Mutant("to the whole window", ADD, "        tap += dy\n", "only the one at `position` does"),
    Mutant("ones", ADD, "        tap += position == number\n", "a 1 arrives"),
    Mutant("no padding", "nn.Conv2d(1, 6, 5, padding=2)", "nn.Conv2d(1, 6, 5)", "takes 4 pixels off"),
    Mutant(
        "padding twice",
        "        nn.Conv2d(6, 16, 5),\n",
        "        nn.Conv2d(6, 16, 5, padding=2),\n",
        "Only the first convolution",
    ),
    Mutant("tanh at the end", "        nn.Linear(84, 10),\n", "        nn.Linear(84, 10),\n        nn.Tanh(),\n", "as they are"),
    Mutant(
        "no tanh between",
        "120),\n        nn.Tanh(),\n        nn.Linear(120, 84),\n        nn.Tanh(),\n",
        "120),\n        nn.Linear(120, 84),\n",
        "without anything between them are only one",
    ),
    Mutant("always 5 x 5", "nn.Linear(side * side * 16, 120)", "nn.Linear(400, 120)", "Use `side`"),
    Mutant(
        "its own pooling",
        "        pool(kernel, 2),\n        nn.Flatten",
        "        MaxPool(kernel, 2),\n        nn.Flatten",
        "with `pool`",
    ),
]
