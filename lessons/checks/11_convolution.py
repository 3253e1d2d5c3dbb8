"""Lesson 11: 224 pixels and 55 places; the slopes of a convolution by hand and by the engine; border, bias and towers."""

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, grad
from minidl.backend import to_device

# (images, height, width, channels), window, stride, filters
CASES = [((2, 5, 7, 3), 2, 1, 4), ((3, 8, 9, 2), 3, 2, 3), ((1, 12, 10, 1), 5, 3, 2)]
NO_BORDER = ((0, 0), (0, 0))


def _draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def _windows(x, kernel, stride):
    """(N, OH, OW, kernel, kernel, C): every window, by slices."""
    rows, across = ((size - kernel) // stride + 1 for size in x.shape[1:3])
    cut = [[x[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] for j in range(across)] for i in range(rows)]
    return np.stack([np.stack(row, axis=1) for row in cut], axis=1)


def _stamps(dy, weight, shape, stride):
    """The slopes of the images: the filter, stamped onto them at each place."""
    image, kernel = np.zeros(shape), weight.shape[0]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            stamp = np.einsum("no,abco->nabc", dy[:, i, j], weight)
            image[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel] += stamp
    return image


def _collected(x, dy, kernel, stride):
    """The slopes of the filters: the windows, as strongly as dy says."""
    return np.tensordot(_windows(x, kernel, stride), dy, axes=((0, 1, 2), (0, 1, 2)))


def _tower_parts(channels, filters, groups):
    c, o = channels // groups, filters // groups
    return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(groups)]


def _border(x, padding):
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _conv2d(x, weight, bias, stride=1, padding=NO_BORDER, groups=1):
    windows = _windows(_border(x, padding), weight.shape[0], stride)
    parts = _tower_parts(x.shape[3], weight.shape[3], groups)
    return np.concatenate([np.tensordot(windows[..., c], weight[..., o], axes=3) for c, o in parts], axis=3) + bias


def _conv2d_gradients(x, weight, dy, stride, padding, groups):
    wide = _border(x, padding)
    dx, dw = np.zeros(wide.shape), np.zeros(weight.shape)
    for c, o in _tower_parts(x.shape[3], weight.shape[3], groups):
        seen = wide[..., c]
        dx[..., c] = _stamps(dy[..., o], weight[..., o], seen.shape, stride)
        dw[..., o] = _collected(seen, dy[..., o], weight.shape[0], stride)
    (top, _), (left, _) = padding
    return dx[:, top : top + x.shape[1], left : left + x.shape[2]], dw, dy.sum(axis=(0, 1, 2))


def check_missing(lesson):
    """missing_pixels: AlexNet's 224, Caffe's 227, small numbers"""
    for size, kernel, stride in ((224, 11, 4), (227, 11, 4), (5, 2, 2), (5, 3, 2), (8, 3, 4), (10, 3, 5), (9, 4, 3), (7, 3, 1)):
        what = f"missing_pixels({size}, {kernel}, {stride})"
        got = lesson.missing_pixels(size, kernel, stride)
        is_a(what, got, int)
        left_over = (size - kernel) % stride
        mistakes = {
            "that many pixels are left over. How many more does one further step need?": left_over,
            "no pixel is left over, so nothing is missing: a whole stride more would be a window too many.": stride - left_over,
            "the size of the window is left out: the steps go over size - kernel pixels.": -size % stride,
        }
        same(what, got, -(size - kernel) % stride, mistakes=mistakes)


def _filter_mistakes(x, dy, kernel, stride):
    want = _collected(x, dy, kernel, stride)
    matrix = want.reshape(-1, want.shape[3])
    return {
        "the mean over the images; the slope is the sum.": want / len(x),
        "the mean over all images and places; the slope is the sum.": want / dy[..., 0].size,
        "only the first image counts; every image sends its share.": _collected(x[:1], dy[:1], kernel, stride),
        "only the last image counts; every image sends its share.": _collected(x[-1:], dy[-1:], kernel, stride),
        "dy^T P has the filters in its rows. P^T dy has them in its columns, as the last axis of the result.": matrix.T.reshape(
            want.shape
        ),
        "row and column in the window are exchanged.": want.swapaxes(0, 1),
    }


def check_filter_of_the_lesson(lesson, device):
    """weight_gradient: the example of the lesson"""
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    dy = np.array([[1.0, 0.0], [0.0, 10.0]]).reshape(1, 2, 2, 1)
    got = lesson.weight_gradient(to_device(x, device), to_device(dy, device), 2, 1)
    mistakes = _filter_mistakes(x, dy, 2, 1)
    same("weight_gradient of the pixels 0 to 8 with dy = 1 0 / 0 10", got, _collected(x, dy, 2, 1), mistakes=mistakes)


def check_filters(lesson, device):
    """weight_gradient: several images, channels, filters, strides"""
    for seed, (shape, kernel, stride, filters) in enumerate(CASES):
        places = [(size - kernel) // stride + 1 for size in shape[1:3]]
        x, dy = _draw(seed, shape, (shape[0], *places, filters))
        got = lesson.weight_gradient(to_device(x, device), to_device(dy, device), kernel, stride)
        what = f"weight_gradient(x, dy, {kernel}, {stride}), x {shape}, dy {dy.shape}"
        mistakes = _filter_mistakes(x, dy, kernel, stride)
        same(what, got, _collected(x, dy, kernel, stride), rtol=1e-9, mistakes=mistakes)


def _picture_mistakes(dy, weight, shape, stride):
    filters, want = weight.shape[3], _stamps(dy, weight, shape, stride)
    torn = weight.reshape(filters, -1).T.reshape(weight.shape)
    cover = np.maximum(_stamps(np.ones_like(dy[..., :1]), np.ones_like(weight[..., :1]), shape, stride), 1)
    return {
        "weight.reshape(O, -1) tears the filters apart; reshape to (-1, O) first, then transpose.": _stamps(
            dy, torn, shape, stride
        ),
        "the filter is turned by 180 degrees: it is stamped onto the picture as it is.": _stamps(
            dy, weight[::-1, ::-1], shape, stride
        ),
        "row and column in the window are exchanged.": _stamps(dy, weight.swapaxes(0, 1), shape, stride),
        "the mean of what arrives at a pixel; stamps that overlap add up.": want / cover,
        "the mean over the images; each image has slopes of its own.": want / len(dy),
    }


def check_picture_of_the_lesson(lesson, device):
    """input_gradient: the example of the lesson"""
    weight = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    dy = np.array([[1.0, 0.0], [0.0, 10.0]]).reshape(1, 2, 2, 1)
    shape = (1, 3, 3, 1)
    got = lesson.input_gradient(to_device(dy, device), to_device(weight, device), shape, 1)
    if getattr(got, "shape", None) == (1, 2, 2, 4):
        raise Wrong("input_gradient: those are the slopes of the patches, dP. From there back to the picture goes col2im.")
    mistakes = _picture_mistakes(dy, weight, shape, 1)
    same("input_gradient of dy = 1 0 / 0 10 and the filter 1 2 / 3 4", got, _stamps(dy, weight, shape, 1), mistakes=mistakes)


def check_pictures(lesson, device):
    """input_gradient: several images, channels, filters, strides"""
    for seed, (shape, kernel, stride, filters) in enumerate(CASES):
        places = [(size - kernel) // stride + 1 for size in shape[1:3]]
        dy, weight = _draw(seed, (shape[0], *places, filters), (kernel, kernel, shape[3], filters))
        got = lesson.input_gradient(to_device(dy, device), to_device(weight, device), shape, stride)
        what = f"input_gradient(dy, weight, {shape}, {stride}), dy {dy.shape}, weight {weight.shape}"
        want = _stamps(dy, weight, shape, stride)
        same(what, got, want, rtol=1e-9, mistakes=_picture_mistakes(dy, weight, shape, stride))


def _leaf(array, device):
    return Tensor(to_device(array, device), requires_grad=True)


def _gradients(what, outputs, inputs, lost="`backward` returns nothing (None). Is a `return` missing?", **options):
    """`grad`, with words for what people's `backward` does wrong."""
    try:
        return grad(outputs, inputs, **options)
    except (RuntimeError, TypeError) as error:
        if "returned Col2im" in str(error):
            raise Wrong(
                f"{what}: `backward` returns the operation itself. It is to be called, with the gradient.\n"
                "Two pairs of brackets: Col2im(shape, kernel, stride)(gradient)."
            ) from None
        if any(word in str(error) for word in ("no Tensor", "ndarray", "ufunc")):
            raise Wrong(
                f"{what}: `backward` returns an array. It gets a Tensor and returns a Tensor.\n"
                "Call the operation, Col2im(...)(gradient), instead of the function col2im."
            ) from None
        raise
    except ValueError as error:
        if "do not depend on it" not in str(error):
            raise
        raise Wrong(f"{what}: nothing comes back.\nLikely cause: {lost}") from None


def check_the_way_back(lesson, device):
    """Im2col.backward: the same as by hand"""
    for seed, (shape, kernel, stride, filters) in enumerate(CASES):
        x, weight = _draw(seed, shape, (kernel, kernel, shape[3], filters))
        images, factors = _leaf(x, device), _leaf(weight, device)
        y = lesson.convolve(images, factors, stride)
        (dy,) = _draw(seed + 10, y.shape)
        what = f"the slopes of convolve(x, weight, {stride}), x {shape}, weight {weight.shape}"
        found = _gradients(what, (y * Tensor(to_device(dy, device))).sum(), [images, factors])
        mistakes = _picture_mistakes(dy, weight, shape, stride)
        same(f"{what}: x", found[0], _stamps(dy, weight, shape, stride), rtol=1e-9, mistakes=mistakes)
        same(f"{what}: weight", found[1], _collected(x, dy, kernel, stride), rtol=1e-9)


def check_the_way_back_again(lesson, device):
    """Im2col.backward: it can be differentiated again"""
    shape, kernel, stride = (2, 6, 5, 2), 2, 2
    x, weight, u = _draw(5, shape, (2, 2, 2, 3), shape)
    images, factors, direction = _leaf(x, device), _leaf(weight, device), Tensor(to_device(u, device))
    y = lesson.convolve(images, factors, stride)
    (dy,) = _draw(6, y.shape)
    what = "the slope with respect to weight of <dx, u>, where dx are the slopes of x"
    dx = _gradients(what, (y * Tensor(to_device(dy, device))).sum(), images, create_graph=True)
    # <dx, u> = <dy, convolve(u, weight)>
    try:
        (found,) = grad((dx * direction).sum(), [factors])
    except ValueError:
        raise Wrong(
            f"{what}: there is none. `backward` has computed dx, but not recorded how.\n"
            "Likely cause: Tensor(col2im(...)) is cut off from its past. Call the operation: Col2im(...)(gradient)."
        ) from None
    same(what, found, _collected(u, dy, kernel, stride), rtol=1e-9)


def _conv2d_mistakes(x, weight, bias, stride, padding, groups):
    (top, bottom), (left, right) = padding
    c, o = weight.shape[2], weight.shape[3] // groups
    wide = _border(x, padding)

    def towers(seen, own):
        """What comes out if tower g reads the channels seen(g) and has the filters own(g)."""
        parts = [_conv2d(wide[..., seen(g)], weight[..., own(g)], 0, stride) for g in range(groups)]
        return np.concatenate(parts, axis=3) + bias

    def mine(size):
        return lambda g: slice(g * size, (g + 1) * size)

    plain = _conv2d(x, weight, 0, stride, padding, groups)
    return {
        "the bias is left out.": plain,
        "the bias is subtracted.": plain - bias,
        "the border is turned round: zeros that belong below and to the right are above and to the left.": _conv2d(
            x, weight, bias, stride, ((bottom, top), (right, left)), groups
        ),
        "every tower reads the channels of the first one.": towers(lambda g: slice(0, c), mine(o)),
        "every tower has the filters of the first one.": towers(mine(c), lambda g: slice(0, o)),
        "the towers take every second channel; each has a run of them: first half, second half.": towers(
            lambda g: slice(g, None, groups), mine(o)
        ),
        "the towers take every second filter; each has a run of them: first half, second half.": towers(
            mine(c), lambda g: slice(g, None, groups)
        ),
        "the towers are joined in the wrong order.": np.roll(plain, o, axis=3) + bias,
    }


def _check_conv2d(lesson, device, seed, shape, kernel, filters, stride=1, padding=0, groups=1):
    """Values and slopes of one conv2d."""
    pairs = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    x, weight, bias = _draw(seed, shape, (kernel, kernel, shape[3] // groups, filters), (filters,))
    tensors = [_leaf(array, device) for array in (x, weight, bias)]
    what = f"conv2d(x, weight, bias, stride={stride}, padding={padding}, groups={groups}), x {shape}, weight {weight.shape}"
    try:
        y = lesson.conv2d(*tensors, stride=stride, padding=padding, groups=groups)
    except ValueError as error:
        if groups > 1 and "do not meet" in str(error):
            raise Wrong(
                f"{what}: {error}\nLikely cause: a filter is to read all {shape[3]} channels. "
                f"It has weights for {weight.shape[2]}, those of its own tower."
            ) from None
        raise
    is_a(what, y, Tensor)
    want = _conv2d(x, weight, bias, stride, pairs, groups)
    for cause, other in {
        "`stride` is not handed on.": (1, pairs),
        "there is no border: `padding` is not used.": (stride, NO_BORDER),
        "(top, bottom) and (left, right) are exchanged; the axes are image, row, column, channel.": (stride, pairs[::-1]),
    }.items():
        wrong = _conv2d(x, weight, bias, other[0], other[1], groups)
        if y.shape == wrong.shape != want.shape:
            raise Wrong(f"{what}: shape {y.shape} instead of {want.shape}.\nLikely cause: {cause}")
    same(what, y, want, rtol=1e-9, mistakes=_conv2d_mistakes(x, weight, bias, stride, pairs, groups))
    (dy,) = _draw(seed + 10, y.shape)
    lost = "a function of NumPy's was given Tensors, and made an array without a past. `concatenate` and `pad` are minidl's."
    found = _gradients(f"{what}: the slopes", (y * Tensor(to_device(dy, device))).sum(), tensors, lost)
    for name, got, slopes in zip(
        ("x", "weight", "bias"), found, _conv2d_gradients(x, weight, dy, stride, pairs, groups), strict=True
    ):
        same(f"{what}: the slopes of {name}", got, slopes, rtol=1e-9)


def check_bias_and_stride(lesson, device):
    """conv2d: stride and bias"""
    _check_conv2d(lesson, device, 0, (2, 7, 5, 2), kernel=2, filters=3)
    _check_conv2d(lesson, device, 1, (2, 7, 6, 2), kernel=3, filters=3, stride=2)


def check_border(lesson, device):
    """conv2d: a border of zeros, on each side its own"""
    _check_conv2d(lesson, device, 2, (2, 5, 4, 2), kernel=3, filters=3, padding=1)
    _check_conv2d(lesson, device, 3, (1, 6, 6, 1), kernel=3, filters=2, stride=2, padding=((0, 2), (0, 2)))
    _check_conv2d(lesson, device, 4, (2, 5, 6, 2), kernel=2, filters=2, padding=((0, 1), (2, 3)))


def check_towers(lesson, device):
    """conv2d: towers that do not see each other"""
    _check_conv2d(lesson, device, 5, (2, 4, 5, 4), kernel=2, filters=6, groups=2)
    _check_conv2d(lesson, device, 6, (2, 5, 5, 6), kernel=3, filters=6, stride=2, padding=1, groups=3)


def check_alexnet(lesson, device):
    """conv2d: 224 pixels give 55 places, as the program of 2012 got them"""
    x, weight = _draw(7, (1, 224, 224, 3), (11, 11, 3, 2))
    bias = np.array([1.0, -1.0])
    end = (0, lesson.missing_pixels(224, 11, 4))
    tensors = [Tensor(to_device(array.astype(np.float32), device)) for array in (x, weight, bias)]
    got = lesson.conv2d(*tensors, stride=4, padding=(end, end))
    want = _conv2d(x, weight, bias, 4, (end, end))
    same("the first layer of AlexNet, 224 pixels with 3 zeros at the end", got, want, rtol=1e-3, atol=1e-3, dtype=np.float32)


HINTS = {
    "missing_pixels": (
        "How many pixels lie behind the last window that fits? If there are some, one more window is to reach over them.",
        "left over = the rest of (size - kernel) / stride. Missing: stride - left over; but 0 if nothing is left over.",
        "    left_over = (size - kernel) % ...\n    return (stride - ...) % stride",
    ),
    "weight_gradient": (
        "The patches as a matrix, P, with a row for each place of each image; dy as a matrix with the same rows. P^T dy sums over them.",
        "P: (N * OH * OW, K * K * C). dy: (N * OH * OW, O). P^T dy: (K * K * C, O), reshaped to (K, K, C, O).",
        "    patches = im2col(x, kernel, stride).reshape(-1, ...)\n"
        "    product = patches.T @ dy.reshape(..., ...)\n"
        "    return product.reshape(kernel, kernel, ..., ...)",
    ),
    "input_gradient": (
        "First the slopes of the patches: the matrix product backwards. Then from the patches to the images, where they add up.",
        "dP = dy W^T, with W the weights as a matrix (K * K * C, O); then col2im(dP).",
        "    columns = dy @ weight.reshape(-1, filters). ...\n    return col2im(columns, ..., ...)",
    ),
    "Im2col.backward": (
        "The transpose of im2col is col2im, and the operation for it stands right below.",
        "Col2im is made with the shape of the images, the kernel and the stride, and then called with the Tensor `gradient`.",
        "        return Col2im(self.shape, ..., ...)(gradient)",
    ),
    "conv2d": (
        "pad gives the border. A loop over the towers cuts out what each one reads and has, and `convolve` does the rest.",
        "Tower g reads the channels from g * channels to (g + 1) * channels and has the filters from g * filters to (g + 1) * filters.",
        "    x = pad(x, [(0, 0), rows, ..., (0, 0)])\n"
        "    towers = []\n"
        "    for g in range(groups):\n"
        "        seen = x[..., g * channels : ...]\n"
        "        own = weight[..., ...]\n"
        "        towers.append(convolve(seen, own, ...))\n"
        "    return concatenate(towers, axis=3) + ...",
    ),
}

LEFT_OVER = """\
    left_over = (size - kernel) % stride
    return (stride - left_over) % stride
"""
BACK = "return Col2im(self.shape, self.kernel, self.stride)(gradient)"
PADDED = "x = pad(x, [(0, 0), rows, columns, (0, 0)])"
SEEN = "x[..., g * channels : (g + 1) * channels]"
OWN = "weight[..., g * filters : (g + 1) * filters]"
PRODUCT = """\
    product = patches.T @ dy.reshape(-1, filters)
    return product.reshape(kernel, kernel, channels, filters)
"""

MUTANTS = [
    Mutant(
        "what is left over",
        "return (stride - left_over) % stride",
        "return left_over",
        "How many more does one further step need",
    ),
    Mutant("a window too many", "return (stride - left_over) % stride", "return stride - left_over", "a window too many"),
    Mutant(
        "the window's size forgotten",
        LEFT_OVER,
        LEFT_OVER.replace("(size - kernel) %", "size %"),
        "the size of the window is left out",
    ),
    Mutant(
        "dy times P",
        PRODUCT,
        PRODUCT.replace("patches.T @ dy.reshape(-1, filters)", "dy.reshape(-1, filters).T @ patches"),
        "dy\\^T P",
    ),
    Mutant(
        "the mean",
        PRODUCT,
        PRODUCT.replace("return product", "product = product / len(x)\n    return product"),
        "the mean over the images",
    ),
    Mutant(
        "filters torn apart",
        "weight.reshape(-1, filters).T\n",
        "weight.reshape(filters, -1)\n",
        "tears the filters apart",
    ),
    Mutant(
        "turned",
        "    columns = dy @ weight",
        "    weight = weight[::-1, ::-1]\n    columns = dy @ weight",
        "turned by 180 degrees",
    ),
    Mutant("an array", BACK, "return col2im(gradient.data, self.shape, self.kernel, self.stride)", "returns an array"),
    Mutant("the function", BACK, "return col2im(gradient, self.shape, self.kernel, self.stride)", "returns an array"),
    Mutant(
        "cut off", BACK, "return Tensor(col2im(gradient.data, self.shape, self.kernel, self.stride))", "is cut off from its past"
    ),
    Mutant("no return", BACK, BACK.replace("return ", ""), "Is a `return` missing"),
    Mutant("not called", BACK, BACK.replace("(gradient)", ""), "Two pairs of brackets"),
    Mutant("only the patches", "return col2im(columns, shape, kernel, stride)", "return columns", "slopes of the patches"),
    Mutant(
        "NumPy's concatenate",
        "concatenate(towers, axis=3) + bias",
        "np.concatenate(towers, axis=3) + bias",
        "an array without a past",
        cpu_only=True,
    ),
    Mutant("no bias", "concatenate(towers, axis=3) + bias", "concatenate(towers, axis=3)", "the bias is left out"),
    Mutant("no stride", "convolve(seen, own, stride)", "convolve(seen, own, 1)", "`stride` is not handed on"),
    Mutant("no border", "    " + PADDED + "\n", "", "`padding` is not used"),
    Mutant(
        "border on the wrong axes",
        PADDED,
        "x = pad(x, [(0, 0), columns, rows, (0, 0)])",
        "\\(top, bottom\\) and \\(left, right\\)",
    ),
    Mutant("border turned", PADDED, "x = pad(x, [(0, 0), rows[::-1], columns[::-1], (0, 0)])", "the border is turned round"),
    Mutant("all channels", SEEN, "x", "those of its own tower"),
    Mutant("channels of the first", SEEN, "x[..., :channels]", "reads the channels of the first one"),
    Mutant("filters of the first", OWN, "weight[..., :filters]", "has the filters of the first one"),
    Mutant("every second channel", SEEN, "x[..., g::groups]", "every second channel"),
    Mutant("every second filter", OWN, "weight[..., g::groups]", "every second filter"),
]
