"""How a window slides over images of N, H, W, C: the geometry that convolution and pooling share.

Throughout the kernels a *place* is where the window stands, one for each pixel of the result (OH x OW of them); a *position* is one of
the KH x KW pixels inside the window; a *tower* is a group of channels that sees no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minidl.backend import Array, get_array_module
from minidl.kernels import parallel

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window of `kernel` (height, width), moved by `stride` over an image with `padding` ((top, bottom), (left, right)) pixels
    added; `dilation` - 1 pixels lie between two of the window's own. The size of the result is `output_size`."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Height and width that the window covers, gaps included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def output_size(self, height: int, width: int) -> Pair:
        """How many places the window has, up-down and left-right (at most 0 where it does not fit)."""
        (eh, ew), (sh, sw), ((top, bottom), (left, right)) = self.extent, self.stride, self.padding
        return (height + top + bottom - eh) // sh + 1, (width + left + right - ew) // sw + 1

    def view(self, x: Array, rows: int, columns: int) -> Array:
        """(N, rows, columns, KH, KW, C): every window of an already padded `x`, without a copy; only to be read, windows overlap."""
        n, _, _, c = x.shape
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        strides = x.strides
        return get_array_module(x).lib.stride_tricks.as_strided(
            x,
            (n, rows, columns, kh, kw, c),
            (strides[0], strides[1] * sh, strides[2] * sw, strides[1] * dh, strides[2] * dw, strides[3]),
        )

    def taps(self, x: Array, rows: int, columns: int) -> list[Array]:
        """For each of the KH * KW positions in the window, row by row: the pixels it meets, (N, rows, columns, C), as views."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        return [
            x[:, i * dh : i * dh + sh * (rows - 1) + 1 : sh, j * dw : j * dw + sw * (columns - 1) + 1 : sw]
            for i in range(kh)
            for j in range(kw)
        ]

    def padded(self, x: Array, fill: float = 0.0, rows: slice | None = None) -> Array:
        """The piece of the padded image that the output rows `rows` (default: all) look at.

        A view of `x` where no padding is met, else a scratch array: use it before the next call.
        """
        n, height, width, c = x.shape
        (eh, _), (sh, _), ((top, bottom), (left, right)) = self.extent, self.stride, self.padding
        first, last = 0, height + top + bottom
        if rows is not None:
            first, last = rows.start * sh, (rows.stop - 1) * sh + eh
        inside = slice(max(first - top, 0), max(min(last - top, height), 0))
        if not (left or right or first < top or last > top + height):
            return x[:, inside]
        xp: Any = get_array_module(x)
        image = parallel.scratch("padded", (n, last - first, left + width + right, c), x.dtype, xp)
        image.fill(fill)
        if inside.start < inside.stop:
            start = inside.start + top - first
            image[:, start : start + inside.stop - inside.start, left : left + width] = x[:, inside]
        return image


def towers(channels: int, outputs: int, groups: int) -> list[tuple[slice, slice]]:
    """For each group of a convolution (the slice of all `channels` that it reads, the slice of all `outputs` that it writes)."""
    c, o = channels // groups, outputs // groups
    return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(groups)]
