"""Memory is kept: a large array that is made again costs no new pages."""

import resource

import numpy as np
import pytest

from minidl.kernels import memory


def test_a_large_array_is_made_again_without_page_faults():
    if not memory.keep():
        pytest.skip("this C library cannot be told")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(40_000_000, np.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 10, "in a mapping of its own it would cost one a page, ten thousand of 4 kB or twenty of 2 MB"
