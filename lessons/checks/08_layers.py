"""Lesson 8: the perceptron's rule, parameters that are found by themselves, a layer, the optimiser, and a spiral that is learned."""

import gc
import weakref

import numpy as np

from lessons.checking import Mutant, Wrong, at_most, is_a, same
from minidl import Tensor
from minidl.backend import to_device

LABELS = {"or": [0, 1, 1, 1], "and": [0, 0, 0, 1]}


def _step(lesson, w, b, x, target):
    """The new weights and bias as one array."""
    result = lesson.perceptron_step(np.array(w), b, np.array(x), target)
    if result is None:
        raise Wrong("perceptron_step: nothing (None) instead of the new weights and the new bias. Is a `return` missing?")
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Wrong("perceptron_step: it should return two things, the new weights and the new bias: `return w, b`.")
    for name, part, shape in (("weights", result[0], (2,)), ("bias", result[1], ())):
        if np.shape(part) != shape:
            raise Wrong(f"perceptron_step: the new {name} have shape {np.shape(part)} instead of {shape}.")
    return np.array([*result[0], result[1]], float)


def check_too_small(lesson):
    """perceptron_step: it said 0, and 1 is right"""
    got = _step(lesson, [0.5, -2.0], 0.25, [1.0, 3.0], 1)
    mistakes = {
        "the bias does not learn; it goes along like a weight whose input is always 1.": [1.5, 1.0, 0.25],
        "the sign is turned round: the sum was too small and has become smaller.": [-0.5, -5.0, -0.75],
        "all weights change alike; each changes by its own input.": [1.5, -1.0, 1.25],
        "nothing has changed, though the answer was wrong.": [0.5, -2.0, 0.25],
        "the old weights are lost: the change must be added to them.": [1.0, 3.0, 1.0],
        "the bias changes by the sum of the inputs, and should change by 1.": [1.5, 1.0, 4.25],
        "the answer is 0 or 1; here the sum is used in its place. Ask `perceptron`.": [6.75, 16.75, 6.5],
    }
    same("w1, w2, b after w = [0.5, -2], b = 0.25 saw x = [1, 3] with target 1", got, [1.5, 1.0, 1.25], mistakes=mistakes)


def check_too_large(lesson):
    """perceptron_step: it said 1, and 0 is right"""
    got = _step(lesson, [0.5, 2.0], 0.25, [1.0, 3.0], 0)
    mistakes = {
        "nothing has changed, though the answer was wrong. When 0 is right and it said 1, the inputs are subtracted.": [
            0.5,
            2,
            0.25,
        ],
        "it has been added; the sum was too large already.": [1.5, 5.0, 1.25],
    }
    same("w1, w2, b after w = [0.5, 2], b = 0.25 saw x = [1, 3] with target 0", got, [-0.5, -1.0, -0.75], mistakes=mistakes)


def check_right(lesson):
    """perceptron_step: it was right"""
    mistakes = {
        "it was right, and changed all the same; use the difference between target and answer.": [1.5, 5.0, 1.25],
        "it was right, and changed all the same: the sum itself is used in place of the answer, 1.": [-6.25, -18.25, -6.5],
    }
    for w, target in (([0.5, 2.0], 1), ([-0.5, -2.0], 0)):
        what = f"w1, w2, b after w = {w}, b = 0.25 saw x = [1, 3] with target {target}"
        same(what, _step(lesson, w, 0.25, [1.0, 3.0], target), [*w, 0.25], mistakes=mistakes)
    w = np.array([0.5, -2.0])
    lesson.perceptron_step(w, 0.25, np.array([1.0, 3.0]), 1)
    if w.tolist() != [0.5, -2.0]:
        raise Wrong(
            f"perceptron_step has changed the array that it was given: [0.5, -2] became {w.tolist()}.\n"
            "Likely cause: `w += ...` writes into the array; `w = w + ...` makes a new one."
        )


def check_perceptron_learns(lesson):
    """perceptron_step: it learns or, and and"""
    for name, targets in LABELS.items():
        w, b = np.zeros(2), 0.0
        for _ in range(30):
            for case, target in zip(lesson.CASES, targets, strict=True):
                w, b = lesson.perceptron_step(w, b, np.array(case), target)
        same(f"the answers to {name} after 30 passes", [lesson.perceptron(w, b, np.array(c)) for c in lesson.CASES], targets)


def _found(lesson, module, known):
    """The names of the parameters found, as they are called in `known`; each must be there once."""
    try:
        found = module.parameters()
    except ValueError as error:
        if "neither true nor false" not in str(error):
            raise
        raise Wrong(
            "parameters(): Tensors are compared with ==, element by element, and that is neither true nor false.\n"
            "Likely cause: `in` looks through a list, or through values, with ==. Use the keys of `found`, `id(parameter)`."
        ) from error
    is_a("parameters()", found, list)
    strange = [p for p in found if not any(p is q for q in known.values())]
    if strange:
        kind = type(strange[0]).__name__
        if kind == "Tensor":
            raise Wrong("parameters(): there is a plain Tensor in it. Only Parameters are to be changed by training.")
        if isinstance(strange[0], lesson.Module):
            raise Wrong(f"parameters(): there is a Module in it, {kind}, where its parameters should be.")
        raise Wrong(f"parameters(): there is something in it that does not belong there, of type {kind}.")
    for name, parameter in known.items():
        times = sum(p is parameter for p in found)
        if times > 1:
            raise Wrong(f"parameters(): {name} comes {times} times, so it would be changed {times} times in a step.")
    return [name for name, parameter in known.items() if any(p is parameter for p in found)]


def check_parameters(lesson):
    """Module.parameters: its own"""
    module = lesson.Module()
    module.weight, module.bias = lesson.Parameter([[1.0, 2.0]]), lesson.Parameter([3.0])
    module.name, module.size, module.mean = "a layer", 2, Tensor([0.5])
    found = _found(lesson, module, {"weight": module.weight, "bias": module.bias})
    if len(found) < 2:
        shown = " and ".join(found) or "nothing"
        raise Wrong(f"parameters() of a Module with a Parameter `weight` and a Parameter `bias`: found {shown}.")


def check_parameters_deep(lesson):
    """Module.parameters: of Modules in it, in lists, and deeper"""
    outer, inner, first, second = (lesson.Module() for _ in range(4))
    known = {}
    for name, module in (("outer.p", outer), ("inner.p", inner), ("layers[0].p", first), ("layers[1].p", second)):
        module.p = known[name] = lesson.Parameter([float(len(known))])
    outer.inner, inner.layers = inner, [first, second]
    missing = [name for name in known if name not in _found(lesson, outer, known)]
    if missing:
        raise Wrong(
            f"parameters() of outer, with outer.inner and inner.layers = [a, b]: {', '.join(missing)} not found.\n"
            "Likely cause: Modules inside are passed over. The parameters of such a Module are what its own parameters() says."
        )


def check_parameters_shared(lesson):
    """Module.parameters: a shared one comes once"""
    outer, first, second = lesson.Module(), lesson.Module(), lesson.Module()
    first.weight = second.weight = lesson.Parameter([[1.0, 2.0], [3.0, 4.0]])
    first.bias, second.bias = lesson.Parameter([1.0, 2.0]), lesson.Parameter([1.0, 2.0])
    outer.layers, outer.best = [first, second], first
    known = {"the shared weight": first.weight, "the first bias": first.bias, "the second bias": second.bias}
    found = _found(lesson, outer, known)
    missing = [name for name in known if name not in found]
    if missing:
        raise Wrong(
            f"parameters() of two layers that share a weight: {' and '.join(missing)} not found.\n"
            "Likely cause: different parameters with equal values are taken for one. Tell them apart by `id(...)`."
        )


def check_linear(lesson, device):
    """Linear.forward: three cases, two inputs, four neurons"""
    rng = np.random.default_rng(0)
    layer = lesson.Linear(2, 4, rng)
    bias = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
    layer.bias.data = bias
    x = rng.standard_normal((3, 2)).astype(np.float32)
    y = layer(Tensor(x))
    is_a("Linear(2, 4)(x)", y, Tensor)
    weight = layer.weight.numpy()
    mistakes = {
        "the bias is missing.": x @ weight,
        "the bias is subtracted.": x @ weight - bias,
        "the bias is multiplied.": x @ weight * bias,
    }
    same("Linear(2, 4)(x) for x of shape (3, 2)", y, x @ weight + bias, rtol=1e-5, atol=1e-6, mistakes=mistakes)
    if y.requires_grad:
        (y * y).sum().backward()
    if layer.weight.grad is None or layer.bias.grad is None:
        raise Wrong("Linear(2, 4)(x): no gradient arrives at weight or bias. Compute with the Tensors, not with their `.data`.")
    if not y.device.startswith(device):
        raise Wrong(f"Linear(2, 4)(x) for x on the {device}: the result is on {y.device}.")


def check_sgd(lesson, device):
    """SGD.step: one step of two parameters"""
    w, b = lesson.Parameter([[1.0, -2.0], [0.5, 4.0]]), lesson.Parameter([3.0])
    optimizer = lesson.SGD([w, b], lr=0.1)
    (w * w).sum().backward()
    (b * 5.0).sum().backward()
    slope = 2 * w.numpy()
    before, array = w.numpy(), w.data
    writes = "Likely cause: `-=` writes into this array. Assign a new value: `p.data = p.data - ...`."
    try:
        optimizer.step()
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise Wrong(f"SGD.step: the array in `p.data` is read-only, so that nothing changes it unnoticed.\n{writes}") from error
    if not np.array_equal(to_device(array, "cpu"), before):  # arrays of CuPy's cannot be made read-only
        raise Wrong(f"SGD.step has changed the array in `p.data`, which others may still need.\n{writes}")
    mistakes = {
        "it goes uphill: the slope says where the loss rises, so subtract.": before + 0.1 * slope,
        "the rate is missing.": before - slope,
        "nothing has moved: a new value is assigned to `p.data`.": before,
        "the step is the new value; it must be subtracted from the old one.": 0.1 * slope,
    }
    same("w after one step with rate 0.1", w, before - 0.1 * slope, rtol=1e-5, mistakes=mistakes)
    same("b = 3 with slope 5, after one step with rate 0.1", b, [2.5], rtol=1e-5)
    if optimizer.params[0] is not w or w.grad_fn is not None:
        raise Wrong("SGD.step: the parameter was replaced by a new Tensor. It must stay the same object and get new `.data`.")


def check_sgd_none(lesson):
    """SGD.step: a parameter without a gradient stays"""
    w, other = lesson.Parameter([1.0, 2.0]), lesson.Parameter([5.0])
    optimizer = lesson.SGD([other, w], lr=0.1)
    w.sum().backward()
    try:
        optimizer.step()
    except (AttributeError, TypeError) as error:
        raise Wrong(
            f"SGD.step, where one parameter has collected no gradient: {error}.\n"
            "Likely cause: its `grad` is None, and a parameter without one must be left out."
        ) from error
    same("a parameter without a gradient, after a step", other, [5.0])
    same("the parameter after it in the list, w = [1, 2] with slopes 1", w, [0.9, 1.9], rtol=1e-5)


def check_sgd_rate(lesson):
    """SGD.step: the rate may be changed on the way"""
    w = lesson.Parameter([1.0])
    optimizer = lesson.SGD([w], lr=0.1)
    w.sum().backward()
    optimizer.step()
    optimizer.lr = 0.01
    optimizer.step()
    mistakes = {"the rate of the beginning is still used; read `self.lr` at each step.": [0.8]}
    same("w = 1 with slope 1 after a step with rate 0.1 and one with 0.01", w, [0.89], rtol=1e-5, mistakes=mistakes)


def _quadratic(lesson):
    """A model with one parameter w, 1 input; its answers are w x."""
    model = lesson.Module()
    model.w = lesson.Parameter([[2.0]])
    model.forward = lambda x: x @ model.w
    return model, Tensor([[1.0], [2.0]]), Tensor([[1.0], [1.0]])


def check_train(lesson):
    """train: two steps, followed by hand"""
    # The loss is ((w - 1)^2 + (2 w - 1)^2) / 2, its slope 5 w - 3.
    w, ws, losses = 2.0, [], []
    for _ in range(3):
        ws.append(w)
        losses.append(((w - 1) ** 2 + (2 * w - 1) ** 2) / 2)
        w -= 0.1 * (5 * w - 3)
    model, x, targets = _quadratic(lesson)
    got = lesson.train(model, x, targets, lr=0.1, steps=2)
    forgotten = ws[1] - 0.1 * ((5 * ws[0] - 3) + (5 * ws[1] - 3))
    mistakes = {
        "the gradients of the first step are still in it: zero_grad is missing, or comes too late.": [[forgotten]],
        "nothing has moved. Is zero_grad called between `backward` and `step`, or `step` not at all?": [[2.0]],
        "only one step is made.": [[ws[1]]],
    }
    same("w = 2 after two steps", model.w, [[ws[2]]], rtol=1e-5, mistakes=mistakes)
    is_a("train(...)", got, list)
    if not got:
        raise Wrong("train(...) returns an empty list: append the loss of each step to `losses`.")
    if got and isinstance(got[0], Tensor):
        raise Wrong(
            "train returns a list of Tensors. Each holds on to the computation that it came from: note `loss.item()`, a plain number."
        )
    mistakes = {"those are the losses after the steps; note each loss as it is before its step.": losses[1:]}
    same("the losses of two steps", got, losses[:2], rtol=1e-5, mistakes=mistakes)


def check_train_lets_go(lesson):
    """train: nothing of the computation stays"""
    model, x, targets = _quadratic(lesson)
    kept = []

    def forward(x):
        answers = x @ model.w
        kept.append(weakref.ref(answers))
        return answers

    model.forward = forward
    losses = lesson.train(model, x, targets, lr=0.01, steps=5)
    gc.collect()
    alive = sum(reference() is not None for reference in kept)
    if alive > 1:
        raise Wrong(
            f"After 5 steps the answers of {alive} steps are still in memory. Does the list hold more than plain numbers?"
        )
    same("the number of losses of 5 steps", len(losses), 5)


def check_spiral(lesson, device):
    """train: the spiral is learned"""
    places, arms = lesson.spiral(40, np.random.default_rng(3), turns=1.0)
    network = lesson.Network([2, 16, 16, 1], np.random.default_rng(0))
    losses = lesson.train(network, Tensor(places), Tensor(arms), lr=0.3, steps=300)
    if not np.isfinite(losses).all():
        raise Wrong("The loss on the spiral is no number any more: it grew without end. Does each step go downhill?")
    at_most(
        "the loss on the spiral after 300 steps", losses[-1], 0.1, "It begins at about 1; the worked version ends below 0.02."
    )
    right = float((np.sign(network(Tensor(places)).numpy()) == arms).mean())
    at_most("the share of points that get the wrong arm", 1 - right, 0.03, "The loss falls, but the answers are wrong.")


HINTS = {
    "perceptron_step": (
        "target - answer is 1, 0 or -1: what the sum lacked, nothing, or what it had too much. That is how much of x is added.",
        "error = target - answer; w <- w + error * x; b <- b + error * 1.",
        "    error = target - perceptron(w, b, x)\n    return w + ..., b + ...",
    ),
    "Module.parameters": (
        "There are two kinds of items that contribute: a Parameter contributes itself, a Module what its own `parameters()` returns. "
        "All else (names, numbers, plain Tensors) contributes nothing.",
        "found[id(p)] = p for each p. `isinstance(item, Parameter)` tells whether an item is one.",
        "            if isinstance(item, Parameter):\n"
        "                found[id(item)] = item\n"
        "            elif isinstance(item, Module):\n"
        "                for parameter in ...:\n"
        "                    found[...] = ...",
    ),
    "Linear.forward": (
        "It is one matrix product, and the bias is added to each row of it by broadcasting.",
        "(cases, inputs) @ (inputs, neurons) + (neurons,) = (cases, neurons)",
        "        return x @ self.... + self....",
    ),
    "SGD.step": (
        "A new value is computed from the array and that of the gradient, and assigned to p.data. One without a gradient is left out.",
        "p <- p - lr * (slope of p), for each p whose grad is not None.",
        "            if p.grad is not None:\n                p.data = p.data - ... * p.grad.data",
    ),
    "train": (
        "They are the four parts of a step in lesson 3, with a model, an optimiser and Tensors in the place of knobs.",
        "loss of model(x) and targets; gradients to nothing; backward; step. Into the list goes the number loss.item().",
        "        loss = squared_error(..., targets)\n"
        "        optimizer.zero_grad()\n"
        "        loss....\n"
        "        optimizer....\n"
        "        losses.append(...)",
    ),
}

RULE = "return w + error * x, b + error"
FIND = """\
            if isinstance(item, Parameter):
                found[id(item)] = item
            elif isinstance(item, Module):
                for parameter in item.parameters():
                    found[id(parameter)] = parameter
"""
STEP = "                p.data = p.data - self.lr * p.grad.data\n"
PARTS = """\
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        ### END"""

MUTANTS = [
    Mutant("the bias does not learn", RULE, "return w + error * x, b", "the bias does not learn"),
    Mutant("the sign", "error = target - perceptron(w, b, x)", "error = perceptron(w, b, x) - target", "has become smaller"),
    Mutant("the sum", "target - perceptron(w, b, x)", "target - (w @ x + b)", "the sum is used in its place"),
    Mutant("inputs forgotten", RULE, "return w + error, b + error", "each changes by its own input"),
    Mutant(
        "only upwards",
        "error = target - perceptron(w, b, x)",
        "error = max(target - perceptron(w, b, x), 0)",
        "inputs are subtracted",
    ),
    Mutant(
        "always",
        "error = target - perceptron(w, b, x)",
        "error = 1 if target else -1",
        "it was right, and changed all the same",
    ),
    Mutant("in place", "    " + RULE, "    w += error * x\n    return w, b + error", "`w \\+= ...` writes into the array"),
    Mutant("Modules passed over", FIND, FIND[: FIND.index("            elif")], "Modules inside are passed over"),
    Mutant("the Module itself", "(item, Parameter)", "(item, (Parameter, Module))", "there is a Module in it"),
    Mutant("every Tensor", "(item, Parameter)", "(item, Tensor)", "there is a plain Tensor in it"),
    Mutant(
        "twice",
        FIND + "            ### END SOLUTION\n        return list(found.values())",
        FIND.replace("[id(item)]", "[len(found)]").replace("[id(parameter)]", "[len(found)]")
        + "            ### END SOLUTION\n        return list(found.values())",
        "comes . times",
    ),
    Mutant(
        "equal values",
        FIND,
        FIND.replace("[id(item)]", "[str(item.numpy())]").replace("[id(parameter)]", "[str(parameter.numpy())]"),
        "with equal values are taken for one",
    ),
    Mutant(
        "looked for by ==", FIND, FIND.replace("item, Parameter):", "item, Parameter) and item not in found.values():"), "with =="
    ),
    Mutant("no bias", "return x @ self.weight + self.bias", "return x @ self.weight", "the bias is missing"),
    Mutant(
        "only the numbers",
        "return x @ self.weight + self.bias",
        "return x @ self.weight.data + self.bias.data",
        "no gradient arrives",
    ),
    Mutant("uphill", STEP, STEP.replace("- self.lr", "+ self.lr"), "it goes uphill"),
    Mutant("in the array", STEP, STEP.replace("= p.data - self.lr", "-= self.lr"), "`-=` writes into this array"),
    Mutant("no rate", STEP, STEP.replace("self.lr * ", ""), "the rate is missing"),
    Mutant("a new name", STEP, STEP.replace("p.data = p.data", "p = p.data"), "nothing has moved: a new value is assigned"),
    Mutant("None", "            if p.grad is not None:\n" + STEP, STEP[4:], "its `grad` is None"),
    Mutant("zero forgotten", PARTS, PARTS.replace("        optimizer.zero_grad()\n", ""), "zero_grad is missing"),
    Mutant(
        "zero too late",
        PARTS,
        PARTS.replace("        optimizer.zero_grad()\n", "").replace(
            ".backward()\n", ".backward()\n        optimizer.zero_grad()\n"
        ),
        "nothing has moved. Is zero_grad called between",
    ),
    Mutant("not noted", PARTS, PARTS.replace("        losses.append(loss.item())\n", ""), "an empty list"),
    Mutant("Tensors kept", PARTS, PARTS.replace("loss.item()", "loss"), "list of Tensors"),
    Mutant(
        "the loss after the step",
        PARTS,
        PARTS.replace("loss.item()", "squared_error(model(x), targets).item()"),
        "those are the losses after the steps",
    ),
]
