"""Every operation, in every configuration of `checks.py`, on every device: values, first and second derivatives."""

import numpy as np
import pytest
import standin_cupy

import minidl
import minidl.functional as F
from minidl import Tensor
from ops.checks import CASES, check_gradients, check_recorded_gradients, check_values

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_no_operation_is_left_out():
    assert {case.operation for case in CASES} == set(F.__all__)


@pytest.mark.parametrize("case", [case for case in CASES if case.reference], ids=str)
def test_values_against_the_definition(device, case):
    check_values(case)


@every_case
def test_gradients_against_finite_differences(device, case):
    check_gradients(case)


@every_case
def test_second_derivatives_against_finite_differences(device, case):
    check_gradients(case, order=2)


@every_case
def test_gradients_are_the_same_with_create_graph(device, case):
    check_recorded_gradients(case)


@every_case
def test_float32_stays_float32_both_ways(device, case):
    inputs = [Tensor(np.random.default_rng(0).random(shape, np.float32), requires_grad=True) for shape in case.inputs]
    result = case.f(*inputs)
    if case.operation == "batch_norm" and "evaluation" in case.name:
        return  # the running values of the case are float64
    result.backward(Tensor(np.ones(result.shape, np.float32)))
    assert result.dtype == np.float32 and all(t.grad.dtype == np.float32 for t in inputs)


WIDER = {"softmax", "log_softmax", "cross_entropy", "nll_loss", "mse_loss"}  # probabilities and losses are float32


@every_case
def test_bfloat16_stays_bfloat16_both_ways_and_is_right_to_its_last_digits(device, case):
    """Against the same operation in float64, from the same bfloat16 numbers: forwards, and each input's gradient."""
    if case.operation == "batch_norm" and "evaluation" in case.name:
        return  # the running values of the case are float64
    rng = np.random.default_rng(0)
    arrays = [Tensor(rng.standard_normal(shape).astype(np.float32)).astype("bfloat16") for shape in case.inputs]
    results, gradients = [], []
    for dtype in ("bfloat16", "float64"):
        minidl.manual_seed(0)
        inputs = [Tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        result = case.f(*inputs)
        gradient = Tensor(np.random.default_rng(1).standard_normal(result.shape).astype(np.float32)).astype("bfloat16")
        result.backward(gradient.astype(result.dtype))
        assert dtype == "float64" or result.dtype.name == ("float32" if case.operation in WIDER else "bfloat16")
        assert all(t.grad.dtype == t.dtype for t in inputs)
        results.append(result.numpy().astype(np.float64))
        gradients.append([t.grad.numpy().astype(np.float64) for t in inputs])
    for narrow, exact in zip([results[0], *gradients[0]], [results[1], *gradients[1]], strict=True):
        assert np.abs(narrow - exact).max(initial=0) <= 2**-7 * max(1, np.abs(exact).max(initial=0)), "one unit in the last place"


@every_case
def test_a_gpu_never_waits_for_the_host(case):
    """Not a number is read back from the device, forwards, backwards or backwards twice: each would stop it."""
    with standin_cupy.install(), minidl.default_device("gpu"):
        inputs = [Tensor(np.random.default_rng(0).random(shape), requires_grad=True) for shape in case.inputs]
        with standin_cupy.count_transfers() as count:
            result = case.f(*inputs)
            first = minidl.grad((result * result).sum(), inputs, create_graph=True)
            sum(((g * g).sum() for g in first[1:]), (first[0] * first[0]).sum()).backward()
        assert count.to_host == 0
