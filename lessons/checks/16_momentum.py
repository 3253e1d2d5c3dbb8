"""Lesson 16: the paper's update and the other one, by hand; the optimiser that keeps a velocity for each parameter; who decays."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, backend, nn

# A step in which every mistake shows: no two terms are alike.
W, V, G, RATE, MOMENTUM, DECAY = 2.0, 0.5, 3.0, 0.1, 0.9, 0.3


def _paper(w, v, g, rate, momentum, decay):
    v = momentum * v - decay * rate * w - rate * g
    return w + v, v


def _outside(w, v, g, rate, momentum, decay):
    v = momentum * v + decay * w + g
    return w - rate * v, v


def _pair(what, got):
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong(f"{what} should return two things, the new w and the new v: return w, v")
    return got


def check_one_step(lesson):
    """paper_update: one step, v and then w"""
    what = "paper_update(w=2, v=0.5, g=3, rate=0.1, momentum=0.9, decay=0.3)"
    w, v = _pair(what, lesson.paper_update(W, V, G, RATE, MOMENTUM, DECAY))
    new_w, new_v = _paper(W, V, G, RATE, MOMENTUM, DECAY)
    kept, band, push = MOMENTUM * V, DECAY * RATE * W, RATE * G
    mistakes = {
        "0.0005 stands in the formula, whatever `decay` is.": kept - 0.0005 * RATE * W - push,
        "w and v are returned the other way round: first w, then v.": new_w,
        "the push goes uphill: the slope says where the loss rises.": kept - band + push,
        "the decay has the wrong sign: it draws w towards 0.": kept + band - push,
        "the decay is missing.": kept - push,
        "the decay is not multiplied by the rate.": kept - DECAY * W - push,
        "the decay takes hold of v; it should take hold of w.": kept - DECAY * RATE * V - push,
        "the momentum multiplies everything; it belongs to the old v alone.": MOMENTUM * (V - band - push),
        "the momentum multiplies the decay as well; it belongs to the old v alone.": MOMENTUM * (V - band) - push,
        "the gradient is multiplied by 1 - momentum; the paper adds it in full.": kept - band - (1 - MOMENTUM) * push,
        "the old v is not multiplied by the momentum.": V - band - push,
        "the old v is missing.": -band - push,
        "the gradient is not multiplied by the rate.": kept - band - G,
        "that is the form with the rate outside the velocity.": _outside(W, V, G, RATE, MOMENTUM, DECAY)[1],
    }
    same(f"the new v of {what}", v, new_v, mistakes=mistakes)
    mistakes = {
        "w goes along the old v; it should be the new one.": W + V,
        "w goes against v: the minus is in v already.": W - new_v,
        "w has not moved.": W,
        "the step is multiplied by the rate once more; it is in v already.": W + RATE * new_v,
    }
    same(f"the new w of {what}", w, new_w, mistakes=mistakes)


def check_three_steps(lesson):
    """paper_update: the three steps by hand"""
    w, v, places = 1.0, 0.0, []
    for _ in range(3):
        w, v = lesson.paper_update(w, v, 2 * w, 0.1, 0.9, 0.1)
        places.append(w)
    same("w after steps 1, 2 and 3", places, [0.79, 0.4351, 0.024319])


def check_arrays(lesson, device):
    """paper_update: arrays, which stay as they are"""
    random = np.random.default_rng(1)
    arrays = [random.standard_normal((2, 3)).astype(np.float32) for _ in range(3)]
    given = [backend.to_device(a.copy(), device) for a in arrays]
    w, v = lesson.paper_update(*given, 0.1, 0.9, 0.3)
    for name, now, before in zip("wvg", given, arrays, strict=True):
        if (backend.to_device(now, "cpu") != before).any():
            raise Wrong(
                f"paper_update has changed the array {name} that it was given.\n"
                f"Likely cause: {name} *= ... or {name} += ... works in place; write {name} = ..."
            )
    new_w, new_v = _paper(*arrays, 0.1, 0.9, 0.3)
    same("the new v, arrays of shape (2, 3)", v, new_v, rtol=1e-4, atol=1e-5, dtype=np.float32)
    same("the new w, arrays of shape (2, 3)", w, new_w, rtol=1e-4, atol=1e-5, dtype=np.float32)


def _parameters():
    """Two of one shape, so that a velocity that is shared shows in the numbers, and a third."""
    return [nn.Parameter(a) for a in (np.array([1.0, 2.0]), np.array([-3.0, 4.0]), np.array([[5.0], [6.0], [7.0]]))]


def _gradients(seed, parameters):
    random = np.random.default_rng(seed)
    return [random.standard_normal(p.shape) for p in parameters]


def _give(parameters, gradients):
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = None if g is None else Tensor(g)


def _values(parameters):
    return np.concatenate([p.numpy().ravel() for p in parameters])


def _flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def _step(optimiser):
    try:
        optimiser.step()
    except ValueError as error:
        if "read-only" in str(error):
            raise Wrong(
                "p.data cannot be changed in place (p.data += ...): assign a new array to it, p.data = p.data + ..."
            ) from error
        if "shape (2, 2) to a Tensor of shape (2,)" in str(error):
            raise Wrong(
                "p.data was given two arrays. paper_update returns two things: the new place and the new velocity.\n"
                "place, velocity = paper_update(...), and store each where it belongs."
            ) from error
        if "shape" not in str(error):
            raise
        raise Wrong(
            f"A step of three parameters of two shapes fails: {error}\n"
            "Likely cause: the parameters share one velocity; each has its own, self.velocities[i]."
        ) from error


def check_sgd_one_step(lesson, device):
    """SGD.step: one step of three parameters"""
    parameters = _parameters()
    before, gradients = [p.numpy() for p in parameters], _gradients(2, parameters)
    optimiser = lesson.SGD(iter(parameters), 0.1, 0.9, 0.3)
    _give(parameters, gradients)
    _step(optimiser)
    after = [_paper(w, 0.0, g, 0.1, 0.9, 0.3)[0] for w, g in zip(before, gradients, strict=True)]
    only_first = [after[0], *before[1:]]
    mistakes = {
        "nothing has moved: assign the new place to p.data.": _flat(before),
        "only the first parameter has moved: is there a `return` or `break` in the loop?": _flat(only_first),
        "there is no decay: hand self.weight_decay on.": _flat([w - 0.1 * g for w, g in zip(before, gradients, strict=True)]),
        "what is assigned is the velocity, not the new place.": _flat([a - b for a, b in zip(after, before, strict=True)]),
    }
    same("the parameters after step()", _values(parameters), _flat(after), mistakes=mistakes)


def check_sgd_keeps_velocities(lesson, device):
    """SGD.step: three steps, each parameter with a velocity of its own"""
    parameters = _parameters()
    rounds = [_gradients(seed, parameters) for seed in (3, 4, 5)]

    def reference(begin=None, momentum=0.8):
        """Three steps; begin: what the velocities are put to before each."""
        places, velocities = [p.numpy() for p in _parameters()], [0.0, 0.0, 0.0]
        for gradients in rounds:
            for i, g in enumerate(gradients):
                v = velocities[i] if begin is None else begin
                places[i], velocities[i] = _paper(places[i], v, g, 0.1, momentum, 0.3)
        return places

    optimiser = lesson.SGD(parameters, 0.1, 0.8, 0.3)
    for gradients in rounds:
        _give(parameters, gradients)
        _step(optimiser)
    mistakes = {
        "the velocities are forgotten after each step: keep the new one in self.velocities[i].": _flat(reference(begin=0.0)),
        "the momentum is 0.9 whatever self.momentum is.": _flat(reference(momentum=0.9)),
    }
    same("the parameters after three steps", _values(parameters), _flat(reference()), mistakes=mistakes)


def check_sgd_without_gradient(lesson, device):
    """SGD.step: a parameter without a gradient stays, the others move"""
    parameters = _parameters()
    before, gradients = [p.numpy() for p in parameters], _gradients(6, parameters)
    optimiser = lesson.SGD(parameters, 0.1, 0.9, 0.3)
    _give(parameters, [None, *gradients[1:]])
    try:
        optimiser.step()
    except AttributeError as error:
        if "NoneType" not in str(error):
            raise
        raise Wrong("The first of three parameters has no gradient, its grad is None: pass over it, with `continue`.") from error
    after = [before[0]] + [_paper(w, 0.0, g, 0.1, 0.9, 0.3)[0] for w, g in zip(before[1:], gradients[1:], strict=True)]
    mistakes = {
        "the step ends at the first parameter without a gradient; the others have one: `continue`, not `return` or `break`.": _flat(
            before
        ),
        "the one without a gradient has decayed; it should stay as it is.": _flat([before[0] * (1 - 0.03), *after[1:]]),
    }
    same("the parameters after a step in which the first has no gradient", _values(parameters), _flat(after), mistakes=mistakes)


def check_sgd_lower_rate(lesson, device):
    """SGD.step: the rate is lowered between two steps"""
    (p,) = parameters = _parameters()[:1]
    (first,), (second,) = _gradients(7, parameters), _gradients(8, parameters)
    optimiser = lesson.SGD(parameters, 0.1, 0.9, 0.3)
    w, v = _paper(p.numpy(), 0.0, first, 0.1, 0.9, 0.3)
    _give(parameters, [first])
    optimiser.step()
    optimiser.lr = 0.01
    _give(parameters, [second])
    optimiser.step()
    mistakes = {
        "the second step still has the old rate: read self.lr at every step.": _paper(w, v, second, 0.1, 0.9, 0.3)[0],
        "the old velocity was lowered with the rate: here the rate stands outside.": _paper(w, 0.1 * v, second, 0.01, 0.9, 0.3)[
            0
        ],
    }
    same(
        "the parameter after a step with rate 0.1 and one with 0.01",
        p,
        _paper(w, v, second, 0.01, 0.9, 0.3)[0],
        mistakes=mistakes,
    )


def check_outside_one_step(lesson):
    """outside_update: one step"""
    what = "outside_update(w=2, v=0.5, g=3, rate=0.1, momentum=0.9, decay=0.3)"
    w, v = _pair(what, lesson.outside_update(W, V, G, RATE, MOMENTUM, DECAY))
    new_w, new_v = _outside(W, V, G, RATE, MOMENTUM, DECAY)
    mistakes = {
        "w and v are returned the other way round: first w, then v.": new_w,
        "that is the paper's form, with the rate inside.": _paper(W, V, G, RATE, MOMENTUM, DECAY)[1],
        "here v points uphill, as the gradient does; the minus comes with w.": MOMENTUM * V - DECAY * W - G,
        "the rate is in v; it belongs to w.": MOMENTUM * V + RATE * (DECAY * W + G),
        "the rate is in the decay; here it belongs to w.": MOMENTUM * V + RATE * DECAY * W + G,
        "the decay is missing.": MOMENTUM * V + G,
        "the momentum multiplies everything; it belongs to the old v alone.": MOMENTUM * (V + DECAY * W + G),
    }
    same(f"the new v of {what}", v, new_v, mistakes=mistakes)
    mistakes = {
        "the step is not multiplied by the rate.": W - new_v,
        "the step goes uphill.": W + RATE * new_v,
        "w goes along the old v; it should be the new one.": W - RATE * V,
    }
    same(f"the new w of {what}", w, new_w, mistakes=mistakes)


def check_outside_constant_rate(lesson):
    """outside_update: with a constant rate it goes where the paper's goes"""
    w = other = 1.0
    v = u = 0.0
    for _ in range(20):
        w, v = lesson.outside_update(w, v, 2 * w, 0.1, 0.9, 0.1)
        other, u = _paper(other, u, 2 * other, 0.1, 0.9, 0.1)
    same("w after 20 steps", w, other, rtol=1e-9)


def check_program_optimisers(lesson):
    """program_optimisers: weights decay, biases do not and learn twice as fast"""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    result = lesson.program_optimisers(net, 0.04)
    is_a("program_optimisers(net, 0.04)", result, (list, tuple))
    if len(result) != 2:
        raise Wrong(
            f"program_optimisers(net, 0.04): a list of {len(result)}; it should be two, the SGD of the weights and that of the biases."
        )
    for optimiser in result:
        is_a("what is in the list", optimiser, lesson.SGD)
    weights, biases = result
    for p in (*weights.params, *biases.params):
        if not isinstance(p, Tensor):
            raise Wrong(
                f"program_optimisers(net, 0.04): an SGD was given a {type(p).__name__} where it wants a parameter.\n"
                "for name, p in net.named_parameters(): name is for sorting, p is for the SGD."
            )
    shapes = [[p.shape for p in optimiser.params] for optimiser in result]
    wanted = [[(3, 3, 3, 4), (16, 5), (5, 2)], [(4,), (5,), (2,)]]
    if shapes == wanted[::-1]:
        raise Wrong("program_optimisers(net, 0.04): the biases come first. The list begins with the SGD of the weights.")
    for name, found, expected in zip(("weights", "biases"), shapes, wanted, strict=True):
        if not found:
            raise Wrong(
                f"program_optimisers(net, 0.04): there are no {name}. A generator, such as net.parameters(), can be gone through once."
            )
        if sorted(found, key=str) != sorted(expected, key=str):
            raise Wrong(f"program_optimisers(net, 0.04): the shapes of the {name} are {found}\ninstead of {expected}.")
    mistakes = {"the decay of weights and biases is mixed up.": 0.0}
    same("the decay of the weights", weights.weight_decay, 0.0005, mistakes=mistakes)
    mistakes = {"the biases decay, as the paper's text has it. In the program they did not: weight_decay=0.0.": 0.0005}
    same("the decay of the biases", biases.weight_decay, 0.0, mistakes=mistakes)
    same(
        "the rate of the weights",
        weights.lr,
        0.04,
        mistakes={"the rates of weights and biases are mixed up.": 0.08, "0.01 whatever lr is.": 0.01},
    )
    mistakes = {
        "the biases learn as fast as the weights; it should be twice as fast.": 0.04,
        "half as fast; it should be twice.": 0.02,
    }
    same("the rate of the biases", biases.lr, 0.08, mistakes=mistakes | {"0.02 whatever lr is.": 0.02})
    same("the momentum of both", [weights.momentum, biases.momentum], [0.9, 0.9])


HINTS = {
    "paper_update": (
        "Two lines, as they stand in the lesson. The first makes the new v out of the old v, the old w and the gradient.",
        "v = momentum * v - decay * rate * w - rate * g; then w + v, with the new v.",
        "    v = momentum * v - ... * w - ... * g\n    return w + ..., v",
    ),
    "SGD.step": (
        "For each parameter: if it has a gradient, call paper_update with what belongs to it, and store both results where they came from.",
        "new place, new velocity = paper_update(p.data, self.velocities[i], p.grad.data, self.lr, self.momentum, self.weight_decay)",
        "            if p.grad is None:\n"
        "                continue\n"
        "            p.data, self.velocities[i] = paper_update(\n"
        "                p.data, ..., p.grad.data, self.lr, ..., ...\n"
        "            )",
    ),
    "outside_update": (
        "The first line has no rate in it at all, and no minus. Both come with the second.",
        "v = momentum * v + decay * w + g; then w - rate * v, with the new v.",
        "    v = momentum * v + ... + g\n    return w - ..., v",
    ),
    "program_optimisers": (
        "Go through net.named_parameters() and put each parameter into one of two lists, according to its name.",
        "weights: SGD(weights, lr), with the usual decay. biases: rate 2 * lr, weight_decay=0.0.",
        "    named = list(net.named_parameters())\n"
        '    weights = [p for name, p in named if not name.endswith("bias")]\n'
        "    biases = [...]\n"
        "    return [SGD(weights, ...), SGD(biases, ..., weight_decay=...)]",
    ),
}

ALL = "v - decay * rate * w - rate * g"
UPDATE = "    v = momentum * v - decay * rate * w - rate * g\n    return w + v, v\n"
OUTSIDE = "    v = momentum * v + decay * w + g\n    return w - rate * v, v\n"
SKIP = "            if p.grad is None:\n                continue\n"
STORE = "p.data, self.velocities[i] = paper_update("
ITS_OWN = STORE + "\n                p.data,\n                self.velocities[i],"
BOTH = "return [SGD(weights, lr), SGD(biases, 2 * lr, weight_decay=0.0)]"

MUTANTS = [
    Mutant("uphill", UPDATE, UPDATE.replace("- rate * g", "+ rate * g"), "goes uphill"),
    Mutant("decay without the rate", UPDATE, UPDATE.replace("decay * rate", "decay"), "decay is not multiplied by the rate"),
    Mutant("no decay", UPDATE, UPDATE.replace(" - decay * rate * w", ""), "decay is missing"),
    Mutant("decay of v", UPDATE, UPDATE.replace("rate * w", "rate * v"), "takes hold of v"),
    Mutant("momentum for all", UPDATE, UPDATE.replace(ALL, f"({ALL})"), "belongs to the old v alone"),
    Mutant("a running mean", UPDATE, UPDATE.replace("- rate * g", "- (1 - momentum) * rate * g"), "multiplied by 1 - momentum"),
    Mutant("the old v", UPDATE, "    return w + v, momentum * v - decay * rate * w - rate * g\n", "along the old v"),
    Mutant("the other form", UPDATE, OUTSIDE, "rate outside the velocity"),
    Mutant("the wrong order", UPDATE, UPDATE.replace("w + v, v", "v, w + v"), "other way round"),
    Mutant(
        "in place",
        UPDATE,
        "    v *= momentum\n    v -= decay * rate * w + rate * g\n    return w + v, v\n",
        "works in place",
    ),
    Mutant("both into the place", STORE, "p.data = paper_update(", "returns two things", cpu_only=True),
    Mutant("velocity forgotten", STORE, "p.data, _ = paper_update(", "forgotten after each step"),
    Mutant("not assigned", STORE, "_, self.velocities[i] = paper_update(", "assign the new place to p.data"),
    Mutant("one velocity", ITS_OWN, ITS_OWN.replace("[i]", "[0]"), "share one velocity"),
    Mutant("0.9 for ever", "                self.momentum,\n", "                0.9,\n", "whatever self.momentum is"),
    Mutant(
        "p.data in place",
        STORE,
        "p.data *= 1\n            p.data, self.velocities[i] = paper_update(",
        "assign a new array",
        cpu_only=True,
    ),
    Mutant("None not seen", SKIP, "", "with `continue`"),
    Mutant("ends at None", SKIP, SKIP.replace("continue", "return"), "`continue`, not `return`"),
    Mutant("rate inside", OUTSIDE, UPDATE, "the paper's form"),
    Mutant("no rate", OUTSIDE, OUTSIDE.replace("rate * v", "v"), "step is not multiplied by the rate"),
    Mutant("outside, uphill", OUTSIDE, OUTSIDE.replace("w - rate", "w + rate"), "goes uphill"),
    Mutant("the paper's numbers", UPDATE, UPDATE.replace("decay * rate", "0.0005 * rate"), "whatever `decay` is"),
    Mutant("names", "weights = [p for name", "weights = [name for name", "an SGD was given a str"),
    Mutant("biases decay", BOTH, BOTH.replace(", weight_decay=0.0", ""), "as the paper's text has it"),
    Mutant("biases as slow", BOTH, BOTH.replace("2 * lr", "lr"), "as fast as the weights"),
    Mutant("biases first", BOTH, "return [SGD(biases, 2 * lr, weight_decay=0.0), SGD(weights, lr)]", "biases come first"),
    Mutant("gone through twice", "named = list(net.named_parameters())", "named = net.named_parameters()", "gone through once"),
]  # fmt: skip
