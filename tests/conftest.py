"""What every test shares: the `device` fixture, which runs one test body on every backend, and Hypothesis' settings.

    def test_relu(device):
        assert F.relu(Tensor([-1.0, 2.0])).numpy().tolist() == [0.0, 2.0]

runs three times: on NumPy ("cpu"); on the strict stand-in for CuPy ("standin", see `standin_cupy`); on a real GPU ("gpu"),
skipped where there is none. `pytest --device standin` limits the run; a backend asked for by name fails where it is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import standin_cupy

import minidl
from minidl import backend
from minidl.kernels import implicit_gemm

BACKENDS = ("cpu", "standin", "gpu")

hypothesis.settings.register_profile(
    "minidl",
    deadline=None,  # a first call may compile, and other programs share the machine
    derandomize=True,  # a test that fails, fails again
    max_examples=25,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # `device` may well stay for all examples
)
hypothesis.settings.load_profile("minidl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", action="append", choices=BACKENDS, help="run only on this backend (may be repeated)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", metafunc.config.getoption("--device") or BACKENDS, indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the device under test, "cpu" or "gpu": the test's default device, its random numbers seeded with 0."""
    with ExitStack() as stack:
        if request.param == "standin":
            stack.enter_context(standin_cupy.install())
        name = "cpu" if request.param == "cpu" else "gpu"
        try:
            stack.enter_context(minidl.default_device(name))
        except RuntimeError as error:
            if request.config.getoption("--device"):
                raise
            pytest.skip(str(error))
        stack.enter_context(backend.fixed_random(0))
        yield name


@pytest.fixture(autouse=True)
def precision_as_it_was() -> Iterator[None]:
    """Whatever a test does, and however it ends: products of the next are exact."""
    before = minidl.get_float32_matmul_precision()
    yield
    minidl.set_float32_matmul_precision(before)


@pytest.fixture(autouse=True)
def tensor_cores_left_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU that pretends to be a GPU they take seconds for a layer: only what is marked `tensor_cores` goes there."""
    if not request.node.get_closest_marker("tensor_cores") and "gpu" not in (request.config.getoption("--device") or ()):
        monkeypatch.setattr(implicit_gemm, "CAPABILITY", 1000)


@pytest.fixture
def check_gradients(device: str) -> Callable[..., None]:
    """`check_gradients(f, *inputs)`: first and second derivatives of `f` against finite differences, on the device under test."""

    def check(f: Callable[..., minidl.Tensor], *inputs: Any) -> None:
        report = minidl.gradcheck(f, *inputs)
        assert report, report
        # Squared, because a linear operation alone has no second derivative, and its backward would go untested as an operation.
        report = minidl.gradcheck(lambda *tensors: f(*tensors) ** 2, *inputs, order=2)
        assert report, report

    return check
