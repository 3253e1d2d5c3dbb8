"""The gradient checker passes what is right, fails what is wrong, says where it cannot tell, and leaves no trace."""

import re
import warnings

import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Function, Tensor, backend, gradcheck, nn

pytestmark = pytest.mark.filterwarnings("error:gradcheck")  # a warning fails the test that does not expect it


def square_with(derivative):
    """x ** 2 with a derivative of one's own."""

    class Square(Function):
        def forward(self, x):
            return x * x

        def backward(self, gradient):
            return gradient * derivative(self.inputs[0])

    return lambda x: Square()(x)


right, half, negative = square_with(lambda x: 2 * x), square_with(lambda x: x), square_with(lambda x: -2 * x)


class Broken(nn.Module):
    """A sum with a parameter, whose gradient is right but for a few elements."""

    def __init__(self, size, error):
        class Plus(Function):
            def forward(self, x, w):
                return x * w

            def backward(self, gradient):
                x, w = self.inputs
                return gradient * w, gradient * x * Tensor(1 + error)

        self.weight, self.plus = nn.Parameter(np.ones(size)), Plus

    def forward(self, x):
        return self.plus()(x, self.weight)


# What passes and what fails


@pytest.mark.parametrize("order", [1, 2])
def test_sound_functions_pass(device, order):
    assert gradcheck(right, (3, 4), order=order)
    assert gradcheck(
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1, groups=2).exp(), (1, 4, 4, 2), (3, 3, 1, 2), (2,), order=order
    )
    assert gradcheck(lambda x: F.cross_entropy(x, [1, 0]), (2, 3), order=order)


def test_inputs_may_be_shapes_arrays_tensors_lists_or_numbers(device):
    seen = []

    def f(*inputs):
        seen[:] = [type(t) for t in inputs]
        return sum((t * t).sum() for t in inputs)

    report = gradcheck(f, (2, 3), (), np.ones((2, 2), np.float32), Tensor([1.0, 2.0]), [3.0, 4.0], 5.0)
    assert report and seen == [Tensor] * 6
    assert [row.shape for row in report.rows] == [(2, 3), (), (2, 2), (2,), (2,), ()]


@pytest.mark.parametrize("wrong", [half, negative, square_with(lambda x: 2 * x + 1e-3), square_with(lambda x: x * 0.0)])
def test_wrong_derivatives_fail(device, wrong):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = gradcheck(wrong, (3, 4))
    assert not report and report.rows[0].failures == 12
    assert "DISAGREE" in repr(report) and "12 WRONG" in repr(report)


def test_a_constant_factor_is_recognised():
    text = repr(gradcheck(half, (3, 4)))
    assert "analytic / numeric = 0.5 at every failure: a constant factor is wrong" in text
    assert "constant factor" not in repr(gradcheck(square_with(lambda x: 2 * x + 1), (3, 4)))


def test_the_upstream_gradient_is_random():
    """Summed with ones, the gradient of a softmax is zero: a checker that did so would pass anything of the kind."""

    class Softmax(Function):
        def forward(self, x):
            return np.exp(x) / np.exp(x).sum()

        def backward(self, gradient):
            return gradient - gradient.mean()  # wrong, but right for a gradient of ones

    assert not gradcheck(lambda x: Softmax()(x), (5,))


def test_a_gradient_of_zero_fails_where_there_is_one():
    with pytest.warns(UserWarning, match="its gradient is zero everywhere"):
        assert not gradcheck(lambda x: x.detach() * 2, (3,))


def test_a_result_of_several_tensors():
    assert gradcheck(lambda x: (x * 2, [x][0].exp()), (3,))
    assert not gradcheck(lambda x: (x * 2, half(x)), (3,))


def test_the_second_order_finds_a_wrong_second_derivative():
    class Cube(Function):
        def forward(self, x):
            return x**3

        def backward(self, gradient):
            (x,) = self.inputs
            return gradient * 3 * x.detach() * x  # the value is right, but half of its own derivative is lost

    assert gradcheck(lambda x: Cube()(x), (4,))
    assert not gradcheck(lambda x: Cube()(x), (4,), order=2)


def test_the_second_order_finds_a_recorded_gradient_that_differs_from_the_fast_one():
    """Where an operation has two formulas for its gradient, one to be differentiated again, the two must agree."""

    class Cube(Function):
        def forward(self, x):
            return x**3

        def backward(self, gradient):
            (x,) = self.inputs
            return gradient * x * x * (2 if minidl.is_grad_enabled() else 3)

    assert gradcheck(lambda x: Cube()(x), (4,))
    assert not gradcheck(lambda x: Cube()(x), (4,), order=2)


@pytest.mark.parametrize("size", [100, 101])
def test_small_tensors_are_checked_element_by_element_large_ones_also_along_projections(size):
    (weight, _) = sorted(
        gradcheck(Broken(size, np.zeros(size)), np.arange(1.0, size + 1)).rows, key=lambda row: row.name != "weight"
    )
    assert (weight.elements, weight.projections) == ((100, 0) if size == 100 else (32, 8))
    assert weight.failures == 0


@pytest.mark.parametrize("size", [100, 400])
def test_one_wrong_element_is_found_among_many(size):
    """Of 400 elements 32 are looked at, so it is a projection that finds it."""
    for element in (0, 57, size - 1):
        error = np.zeros(size)
        error[element] = 0.1
        assert not gradcheck(Broken(size, error), np.ones(size))


# Modules


class Everything(nn.Module):
    """Parameters in two dtypes, one of them frozen; buffers that training writes; dropout."""

    def __init__(self):
        self.norm, self.dropout = nn.BatchNorm(3), nn.Dropout(0.4)
        self.weight = nn.Parameter(np.linspace(-1, 1, 6).reshape(3, 2))
        self.frozen = nn.Parameter(np.array([0.5, 2], np.float32), requires_grad=False)

    def forward(self, x):
        return F.tanh(self.dropout(self.norm(x)) @ self.weight * self.frozen)


def state(module):
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, t.dtype, t.numpy().tobytes(), t.grad, id(t)) for name, t in tensors]


def test_a_module_is_checked_in_float64_and_left_as_it_was(device):
    module, x = Everything(), Tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    module(x).sum().backward()  # so that there are gradients and running values to keep
    before = state(module)
    report = gradcheck(module, x)
    assert report and {row.name for row in report.rows} == {"x", "norm.weight", "norm.bias", "weight"}
    assert state(module) == before and module.weight.dtype == np.float64 and module.norm.weight.dtype == np.float32


def test_random_numbers_go_on_as_if_it_had_not_been(device):
    def five_numbers():
        return backend.to_device(backend.generator(device).random(5), "cpu").tolist()

    minidl.manual_seed(3)
    expected = five_numbers() + five_numbers()
    minidl.manual_seed(3)
    first = five_numbers()
    gradcheck(lambda x: F.dropout(x, 0.5), (4, 4))
    assert first + five_numbers() == expected


def test_everything_is_restored_when_the_function_raises(device):
    module = Everything()
    calls = []

    class Failing(nn.Module):
        def __init__(self):
            self.inner = module

        def forward(self, x):
            calls.append(x)
            if len(calls) == 5:
                raise RuntimeError("enough")
            return self.inner(x)

    x = Tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    module(x).sum().backward()
    before, kept, values = state(module), backend.generator(x.device), x.numpy()
    with pytest.raises(RuntimeError, match="enough"):
        gradcheck(Failing(), x)
    assert state(module) == before and backend.generator(x.device) is kept
    assert np.array_equal(x.numpy(), values) and x.grad is None


def test_any_object_with_named_parameters_is_a_module():
    class Scale:
        def __init__(self):
            self.weight, self.count = Tensor([2.0, 3.0], requires_grad=True), Tensor(np.array(7))

        def named_parameters(self):
            return [("weight", self.weight)]

        def named_buffers(self):
            return [("count", self.count)]

        def __call__(self, x):
            self.count.data = self.count.data + 1
            return x * self.weight

    scale = Scale()
    report = gradcheck(scale, (3, 2))
    assert report and [row.name for row in report.rows] == ["x", "weight"] and report.name == "Scale"
    assert scale.count.item() == 7 and scale.count.dtype == np.int64 and scale.weight.dtype == np.float32


def test_a_frozen_parameter_is_not_checked_and_a_module_without_floating_inputs_is():
    class Embedding(nn.Module):
        def __init__(self):
            self.table, self.scale = nn.Parameter(np.ones((4, 2))), nn.Parameter(np.ones(2), requires_grad=False)

        def forward(self, indices):
            return self.table[indices] * self.scale

    report = gradcheck(Embedding(), np.array([0, 3, 3]))
    assert report and [row.name for row in report.rows] == ["table"]


def test_dropout_masks_stay_the_same_in_every_evaluation(device):
    report = gradcheck(lambda x: F.dropout(x, 0.5), (6, 6))
    assert report


def test_a_graph_made_outside_is_not_freed():
    outside = Tensor([1.0, 2.0], requires_grad=True)
    doubled = outside.astype("float64") * 2
    assert gradcheck(lambda x: x * x * doubled, (2,), order=2)
    doubled.sum().backward()
    assert outside.grad.numpy().tolist() == [2, 2]


# Kinks


def absolute(at_zero):
    """|x| by `where`, with the slope `at_zero` in the kink."""

    class Absolute(Function):
        def forward(self, x):
            return abs(x)

        def backward(self, gradient):
            (x,) = self.inputs
            sign = F.where(x > 0, 1.0, F.where(x < 0, x * 0 - 1.0, at_zero))
            return gradient * sign

    return lambda x: Absolute()(x)


ABSOLUTE_BY_WHERE = lambda x: F.where(x > 0, x, -x)  # noqa: E731
KINKS = {
    "relu": (F.relu, [0.0, 1.0, -1.0]),
    "relu, a little aside": (F.relu, [3e-7, 1.0, -4e-7]),
    "|x|": (ABSOLUTE_BY_WHERE, [0.0, 1.0, -1.0]),
    "max pooling": (lambda x: F.max_pool2d(x, 2), np.array([1.0, 3, 3, 2]).reshape(1, 2, 2, 1)),
    "max": (lambda x: x.max(), [1.0, 3.0, 3.0]),
}


@pytest.mark.parametrize("f, x", KINKS.values(), ids=KINKS)
def test_a_kink_is_recognised_and_said(device, f, x):
    report = gradcheck(f, x)
    assert report and sum(row.kinks for row in report.rows) >= 1
    assert "at a kink" in repr(report)


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 1.0])
def test_any_slope_between_the_two_sides_passes(slope):
    assert gradcheck(absolute(slope), [0.0, 1.0, -2.0])


@pytest.mark.parametrize("slope", [-1.01, 1.5, 100.0, np.nan])
def test_at_a_kink_a_slope_outside_the_two_sides_fails(slope):
    report = gradcheck(absolute(slope), [0.0, 1.0, -2.0])
    assert not report and report.rows[0].failures == 1 and report.rows[0].worst[0] == "(0)"


def test_a_wrong_derivative_is_no_kink():
    for f in (half, lambda x: half(x) * 1e6, lambda x: half(x).exp()):
        report = gradcheck(f, (20,))
        assert not report and report.rows[0].kinks == 0


# Doubts


def test_it_warns_when_the_tolerance_would_hide_the_term_that_matters():
    """With the paper's alpha of 1e-4 and a tolerance of 1e-3 even a gradient without the term across channels passes."""

    class WithoutTheTerm(Function):
        def forward(self, x):
            return F.local_response_norm(Tensor(x), 5, 1e-4, 0.75, 2.0).data

        def backward(self, gradient):
            return gradient * 2**-0.75

    small = np.random.default_rng(0).standard_normal((4, 8)) / 2
    for f in (lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 2.0), lambda x: WithoutTheTerm()(x)):
        with pytest.warns(UserWarning, match=r"x: growing it by half .* alpha near 1"):
            report = gradcheck(f, small, rtol=1e-3)
        assert report and len(report.warnings) == 1 and f"note: {report.warnings[0]}" in repr(report)
    assert not gradcheck(lambda x: WithoutTheTerm()(x), small)


def test_it_does_not_warn_of_a_linear_function_or_of_a_term_that_counts():
    x, w = np.random.default_rng(0).standard_normal((2, 3, 3))
    for f in (lambda x: x * 3, lambda x: F.avg_pool2d(x.reshape(1, 4, 8, 1), 2), lambda x: F.local_response_norm(x, 5, 1.0)):
        assert gradcheck(f, (4, 8), rtol=1e-3).warnings == []
    assert gradcheck(lambda x, w: x @ w, x, w, rtol=1e-3).warnings == []


def test_it_warns_when_a_zero_was_compared_with_a_zero():
    with pytest.warns(UserWarning, match="y: its gradient is zero everywhere"):
        assert gradcheck(lambda x, y: x + y.detach() * 0, (2,), (2,))


def test_it_warns_when_atol_is_larger_than_the_gradient():
    with pytest.warns(UserWarning, match="Use a smaller atol"):
        assert gradcheck(lambda x: half(x) * 1e-10, (3,))


# Bad input


def test_nan_among_the_inputs():
    with pytest.raises(ValueError, match=r"input 1 of shape \(2,\) contains NaN or infinity"):
        gradcheck(lambda x, y: x + y, (2,), [1.0, np.nan])


def test_nan_among_the_results():
    with pytest.raises(ValueError, match=r"f returned NaN or infinity \(shape \(3,\)\)"), np.errstate(all="ignore"):
        gradcheck(lambda x: x.log(), [1.0, -1.0, 2.0])


def test_integers_are_passed_on_as_they_are(device):
    labels = np.array([2, 0], np.int16)
    seen = []

    def f(x, labels, count, flags, nothing, index):
        seen[:] = [labels, count, flags, nothing, index]
        return F.cross_entropy(x, labels)

    given = [labels, 3, np.array([True]), None, Tensor(np.array([1, 2]))]
    assert [row.name for row in gradcheck(f, (2, 3), *given).rows] == ["x"]
    assert all(a is b for a, b in zip(seen, given, strict=True))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: gradcheck(lambda n: n, np.array([1, 2])),
            ValueError,
            "nothing to check: no floating-point input and no parameter",
        ),
        (lambda: gradcheck(lambda: Tensor([1.0])), ValueError, "nothing to check"),
        (lambda: gradcheck(lambda x: x.numpy(), (2,)), TypeError, "f must return a Tensor or several, got ndarray"),
        (lambda: gradcheck(lambda x: None, (2,)), TypeError, "f must return a Tensor or several, got NoneType"),
        (lambda: gradcheck(lambda x: x.astype("float32"), (2,)), TypeError, "f returned float32 for float64 inputs"),
        (lambda: gradcheck(lambda x: x, (2, 0)), ValueError, r"input 0: a shape has sizes of at least 1, got \(2, 0\)"),
        (lambda: gradcheck(right, (2,), order=3), ValueError, "order must be 1 or 2, got 3"),
        (lambda: gradcheck(right, (2,), eps=0), ValueError, "eps must be positive"),
        (lambda: gradcheck(right, (2,), rtol=-1), ValueError, "rtol and atol at least 0"),
        (lambda: gradcheck(right, (2,), atol=float("nan")), ValueError, "rtol and atol at least 0"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()


# The report


def test_the_report_is_a_table():
    report = gradcheck(nn.Conv2d(3, 8, 3), (2, 7, 7, 3))
    first, headings, *rows = repr(report).splitlines()
    assert first == "Conv2d: gradients agree with finite differences (rtol 1e-05, atol 1e-08)"
    columns = ["tensor", "shape", "checked", "worst error", "relative", "where", "analytic", "numeric"]
    assert re.split(r"\s{2,}", headings.strip()) == columns
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert [c[:3] for c in cells] == [
        ["x", "2x7x7x3", "32 of 294 + 8 projections"],
        ["weight", "3x3x3x8", "32 of 216 + 8 projections"],
        ["bias", "8", "8 of 8"],
    ]
    assert all(len(c) == 9 and c[-1] == "ok" for c in cells)
    for c in cells:
        assert abs(float(c[6]) - float(c[7])) <= 1e-5 * max(abs(float(c[6])), abs(float(c[7]))) + 1e-8
    assert {line.index(c[1]) for line, c in zip(rows, cells, strict=True)} == {headings.index("shape")}


def test_the_worst_place_is_named():
    error = np.zeros((3, 4))
    error[2, 1] = 0.5
    report = gradcheck(Broken((3, 4), error), np.ones((3, 4)))
    row = next(row for row in report.rows if row.name == "weight")
    where, analytic, numeric = row.worst
    assert where == "(2, 1)" and analytic == pytest.approx(1.5 * numeric) and row.failures == 1
    assert "second derivatives agree" in repr(gradcheck(right, (), order=2))
    assert "scalar" in repr(gradcheck(right, ()))


def test_the_same_check_gives_the_same_report():
    assert repr(gradcheck(right, (3, 4))) == repr(gradcheck(right, (3, 4)))


def test_tensors_have_the_names_of_the_arguments_and_parameters():
    def names(f, *inputs):
        return [row.name for row in gradcheck(f, *inputs).rows]

    assert names(lambda image, scale: image * scale, (2,), (2,)) == ["image", "scale"]
    assert names(lambda first, *others: first * others[0], (2,), (2,)) == ["first", "input 1"]
    assert names(lambda x, labels: F.cross_entropy(x, labels), (2, 3), np.array([0, 1])) == ["x"]

    class Scale(nn.Module):
        def __init__(self):
            self.x = nn.Parameter(np.ones(2))

        def forward(self, x):
            return x * self.x

    assert names(Scale(), (2,)) == ["input 0", "x"]


def test_the_name_is_that_of_the_function_or_the_module():
    class Squarer:
        def __call__(self, x):
            return x * x

    assert gradcheck(F.relu, (3,)).name == "relu"
    assert gradcheck(nn.Linear(2, 2), (3, 2)).name == "Linear"
    assert gradcheck(Squarer(), (3,)).name == "Squarer"
