"""Convolution on tensor cores: exact for numbers of few bits, rounded to TF32 for others, and only where it is wanted and can be.

On a GPU, and without one on the stand-in, which executes the kernels on the CPU, threads in turn from barrier to barrier.
"""

import numpy as np
import pytest
import standin_cupy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import minidl
from kernels.strategies import normal, pairs, seeds
from minidl.backend import get_array_module, to_device
from minidl.dtypes import as_dtype
from minidl.kernels import convolution, cuda, folding, implicit_gemm
from minidl.kernels.window import Window

pytestmark = pytest.mark.tensor_cores
ALEXNET = [  # side, channels, outputs, kernel, groups of the paper's layers, the first one folded up
    (57, 48, 96, 3, 1), (27, 96, 256, 5, 2), (13, 256, 384, 3, 1), (13, 384, 384, 3, 2), (13, 384, 256, 3, 2),
]  # fmt: skip


@st.composite
def convolutions(draw, types=("float32", "bfloat16")):
    """(window, shape of the images, of the weights, groups): more and less than a tile, strides, gaps, padding of its own each side."""
    kernel, stride, dilation = draw(pairs(1, 3)), draw(pairs(1, 3)), draw(pairs(1, 2))
    window = Window(kernel, stride, (draw(pairs(0, 2)), draw(pairs(0, 2))), dilation)
    least = [max(1, extent - sum(sides)) for extent, sides in zip(window.extent, window.padding, strict=True)]
    height, width = (draw(st.integers(n, n + 9)) for n in least)
    dtype, groups = draw(st.sampled_from(types)), draw(st.integers(1, 3))
    chunk = 4 if dtype == "float32" else 8
    c, o = chunk * draw(st.sampled_from([1, 2, 3, 9])), chunk * draw(st.sampled_from([1, 7, 9, 17]))
    return window, (draw(st.integers(1, 4)), height, width, groups * c), (*kernel, c, groups * o), groups, as_dtype(dtype)


def few_bits(seed, *shapes):
    """Small integers: tensor cores leave them as they are, and sums of their products are exact."""
    return [np.round(2 * a).astype(np.float32) for a in normal(seed, *shapes)]


orders = st.tuples(st.booleans(), st.booleans())


def cards(*rows):
    return st.builds(implicit_gemm.Card, st.just(0), st.sampled_from(rows), st.sampled_from([1, 4, 264]))


def check(device, case, seed, order, card):
    """Whatever the order in which threads run and copies arrive, the size of the tiles, and the shares of a weight gradient."""
    window, images, weights, groups, dtype = case
    places = (images[0], *window.output_size(*images[1:3]), weights[3])
    x, weight, bias, dy = few_bits(seed, images, weights, weights[3:], places)
    if seed % 2:  # what fills up a tile must not meet them
        x[np.random.default_rng(seed).random(x.shape) < 0.003] = np.nan
    with np.errstate(invalid="ignore"), standin_cupy.order(*order), pytest.MonkeyPatch.context() as patch:
        patch.setattr(implicit_gemm, "_card", lambda xp, device: card)
        there = [to_device(a.astype(dtype), device) for a in (x, weight, bias, dy)]
        for with_bias, relu in ((False, False), (True, False), (False, True), (True, True)):
            y = implicit_gemm.conv2d(*there[:2], there[2] if with_bias else None, window, groups, relu)
            expected = convolution.conv2d_plain(x, weight, bias if with_bias else None, window, groups, relu)
            assert y.dtype == dtype
            np.testing.assert_array_equal(to_device(y, "cpu").astype(np.float32), expected.astype(dtype).astype(np.float32))
        dw = implicit_gemm.weight_gradient(there[0], there[3], window, groups)
        expected = convolution.weight_gradient_plain(x, dy, window, groups)
        np.testing.assert_array_equal(to_device(dw, "cpu").astype(np.float32), expected.astype(dtype).astype(np.float32))


@settings(max_examples=40)
@given(convolutions(), seeds, orders, cards(128, 256))
def test_it_is_the_sum_of_products(gpu, case, seed, order, card):
    check(gpu, case, seed, order, card)


# None of them leaves its arrays: see test_cuda_planted_bugs.py.
BUGS = {
    "implicit_gemm.cu": [
        ("k.advance(DEPTH, g.kernel_width, g.channels);", ""),  # every step takes the same channels
        ("place.advance(DEPTH, g.rows, g.columns);", "place.advance(DEPTH, g.columns, g.rows);"),
        ("if (++second == middle) second = 0, ++first;", "++second;"),
        ("k.first < g.kernel_height ? down : 1 << 29", "down"),  # beyond the last row of the window
        ("* channels + k.third, k.first", "* channels, k.first"),  # always the first channels
        ("x + group * g.channels, g, found", "x, g, found"),  # the first group's channels
        ("corners[step % 2][thread()", "corners[0][thread()"),
        ("if (from >= outputs) continue;", "if (from + CHUNK >= outputs) continue;"),
        ("exists ? down : -(1 << 30)", "-(1 << 30)"),
        ("first + k < rows && from", "first + k + 1 < rows && from"),
        ("first_row() + i / 2 * 8 + t2 + i % 2", "first_row() + i / 2 * 8 + t2 + 1 - i % 2"),
        ("column_of(t2 + i % 2, i / 2)", "i / 2 * 8 + t2 + i % 2"),
        ("const int begin = blockIdx.z * share,", "const int begin = blockIdx.z * (share + 1),"),
        ("if (relu) value.of[e]", "if (relu && e) value.of[e]"),
    ],
    "tiles.cuh": [
        ("wait_for_groups<STAGES - 2>", "wait_for_groups<STAGES - 1>"),  # a step too early
        ("start(step + STAGES - 1)", "start(step + STAGES)"),
        ("step % STAGES * (LEFT + RIGHT);\n        fill", "step % (STAGES - 1) * (LEFT + RIGHT);\n        fill"),
        ("__syncthreads();  // this step's chunks are there", "//"),
        ("__syncthreads();  // what has been prepared", "//"),
        ("        end_group();\n", "        if (step < steps) end_group();\n"),
        ("prepare(0);", ""),
        ("4 * half + t", "4 * half + (t ^ 1)"),  # another word than the right factor has there
        ("0x5410", "0x7632"),  # of two bfloat16 the wrong one
        ("tile[at + down + columns / CHUNK]", "tile[at + down]"),
        ("words[i / 2][4 + n][i % 2]", "words[i % 2][4 + n][i / 2]"),
        ("1.00034877f", "1.01f"),
        ("TILE_N, first_column(), half, a", "TILE_N, 0, half, a"),
    ],
}  # fmt: skip
ONLY_BFLOAT16 = ("0x5410", "tile[at + down + columns / CHUNK]")


@pytest.mark.skipif(standin_cupy.compiler() is None, reason="no C++ compiler to build the kernels with")
@pytest.mark.parametrize("old, new", [bug for bugs in BUGS.values() for bug in bugs])
def test_the_bug_is_found(monkeypatch, old, new):
    real = cuda.source("implicit_gemm")
    assert old in real, "the source has changed: plant another bug"
    monkeypatch.setattr(cuda, "source", lambda file: real.replace(old, new))
    implicit_gemm._function.cache_clear()

    @settings(phases=[Phase.generate], suppress_health_check=list(HealthCheck), max_examples=60)
    @given(convolutions(["bfloat16" if old in ONLY_BFLOAT16 else "float32"]), seeds, orders, cards(128))  # less to compile
    def run(case, seed, order, card):
        check("gpu", case, seed, order, card)

    try:
        with (
            standin_cupy.install(),
            minidl.default_device("gpu"),
            pytest.raises((AssertionError, standin_cupy.cuda.CUDADriverError)),
        ):
            run()
    finally:
        implicit_gemm._function.cache_clear()


@pytest.mark.parametrize("side, c, o, k, groups", ALEXNET)
def test_alexnet_to_ten_bits(gpu, side, c, o, k, groups):
    """Numbers of 24 bits lose 14 of them, are not biased by that, and stay what they are if they are not finite."""
    window = Window((k, k), padding=((k // 2, k // 2), (k // 2, k // 2)))
    few = max(3, side // 4)  # not all of the places, for the sake of the CPU that pretends to be a GPU
    x, weight, dy = normal(0, (1, few, side, c), (k, k, c // groups, o), (1, few, side, o), dtype=np.float32)
    y = implicit_gemm.conv2d(to_device(x, gpu), to_device(weight, gpu), None, window, groups)
    dw = implicit_gemm.weight_gradient(to_device(x, gpu), to_device(dy, gpu), window, groups)
    exact = [a.astype(np.float64) for a in (x, weight, dy)]
    right = convolution.conv2d(*exact[:2], None, window, groups)
    right_dw = convolution.weight_gradient(exact[0], exact[2], window, groups)
    for result, expected in ((to_device(y, "cpu"), right), (to_device(dw, "cpu"), right_dw)):
        assert result.dtype == np.float32 and 2e-4 < np.linalg.norm(result - expected) / np.linalg.norm(expected) < 4e-4
        assert abs((result * expected).sum() / (expected**2).sum() - 1) < 2e-5, "shrunk by cutting off"


def test_what_is_not_finite_stays_so(gpu):
    x, weight = np.ones((1, 3, 4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, :3, 1] = np.nan, np.inf, -np.inf
    x[0, 1, 0].view(np.uint32)[2] = 0x7FFFFFFF  # a GPU's own NaN, all of whose bits are set
    y = to_device(implicit_gemm.conv2d(to_device(x, gpu), to_device(weight, gpu), None, Window((1, 1)), 1), "cpu")
    np.testing.assert_array_equal(y, np.repeat(x.sum(axis=3, keepdims=True), 4, axis=3))


def test_arrays_in_any_layout_and_at_any_address(gpu):
    x, weight = few_bits(0, (2, 6, 5, 9), (3, 3, 8, 4))
    whole, w = to_device(x, gpu), to_device(weight, gpu)
    flat = get_array_module(w).concatenate([w.reshape(-1)[:1], w.reshape(-1)])[1:].reshape(w.shape)  # 4 bytes further on
    y = implicit_gemm.conv2d(whole[::-1, :, :, 1:], flat, None, Window((3, 3)), 1)
    np.testing.assert_array_equal(
        to_device(y, "cpu"), convolution.conv2d_plain(x[::-1, :, :, 1:], weight, None, Window((3, 3)), 1)
    )


def test_nothing_to_do(gpu):
    x, weight = to_device(np.ones((0, 5, 5, 4), np.float32), gpu), to_device(np.ones((3, 3, 4, 8), np.float32), gpu)
    y = implicit_gemm.conv2d(x, weight, None, Window((3, 3)), 1)
    assert y.shape == (0, 3, 3, 8)
    assert not to_device(implicit_gemm.weight_gradient(x, y, Window((3, 3)), 1), "cpu").any()


@pytest.fixture
def high():
    minidl.set_float32_matmul_precision("high")


def way(x, weight, window, groups=1):
    return convolution.faster_way(get_array_module(x), x.dtype, x.shape, weight.shape, window, groups)


def test_it_is_taken_where_rounding_is_allowed(gpu, high):
    x, weight = (to_device(np.zeros(shape, np.float32), gpu) for shape in ((2, 9, 9, 16), (3, 3, 16, 24)))
    window = Window((3, 3))
    assert way(x, weight, window) is implicit_gemm
    assert way(x, weight, Window((3, 3), (2, 1), dilation=(1, 2))) is implicit_gemm
    assert way(x.astype(np.float64), weight.astype(np.float64), window) is None
    assert way(x[..., :14], weight[:, :, :14], window) is None, "channels that are no whole chunks"
    assert way(x, weight[..., :18], window) is None, "outputs that are none"
    assert way(x[..., :0], weight[:, :, :0], window) is way(x, weight[..., :0], window) is None, "no channels, no outputs"
    assert way(x, weight[:, :, :8, :12], window, groups=2) is None, "outputs of a group that are none"
    assert way(x, weight[:, :, :8], window, groups=2) is implicit_gemm
    assert way(x[..., :3], weight[:, :, :3], Window((3, 3), (2, 2))) is folding, "3 channels, but 4 times as many when folded"
    brain = as_dtype("bfloat16")
    minidl.set_float32_matmul_precision("highest")
    assert way(x, weight, window) is None
    assert way(x.astype(brain), weight.astype(brain), window) is implicit_gemm


def test_the_arrays_are_counted_in_32_bits(gpu, high):
    xp = get_array_module(to_device(np.zeros(1), gpu))

    def pays(images, outputs):
        return implicit_gemm.pays(
            xp, np.dtype(np.float32), images, (3, 3, 16, outputs), Window((3, 3), padding=((1, 1), (1, 1))), 1
        )

    assert pays((2048, 256, 255, 16), 16) and not pays((2048, 256, 256, 16), 16)
    assert not pays((1024, 256, 256, 16), 32)


def test_a_gpu_without_such_tensor_cores(gpu, high, monkeypatch):
    x, weight = (to_device(np.zeros(shape, np.float32), gpu) for shape in ((2, 9, 9, 16), (3, 3, 16, 24)))
    monkeypatch.setattr(implicit_gemm, "CAPABILITY", 1000)
    assert way(x, weight, Window((3, 3))) is None


@pytest.mark.parametrize("dtype, error", [("float32", 3e-4), ("bfloat16", 3e-3)])
def test_the_first_layer_of_alexnet_folded_up(gpu, high, dtype, error):
    """Through the functions that layers call, second gradients' included."""
    window = Window((11, 11), (4, 4), ((2, 1), (0, 3)))
    x, weight, dy = normal(0, (2, 31, 27, 3), (11, 11, 3, 16), (2, 6, 5, 16), dtype=np.float32)
    dtype = as_dtype(dtype)
    there = [to_device(a.astype(dtype), gpu) for a in (x, weight, dy)]
    assert way(*there[:2], window) is folding
    exact = [to_device(a, "cpu").astype(np.float64) for a in there]
    for result, expected in (
        (convolution.conv2d(*there[:2], None, window, 1), convolution.conv2d(*exact[:2], None, window, 1)),
        (convolution.weight_gradient(there[0], there[2], window, 1), convolution.weight_gradient(exact[0], exact[2], window, 1)),
    ):
        assert result.dtype == dtype
        off = np.linalg.norm(to_device(result, "cpu").astype(np.float64) - expected) / np.linalg.norm(expected)
        assert error / 3 < off < 1.5 * error
