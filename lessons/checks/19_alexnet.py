"""Lesson 19: sizes, towers, parameters and work of every layer, and the network: counted without building it, then run small."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, nn, no_grad

# name: filters, kernel, stride, padding, towers, as the paper and figure 2 have them
ROWS = {
    "conv1": (96, 11, 4, "end", 1),
    "conv2": (256, 5, 1, 2, 2),
    "conv3": (384, 3, 1, 1, 1),
    "conv4": (384, 3, 1, 1, 2),
    "conv5": (256, 3, 1, 1, 2),
}
COMING = {"conv2": (27, 96, 48), "conv3": (13, 256, 256), "conv4": (13, 384, 192), "conv5": (13, 384, 192)}
TOTAL = 60_965_224


def _places(size, kernel, stride, before, after):
    """By trying out every place."""
    length = size + before + after
    return sum(1 for first in range(0, length, stride) if first + kernel <= length)


def check_convolutions(lesson):
    """convolutions: the four rows that the paper describes"""
    rows = lesson.convolutions()
    is_a("what convolutions() returns", rows, dict)
    missing = [name for name in ROWS if name not in rows]
    if missing:
        raise Wrong(f"convolutions() has no row {missing[0]!r}. It has {', '.join(rows) or 'none'}.")
    for name, want in ROWS.items():
        row = rows[name]
        is_a(f"the row {name}", row, lesson.Conv)
        for field, got, should in zip(
            ("filters", "kernel", "stride", "towers", "padding"), _ordered(row), _ordered(want), strict=True
        ):
            if got != should:
                raise Wrong(f"{name}: {field} is {got!r}. {_why(name, field, got, should)}")


def _ordered(row):
    filters, kernel, stride, padding, towers = row
    return filters, kernel, stride, towers, padding


def _why(name, field, got, want):
    """What the paper's words say about this place of the table."""
    if name == "conv1":
        return f"It was {want!r} already, and is right so."
    size, channels, depth = COMING[name]
    _, kernel, stride, _, _ = ROWS[name]
    if field == "filters" and got == want // 2:
        return f"That is one tower's half. The paper counts those of both towers together: {want}."
    if field == "filters":
        return f"The paper gives {name} {want} kernels."
    if field == "kernel":
        return f"The kernels of {name} are {want} x {want} x {depth}: the last number is how deep they are."
    if field == "stride":
        return "Only the first convolution moves in steps of 4, and only pooling in steps of 2."
    if field == "towers" and want == 2:
        return f"{channels} maps come in, but its kernels are only {depth} deep: they see the half of their own tower. So 2."
    if field == "towers":
        return f"{channels} maps come in, and its kernels are {depth} deep: they see those of both towers. So 1."
    if not isinstance(got, int):
        return f"From {size} pixels to {size} the same number of zeros lies on every side: an int."
    made = _places(size, kernel, stride, got, got)
    return f"{size} pixels would become {made}; figure 2 has {size} behind {name}."


def check_parameters(lesson):
    """parameters: a small layer, counted one by one"""
    _parameters(lesson, 3, 4, 6, 1)
    _parameters(lesson, 3, 4, 6, 2)
    _parameters(lesson, 1, 7, 5, 1)


def check_parameters_of_alexnet(lesson):
    """parameters: those of the eight layers"""
    for case in ((11, 3, 96, 1), (5, 96, 256, 2), (3, 256, 384, 1), (3, 384, 384, 2), (3, 384, 256, 2), (1, 9216, 4096, 1)):
        _parameters(lesson, *case)
    got = sum(lesson.parameters(*c) for c in _layers(3, 1000, 1.0, 6 * 6))
    same("the parameters of all eight layers", got, TOTAL)


def _layers(channels, classes, width, places):
    """(kernel, channels, filters, towers) of the eight layers that learn. places: those of pool5."""
    found = []
    for filters, kernel, _, _, towers in ROWS.values():
        filters = max(2, 2 * round(filters * width / 2))
        found.append((kernel, channels, filters, towers))
        channels = filters
    units = max(2, 2 * round(4096 * width / 2))
    return [*found, (1, places * channels, units, 1), (1, units, units, 1), (1, units, classes, 1)]


def _count(kernel, channels, filters, towers):
    return nn.Conv2d(channels, filters, kernel, groups=towers).weight.size + filters if kernel > 1 else (channels + 1) * filters


def _parameters(lesson, kernel, channels, filters, towers):
    weights, depth = kernel * kernel * channels // towers * filters, channels // towers
    mistakes = {
        "the biases are missing: one for each filter.": weights,
        "with towers a filter is only channels / towers deep.": kernel * kernel * channels * filters + filters,
        "the towers divide twice. `filters` are those of both towers, and each of them is channels / towers deep.": weights
        // towers
        + filters,
        "the filters are divided as well: `filters` are those of both towers.": weights // towers + filters // towers,
        "the biases are divided by the towers too; every filter has one.": weights + filters // towers,
        "the kernel is kernel x kernel, a square.": kernel * depth * filters + filters,
        "one bias in all, instead of one for each filter.": weights + 1,
    }
    got = lesson.parameters(kernel, channels, filters, towers)
    text = f"parameters(kernel {kernel}, channels {channels}, filters {filters}, towers {towers})"
    same(text, got, _count(kernel, channels, filters, towers), rtol=0, mistakes=mistakes)
    if isinstance(got, float):
        raise Wrong(f"{text}: {got}, a number with a fraction. Numbers of weights are whole: divide with //.")


def check_work(lesson):
    """multiply_accumulates: a small layer, and the eight of AlexNet"""
    _work(lesson, 2, 3, 4, 6, 1)
    _work(lesson, 5, 3, 4, 6, 2)
    sizes = (55, 27, 13, 13, 13, 1, 1, 1)
    layers = _layers(3, 1000, 1.0, 6 * 6)
    for size, layer in zip(sizes, layers, strict=True):
        _work(lesson, size, *layer)
    total = sum(lesson.multiply_accumulates(size, *layer) for size, layer in zip(sizes, layers, strict=True))
    same("the multiply-accumulates of all eight layers", total, 724_406_816, rtol=0)


def _work(lesson, size, kernel, channels, filters, towers):
    once = kernel * kernel * (channels // towers) * filters
    want = sum(once for _ in range(size * size))
    mistakes = {
        "that is for one place of the output; the filter stands at new_size x new_size of them.": once,
        "the output has new_size x new_size places, not new_size.": once * size,
        "with towers a filter is only channels / towers deep.": want * towers,
        "the towers divide twice.": want // towers,
        "adding a bias takes no multiplication; count the weights only.": want + filters * size * size,
        "the biases are counted, and at one place only.": want + filters,
        "the kernel is kernel x kernel, a square.": want // kernel,
    }
    got = lesson.multiply_accumulates(size, kernel, channels, filters, towers)
    text = f"multiply_accumulates(new_size {size}, kernel {kernel}, channels {channels}, filters {filters}, towers {towers})"
    same(text, got, want, rtol=0, mistakes=mistakes)


class _Noted(nn.Module):
    """Stands for a layer and holds nothing but what it was made with: sixty million numbers need no memory to be counted."""

    def __init__(self, kind, **given):
        self.kind, self.given = kind, given


class _Notes:
    """A source of layers, as `alexnet` takes it, that only notes what is asked of it."""

    def Conv2d(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True):
        if isinstance(padding, str):
            raise Wrong(
                f"layers.Conv2d was given padding={padding!r}, which is a word of the table and no number of zeros. The walk has counted "
                "them: step.before and step.after, in the form ((top, bottom), (left, right))."
            )
        pairs = padding if isinstance(padding, (tuple, list)) else (padding, padding)
        pairs = tuple(tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in pairs)
        given = {"channels": in_channels, "filters": out_channels, "kernel": kernel_size, "stride": stride, "groups": groups}
        return _Noted("Conv2d", **given, padding=pairs)

    def Linear(self, in_features, out_features, bias=True):
        if isinstance(out_features, str):
            raise Wrong(f"layers.Linear was given {out_features!r} units, a word of the table. The number is step.new_channels.")
        return _Noted("Linear", channels=in_features, filters=out_features)

    def ReLU(self):
        return _Noted("ReLU")

    def Flatten(self):
        return _Noted("Flatten")

    def Dropout(self, p=0.5):
        return _Noted("Dropout")

    def MaxPool2d(self, kernel_size, stride=None):
        return _Noted("MaxPool2d")

    def LocalResponseNorm(self, size=5, alpha=1e-4, beta=0.75, k=2.0, groups=1):
        return _Noted("LocalResponseNorm")


def _noted(lesson, **given):
    """{name: what it was made with} for the layers that learn."""
    model = lesson.alexnet(layers=_Notes(), **given)
    is_a("what alexnet(...) returns", model, nn.Sequential)
    wanted = [*ROWS, "fc6", "fc7", "fc8"]
    for name in wanted:
        if name not in model.layers:
            raise Wrong(f"The network has no layer {name!r}. Is made[step.name] set for every row?")
        layer = model[name]
        if not isinstance(layer, _Noted):
            kind = type(layer).__name__
            raise Wrong(
                f"{name} is minidl's own {kind}, although alexnet was given other layers.\n"
                f"Likely cause: nn.{kind}(...) is written where layers.{kind}(...) should be."
            )
        kind = "Conv2d" if name.startswith("conv") else "Linear"
        if layer.kind != kind:
            raise Wrong(f"{name} is a {layer.kind} instead of a {kind}.")
    return {name: model[name].given for name in wanted}


def check_layers(lesson):
    """alexnet: every layer is made by `layers`, with the right arguments"""
    _arguments(_noted(lesson, classes=1000, width=1.0, image_size=224), 1000, 1.0, 224, 6 * 6)


def check_narrow(lesson):
    """alexnet: narrower, for smaller images and fewer classes"""
    _arguments(_noted(lesson, classes=10, width=0.25, image_size=64), 10, 0.25, 64, 1)
    _arguments(_noted(lesson, classes=7, width=0.5, image_size=99), 7, 0.5, 99, 2 * 2)


def _arguments(noted, classes, width, image_size, places):
    network = f"alexnet(classes={classes}, width={width}, image_size={image_size})"
    layers = _layers(3, classes, width, places)
    for (name, given), (_kernel, channels, filters, towers) in zip(noted.items(), layers, strict=True):
        what = f"{name} of {network}"
        full = {"this is the number in the full network; width is forgotten. Take step.new_channels.": ROWS.get(name, [4096])[0]}
        coming = {
            "that is what goes out, not what comes in.": filters,
            "that is what comes in of one tower; count both.": channels // 2,
        }
        same(f"{what}: channels that come in", given["channels"], channels, mistakes=coming)
        same(f"{what}: channels that go out", given["filters"], filters, mistakes=full)
        if name not in ROWS:
            continue
        _, kernel, stride, padding, _ = ROWS[name]
        kernels = given["kernel"] if isinstance(given["kernel"], (tuple, list)) else (given["kernel"],) * 2
        same(f"{what}: kernel", kernels, (kernel, kernel))
        strides = given["stride"] if isinstance(given["stride"], (tuple, list)) else (given["stride"],) * 2
        same(f"{what}: stride", strides, (stride, stride), mistakes={"`stride` is not passed on.": (1, 1)})
        ones = {"`groups` is not passed on: every filter sees both towers.": 1}
        same(f"{what}: groups", given["groups"], towers, mistakes=ones)
        side = (padding, padding) if isinstance(padding, int) else (0, (11 - image_size) % 4)
        mistakes = {
            "`padding` is not passed on.": ((0, 0), (0, 0)),
            "before and after are the wrong way round: these zeros lie at the top and the left.": (side[::-1], side[::-1]),
            "the zeros behind lie in front, too.": ((side[1],) * 2, (side[1],) * 2),
            "the form is ((top, bottom), (left, right)).": ((side[0],) * 2, (side[1],) * 2),
        }
        same(f"{what}: padding ((top, bottom), (left, right))", given["padding"], (side, side), mistakes=mistakes)


def check_count(lesson):
    """alexnet: 60,965,224 parameters, counted without building them"""
    total = 0
    for name, given in _noted(lesson).items():
        kernel = ROWS[name][1] if name in ROWS else 1
        total += kernel**2 * given["channels"] // given.get("groups", 1) * given["filters"] + given["filters"]
    same("the parameters of alexnet()", total, TOTAL, rtol=0, mistakes={"the towers are not apart.": 62_378_344})


def check_shapes(lesson, device):
    """alexnet: the shape behind every layer"""
    rng = np.random.default_rng(19)
    for image_size, width, sides in ((224, 1 / 16, (55, 27, 27, 13, 13, 13, 13, 6)), (64, 0.25, (15, 7, 7, 3, 3, 3, 3, 1))):
        model = lesson.alexnet(classes=10, width=width, image_size=image_size).eval()
        x = Tensor(rng.normal(0, 1, (2, image_size, image_size, 3)).astype(np.float32), device=device)
        names = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
        filters = [max(2, 2 * round(ROWS[name][0] * width / 2)) for name in ROWS]
        channels = dict(zip(names, [filters[n] for n in (0, 0, 1, 1, 2, 3, 4, 4)], strict=True))
        with no_grad():
            for name, layer in model.layers.items():
                x = layer(x)
                if name in names:
                    side = sides[names.index(name)]
                    text = f"the shape behind {name}, of two images with {image_size} pixels a side, width {width}"
                    same(text, x.shape, (2, side, side, channels[name]))
        same("the shape of what comes out, for 10 classes", x.shape, (2, 10))


def check_towers(lesson, device):
    """alexnet: which maps a tower sees"""
    rng = np.random.default_rng(20)
    model = lesson.alexnet(classes=10, width=0.25, image_size=64).eval()
    for name, (_, _, _, _, towers) in list(ROWS.items())[1:]:
        layer = model[name]
        channels = {"conv2": 24, "conv3": 64, "conv4": 96, "conv5": 96}[name]
        images = rng.normal(0, 1, (1, 7, 7, channels)).astype(np.float32)
        changed = images.copy()
        changed[..., 0] += 1
        with no_grad():
            first, second = (layer(Tensor(x, device=device)).numpy() for x in (images, changed))
        change = np.abs(second - first).max((0, 1, 2)).reshape(2, -1).max(1) > 1e-6
        if not change[0]:
            raise Wrong(f"A map of tower 1 that comes into {name} was changed, and nothing in tower 1 behind it changed.")
        if change[1] and towers == 2:
            raise Wrong(
                f"A map of tower 1 that comes into {name} was changed, and tower 2 behind it changed. It must not see it."
            )
        if not change[1] and towers == 1:
            raise Wrong(
                f"A map of tower 1 that comes into {name} was changed, and tower 2 behind it did not. It must see all maps."
            )


HINTS = {
    "convolutions": (
        "filters and kernel are in the paper's words. For padding, look at the sides in figure 2: 27 before and behind the second, 13 "
        "before and behind the others. For towers, compare how deep a kernel is (its third number) with how many maps come in (the "
        "number of kernels of the layer before).",
        "As deep as all that come in: towers=1. As deep as half: towers=2. A kernel of k pixels in steps of 1 leaves the side as it is "
        "with (k - 1) / 2 zeros on each side.",
        'rows["conv2"] = Conv(256, 5, stride=1, padding=2, towers=...)  # 48 deep, 96 come in\n'
        'rows["conv3"] = Conv(384, 3, stride=1, padding=..., towers=...)  # 256 deep, 256 come in\n'
        'rows["conv4"] = Conv(..., 3, stride=1, padding=..., towers=...)  # 192 deep, 384 come in\n'
        'rows["conv5"] = Conv(..., 3, stride=1, padding=..., towers=...)  # 192 deep, 384 come in',
    ),
    "parameters": (
        "How many weights has one filter? It is a little block: kernel high, kernel wide, and as deep as the maps that it sees. Then all "
        "filters, and a bias for each.",
        "kernel * kernel * (channels / towers) * filters + filters. `//` keeps it a whole number.",
        "depth = channels // ...\nreturn kernel * kernel * depth * ... + ...",
    ),
    "multiply_accumulates": (
        "One multiply-accumulate for every weight of every filter, at one place of the output. How many places are there?",
        "new_size * new_size * (the weights, without the biases).",
        "weights = kernel * kernel * (channels // towers) * ...\nreturn new_size * new_size * ...",
    ),
    "alexnet": (
        "`step` knows everything about the row. If row is a Conv, make a layers.Conv2d; if it is a Full, a layers.Linear. How many come "
        "in: step.channels. How many go out: step.new_channels.",
        "Conv2d needs kernel and stride from the row, groups = row.towers, and padding = ((before, after), (before, after)).",
        "if isinstance(row, Conv):\n"
        "    side = (step.before, step.after)\n"
        "    made[step.name] = layers.Conv2d(\n"
        "        step.channels, ..., row.kernel, stride=..., padding=(side, side), groups=...)\n"
        "else:\n"
        "    made[step.name] = layers.Linear(..., ...)",
    ),
}

WEIGHTS = "kernel * kernel * (channels // towers) * filters + filters"
WORK = "    weights = kernel * kernel * (channels // towers) * filters\n"

CONV2 = "Conv(256, 5, stride=1, padding=2, towers=2)"
CONV3 = "Conv(384, 3, stride=1, padding=1, towers=1)"
CONV4 = "Conv(384, 3, stride=1, padding=1, towers=2)"

MUTANTS = [
    Mutant("conv2 sees both", CONV2, "Conv(256, 5, stride=1, padding=2, towers=1)", "only 48 deep"),
    Mutant("conv3 sees one", CONV3, CONV4, "those of both towers"),
    Mutant("half of the filters", CONV4, "Conv(192, 3, stride=1, padding=1, towers=2)", "one tower's half"),
    Mutant("no zeros", CONV2, "Conv(256, 5, stride=1, padding=0, towers=2)", "27 pixels would become 23"),
    Mutant("no biases", WEIGHTS, "kernel * kernel * (channels // towers) * filters", "the biases are missing"),
    Mutant("as deep as all", WEIGHTS, "kernel * kernel * channels * filters + filters", "only channels / towers deep"),
    Mutant(
        "filters halved too", WEIGHTS, "kernel * kernel * (channels // towers) * (filters // towers) + filters", "divide twice"
    ),
    Mutant("at one place", "return new_size * new_size * weights", "return weights", "for one place of the output"),
    Mutant("at a line of places", "return new_size * new_size * weights", "return new_size * weights", "not new_size"),
    Mutant("biases multiply", WORK, WORK.rstrip("\n") + " + filters\n", "takes no multiplication"),
    Mutant("not from layers", "layer = layers.Conv2d(*shape", "layer = nn.Conv2d(*shape", r"layers\.Conv2d\(\.\.\.\) should be"),
    Mutant("no groups", '{"stride": row.stride, "groups": row.towers}', '{"stride": row.stride}', "`groups` is not passed on"),
    Mutant("no stride", '{"stride": row.stride, "groups": row.towers}', '{"groups": row.towers}', "`stride` is not passed on"),
    Mutant("zeros in front", "side = (step.before, step.after)", "side = (step.after, step.before)", "wrong way round"),
    Mutant(
        "width forgotten",
        "shape = (step.channels, step.new_channels, row.kernel)",
        "shape = (step.channels, row.filters, row.kernel)",
        "width is forgotten",
    ),
]
