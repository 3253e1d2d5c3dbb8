"""Bugs that people make in kernels, planted one by one into the CUDA source: the comparison with NumPy must find each.

None of them leaves its arrays, which would show only at times: for that, run test_cuda_kernels.py with sanitizers (standin_cupy/raw.py).
"""

import numpy as np
import pytest
import standin_cupy
from hypothesis import HealthCheck, Phase, given, settings

import minidl
from kernels.cuda_cases import CHECKS, launched, launches
from kernels.strategies import BFLOAT16
from minidl.kernels import cuda

REALS = (np.float32, np.float64, BFLOAT16)
BUGS = {  # file, check: what is replaced in the source, by what
    ("pooling", "check_max_pool"): [
        ("-1 / Number(0)", "Number(0)"),  # padding counts as 0
        ("pixel.of[e] > best.of[e]", "pixel.of[e] >= best.of[e]"),  # the last of equal maxima
        (" || pixel.of[e] != pixel.of[e]", ""),  # a NaN is passed over
        ("pixel.of[e] > best.of[e] || pixel.of[e] != pixel.of[e]", "!(pixel.of[e] <= best.of[e])"),  # and replaced
        ("where.of[e] = i * g.kernel_width + j", "where.of[e] = j * g.kernel_height + i"),
        ("column * g.stride_along + j - g.left", "column * g.stride_along + j"),
        ("row * g.stride_down + i - g.top", "row * g.stride_along + i - g.top"),
        ("row += gridDim.x", "row += gridDim.x + 1"),
        ("channel += blockDim.x * WIDTH", "channel += (blockDim.x + 1) * WIDTH"),
        ("column += blockDim.y", "column += blockDim.y + 1"),
    ],
    ("pooling", "check_max_pool_backward"): [
        ("g.rows - 1", "g.rows - 2"),  # what hangs over is forgotten
        ("if (j >= g.kernel_width) break", "if (j + 1 >= g.kernel_width) break"),
        ("min(along / g.stride_along, g.columns - 1)", "min((along - 1) / g.stride_along, g.columns - 1)"),
        ("where.of[e] == i * g.kernel_width + j", "where.of[e] != i * g.kernel_width + j"),
        ("where.of[e] % g.kernel_width", "where.of[e] % g.kernel_height"),
    ],
    ("pooling", "check_sum_pool"): [
        ("along - column * g.stride_along >= g.kernel_width", "along - column * g.stride_along > g.kernel_width"),
        ("x >= 0 && x < width", "x > 0 && x < width"),  # the first column counts as padding
        ("sum.of[e] += pixel.of[e]", "sum.of[0] += pixel.of[e]"),
    ],
    ("im2col", "check_im2col"): [
        ("Channels<Number> pixel = {}", "Channels<Number> pixel = {1}"),  # padding is not 0
        ("i * g.dilation_down - g.top", "i - g.top"),
        ("along * pixel_stride", "along * g.channels"),  # as if the tower were alone
        ("(i * g.kernel_width + j) * g.channels + channel, pixel", "(j * g.kernel_height + i) * g.channels + channel, pixel"),
    ],
    ("im2col", "check_col2im"): [
        ("below % g.stride_down || ", ""),  # places that are none
        (" || column >= g.columns", " || column > g.columns - 2"),
        ("j * g.dilation_along, column", "j, column"),
        ("for (int i = 0; i < g.kernel_height; ++i)", "for (int i = g.kernel_height - 1; i >= 0; --i)"),  # another order
    ],
    ("im2col", "check_convolution"): [("image * image_stride", "0")],
    ("lrn", "check_lrn"): [
        ("max(channel - half, 0)", "max(channel - half + 1, 0)"),
        ("min(channel + half, channels - 1)", "min(channel + half, channels - 2)"),  # the tower's last channel
        ("k + alpha * sum", "k + alpha * sum / (2 * half + 1)"),  # Caffe's alpha
        ("root * sqrt(root)", "root * root"),
        ("pow(s, -beta)", "pow(s, beta)"),
        ("+ own.of[e] * (factor", "- own.of[e] * (factor"),
        ("* number(g[start + c])", "* number(g[start + channel])"),
        ("abs(distance) <= half", "abs(distance) < half"),
        ("channel + WIDTH - 1 + half", "channel + half"),
    ],
    ("elementwise", "check_relu"): [
        ("value <= 0 ? T(0) : value", "value > 0 ? value : T(0)"),  # a NaN becomes 0
        ("output.of[e] > 0", "output.of[e] >= 0"),
        ("i < size; i += step", "i + WIDTH < size; i += step"),
    ],
    ("sums", "check_relu_backward_and_sum"): [
        ("output.of[e] > 0", "output.of[e] >= 0"),
        ("? passed.of[e] : Number(0)", "? passed.of[0] : Number(0)"),
        ("stored(gradient + at)", "stored(gradient)"),
        ("store(dx + at, passed)", "store(dx, passed)"),
        ("found[i]);", "found[0]);"),
    ],
    ("elementwise", "check_finish"): [
        ("load(bias + channel)", "load(bias)"),
        ("+= more.of[e]", "+= more.of[0]"),
        ("y + (row * columns + column) * channels", "y + column * channels"),
        ("if (relu) value", "if (relu && e) value"),
    ],
    ("update", "check_update"): [
        ("weight.of[e] += velocity.of[e]", "weight.of[e] -= velocity.of[e]"),
        ("momentum * velocity.of[e] + gradient.of[e]", "momentum * (velocity.of[e] + gradient.of[e])"),
        ("velocity.of[e] += decay * weight.of[e]", "weight.of[e] -= decay * weight.of[e]"),
        ("/ root + eps", "+ eps"),  # the means' start at 0 is not corrected
    ],
    ("sums", "check_sums"): [
        ("min(first + strip, rows)", "min(first + strip - 1, rows)"),
        ("number * strip,", "number * (strip + 1),"),
        ("block % chunks * along", "0"),
        ("block < strips * chunks", "block < strips"),
        ("+= more.of[e]", "+= more.of[0]"),
        ("(channels + along - 1) / along", "channels / along"),
        ("row += AT_ONCE * blockDim.y", "row += (AT_ONCE + 1) * blockDim.y"),
        ("i < AT_ONCE; ++i) add", "i < AT_ONCE - 1; ++i) add"),
        ("for (; row < last; row += blockDim.y)", "if (row < last)"),
        ("first + threadIdx.y", "first"),
        ("half = blockDim.y / 2", "half = blockDim.y / 4"),
        ("    *mine = own;\n    __syncthreads();", "    *mine = own;"),
        ("        __syncthreads();\n    }", "    }"),
    ],
    ("cross_entropy", "check_cross_entropy"): [
        ("a > b ? a : b", "b"),  # some score in place of the largest
        ("const int half = (count + 1) / 2", "const int half = count / 2"),
        ("        __syncthreads();\n        count = half", "        count = half"),
        ("    __syncthreads();  // before the next call writes\n", ""),
        ("    parts[threadIdx.x] = own;\n    __syncthreads();", "    parts[threadIdx.x] = own;"),
        ("label >= classes", "label > classes"),
        ("1 - smoothing : ", "1 : "),
        ("smoothing / classes", "smoothing / (classes - 1)"),
        ("if (share != 0) ", ""),
        ("* gradient[row]", "* gradient[0]"),
        ("k < classes; k +=", "k + WIDTH < classes; k +="),
        ("exp(score.of[e] - most)", "exp(score.of[e])"),
    ],
    ("dropout", "check_dropout"): [
        ("offset + (i + e) / 4", "offset + i + e"),
        ("round < 10", "round < 9"),
        ("(i + e) % 4", "i % 4"),
        ("(uint32)(key >> 32)", "0"),
    ],
}

BFLOAT16_BUGS = {  # the same in bfloat16, where float32 has no such line or no such vectors
    ("pooling", "check_sum_pool"): [
        (" + 0x7fff + (bits >> 16 & 1)", ""),  # cut off
        (" + 0x7fff + (bits >> 16 & 1)", " + 0x8000"),  # half way always up
        ("stored.bits << 16", "stored.bits << 15"),
        ("value.of[e] = number(stored.of[e])", "value.of[e] = number(stored.of[0])"),
        ("stored.of[e] = rounded(value.of[e])", "stored.of[WIDTH - 1 - e] = rounded(value.of[e])"),
    ],
    ("elementwise", "check_relu"): [("i < size; i += step", "i + 4 < size; i += step")],
    ("pooling", "check_max_pool_backward"): [("? number(x[", "? 2 * number(x[")],
    ("lrn", "check_lrn"): [
        ("number(pixel[c]) * number(pixel[c])", "number(pixel[c])"),
        ("* number(g[start + c])", "* number(g[start])"),
    ],
    ("dropout", "check_dropout"): [
        ("if (e % 4 == 0) numbers", "if (e == 0) numbers"),  # with 8 elements a thread, the second four
        ("offset + (i + e) / 4", "offset + i / 4"),
    ],
}


@pytest.fixture
def plant(monkeypatch):
    """`plant(old, new)`: from now on kernels are made from source in which `old` has become `new`."""

    def forget():
        cuda._function.cache_clear()
        cuda.compiles.cache_clear()

    def plant(old, new):
        real = cuda.source
        monkeypatch.setattr(cuda, "source", lambda file: real(file).replace(old, new))
        forget()

    yield plant
    forget()


@pytest.mark.skipif(standin_cupy.compiler() is None, reason="no C++ compiler to build the kernels with")
@pytest.mark.parametrize(
    "real, file, check, old, new",
    [
        (real, *at, *bug)
        for real, planted in ((np.float32, BUGS), (BFLOAT16, BFLOAT16_BUGS))
        for at, bugs in planted.items()
        for bug in bugs
    ],
)
def test_the_bug_is_found(plant, real, file, check, old, new):
    function, cases = next((function, cases) for function, cases in CHECKS if function.__name__ == check)

    @settings(phases=[Phase.generate], suppress_health_check=list(HealthCheck), max_examples=100)
    @given(cases, launches)
    def run(case, launch):
        with launched(*launch):
            function("gpu", tuple(real if part in REALS else part for part in case))  # one type: less to compile

    with standin_cupy.install(), minidl.default_device("gpu"):
        assert old in cuda.source(file), "the source has changed: plant another bug"
        plant(old, new)
        with pytest.raises(AssertionError):
            run()
