"""Several images on a sheet: as many tiles as there should be, and every image comes back from where it was laid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.strategies import normal, pairs, seeds
from minidl.kernels.sheets import Sheet
from minidl.kernels.window import Window


def same(k):
    return Window((k, k), padding=((k // 2, k // 2), (k // 2, k // 2)))


@pytest.mark.parametrize(
    "size,k,side,tiles",
    [
        (13, 3, 1, 4),  # 16 for 13
        (13, 3, 2, 7),  # 13 + 1 + 13 = 27: 28, not 32
        (27, 5, 1, 7),
        (27, 5, 2, 14),  # 27 + 2 + 27 = 56
        (4, 3, 2, 3),  # 4 + 1 + 4 = 9
    ],
)
def test_how_many_tiles_images_of_alexnet_take(size, k, side, tiles):
    assert Sheet(same(k), size, size, 4, side).tiles == (tiles, tiles)


geometry = st.tuples(
    st.sampled_from([3, 5]), pairs(0, 4), pairs(0, 4), pairs(5, 12), st.integers(2, 4), st.integers(1, 3), st.integers(1, 2)
)


def made(k, down, along, size, m, side, sheets):
    sheet = Sheet(Window((k, k), padding=(down, along)), *size, m, side)
    return sheet, sheets * sheet.images


@given(geometry, seeds)
def test_outputs_come_back(given_, seed):
    sheet, n = made(*given_)
    (y,) = normal(seed, (n, *sheet.outputs, 2))
    back = np.full_like(y, np.nan)
    sheet.join_outputs(sheet.cut_outputs(y), back)
    np.testing.assert_array_equal(back, y)


@given(geometry, seeds)
def test_join_images_is_the_transpose_of_cut_images(given_, seed):
    """<cut x, t> = <x, join t> for every x and t."""
    sheet, n = made(*given_)
    (x,) = normal(seed, (n, sheet.height, sheet.width, 2))
    cut = sheet.cut_images(x).copy()
    (tiles,) = normal(seed + 1, cut.shape)
    joined = np.full_like(x, np.nan)
    sheet.join_images(tiles, joined)
    np.testing.assert_allclose(np.vdot(cut, tiles), np.vdot(x, joined), rtol=1e-12, atol=1e-10)


def test_a_window_never_sees_two_images():
    """Each image alone on its sheet gives what it gives among others."""
    window = Window((3, 3), padding=((2, 0), (1, 2)))
    (x,) = normal(0, (4, 5, 6, 1))
    alone, together = Sheet(window, 5, 6, 2), Sheet(window, 5, 6, 2, side=2)

    def sums(sheet, images):
        """The sum over every window, by way of the tiles."""
        tiles = sheet.cut_images(images).reshape(4, 4, -1)
        outputs = np.stack([tiles[i : i + 3, j : j + 3].sum((0, 1)) for i in range(2) for j in range(2)])
        y = np.empty((len(images), *sheet.outputs, 1))
        sheet.join_outputs(outputs, y)
        return y

    np.testing.assert_allclose(sums(together, x), sums(alone, x), atol=1e-12)
