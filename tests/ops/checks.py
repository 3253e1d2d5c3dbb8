"""Every operation of `minidl.functional` in a few configurations, and the checks that each must pass.

`check_values` compares with the loops of `naive.py`, `check_gradients` with finite differences, of the operation (order 1) and of
its gradient (order 2), `check_recorded_gradients` the gradients with `create_graph` with those without.
`test_every_operation.py` runs them on every device; `test_planted_bugs.py` shows that they find bugs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import naive
import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, backend, gradcheck


@dataclass
class Case:
    operation: str
    name: str
    f: Callable[..., Tensor]
    inputs: tuple[Any, ...]  # a shape stands for normally distributed numbers
    reference: Callable[..., np.ndarray] | None  # of NumPy arrays; None where there are random numbers

    def __str__(self) -> str:
        return f"{self.operation}: {self.name}"


CASES: list[Case] = []


def case(operation: str, name: str, f, *inputs, reference) -> None:
    CASES.append(Case(operation, name, f, inputs, reference))


def twice(value):
    return value if isinstance(value, tuple) else (value, value)


def sides(padding):
    return padding if isinstance(padding, tuple) and isinstance(padding[0], tuple) else tuple((p, p) for p in twice(padding))


# Convolution

X = (2, 5, 4, 4)


def convolution(name, x, weight, *bias, stride=1, padding=0, dilation=1, groups=1, relu=False):
    options = twice(stride), sides(padding), twice(dilation), groups
    named = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "relu": relu}
    case(
        "conv2d", name, lambda x, w, *b: F.conv2d(x, w, *b, **named),
        x, weight, *bias, reference=lambda x, w, b=None: above_zero(naive.conv2d(x, w, b, *options), relu),
    )  # fmt: skip


def above_zero(y, relu=True):
    return np.maximum(y, 0) if relu else y


convolution("one pixel", (2, 3, 3, 2), (1, 1, 2, 3), (3,))
convolution("no bias", (2, 4, 4, 2), (3, 2, 2, 3))
convolution("bias", (2, 4, 4, 2), (3, 3, 2, 2), (2,))
convolution("padding", (1, 4, 3, 2), (3, 3, 2, 2), (2,), padding=1)
convolution("padding of more than the kernel", (1, 2, 2, 2), (2, 2, 2, 2), (2,), padding=(3, 2))
convolution("padding at the bottom and the right", (1, 5, 5, 2), (3, 3, 2, 2), (2,), stride=2, padding=((0, 3), (0, 2)))
convolution("stride", (1, 6, 5, 2), (3, 2, 2, 2), (2,), stride=2)
convolution("stride that skips pixels", (1, 6, 7, 2), (2, 1, 2, 2), stride=(3, 2), padding=((1, 0), (0, 1)))
convolution("dilation", (1, 6, 5, 2), (3, 2, 2, 2), (2,), dilation=(2, 3), padding=1)
convolution("stride and dilation", (1, 7, 6, 1), (2, 3, 1, 2), stride=2, dilation=2, padding=((2, 1), (0, 1)))
convolution("two towers", (1, 4, 4, 4), (3, 3, 2, 4), (4,), groups=2, padding=1)
convolution("two towers, stride", (1, 5, 5, 4), (3, 3, 2, 6), (6,), groups=2, stride=2)
convolution("depthwise", (2, 4, 4, 3), (2, 2, 1, 6), (6,), groups=3)
convolution("relu", (2, 5, 4, 4), (3, 3, 2, 4), (4,), groups=2, padding=1, relu=True)
convolution("relu, no bias", (2, 4, 4, 2), (3, 2, 2, 3), relu=True)


def patches(name, x, kernel, stride=1, padding=0, dilation=1):
    options = twice(kernel), twice(stride), sides(padding), twice(dilation)
    cols = naive.im2col(np.zeros(x), *options).shape
    case(
        "im2col", name, lambda x: F.im2col(x, kernel, stride, padding, dilation),
        x, reference=lambda x: naive.im2col(x, *options),
    )  # fmt: skip
    case(
        "col2im", name, lambda c: F.col2im(c, x[1:3], kernel, stride, padding, dilation),
        cols, reference=lambda c: naive.col2im(c, x, *options),
    )  # fmt: skip


patches("overlapping", (2, 4, 4, 2), 2)
patches("stride", (1, 5, 5, 2), (3, 2), stride=2)
patches("padding", (1, 4, 3, 2), 3, padding=((0, 1), (2, 1)))
patches("dilation", (1, 5, 4, 1), 2, dilation=(3, 2), stride=(1, 2), padding=1)

# Pooling


def pooling(name, x, kernel, stride=None, padding=0, ceil_mode=False, **only_average):
    options = twice(kernel), twice(kernel if stride is None else stride), sides(padding), ceil_mode
    if not only_average:
        case(
            "max_pool2d", name, lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode),
            x, reference=lambda x: naive.max_pool2d(x, *options),
        )  # fmt: skip
    case(
        "avg_pool2d", name, lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, **only_average),
        x, reference=lambda x: naive.avg_pool2d(x, *options, **only_average),
    )  # fmt: skip


pooling("next to each other", (2, 4, 5, 2), 2)
pooling("overlapping, as in 2012", (1, 7, 7, 2), 3, stride=2)
pooling("padding", (1, 5, 4, 2), 3, stride=2, padding=1)
pooling("padding on some sides", (1, 5, 4, 2), (3, 2), stride=(1, 2), padding=((1, 0), (0, 1)))
pooling("ceil", (1, 6, 6, 2), 3, stride=2, ceil_mode=True)
pooling("ceil and padding", (1, 6, 5, 2), 3, stride=2, padding=1, ceil_mode=True)
pooling("a window that would begin outside", (1, 4, 4, 2), 2, stride=3, padding=1, ceil_mode=True)
pooling("padding that does not count", (1, 5, 4, 2), 3, stride=2, padding=1, count_include_pad=False)
pooling("ceil, padding that does not count", (1, 6, 6, 2), 3, 2, ((1, 0), (1, 1)), ceil_mode=True, count_include_pad=False)

for size in [(1, 1), (2, 3), (4, 5), (7, 6)]:
    case(
        "adaptive_avg_pool2d", f"to {size}", lambda x, size=size: F.adaptive_avg_pool2d(x, size),
        (2, 5, 5, 2), reference=lambda x, size=size: naive.adaptive_avg_pool2d(x, size),
    )  # fmt: skip

# Normalisation. alpha is near 1: with the paper's 1e-4 the term that matters would be lost in any tolerance.


def response(name, x, *constants):
    case(
        "local_response_norm", name, lambda x: F.local_response_norm(x, *constants),
        x, reference=lambda x: naive.local_response_norm(x, *constants),
    )  # fmt: skip


response("window of one", (3, 4), 1, 1.0, 0.75, 1.0)
response("the paper's 5, 3/4 and 2", (2, 2, 2, 9), 5, 1.0, 0.75, 2.0)
response("another power", (2, 2, 7), 3, 0.7, 0.6, 1.5)
response("a window larger than the channels", (4, 5), 11, 1.3, 0.75, 1.0)
response("two towers", (2, 2, 2, 8), 5, 1.0, 0.75, 2.0, 2)
response("three towers narrower than the window", (4, 9), 7, 1.0, 0.75, 2.0, 3)

for size in (1, 3, 5):
    case(
        "local_response_norm_within", f"window of {size}", lambda x, s=size: F.local_response_norm_within(x, s, 0.8, 0.75, 1.2),
        (1, 5, 4, 2), reference=lambda x, s=size: naive.local_response_norm_within(x, s, 0.8, 0.75, 1.2),
    )  # fmt: skip


def running(channels):
    """A running mean and variance that are not 0 and 1."""
    return Tensor(np.linspace(-1, 1, channels)), Tensor(np.linspace(0.5, 2, channels))


def evaluated(x, w=1.0, b=0.0):
    mean, variance = (t.numpy() for t in running(x.shape[-1]))
    return (x - mean) / np.sqrt(variance + 1e-5) * w + b


case(
    "batch_norm", "training", lambda x, w, b: F.batch_norm(x, *running(3), w, b, training=True),
    (2, 3, 3, 3), (3,), (3,), reference=lambda x, w, b: naive.batch_norm(x) * w + b,
)  # fmt: skip
case(
    "batch_norm", "training, large eps", lambda x: F.batch_norm(x, *running(2), training=True, eps=0.5),
    (6, 2), reference=lambda x: naive.batch_norm(x, eps=0.5),
)  # fmt: skip
case(
    "batch_norm", "evaluation", lambda x, w, b: F.batch_norm(x, *running(3), w, b),
    (2, 2, 2, 3), (3,), (3,), reference=evaluated,
)  # fmt: skip
case("batch_norm", "evaluation, no weight", lambda x: F.batch_norm(x, *running(3)), (4, 3), reference=evaluated)

# Activations

case("relu", "images", F.relu, (2, 3, 3, 2), reference=lambda x: np.where(x > 0, x, 0))
case("tanh", "images", F.tanh, (2, 3, 3, 2), reference=np.tanh)
case("sigmoid", "images", F.sigmoid, (2, 3, 3, 2), reference=lambda x: 1 / (1 + np.exp(-x)))
for axis in (-1, 0, 1):
    case(
        "softmax", f"axis {axis}", lambda x, axis=axis: F.softmax(x, axis),
        (3, 4, 2), reference=lambda x, axis=axis: np.apply_along_axis(naive.softmax, axis, x),
    )  # fmt: skip
    case(
        "log_softmax", f"axis {axis}", lambda x, axis=axis: F.log_softmax(x, axis),
        (3, 4, 2), reference=lambda x, axis=axis: np.log(np.apply_along_axis(naive.softmax, axis, x)),
    )  # fmt: skip

# Dropout: gradcheck holds the mask still, so only the gradient has a reference here

case("dropout", "inverted", lambda x: F.dropout(x, 0.5), (4, 10), reference=None)
case("dropout", "as in the paper", lambda x: F.dropout(x, 0.3, inverted=False), (4, 10), reference=None)
case("dropout", "test time", lambda x: F.dropout(x, 0.3, training=False), (4, 5), reference=lambda x: x)
case(
    "dropout", "test time, as in the paper", lambda x: F.dropout(x, 0.3, training=False, inverted=False),
    (4, 5), reference=lambda x: x * 0.7,
)  # fmt: skip

# Losses

LABELS = np.array([2, 0, 4, 2])
REDUCE = {"mean": np.mean, "sum": np.sum, "none": np.asarray}
for reduction, reduce in REDUCE.items():
    for smoothing in (0.0, 0.3):
        case(
            "cross_entropy", f"{reduction}, smoothing {smoothing}",
            lambda x, r=reduction, s=smoothing: F.cross_entropy(x, LABELS, label_smoothing=s, reduction=r),
            (4, 5), reference=lambda x, reduce=reduce, s=smoothing: reduce(naive.cross_entropy(x, LABELS, s)),
        )  # fmt: skip
    case(
        "nll_loss", reduction, lambda x, r=reduction: F.nll_loss(x, LABELS, reduction=r),
        (4, 5), reference=lambda x, reduce=reduce: reduce([-row[label] for row, label in zip(x, LABELS, strict=True)]),
    )  # fmt: skip
    case(
        "mse_loss", reduction, lambda x, y, r=reduction: F.mse_loss(x, y, reduction=r),
        (3, 4), (3, 4), reference=lambda x, y, reduce=reduce: reduce((x - y) ** 2),
    )  # fmt: skip

# Arrays

case("linear", "a square weight", F.linear, (3, 4), (4, 4), (4,), reference=lambda x, w, b: x @ w + b)
case("linear", "a batch", F.linear, (4, 3), (3, 5), (5,), reference=lambda x, w, b: x @ w + b)
case("linear", "more axes, no bias", F.linear, (2, 3, 4), (4, 2), reference=lambda x, w: x @ w)
case("linear", "relu", partial(F.linear, relu=True), (5, 3), (3, 4), (4,), reference=lambda x, w, b: above_zero(x @ w + b))
case("linear", "relu, more axes", partial(F.linear, relu=True), (2, 3, 4), (4, 2), (2,),
     reference=lambda x, w, b: above_zero(x @ w + b))  # fmt: skip
case("linear", "relu, no bias", partial(F.linear, relu=True), (4, 3), (3, 5), reference=lambda x, w: above_zero(x @ w))
case("flatten", "images", F.flatten, (2, 3, 2, 2), reference=lambda x: x.reshape(2, 12))
case("pad", "a value", lambda x: F.pad(x, [(1, 0), (2, 3)], 0.5), (2, 3),
     reference=lambda x: np.pad(x, [(1, 0), (2, 3)], constant_values=0.5))  # fmt: skip
for axis in (0, 1, -1):
    case("concatenate", f"axis {axis}", lambda a, b, axis=axis: F.concatenate([a, b, a], axis), (2, 3), (2, 3),
         reference=lambda a, b, axis=axis: np.concatenate([a, b, a], axis))  # fmt: skip
    case("stack", f"axis {axis}", lambda a, b, axis=axis: F.stack([a, b, a], axis), (2, 3), (2, 3),
         reference=lambda a, b, axis=axis: np.stack([a, b, a], axis))  # fmt: skip
case("where", "broadcast", lambda a, b: F.where(a > 0, a, b), (3, 4), (4,), reference=lambda a, b: np.where(a > 0, a, b))


def check_values(case: Case) -> None:
    """The operation in float64 on the default device against its definition."""
    normal = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(case.inputs)]
    rounded = [np.round(a) for a in normal]  # so that many are equal
    below = [-1 - abs(a) for a in normal]  # so that nothing is larger than a padding of 0
    for arrays in (normal, rounded, below):
        actual = case.f(*map(Tensor, arrays))
        assert actual.dtype == np.float64
        np.testing.assert_allclose(actual.numpy(), case.reference(*arrays), 1e-11, 1e-11, err_msg=str(case), strict=True)


def check_gradients(case: Case, order: int = 1) -> None:
    """No failure and no doubt: a warning would say that the check proves little."""

    def squared(*inputs):
        return case.f(*inputs) ** 2  # a linear operation has no second derivative; its square passes through all of its gradients

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the report as well
        report = gradcheck(case.f if order == 1 else squared, *case.inputs, order=order)
    assert report and not report.warnings, f"{case}\n{report!r}"


def check_recorded_gradients(case: Case) -> None:
    """With create_graph, where some operations have another formula, the gradients are the same as without."""
    arrays = [np.random.default_rng(i).standard_normal(shape) for i, shape in enumerate(case.inputs)]
    gradients = []
    for create_graph in (False, True):
        with backend.fixed_random(0):
            inputs = [Tensor(array, requires_grad=True) for array in arrays]
            result = case.f(*inputs)
        upstream = Tensor(np.random.default_rng(9).standard_normal(result.shape))
        gradients.append([g.numpy() for g in minidl.grad((result * upstream).sum(), inputs, create_graph)])
    for plain, recorded in zip(*gradients, strict=True):
        np.testing.assert_allclose(recorded, plain, 1e-11, 1e-11, err_msg=str(case))
