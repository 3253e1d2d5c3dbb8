"""The optimisers' updates against their formulas, written out, also when they are cut into pieces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import assert_close, chunk_bytes, dtypes, laid_out, layouts, normal, seeds, workers
from minidl.kernels import update

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
everything = given(shapes, seeds, dtypes, layouts, chunk_bytes, workers, st.sampled_from([0.0, 0.1]))
LR, MOMENTUM = 0.2, 0.9


def updated(rule, device, layout, chunk, count, written, gradient, *constants):
    """The arrays of `written` after `rule`, which changes them in place whatever their layout."""
    arrays = [laid_out(a.copy(), layout, device) for a in written]
    with in_pieces(chunk, count):
        rule(*arrays, laid_out(gradient, layout, device), *constants)
    return arrays


@everything
def test_sgd_as_in_the_paper(device, shape, seed, dtype, layout, chunk, count, decay):
    w, v, g = normal(seed, shape, shape, shape, dtype=dtype)
    after = updated(update.sgd_paper, device, layout, chunk, count, [w, v], g, LR, MOMENTUM, decay)
    velocity = MOMENTUM * v - decay * LR * w - LR * g
    for result, expected in zip(after, [w + velocity, velocity], strict=True):
        assert result.dtype == dtype
        assert_close(result, expected)


@everything
def test_sgd_as_in_pytorch(device, shape, seed, dtype, layout, chunk, count, decay):
    w, v, g = normal(seed, shape, shape, shape, dtype=dtype)
    after = updated(update.sgd_pytorch, device, layout, chunk, count, [w, v], g, LR, MOMENTUM, decay)
    velocity = MOMENTUM * v + g + decay * w
    for result, expected in zip(after, [w - LR * velocity, velocity], strict=True):
        assert result.dtype == dtype
        assert_close(result, expected)


@everything
def test_adam(device, shape, seed, dtype, layout, chunk, count, decay):
    w, m, g = normal(seed, shape, shape, shape, dtype=dtype)
    s, t = np.abs(normal(seed + 1, shape, dtype=dtype)[0]), 3
    after = updated(update.adam, device, layout, chunk, count, [w, m, s], g, LR, (0.9, 0.99), 1e-8, decay, t)
    whole = g + decay * w
    mean, square = 0.9 * m + 0.1 * whole, 0.99 * s + 0.01 * whole**2
    stepped = w - LR * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.99**t)) + 1e-8)
    for result, expected in zip(after, [stepped, mean, square], strict=True):
        assert result.dtype == dtype
        assert_close(result, expected)
