"""What Hypothesis draws for the kernels: windows with images they fit into, and arrays in every layout of memory."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from minidl.backend import get_array_module, to_device
from minidl.dtypes import as_dtype, is_bfloat16
from minidl.kernels.window import Window

seeds = st.integers(0, 2**32 - 1)
BFLOAT16 = as_dtype("bfloat16").type
dtypes = st.sampled_from([np.float32, np.float64])
reals = st.sampled_from([np.float32, np.float64, BFLOAT16])  # what CUDA kernels take
layouts = st.sampled_from(["contiguous", "transposed", "every other", "reversed"])
chunk_bytes = st.sampled_from([1, 300, 2000, 1 << 20])  # from a row of a single image to the whole batch in one piece
workers = st.integers(1, 3)


def pairs(least: int, most: int):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def geometries(draw, pooling: bool = False):
    """(window, height, width): the padding differs on all four sides; for pooling at most half the kernel, and no dilation."""
    kernel = draw(pairs(1, 3))
    sides = [k // 2 if pooling else 2 for k in kernel]
    window = Window(
        kernel,
        draw(pairs(1, 3)),
        (draw(pairs(0, sides[0])), draw(pairs(0, sides[1]))),
        (1, 1) if pooling else draw(pairs(1, 2)),
    )
    least = [max(1, extent - sum(padding)) for extent, padding in zip(window.extent, window.padding, strict=True)]
    return window, *(draw(st.integers(n, n + 4)) for n in least)


def normal(seed: int, *shapes: tuple[int, ...], dtype=np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def laid_out(array: np.ndarray, layout: str, device: str):
    """The same values on `device`, in another order in memory."""
    moved = to_device(array, device)
    xp = get_array_module(moved)
    if layout == "transposed":
        return xp.ascontiguousarray(moved.T).T
    if layout == "every other":
        return xp.repeat(moved, 2, axis=-1)[..., ::2]
    if layout == "reversed":
        backwards = (slice(None, None, -1),) * moved.ndim
        return xp.ascontiguousarray(moved[backwards])[backwards]
    return moved


def assert_close(actual, expected: np.ndarray) -> None:
    """Equal up to the rounding of the sums, in the dtype of `actual`; bfloat16, whose sums are float32, to its last digit."""
    actual = to_device(np.asarray(actual) if isinstance(actual, np.generic) else actual, "cpu")
    assert actual.shape == expected.shape
    unit = 2**-7 if is_bfloat16(actual.dtype) else 100 * np.finfo(actual.dtype).eps
    wide = [a.astype(np.float64) for a in (actual, expected)]
    np.testing.assert_allclose(*wide, rtol=0, atol=unit * max(1.0, float(np.abs(wide[1]).max(initial=0))))
