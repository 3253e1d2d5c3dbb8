"""Images cut into square tiles of m x m outputs of a window, and the tiles put together again: what `winograd.py` computes on.

A tile that hangs over the edge of the outputs is computed in part for nothing: 13 x 13 outputs take 4 x 4 tiles of 4 x 4. So several
images can be laid side by side on one sheet, sharing the zeros between them; four such images take 7 x 7 tiles, not 8 x 8. To the
window, of stride 1, a sheet is just a larger image, and no output of one image depends on the pixels of another. Its rounding does:
a tile's errors are relative to the largest pixel in it, and a tile may lie across a border. So an image beside one that is a
thousand times as bright loses three digits at that border, and a NaN reaches the images beside its own. float64 is not computed here.

Tiles come and go as matrices with one row for each pixel of a tile and one column for each tile and channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidl.backend import Array
from minidl.kernels import parallel
from minidl.kernels.window import Pair, Window


@dataclass(frozen=True)
class Sheet:
    """side x side images of height x width on a sheet, looked at through `window` (K x K, stride 1) in tiles of m x m outputs."""

    window: Window
    height: int
    width: int
    m: int
    side: int = 1

    @property
    def images(self) -> int:
        return self.side**2

    @property
    def pixels(self) -> int:
        """The side of a tile of an image; that of a tile of the outputs is m."""
        return self.m + self.window.kernel[0] - 1

    @cached_property
    def outputs(self) -> Pair:
        """The height and width of the outputs of one image."""
        return self.window.output_size(self.height, self.width)

    @cached_property
    def steps(self) -> Pair:
        """From one image to the next, down and to the right: past its pixels and its zeros, and past its outputs."""
        (down, along), (rows, columns) = self.window.padding, self.outputs
        return max(self.height + max(down), rows), max(self.width + max(along), columns)

    @cached_property
    def tiles(self) -> Pair:
        """The tiles of a whole sheet, down and to the right."""
        both = zip(self.steps, self.outputs, strict=True)
        rows, columns = (-(-((self.side - 1) * step + places) // self.m) for step, places in both)
        return rows, columns

    def cut_images(self, x: Array) -> Array:
        """x: (N, height, width, C), N a multiple of `images`. Returns (pixels^2, N / images * tiles * C), in scratch memory."""
        sheets = self._blank(x, self.window.kernel[0] - 1)
        for image, place in self._places(x, sheets, self._corner):
            place[...] = image
        return self._cut(sheets, self.pixels)

    def cut_outputs(self, y: Array) -> Array:
        """y: (N, *outputs, O). Returns (m^2, N / images * tiles * O), in scratch memory."""
        sheets = self._blank(y, 0)
        for image, place in self._places(y, sheets, (0, 0)):
            place[...] = image
        return self._cut(sheets, self.m)

    def join_outputs(self, tiles: Array, y: Array) -> None:
        """The way back from `cut_outputs`: every output is put where it belongs in y."""
        cells = tiles.reshape(self.m, self.m, -1, *self.tiles, y.shape[3])
        of_a_sheet = y.reshape(-1, self.side, self.side, *y.shape[1:])
        for i, top, down, row in self._phases(0):
            for j, left, along, column in self._phases(1):
                place = of_a_sheet[:, i, j, top :: self.m, left :: self.m]
                place[...] = cells[down, along, :, row : row + place.shape[1], column : column + place.shape[2]]

    def join_images(self, tiles: Array, x: Array) -> None:
        """The transpose of `cut_images`: a pixel of x is the sum of all that the tiles which overlap there have for it."""
        cells = tiles.reshape(self.pixels, self.pixels, -1, *self.tiles, x.shape[3])
        sheets = self._blank(x, self.window.kernel[0] - 1)
        rows, columns = (self.m * count for count in self.tiles)
        for i in range(self.pixels):
            for j in range(self.pixels):
                sheets[:, i : i + rows : self.m, j : j + columns : self.m] += cells[i, j]
        for image, place in self._places(x, sheets, self._corner):
            image[...] = place

    @property
    def _corner(self) -> Pair:
        """Where the first image begins: behind the padding."""
        (top, _), (left, _) = self.window.padding
        return top, left

    def _blank(self, x: Array, more: int) -> Array:
        """Sheets of zeros for the images x, `more` pixels larger than the outputs of all tiles, in scratch memory."""
        rows, columns = (self.m * count + more for count in self.tiles)
        sheets = parallel.scratch("padded", (len(x) // self.images, rows, columns, x.shape[3]), x.dtype, np)
        sheets.fill(0)
        return sheets

    def _places(self, x: Array, sheets: Array, corner: Pair) -> Iterator[tuple[Array, Array]]:
        """(the images in one place of every sheet, this place), both as views."""
        height, width = x.shape[1:3]
        of_a_sheet = x.reshape(-1, self.side, self.side, *x.shape[1:])
        for i in range(self.side):
            for j in range(self.side):
                top, left = corner[0] + i * self.steps[0], corner[1] + j * self.steps[1]
                yield of_a_sheet[:, i, j], sheets[:, top : top + height, left : left + width]

    def _cut(self, sheets: Array, side: int) -> Array:
        """Tiles of side x side, m apart, as a matrix with a row for each pixel of a tile, in scratch memory."""
        window = Window((side, side), (self.m, self.m))
        cells = window.view(sheets, *self.tiles).transpose(3, 4, 0, 1, 2, 5)
        tiles = parallel.scratch("tiles", cells.shape, sheets.dtype, np)
        tiles[...] = cells
        return tiles.reshape(side * side, -1)

    def _phases(self, axis: int) -> Iterator[tuple[int, int, int, int]]:
        """(i, first, within, tile): outputs first, first + m, ... of image i along an axis are output `within` of tile, tile + 1, ..."""
        for i in range(self.side):
            for first in range(min(self.m, self.outputs[axis])):
                tile, within = divmod(i * self.steps[axis] + first, self.m)
                yield i, first, within, tile
