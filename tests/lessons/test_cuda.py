"""C for a GPU, run in Python: it computes what C would, and says what a compiler or a careful GPU would."""

import numpy as np
import pytest

from lessons import cuda
from lessons.checking import Wrong

INDEX = "long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;"


def ran(body, y=(0, 0, 0, 0), x=(1, -2, 3, -4), blocks=2, threads=2, **named):
    """y after the kernel with this body; its other arguments are x and the size of y."""
    source = 'extern "C" __global__ void f(const float* x, float* y, long long size)\n{\n' + body + "\n}\n"
    y = np.array(y, np.float32)
    cuda.launch(source, "f", blocks, threads, [np.array(x, np.float32), y, y.size], **named)
    return y.tolist()


@pytest.mark.parametrize(
    "statements,expected",
    [
        ("y[i] = x[i] > 0 ? x[i] : 0;", [1, 0, 3, 0]),
        ("y[i] = x[i] < -3 ? 7 : x[i] < 0 ? 8 : 9;", [9, 8, 9, 7]),
        ("y[i] = i / 2 * 10 + i % 3;", [0, 1, 12, 10]),
        ("int n = -7; y[i] = n / 2 * 100 + n % 2;", [-301] * 4),  # towards 0; Python says -4 and 1
        ("y[i] = 1 + 2 * 3 - 8 / (1 + 1);", [3] * 4),
        ("y[i] = 7 / 2.0f;", [3.5] * 4),
        ("int n = 3.9f; y[i] = n;", [3] * 4),
        ("y[i] = (int)x[i] / 2 + float(1) / 2;", [0.5, -0.5, 1.5, -1.5]),
        ("y[i] = -x[i] * !(x[i] > 0) + fmaxf(x[i], 0.f);", [1, 2, 3, 4]),
        ("y[i] = x[i] > 0 && x[i] < 2 || i == 3;", [1, 0, 0, 1]),
        ("float a = 1, b = 2; a += b; a *= 3; a -= 1; a /= 4; y[i] = a;", [2] * 4),
        ("for (int k = 0; k <= i; k++) y[i] += k;", [0, 1, 3, 6]),
        ("int k = 5; while (k > i) { --k; y[i] += 1; }", [5, 4, 3, 2]),
        ("if (i < 2) y[i] = 1; else if (i < 3) { y[i] = 2; } else y[i] = 3;", [1, 1, 2, 3]),
        ("if (i > 1) return;\n y[i] = 1; // done\n /* y[i] = 2; */", [1, 1, 0, 0]),
        ("int in = 3; float lambda = in; y[i] = lambda;", [3] * 4),  # names in C, not in Python
        ("y[i] = isnan(sqrtf(x[i])) ? 1 : 0;", [0, 1, 0, 1]),
        ("float big = 16777216; y[i] = big + 1 == big;", [1] * 4),  # in float32
        ("y[i] = 16777216.f + 1.f == 16777216.f;", [1] * 4),
    ],
)
def test_what_it_computes(statements, expected):
    assert ran(f"{INDEX} if (i < size) {{ {statements} }}") == expected


def test_threads_that_take_several_elements():
    stride = "for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += (long long)gridDim.x * blockDim.x)"
    assert ran(f"{stride} y[i] = blockIdx.x * 10 + threadIdx.x;", y=[0] * 7, threads=3) == [0, 1, 2, 10, 11, 12, 0]


def test_the_threads_run_in_no_order():
    """Each thread of a block writes what the next one will have written, or not yet."""
    body = f"{INDEX} y[i] = 1; if (i > 0) y[i] += y[i - 1] * (x[0] * 0 + 1);"
    assert ran(body, y=[0] * 32, blocks=4, threads=8) != list(range(1, 33))


@pytest.mark.parametrize(
    "body,words",
    [
        (INDEX + "y[i + 1] = x[i];", "of block 1 writes y[4], but y has 4 elements"),
        (INDEX + "y[i] = x[i - 1];", "Thread 0 of block 0 reads x[-1], but x has 4 elements"),
        ("y[threadIdx.x] = 1;", "is written by thread"),
        (INDEX + "x[i] = 1;", "`x` is const"),
        (INDEX + "y[i] = x[i]", "expected `;` after `x [ i ]`, not `}`"),
        (INDEX + "y[i = 1;", "expected `]` after"),
        (INDEX + "if (i < size) { y[i] = 1;", "the source ends before its last `}`"),
        (INDEX + "y[i] = 1; }", "one `}` too many?"),
        ("y[i] = 1;", "`i` is undefined"),
        (INDEX + "while (i < size) y[i] = 1;", "have gone round 1,000,000 times: is there one without end?"),
        ("for (;;) { }", "is there one without end?"),
        ("j = 1;", "`j` is undefined. A new variable is introduced with its type"),
        (INDEX + "y[i] == 1;", "Is there an `=` missing?"),
        (INDEX + "y[i] = x[i] # 2;", "would not understand this: '# 2;"),
        (INDEX + "y[i] = x[i] % 2;", "`%` is for integers"),
        (INDEX + "y[i] = i / 0;", "divides by 0"),
        (INDEX + "y[i] = x[0.5];", "an index is an integer"),
        (INDEX + "int n = x[i] / 0; y[i] = n;", "makes an integer of"),
        (INDEX + "float sum; if (i > 7) sum = 1; y[i] = sum;", "reads `sum` before it has given it a value"),
        (INDEX + "float* p = y; p[i] = 1;", "knows no pointers"),
        ("int i = blockIdx.w;", "`blockIdx` has no `w`"),
        ("int i = threadIdx;", "expected `.` after"),
        ("int = 3;", "expected a name before `=`"),
        (INDEX + "y[i] = tanh(x[i]);", "`tanh` is undefined"),
    ],
)
def test_what_is_refused(body, words):
    with pytest.raises(Wrong) as caught:
        ran(body)
    assert words in str(caught.value)


def test_what_usually_happened_when_a_thread_leaves_an_array():
    with pytest.raises(Wrong, match=r"spoil something else\. Is there no guard\?$"):
        ran(INDEX + "y[i] = 1;", blocks=3, outside={"y": "Is there no guard?"})
    with pytest.raises(Wrong, match="spoil something else\\.$"):
        ran(INDEX + "y[i] = x[i];", y=[0] * 8, blocks=3, outside={"y": "Is there no guard?"})


def test_the_head():
    source = "__global__ void f(float* y) { y[0] = 1; }"
    with pytest.raises(Wrong, match="There is no `extern"):
        cuda.launch(source, "g", 1, 1, [])
    with pytest.raises(Wrong, match="f is given 2 arguments, but its head has 1"):
        cuda.launch(source, "f", 1, 1, [np.zeros(1, np.float32), 1])
