"""Lesson 20: the loop, the floor of a softmax too many, two measurements, and the diagnosis."""

import math

import numpy as np

import minidl.functional as F
from lessons.checking import Mutant, Wrong, at_most, is_a, same
from minidl import Tensor, nn, optim
from minidl.backend import to_device

RATE = 0.5


def _classifier():
    """One matrix (4, 3) without biases, six inputs, six labels."""
    rng = np.random.default_rng(11)
    model = nn.Linear(4, 3, bias=False)
    model.weight.data = rng.standard_normal((4, 3)).astype(np.float32)
    return model, rng.standard_normal((6, 4)).astype(np.float32), np.array([0, 2, 1, 1, 0, 2])


def _loss_and_gradient(weight, x, labels):
    logits = x @ weight
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(x)), labels]).mean()
    return loss, x.T @ (p - np.eye(3)[labels]) / len(x)


def _trace(steps, mistake=""):
    """The losses of plain steps of softmax regression, done right or with a mistake."""
    model, x, labels = _classifier()
    weight, collected, losses = model.weight.numpy().astype(float), 0.0, []
    for _ in range(steps):
        loss, gradient = _loss_and_gradient(weight, x, labels)
        losses.append(loss)
        if mistake == "no zero":
            collected = collected + gradient
            gradient = collected
        elif mistake == "step first":  # what the step before has left
            gradient, collected = collected, gradient
        if mistake != "no step":
            weight = weight - RATE * gradient
        if mistake == "after":
            losses[-1] = _loss_and_gradient(weight, x, labels)[0]
    return losses


def check_losses(lesson, device):
    """overfit: the losses of five steps"""
    model, x, labels = _classifier()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    losses = lesson.overfit(model, to_device(x, device), labels, optimizer, 5)
    is_a("overfit(...)", losses, list)
    if len(losses) != 5:
        raise Wrong(f"overfit with steps=5: {len(losses)} losses instead of 5. Is the loss noted at every step?")
    if isinstance(losses[0], Tensor):
        raise Wrong("overfit notes Tensors, and each holds on to the whole computation behind it. Note the number: loss.item().")
    is_a("the loss that overfit notes", losses[0], float)
    mistakes = {
        "the gradients of earlier steps are still in it: optimizer.zero_grad() before backward.": _trace(5, "no zero"),
        "nothing moves. Is the step there, and `zero_grad` before `backward`, not between it and the step?": _trace(5, "no step"),
        "the step comes before backward, so it uses the gradient of the step before.": _trace(5, "step first"),
        "that is the loss after each step; note the one before it.": _trace(5, "after"),
        "that is the sum over the images; cross_entropy gives the mean.": [6 * loss for loss in _trace(5)],
    }
    same("the losses of five steps", losses, _trace(5), 1e-4, mistakes=mistakes)


def check_goal(lesson, device):
    """overfit: ends when the goal is reached"""
    model, x, labels = _classifier()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    goal = _trace(20)[9] + 1e-4
    losses = lesson.overfit(model, to_device(x, device), labels, optimizer, 20, goal)
    same(f"the number of steps until the loss is below {goal:.3f}", len(losses), 10)


def check_from_guessing_to_nothing(lesson, device):
    """overfit: from ln(classes) to near 0"""
    model = nn.Linear(8, 3, bias=False)
    model.weight.data = np.zeros((8, 3))
    x = np.random.default_rng(12).standard_normal((6, 8)).astype(np.float32)  # six inputs of eight numbers can all be told apart
    optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    losses = lesson.overfit(model, to_device(x, device), np.array([0, 2, 1, 1, 0, 2]), optimizer, 200)
    same("the first loss of a model that knows nothing of 3 classes", losses[0], math.log(3), rtol=1e-5)
    at_most(
        "the last loss", losses[-1], 0.01, "The model can learn these six by heart; something in the step keeps it from that."
    )


def check_left_gradients(lesson):
    """overfit: what was in the gradients before does not count"""
    model, x, labels = _classifier()
    F.cross_entropy(model(Tensor(x)), 2 - labels).backward()
    losses = lesson.overfit(model, x, labels, optim.SGD(model.parameters(), lr=RATE), 3)
    if abs(losses[1] - _trace(2)[1]) > 1e-3:
        raise Wrong(
            "A gradient left over from something else counts in the first step.\n"
            "Likely cause: `zero_grad` stands at the end of the step instead of before `backward`."
        )


def check_floor(lesson):
    """softmax_floor: for 10, 2 and 1,000 classes"""
    for k in (10, 2, 1000):
        mistakes = {
            "that is ln(classes), what a network knows that knows nothing.": math.log(k),
            "there are K - 1 other classes, not K.": math.log(1 + k / math.e),
            "e^0 is 1 for each of the other classes, and there are K - 1 of them; is their number missing?": math.log(
                1 + 1 / math.e
            ),
            "that is the probability; the loss is minus its logarithm.": math.e / (math.e + k - 1),
            "the sign: the loss is minus the logarithm.": -math.log(1 + (k - 1) / math.e),
            "that is the logarithm to base 10; the loss has the natural one, np.log.": math.log10(1 + (k - 1) / math.e),
            "that is the logarithm of e + K - 1; the 1 from the top of the fraction is missing.": math.log(math.e + k - 1),
            "it counts the other classes with e^-1; a probability of 0 gives e^0 = 1.": math.log(1 + (k - 1) / math.e**2),
        }
        same(f"softmax_floor({k})", lesson.softmax_floor(k), math.log(1 + (k - 1) / math.e), mistakes=mistakes)


def check_floor_is_reached(lesson):
    """softmax_floor: is what cross_entropy says"""
    logits = np.eye(5, dtype=np.float32)
    loss = F.cross_entropy(Tensor(logits), np.arange(5)).item()
    same("softmax_floor(5), against cross_entropy of 1, 0, 0, 0, 0", lesson.softmax_floor(5), loss, 1e-5)


class _Run:
    """A run of the classifier; with zero=False the gradient is never put to zero. `steps` counts."""

    def __init__(self, zero=True, rate=RATE, other_batches=False):
        self.model, self.x, self.labels = _classifier()
        self.optimizer = optim.SGD(self.model.parameters(), lr=rate)
        self.zero, self.other_batches, self.steps = zero, other_batches, 0

    def step(self):
        if self.zero:
            self.optimizer.zero_grad()
        x = self.x * (1 + 0.25 * self.steps) if self.other_batches else self.x
        loss = F.cross_entropy(self.model(Tensor(x)), self.labels)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return loss.item()


def check_growth(lesson):
    """gradient_growth: 1 when it starts from zero, 2 when it does not"""
    for zero, want in ((True, 1.0), (False, 2.0)):
        run = _Run(zero)
        got = lesson.gradient_growth(run)
        if run.steps != 2:
            raise Wrong(f"gradient_growth made {run.steps} steps instead of two: one before each measurement.")
        size = lesson.gradient_size(_stepped(zero, 2).model)
        mistakes = {
            "that is the size after the second step; divide by that after the first.": size,
            "it is upside down: second / first.": 0.5 if want == 2 else np.nan,
            "both were measured at the same moment: step, measure, step, measure.": 1.0 if want == 2 else np.nan,
            "that is the difference; how many *times* as large is it?": size - lesson.gradient_size(_stepped(zero, 1).model),
        }
        how = "is put to zero" if zero else "is never put to zero"
        same(f"gradient_growth of a run whose gradient {how}", got, want, 1e-4, mistakes=mistakes)


def _stepped(zero, steps, other_batches=False):
    run = _Run(zero, 0.0, other_batches)
    for _ in range(steps):
        run.step()
    return run


def check_growth_order(lesson):
    """gradient_growth: second / first, when the second batch is another one"""
    first, second = (lesson.gradient_size(_stepped(True, n, True).model) for n in (1, 2))
    mistakes = {"it is upside down: second / first.": first / second, "both were measured at the same moment.": 1.0}
    same(
        "gradient_growth when the second batch is another",
        lesson.gradient_growth(_Run(True, RATE, True)),
        second / first,
        1e-4,
        mistakes=mistakes,
    )


def check_relative_step(lesson):
    """relative_step: size of the change / size of the weights"""
    run = _Run()
    before = run.model.weight.numpy().astype(float)
    _, gradient = _loss_and_gradient(before, run.x, run.labels)
    after = before - RATE * gradient

    def size(x):
        return math.sqrt((x * x).mean())

    change = after - before
    mistakes = {
        "that is the size of the change; divide by the size of the weights.": size(change),
        "nothing has changed: are both taken before the step, or both after it?": 0.0,
        "it is divided by the weights after the step.": size(change) / size(after),
        "that compares the sizes of the weights; take the size of their difference.": size(after) / size(before),
        "that is the difference of the sizes; take the size of the difference.": (size(after) - size(before)) / size(before),
        "that is the difference of the sizes; take the size of the difference, all_weights - all_weights.": abs(
            size(after) - size(before)
        )
        / size(before),
        "each change is divided by its own weight, and small weights count most; divide the two sizes.": size(change / before),
        "it is upside down.": size(before) / size(change),
    }
    got = lesson.relative_step(run)
    same("relative_step of one step", got, size(change) / size(before), 1e-4, mistakes=mistakes)
    if run.steps != 1:
        raise Wrong(f"relative_step made {run.steps} steps instead of one.")


SOUND = {
    "labels agree": True, "answers differ": False, "rows sum to 1": False, "gradient growth": 1.0, "first loss": 2.32,
    "relative step": 1e-3, "classes": 10,
}  # fmt: skip

CHARTS = [  # (name, what differs from the sound chart, why another answer is tempting)
    ("none", {}, ""),
    ("labels shuffled", {"labels agree": False, "gradient growth": 1.21}, ""),
    ("dropout left on", {"answers differ": True, "gradient growth": 0.98, "first loss": 2.36}, ""),
    ("softmax twice", {"rows sum to 1": True, "first loss": 2.3, "relative step": 1e-4}, ""),
    ("gradient not zeroed", {"gradient growth": 2.0}, ""),
    ("gradient not zeroed", {"gradient growth": 1.9999998}, "No number of this kind is 2 to the last digit: ask whether it is above 1.5."),
    ("images not scaled", {"first loss": 14.2}, ""),
    ("rate too large", {"relative step": 0.03}, ""),
    ("rate too small", {"relative step": 2e-6}, ""),
    (
        "images not scaled",
        {"first loss": 10.8, "relative step": 0.3},
        "The step is large because the images are: look at the first loss before the step.",
    ),
    (
        "softmax twice",
        {"rows sum to 1": True, "first loss": 2.3, "relative step": 8e-6},
        "The second softmax makes gradients small, and so the step: ask whether the answers sum to 1 before that.",
    ),
    (
        "labels shuffled",
        {"labels agree": False, "gradient growth": 1.6},
        "The second batch is another one, so the gradient may grow: ask for the labels first.",
    ),
    (
        "dropout left on",
        {"answers differ": True, "gradient growth": 1.55, "relative step": 0.02},
        "Each step sees another network, so gradient and step vary: ask for the answers before you ask for these.",
    ),
    ("none", {"first loss": 6.93, "classes": 1000}, "With 1,000 classes 6.93 is ln(classes): the border is twice ln(chart['classes'])."),
    (
        "none",
        {"first loss": 3.1},
        "3.1 is more than ln(10), but not twice as much: with He's weights in the last layer too, such a start is common.",
    ),
    (
        "images not scaled",
        {"first loss": 2.64, "classes": 3, "relative step": 0.2},
        "With 3 classes ln(classes) is 1.10, and 2.64 is more than twice that.",
    ),
    ("rate too large", {"relative step": math.inf}, "An infinite step is larger than 1/100."),
]  # fmt: skip


def check_diagnosis(lesson):
    """name_fault: a sound chart, and seven with one thing wrong"""
    for name, changes, why in CHARTS[:9]:
        _diagnose(lesson, name, changes, why)


def check_diagnosis_order(lesson):
    """name_fault: charts on which two things look wrong, and other numbers of classes"""
    for name, changes, why in CHARTS[9:]:
        _diagnose(lesson, name, changes, why)


def _diagnose(lesson, name, changes, why):
    got = lesson.name_fault(SOUND | changes)
    shown = ", ".join(f"{key}: {value}" for key, value in changes.items()) or "nothing unusual"
    is_a(f"name_fault of a chart with {shown}", got, str)
    if got not in lesson.FAULTS:
        raise Wrong(f'name_fault gives "{got}", which is not among FAULTS: {", ".join(lesson.FAULTS)}.')
    if got != name:
        raise Wrong(f'A chart with {shown}: name_fault says "{got}", but it is "{name}".\n{why}'.rstrip())


HINTS = {
    "overfit": (
        "It is the step of lesson 3, with an optimiser that does the zero and the step. The loss is computed anew each time.",
        "zero_grad; loss = cross_entropy(model(x), labels); backward; step; then note loss.item().",
        "        optimizer.zero_grad()\n"
        "        loss = F.cross_entropy(..., labels)\n"
        "        loss.backward()\n"
        "        optimizer....()\n"
        "        losses.append(loss....())",
    ),
    "softmax_floor": (
        "Softmax of the numbers 1, 0, 0, ..., 0: what is the probability of the first? And the loss of that?",
        "p = e / (e + K - 1), loss = -ln(p) = ln(1 + (K - 1) / e).",
        "    return float(np.log(1 + (classes - 1) / ...))",
    ),
    "gradient_growth": (
        "run.step() leaves the gradients in the parameters. gradient_size(run.model) says how large they are.",
        "(size after the second step) / (size after the first)",
        "    run.step()\n    first = gradient_size(run.model)\n    ...\n    return gradient_size(run.model) / first",
    ),
    "relative_step": (
        "all_weights gives a copy of the weights as they are now. You need them twice, with a step between.",
        "size(after - before) / size(before)",
        "    before = all_weights(run.model)\n    run.step()\n    after = ...\n    return size(...) / size(...)",
    ),
    "name_fault": (
        "Seven times `if ...: return ...`, in the order of the list. The first that fits ends the function.",
        'Questions 1 to 3 are true or false; then growth > 1.5; first loss > 2 ln(chart["classes"]); step > 1e-2; step < 1e-5.',
        '    if not chart["labels agree"]:\n'
        '        return "labels shuffled"\n'
        '    if chart["answers differ"]:\n'
        '        return "dropout left on"\n'
        "    ...\n"
        '    return "none"',
    ),
}

_STEP = """\
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
"""
_FLOOR = "return float(np.log(1 + (classes - 1) / np.e))"
_GROWTH = """\
    run.step()
    first = gradient_size(run.model)
    run.step()
    return gradient_size(run.model) / first
"""
_MOVED = "return size(after - before) / size(before)"
_UNSCALED = """\
    if chart["first loss"] > 2 * np.log(chart["classes"]):
        return "images not scaled"
"""
_LARGE = """\
    if chart["relative step"] > 1e-2:
        return "rate too large"
"""
_SMALL = """\
    if chart["relative step"] < 1e-5:
        return "rate too small"
"""
_SOFTMAX = """\
    if chart["rows sum to 1"]:
        return "softmax twice"
"""
_GREW = """\
    if chart["gradient growth"] > 1.5:
        return "gradient not zeroed"
"""

MUTANTS = [
    Mutant(
        "zero forgotten",
        _STEP,
        _STEP.replace("        optimizer.zero_grad()\n", ""),
        "gradients of earlier steps are still in it",
    ),
    Mutant(
        "zero after backward",
        _STEP,
        _STEP.replace("        optimizer.zero_grad()\n", "").replace(
            "        optimizer.step()", "        optimizer.zero_grad()\n        optimizer.step()"
        ),
        "nothing moves",
    ),
    Mutant(
        "zero at the end",
        _STEP,
        _STEP.replace("        optimizer.zero_grad()\n", "") + "        optimizer.zero_grad()\n",
        "at the end of the step instead of before",
    ),
    Mutant(
        "Tensors kept",
        "losses.append(loss.item())\n        ### END",
        "losses.append(loss)\n        ### END",
        "holds on to the whole",
    ),
    Mutant(
        "loss after the step",
        "losses.append(loss.item())\n        ### END",
        "losses.append(F.cross_entropy(model(x), labels).item())\n        ### END",
        "the loss after each step",
    ),
    Mutant("K for K - 1", _FLOOR, "return float(np.log(1 + classes / np.e))", "not K"),
    Mutant("no logarithm", _FLOOR, "return float(np.e / (np.e + classes - 1))", "that is the probability"),
    Mutant("top forgotten", _FLOOR, "return float(np.log(np.e + classes - 1))", "the top of the fraction"),
    Mutant("not divided", _GROWTH, _GROWTH.replace(" / first", ""), "divide by that after the first"),
    Mutant(
        "upside down",
        _GROWTH,
        _GROWTH.replace("gradient_size(run.model) / first", "first / gradient_size(run.model)"),
        "upside down",
    ),
    Mutant("one step", _GROWTH, "    run.step()\n" + _GROWTH.replace("    run.step()\n", ""), "made 1 steps"),
    Mutant("change alone", _MOVED, "return size(after - before)", "divide by the size of the weights"),
    Mutant("sizes compared", _MOVED, "return size(after) / size(before)", "the size of their difference"),
    Mutant("weight by weight", _MOVED, "return size((after - before) / before)", "small weights count most"),
    Mutant(
        "both before",
        "    run.step()\n    after = all_weights(run.model)\n",
        "    after = all_weights(run.model)\n    run.step()\n",
        "nothing has changed",
    ),
    Mutant("step before loss", _UNSCALED + _LARGE, _LARGE + _UNSCALED, "because the images are"),
    Mutant(
        "step before softmax",
        _SOFTMAX + _GREW + _UNSCALED + _LARGE + _SMALL,
        _SMALL + _SOFTMAX + _GREW + _UNSCALED + _LARGE,
        "makes gradients small",
    ),
    Mutant("exactly two", '"gradient growth"] > 1.5', '"gradient growth"] >= 2', "above 1.5"),
    Mutant("ten classes always", '2 * np.log(chart["classes"])', "2 * np.log(10)", "6.93 is ln"),
    Mutant("any more is too much", '> 2 * np.log(chart["classes"])', '> 1.1 * np.log(chart["classes"])', "not twice as much"),
]
