"""The CUDA kernels against the NumPy code beside them: on a GPU, and without one on the stand-in, which runs them on the CPU."""

import numpy as np
import pytest
import standin_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda_cases import CHECKS, launched, launches
from minidl.backend import get_array_module, to_device
from minidl.kernels import cuda, pooling
from minidl.kernels.window import Window


@pytest.fixture
def gpu(device):
    """The name of a device whose arrays the CUDA kernels work on."""
    if device == "cpu":
        pytest.skip("the other side of the comparison")
    if standin_cupy.compiler() is None and get_array_module(to_device(np.zeros(1), device)) is standin_cupy:
        pytest.skip("no C++ compiler to build the kernels with")
    return device


@pytest.mark.parametrize("check, cases", CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_they_compute_what_numpy_does(gpu, check, cases):
    """Whatever the order in which the threads run, and however many blocks there are."""

    @settings(max_examples=100)
    @given(cases, launches)
    def run(case, launch):
        with launched(*launch):
            check(gpu, case)

    run()


@pytest.mark.parametrize("file", ["pooling", "im2col", "lrn", "elementwise", "update", "dropout", "sums"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_there(gpu, file, dtype):
    """So the test above has not compared NumPy with itself."""
    assert cuda.ready(file, to_device(np.zeros(1, dtype), gpu))


def test_positions_of_more_than_a_byte(gpu):
    x = np.random.default_rng(0).standard_normal((2, 17, 17, 4))
    window = Window((17, 17), padding=((1, 0), (0, 1)))
    y, position = pooling.max_pool(to_device(x, gpu), window)
    expected, where = pooling.max_pool(x, window)
    assert position.dtype == where.dtype == np.uint32
    assert np.array_equal(to_device(position, "cpu"), where) and np.array_equal(to_device(y, "cpu"), expected)
    back = pooling.max_pool_backward(y, position, window, 17, 17)
    assert np.array_equal(to_device(back, "cpu"), pooling.max_pool_backward(expected, where, window, 17, 17))


@given(st.integers(1, 5000), st.integers(1, 70), st.integers(1, 3000), st.sampled_from([1, 2, 4]))
def test_blocks_are_no_larger_than_they_may_be_and_all_work_is_shared_out(rows, columns, channels, width):
    (grid,), block = cuda.shares((rows, columns, channels), width)
    assert grid == rows and 1 <= np.prod(block) <= cuda.THREADS
    (grid,), (block,) = cuda.shares((channels,), width)
    assert 0 <= grid * block * width - channels < block * width + width


@pytest.mark.parametrize("shape, groups, expected", [
    ((6,), 2, (1, 2, 3)), ((5, 6), 2, (5, 2, 3)), ((5, 6), 1, (5, 1, 6)), ((2, 3, 4, 6), 2, (6, 8, 3)), ((0, 3, 4, 6), 1, (0, 4, 6)),
])  # fmt: skip
def test_rows_columns_and_channels_of_any_array(shape, groups, expected):
    """A batch of vectors is many rows, not one: there is a block for each."""
    assert cuda.pixels(shape, groups) == expected


@pytest.mark.parametrize("dtype, lanes", [(np.float32, 4), (np.float64, 2)])
def test_sixteen_bytes_at_a_time_only_where_all_is_aligned(gpu, dtype, lanes):
    x = to_device(np.zeros((2, 3, 8), dtype), gpu)
    assert cuda.vector_width(x.dtype, 8, [x, x]) == lanes
    assert cuda.vector_width(x.dtype, 7, [x]) == 1, "channels that are no whole number of vectors"
    assert cuda.vector_width(x.dtype, 4, [x[..., 1:5]]) == 1, "the first address"
    assert cuda.vector_width(x.dtype, 4, [x[..., 4:]]) == lanes
    xp = get_array_module(x)
    assert cuda.vector_width(x.dtype, 4, [xp.zeros((2, 3, 9), dtype)[..., :4]]) == 1, "the next pixel's address"


@pytest.mark.parametrize("file", ["pooling", "im2col", "lrn", "elementwise", "update", "dropout", "sums"])
def test_mixed_and_other_types_are_left_to_the_operations(gpu, file):
    single, double, half = (to_device(np.zeros(1, dtype), gpu) for dtype in (np.float32, np.float64, np.float16))
    assert not cuda.ready(file, single, double)
    assert not cuda.ready(file, half)
    assert not cuda.ready(file, np.zeros(1))
