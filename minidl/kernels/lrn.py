"""Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3), channels last.

    y = x * s ** -beta        s = k + alpha * (sum of x ** 2 over `size` neighbouring channels)

The window is centred, so it is its own transpose, and with g the gradient of y

    dx = h - 2 alpha beta x * (window sum of x * h / s)        h = g * s ** -beta

Channels lie side by side in memory, so a window sum could be `size` shifted additions for each pixel; but a row of 48 channels is too
short for NumPy to be fast on. So rows are laid one behind the other with size // 2 zeros between towers, where windows may hang over:
the shifted additions then run over one long line. Everything between reading x and writing y happens on a piece that stays in the
cache; s is computed again on the way back rather than kept.
"""

from __future__ import annotations

from collections.abc import Callable

from minidl.backend import Array, get_array_module
from minidl.dtypes import is_bfloat16, rounded
from minidl.kernels import cuda, parallel


def lrn_plain(x: Array, size: int, alpha: float, beta: float, k: float, groups: int) -> Array:
    """The definition, channel by channel. x: (..., C)."""
    xp = get_array_module(x)
    y, width = xp.empty_like(x), x.shape[-1] // groups
    for c in range(x.shape[-1]):
        tower = c // width * width
        first, last = max(c - size // 2, tower), min(c + size // 2, tower + width - 1)
        y[..., c] = x[..., c] * (k + alpha * (x[..., first : last + 1] ** 2).sum(axis=-1)) ** -beta
    return y


def window_sum(x: Array, size: int, groups: int = 1) -> Array:
    """Channel c of the result is the sum of channels c - size // 2 ... c + size // 2 of the same group. x: (..., C)."""
    if is_bfloat16(x.dtype):
        return rounded(window_sum, x, size, groups)
    y = get_array_module(x).empty(x.shape, x.dtype)

    def add(x: Array, y: Array) -> None:
        line, towers = _line(x, size)
        towers[...] = x
        y[...] = _towers(_sums(line, size), x, size)

    _in_pieces(add, groups, x, y)
    return y


def power(s: Array, beta: float) -> Array:
    """s ** beta for positive s. Two square roots replace the general power at the paper's 3/4: five times as fast."""
    if beta != 0.75:
        return s**beta
    xp = get_array_module(s)
    root = xp.sqrt(s)
    root *= xp.sqrt(root)
    return root


def lrn(x: Array, size: int, alpha: float, beta: float, k: float, groups: int) -> Array:
    """x: (..., C). Returns the normalised x."""
    xp = get_array_module(x)
    y = xp.empty(x.shape, x.dtype)
    if cuda.ready("lrn", x):
        _launch("lrn", [x, y], groups, size // 2, float(alpha), float(beta), float(k))
        return y
    if is_bfloat16(x.dtype):
        return rounded(lrn, x, size, alpha, beta, k, groups)

    def normalise(x: Array, y: Array) -> None:
        s = _scale(x, size, alpha, k)
        xp.divide(x, _towers(power(s, beta), x, size), out=y)

    _in_pieces(normalise, groups, x, y)
    return y


def lrn_backward(x: Array, g: Array, size: int, alpha: float, beta: float, k: float, groups: int) -> Array:
    """x, g: (..., C). Returns the gradient of x."""
    xp = get_array_module(x)
    dx = xp.empty(x.shape, x.dtype)
    if cuda.ready("lrn", x, g):
        _launch("lrn_backward", [x, g, dx], groups, size // 2, float(alpha), float(beta), float(k), -2.0 * alpha * beta)
        return dx
    if is_bfloat16(x.dtype):
        return rounded(lrn_backward, x, g, size, alpha, beta, k, groups)

    def differentiate(x: Array, g: Array, dx: Array) -> None:
        s = _scale(x, size, alpha, k)
        xp.divide(g, _towers(power(s, beta), x, size), out=dx)
        line, cross = _line(x, size)  # where the squares were; they are in s by now
        xp.multiply(x, dx, out=cross)
        cross /= _towers(s, x, size)
        summed = _sums(line, size)  # where s was
        summed *= -2 * alpha * beta
        dx += xp.multiply(x, _towers(summed, x, size), out=cross)

    _in_pieces(differentiate, groups, x, g, dx)
    return dx


def _in_pieces(task: Callable[..., None], groups: int, *arrays: Array) -> None:
    """`task` on pieces of all arrays, each seen as (rows, groups, channels of a group); the last array is written."""
    rows = [a.reshape(-1, groups, a.shape[-1] // groups) for a in arrays]
    xp = get_array_module(arrays[0])
    pieces = parallel.slices(len(rows[0]), rows[0][:1].nbytes, xp)
    parallel.for_each(lambda piece: task(*(a[piece] for a in rows)), pieces, xp)


def _launch(kernel: str, arrays: list[Array], groups: int, *constants: float) -> None:
    """Run a kernel of lrn.cu, for which a pixel of several towers is several pixels."""
    over = cuda.pixels(arrays[0].shape, groups)
    cuda.launch("lrn", kernel, cuda.contiguous(*arrays), [*over, *constants], over)


def _scale(x: Array, size: int, alpha: float, k: float) -> Array:
    """s of a piece x (rows, groups, width), as one line of numbers: see `_line`."""
    line, squares = _line(x, size)
    get_array_module(x).multiply(x, x, out=squares)
    s = _sums(line, size)
    s *= alpha
    s += k
    return s


def _line(x: Array, size: int) -> tuple[Array, Array]:
    """Scratch memory for a piece x (rows, groups, width) with size // 2 zeros before, between and after the towers.

    Returns it as one line of numbers, and the view of it that has the shape of x.
    """
    (rows, groups, width), half = x.shape, size // 2
    step = width + half
    line = parallel.scratch("line", (rows * groups * step + 2 * half,), x.dtype, get_array_module(x))
    line[:half] = line[half + rows * groups * step :] = 0
    steps = line[half : half + rows * groups * step].reshape(rows, groups, step)
    steps[..., width:] = 0
    return line, steps[..., :width]


def _sums(line: Array, size: int) -> Array:
    """The sums of every `size` neighbours in the line, as scratch memory: one for each element between its ends.

    Pairs first, then sums of pairs: three additions for five neighbours, not four.
    """
    length, xp = len(line) - size + 1, get_array_module(line)
    sums = parallel.scratch("sums", (length,), line.dtype, xp)
    if size == 1:
        sums[...] = line
        return sums
    pairs = parallel.scratch("pairs", (len(line) - 1,), line.dtype, xp)
    xp.add(line[:-1], line[1:], out=pairs)
    xp.add(pairs[:length], line[size - 1 :], out=sums)
    for start in range(2, size - 1, 2):
        sums += pairs[start : start + length]
    return sums


def _towers(sums: Array, x: Array, size: int) -> Array:
    """The part of a line of sums that belongs to channels, and not to the zeros between towers: a view of x's shape."""
    rows, groups, width = x.shape
    return sums.reshape(rows, groups, width + size // 2)[..., :width]
