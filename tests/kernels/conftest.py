"""What is for GPUs alone."""

import numpy as np
import pytest
import standin_cupy

from minidl.backend import get_array_module, to_device


@pytest.fixture
def gpu(device):
    """The name of a device whose arrays the CUDA kernels work on."""
    if device == "cpu":
        pytest.skip("for GPUs")
    if standin_cupy.compiler() is None and get_array_module(to_device(np.zeros(1), device)) is standin_cupy:
        pytest.skip("no C++ compiler to build the kernels with")
    return device
