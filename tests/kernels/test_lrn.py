"""Local response normalisation across channels against the paper's formula, written as a loop."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.pieces import in_pieces, workspace
from kernels.strategies import assert_close, chunk_bytes, dtypes, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels import lrn

shapes = st.lists(st.integers(1, 4), min_size=0, max_size=3)
sizes = st.sampled_from([1, 3, 5, 7, 11])


@settings(max_examples=150)
@given(
    shapes, st.integers(1, 3), st.integers(1, 7), sizes, st.floats(0.3, 3), st.sampled_from([0.75, 0.5, 1.0, 0.6]),
    st.floats(0.5, 2), seeds, dtypes, layouts, chunk_bytes, workers,
)  # fmt: skip
def test_both_ways_against_the_formula(device, places, groups, tower, size, alpha, beta, k, seed, dtype, layout, chunk, count):
    """alpha near 1: with the paper's 1e-4 almost any formula passes."""
    x, dy = normal(seed, (*places, groups * tower), (*places, groups * tower), dtype=dtype)
    constants = size, alpha, beta, k, groups
    plain = lrn.lrn_plain(laid_out(x, layout, device), *constants)
    with in_pieces(chunk, count):
        y = lrn.lrn(laid_out(x, layout, device), *constants)
        dx = lrn.lrn_backward(laid_out(x, layout, device), laid_out(dy, layout, device), *constants)
    assert y.dtype == dx.dtype == dtype
    for result in (plain, y):
        assert_close(result, naive.local_response_norm(x, *constants))
    assert_close(dx, naive.local_response_norm(x, *constants, dy=dy))


@given(shapes, st.integers(1, 3), st.integers(1, 7), sizes, seeds, layouts)
def test_window_sums_against_the_loop(device, places, groups, tower, size, seed, layout):
    (x,) = normal(seed, (*places, groups * tower))
    channels = groups * tower
    expected = np.stack([sum(x[..., j] for j in naive.neighbours(c, channels, size, groups)) for c in range(channels)], axis=-1)
    assert_close(lrn.window_sum(laid_out(x, layout, device), size, groups), expected)


def test_the_window_stays_in_its_tower(device):
    x = np.zeros((1, 6))
    x[0, 2] = 1  # the last channel of the first tower
    assert to_device(lrn.window_sum(to_device(x, device), 5, 2), "cpu").tolist() == [[1, 1, 1, 0, 0, 0]]
    assert to_device(lrn.window_sum(to_device(x, device), 5, 1), "cpu").tolist() == [[1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 2.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_power_has_no_shortcut_of_another_value(beta, dtype):
    s = np.geomspace(1e-6, 1e6, 100).astype(dtype)
    np.testing.assert_allclose(lrn.power(s, beta), s.astype(np.float64) ** beta, rtol=10 * np.finfo(dtype).eps)


def test_inputs_are_left_alone():
    x, dy = normal(0, (4, 3, 6), (4, 3, 6))
    before = x.copy(), dy.copy()
    with in_pieces(100):
        lrn.lrn(x, 3, 1.0, 0.75, 1.0, 1)
        lrn.lrn_backward(x, dy, 3, 1.0, 0.75, 1.0, 1)
    assert np.array_equal(x, before[0]) and np.array_equal(dy, before[1])


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_work_gives_the_same_bits_and_any_cut_does(workers):
    """Scratch memory of an earlier, larger piece must not show."""
    x, dy = normal(0, (50, 3, 12), (50, 3, 12), dtype=np.float32)

    def results():
        y, dx = lrn.lrn(x, 5, 1.0, 0.75, 2.0, 2), lrn.lrn_backward(x, dy, 5, 1.0, 0.75, 2.0, 2)
        return y.tobytes(), dx.tobytes()

    expected = results()
    for chunk in (1, 500, 3000):
        with in_pieces(chunk, workers):
            assert all(results() == expected for _ in range(3))


def test_the_workspace_does_not_grow_with_the_batch():
    def needed(n):
        x, dy = normal(0, (n, 13, 13, 16), (n, 13, 13, 16), dtype=np.float32)
        constants = 5, 1.0, 0.75, 2.0, 2
        return [workspace(lambda: lrn.lrn(x, *constants)), workspace(lambda: lrn.lrn_backward(x, dy, *constants))]

    with in_pieces(20_000, workers=1):
        for small, large in zip(needed(8), needed(64), strict=True):
            assert large < 1.1 * small + 30_000


def test_empty_images(device):
    x = to_device(np.zeros((0, 3, 3, 4)), device)
    assert lrn.lrn(x, 3, 1.0, 0.75, 1.0, 2).shape == lrn.lrn_backward(x, x, 3, 1.0, 0.75, 1.0, 2).shape == (0, 3, 3, 4)
