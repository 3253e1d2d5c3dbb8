"""Every way to write a stride or a padding means the same window."""

import numpy as np
import pytest

import minidl.functional as F
from minidl import Tensor
from minidl.ops.arguments import padding_pairs, pair


@pytest.mark.parametrize("value, expected", [(2, (2, 2)), ((2, 3), (2, 3)), ([2, 3], (2, 3)), (np.int64(2), (2, 2)), (0, (0, 0))])
def test_pairs(value, expected):
    result = pair("f", "stride", value, 0)
    assert result == expected and all(type(n) is int for n in result)


@pytest.mark.parametrize(
    "value, expected",
    [
        (1, ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], [3, 4]], ((1, 2), (3, 4))),
    ],
)
def test_paddings(value, expected):
    assert padding_pairs("f", value) == expected


@pytest.mark.parametrize("forms", [(1, (1, 1), ((1, 1), (1, 1))), ((1, 2), [1, 2], ((1, 1), (2, 2)))])
def test_an_operation_takes_every_form(device, forms):
    x, w = (Tensor(np.random.default_rng(0).standard_normal(shape)) for shape in [(1, 5, 5, 2), (3, 3, 2, 2)])
    results = [F.conv2d(x, w, padding=form).numpy() for form in forms]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_the_order_is_vertical_then_horizontal_and_top_before_bottom(device):
    x = Tensor(np.ones((1, 6, 9, 1)))
    assert F.max_pool2d(x, (2, 3)).shape == (1, 3, 3, 1)
    assert F.max_pool2d(x, 1, stride=(2, 3)).shape == (1, 3, 3, 1)
    assert F.im2col(x, 1, padding=(1, 2)).shape == (1, 8, 13, 1)
    assert F.im2col(x, 1, padding=((1, 2), (0, 4))).shape == (1, 9, 13, 1)
    padded = F.im2col(x, 1, padding=((1, 0), (0, 2))).numpy()[0, :, :, 0]
    assert not padded[0].any() and not padded[:, -2:].any() and padded[1:, :-2].all()
