"""The checks are themselves checked: bugs that people really make are planted one by one, and a check of the suite must find each.

Every bug is silent: shapes and dtypes stay what they should be, only numbers are wrong. The same checks pass without the bug.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from kernels.pieces import in_pieces
from ops import test_activation, test_dropout, test_loss, test_normalization, test_pooling
from ops.checks import CASES, Case, check_gradients, check_recorded_gradients, check_values

import minidl.functional as F
from minidl import is_grad_enabled
from minidl.core.arithmetic import Divide
from minidl.core.indexing import PutItem
from minidl.core.matmul import MatMul
from minidl.core.shape import SumTo
from minidl.function import Function
from minidl.kernels import convolution, cross_entropy, elementwise, im2col, lrn, pooling
from minidl.kernels.window import Window
from minidl.ops import activation, conv, loss, normalization
from minidl.ops import pooling as pooling_operations
from minidl.ops.bias import BiasGradient
from minidl.ops.linear import Linear
from minidl.tensor import ones_like, wrap

# The checks of the suite


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[], None]


def values(operation: str, name: str) -> Check:
    """Against the loops of `naive.py`."""
    case = found(operation, name)
    return Check(f"values, {case}", lambda: check_values(case))


def values_in_pieces(operation: str, name: str) -> Check:
    """The same while the work is cut into tiny pieces, as it is for large images."""

    def run():
        with in_pieces(1):
            check_values(case)

    case = found(operation, name)
    return Check(f"values in pieces, {case}", run)


def gradients(operation: str, name: str) -> Check:
    """Against finite differences."""
    case = found(operation, name)
    return Check(f"gradients, {case}", lambda: check_gradients(case))


def second(operation: str, name: str) -> Check:
    """The derivatives of the gradients against finite differences."""
    case = found(operation, name)
    return Check(f"second derivatives, {case}", lambda: check_gradients(case, order=2))


def recorded(operation: str, name: str) -> Check:
    """The gradients with create_graph against those without."""
    case = found(operation, name)
    return Check(f"recorded gradients, {case}", lambda: check_recorded_gradients(case))


def the(test: Callable[..., None], *arguments: Any) -> Check:
    """A single test of the suite, on the CPU."""
    return Check(f"{test.__name__}{arguments}", lambda: test("cpu", *arguments))


def found(operation: str, name: str) -> Case:
    return next(case for case in [*CASES, TAKEN_TWICE, SQUARE] if (case.operation, case.name) == (operation, name))


SQUARE = Case("matmul", "a square matrix", lambda a, b: a @ b, ((3, 4), (4, 4)), lambda a, b: a @ b)
TAKEN_TWICE = Case("indexing", "an element taken twice", lambda x: x[[0, 2, 2]] ** 2, ((4, 2),), lambda x: x[[0, 2, 2]] ** 2)

# The bugs


@dataclass
class Bug:
    name: str
    places: list[tuple[Any, str]]  # the objects, and the names in them, of the function that is replaced
    broken: Callable[[Any], Any]  # from the real function to a broken one
    checks: tuple[Check, ...]  # each of them must find it
    error: type[Exception] = AssertionError


BUGS: list[Bug] = []


def bug(name, places, broken, *checks, error=AssertionError):
    BUGS.append(Bug(name, places if isinstance(places, list) else [places], broken, checks, error))


# Convolution

CONV2D, INPUT, WEIGHT = ((convolution, name) for name in ("conv2d", "input_gradient", "weight_gradient"))
COL2IM = [(im2col, "col2im"), (convolution, "col2im")]

bug("convolution: rows and columns of the weights exchanged", CONV2D,
    lambda real: lambda x, w, *rest: real(x, w.transpose(1, 0, 2, 3), *rest), values("conv2d", "bias"))  # fmt: skip
bug("convolution: the kernel flipped, as mathematicians do", CONV2D,
    lambda real: lambda x, w, *rest: real(x, w[::-1, ::-1], *rest), values("conv2d", "bias"))  # fmt: skip
bug("convolution: the window one pixel off", CONV2D,
    lambda real: lambda x, *rest: real(np.roll(x, 1, axis=1), *rest), values("conv2d", "bias"))  # fmt: skip
bug("convolution: the bias forgotten", CONV2D,
    lambda real: lambda x, w, bias, *rest: real(x, w, None, *rest), values("conv2d", "bias"))  # fmt: skip
bug("convolution: a tower reads the channels of its neighbour", CONV2D,
    lambda real: lambda x, *rest: real(np.roll(x, x.shape[3] // rest[3], axis=3), *rest),
    values("conv2d", "two towers"))  # fmt: skip
bug("convolution: dilation ignored", (Window, "view"),
    lambda real: lambda self, *rest: real(replace(self, dilation=(1, 1)), *rest), values("conv2d", "dilation"))  # fmt: skip
bug("convolution: stride ignored along the columns", (Window, "view"),
    lambda real: lambda self, *rest: real(replace(self, stride=(self.stride[0], 1)), *rest), values("conv2d", "stride"))  # fmt: skip
bug("convolution: padding on the other sides", (Window, "padded"),
    lambda real: lambda self, x, *rest, **options: real(
        replace(self, padding=(self.padding[0][::-1], self.padding[1][::-1])), x, *rest, **options),
    values("conv2d", "padding at the bottom and the right"))  # fmt: skip
bug("convolution: every band of a large image sees its first rows", (Window, "padded"),
    lambda real: lambda self, x, fill=0.0, rows=None: real(
        self, x, fill, None if rows is None else slice(0, rows.stop - rows.start)),
    values_in_pieces("conv2d", "bias"))  # fmt: skip
bug("convolution: no gradient for the bias", (conv.Conv2d, "backward"),
    lambda real: lambda self, gradient: (*real(self, gradient)[:2], None), gradients("conv2d", "bias"))  # fmt: skip
bug("convolution: the gradient of the bias a mean", (conv.Conv2d, "backward"),
    lambda real: lambda self, gradient: (*real(self, gradient)[:2], gradient.mean((0, 1, 2))), gradients("conv2d", "bias"))  # fmt: skip
bug("weight gradient: of the last image only, not accumulated", WEIGHT,
    lambda real: lambda x, dy, *rest: real(x[-1:], dy[-1:], *rest), gradients("conv2d", "bias"))  # fmt: skip
bug("weight gradient: transposed", WEIGHT,
    lambda real: lambda *inputs: real(*inputs).transpose(1, 0, 2, 3), gradients("conv2d", "bias"))  # fmt: skip
bug("weight gradient: of another tower", WEIGHT,
    lambda real: lambda x, dy, window, groups: real(x, np.roll(dy, dy.shape[3] // groups, axis=3), window, groups),
    gradients("conv2d", "two towers"), gradients("conv2d", "depthwise"))  # fmt: skip
bug("weight gradient: a mean over the batch", WEIGHT,
    lambda real: lambda x, *rest: real(x, *rest) / len(x), gradients("conv2d", "bias"))  # fmt: skip
bug("input gradient: the kernel not turned", (convolution, "_turned"),
    lambda real: lambda weight, groups: real(weight[::-1, ::-1], groups), gradients("conv2d", "bias"))  # fmt: skip
bug("input gradient: one pixel off", INPUT,
    lambda real: lambda *inputs: np.roll(real(*inputs), 1, axis=2), gradients("conv2d", "no bias"))  # fmt: skip
bug("input gradient: its own derivative forgotten", (conv.InputGradient, "backward"),
    lambda real: lambda self, gradient: (real(self, gradient)[0], None), second("conv2d", "bias"))  # fmt: skip
bug("col2im: stride ignored", COL2IM,
    lambda real: lambda cols, window, *size: real(cols, replace(window, stride=(1, 1)), *size),
    values("col2im", "stride"), gradients("im2col", "stride"), gradients("conv2d", "stride"))  # fmt: skip
bug("col2im: dilation ignored", COL2IM,
    lambda real: lambda cols, window, *size: real(cols, replace(window, dilation=(1, 1)), *size),
    values("col2im", "dilation"), gradients("im2col", "dilation"))  # fmt: skip


def not_cropped(real):
    def col2im(cols, window, height, width):
        (top, bottom), (left, right) = window.padding
        return real(cols, replace(window, padding=((0, top + bottom), (0, left + right))), height, width)

    return col2im


def overwriting(real):
    def col2im(cols, window, height, width):
        (n, rows, columns, size), (kh, kw), ((top, bottom), (left, right)) = cols.shape, window.kernel, window.padding
        image = np.zeros((n, height + top + bottom, width + left + right, size // (kh * kw)))
        for k, target in enumerate(window.taps(image, rows, columns)):
            target[...] = cols.reshape(n, rows, columns, kh * kw, -1)[:, :, :, k]
        return image[:, top : top + height, left : left + width]

    return col2im


bug("col2im: the padding not cropped", COL2IM, not_cropped, values("col2im", "padding"), gradients("im2col", "padding"))
bug("col2im: where patches overlap the last one wins", COL2IM, overwriting,
    values("col2im", "overlapping"), gradients("im2col", "overlapping"))  # fmt: skip

# Pooling


class AllMaxima(pooling_operations.MaxPool2d):
    """Every one of equal maxima receives the gradient."""

    def forward(self, x):
        self.x, self.y = x, super().forward(x)
        return self.y

    def backward(self, gradient):
        dx = np.zeros(self.x.shape)
        pairs = zip(self.window.taps(dx, *self.y.shape[1:3]), self.window.taps(self.x, *self.y.shape[1:3]), strict=True)
        for target, tap in pairs:
            target += gradient.numpy() * (tap == self.y)
        return wrap(dx)


def last_maximum(real):
    def max_pool(x, window):
        y, position = real(x, window)
        for k, tap in enumerate(window.taps(window.padded(x, -np.inf), *y.shape[1:3])):
            position[tap == y] = k
        return y, position

    return max_pool


def begins_outside(real):
    def overhang(size, kernel, stride, padding):
        before, after = padding
        places = -(-(size + before + after - kernel) // stride) + 1
        return before, max(after, (places - 1) * stride + kernel - size - before)

    return overhang


bug("max pooling: padded with 0", (Window, "padded"),
    lambda real: lambda self, x, fill=0.0, rows=None: real(self, x, 0.0, rows),
    values("max_pool2d", "padding"), the(test_pooling.test_padding_never_wins_a_maximum))  # fmt: skip
bug("max pooling: the gradient to all of equal maxima", (pooling_operations, "MaxPool2d"), lambda real: AllMaxima,
    the(test_pooling.test_of_equal_maxima_the_first_takes_the_whole_gradient))  # fmt: skip
bug("max pooling: the gradient to the last of equal maxima", (pooling, "max_pool"), last_maximum,
    the(test_pooling.test_of_equal_maxima_the_first_takes_the_whole_gradient))  # fmt: skip
bug("max pooling: NaN swallowed", (pooling, "max_pool"),
    lambda real: lambda x, window: real(np.where(np.isnan(x), -np.inf, x), window),
    the(test_pooling.test_a_nan_is_not_swallowed))  # fmt: skip
bug("max pooling: the last pixel of the window forgotten", (Window, "taps"),
    lambda real: lambda self, *rest: real(self, *rest)[:-1], values("max_pool2d", "next to each other"),
    values("avg_pool2d", "next to each other"))  # fmt: skip
bug("max pooling: the gradient to a neighbour of the maximum", (pooling, "max_pool_backward"),
    lambda real: lambda dy, position, window, *size: real(dy, position ^ 1, window, *size),
    gradients("max_pool2d", "next to each other"))  # fmt: skip
bug("max pooling: its gradient has no derivative", (pooling_operations.MaxPool2dBackward, "backward"),
    lambda real: lambda self, gradient: None, second("max_pool2d", "next to each other"))  # fmt: skip
bug("pooling: a last window that begins outside", (pooling_operations, "_overhang"), begins_outside,
    values("max_pool2d", "a window that would begin outside"))  # fmt: skip
bug("average pooling: count_include_pad ignored", (F, "avg_pool2d"),
    lambda real: lambda *inputs, count_include_pad=True: real(*inputs),
    values("avg_pool2d", "padding that does not count"))  # fmt: skip
bug("average pooling: the overhang of ceil_mode counted", (pooling_operations, "_counted"),
    lambda real: lambda size, kernel, *rest: np.full_like(real(size, kernel, *rest), kernel), values("avg_pool2d", "ceil"))  # fmt: skip
bug("average pooling: a sum", (pooling_operations, "_counted"),
    lambda real: lambda *inputs: np.ones_like(real(*inputs)), values("avg_pool2d", "next to each other"))  # fmt: skip
bug("average pooling: the gradient not divided", (pooling_operations.SumPool2d, "backward"),
    lambda real: lambda self, gradient: real(self, gradient) * 4, gradients("avg_pool2d", "next to each other"))  # fmt: skip

# Normalisation

PAPER, TOWERS = "the paper's 5, 3/4 and 2", "two towers"


def response_gradient(x, g, size, alpha, beta, k, groups, cross=1.0):
    """The derivative of local response normalisation, with the term across channels as large as wanted."""
    s = k + alpha * lrn.window_sum(x * x, size, groups)
    return g * s**-beta - cross * 2 * alpha * beta * x * lrn.window_sum(g * x * s ** (-beta - 1), size, groups)


def recorded_without_cross_term(real):
    def backward(self, gradient):
        (x,) = self.inputs
        if not is_grad_enabled():
            return real(self, gradient)
        return gradient * (self.k + self.alpha * normalization.window_sum(x * x, self.size, self.groups)) ** -self.beta

    return backward


def batch_norm_without(mean_term=True, variance_term=True):
    """Batch normalisation of which the gradient treats the mean or the variance of the batch as a constant."""

    def plant(real):
        def batch_norm(x, running_mean, running_var, weight, bias, training, eps=1e-5):
            others = tuple(range(x.ndim - 1))
            mean = x.mean(others)
            centred = x - (mean if mean_term else mean.detach())
            variance = (centred * centred).mean(others)
            return centred / ((variance if variance_term else variance.detach()) + eps).sqrt() * weight + bias

        return batch_norm

    return plant


def biased_running_variance(real):
    def batch_norm(x, running_mean, running_var, training, momentum):
        kept = (1 - momentum) * running_var.numpy()
        y = real(x, running_mean, running_var, training=training, momentum=momentum)
        count = x.size // x.shape[-1]
        running_var.data = kept + (running_var.numpy() - kept) * (count - 1) / count
        return y

    return batch_norm


for name, cross in [
    ("the term across channels dropped", 0.0),
    ("the term across channels added", -1.0),
    ("a factor of 2 lost", 0.5),
]:
    bug(f"response normalisation: {name}", (lrn, "lrn_backward"),
        lambda real, cross=cross: lambda *inputs: response_gradient(*inputs, cross=cross),
        gradients("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation: the term across channels dropped where it is recorded", (normalization.LocalResponseNorm, "backward"),
    recorded_without_cross_term, recorded("local_response_norm", PAPER), second("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation: the window crosses towers", (lrn, "lrn"),
    lambda real: lambda *inputs: real(*inputs[:-1], 1), values("local_response_norm", TOWERS))  # fmt: skip
bug("response normalisation: the window crosses towers on the way back", (lrn, "lrn_backward"),
    lambda real: lambda *inputs: real(*inputs[:-1], 1), gradients("local_response_norm", TOWERS))  # fmt: skip
bug("response normalisation: the window too small", (lrn, "lrn"),
    lambda real: lambda x, size, *rest: real(x, size - 2, *rest), values("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation: the window too small on the way back", (lrn, "lrn_backward"),
    lambda real: lambda x, g, size, *rest: real(x, g, size - 2, *rest), gradients("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation: alpha divided by the size", (lrn, "lrn"),
    lambda real: lambda x, size, alpha, *rest: real(x, size, alpha / size, *rest), values("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation: the shortcut for 3/4 is a plain root", (lrn, "power"),
    lambda real: lambda s, beta: s**0.5 if beta == 0.75 else real(s, beta), values("local_response_norm", PAPER))  # fmt: skip
bug("response normalisation within maps: the window not centred", (normalization, "sum_pool2d"),
    lambda real: lambda x, window: real(x, replace(window, padding=((window.kernel[0] - 1, 0), (window.kernel[1] - 1, 0)))),
    values("local_response_norm_within", "window of 3"))  # fmt: skip
bug("batch normalisation: a gradient without the mean's term", (F, "batch_norm"), batch_norm_without(mean_term=False),
    gradients("batch_norm", "training"))  # fmt: skip
bug("batch normalisation: a gradient without the variance's term", (F, "batch_norm"), batch_norm_without(variance_term=False),
    gradients("batch_norm", "training"))  # fmt: skip
bug("batch normalisation: the batch's own values in evaluation", (F, "batch_norm"),
    lambda real: lambda *inputs: real(*inputs, training=True), values("batch_norm", "evaluation"))  # fmt: skip
bug("batch normalisation: the running variance biased", (F, "batch_norm"), biased_running_variance,
    the(test_normalization.test_the_running_values_move_towards_those_of_the_batch, 0.1))  # fmt: skip

# Activations


def exponentials(self, x):
    return np.exp(x) / np.exp(x).sum(axis=self.axis, keepdims=True)


bug("relu: a gradient on the negative side", (elementwise, "relu_backward"),
    lambda real: lambda y, gradient: gradient.copy(), gradients("relu", "images"))  # fmt: skip
bug("relu: a gradient on the negative side where it is recorded", (activation.ReLU, "backward"),
    lambda real: lambda self, gradient: gradient * 1.0 if is_grad_enabled() else real(self, gradient),
    recorded("relu", "images"))  # fmt: skip
bug("relu: NaN swallowed", (elementwise, "relu"),
    lambda real: lambda x: np.fmax(x, 0), the(test_activation.test_relu_at_zero_nan_and_infinity))  # fmt: skip
bug("tanh: the derivative 1 - y", (activation.Tanh, "backward"),
    lambda real: lambda self, gradient: gradient * (1.0 - self.output), gradients("tanh", "images"))  # fmt: skip
bug("sigmoid: overflow", (activation.Sigmoid, "forward"),
    lambda real: lambda self, x: 1 / (1 + np.exp(-x)),
    the(test_activation.test_sigmoid_and_tanh_of_large_numbers, np.float64), error=FloatingPointError)  # fmt: skip
bug("softmax: overflow for want of the shift", (activation.Softmax, "forward"), lambda real: exponentials,
    the(test_activation.test_softmax_never_overflows, -1, np.float64), error=FloatingPointError)  # fmt: skip
bug("log_softmax: the logarithm of a probability that rounds to 0", (activation.LogSoftmax, "forward"),
    lambda real: lambda self, x: np.log(activation.Softmax(self.axis).forward(x)),
    the(test_activation.test_softmax_never_overflows, -1, np.float64), error=FloatingPointError)  # fmt: skip
bug("softmax: always the last axis", (activation.Softmax, "forward"),
    lambda real: lambda self, x: real(activation.Softmax(-1), x), values("softmax", "axis 0"))  # fmt: skip
bug("softmax: a derivative without the sum", (activation.Softmax, "backward"),
    lambda real: lambda self, gradient: gradient * self.output * (1.0 - self.output), gradients("softmax", "axis -1"))  # fmt: skip
bug("log_softmax: a mean for the sum in the derivative", (activation.LogSoftmax, "backward"),
    lambda real: lambda self, gradient: gradient - self.output.exp() * gradient.mean(self.axis, keepdims=True),
    gradients("log_softmax", "axis -1"))  # fmt: skip

# Dropout


def mask_not_applied_backwards(real):
    def dropout(x, *rest, **options):
        return x + (real(x, *rest, **options) - x).detach()

    return dropout


def another_mask_backwards(real):
    def dropout(x, *rest):
        other = real(x, *rest)
        return real(x, *rest).detach() + other - other.detach()

    return dropout


bug("dropout: the mask not applied to the gradient", (F, "dropout"), mask_not_applied_backwards,
    gradients("dropout", "inverted"), the(test_dropout.test_the_gradient_goes_through_the_same_mask, True))  # fmt: skip
bug("dropout: a new mask for the gradient", (F, "dropout"), another_mask_backwards, gradients("dropout", "inverted"))
bug("dropout: kept with probability p", (F, "dropout"),
    lambda real: lambda x, p, **options: real(x, 1 - p, **options),
    the(test_dropout.test_in_training_an_element_is_dropped_or_scaled, True, 1 / (1 - test_dropout.P)))  # fmt: skip
bug("dropout: survivors not scaled", (F, "dropout"),
    lambda real: lambda x, p, training=True, inverted=True: real(x, p, training, inverted and not training),
    the(test_dropout.test_training_and_test_time_have_the_same_expectation, True))  # fmt: skip
bug("dropout: at test time multiplied by p", (F, "dropout"),
    lambda real: lambda x, p, training, inverted: real(x, 1 - p, training, inverted),
    values("dropout", "test time, as in the paper"))  # fmt: skip

# Losses


def unsmoothed(real):
    def backward(self, gradient):
        self.smoothing = 0.0
        return real(self, gradient)

    return backward


def next_label(real):
    def forward(self, logits):
        self.labels = (self.labels + 1) % logits.shape[1]
        return real(self, logits)

    return forward


PLAIN, SMOOTHED = "mean, smoothing 0.0", "mean, smoothing 0.3"
bug("cross-entropy: overflow for want of the shift", (cross_entropy, "_shifted"), lambda real: lambda scores: scores,
    the(test_loss.test_cross_entropy_is_finite_for_logits_of_any_size, np.float64, 0.1), error=FloatingPointError)  # fmt: skip
bug("cross-entropy: label smoothing dropped in the gradient", (loss.CrossEntropyBackward, "__init__"),
    lambda real: lambda self, labels, smoothing: real(self, labels, 0.0), gradients("cross_entropy", SMOOTHED))  # fmt: skip
bug("cross-entropy: label smoothing dropped in the gradient of the gradient", (loss.CrossEntropyBackward, "backward"), unsmoothed,
    second("cross_entropy", SMOOTHED))  # fmt: skip
bug("cross-entropy: label smoothing dropped in the loss", (loss.CrossEntropy, "__init__"),
    lambda real: lambda self, labels, smoothing: real(self, labels, 0.0), values("cross_entropy", SMOOTHED))  # fmt: skip
bug("cross-entropy: labels off by one", (loss.CrossEntropy, "forward"), next_label, values("cross_entropy", PLAIN))
bug("cross-entropy: 1 / N missing in the gradient", (loss.CrossEntropy, "backward"),
    lambda real: lambda self, gradient: real(self, ones_like(gradient)), gradients("cross_entropy", PLAIN))  # fmt: skip
bug("losses: a sum for the mean", (loss, "_reduced"),
    lambda real: lambda name, losses, reduction: losses.sum(),
    values("cross_entropy", PLAIN), values("nll_loss", "mean"), values("mse_loss", "mean"))  # fmt: skip
bug("losses: a mean for the sum", (loss, "_reduced"),
    lambda real: lambda name, losses, reduction: losses.mean(), values("mse_loss", "sum"), values("nll_loss", "sum"))  # fmt: skip
bug("nll_loss: the sign", (F, "nll_loss"),
    lambda real: lambda *inputs, **options: -real(*inputs, **options), values("nll_loss", "mean"))  # fmt: skip

# The engine


def overwrites(real):
    def input_gradients(self, gradient):
        return {id(tensor): (tensor, g) for tensor, g in real(self, gradient)}.values()

    return input_gradients


def last_one_wins(self, x):
    zeros = np.zeros(self.shape, x.dtype)
    zeros[self.index] = x
    return zeros


def not_transposed(self, gradient):
    a, b, *bias = self.inputs
    return MatMul()(gradient, b), MatMul()(a.T, gradient), *(BiasGradient(x.dtype)(gradient) for x in bias)


bug("a tensor used twice by an operation: the second gradient replaces the first", (Function, "input_gradients"), overwrites,
    gradients("mse_loss", "mean"), gradients("batch_norm", "training"))  # fmt: skip
bug("an element taken twice: the second gradient replaces the first", (PutItem, "forward"), lambda real: last_one_wins,
    gradients("indexing", "an element taken twice"))  # fmt: skip
bug("broadcasting: the gradient averaged and not summed", (SumTo, "forward"),
    lambda real: lambda self, x: real(self, x) * (np.prod(self.shape) / x.size), gradients("where", "broadcast"))  # fmt: skip
bug("broadcasting: the gradient not summed", (SumTo, "forward"), lambda real: lambda self, x: x,
    gradients("where", "broadcast"), error=RuntimeError)  # the engine looks at the shapes  # fmt: skip
bug("bias: the gradient averaged and not summed", (BiasGradient, "forward"),
    lambda real: lambda self, x: real(self, x) / (x.size / x.shape[-1]), gradients("linear", "a batch"))  # fmt: skip
bug("matrix product: the matrix not transposed in the gradient", (MatMul, "backward"), lambda real: not_transposed,
    gradients("matmul", "a square matrix"))  # fmt: skip
bug("linear: the matrix not transposed in the gradient", (Linear, "backward"), lambda real: not_transposed,
    gradients("linear", "a square weight"))  # fmt: skip
bug("division: the sign of the denominator's gradient", (Divide, "backward"),
    lambda real: lambda self, gradient: tuple(
        g if i == 0 or g is None else -g for i, g in enumerate(real(self, gradient))),
    gradients("batch_norm", "training"))  # fmt: skip


@pytest.mark.parametrize("bug, check", [pytest.param(b, c, id=f"{b.name} [{c.name}]") for b in BUGS for c in b.checks])
def test_a_planted_bug_is_found(monkeypatch, bug, check):
    for place, name in bug.places:
        monkeypatch.setattr(place, name, bug.broken(getattr(place, name)))
    with pytest.raises(bug.error):
        check.run()


CHECKS = {check.name: check for bug in BUGS for check in bug.checks}


@pytest.mark.parametrize("name", CHECKS)
def test_the_same_check_passes_without_the_bug(name):
    CHECKS[name].run()


def test_the_stand_in_for_the_gradient_of_response_normalisation_is_sound():
    """So that the bugs planted in it are all that is wrong with it."""
    x, g = np.random.default_rng(0).standard_normal((2, 4, 8))
    constants = 5, 1.0, 0.75, 2.0, 2
    np.testing.assert_allclose(response_gradient(x, g, *constants), lrn.lrn_backward(x, g, *constants), rtol=1e-12)


def test_the_stand_in_for_batch_normalisation_is_sound(monkeypatch):
    monkeypatch.setattr(F, "batch_norm", batch_norm_without()(F.batch_norm))
    check_values(found("batch_norm", "training"))
    check_gradients(found("batch_norm", "training"))


def test_there_are_many_bugs_with_different_names():
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 24
