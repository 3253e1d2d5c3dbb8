"""Matrix products cut into one piece a worker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.pieces import in_pieces
from kernels.strategies import assert_close, dtypes, laid_out, layouts, normal, seeds, workers
from minidl.backend import to_device
from minidl.kernels.matmul import matmul

sizes = st.integers(1, 20)


@given(sizes, sizes, sizes, seeds, dtypes, layouts, layouts, workers)
def test_matrices_of_every_shape_and_layout(device, n, k, m, seed, dtype, layout_a, layout_b, count):
    a, b = normal(seed, (n, k), (k, m), dtype=dtype)
    with in_pieces(1, count):
        product = matmul(laid_out(a, layout_a, device), laid_out(b, layout_b, device))
    assert product.dtype == dtype
    assert_close(product, a.astype(np.float64) @ b)


@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4, 5), (2, 5, 3)), ((0, 3), (3, 2)), ((2, 0), (0, 3))]
)
def test_stacks_of_matrices_and_empty_ones(device, shapes):
    a, b = normal(0, *shapes)
    assert_close(matmul(to_device(a, device), to_device(b, device)), a @ b)


def test_mixed_dtypes_give_the_wider_one(device):
    a, b = np.ones((5, 4), np.float32), np.ones((4, 6))
    with in_pieces(1, 2):
        assert matmul(to_device(a, device), to_device(b, device)).dtype == np.float64


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
def test_the_same_product_gives_the_same_bits(shape):
    a, b = normal(0, (shape[0], 50), (50, shape[1]), dtype=np.float32)
    with in_pieces(1, 3):
        first = matmul(a, b).tobytes()
        assert all(matmul(a, b).tobytes() == first for _ in range(5))
