"""Dropout by numbers that can be drawn again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.strategies import dtypes, laid_out, layouts, normal, seeds
from minidl.backend import to_device
from minidl.kernels.dropout import dropout, philox


@pytest.mark.parametrize("counter, key, numbers", [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
])  # fmt: skip
def test_the_known_answers_of_its_authors(counter, key, numbers):
    """From kat_vectors of Random123."""
    words = [np.array([int(word, 16)], np.uint64) for word in counter.split()]
    drawn = philox(tuple(words), tuple(int(word, 16) for word in key.split()))
    assert " ".join(f"{int(word[0]):08x}" for word in drawn) == numbers


def test_the_share_and_the_scale(device):
    x = to_device(np.ones(100_000, np.float32), device)
    y = to_device(dropout(x, 0.3, 2.0, 1, 0), "cpu")
    assert set(np.unique(y)) == {0, 2} and y.dtype == np.float32
    assert abs((y == 0).mean() - 0.3) < 0.005
    assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 0.01


@given(st.lists(st.integers(0, 9), max_size=3).map(tuple), seeds, dtypes, layouts)
def test_what_is_kept_depends_on_the_place_alone(device, shape, seed, dtype, layout):
    """So the gradient finds the same mask, whatever the values, their type or their order in memory."""
    x, gradient = normal(seed, shape, shape, dtype=dtype)
    layout = layout if x.ndim and x.size else "contiguous"
    y = to_device(dropout(laid_out(x, layout, device), 0.5, 2.0, seed, 5), "cpu")
    back = to_device(dropout(laid_out(gradient.astype(np.float64), "contiguous", device), 0.5, 2.0, seed, 5), "cpu")
    assert y.dtype == dtype and y.shape == shape
    assert np.array_equal(y, np.where(back != 0, 2 * x, 0))


def test_the_next_array_goes_on_where_one_ended(device):
    whole = to_device(dropout(to_device(np.ones(40), device), 0.5, 1.0, 3, 10), "cpu")
    parts = [to_device(dropout(to_device(np.ones(n), device), 0.5, 1.0, 3, offset), "cpu") for n, offset in ((24, 10), (16, 16))]
    assert np.array_equal(whole, np.concatenate(parts))
    other = to_device(dropout(to_device(np.ones(40), device), 0.5, 1.0, 4, 10), "cpu")
    assert not np.array_equal(whole, other)
