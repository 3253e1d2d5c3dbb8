"""Lesson 15: the mask and its way back, both scalings in training and at the test, and the average over all networks."""

from itertools import product

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, backend, grad, manual_seed

P = 0.2  # with 0.5 it does not show whether p drops or keeps


def _numpy(tensor):
    return backend.to_device(tensor.data, "cpu") if isinstance(tensor, Tensor) else np.asarray(tensor)


def _spaced(*shape):
    """1.0, 1.01, ...: no zeros, no two alike."""
    return (1 + 0.01 * np.arange(np.prod(shape))).reshape(shape)


def _dropped(lesson, x, p):
    """The array x as a Tensor, and what Drop(p) makes of it."""
    t = Tensor(x, requires_grad=True)
    y = lesson.Drop(p)(t)
    is_a("Drop(p)(x)", y, Tensor)
    if y.ndim == 1 and y.size < t.size:
        raise Wrong(
            f"Drop(p)(x): shape {y.shape} for x of shape {t.shape}.\n"
            "Likely cause: x[mask] throws the others away. Their places stay, with a 0: multiply by the mask."
        )
    if y.shape != t.shape:
        raise Wrong(f"Drop(p)(x): shape {y.shape} for x of shape {t.shape}. A mask of another shape was broadcast?")
    return t, y


def _kept_or_dropped(what, y, x, scales):
    """Raise `Wrong` unless every element of y is 0 or that of x. scales: {what a mistake is called: its factor}."""
    kept = y != 0
    for mistake, factor in scales.items():
        if kept.any() and np.allclose(y[kept], factor * x[kept], rtol=1e-4):
            raise Wrong(f"{what}: those that are kept have {factor:g} times their value.\nLikely cause: {mistake}")
    same(what + ", those that are kept", y[kept], x[kept], rtol=1e-4)


def check_mask(lesson, device):
    """Drop.forward: an element is 0, or what it was"""
    x = _spaced(50, 40)
    _, y = _dropped(lesson, x, P)
    if np.isin(_numpy(y), (0, 1)).all():
        raise Wrong("Drop(0.2)(x): there is nothing in it but 0 and 1. That is the mask itself; return x times the mask.")
    if (_numpy(y) < x).all() and np.ptp(_numpy(y) / x) < 1 < 2 * np.ptp(_numpy(y) / x):
        raise Wrong("Drop(0.2)(x): x was multiplied by the random numbers. Compare them with p: that gives the mask.")
    scales = {"the survivors are scaled here already; Drop drops, and nothing else.": 1 / (1 - P), "p multiplies as well.": P}
    scales["everything is multiplied by 1 - p: that belongs to the test."] = 1 - P
    _kept_or_dropped("Drop(0.2)(x)", _numpy(y), x, scales)
    if (_numpy(y) != 0).all():
        raise Wrong("Drop(0.2)(x): nothing is dropped. Of 2,000 elements about 400 should be 0.")


def check_share(lesson, device):
    """Drop.forward: p is the probability to be dropped"""
    _, y = _dropped(lesson, _spaced(200, 500), P)
    share = float((_numpy(y) == 0).mean())
    mistakes = {"p is taken for the probability to be kept.": 1 - P, "half is dropped whatever p is.": 0.5}
    for mistake, wrong in mistakes.items():
        if abs(share - wrong) < 0.02:
            raise Wrong(f"Drop(0.2)(x): {share:.2f} of the elements are 0 instead of 0.20.\nLikely cause: {mistake}")
    same("the share of zeros in Drop(0.2)(x)", share, P, atol=0.02)


def check_each_by_itself(lesson, device):
    """Drop.forward: each element by itself, and another mask each time"""
    x = _spaced(100, 60)
    first, second = (_numpy(_dropped(lesson, x, 0.5)[1]) != 0 for _ in range(2))
    for name, same_for_all in (
        ("rows: all images lose the same units", first[:1]),
        ("columns: an image loses all its units or none", first[:, :1]),
    ):
        if (first == same_for_all).all():
            raise Wrong(f"Drop(0.5)(x): the mask is the same in all {name}.\nDraw a number for every element: random(x.shape).")
    if (first == second).all():
        raise Wrong(
            "Drop(0.5)(x) twice: both masks are the same.\nLikely cause: a new generator with the same seed each time. Take minidl's."
        )


def check_repeatable(lesson, device):
    """Drop.forward: minidl.manual_seed makes it repeatable, float32 stays float32"""
    x = backend.to_device(_spaced(20, 30).astype(np.float32), device)
    masks = []
    for _ in range(2):
        manual_seed(7)
        drop = lesson.Drop(0.5)
        y = drop(Tensor(x))
        masks.append(_numpy(y) != 0)
    if (masks[0] != masks[1]).any():
        raise Wrong(
            "After manual_seed(7) the mask is not the same as after another manual_seed(7).\n"
            "Likely cause: the numbers are not those of minidl's generator(device_of(x))."
        )
    if y.dtype != np.float32:
        raise Wrong(f"x is float32, but Drop(0.5)(x) is {y.dtype}. Give the mask the dtype of x: .astype(x.dtype).")


def check_mask_backwards(lesson, device):
    """Drop.backward: the same mask, a random gradient"""
    x, v = _spaced(20, 10), np.random.default_rng(1).standard_normal((20, 10))
    t, y = _dropped(lesson, x, 0.5)
    try:
        got = _numpy(grad((y * Tensor(v)).sum(), t))
    except ValueError as error:
        if "do not depend on it" not in str(error):
            raise
        raise Wrong("The gradient of Drop(0.5): `backward` returns nothing (None). Is a `return` missing?") from None
    if got.shape == v.shape:
        there, passed = _numpy(y) != 0, got != 0
        if passed.all() and np.allclose(got, v):
            raise Wrong(
                "The gradient of Drop(0.5): those that were dropped get a gradient, too.\nLikely cause: the mask is missing in backward."
            )
        if (there != passed).any() and np.allclose(got[passed], v[passed]):
            raise Wrong(
                "The gradient of Drop(0.5): it is 0 in other places than the result was.\nLikely cause: backward draws another mask. "
                "It needs the one that forward kept in self.mask."
            )
    mistakes = {
        "it is 0 where the unit was kept: the mask is turned round.": np.where(_numpy(y) == 0, v, 0),
        "what is multiplied is the result; the derivative of x * mask is the mask.": v * _numpy(y),
        "the gradient from above is missing: mask times gradient.": 1.0 * (_numpy(y) != 0),
    }
    same("the gradient of Drop(0.5)", got, np.where(_numpy(y) != 0, v, 0), mistakes=mistakes)


def check_mask_of_each(lesson, device):
    """Drop.backward: two layers, two masks"""
    t = Tensor(_spaced(30, 10), requires_grad=True)
    first = lesson.Drop(0.5)(t)
    second = lesson.Drop(0.5)(t)
    got = _numpy(grad((first + second * 2).sum(), t))
    expected = 1.0 * (_numpy(first) != 0) + 2.0 * (_numpy(second) != 0)
    mistakes = {
        "both have the mask of the second; keep it in `self`, not in the class or in a global name.": 3.0 * (_numpy(second) != 0)
    }
    same("the gradient of (Drop(0.5)(x) + 2 * Drop(0.5)(x)).sum()", got, expected, mistakes=mistakes)


def _training(lesson, name, scale, scales):
    x = _spaced(50, 40)
    t = Tensor(x, requires_grad=True)
    y = getattr(lesson, name)(t, P, True)
    is_a(f"{name}(x, 0.2, training=True)", y, Tensor)
    if (_numpy(y) != 0).all():
        raise Wrong(f"{name}(x, 0.2, training=True): nothing is dropped. Are training and test mixed up?")
    share = float((_numpy(y) == 0).mean())
    if abs(share - P) > 0.06:
        raise Wrong(
            f"{name}(x, 0.2, training=True): {share:.2f} of the elements are 0 instead of about 0.20. Is p handed on to Drop?"
        )
    what = f"{name}(x, 0.2, training=True)" + ("" if scale == 1 else " * 0.8")
    _kept_or_dropped(what, _numpy(y) / scale, x, {mistake: factor / scale for mistake, factor in scales.items()})
    v = np.random.default_rng(2).standard_normal(x.shape)
    got = grad((y * Tensor(v)).sum(), t)
    kept = _numpy(y) != 0
    mistakes = {"the factor is missing on the way back.": np.where(kept, v, 0)}
    same(f"the gradient of {name}", got, np.where(kept, scale * v, 0), mistakes=mistakes)


def _test_time(lesson, name, scale, mistakes):
    x = _spaced(50, 40)
    y = getattr(lesson, name)(Tensor(x), P, False)
    if y is not None and (_numpy(y) == 0).any():
        raise Wrong(f"{name}(x, 0.2, training=False): there are zeros in it. At the test nobody is dropped.")
    same(f"{name}(x, 0.2, training=False)", y, scale * x, mistakes={m: factor * x for m, factor in mistakes.items()})


def check_paper_training(lesson, device):
    """dropout: while training it drops and does not scale"""
    _training(
        lesson,
        "dropout",
        1,
        {"the survivors are scaled: that is the inverted form.": 1 / (1 - P), "the factor belongs to the test.": 1 - P},
    )


def check_paper_test(lesson, device):
    """dropout: at the test all are there, with their expectation"""
    mistakes = {
        "the factor of the test is missing.": 1,
        "it is multiplied by p; but p is the probability to be dropped.": P,
        "it is divided; the test has more units than training, so their outputs must get smaller.": 1 / (1 - P),
        "it is multiplied by 0.5 whatever p is.": 0.5,
    }
    _test_time(lesson, "dropout", 1 - P, mistakes)


def check_inverted_training(lesson, device):
    """inverted_dropout: the survivors are scaled while training"""
    scales = {
        "the survivors are not scaled, so the expectation is smaller than x.": 1,
        "the survivors are multiplied by 1 - p; that makes the expectation smaller still.": 1 - P,
        "they are divided by p; but p is the probability to be dropped.": 1 / P,
        "they are multiplied by 2 whatever p is.": 2,
    }
    _training(lesson, "inverted_dropout", 1 / (1 - P), scales)


def check_inverted_test(lesson, device):
    """inverted_dropout: at the test nothing happens"""
    mistakes = {
        "scaled at the test, too; one of the two is enough.": 1 - P,
        "scaled at the test instead of while training.": 1 / (1 - P),
    }
    _test_time(lesson, "inverted_dropout", 1, mistakes)


def check_equal_expectations(lesson, device):
    """inverted_dropout: both forms have equal expectations in training and at the test"""
    x = np.array([1.0, -2.0, 3.0])
    many = np.tile(x, (40_000, 1))
    for name in ("dropout", "inverted_dropout"):
        form = getattr(lesson, name)
        mean = _numpy(form(Tensor(many), 0.4, True)).mean(axis=0)
        test = _numpy(form(Tensor(x), 0.4, False))
        same(f"{name}(x, 0.4): the mean of 40,000 draws in training, against the test", mean, test, rtol=0.03)


def _every(f, x, p):
    """The definition."""
    masks = np.array(list(product((0, 1), repeat=len(x))))
    weights = np.prod(np.where(masks == 1, 1 - p, p), axis=1)
    return sum(w * f(x * mask) for w, mask in zip(weights, masks, strict=True))


def check_mean_of_one(lesson):
    """mean_over_all: a single unit, dropped with probability 0.2"""
    x = np.array([10.0])
    mistakes = {
        "the probabilities are missing: 0 and 10 are added up.": 10.0,
        "both masks count the same; the one that keeps has probability 0.8.": 5.0,
        "p and 1 - p are mixed up: p is the probability to be dropped.": 2.0,
    }
    got = lesson.mean_over_all(lambda u: u.sum(), x, 0.2)
    same("mean_over_all(sum, [10.0], 0.2)", got, 8.0, mistakes=mistakes)


def check_mean_of_a_layer(lesson):
    """mean_over_all: for one layer it is the layer of the scaled units"""
    random = np.random.default_rng(3)
    x, weight = random.random(6), random.standard_normal((6, 2))
    same("mean_over_all of one layer, p = 0.5", lesson.mean_over_all(lambda u: u @ weight, x, 0.5), 0.5 * x @ weight)
    got = lesson.mean_over_all(lambda u: u @ weight + 3, x, 0.2)
    same("mean_over_all of one layer with a bias of 3, p = 0.2", got, 0.8 * x @ weight + 3)


def check_mean_of_squares(lesson):
    """mean_over_all: f comes before the average"""
    x = np.array([1.0, 2.0, 4.0])

    def square(units):
        return units.sum() ** 2

    mistakes = {
        "that is f of the average. Wanted is the average of f.": square(0.7 * x),
        "a mask counts with the probability of one of its elements only; the probabilities of all are multiplied.": 0.0,
    }
    same(
        "mean_over_all(square of the sum, [1, 2, 4], 0.3)",
        lesson.mean_over_all(square, x, 0.3),
        _every(square, x, 0.3),
        mistakes=mistakes,
    )


HINTS = {
    "Drop.forward": (
        "Draw an array of numbers, compare it with p, and you have an array of truth values. As numbers, in the dtype of x, that is "
        "the mask.",
        "mask = 1 where the random number is at least p, else 0. Of all numbers from 0 to 1 the share p lies below p.",
        "        random = generator(device_of(x)).random(x.shape)\n"
        "        self.mask = (random ... self.p).astype(...)\n"
        "        return x * ...",
    ),
    "Drop.backward": (
        "Nothing is drawn here. The mask that forward has kept is all that is needed.",
        "gradient of x = gradient of the result * mask.",
        "        return gradient * ...",
    ),
    "dropout": (
        "Two cases. While training Drop does everything. At the test nobody is dropped, but everything is scaled.",
        "training: Drop(p)(x). Test: (1 - p) x.",
        "    if training:\n        return ...\n    return x * (...)",
    ),
    "inverted_dropout": (
        "Two cases again. On average the share 1 - p survives; by how much must it grow to make up for the others?",
        "training: Drop(p)(x) / (1 - p). Test: x.",
        "    if training:\n        return Drop(p)(x) * (1 / ...)\n    return ...",
    ),
    "mean_over_all": (
        "In a mask, `sum(mask)` units are kept, and the others are dropped. The probabilities of independent events are multiplied.",
        "probability of a mask = p ** dropped * (1 - p) ** kept. The mean grows by this times f(x * mask).",
        "        kept = sum(mask)\n"
        "        probability = p ** (...) * (1 - p) ** kept\n"
        "        mean = mean + probability * f(x * np.array(mask))",
    ),
}

DRAW = "        random = generator(device_of(x)).random(x.shape)\n"
MASK = "        self.mask = (random >= self.p).astype(x.dtype)\n        return x * self.mask\n"
PAPER = "        return Drop(p)(x)\n    return x * (1 - p)\n"
INVERTED = "        return Drop(p)(x) * (1 / (1 - p))\n    return x\n"
PROBABILITY = "probability = p ** (len(x) - kept) * (1 - p) ** kept"

MUTANTS = [
    Mutant("p keeps", MASK, MASK.replace(">=", "<"), "taken for the probability to be kept"),
    Mutant("scaled in Drop", MASK, MASK.replace("return x", "return 1 / (1 - self.p) * x"), "survivors are scaled here already"),
    Mutant("one mask for all images", DRAW, DRAW.replace("x.shape", "x.shape[-1:]"), "the same in all rows"),
    Mutant(
        "the same seed each time",
        DRAW,
        "        random = np.random.default_rng(0).random(x.shape)\n",
        "both masks are the same",
        cpu_only=True,
    ),
    Mutant(
        "its own generator",
        DRAW,
        "        random = np.random.default_rng().random(x.shape)\n",
        "not those of minidl's generator",
        cpu_only=True,
    ),
    Mutant("the mask itself", MASK, MASK.replace("x * self.mask", "self.mask"), "the mask itself"),
    Mutant("random numbers", MASK, MASK.replace("(random >= self.p)", "random"), "by the random numbers"),
    Mutant("no return", "return gradient * self.mask", "gradient * self.mask", "Is a `return` missing"),
    Mutant("float64", "(random >= self.p).astype(x.dtype)", "(random >= self.p) * 1.0", "Give the mask the dtype of x"),
    Mutant("another mask backwards", "return gradient * self.mask", "return Drop(self.p)(gradient)", "draws another mask"),
    Mutant("no mask backwards", "return gradient * self.mask", "return gradient", "the mask is missing in backward"),
    Mutant("mask in the class", MASK, MASK.replace("self.mask", "Drop.mask"), "the mask of the second"),
    Mutant("no factor at the test", PAPER, PAPER.replace(" * (1 - p)", ""), "factor of the test is missing"),
    Mutant("times p", PAPER, PAPER.replace("(1 - p)", "p"), "multiplied by p"),
    Mutant("a half for ever", PAPER, PAPER.replace("(1 - p)", "0.5"), "0.5 whatever p is"),
    Mutant("training forgotten", "    if training:\n" + PAPER, "    return Drop(p)(x)\n", "At the test nobody is dropped"),
    Mutant("not inverted", INVERTED, INVERTED.replace(" * (1 / (1 - p))", ""), "expectation is smaller than x"),
    Mutant("inverted and halved", INVERTED, INVERTED.replace("return x\n", "return x * (1 - p)\n"), "one of the two is enough"),
    Mutant("the wrong way", INVERTED, INVERTED.replace("(1 / (1 - p))", "(1 - p)"), "smaller still"),
    Mutant("all count the same", PROBABILITY, "probability = 0.5 ** len(x)", "both masks count the same"),
    Mutant("no probability", PROBABILITY, "probability = 1", "probabilities are missing"),
    Mutant("p and 1 - p", PROBABILITY, "probability = p**kept * (1 - p) ** (len(x) - kept)", "mixed up"),
    Mutant("f of the average", "mean = mean + probability * f(x * np.array(mask))", "mean = f(x * (1 - p))", "that is f of the average"),
]  # fmt: skip
