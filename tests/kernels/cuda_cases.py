"""For every CUDA kernel: what Hypothesis draws, and a check that it computes on a GPU what NumPy does on the CPU.

Sums have the same order in both, so most results must be equal bit for bit; where products are added, a GPU may round once less.
bfloat16 is computed in float32 in both, and rounded once.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import standin_cupy
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.strategies import assert_close, dtypes, normal, pairs, reals, seeds
from minidl.backend import to_device
from minidl.dtypes import computed_in, is_bfloat16
from minidl.kernels import convolution, cross_entropy, cuda, dropout, elementwise, im2col, lrn, pooling, sums, update
from minidl.kernels.window import Window

channels = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16])  # whole vectors of 16 bytes, and not
launches = st.tuples(st.booleans(), st.sampled_from([1, 3, cuda.BLOCKS]), st.sampled_from([2, cuda.THREADS]))
eights = st.sampled_from([8, 16, 40])  # vectors of bfloat16 too
sizes = st.integers(0, 3000)  # several blocks


@contextmanager
def launched(backwards, blocks, threads):
    """Inside the block the stand-in begins with the last thread, and there are no more than so many blocks of so many threads."""
    with pytest.MonkeyPatch.context() as patch, standin_cupy.order(backwards):
        patch.setattr(cuda, "BLOCKS", blocks)
        patch.setattr(cuda, "THREADS", threads)
        yield


@st.composite
def windows(draw, dilated: bool = False):
    """(window, shape of the images): strides beyond the kernel, another padding on each side, windows that hang over."""
    kernel = draw(pairs(1, 4))
    dilation = draw(pairs(1, 3)) if dilated else (1, 1)
    padding = tuple((draw(st.integers(0, k // 2)), draw(st.integers(0, k + 1))) for k in kernel)
    window = Window(kernel, draw(pairs(1, 5)), padding, dilation)
    least = [max(1, extent - sum(sides)) for extent, sides in zip(window.extent, padding, strict=True)]
    height, width = (draw(st.integers(n, n + 7)) for n in least)
    return window, (draw(st.integers(1, 3)), height, width, draw(channels))


def places(window, shape):
    return shape[0], *window.output_size(*shape[1:3]), shape[3]


def equal(device, function, arrays, *constants):
    """The result, or the results, of `function` on `device` and on the CPU are equal, NaN included."""
    there = function(*(to_device(a, device) for a in arrays), *constants)
    here = function(*arrays, *constants)
    for actual, expected in zip(*(r if isinstance(r, tuple) else (r,) for r in (there, here)), strict=True):
        assert actual.dtype == expected.dtype
        wide = np.float64 if is_bfloat16(expected.dtype) else expected.dtype  # to NumPy two NaN of bfloat16 are not equal
        assert_array_equal(to_device(actual, "cpu").astype(wide), expected.astype(wide))


POOLING = st.tuples(windows(), reals, seeds, st.booleans())


def check_max_pool(device, case):
    (window, shape), dtype, seed, special = case
    x = np.round(normal(seed, shape, dtype=dtype)[0])  # few different values: many equal maxima
    if special:
        rare = np.random.default_rng(seed).random(shape)
        x[rare < 0.2] = -np.inf
        x[rare > 0.9] = np.nan
    equal(device, pooling.max_pool, [x], window)


def check_max_pool_backward(device, case):
    (window, shape), dtype, seed, _ = case
    x, dy = normal(seed, shape, places(window, shape), dtype=dtype)
    _, position = pooling.max_pool(np.round(x), window)
    equal(device, lambda *a: pooling.max_pool_backward(*a, window, *shape[1:3]), [dy, position])
    equal(device, lambda *a: pooling.max_pool_gather(*a, window), [x, position])


def check_sum_pool(device, case):
    (window, shape), dtype, seed, _ = case
    x, dy = normal(seed, shape, places(window, shape), dtype=dtype)
    equal(device, pooling.sum_pool, [x], window)
    equal(device, pooling.sum_pool_backward, [dy], window, *shape[1:3])


IM2COL = st.tuples(windows(dilated=True), reals, seeds, st.integers(0, 5))


def check_im2col(device, case):
    """Of some channels of an array that has more, and begins at any of them."""
    (window, shape), dtype, seed, first = case
    (whole,) = normal(seed, (*shape[:3], shape[3] + 5), dtype=dtype)
    equal(device, lambda x: im2col.im2col(x[..., first : first + shape[3]], window), [whole])
    equal(device, lambda x: im2col.im2col(x[:, ::-1, :, first : first + shape[3]], window), [whole])


def check_col2im(device, case):
    (window, shape), dtype, seed, _ = case
    n, rows, columns, c = places(window, shape)
    (cols,) = normal(seed, (n, rows, columns, window.kernel[0] * window.kernel[1] * c), dtype=dtype)
    equal(device, im2col.col2im, [cols], window, *shape[1:3])


CONVOLUTION = st.tuples(windows(dilated=True), reals, seeds, st.integers(1, 3))


def check_convolution(device, case):
    (window, (n, height, width, c)), dtype, seed, groups = case
    x, weight, bias, dy = normal(
        seed,
        (n, height, width, groups * c),
        (*window.kernel, c, groups * 2),
        (groups * 2,),
        (n, *window.output_size(height, width), groups * 2),
        dtype=dtype,
    )
    there = [to_device(a, device) for a in (x, weight, bias, dy)]
    x, weight, bias, dy = (a if a.dtype == np.float64 else a.astype(np.float32) for a in (x, weight, bias, dy))
    assert_close(convolution.conv2d(*there[:3], window, groups), convolution.conv2d_plain(x, weight, bias, window, groups))
    dw = convolution.weight_gradient_plain(x, dy, window, groups)
    assert_close(convolution.weight_gradient(there[0], there[3], window, groups), dw)
    dx = convolution.input_gradient_plain(dy, weight, window, groups, height, width)
    assert_close(convolution.input_gradient(there[3], there[1], window, groups, height, width), dx)


LRN = st.tuples(
    st.lists(st.integers(1, 5), max_size=3), st.integers(1, 3), channels, st.sampled_from([1, 3, 5, 7, 11]),
    st.sampled_from([0.75, 0.5, 1.0]), reals, seeds,
)  # fmt: skip


def check_lrn(device, case):
    """alpha of 1: with the paper's 1e-4 almost any formula passes."""
    pixels, groups, tower, size, beta, dtype, seed = case
    x, g = normal(seed, *2 * [(*pixels, groups * tower)], dtype=dtype)
    constants = size, 1.0, beta, 2.0, groups
    assert_close(lrn.lrn(to_device(x, device), *constants), lrn.lrn(x, *constants))
    assert_close(lrn.lrn_backward(to_device(x, device), to_device(g, device), *constants), lrn.lrn_backward(x, g, *constants))


FLAT = st.tuples(sizes, reals, seeds)


def check_relu(device, case):
    size, dtype, seed = case
    x, gradient = normal(seed, (size,), (size,), dtype=dtype)
    x[::7] = np.resize([0, -0.0, np.nan, np.inf, -np.inf], x[::7].shape)
    equal(device, elementwise.relu, [x])
    equal(device, elementwise.relu_backward, [x, gradient])


FINISH = st.tuples(
    st.integers(0, 30),
    st.one_of(st.integers(1, 40), eights),
    reals,
    seeds,
    st.sampled_from(["none", "own", "wide"]),
    st.booleans(),
)


def check_finish(device, case):
    """Also of bfloat16 and a bias of float32."""
    rows, c, dtype, seed, kind, relu = case
    y, bias = normal(seed, (rows, 2, c), (c,), dtype=dtype)
    y[y > 2] = np.nan

    def finished(y, *bias):
        y = y.copy()
        elementwise.finish(y, *(bias or [None]), relu)
        return y

    equal(device, finished, [y, *{"none": [], "own": [bias], "wide": [bias.astype(computed_in(bias.dtype))]}[kind]])


UPDATE = st.tuples(sizes, dtypes, seeds, st.sampled_from([0.0, 0.1]))


def check_update(device, case):
    size, dtype, seed, decay = case
    w, v, g = normal(seed, (size,), (size,), (size,), dtype=dtype)
    for rule, state, constants in (
        (update.sgd_paper, [v], (0.2, 0.9, decay)),
        (update.sgd_pytorch, [v], (0.2, 0.9, decay)),
        (update.adam, [v, np.abs(v)], (0.2, (0.9, 0.99), 1e-8, decay, 3)),
    ):
        here = [a.copy() for a in (w, *state, g)]
        there = [to_device(a, device) for a in here]
        rule(*here, *constants)
        rule(*there, *constants)
        for actual, expected in zip(there, here, strict=True):
            assert_close(actual, expected)


SUMS = st.tuples(
    st.integers(0, 3000), st.one_of(channels, st.sampled_from([40, 65])), reals, seeds, st.sampled_from([100, 300, 1024])
)


@contextmanager
def strips_of(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "STRIP", rows)
        patch.setattr(sums, "BLOCK_STRIP", rows)
        patch.setattr(sums, "BLOCK_THREADS", cuda.THREADS)  # which `launched` makes few
        yield


def check_sums(device, case):
    rows, c, dtype, seed, strip = case
    (x,) = normal(seed, (rows, c), dtype=dtype)
    with strips_of(strip):
        assert_close(sums.sum_to_last_axis(to_device(x, device), x.dtype), x.astype(np.float64).sum(axis=0))


def check_relu_backward_and_sum(device, case):
    """What goes on is `relu_backward`'s; the sum, that of the two one after the other on the same device."""
    rows, c, dtype, seed, strip = case
    y, gradient = normal(seed, (rows, c), (rows, c), dtype=dtype)
    y[y < 0.2] = 0
    y[y > 2] = np.nan  # which is not positive
    there = [to_device(a, device) for a in (y, gradient)]
    with strips_of(strip):
        dx, total = sums.relu_backward_and_sum(*there, computed_in(y.dtype))
        apart = sums.sum_to_last_axis(dx, computed_in(y.dtype))
    expected = elementwise.relu_backward(y, gradient)
    assert dx.dtype == expected.dtype and total.dtype == apart.dtype
    assert_array_equal(to_device(dx, "cpu").astype(np.float64), expected.astype(np.float64))
    assert_array_equal(to_device(total, "cpu"), to_device(apart, "cpu"))
    assert_close(total, expected.astype(np.float64).sum(axis=0))


CROSS_ENTROPY = st.tuples(
    st.integers(1, 5), st.one_of(st.integers(1, 40), eights), reals, seeds, st.sampled_from([0.0, 0.25]), st.booleans()
)


def check_cross_entropy(device, case):
    """Also of labels that are no class, and of scores that rule a class out or are large."""
    rows, classes, dtype, seed, smoothing, special = case
    x, gradient = normal(seed, (rows, classes), (rows,), dtype=dtype)
    x, gradient = x * dtype(100), gradient.astype(computed_in(np.dtype(dtype)))
    labels = np.random.default_rng(seed).integers(-1 if special else 0, classes + special, rows)
    if special and classes > 1:
        x[0, 0] = -np.inf
    results = []
    for place in ("cpu", device):
        scores, numbers, g = (to_device(a, place) for a in (x, labels, gradient))
        losses = cross_entropy.cross_entropy(scores, numbers, smoothing)
        dx = cross_entropy.cross_entropy_backward(scores, numbers, g, smoothing)
        results.append([to_device(a, "cpu") for a in (losses, dx)])
    for expected, actual in zip(*results, strict=True):
        assert actual.dtype == expected.dtype
        finite = np.isfinite(expected.astype(np.float64))
        assert_array_equal(actual[~finite].astype(np.float64), expected[~finite].astype(np.float64))
        assert_close(actual[finite], expected[finite])


keys = st.sampled_from([0, 7, 2**32 + 1, 2**63 - 1])
offsets = st.sampled_from([0, 3, 2**32 - 2, 2**62])  # also where the counter's lower word ends
DROPOUT = st.tuples(sizes, reals, seeds, keys, offsets)


def check_dropout(device, case):
    size, dtype, seed, key, offset = case
    (x,) = normal(seed, (size,), dtype=dtype)
    equal(device, dropout.dropout, [x], 0.3, 1.7, key, offset)


CHECKS = [
    (check_max_pool, POOLING), (check_max_pool_backward, POOLING), (check_sum_pool, POOLING), (check_im2col, IM2COL),
    (check_col2im, IM2COL), (check_convolution, CONVOLUTION), (check_lrn, LRN), (check_relu, FLAT), (check_finish, FINISH),
    (check_relu_backward_and_sum, SUMS), (check_update, UPDATE), (check_dropout, DROPOUT), (check_sums, SUMS),
    (check_cross_entropy, CROSS_ENTROPY),
]  # fmt: skip
