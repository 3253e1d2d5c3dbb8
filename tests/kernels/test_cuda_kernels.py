"""The CUDA kernels against the NumPy code beside them: on a GPU, and without one on the stand-in, which runs them on the CPU."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda_cases import CHECKS, launched, launches
from kernels.strategies import BFLOAT16
from minidl.backend import get_array_module, to_device
from minidl.kernels import cuda, pooling, update
from minidl.kernels.window import Window

ROUND_TRIP = """
extern "C" __global__ void round_trip(const float* x, unsigned short* y, float* back, const long long size) {
    for_each_element(size, [&](long long i) {
        const bfloat16 stored = rounded(x[i]);
        y[i] = stored.bits;
        back[i] = number(stored);
    });
}
"""


@pytest.mark.parametrize("check, cases", CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_they_compute_what_numpy_does(gpu, check, cases):
    """Whatever the order in which the threads run, and however many blocks there are."""

    @settings(max_examples=100)
    @given(cases, launches)
    def run(case, launch):
        with launched(*launch):
            check(gpu, case)

    run()


@pytest.mark.parametrize("file", ["pooling", "im2col", "lrn", "elementwise", "update", "dropout", "sums", "cross_entropy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, BFLOAT16])
def test_they_are_there(gpu, file, dtype):
    """So the test above has not compared NumPy with itself."""
    if (file, dtype) != ("update", BFLOAT16):
        assert cuda.ready(file, to_device(np.zeros(1, dtype), gpu))


def test_weights_are_not_updated_in_bfloat16(gpu):
    w, v, g = (to_device(np.ones(8, BFLOAT16), gpu) for _ in range(3))
    assert not update._ready(w, v, g)


def test_every_bfloat16_and_every_rounding_to_one(gpu):
    """All 65,536 of them, and float32 on both sides of each and half way between two; NaN of all kinds, NVIDIA's own among them."""
    xp = get_array_module(to_device(np.zeros(1), gpu))
    header = (Path(cuda.__file__).parent / "kernel.cuh").read_text()
    module = xp.RawModule(code=header + ROUND_TRIP, options=cuda.options(np.dtype(np.float32), 1))
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = ((np.arange(1 << 16, dtype=np.uint32) << 16)[:, None] | low).ravel()
    x = to_device(bits.view(np.float32), gpu)
    y, back = xp.empty(x.shape, np.uint16), xp.empty(x.shape, np.float32)
    module.get_function("round_trip")((64,), (256,), (x, y, back, x.size))
    rounded, back, x = (to_device(a, "cpu") for a in (y, back, x))
    with np.errstate(all="ignore"):
        expected = x.astype(BFLOAT16)
    nan = np.isnan(x)
    assert np.array_equal(rounded[~nan], expected[~nan].view(np.uint16)) and np.isnan(back[nan]).all() and nan.sum() > 0
    assert np.array_equal(back[~nan], expected[~nan].astype(np.float32))


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


@pytest.mark.parametrize("dtype, lanes", [(np.float32, 4), (np.float64, 2), (BFLOAT16, 8)])
def test_sixteen_bytes_at_a_time_only_where_all_is_aligned(gpu, dtype, lanes):
    x = to_device(np.zeros((2, 3, 16), dtype), gpu)
    assert cuda.vector_width(x.dtype, 16, [x, x]) == lanes
    assert cuda.vector_width(x.dtype, 7, [x]) == 1, "channels that are no whole number of vectors"
    assert cuda.vector_width(x.dtype, 8, [x[..., 1:9]]) == 1, "the first address"
    assert cuda.vector_width(x.dtype, 8, [x[..., 8:]]) == lanes
    xp = get_array_module(x)
    assert cuda.vector_width(x.dtype, 8, [xp.zeros((2, 3, 17), dtype)[..., :8]]) == 1, "the next pixel's address"


@pytest.mark.parametrize("file", ["pooling", "im2col", "lrn", "elementwise", "update", "dropout", "sums", "cross_entropy"])
def test_mixed_and_other_types_are_left_to_the_operations(gpu, file):
    single, double, half, brain = (to_device(np.zeros(1, dtype), gpu) for dtype in (np.float32, np.float64, np.float16, BFLOAT16))
    assert not cuda.ready(file, single, double)
    assert not cuda.ready(file, brain, single) and not cuda.ready(file, single, brain)
    assert not cuda.ready(file, half)
    assert not cuda.ready(file, np.zeros(1))
