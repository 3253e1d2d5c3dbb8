"""Lesson 13: ReLU and tanh with their gradients, and a pass over the data that counts what was guessed wrong."""

import numpy as np

import minidl.functional as F
from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, grad, gradcheck, nn, optim
from minidl.backend import get_array_module, to_device

X = np.array([-3.0, -0.7, -0.1, 0.2, 0.8, 1.0, 2.5])
UPSTREAM = np.array([2.0, -3.0, 0.5, -1.5, 4.0, -0.25, 3.0])  # both signs on both sides of 0


def _gradient(f, x, upstream, device):
    x = Tensor(x, requires_grad=True, device=device)
    y = f(x * 1.0)  # a number on its way, as in a network: its array is let go of
    try:
        y.backward(to_device(upstream, device))
    except (AttributeError, TypeError, ValueError) as error:
        if "keeps_inputs" in str(error):
            raise Wrong(
                "`backward` uses the input, `self.inputs`, but with `keeps_inputs = False` its array has been let go of.\n"
                "Work with the result: y = self.output."
            ) from None
        raise
    return x.grad


def check_relu(lesson, device):
    """ReLU.forward: each number, or 0"""
    try:
        y = lesson.ReLU().forward(to_device(X.copy(), device))
    except ValueError as error:
        if "truth value" not in str(error):
            raise
        raise Wrong(
            "relu(x): Python cannot decide whether a whole array is more than 0, in `max` or in an `if`.\n"
            "xp.maximum(x, 0) compares number by number."
        ) from None
    mistakes = {
        "that is the minimum: the negative numbers are kept and the positive ones lost.": np.minimum(X, 0),
        "the sign is dropped: a negative number becomes 0, not positive.": np.abs(X),
        "1 comes out where x is positive; it should be x itself.": (X > 0).astype(float),
        "nothing is cut off.": X,
        "there is a ceiling at 1; ReLU has none, and that is its point.": np.clip(X, 0, 1),
        "the largest of all numbers is everywhere: `maximum(x, 0)` compares each with 0, `max` looks for one.": np.full_like(
            X, X.max()
        ),
    }
    same("relu(x) for x from -3 to 2.5", y, np.maximum(X, 0), mistakes=mistakes)


def check_relu_leaves_x_alone(lesson, device):
    """ReLU.forward: leaves its input as it was, in shape, type and library"""
    before = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    x = to_device(before.copy(), device)
    y = lesson.ReLU().forward(x)
    same("x itself after relu(x)", x, before, mistakes={"x has been changed in place; make a new array.": np.maximum(before, 0)})
    same("relu(x) for x of shape (2, 3, 4)", y, np.maximum(before, 0), dtype=np.float32)
    is_a("relu(x) of a Tensor", lesson.relu(Tensor(before, device=device)), Tensor)
    if get_array_module(y) is not get_array_module(x):
        raise Wrong("relu(x) comes back in another array library than x. Use `xp`, not `np`.")


def check_relu_gradient(lesson, device):
    """ReLU.backward: the gradient where y is positive"""
    got = _gradient(lesson.relu, X, UPSTREAM, device)
    mistakes = {
        "everything is let through; where x is negative nothing should be. (`y >= 0` is always true.)": UPSTREAM,
        "the positive part of the gradient is taken. What decides is whether y is positive; the gradient keeps its sign.": np.maximum(
            UPSTREAM, 0
        ),
        "that is the slope alone; it must be multiplied by the gradient that arrives.": (X > 0).astype(float),
        "the gradient is multiplied by y, not by the slope, which is 1.": UPSTREAM * np.maximum(X, 0),
        "it is let through where x is negative: turned round.": UPSTREAM * (X < 0),
        "it is also cut where the gradient is negative; only y decides.": np.maximum(UPSTREAM, 0) * (X > 0),
        "the sign of y takes the place of the slope.": UPSTREAM * np.sign(X),
    }
    same("x.grad after relu(x), with a random gradient", got, UPSTREAM * (X > 0), mistakes=mistakes)


def check_relu_corner(lesson, device):
    """ReLU.backward: at the corner, x = 0, the slope is 0"""
    got = _gradient(lesson.relu, np.array([0.0, -0.0, 1.0]), np.array([5.0, 7.0, 3.0]), device)
    mistakes = {
        "at 0 everything is let through: `>` is meant, not `>=`. (All negative numbers have y = 0 as well.)": [5.0, 7.0, 3.0],
        "at 0 half is let through. Many do that; here, as in minidl, it is 0.": [2.5, 3.5, 3.0],
    }
    same("x.grad at x = 0, -0 and 1", got, [0.0, 0.0, 3.0], mistakes=mistakes)


def check_relu_small_steps(lesson, device):
    """ReLU.backward: against finite differences, first and second derivatives"""
    x = np.random.default_rng(1).permutation(np.arange(-11.5, 12)).reshape(4, 6) / 10
    for order in (1, 2):
        report = gradcheck(lambda x: lesson.relu(x) ** 2, Tensor(x, device=device), order=order)
        if not report:
            raise Wrong(f"relu(x) ** 2: the derivative of order {order} is not that of small steps.\n{report}")


def check_tanh_gradient(lesson, device):
    """Tanh.backward: the gradient times 1 - y y"""
    got = _gradient(lesson.tanh, X, UPSTREAM, device)
    y = np.tanh(X)
    mistakes = {
        "that is 1 - x x; the slope is 1 - y y, with the result.": UPSTREAM * (1 - X * X),
        "that is y (1 - y), the slope of the sigmoid.": UPSTREAM * y * (1 - y),
        "that is 1 - y; y is to be squared.": UPSTREAM * (1 - y),
        "that is 1 + y y.": UPSTREAM * (1 + y * y),
        "that is (1 - y) squared.": UPSTREAM * (1 - y) ** 2,
        "that is the slope alone; it must be multiplied by the gradient that arrives.": 1 - y * y,
        "everything is let through.": UPSTREAM,
    }
    same("x.grad after tanh(x), with a random gradient", got, UPSTREAM * (1 - y * y), mistakes=mistakes)


def check_tanh_second(lesson, device):
    """Tanh.backward: the second derivative"""
    x = Tensor(X, requires_grad=True, device=device)
    first = grad(lesson.tanh(x).sum(), x, create_graph=True)
    y = np.tanh(X)
    constant = (
        "the slope counts as a constant. Work with `self.output`, a Tensor that knows where it came from, not with its array."
    )
    if not first.requires_grad:
        raise Wrong(f"the second derivative of tanh: {constant}")
    second = grad((first * Tensor(UPSTREAM, device=device)).sum(), x)
    same("the second derivative of tanh", second, UPSTREAM * -2 * y * (1 - y * y), mistakes={constant: np.zeros_like(X)})


N, BATCH = 12, 3


def _data():
    rng = np.random.default_rng(4)
    return rng.normal(size=(N, 5)).astype(np.float32), rng.integers(0, 3, N)


def _model():
    model = nn.Linear(5, 3)
    rng = np.random.default_rng(5)
    for parameter in model.parameters():
        parameter.data = rng.normal(size=parameter.shape)
    return model


def _pass(rate, zero=True, after=False, last=False):
    """(the share of wrong guesses, the weights afterwards); the arguments are where one goes wrong."""
    images, labels = _data()
    model = _model()
    optimizer = optim.SGD(model.parameters(), lr=rate)
    wrong = 0
    for chosen in np.random.default_rng(6).permutation(N).reshape(-1, BATCH):
        logits = model(Tensor(images[chosen]))
        if zero:
            optimizer.zero_grad()
        F.cross_entropy(logits, labels[chosen]).backward()
        optimizer.step()
        if after:
            logits = model(Tensor(images[chosen]))
        count = int((logits.numpy().argmax(axis=1) != labels[chosen]).sum())
        wrong = count if last else wrong + count
    return wrong / N, model.weight.numpy()


def _learners_pass(lesson, rate):
    images, labels = _data()
    model = _model()
    optimizer = optim.SGD(model.parameters(), lr=rate)
    return lesson.train_pass(model, optimizer, images, labels, np.random.default_rng(6), BATCH), model.weight.numpy()


def check_counts_wrong(lesson):
    """train_pass: the share that was guessed wrong"""
    got, _ = _learners_pass(lesson, 1e-9)  # a model that stays the same
    share, _ = _pass(1e-9)
    mistakes = {
        "the right guesses are counted; the error is the share of wrong ones.": 1 - share,
        "the share of each batch is added; add the number of wrong guesses, the division comes at the end.": share / BATCH,
        "only the last batch counts: add to `wrong`.": _pass(1e-9, last=True)[0],
        "nothing is counted.": 0.0,
    }
    same(f"train_pass with a model that gets {round(share * N)} of {N} wrong", got, share, mistakes=mistakes)


def check_steps(lesson):
    """train_pass: one step for each batch"""
    _, weights = _learners_pass(lesson, 0.5)
    mistakes = {
        "nothing has moved. Is `step` there, and `zero_grad` before `backward` and not after it?": _model().weight.numpy(),
        "the slopes of earlier batches are still in it: `zero_grad` is missing (lesson 3).": _pass(0.5, zero=False)[1],
    }
    same("the weights after a pass of four steps", weights, _pass(0.5)[1], rtol=1e-4, atol=1e-5, mistakes=mistakes)


def check_guess_before_step(lesson):
    """train_pass: guesses before it learns"""
    for rate in (2.0, 5.0):
        got, _ = _learners_pass(lesson, rate)
        late = "it guesses again after the step, when it has just been told the answer."
        same(f"train_pass at rate {rate:g}", got, _pass(rate)[0], mistakes={late: _pass(rate, after=True)[0]})


def check_passes(lesson):
    """train_pass: so many passes until all guesses are right"""
    images, labels = _data()

    def passes(train_pass):
        model = _model()
        optimizer, rng = optim.SGD(model.parameters(), lr=0.5), np.random.default_rng(6)
        return next((n for n in range(1, 50) if train_pass(model, optimizer, images, labels, rng, BATCH) == 0), 50)

    def reference(model, optimizer, images, labels, rng, batch):
        wrong = 0
        for chosen in rng.permutation(N).reshape(-1, batch):
            logits = model(Tensor(images[chosen]))
            wrong += int((logits.numpy().argmax(axis=1) != labels[chosen]).sum())
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
        return wrong / N

    same("the passes until none of 12 guesses is wrong, at rate 0.5", passes(lesson.train_pass), passes(reference))


HINTS = {
    "ReLU.forward": (
        "Compare each number with 0 and take the larger. NumPy and CuPy have one function for that.",
        "y = max(x, 0), number by number: xp.maximum, not xp.max, which looks for one largest number.",
        "        return xp.maximum(..., 0)",
    ),
    "ReLU.backward": (
        "The slope is 1 where x was positive, and there y is positive too. Elsewhere it is 0.",
        "dx = gradient * (1 where y > 0, else 0). `y > 0` is just this factor.",
        "        return gradient * (...)",
    ),
    "Tanh.backward": (
        "The chain rule: the gradient that arrives, times the slope. The slope stands in the first table of the lesson.",
        "dx = gradient * (1 - y * y), with Tensors throughout, so that it can be differentiated again.",
        "        return gradient * (1.0 - ...)",
    ),
    "train_pass": (
        "Two things for each batch: count how many guesses differ from the labels, then one training step as in lesson 12.",
        "guess = argmax of the logits along axis 1; wrong grows by the number of guess != label. Then the loss, zero, backward, step.",
        "        guesses = logits.numpy().argmax(axis=1)\n"
        "        wrong += int((guesses != ...).sum())\n"
        "        loss = F.cross_entropy(...)\n"
        "        optimizer.zero_grad()\n"
        "        ...\n"
        "        optimizer.step()",
    ),
}

CUT = "        return xp.maximum(x, 0)\n"
PASS_ON = "        return gradient * (y > 0)\n"
SLOPE = "        return gradient * (1.0 - y * y)\n"
COUNT = "        wrong += int((guesses != labels[chosen]).sum())\n"
STEP = """\
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""

MUTANTS = [
    Mutant("Python's max", CUT, "        return max(x, 0)\n", "number by number"),
    Mutant("minimum", CUT, CUT.replace("maximum", "minimum"), "that is the minimum"),
    Mutant("absolute value", CUT, "        return xp.abs(x)\n", "the sign is dropped"),
    Mutant("0 or 1", CUT, "        return (x > 0) * 1.0\n", "it should be x itself"),
    Mutant("a ceiling", CUT, "        return xp.clip(x, 0, 1)\n", "there is a ceiling"),
    Mutant("one maximum", CUT, "        return xp.maximum(x.max(), x * 0)\n", "the largest of all"),
    Mutant("in place", CUT, "        x[x < 0] = 0\n        return x\n", "changed in place"),
    Mutant("lets all through", PASS_ON, "        return gradient\n", "everything is let through"),
    Mutant("the input", PASS_ON, "        return gradient * (self.inputs[0] > 0)\n", "has been let go of"),
    Mutant("the gradient decides", PASS_ON, "        return gradient * (gradient > 0)\n", "the gradient keeps its sign"),
    Mutant("both decide", PASS_ON, "        return gradient * (gradient > 0) * (y > 0)\n", "only y decides"),
    Mutant("times y", PASS_ON, "        return gradient * y\n", "multiplied by y"),
    Mutant("the corner", PASS_ON, "        return gradient * (y >= 0)\n", "everything is let through"),
    Mutant("no gradient", PASS_ON, "        return (y > 0) * Tensor(1.0) + gradient * 0.0\n", "the slope alone"),
    Mutant("one y", SLOPE, "        return gradient * (1.0 - y)\n", "y is to be squared"),
    Mutant("sigmoid", SLOPE, "        return gradient * (y * (1.0 - y))\n", "slope of the sigmoid"),
    Mutant("tanh's slope alone", SLOPE, "        return 1.0 - y * y + gradient * 0.0\n", "multiplied by the gradient"),
    Mutant("y as a constant", SLOPE, "        y = y.detach()\n" + SLOPE, "counts as a constant"),
    Mutant("right instead of wrong", COUNT, COUNT.replace("!=", "=="), "the right guesses are counted"),
    Mutant("means", COUNT, "        wrong += float((guesses != labels[chosen]).mean())\n", "the share of each batch"),
    Mutant("the last batch", COUNT, COUNT.replace("+=", "="), "only the last batch"),
    Mutant("no zero", STEP, STEP.replace("        optimizer.zero_grad()\n", ""), "`zero_grad` is missing"),
    Mutant(
        "zero too late",
        STEP,
        "        loss.backward()\n        optimizer.zero_grad()\n        optimizer.step()\n",
        "nothing has moved",
    ),
    Mutant(
        "guesses after the step",
        "        guesses = logits.numpy().argmax(axis=1)\n"
        + COUNT
        + "        loss = F.cross_entropy(logits, labels[chosen])\n"
        + STEP,
        "        loss = F.cross_entropy(logits, labels[chosen])\n"
        + STEP
        + "        logits = model(Tensor(images[chosen]))\n        guesses = logits.numpy().argmax(axis=1)\n"
        + COUNT,
        "after the step",
    ),
]
