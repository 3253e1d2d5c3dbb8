"""Lesson 14: windows cut at the edges and at the walls, alpha times the sum, and both terms of the gradient, where alpha does something."""

import warnings

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, backend, grad, gradcheck

# Constants with which every mistake shows: none of them is 1, 2 or 1/2, no two are equal.
SIZE, ALPHA, BETA, K = 3, 0.7, 0.6, 1.5


def _windows(channels, size, groups):
    width = channels // groups
    towers = [c // width * width for c in range(channels)]
    return [(max(c - size // 2, t), min(c + size // 2 + 1, t + width)) for c, t in enumerate(towers)]


def _sums(x, size, groups, windows=_windows):
    return np.stack([x[..., first:end].sum(axis=-1) for first, end in windows(x.shape[-1], size, groups)], axis=-1)


def _normal(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def check_window_in_the_middle(lesson):
    """window: far from the edges"""
    got = lesson.window(6, 12, 5, 1)
    is_a("window(6, 12, 5, 1)", got, (tuple, list))
    mistakes = {
        "the second number is the last channel seen; it should be the one after it, as in x[first:end].": (4, 8),
        "five channels on either side. The size counts all of them, c in the middle.": (1, 12),
        "the window begins at c, it has to have c in the middle.": (6, 11),
        "the window ends at c, it has to have c in the middle.": (2, 7),
    }
    same("window(6, 12, 5, 1)", got, (4, 9), mistakes=mistakes)
    same("window(6, 12, 3, 1)", lesson.window(6, 12, 3, 1), (5, 8))
    same("window(6, 12, 1, 1), of a single channel", lesson.window(6, 12, 1, 1), (6, 7))


def check_window_at_the_edges(lesson):
    """window: cut off before the first channel and after the last"""
    got = [lesson.window(c, 6, 5, 1) for c in range(6)]
    right = np.array(_windows(6, 5, 1))
    first, end = right.T
    uncut = np.arange(6)
    mistakes = {
        "the window is not cut off at channel 0; and x[-2:3] counts from the end.": np.stack([uncut - 2, end], axis=1),
        "the window is not cut off at the last channel.": np.stack([first, uncut + 3], axis=1),
        "the window is cut off nowhere: nothing is before channel 0 and behind the last one.": np.stack(
            [uncut - 2, uncut + 3], axis=1
        ),
        "cut off one too early: the last channel belongs to the windows of its neighbours.": np.minimum(right, 5),
    }
    same("window(c, 6, 5, 1) for c = 0 ... 5", got, right, mistakes=mistakes)


def check_window_in_towers(lesson):
    """window: nobody looks across the wall between two towers"""
    got = [lesson.window(c, 8, 5, 2) for c in range(8)]
    right = np.array(_windows(8, 5, 2))
    first, end = right.T
    mistakes = {
        "the wall is not seen: `groups` has no effect.": _windows(8, 5, 1),
        "the second tower looks back over the wall into the first.": np.stack([np.array(_windows(8, 5, 1))[:, 0], end], axis=1),
        "the end of the second tower is that of the first: a tower ends one width after its own beginning.": np.stack(
            [first, np.minimum(np.arange(8) + 3, 4)], axis=1
        ),
        "the end of the tower is counted from channel 0; it should be counted from where the tower begins.": np.stack(
            [np.array(_windows(8, 5, 1))[:, 0], np.minimum(np.arange(8) + 3, 4)], axis=1
        ),
        "the first tower looks over the wall into the second.": np.stack([first, np.array(_windows(8, 5, 1))[:, 1]], axis=1),
        "the numbers count from the beginning of the tower; they should count from channel 0.": [
            (a % 4, b - c // 4 * 4) for c, (a, b) in enumerate(right)
        ],
    }
    same("window(c, 8, 5, 2) for c = 0 ... 7", got, right, mistakes=mistakes)
    got = [lesson.window(c, 9, 3, 3) for c in range(9)]
    same("window(c, 9, 3, 3) for c = 0 ... 8", got, _windows(9, 3, 3))


def _gradient(output, x, **options):
    """`grad`, with words for what people's `backward` returns."""
    try:
        return grad(output, x, **options)
    except RuntimeError as error:
        if "no Tensor" not in str(error):
            raise
        raise Wrong(
            f"{error}.\nIt gets a Tensor and is to return one. `window_sums` is for arrays; the operation is WindowSum(...)(...)."
        ) from None
    except ValueError as error:
        if "do not depend on it" not in str(error):
            raise
        raise Wrong("`backward` returns nothing (None). Is a `return` missing?") from None


def check_window_sum_backward(lesson, device):
    """WindowSum.backward: a random gradient goes back to those who were seen"""
    x, v = _normal(2, 8, seed=1), _normal(2, 8, seed=2)
    t, arrived = Tensor(x, requires_grad=True), Tensor(v, requires_grad=True)
    got = _gradient((lesson.WindowSum(5, 2)(t) * arrived).sum(), t, create_graph=True)
    mistakes = {
        "the gradient goes back to channel c alone; but c was part of its neighbours' sums, too.": v,
        "the walls are forgotten on the way back: use the same `groups`.": _sums(v, 5, 1),
        "each is multiplied by the size of the window, as if all of them had the same gradient.": 5 * v,
        "what is summed are the inputs. The gradients are to be summed.": _sums(x, 5, 2),
        "it is divided by the size of the window: forwards is a sum, not a mean.": _sums(v, 5, 2) / 5,
    }
    same("the gradient of WindowSum(5, 2)", got, _sums(v, 5, 2), mistakes=mistakes)
    if not got.requires_grad:
        raise Wrong(
            "The gradient of WindowSum(5, 2) is right, but it does not know where it came from, and cannot be differentiated again.\n"
            "Likely cause: it was computed with arrays. The operation of Tensors is WindowSum(...)(...)."
        )


def _forwards(x, size, alpha, beta, k, groups, **changed):
    return x / (k + alpha * changed.get("sums", _sums)(x * x, size, groups)) ** beta


def check_one_loud_channel(lesson, device):
    """normalised: one loud channel among eight, alpha = 1"""
    x = np.array([1.0, 1, 1, 10, 1, 1, 1, 1])
    s = 2 + _sums(x * x, 5, 1)
    count = np.array([end - first for first, end in _windows(8, 5, 1)])
    mistakes = {
        "what is summed are the responses; it should be their squares.": x / (2 + _sums(x, 5, 1)) ** 0.75,
        "the sum is divided by the size of the window; here alpha multiplies the plain sum.": x / (2 + (s - 2) / 5) ** 0.75,
        "the mean of the window is taken; here alpha multiplies the plain sum.": x / (2 + (s - 2) / count) ** 0.75,
        "k is missing.": x / (s - 2) ** 0.75,
        "1 / s ** beta is right, but it has to be multiplied by the response.": 1 / s**0.75,
        "s ** beta multiplies; it should divide.": x * s**0.75,
        "s is not raised to the power of beta.": x / s,
        "each response is divided by its own loudness only, the neighbours have no effect.": x / (2 + x * x) ** 0.75,
        "the sum is squared; what is wanted is the sum of the squares.": x / (2 + _sums(x, 5, 1) ** 2) ** 0.75,
    }
    got = lesson.normalised(backend.to_device(x, device), 5, 1.0, 0.75, 2.0, 1)
    same("normalised(1 1 1 10 1 1 1 1) with alpha = 1", got, x / s**0.75, mistakes=mistakes)


def check_forwards(lesson, device):
    """normalised: images, two towers, other constants"""
    x = _normal(2, 3, 3, 8, seed=3)
    constants = (SIZE, ALPHA, BETA, K, 2)
    mistakes = {
        "the walls are forgotten: hand `groups` on to window_sums.": _forwards(x, SIZE, ALPHA, BETA, K, 1),
        "alpha has no effect (with alpha = 1 that did not show).": _forwards(x, SIZE, 1.0, BETA, K, 2),
        "alpha multiplies k as well; it belongs to the sum alone.": _forwards(x, SIZE, ALPHA, BETA, ALPHA * K, 2),
        "the power is 0.75 whatever `beta` is.": _forwards(x, SIZE, ALPHA, 0.75, K, 2),
        "the added constant is 2 whatever `k` is.": _forwards(x, SIZE, ALPHA, BETA, 2.0, 2),
        "the window has 5 channels whatever `size` is.": _forwards(x, 5, ALPHA, BETA, K, 2),
        "alpha is divided by the size, as in the program; the paper's is not.": _forwards(x, SIZE, ALPHA / SIZE, BETA, K, 2),
    }  # fmt: skip
    got = lesson.normalised(backend.to_device(x, device), *constants)
    same("normalised(x, 3, 0.7, 0.6, 1.5, 2), x of shape (2, 3, 3, 8)", got, _forwards(x, *constants), mistakes=mistakes)
    narrow = lesson.normalised(backend.to_device(x.astype(np.float32), device), *constants)
    same("the same in float32", narrow, _forwards(x, *constants), rtol=1e-4, atol=1e-5, dtype=np.float32)


def _terms(x, g, size=SIZE, alpha=ALPHA, beta=BETA, k=K, groups=2):
    """s, and the direct and the cross term of the gradient."""
    s = k + alpha * _sums(x * x, size, groups)
    return s, g * s**-beta, -2 * alpha * beta * x * _sums(g * x * s ** -(beta + 1), size, groups)


def check_direct_term(lesson, device):
    """ResponseNorm.backward: alpha = 0 leaves the direct term alone"""
    x, g = _normal(2, 6, seed=4), _normal(2, 6, seed=5)
    t = Tensor(x, requires_grad=True)
    got = _gradient((lesson.local_response_norm(t, 3, 0.0, BETA, K) * Tensor(g)).sum(), t)
    mistakes = {
        "the gradient of b goes back unchanged; but a stands above s ** beta.": g,
        "it is multiplied by s ** beta; it should be divided.": g * K**BETA,
        "that is what the layer computes forwards, times the gradient: the a is one too many.": g * x * K**-BETA,
        "with alpha = 0 nothing remains: is the direct term missing?": 0 * g,
    }
    same("the gradient with alpha = 0", got, g * K**-BETA, mistakes=mistakes)


def check_both_terms(lesson, device):
    """ResponseNorm.backward: alpha = 0.7, two towers, a random gradient"""
    x, g = _normal(2, 3, 8, seed=6), _normal(2, 3, 8, seed=7)
    s, direct, cross = _terms(x, g)
    power = s ** -(BETA + 1)

    def with_cross(cross, factor=-2 * ALPHA * BETA):
        return direct + factor * cross

    def sums(part):
        return _sums(part, SIZE, 2)

    mistakes = {
        "the cross term is missing: the neighbours notice, too.": direct,
        "the cross term has the wrong sign: when s rises, b falls.": direct - cross,
        "the direct term is missing.": cross,
        "the 2 of the square is missing in the cross term.": with_cross(x * sums(g * x * power), -ALPHA * BETA),
        "alpha is missing in the cross term.": with_cross(x * sums(g * x * power), -2 * BETA),
        "beta is missing in the cross term.": with_cross(x * sums(g * x * power), -2 * ALPHA),
        "the power in the cross term is -beta; differentiated, it goes down by one: -(beta + 1).": with_cross(x * sums(g * x * s**-BETA)),
        "the power in the cross term is -(beta - 1); it goes down, to -(beta + 1).": with_cross(x * sums(g * x * s ** -(BETA - 1))),
        "the cross term has no sum: c's own share is there, that of the neighbours is not.": with_cross(x * g * x * power),
        "the gradient stands outside the sum; each neighbour j brings its own g_j.": with_cross(x * g * sums(x * power)),
        "both responses are inside the sum; one of them is c's own and stands outside.": with_cross(sums(g * x * x * power)),
        "both responses are outside the sum; one of them is the neighbour's and stands inside.": with_cross(x * x * sums(g * power)),
        "the s of c stands outside the sum; each neighbour j has its own s_j.": with_cross(x * power * sums(g * x)),
        "the response of c is missing in front of the sum.": with_cross(sums(g * x * power)),
        "the walls are forgotten in the cross term: hand `groups` on.": with_cross(x * _sums(g * x * power, SIZE, 1)),
    }  # fmt: skip
    t = Tensor(x, requires_grad=True)
    got = _gradient((lesson.local_response_norm(t, SIZE, ALPHA, BETA, K, 2) * Tensor(g)).sum(), t)
    same("the gradient with size 3, alpha 0.7, beta 0.6, k 1.5 and two towers", got, direct + cross, mistakes=mistakes)


def check_small_steps(lesson, device):
    """ResponseNorm.backward: small steps say the same, of the gradient's gradient too"""
    x = _normal(2, 6, seed=8)

    def layer(t):
        return lesson.local_response_norm(t, SIZE, ALPHA, BETA, K, 2)

    for order, what in ((1, "gradient"), (2, "gradient of the gradient")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = gradcheck(layer, x, order=order)
        if not report:
            rest = "\nIs all of backward written with Tensors, without .data or .detach()?" if order == 2 else ""
            raise Wrong(f"The {what} is not what small steps say.{rest}")


HINTS = {
    "window": (
        "First find where the tower of c begins and where it ends. The window reaches size // 2 to either side, and stops at these two.",
        "A tower is channels // groups wide; that of c begins at the multiple of this width that c has reached: c // width * width. "
        "first is the larger of c - size // 2 and that; end is the smaller of c + size // 2 + 1 and the tower's end.",
        "    width = channels // groups\n"
        "    tower = c // width * width\n"
        "    first = max(c - size // 2, ...)\n"
        "    end = min(c + size // 2 + 1, ...)\n"
        "    return first, end",
    ),
    "WindowSum.backward": (
        "c sees j when they are at most size // 2 apart and in the same tower. Now say it of j: whom does j see?",
        "gradient of a_j = the sum of the gradients of all c that see j = the sum of the gradients over the window of j.",
        "        return WindowSum(self.size, ...)(...)",
    ),
    "normalised": (
        "Two lines: s for all channels at once with window_sums, then the division.",
        "s = k + alpha * (window sum of x * x); b = x / s ** beta.",
        "    s = k + alpha * window_sums(..., size, groups)\n    return x / ...",
    ),
    "ResponseNorm.backward": (
        "Two terms are added. What is under the sum of the cross term is a Tensor that you can compute first, for all j at once, and "
        "then WindowSum adds it up. Mind that the sign is minus.",
        "gradient / s ** beta - 2 alpha beta x * (window sum of gradient * x * s ** -(beta + 1))",
        "        part = gradient * x * s ** -(...)\n"
        "        cross = WindowSum(self.size, self.groups)(part)\n"
        "        return gradient * s**-beta - 2 * ... * x * cross",
    ),
}

CUT = "return max(c - size // 2, tower), min(c + size // 2 + 1, tower + width)"
FORWARD = "    s = k + alpha * window_sums(x * x, size, groups)\n    return x / s**beta\n"
CROSS = "- 2 * alpha * beta * x * cross"
PART = "part = gradient * x * s ** -(beta + 1)"
SUMMED = "cross = WindowSum(self.size, self.groups)(part)"
PART_SUMMED = f"{PART}\n        {SUMMED}"
BACK = "return WindowSum(self.size, self.groups)(gradient)"

MUTANTS = [
    Mutant("not cut on the left", CUT, "return c - size // 2, min(c + size // 2 + 1, tower + width)", "not cut off at channel 0"),
    Mutant("not cut on the right", CUT, "return max(c - size // 2, tower), c + size // 2 + 1", "not cut off at the last channel"),
    Mutant("the last one left out", CUT, CUT.replace("// 2 + 1", "// 2"), "the one after it, as in x\\[first:end\\]"),
    Mutant("the size on either side", CUT, CUT.replace("size // 2", "size"), "five channels on either side"),
    Mutant("no wall", "    width = channels // groups\n", "    width = channels\n", "`groups` has no effect"),
    Mutant("over the wall to the left", CUT, CUT.replace("2, tower", "2, 0"), "looks back over the wall"),
    Mutant("back to itself alone", BACK, "return gradient * 1.0", "part of its neighbours' sums"),
    Mutant("no return", BACK, BACK.replace("return ", ""), "Is a `return` missing"),
    Mutant("with arrays", BACK, "return Tensor(window_sums(gradient.data, self.size, self.groups))", "cannot be differentiated again"),
    Mutant("an array", BACK, "return window_sums(gradient.data, self.size, self.groups)", "is for arrays"),
    Mutant("no wall on the way back", BACK, "return WindowSum(self.size, 1)(gradient)", "the same `groups`"),
    Mutant("alpha over n", FORWARD, FORWARD.replace("alpha *", "alpha / size *"), "divided by the size of the window"),
    Mutant("no squares", FORWARD, FORWARD.replace("x * x", "x"), "it should be their squares"),
    Mutant("no k", FORWARD, FORWARD.replace("k + ", ""), "k is missing"),
    Mutant("multiplied", FORWARD, FORWARD.replace("x / s", "x * s"), "it should divide"),
    Mutant("the paper's beta for ever", FORWARD, FORWARD.replace("s**beta", "s**0.75"), "whatever `beta` is"),
    Mutant("no cross term", CROSS, "", "the neighbours notice, too"),
    Mutant("the sign", CROSS, CROSS.replace("- 2", "+ 2"), "when s rises, b falls"),
    Mutant("no 2", CROSS, CROSS.replace("2 * ", ""), "2 of the square"),
    Mutant("the power as it was", PART, PART.replace("(beta + 1)", "beta"), "goes down by one"),
    Mutant("own gradient", PART_SUMMED, PART_SUMMED.replace("gradient * ", "") + " * gradient", "its own g_j"),
    Mutant("own share only", SUMMED, "cross = part", "that of the neighbours is not"),
    Mutant("no wall in the cross term", SUMMED, SUMMED.replace("self.groups", "1"), "in the cross term: hand `groups` on"),
    Mutant("detached", PART, "part = gradient * x.detach() * s ** -(beta + 1)", "without .data or .detach"),
]  # fmt: skip
