"""Lesson 23: the differences of two configurations, one at a time; weights of a narrow network; an effect and its standard error."""

import copy
import math

import numpy as np

from lessons.checking import Mutant, Wrong, at_most, is_a, same

A = {"rate": 0.01, "decay": 0.0005, "order": "relu pool", "plateau": 3, "noise": 0}
B = {"order": "pool relu", "decay": 0.0005, "rate": 0.01, "within": True, "noise": 0.1, "norm": (2, 5)}


def check_differences(lesson):
    """differences: what is not the same in both"""
    got = lesson.differences({"x": 1, "y": 2}, {"x": 1, "y": 3})
    is_a("differences({'x': 1, 'y': 2}, {'x': 1, 'y': 3})", got, dict)
    _is_same("differences({'x': 1, 'y': 2}, {'x': 1, 'y': 3})", got, {"y": (2, 3)})
    _is_same("differences(a, a)", lesson.differences(A, dict(A)), {})


def check_differences_missing(lesson):
    """differences: names that only one of them has, and their order"""
    want = {
        "order": ("relu pool", "pool relu"),
        "plateau": (3, None),
        "noise": (0, 0.1),
        "within": (None, True),
        "norm": (None, (2, 5)),
    }
    a, b = copy.deepcopy(A), copy.deepcopy(B)
    got = lesson.differences(a, b)
    _is_same("differences(a, b), with names that only one has", got, want)
    if (a, b) != (A, B):
        raise Wrong("differences(a, b) has changed a or b. Make a new dictionary.")
    if list(got) != list(want):
        raise Wrong(f"The names come in the order {', '.join(got)}; first those of a, in a's order, then what only b has.")
    _is_same("differences(b, a)", lesson.differences(b, a), {name: pair[::-1] for name, pair in want.items()})


def _is_same(what, got, want):
    is_a(what, got, dict)
    got = {name: tuple(pair) if isinstance(pair, list) else pair for name, pair in got.items()}
    for name in want:
        if name not in got:
            who = " It is only in the second one: go through the names of both." if want[name][0] is None else ""
            who = " It is only in the first one; .get(name) gives None." if want[name][1] is None else who
            raise Wrong(
                f"{what}: {name!r} is missing, which is {want[name][0]!r} in one and {want[name][1]!r} in the other.{who}"
            )
    for name in got:
        if name not in want:
            raise Wrong(f"{what}: {name!r} is in it, but it has the same value in both.")
    for name, pair in want.items():
        if got[name] == pair[::-1] and pair[0] != pair[1]:
            raise Wrong(f"{what}: {name!r} has {got[name]!r}; the first one's value comes first: {pair!r}.")
        if got[name] != pair:
            raise Wrong(f"{what}: {name!r} has {got[name]!r} instead of {pair!r}.")


def check_one_by_one(lesson):
    """one_by_one: each differs from the base in one thing"""
    base, other = {"x": 1, "y": 2, "z": 3, "same": 4}, {"x": 10, "y": 20, "z": 30, "same": 4}
    was = dict(base), dict(other)
    got = lesson.one_by_one(base, other)
    is_a("what one_by_one(base, other) returns", got, dict)
    if (base, other) != was:
        raise Wrong(
            f"one_by_one has changed its base (or the other): base is {base} now. Make a new dictionary for each name: {{**base, ...}}."
        )
    if "same" in got:
        raise Wrong("There is a configuration for 'same', which has the same value in both: nothing is changed in it.")
    if list(got) != ["x", "y", "z"]:
        raise Wrong(f"There are configurations for {list(got)}; it should be one for each difference: ['x', 'y', 'z'].")
    for name, config in got.items():
        is_a(f"the configuration for {name!r}", config, dict)
        changed = [n for n in base if config.get(n) != base[n]]
        if changed == [n for n in "xyz" if n != name]:
            raise Wrong(f"The configuration for {name!r} differs from the base in {changed}: base and other have changed places.")
        if len(changed) > 1:
            raise Wrong(
                f"The configuration for {name!r} differs from the base in {changed}, instead of in {name!r} alone. "
                "The changes pile up from one to the next; begin with the base each time."
            )
        if config != {**base, name: other[name]}:
            raise Wrong(f"The configuration for {name!r} is {config}, instead of { ({**base, name: other[name]}) }.")


def check_one_by_one_real(lesson):
    """one_by_one: paper and program, both ways"""
    for base, other in ((lesson.PAPER, lesson.PROGRAM), (lesson.PROGRAM, lesson.PAPER)):
        got = lesson.one_by_one(base, other)
        same("the number of configurations", len(got), 8)
        for name, config in got.items():
            if config != {**base, name: other[name]}:
                raise Wrong(f"The configuration for {name!r} is not the base with this one change.")


def check_scale_model(lesson):
    """scale_model: inputs times std squared stays the same"""
    for std, full, here in ((0.01, 400, 100), (0.03, 1728, 216), (0.01, 363, 363), (2.0, 9, 36)):
        ratio = full / here
        mistakes = {
            "the ratio is the wrong way round: fewer inputs need larger weights.": std * ratio**-0.5,
            "the root is missing: the square of std goes with the inputs.": std * ratio,
            "the root is missing, and the ratio is the wrong way round.": std / ratio,
            "that is the square of it; take the root.": std**2 * ratio,
            "that is for one input in the full network.": std * here**-0.5,
            "std is missing.": ratio**0.5,
        }
        same(f"scale_model({std}, {full}, {here})", lesson.scale_model(std, full, here), std * ratio**0.5, mistakes=mistakes)


def check_effect(lesson):
    """effect: the mean of the differences, and its standard error"""
    base = [1.0, 2.0, 4.0, 3.0]
    _effect(lesson, base, [1.5, 2.0, 5.0, 3.5])
    rng = np.random.default_rng(5)
    for number in (3, 6, 10):
        base = list(rng.normal(2, 1, number))
        _effect(lesson, base, [loss - 0.3 + 0.05 * rng.normal() for loss in base])


def _effect(lesson, base, changed):
    n, d = len(base), np.array(changed) - np.array(base)
    mean, s = d.mean(), d.std(ddof=1)
    apart = math.sqrt((np.var(base, ddof=1) + np.var(changed, ddof=1)) / n)
    mistakes = {
        "the sign is turned round: changed minus base.": [-mean, s / math.sqrt(n)],
        "that is how far a single difference lies from the mean; divide by sqrt(n).": [mean, s],
        "it is divided by n instead of sqrt(n).": [mean, s / n],
        "n instead of n - 1: np.std divides by n, unless it is told ddof=1.": [mean, d.std() / math.sqrt(n)],
        "n instead of n - 1 (ddof=1), and sqrt(n) is missing.": [mean, d.std()],
        "the losses are not compared in pairs. Take the differences first, then how much they vary.": [mean, apart],
        "that is the variance: its root is missing.": [mean, s * s / n],
        "n - 1 belongs under the sum only, where ddof=1 has put it; then divide by sqrt(n).": [mean, s / math.sqrt(n - 1)],
        "the mean comes first, then the error.": [s / math.sqrt(n), mean],
    }
    got = lesson.effect(base, changed)
    if isinstance(got, (int, float)):
        raise Wrong("effect returns one number instead of two: the mean, and its standard error.")
    text = f"effect of {n} losses: (mean difference, standard error)"
    same(text, got, [mean, s / math.sqrt(n)], rtol=1e-6, mistakes=mistakes)


def check_effect_of_nothing(lesson):
    """effect: nothing changed, and the same change everywhere"""
    losses = [0.7, 0.4, 0.6]
    same("effect(losses, losses)", lesson.effect(losses, losses), [0.0, 0.0])
    mean, error = lesson.effect(losses, [loss + 0.25 for loss in losses])
    same("the mean, when each loss is higher by 0.25", mean, 0.25)
    at_most("the standard error, when each loss is higher by 0.25", error, 1e-9, "All differences are equal, so it is 0.")


HINTS = {
    "differences": (
        "First collect the names: those of a, then those that only b has. For each, look the value up in both. Keep it where they differ.",
        "A name that is missing: a.get(name) gives None, where a[name] would fail. A dictionary in one line: {name: pair for name in names "
        "if ...}.",
        "names = list(a) + [name for name in b if ...]\n"
        "found = {}\n"
        "for name in names:\n"
        "    pair = (a.get(name), ...)\n"
        "    if ...:\n"
        "        found[name] = pair\n"
        "return found",
    ),
    "one_by_one": (
        "You have the names already: `differences` gives them. For each make a copy of base and set one value in it. Setting it in base "
        "itself would change the base of all that follow.",
        "{**base, name: value} is a new dictionary with all of base, and this one value replaced.",
        "names = differences(base, other)\nreturn {name: {**base, name: ...} for name in names}",
    ),
    "scale_model": (
        "The full layer has inputs * std^2 = full * std^2. Yours has here * s^2. Make them equal and solve for s.",
        "s^2 = std^2 * full / here, and then the root.",
        "return std * (... / ...) ** 0.5",
    ),
    "effect": (
        "Take the differences first, changed - base: one for each seed. The rest is about these few numbers: their mean, and how well it "
        "is known.",
        "s = differences.std(ddof=1) has the n - 1 of the formula. The standard error is s / sqrt(n).",
        "found = changed - base\nerror = found.std(ddof=...) / math.sqrt(...)\nreturn float(found.mean()), float(error)",
    ),
}

ONE = "{name: {**base, name: other[name]} for name in names}"
NAMES = "    names = list(a) + [name for name in b if name not in a]\n"
PAIR = "{name: (a.get(name), b.get(name)) for name in names}"
ERROR = "    error = found.std(ddof=1) / math.sqrt(len(found))\n"

MUTANTS = [
    Mutant("only a's names", NAMES, "    names = list(a)\n", "go through the names of both"),
    Mutant("only common names", NAMES, "    names = [name for name in a if name in b]\n", "It is only in the first one"),
    Mutant(
        "all pairs",
        "    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}\n",
        "    return pairs\n",
        "same value in both",
    ),
    Mutant("b first", PAIR, "{name: (b.get(name), a.get(name)) for name in names}", "the first one's value comes first"),
    Mutant("names of b first", NAMES, "    names = list(b) + [name for name in a if name not in b]\n", "first those of a"),
    Mutant(
        "they pile up",
        "    return " + ONE,
        "    found = {}\n    for name in names:\n        base = found[name] = {**base, name: other[name]}\n    return found",
        "pile up",
    ),
    Mutant(
        "base itself is changed",
        "    return " + ONE,
        "    found = {}\n    for name in names:\n        base[name] = other[name]\n        found[name] = base\n    return found",
        "has changed its base",
    ),
    Mutant("base and other exchanged", ONE, "{name: {**other, name: base[name]} for name in names}", "have changed places"),
    Mutant("also what is the same", "names = differences(base, other)", "names = list(base)", "nothing is changed in it"),
    Mutant("smaller instead of larger", "(full / here) ** 0.5", "(here / full) ** 0.5", "fewer inputs need larger weights"),
    Mutant("no root", "std * (full / here) ** 0.5", "std * full / here", "the root is missing"),
    Mutant("the sign", "found = changed - base", "found = base - changed", "sign is turned round"),
    Mutant("of a single difference", ERROR, "    error = found.std(ddof=1)\n", "divide by sqrt"),
    Mutant("n instead of n - 1", ERROR, "    error = found.std() / math.sqrt(len(found))\n", "unless it is told ddof=1"),
    Mutant(
        "not in pairs",
        ERROR,
        "    error = math.sqrt((base.var(ddof=1) + changed.var(ddof=1)) / len(base))\n",
        "not compared in pairs",
    ),
]
