"""Lesson 3: two backward passes, and the training step that puts the gradients to zero in the right place."""

import math

from lessons.checking import Mutant, Wrong, same

POINTS = [(-1.0, -1.5), (0.0, 1.0), (2.0, 4.0)]


def _loss(w, b, points=POINTS):
    """The sum of the squared distances of the line w x + b, of Scalars as of numbers."""
    total = 0.0
    for x, y in points:
        distance = w * x + b + -y
        total = distance * distance + total
    return total


def _slopes(w, b, points=POINTS):
    return sum(2 * (w * x + b - y) * x for x, y in points), sum(2 * (w * x + b - y) for x, y in points)


def check_one_pass(lesson):
    """backward: one pass, as in lesson 2"""
    x, y = lesson.Scalar(2.0), lesson.Scalar(3.0)
    lesson.backward(x * y + x)
    mistakes = {
        "the second way to x replaces the first; add to what is in `totals`.": 3.0,
        "the first way to x is kept alone.": 1.0,
    }
    same("x.grad after backward(x * y + x) with x = 2, y = 3", x.grad, 4.0, mistakes=mistakes)
    same("y.grad after backward(x * y + x) with x = 2, y = 3", y.grad, 2.0)


def check_two_passes(lesson):
    """backward: two passes give twice as much"""
    a, b = lesson.Scalar(2.0), lesson.Scalar(3.0)
    h = a * b
    lesson.backward(h)
    lesson.backward(h)
    mistakes = {
        "h passes on what was left over from the first pass. What is under way belongs into `totals`, not into `grad`.": 9.0,
        "the second pass replaces what the first one collected; a leaf adds to its `grad`.": 3.0,
    }
    same("a.grad after h = a * b; backward(h) twice", a.grad, 6.0, mistakes=mistakes)


def check_only_leaves(lesson):
    """backward: only leaves collect"""
    a, b = lesson.Scalar(2.0), lesson.Scalar(3.0)
    h = a * b
    lesson.backward(h * 5)
    same("a.grad after h = a * b; backward(h * 5)", a.grad, 15.0)
    if h.grad != 0:
        raise Wrong(f"h.grad is {h.grad:g} after h = a * b; backward(h * 5). h has inputs: it is no leaf, and its grad stays 0.")


def check_shared(lesson):
    """backward: two results that share a part"""
    a, b = lesson.Scalar(2.0), lesson.Scalar(3.0)
    h = a * b
    lesson.backward(h + a)
    lesson.backward(h * h)
    mistakes = {"the second result passes on what was left over in h from the first.": 43.0}
    same("a.grad after h = a * b; backward(h + a); backward(h * h)", a.grad, 40.0, mistakes=mistakes)


def check_a_leaf_alone(lesson):
    """backward: a result that is itself a leaf"""
    x = lesson.Scalar(7.0)
    lesson.backward(x)
    same("x.grad after backward(x)", x.grad, 1.0)


def check_backward_deep(lesson):
    """backward: x doubled 60 times, and a chain 10,000 deep"""
    x = end = lesson.Scalar(1.0)
    for _ in range(60):
        end = end + end
    lesson.backward(end)
    same("the slope of x doubled 60 times", x.grad, 2.0**60)
    x = end = lesson.Scalar(1.0)
    for _ in range(10_000):
        end = end + 0.5
    lesson.backward(end)
    same("the slope of a chain of 10,000 additions", x.grad, 1.0)


def check_one_step(lesson):
    """train_step: one step goes against the slope"""
    w, b = lesson.Scalar(0.5), lesson.Scalar(0.25)
    slope_w, slope_b = _slopes(0.5, 0.25)
    loss = lesson.train_step([w, b], lambda: _loss(w, b), 0.01)
    mistakes = {
        "it goes uphill: the slope says where the loss rises, so subtract.": [0.5 + 0.01 * slope_w, 0.25 + 0.01 * slope_b],
        "nothing has moved: is `grad` put to 0 after `backward`, or before the step?": [0.5, 0.25],
        "the step is not multiplied by the rate.": [0.5 - slope_w, 0.25 - slope_b],
    }
    want = [0.5 - 0.01 * slope_w, 0.25 - 0.01 * slope_b]
    same("w and b after one step", [w.value, b.value], want, mistakes=mistakes)
    if isinstance(loss, lesson.Scalar):
        raise Wrong("train_step returns a Scalar, which holds on to the whole computation; return the plain number, loss.value.")
    after = _loss(w.value, b.value)
    same("what train_step returns", loss, _loss(0.5, 0.25), mistakes={"that is the loss after the step, not before it.": after})


def check_zero_before_step(lesson):
    """train_step: what was collected before does not count"""
    w, b = lesson.Scalar(0.5), lesson.Scalar(0.25)
    first_w, first_b = _slopes(0.5, 0.25)
    w1, b1 = 0.5 - 0.01 * first_w, 0.25 - 0.01 * first_b
    second_w, second_b = _slopes(w1, b1)
    forgotten = "the slopes of the first step are still in it: put `grad` to 0."
    for _ in range(2):
        lesson.train_step([w, b], lambda: _loss(w, b), 0.01)
    mistakes = {forgotten: w1 - 0.01 * (first_w + second_w)}
    same("w after two steps", w.value, w1 - 0.01 * second_w, mistakes=mistakes)
    same("b after two steps", b.value, b1 - 0.01 * second_b)
    w.grad = 1e6
    lesson.train_step([w, b], lambda: _loss(w, b), 0.01)
    if abs(w.value) > 100:
        raise Wrong(
            "w.grad was 1,000,000, left over from something else, and train_step went along with it.\n"
            "Likely cause: `grad` is put to 0 at the end of the step instead of before `backward`."
        )


def check_training(lesson):
    """train_step: 200 steps find the best line"""
    w, b = lesson.Scalar(0.0), lesson.Scalar(0.0)
    losses = [lesson.train_step([w, b], lambda: _loss(w, b), 0.05) for _ in range(200)]
    if not math.isfinite(losses[-1]):
        raise Wrong("After 200 steps the loss is no number any more: it grew without end. Does each step go downhill?")
    same("w and b after 200 steps", [w.value, b.value], [25 / 14, 4 / 7], rtol=1e-3)


def check_pieces(lesson):
    """train_step_in_pieces: two pieces make the step of the whole"""
    w, b = lesson.Scalar(0.5), lesson.Scalar(0.25)
    w.grad = b.grad = 5.0
    pieces = [lambda: _loss(w, b, POINTS[:2]), lambda: _loss(w, b, POINTS[2:])]
    total = lesson.train_step_in_pieces([w, b], pieces, 0.01)

    def step(start, *slopes):
        return [place - 0.01 * sum(along) for place, along in zip(start, zip(*slopes, strict=True), strict=True)]

    start = (0.5, 0.25)
    first, last = _slopes(*start, POINTS[:2]), _slopes(*start, POINTS[2:])
    between = step(start, first)
    second = _slopes(*between, POINTS[2:])
    mistakes = {
        "only the last piece counts: `grad` is put to 0 before every piece instead of once.": step(start, last),
        "a step is made after every piece instead of one at the end.": step(between, second),
        "after each piece a step is made, with all slopes so far.": step(between, first, second),
        "`grad` is not put to 0 at the beginning: what was left in it counts too.": step(start, first, last, (5.0, 5.0)),
        "nothing has moved: is `grad` put to 0 after `backward`?": start,
    }
    same("w and b after a step in two pieces", [w.value, b.value], step(start, first, last), mistakes=mistakes)
    mistakes = {"that is the loss of the last piece alone.": _loss(0.5, 0.25, POINTS[2:])}
    same("what train_step_in_pieces returns", total, _loss(0.5, 0.25), mistakes=mistakes)


HINTS = {
    "backward": (
        "What is under way lives in `totals` and is gone when the function ends. `grad` is only for leaves, and only ever grows.",
        "For a leaf: grad grows by totals[node]. For every input s of any node: totals[s] grows by totals[node] * the local slope.",
        "        if not node.inputs:\n"
        "            node.grad += ...\n"
        "        for source, local in zip(node.inputs, node.slopes):\n"
        "            totals[source] = totals.get(source, 0.0) + ...",
    ),
    "train_step": (
        "The four parts stand in the lesson, in their order. The loss is computed anew at each step, since the knobs have moved.",
        "loss; grad <- 0; backward; value <- value - rate * grad. What is returned is the loss of the first line.",
        "    loss = compute_loss()\n"
        "    for knob in knobs:\n"
        "        ...\n"
        "    backward(...)\n"
        "    for knob in knobs:\n"
        "        knob.value -= ...\n"
        "    return loss.value",
    ),
    "train_step_in_pieces": (
        "All pieces have to be collected in the same `grad` before a single step is made.",
        "grad <- 0 once; for each piece: loss, backward; then value <- value - rate * grad once. The sum of the losses is returned.",
        "    (grad to 0)\n"
        "    total = 0.0\n"
        "    for compute_loss in compute_losses:\n"
        "        loss = ...\n"
        "        backward(loss)\n"
        "        total += ...\n"
        "    (the step)\n"
        "    return total",
    ),
}

COLLECT = """\
        if not node.inputs:
            node.grad += totals[node]
"""
ZERO_THEN_BACKWARD = """\
    for knob in knobs:
        knob.grad = 0.0
    backward(loss)
    for knob in knobs:
"""
PIECES = """\
    for knob in knobs:
        knob.grad = 0.0
    total = 0.0
    for compute_loss in compute_losses:
        loss = compute_loss()
        backward(loss)
        total += loss.value
    for knob in knobs:
        knob.value -= rate * knob.grad
"""

MUTANTS = [
    Mutant(
        "under way in grad",
        COLLECT
        + """\
        for source, local in zip(node.inputs, node.slopes):
            share = totals[node] * local
            totals[source] = totals.get(source, 0.0) + share
""",
        """\
        if node is result:
            node.grad += 1.0
        for source, local in zip(node.inputs, node.slopes):
            source.grad += node.grad * local
""",
        "h passes on what was left over",
    ),
    Mutant(
        "the second pass replaces",
        "node.grad += totals[node]",
        "node.grad = totals[node]",
        "replaces what the first one collected",
    ),
    Mutant("everyone collects", COLLECT, "        node.grad += totals[node]\n", "it is no leaf"),
    Mutant("ways replace each other", "totals.get(source, 0.0) + share", "share", "add to what is in `totals`"),
    Mutant(
        "zero forgotten",
        ZERO_THEN_BACKWARD,
        "    backward(loss)\n    for knob in knobs:\n",
        "slopes of the first step are still in it",
    ),
    Mutant(
        "zero too late",
        ZERO_THEN_BACKWARD,
        "    backward(loss)\n    for knob in knobs:\n        knob.grad = 0.0\n    for knob in knobs:\n",
        "put to 0 after `backward`",
    ),
    Mutant(
        "zero at the end",
        ZERO_THEN_BACKWARD + "        knob.value -= rate * knob.grad\n",
        "    backward(loss)\n    for knob in knobs:\n        knob.value -= rate * knob.grad\n        knob.grad = 0.0\n",
        "at the end of the step instead of before",
    ),
    Mutant(
        "uphill",
        ZERO_THEN_BACKWARD + "        knob.value -= rate * knob.grad",
        ZERO_THEN_BACKWARD + "        knob.value += rate * knob.grad",
        "it goes uphill",
    ),
    Mutant(
        "no rate",
        ZERO_THEN_BACKWARD + "        knob.value -= rate * knob.grad",
        ZERO_THEN_BACKWARD + "        knob.value -= knob.grad",
        "not multiplied by the rate",
    ),
    Mutant(
        "returns the Scalar", "return loss.value\n    ### END", "return loss\n    ### END", "holds on to the whole computation"
    ),
    Mutant(
        "zero before every piece",
        PIECES,
        """\
    total = 0.0
    for compute_loss in compute_losses:
        for knob in knobs:
            knob.grad = 0.0
        loss = compute_loss()
        backward(loss)
        total += loss.value
    for knob in knobs:
        knob.value -= rate * knob.grad
""",
        "only the last piece counts",
    ),
    Mutant(
        "a step for every piece",
        PIECES,
        """\
    total = 0.0
    for compute_loss in compute_losses:
        total += train_step(knobs, compute_loss, rate)
""",
        "after every piece instead of one at the end",
    ),
    Mutant("zero forgotten in pieces", PIECES, PIECES[PIECES.index("    total") :], "what was left in it counts too"),
    Mutant("the last loss", "total += loss.value", "total = loss.value", "the last piece alone"),
]
