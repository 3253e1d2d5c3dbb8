"""Lesson 9: log-sum-exp, softmax, and the cross-entropy of logits of any size with its gradient."""

import warnings

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, gradcheck


def _lse(x):
    largest = x.max(axis=1, keepdims=True)
    return largest[:, 0] + np.log(np.exp(x - largest).sum(axis=1))


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _finite(what, got, cause):
    """Say what is likely where something is nan or infinite."""
    values = got.numpy() if isinstance(got, Tensor) else getattr(got, "get", lambda: np.asarray(got))()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        kind = "nan" if np.isnan(values).any() else "infinity"
        raise Wrong(f"{what}: there is {kind} in it.\nLikely cause: {cause}")


def _array(device, values, dtype=np.float32):
    return Tensor(np.array(values, dtype)).data


def check_small(lesson):
    """log_sum_exp: of two rows of small numbers"""
    x = np.log(np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.25, 0.125, 0.125]]))
    largest = x.max(axis=1)
    mistakes = {
        "the largest was taken out and not added again.": _lse(x) - largest,
        "the logarithm is missing.": np.exp(x).sum(axis=1),
        "it is taken along the columns; each row is an image: axis=1.": _lse(x.T),
        "that is the mean, not the sum, of the exp.": _lse(x) - np.log(4),
        "that is the largest of each row alone.": largest,
    }
    with np.errstate(all="ignore"):
        got = lesson.log_sum_exp(x)
    if np.shape(got) == (2, 2):
        raise Wrong(
            "log_sum_exp of 2 rows: shape (2, 2) instead of (2,).\nLikely cause: a column (2, 1) and a row (2,) were added, each with "
            "each. For adding, take the numbers of the column as `largest[:, 0]`."
        )
    same("log_sum_exp of [[log 1, log 2, log 3, log 4], [log 1/2, log 1/4, log 1/8, log 1/8]]", got, _lse(x), mistakes=mistakes)


def check_square(lesson):
    """log_sum_exp: with as many rows as columns"""
    x = np.array([[0.0, 1.0, 5.0], [2.0, -3.0, 1.0], [-1.0, 4.0, 0.5]])
    largest = x.max(axis=1)
    crossed = {
        "row and column are mixed up: the largest of row 0 is subtracted from column 0, and so on. Keep it a column, `keepdims=True`.": (
            largest + np.log(np.exp(x - largest).sum(axis=1))
        ),
    }
    got = lesson.log_sum_exp(x)
    same("log_sum_exp of 3 rows of 3", got, _lse(x), mistakes=crossed)


def check_large(lesson, device):
    """log_sum_exp: numbers of +-10,000, in float32"""
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [3.0, 1e4, 0.0], [-88.0, -90.0, -89.0]], np.float32)
    with np.errstate(all="ignore"):
        got = lesson.log_sum_exp(_array(device, x))
        everywhere = np.float32(x.max())
        shifted = everywhere + np.log(np.exp(x - everywhere).sum(axis=1))
    what = "log_sum_exp of rows with +-10,000"
    if not np.isfinite(shifted).all() and np.allclose(_lists(got), shifted):
        raise Wrong(
            f"{what}: there is infinity in it.\n"
            "Likely cause: the largest of all rows is taken out of each row. Every row has its own: axis=1."
        )
    _finite(
        what, got, "exp of a large number is infinite, and log of 0 is. Take the largest out before the exp, and add it after."
    )
    same(what, got, _lse(x.astype(float)), rtol=1e-6, dtype=np.float32)


def _lists(got):
    return np.asarray(got.get() if hasattr(got, "get") else got)


def check_softmax(lesson, device):
    """softmax: two rows"""
    x = np.array([[2.0, 1.0, -1.0], [0.0, -3.0, 0.5]])
    try:
        got = lesson.softmax(Tensor(x))
    except TypeError as error:
        if "ufunc" not in str(error):
            raise
        raise Wrong(
            "softmax: a function of NumPy's was called with a Tensor, and does not take one.\n"
            "Write it as a method of the Tensor: (...).exp() in place of np.exp(...)."
        ) from error
    is_a("softmax(...)", got, Tensor)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    mistakes = {
        "it is not divided by the sum.": e,
        "the sum is that of all rows; each row adds up to 1 by itself: axis=1, keepdims=True.": e / e.sum(),
        "the sum is taken along the columns; each row adds up to 1.": e / e.sum(axis=0),
        "that is the logarithm of it.": np.log(_softmax(x)),
    }
    same("softmax of [[2, 1, -1], [0, -3, 0.5]]", got, _softmax(x), mistakes=mistakes)


def check_softmax_large(lesson):
    """softmax: logits of +-10,000"""
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], np.float32)
    with np.errstate(all="ignore"):
        got = lesson.softmax(Tensor(x))
    what = "softmax of [[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]]"
    _finite(what, got, "exp is taken of x itself; take it of x minus the largest of its row.")
    same(what, got, _softmax(x), dtype=np.float32)


def check_softmax_gradient(lesson):
    """softmax: its gradient"""
    x = Tensor(np.array([[2.0, 1.0, -1.0]]), requires_grad=True)
    if not lesson.softmax(x).requires_grad:
        raise Wrong("softmax: no gradient flows through it. Compute with Tensors (`.exp()`, `.sum(...)`, `/`), not with `.data`.")
    report = gradcheck(lesson.softmax, (2, 4), order=1)
    if not report:
        raise Wrong(f"softmax has the right values, but not the right gradient. gradcheck says:\n{report}")


X = np.array([[0.5, -1.0, 2.0, 0.25], [3.0, 1.0, -0.5, 0.0], [-2.0, 0.75, 1.5, 1.0]])
LABELS = np.array([3, 0, 1])
PICKED = X[np.arange(3), LABELS]


def check_losses(lesson):
    """CrossEntropy.forward: three rows"""
    with np.errstate(all="ignore"):
        got = lesson.CrossEntropy(LABELS).forward(X)
    every = _lse(X)
    mistakes = {
        "the sign is turned round: log-sum-exp minus the logit of the label.": PICKED - every,
        "log-sum-exp is taken of the shifted logits, the label's of those that are not shifted.": every - X.max(axis=1) - PICKED,
        "log-sum-exp is taken of logits that are not shifted, the label's of the shifted ones.": every - PICKED + X.max(axis=1),
        "the logit of the label is not subtracted.": every - X.max(axis=1),
        "that is the probability of the label, without minus its logarithm.": np.exp(PICKED - every),
        "the mean comes later, in cross_entropy; here are the losses of the rows.": np.full(3, (every - PICKED).mean()),
    }
    if np.shape(got) == (3, 3):
        raise Wrong(
            "CrossEntropy(labels).forward(logits) for 3 rows: shape (3, 3) instead of (3,).\n"
            "Likely cause: `x[:, labels]` takes all the labels from every row; `x[rows, labels]` takes one from each."
        )
    same("CrossEntropy([3, 0, 1]).forward(logits) for 3 rows", got, every - PICKED, mistakes=mistakes)


def check_losses_large(lesson, device):
    """CrossEntropy.forward: logits of +-10,000, in float32"""
    x = np.array([[1e4, 1e4], [1e4, -1e4], [-1e4, -1e4], [-1e4, 1e4]], np.float32)
    labels = np.array([0, 1, 1, 1])
    with np.errstate(all="ignore"):
        got = lesson.CrossEntropy(_array(device, labels, np.int64))(Tensor(x))
    what = "CrossEntropy([0, 1, 1, 1]) of [[1e4, 1e4], [1e4, -1e4], [-1e4, -1e4], [-1e4, 1e4]]"
    _finite(what, got, "a softmax and a logarithm one after the other: log of 0. Subtract the label's logit from a log-sum-exp.")
    wide = x.astype(float)
    mistakes = {
        "(10000 + log 2) - 10000 in float32 has lost its digits. Subtract the largest from the logits at the beginning.": (
            _lse(x) - x[np.arange(4), labels]
        ),
    }
    same(what, got, _lse(wide) - wide[np.arange(4), labels], rtol=1e-6, mistakes=mistakes, dtype=np.float32)
    if not got.device.startswith(device):
        raise Wrong(f"CrossEntropy of logits on the {device}: the result is on {got.device}.")


def _gradient(lesson, x, labels, upstream):
    t = Tensor(x, requires_grad=True)
    (lesson.CrossEntropy(Tensor(labels).data)(t) * Tensor(upstream)).sum().backward()
    return t.grad


def check_gradient(lesson, device):
    """CrossEntropy.backward: three rows, each with a gradient of its own"""
    upstream = np.array([2.0, -0.5, 3.0])
    got = _gradient(lesson, X, LABELS, upstream)
    p, target = _softmax(X), np.eye(4)[LABELS]
    column = upstream[:, None]
    mistakes = {
        "the gradient that arrives is not used; each row is multiplied by that of its loss.": p - target,
        "the target is not subtracted.": p * column,
        "the sign is turned round: softmax minus target, not target minus softmax.": (target - p) * column,
        "only the target is multiplied by the gradient; put brackets round softmax minus target.": p - target * column,
        "it is divided by N; that belongs to the mean, in cross_entropy.": (p - target) * column / 3,
        "all rows are multiplied by the sum of the gradients; each has its own.": (p - target) * upstream.sum(),
    }
    same("the gradient of three losses that arrive with 2, -0.5 and 3", got, (p - target) * column, mistakes=mistakes)


def check_gradient_square(lesson):
    """CrossEntropy.backward: as many rows as classes"""
    x, labels, upstream = X[:, :3], np.array([2, 0, 1]), np.array([2.0, -0.5, 3.0])
    right = _softmax(x) - np.eye(3)[labels]
    mistakes = {
        "the gradients are multiplied to the columns instead of the rows: make a column of them, `.reshape(-1, 1)`.": right
        * upstream,
        "the target has its axes the other way round.": (_softmax(x) - np.eye(3)[labels].T) * upstream[:, None],
    }
    got = _gradient(lesson, x, labels, upstream)
    same("the gradient of 3 losses of 3 classes", got, right * upstream[:, None], mistakes=mistakes)


def check_gradient_large(lesson, device):
    """CrossEntropy.backward: logits of +-10,000, in float32"""
    x = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], np.float32)
    with np.errstate(all="ignore"):
        got = _gradient(lesson, x, np.array([1, 2]), np.ones(2, np.float32))
    what = "the gradient for logits of +-10,000"
    _finite(what, got, "exp of a large number is infinite: use `softmax`, which subtracts the largest first.")
    same(what, got, [[1.0, -1.0, 0.0], [0.0, 0.5, -0.5]], atol=1e-7, dtype=np.float32)


def check_second_order(lesson):
    """CrossEntropy.backward: its gradient can be differentiated again"""
    upstream = Tensor(np.array([2.0, -0.5, 3.0]))

    def weighted(x):
        return lesson.CrossEntropy(Tensor(LABELS).data)(x) * upstream

    for order, what in ((1, "the gradient"), (2, "the gradient is right, but the gradient of the gradient")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a gradient that is zero everywhere: the report says so too
            report = gradcheck(weighted, X, order=order)
        if not report:
            cause = (
                "\nLikely cause: softmax of plain numbers (`.data`, `.detach()`) instead of softmax(logits)."
                if order == 2
                else ""
            )
            raise Wrong(f"CrossEntropy: {what} is wrong.{cause} gradcheck says:\n{report}")


def check_cross_entropy(lesson, device):
    """cross_entropy: the mean over the batch"""
    losses = _lse(X) - PICKED
    x = Tensor(X, requires_grad=True)
    got = lesson.cross_entropy(x, LABELS)
    is_a("cross_entropy(logits, labels)", got, Tensor)
    mistakes = {
        "that is the sum of the losses, not their mean.": losses.sum(),
        "it is divided by the number of all logits; divide by N, the number of rows.": losses.sum() / X.size,
    }
    same("cross_entropy of three rows", got, losses.mean(), mistakes=mistakes)
    got.backward()
    if x.grad is None:
        raise Wrong("cross_entropy: no gradient arrives at the logits. Compute with the Tensor that CrossEntropy gives.")
    same("the gradient of cross_entropy of three rows", x.grad, (_softmax(X) - np.eye(4)[LABELS]) / 3)


def check_cross_entropy_labels(lesson, device):
    """cross_entropy: labels as a list, an array and a Tensor"""
    x = Tensor(X.astype(np.float32))
    expected = (_lse(X) - PICKED).mean()
    for name, labels in (("a list", [3, 0, 1]), ("an array", LABELS), ("a Tensor", Tensor(LABELS))):
        same(f"cross_entropy with labels in {name}", lesson.cross_entropy(x, labels), expected, rtol=1e-5, dtype=np.float32)


def check_cross_entropy_large(lesson, device):
    """cross_entropy: logits of +-10,000, and a network that knows nothing"""
    x = Tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    loss = lesson.cross_entropy(x, [1, 2])
    same("cross_entropy of [[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], labels 1, 2", loss, (2e4 + np.log(2)) / 2)
    same("cross_entropy of 1,000 equal logits", lesson.cross_entropy(Tensor(np.zeros((2, 1000))), [7, 999]), np.log(1000))


HINTS = {
    "log_sum_exp": (
        "Take the largest of each row out before the exp, so that no exponent is above 0, and add it again after the logarithm.",
        "m + log(sum of exp(x_k - m)), with m the largest of the row. As a column, `keepdims=True`, m can be subtracted from the rows.",
        "    xp = get_array_module(x)\n    largest = x.max(axis=1, keepdims=True)\n    return largest[:, 0] + xp.log(...)",
    ),
    "softmax": (
        "exp of the shifted logits gives positive numbers of a good size; divided by the sum of their row they add up to 1.",
        "p = exp(x - m) / (sum of exp(x - m) along the row, as a column)",
        "    e = (...).exp()\n    return e / e.sum(axis=..., keepdims=True)",
    ),
    "CrossEntropy.forward": (
        "Subtract the largest of each row first. Both parts of the loss are then taken from what is left.",
        "with s = x - m: loss = log_sum_exp(s) - s[rows, labels].",
        "        shifted = logits - logits.max(axis=1, keepdims=True)\n        return log_sum_exp(...) - shifted[..., self.labels]",
    ),
    "CrossEntropy.backward": (
        "The measured slopes in the lesson are the softmax, with 1 less at the label. What arrives for a loss multiplies its whole row.",
        "dx = (softmax(x) - target) * gradient, the gradient as a column: gradient.reshape(-1, 1).",
        "        return (softmax(...) - ...) * gradient.reshape(-1, 1)",
    ),
    "cross_entropy": (
        "CrossEntropy(labels) is the operation; called with logits it gives a Tensor of N losses.",
        "the sum of the N losses / N",
        "    return CrossEntropy(...)(...).mean()",
    ),
}

LSE = "    return largest[:, 0] + xp.log(xp.exp(x - largest).sum(axis=1))"
SHIFT = """\
        shifted = logits - logits.max(axis=1, keepdims=True)
        return log_sum_exp(shifted) - shifted[rows, self.labels]
"""
BACK = "return (softmax(logits) - target) * gradient.reshape(-1, 1)"
MEAN = "return CrossEntropy(labels)(logits).mean()"

MUTANTS = [
    Mutant("no shift", LSE, "    return xp.log(xp.exp(x).sum(axis=1))", "Take the largest out before the exp"),
    Mutant("not added again", LSE, LSE.replace("largest[:, 0] + ", ""), "not added again"),
    Mutant("no logarithm", LSE, "    return xp.exp(x).sum(axis=1)", "the logarithm is missing"),
    Mutant(
        "one largest for all",
        "    largest = x.max(axis=1, keepdims=True)\n" + LSE,
        "    largest = x.max()\n" + LSE.replace("[:, 0]", ""),
        "the largest of all rows is taken out of each",
    ),
    Mutant("a column and a row", LSE, LSE.replace("largest[:, 0]", "largest"), "a column \\(2, 1\\) and a row"),
    Mutant("not normalised", "return e / e.sum(axis=1, keepdims=True)", "return e", "not divided by the sum"),
    Mutant("all add up to 1", "return e / e.sum(axis=1, keepdims=True)", "return e / e.sum()", "the sum is that of all rows"),
    Mutant("NumPy's exp", "e = (x - largest).exp()", "e = np.exp(x - largest)", "Write it as a method of the Tensor"),
    Mutant("softmax without a shift", "e = (x - largest).exp()", "e = x.exp()", "exp is taken of x itself"),
    Mutant("softmax of numbers", "e = (x - largest).exp()", "e = (x - largest).detach().exp()", "no gradient flows through it"),
    Mutant(
        "digits lost",
        SHIFT,
        "        return log_sum_exp(logits) - logits[rows, self.labels]\n",
        "has lost its digits",
    ),
    Mutant("half shifted", SHIFT, SHIFT.replace("- shifted[", "- logits["), "the label's of those that are not shifted"),
    Mutant(
        "all labels from each row",
        SHIFT,
        SHIFT.replace("[rows, self.labels]", "[:, self.labels]"),
        "takes all the labels from every row",
    ),
    Mutant(
        "log of softmax",
        SHIFT,
        SHIFT.replace(
            "return log_sum_exp(shifted) - shifted[rows, self.labels]",
            "p = xp.exp(shifted) / xp.exp(shifted).sum(axis=1, keepdims=True)\n        return -xp.log(p[rows, self.labels])",
        ),
        "log of 0",
    ),
    Mutant("upstream forgotten", BACK, "return softmax(logits) - target", "the gradient that arrives is not used"),
    Mutant(
        "target forgotten", BACK, BACK.replace("(softmax(logits) - target)", "softmax(logits)"), "the target is not subtracted"
    ),
    Mutant("brackets", BACK, "return softmax(logits) - target * gradient.reshape(-1, 1)", "put brackets round"),
    Mutant("columns", BACK, BACK.replace("gradient.reshape(-1, 1)", "gradient.sum()"), "the sum of the gradients"),
    Mutant(
        "softmax from numbers", BACK, BACK.replace("softmax(logits)", "softmax(logits.detach())"), "the gradient of the gradient"
    ),
    Mutant("the sum", MEAN, MEAN.replace("mean", "sum"), "the sum of the losses, not their mean"),
]
