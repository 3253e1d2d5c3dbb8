"""Lesson 10: the places of a window, convolution by loops and as one matrix product, im2col and its transpose."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl.backend import to_device

# (images, height, width, channels), window, stride: with and without pixels left over at the end.
CASES = [((2, 5, 7, 3), 2, 1), ((2, 8, 9, 3), 3, 2), ((1, 12, 10, 2), 5, 3), ((2, 7, 8, 1), 2, 3), ((3, 4, 4, 2), 4, 1)]

EXCHANGED = "row and column in the window are exchanged: `a` goes down, `b` goes right."
NO_STRIDE = "the stride is left out of the slices: a, a + stride, a + 2 * stride, ..."
REPLACED = "where windows overlap, what comes later replaces what came before: add with `+=`."


def _draw(seed, shape, device):
    """(the numbers, the same on the device)"""
    values = np.random.default_rng(seed).standard_normal(shape)
    return values, to_device(values, device)


def _windows(x, kernel, stride):
    """(N, OH, OW, kernel, kernel, C): every window, by slices."""
    rows, across = ((size - kernel) // stride + 1 for size in x.shape[1:3])
    cut = [[x[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] for j in range(across)] for i in range(rows)]
    return np.stack([np.stack(row, axis=1) for row in cut], axis=1)


def _stride_forgotten(x, kernel, stride):
    """The windows as they are when each begins one pixel after the other; as many as there should be."""
    rows, across = ((size - kernel) // stride + 1 for size in x.shape[1:3])
    return _windows(x, kernel, 1)[:, :rows, :across]


def _rows(windows):
    return windows.reshape(*windows.shape[:3], -1)


def _convolve(windows, weight):
    return np.tensordot(windows, weight, axes=3)


def _add_back(patches, shape, stride):
    """Patches (N, OH, OW, kernel, kernel, C) added to an image, place by place."""
    image, kernel = np.zeros(shape), patches.shape[3]
    for i in range(patches.shape[1]):
        for j in range(patches.shape[2]):
            image[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] += patches[:, i, j]
    return image


def _put_back(patches, shape, stride, by_place):
    """As `_add_back`, but what comes later replaces what came before."""
    image, kernel = np.zeros(shape), patches.shape[3]
    rows, across = patches.shape[1:3]
    if by_place:
        for i in range(rows):
            for j in range(across):
                image[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] = patches[:, i, j]
    else:
        for a in range(kernel):
            for b in range(kernel):
                image[:, a : a + stride * rows : stride, b : b + stride * across : stride] = patches[:, :, :, a, b]
    return image


def check_places(lesson):
    """places: small numbers"""
    for size, kernel, stride in ((5, 3, 1), (7, 3, 2), (3, 3, 1), (8, 3, 2), (6, 2, 3)):
        what = f"places({size}, {kernel}, {stride})"
        got = lesson.places(size, kernel, stride)
        rest = (size - kernel) / stride
        if isinstance(got, float):
            raise Wrong(
                f"{what}: {got:g} is not a whole number of Python's (an int). `//` divides and rounds down, `/` gives a float."
            )
        mistakes = {
            "the first place is not counted: (size - kernel) // stride counts the steps, and there is one place more.": int(rest),
            "a window that does not fit any more is counted: round down.": int(np.ceil(rest)) + 1,
            "the size of the window is left out: the last window begins `kernel` pixels before the end.": size // stride,
            "the stride is left out.": size - kernel + 1,
        }
        same(what, got, int(rest) + 1, mistakes=mistakes)


def check_places_of_alexnet(lesson):
    """places: AlexNet's first layers"""
    for size, kernel, stride, want in ((227, 11, 4, 55), (224, 11, 4, 54), (31, 5, 1, 27), (27, 3, 2, 13)):
        got = lesson.places(size, kernel, stride)
        is_a(f"places({size}, {kernel}, {stride})", got, int)
        same(f"places({size}, {kernel}, {stride})", got, want)


def _loop_mistakes(x, weight, stride):
    kernel = weight.shape[0]
    windows = _windows(x, kernel, stride)
    return {
        "the window begins at (i, j) instead of (i * stride, j * stride).": _convolve(
            _stride_forgotten(x, kernel, stride), weight
        ),
        "the filter is turned by 180 degrees. Here it is not: window[a, b] meets weight[a, b].": _convolve(
            windows, weight[::-1, ::-1]
        ),
        "row and column are exchanged between window and filter.": _convolve(windows, weight.swapaxes(0, 1)),
        "every filter gives the result of filter 0: use weight[..., o].": np.broadcast_to(
            _convolve(windows, weight[..., :1]), windows.shape[:3] + weight.shape[3:]
        ),
        "every image gives the result of image 0: use x[n, ...].": np.broadcast_to(
            _convolve(windows[:1], weight), windows.shape[:3] + weight.shape[3:]
        ),
        "the mean is taken instead of the sum.": _convolve(windows, weight) / weight[..., 0].size,
    }


def check_one_filter(lesson, device):
    """convolve_by_loops: one image, one channel, one filter"""
    x = np.arange(16.0).reshape(1, 4, 4, 1) ** 2
    weight = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    try:
        got = lesson.convolve_by_loops(to_device(x, device), to_device(weight, device), 1)
    except ValueError as error:
        if "with a sequence" not in str(error):
            raise
        raise Wrong(
            "convolve_by_loops: y[n, i, j, o] is one number, and it was to become an array.\n"
            "Likely cause: the sum is missing, over all that window * filter gives."
        ) from None
    windows = _windows(x, 2, 1)
    mistakes = {
        "`i` is the row of the window and `j` its column; here they are exchanged.": _convolve(windows, weight).swapaxes(1, 2),
        "weight[o] is row o of all filters. The filters are the last axis: weight[..., o].": (windows * weight[0]).sum(
            axis=(3, 4, 5)
        )[..., None],
        **_loop_mistakes(x, weight, 1),
    }
    same(
        "convolve_by_loops(x, weight, 1), x of 4 x 4 pixels, a filter of 2 x 2",
        got,
        _convolve(windows, weight),
        mistakes=mistakes,
    )


def check_loops(lesson, device):
    """convolve_by_loops: several images, channels, filters, and a stride"""
    for seed, (shape, kernel, stride) in enumerate((((2, 6, 5, 3), 2, 1), ((2, 6, 8, 2), 3, 2))):
        x, on_device = _draw(seed, shape, device)
        weight, weight_there = _draw(seed + 10, (kernel, kernel, shape[3], 3), device)
        got = lesson.convolve_by_loops(on_device, weight_there, stride)
        what = f"convolve_by_loops(x, weight, {stride}), x {shape}, weight {weight.shape}"
        same(what, got, _convolve(_windows(x, kernel, stride), weight), rtol=1e-9, mistakes=_loop_mistakes(x, weight, stride))


def check_patches_of_numbers(lesson, device):
    """im2col: the example of the lesson"""
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    got = lesson.im2col(to_device(x, device), 2, 1)
    want = _rows(_windows(x, 2, 1))
    mistakes = {
        EXCHANGED: _rows(_windows(x, 2, 1).swapaxes(3, 4)),
        "every position of the window gets the pixels of its first one: the slices begin at a and b.": np.repeat(
            want[..., :1], 4, axis=3
        ),
        "only the last position is filled: is `patches[...] = ...` inside both loops?": want * np.array([0, 0, 0, 1]),
    }
    same("im2col(x, 2, 1), x of 3 x 4 pixels with the numbers 0 to 11", got, want, mistakes=mistakes)


def check_patches(lesson, device):
    """im2col: images, channels, strides, pixels left over"""
    for seed, (shape, kernel, stride) in enumerate(CASES):
        x, on_device = _draw(seed, shape, device)
        windows = _windows(x, kernel, stride)
        mistakes = {
            EXCHANGED: _rows(windows.swapaxes(3, 4)),
            NO_STRIDE: _rows(_stride_forgotten(x, kernel, stride)),
            "inside a row the channels come first; they come last.": _rows(windows.transpose(0, 1, 2, 5, 3, 4)),
            "only image 0 is taken, and repeated.": np.broadcast_to(_rows(windows[:1]), _rows(windows).shape),
        }
        what = f"im2col(x, {kernel}, {stride}) for x of shape {shape}"
        same(what, lesson.im2col(on_device, kernel, stride), _rows(windows), mistakes=mistakes)


def check_patches_keep_the_type(lesson, device):
    """im2col: float32 stays float32"""
    x = np.ones((1, 3, 3, 1), np.float32)
    same("im2col(x, 2, 1) of float32", lesson.im2col(to_device(x, device), 2, 1), np.ones((1, 2, 2, 4)), dtype=np.float32)


def check_convolve(lesson, device):
    """convolve: the same as the loops"""
    for seed, (shape, kernel, stride) in enumerate(CASES):
        x, on_device = _draw(seed, shape, device)
        weight, weight_there = _draw(seed + 10, (kernel, kernel, shape[3], 4), device)
        patches = _rows(_windows(x, kernel, stride))
        mistakes = {
            "weight.reshape(O, -1).T tears the filters apart: O is the last axis of weight, so reshape to (-1, O).": patches
            @ weight.reshape(4, -1).T,
            "the axes of the filter are turned round: in `weight` the order is row, column, channel, as in a patch.": patches
            @ weight.T.reshape(4, -1).T,
            "row and column of the filter are exchanged.": patches @ weight.swapaxes(0, 1).reshape(-1, 4),
        }
        what = f"convolve(x, weight, {stride}), x {shape}, weight {weight.shape}"
        same(
            what, lesson.convolve(on_device, weight_there, stride), patches @ weight.reshape(-1, 4), rtol=1e-9, mistakes=mistakes
        )


def check_overlaps_add(lesson, device):
    """col2im: overlapping windows add"""
    columns = np.repeat(np.array([1.0, 2.0, 3.0, 4.0]), 4).reshape(1, 2, 2, 4)
    got = lesson.col2im(to_device(columns, device), (1, 3, 3, 1), 2, 1)
    patches, shape = columns.reshape(1, 2, 2, 2, 2, 1), (1, 3, 3, 1)
    want = _add_back(patches, shape, 1)
    mistakes = {
        REPLACED: _put_back(patches, shape, 1, by_place=False),
        "where windows overlap, each one replaces what the ones before it brought: add with `+=`.": _put_back(
            patches, shape, 1, by_place=True
        ),
        "the mean of what arrives at a pixel; the transpose adds it up.": want / _add_back(np.ones_like(patches), shape, 1),
    }
    same("col2im of windows full of 1, 2, 3 and 4, on 3 x 3 pixels", got, want, mistakes=mistakes)


def check_back_to_its_place(lesson, device):
    """col2im: each number of a patch goes back to its own pixel"""
    columns = np.arange(1.0, 9.0).reshape(1, 2, 1, 4)
    patches, shape = columns.reshape(1, 2, 1, 2, 2, 1), (1, 4, 2, 1)
    got = lesson.col2im(to_device(columns, device), shape, 2, 2)
    mistakes = {
        EXCHANGED: _add_back(patches.swapaxes(3, 4), shape, 2),
        NO_STRIDE: _add_back(patches, shape, 1),
    }
    same("col2im of two windows that do not overlap, on 4 x 2 pixels", got, _add_back(patches, shape, 2), mistakes=mistakes)


def check_adjoint(lesson, device):
    """col2im: the adjoint identity <im2col(x), c> = <x, col2im(c)>"""
    for seed, (shape, kernel, stride) in enumerate(CASES):
        x, _ = _draw(seed, shape, device)
        windows = _windows(x, kernel, stride)
        patches, _ = _draw(seed + 20, windows.shape, device)
        got = lesson.col2im(to_device(_rows(patches), device), shape, kernel, stride)
        what = f"col2im(c, {shape}, {kernel}, {stride})"
        want = _add_back(patches, shape, stride)
        mistakes = {
            REPLACED: _put_back(patches, shape, stride, by_place=False),
            EXCHANGED: _add_back(patches.swapaxes(3, 4), shape, stride),
            NO_STRIDE: _add_back(patches, shape, 1),
        }
        same(what, got, want, rtol=1e-9, mistakes=mistakes)
        same(
            f"<x, {what}>, which is to be <im2col(x), c>",
            (to_device(x, device) * got).sum(),
            (windows * patches).sum(),
            rtol=1e-9,
        )


HINTS = {
    "places": (
        "Where does the last window begin, at most? Then count the steps from the first window to there. A step that is not whole does "
        "not count.",
        "The last window begins at size - kernel or before it: so many whole steps of `stride`, and one place more than steps.",
        "    return (size - kernel) // ... + ...",
    ),
    "convolve_by_loops": (
        "Place (i, j) of the window begins i strides down and j strides to the right. What is cut out there has the shape of a filter.",
        "window = the pixels from (i * stride, j * stride), kernel of them each way, all channels; y = the sum of window * filter o.",
        "        top, left = i * stride, ...\n"
        "        window = x[n, top : top + kernel, ...]\n"
        "        y[n, i, j, o] = (window * weight[..., o]). ...",
    ),
    "im2col": (
        "Two loops, over the positions (a, b) in the window. For each, one slice of x gives what this position meets at all places.",
        "Position (a, b) meets the rows a, a + stride, ..., `rows` of them, and the columns b, b + stride, ..., `across` of them.",
        "    for a in range(kernel):\n"
        "        for b in range(kernel):\n"
        "            down = slice(a, a + stride * rows, stride)\n"
        "            right = slice(...)\n"
        "            patches[:, :, :, a, b] = x[:, ..., ...]",
    ),
    "convolve": (
        "A matrix with a patch in each row times a matrix with a filter in each column. Then one row of the result for each place.",
        "P: (N * OH * OW, kernel * kernel * C). W: (kernel * kernel * C, O). P @ W, reshaped to (N, OH, OW, O).",
        "    patches = columns.reshape(-1, columns.shape[-1])\n"
        "    product = patches @ weight.reshape(..., ...)\n"
        "    return product.reshape(*columns.shape[:3], ...)",
    ),
    "col2im": (
        "The same loops and slices as in im2col. There the patches received and the picture gave; here it is the other way round.",
        "image at (rows a, a + stride, ...; columns b, b + stride, ...) grows by patches[:, :, :, a, b].",
        "    for a in range(kernel):\n"
        "        for b in range(kernel):\n"
        "            down = slice(a, ...)\n"
        "            right = ...\n"
        "            image[:, down, right] += ...",
    ),
}

CUT = """\
        top, left = i * stride, j * stride
"""
TAKE = """\
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            patches[:, :, :, a, b] = x[:, down, right]
"""
GIVE = """\
            down = slice(a, a + stride * rows, stride)
            right = slice(b, b + stride * across, stride)
            image[:, down, right] += patches[:, :, :, a, b]
"""
TURNED_SLICES = """\
            down = slice(b, b + stride * rows, stride)
            right = slice(a, a + stride * across, stride)
"""


def _with_lines(new, old):
    """`old` with its first two lines replaced by `new`."""
    return new + old.splitlines(keepends=True)[2]


PLAIN_SLICES = """\
            down = slice(a, a + rows)
            right = slice(b, b + across)
"""

MUTANTS = [
    Mutant("no sum", "(window * weight[..., o]).sum()", "window * weight[..., o]", "the sum is missing", cpu_only=True),
    Mutant(
        "steps instead of places", "(size - kernel) // stride + 1", "(size - kernel) // stride", "the first place is not counted"
    ),
    Mutant("a float", "(size - kernel) // stride + 1", "(size - kernel) / stride + 1", "not a whole number"),
    Mutant("rounded up", "(size - kernel) // stride + 1", "-((kernel - size) // stride) + 1", "does not fit any more is counted"),
    Mutant("the window's size forgotten", "(size - kernel) // stride + 1", "size // stride", "size of the window is left out"),
    Mutant("loops without stride", CUT, "        top, left = i, j\n", "begins at \\(i, j\\) instead of"),
    Mutant(
        "the filter turned", "(window * weight[..., o]).sum()", "(window[::-1, ::-1] * weight[..., o]).sum()", "turned by 180"
    ),
    Mutant("place turned", CUT, "        top, left = j * stride, i * stride\n", "`i` is the row of the window"),
    Mutant("the first axis", "(window * weight[..., o]).sum()", "(window * weight[o]).sum()", "The filters are the last axis"),
    Mutant("always filter 0", "(window * weight[..., o]).sum()", "(window * weight[..., 0]).sum()", "result of filter 0"),
    Mutant("always image 0", "x[n, top : top + kernel,", "x[0, top : top + kernel,", "result of image 0"),
    Mutant("im2col exchanged", TAKE, _with_lines(TURNED_SLICES, TAKE), "row and column in the window are exchanged"),
    Mutant("im2col without stride", TAKE, _with_lines(PLAIN_SLICES, TAKE), "stride is left out of the slices"),
    Mutant(
        "channels first",
        "    return patches.reshape(count, rows, across, kernel * kernel * channels)",
        "    patches = patches.transpose(0, 1, 2, 5, 3, 4)\n    return patches.reshape(count, rows, across, kernel * kernel * channels)",
        "the channels come first",
    ),
    Mutant("filters torn apart", "weight.reshape(-1, filters)", "weight.reshape(filters, -1).T", "tears the filters apart"),
    Mutant(
        "a flat result",
        "return product.reshape(*columns.shape[:3], filters)",
        "return product",
        "is a reshape or `keepdims` missing",
    ),
    Mutant("assigned", "image[:, down, right] += patches", "image[:, down, right] = patches", "replaces what came before"),
    Mutant("col2im exchanged", GIVE, _with_lines(TURNED_SLICES, GIVE), "row and column in the window are exchanged"),
    Mutant("col2im without stride", GIVE, _with_lines(PLAIN_SLICES, GIVE), "stride is left out of the slices"),
    Mutant(
        "the mean",
        GIVE + "    ### END SOLUTION\n    return image\n",
        GIVE
        + """\
    count = xp.zeros(shape, columns.dtype)
    for a in range(kernel):
        for b in range(kernel):
            down = slice(a, a + stride * rows, stride)
            count[:, down, b : b + stride * across : stride] += 1
    return image / xp.maximum(count, 1)
""",
        "the mean of what arrives",
    ),
]
