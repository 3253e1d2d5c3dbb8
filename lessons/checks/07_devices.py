"""Lesson 7: the library from the array, a stray np. caught by a far memory, and a sum that crosses over once."""

import sys
from types import ModuleType

import numpy as np

from lessons.checking import Mutant, Wrong, is_a, same
from minidl import Tensor, gradcheck


def _stays_far(lesson, what, call):
    """What `call()` gives, which must be a far array, with nothing carried across on the way."""
    before = len(lesson.crossings)
    try:
        result = call()
    except TypeError as error:
        raise _with_the_line(lesson, what, error) from error
    crossed = len(lesson.crossings) - before
    if isinstance(result, np.ndarray):
        raise Wrong(
            f"{what}: the result is a NumPy array, in the near memory. It has to be made with `xp`, where the input lies."
        )
    if crossed:
        times = "once" if crossed == 1 else f"{crossed} times"
        raise Wrong(
            f"{what}: numbers have crossed the fence {times} on the way. All of it can be done over there: with `xp`, and "
            "without a loop, `int`, `float`, `.get()` or `.item()`."
        )
    is_a(what, result, lesson.FarArray)
    return result.inside


def _with_the_line(lesson, what, error):
    """The fence has raised `error`; the learner needs the line that ran into the fence. An error of another kind is given back."""
    if "far array" not in str(error) and "far memory" not in str(error):
        return error
    fence = lesson.over_there.__code__.co_filename
    line, traceback = 0, error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == fence and code.co_name not in ("call", "__array__", "__array_ufunc__"):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return Wrong(
        f"{what}: in line {line} of your file the near and the far memory meet:\n{error}.\n"
        "Likely cause: a function called by NumPy's name. Look for `np.` in this line, and write `xp.`; and ask for `xp` with "
        "the array that came in."
    )


def _called(module):
    return getattr(module, "__name__", repr(module))


def check_near_and_far(lesson):
    """get_array_module: of a NumPy array, and of a far array"""
    for array, expected in ((np.zeros(2), np), (lesson.FarArray([1.0, 2.0]), lesson.far)):
        try:
            got = lesson.get_array_module(array)
        except ModuleNotFoundError as error:
            raise Wrong(
                f"get_array_module of an array that is not CuPy's: {error}.\n"
                "Likely cause: CuPy is imported whatever x is. Import it only when `library` says that x is one of its arrays."
            ) from error
        what = f"get_array_module(a {'far' if expected is lesson.far else 'NumPy'} array)"
        if isinstance(got, str):
            raise Wrong(f'{what}: the text "{got}" instead of the library itself.')
        if got is None:
            raise Wrong(f"{what}: nothing (None) instead of the library {_called(expected)}. Is a `return` missing?")
        if got is not expected:
            raise Wrong(f"{what}: {_called(got)} instead of {_called(expected)}.")


def check_numbers(lesson):
    """get_array_module: plain numbers belong to NumPy"""
    for number, name in ((3.0, "3.0"), (np.float32(3), "np.float32(3)"), (2, "2")):
        got = lesson.get_array_module(number)
        if got is not np:
            raise Wrong(
                f"get_array_module({name}): {_called(got)} instead of numpy.\n"
                "Likely cause: whatever is no NumPy array goes to a far library. Ask for far and cupy; all the rest is NumPy's."
            )


def check_cupy(lesson):
    """get_array_module: of an array of CuPy's (a pretended one)"""
    pretended, before = ModuleType("cupy"), sys.modules.get("cupy")
    array = type("ndarray", (), {"__module__": "cupy._core.core"})()
    sys.modules["cupy"] = pretended
    try:
        got = lesson.get_array_module(array)
    finally:
        del sys.modules["cupy"]
        if before is not None:
            sys.modules["cupy"] = before
    if got is not pretended:
        raise Wrong(
            f"get_array_module(an array whose class comes from cupy._core.core): {_called(got)} instead of cupy.\n"
            'Likely cause: there is no case for "cupy" yet. It stands in `library`; import cupy and return it.'
        )


def check_device(lesson, device):
    """get_array_module: of an array on the device"""
    got = lesson.get_array_module(Tensor([1.0, 2.0]).data)
    expected = np if device == "cpu" else sys.modules["cupy"]
    if got is not expected:
        raise Wrong(f"get_array_module(an array on the {device}): {_called(got)} instead of {_called(expected)}.")


def check_tanh_numbers(lesson):
    """Tanh.forward: of five numbers"""
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    mistakes = {"that is the slope of tanh.": 1 - np.tanh(x) ** 2, "that is tan, not tanh.": np.tan(x)}
    same("Tanh().forward of [-2, -0.5, 0, 0.5, 2]", lesson.Tanh().forward(x), np.tanh(x), mistakes=mistakes)


def check_tanh_far(lesson):
    """Tanh.forward: of a far array, over there"""
    x = np.array([[-1.0, 0.25], [0.5, 3.0]], np.float32)
    far_x = lesson.FarArray(x)
    got = _stays_far(lesson, "Tanh().forward(a far array)", lambda: lesson.Tanh().forward(far_x))
    same("Tanh().forward(a far array)", got, np.tanh(x), dtype=np.float32)


def check_tanh_device(lesson, device):
    """Tanh.forward: its gradient, on the device"""
    x = Tensor([-1.5, 0.5, 2.0], requires_grad=True)
    y = lesson.Tanh()(x)
    same("Tanh()(x)", y, np.tanh([-1.5, 0.5, 2.0]), rtol=1e-5)
    if not y.device.startswith(device):
        raise Wrong(f"Tanh()(x) for x on the {device}: the result is on {y.device}.")
    report = gradcheck(lambda t: lesson.Tanh()(t), (3, 2), order=2)
    if not report:
        raise Wrong(f"The gradient of Tanh is not that of tanh. gradcheck says:\n{report}")


LABELS = np.array([2, 0, 1, 2])


def check_one_hot(lesson):
    """one_hot: of the labels 2, 0, 1, 2"""
    got = lesson.one_hot(LABELS, 4)
    if np.asarray(got).dtype.kind == "b":
        raise Wrong("one_hot([2, 0, 1, 2], 4): True and False instead of 1 and 0. Make them float32 with `.astype`.")
    if np.shape(got) == (4,):
        raise Wrong(
            "one_hot([2, 0, 1, 2], 4): one row of 4 instead of 4 rows.\n"
            "Likely cause: labels and classes are compared one by one: the labels must stand in a column, `labels[:, None]`."
        )
    mistakes = {
        "the classes are counted from 1; they begin with 0.": np.eye(5)[LABELS][:, 1:],
        "the axes are the other way round: a column for each label.": np.eye(4)[LABELS].T,
    }
    same("one_hot([2, 0, 1, 2], 4)", got, np.eye(4)[LABELS], mistakes=mistakes, dtype=np.float32)


def check_one_hot_far(lesson):
    """one_hot: of far labels, over there"""
    labels = lesson.FarArray(LABELS)
    got = _stays_far(lesson, "one_hot(far labels, 3)", lambda: lesson.one_hot(labels, 3))
    same("one_hot(far labels, 3)", got, np.eye(3)[LABELS], dtype=np.float32)


def check_one_hot_device(lesson, device):
    """one_hot: on the device"""
    labels = Tensor(LABELS).data
    got = lesson.one_hot(labels, 3)
    if type(got) is not type(labels):
        raise Wrong(f"one_hot of labels on the {device}: {type(got).__module__}.{type(got).__name__} instead of an array there.")
    same("one_hot(labels, 3)", got, np.eye(3)[LABELS], dtype=np.float32)


def _batches(make, sizes=(4, 4, 2)):
    """Scores as they come (so scores_of hands them through) and labels; the short last batch is all right, the others are half."""
    rng = np.random.default_rng(7)
    found = []
    for size in sizes:
        scores = rng.standard_normal((size, 3))
        best = scores.argmax(axis=1)
        right = np.arange(size) < (size if size == sizes[-1] else size // 2)
        found.append((make(scores), make(np.where(right, best, (best + 1) % 3))))
    return found


def check_accuracy(lesson):
    """accuracy: of three batches, the last one smaller"""
    got = lesson.accuracy(_batches(np.asarray), lambda scores: scores)
    mistakes = {
        "that is the mean of the batches' shares; the last batch is smaller and weighs too much. Count images.": (0.5 + 0.5 + 1)
        / 3,
        "that is the share of wrong answers.": 0.4,
        "only the last batch is counted: add to `right`.": 2 / 10,
        "only the last batch is counted: add to `right` and to `seen`.": 1.0,
        "`seen` counts batches instead of images.": 6 / 3,
    }
    same("accuracy of three batches with 2 of 4, 2 of 4 and 2 of 2 right", got, 0.6, mistakes=mistakes)


def check_accuracy_crosses_once(lesson):
    """accuracy: far batches, one crossing"""
    batches = _batches(lesson.FarArray, (4, 4, 4, 4, 4, 2))
    before = len(lesson.crossings)
    got = lesson.accuracy(batches, lambda scores: scores)
    crossed = len(lesson.crossings) - before
    same("accuracy of far batches", got, 12 / 22)
    if crossed > 1:
        bytes_of = max(size for _, size in lesson.crossings[before:])
        what = "each batch asks for its count" if bytes_of <= 8 else f"whole arrays, up to {bytes_of} bytes, are brought back"
        raise Wrong(
            f"accuracy of 6 far batches: {crossed} crossings instead of 1.\n"
            f"Likely cause: {what}. Leave `int`, `float`, `.get()` and `.item()` out, and let `right` grow over there."
        )


def check_accuracy_device(lesson, device):
    """accuracy: on the device"""
    got = lesson.accuracy(_batches(lambda array: Tensor(array).data), lambda scores: scores)
    same("accuracy of three batches", got, 0.6)


HINTS = {
    "get_array_module": (
        "`library` is a text: the name of the library that the class of x comes from. Return the library with this name; it is a "
        "module, the thing that stands before the point in `np.tanh`.",
        '"far" -> far; "cupy" -> cupy, imported on the spot; everything else -> np.',
        '    if library == "far":\n'
        "        return far\n"
        '    if library == "cupy":\n'
        "        import cupy\n\n"
        "        return ...\n"
        "    return ...",
    ),
    "Tanh.forward": (
        "Ask x for its library first; then tanh is a function of this library.",
        "xp = the library of x; the result is xp.tanh of x.",
        "        xp = get_array_module(...)\n        return xp....(x)",
    ),
    "one_hot": (
        "A column of labels compared with a row of class numbers gives a whole matrix. The row is made out of nothing, so it needs xp.",
        "hot[i, k] = 1 where labels[i] == k, else 0, for k = 0 ... classes - 1; in float32.",
        "    xp = get_array_module(labels)\n    row = xp.arange(...)\n    return (labels[:, None] == ...).astype(xp.float32)",
    ),
    "accuracy": (
        "It is the body of accuracy_asking without the one thing that asks for a number. The `float` after the loop asks once.",
        "right <- right + how many of the batch have the highest score at their label; seen <- seen + the size of the batch.",
        "        best = scores_of(images).argmax(axis=1)\n        right = right + (...).sum()\n        seen += len(...)",
    ),
}

LIBRARY = """\
    if library == "far":
        return far
    if library == "cupy":
        import cupy

        return cupy
    return np
"""
COUNT = """\
        best = scores_of(images).argmax(axis=1)
        right = right + (best == labels).sum()
        seen += len(labels)
        ### END"""

MUTANTS = [
    Mutant("always NumPy", LIBRARY, "    return np\n", "a far array\\): numpy instead of far"),
    Mutant(
        "no NumPy array, so far",
        LIBRARY,
        "    return np if isinstance(x, np.ndarray) else far\n",
        "whatever is no NumPy array goes",
    ),
    Mutant("the name", LIBRARY, "    return library\n", 'the text "numpy" instead of the library'),
    Mutant("no CuPy", LIBRARY, "    return far if library == 'far' else np\n", 'no case for "cupy"'),
    Mutant("a stray np.tanh", "return xp.tanh(x)", "return np.tanh(x)", "line \\d+ (.|\\n)*numpy.tanh cannot reach"),
    Mutant(
        "carried back for tanh", "return xp.tanh(x)", "return np.tanh(xp.asnumpy(x) if xp is far else x)", "in the near memory"
    ),
    Mutant(
        "there and back",
        "return xp.tanh(x)",
        "return xp.tanh(xp.asarray(x.get()) if xp is far else x)",
        "crossed the fence 2 times",
    ),
    Mutant(
        "a stray np.arange",
        "== xp.arange(classes)",
        "== np.arange(classes)",
        "line \\d+ of your file the near and the far memory meet",
    ),
    Mutant(
        "True and False", "xp.arange(classes)).astype(xp.float32)", "xp.arange(classes))", "True and False instead of 1 and 0"
    ),
    Mutant(
        "no column",
        "labels[:, None] == xp.arange(classes)",
        "labels == xp.arange(len(labels))",
        "the labels must stand in a column",
    ),
    Mutant("classes from 1", "xp.arange(classes))", "xp.arange(1, classes + 1))", "counted from 1"),
    Mutant(
        "a loop over labels",
        "    return (labels[:, None] == xp.arange(classes)).astype(xp.float32)\n",
        "    hot = xp.zeros((len(labels), classes), xp.float32)\n"
        "    for i in range(len(labels)):\n"
        "        hot[i, int(labels[i])] = 1\n"
        "    return hot\n",
        "crossed the fence 4 times",
    ),
    Mutant(
        "each batch asks",
        COUNT,
        COUNT.replace("(best == labels).sum()", "int((best == labels).sum())"),
        "each batch asks for its count",
    ),
    Mutant(
        "arrays brought back",
        COUNT,
        COUNT.replace("scores_of(images).argmax(axis=1)", "np.argmax(scores_of(images).tolist(), axis=1)").replace(
            "best == labels", "best == np.array(labels.tolist())"
        ),
        "whole arrays, up to 96 bytes, are brought back",
    ),
    Mutant(
        "mean of shares",
        COUNT,
        COUNT.replace(".sum()", ".mean()").replace("len(labels)", "1"),
        "the mean of the batches' shares",
    ),
    Mutant("the last batch", COUNT, COUNT.replace("right + ", ""), "only the last batch is counted: add to `right`"),
]
