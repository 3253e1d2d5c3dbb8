"""What a learner reads: wrong values, shapes and types; and the words for exceptions."""

from types import ModuleType

import numpy as np
import pytest

from lessons.checking import Wrong, at_most, fails, is_a, same
from lessons.runner.examine import examine
from minidl import Tensor
from minidl.backend import get_array_module


def said(call, *arguments, **named) -> str:
    with pytest.raises(Wrong) as caught:
        call(*arguments, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    "got,expected",
    [
        (2, 2.0),
        (np.float32(0.1), 0.1),
        ([1, 2], np.array([1.0, 2.0])),
        (Tensor([1.0, 2.0]), [1, 2]),
        (np.nan, np.nan),
        (1e-13, 0),
    ],
)
def test_what_is_the_same(got, expected):
    if np.isnan(expected).any():
        assert "NaN" not in said(same, "f", got, expected)  # nothing is equal to NaN, and no check should expect it
    else:
        same("f", got, expected)


def test_a_number():
    assert (
        said(same, "f(3)", 12.0, 6.0)
        == "f(3): 12 instead of 6, ratio 2.\nA ratio of 2: summed twice, or a 2 too many or too few?"
    )
    assert said(same, "f(3)", 6.1, 6.0) == "f(3): 6.1 instead of 6, ratio 1.017."
    assert said(same, "f(3)", 0.5, 0.0) == "f(3): 0.5 instead of 0."
    assert said(same, "f(3)", -6, 6) == "f(3): -6 instead of 6, ratio -1.\nA ratio of -1: is a sign turned round?"


def test_an_array():
    want = np.arange(1.0, 7.0).reshape(2, 3)
    text = "f: 6 of 6 values are wrong, the worst at [1, 2]: 12 instead of 6, ratio 2.\n"
    assert said(same, "f", 2 * want, want) == text + "The ratio is 2 everywhere: summed twice, or a 2 too many or too few?"
    assert said(same, "f", 3 * want, want).endswith("\nThe ratio is 3 everywhere: a constant factor is wrong.")
    got = want.copy()
    got[1, 0] = 7
    assert said(same, "f", got, want) == "f: 1 of 6 values is wrong, at [1, 0]: 7 instead of 4, ratio 1.75."


def test_numbers_that_are_none():
    assert said(same, "f", [1.0, np.nan], [1.0, 2.0]).startswith(
        "f: 1 of 2 values is wrong, at [1]: nan instead of 2.\nThere is NaN"
    )
    assert "There is infinity in it" in said(same, "f", np.inf, 2.0)


def test_the_mistake_that_fits_is_named():
    mistakes = {"you forgot to wash your hands.": 5.0, "you forgot the 2.": 3.0}
    text = "f: 3 instead of 6, ratio 0.5.\nLikely cause: you forgot the 2."
    assert said(same, "f", 3.0, 6.0, mistakes=mistakes) == text
    assert "Likely" not in said(same, "f", 4.0, 6.0, mistakes=mistakes)


def test_shapes():
    want = np.zeros((2, 3))
    assert said(same, "f", np.zeros((3, 2)), want).endswith(
        "shape (3, 2) instead of shape (2, 3). The axes are the other way round: transposed?"
    )
    assert "is a reshape or `keepdims` missing?" in said(same, "f", np.zeros(6), want)
    assert said(same, "f", 1.0, want) == "f: one number instead of shape (2, 3). Is something summed that should stay apart?"
    assert said(same, "f", want, 1.0) == "f: shape (2, 3) instead of one number. Is a sum or a mean missing?"


def test_types():
    assert said(same, "f", None, 1.0) == "f: nothing (None) instead of a number. Is a `return` missing?"
    assert said(same, "f", "six", 6.0) == "f: a str instead of a number."
    assert said(same, "f", same, 6.0) == "f: the function same instead of a number. Are the brackets of the call missing?"
    assert said(same, "f", [[1], [1, 2]], [1.0, 2.0]) == "f: a list instead of an array of shape (2,)."
    assert said(same, "f", object(), 1.0) == "f: an object instead of a number."
    assert said(same, "f", 1.0, 1.0, dtype=np.float32) == "f: the numbers are float64 instead of float32."
    assert said(is_a, "f", 1.0, list) == "f: a float instead of a list."
    assert said(is_a, "f", None, (int, float)) == "f: nothing (None) instead of an int or float. Is a `return` missing?"
    is_a("f", 1.0, (int, float))


def test_limits_and_refusals():
    at_most("loss", 0.5, 0.5, "")
    assert said(at_most, "loss", 2.0, 0.5, "Does it learn?") == "loss: 2, but it should be at most 0.5. Does it learn?"
    assert said(at_most, "loss", np.nan, 0.5, "").startswith("loss: nan, but")
    fails("f(-1)", lambda: int("x"), ValueError, "")
    assert (
        said(fails, "f(-1)", lambda: 3, ValueError, "Look!") == "f(-1): it should raise ValueError, but it returned an int. Look!"
    )


# Files


def checks(*functions) -> ModuleType:
    module = ModuleType("checks")
    module.HINTS = {"f": ("", "", "")}
    for function in functions:
        setattr(module, function.__name__, function)
    return module


def check_f(lesson):
    """f: of 2 is 4"""
    same("f(2)", lesson.f(2.0), 4.0)


def found(text, *functions, devices=("cpu",), whole=True):
    events = examine(text, "mine.py", checks(*(functions or (check_f,))), devices, whole)
    return [event for event in events if event.kind != "begin"]


@pytest.mark.parametrize(
    "body,text",
    [
        ("return x * y", "line 2, in f:\n    return x * y\nNameError: name 'y' is not defined"),
        ("return x + None", "Something is None here"),
        ("return x.real.shape", "AttributeError: 'float' object has no attribute 'shape'\nThings of this kind"),
        ("return f(x)", "RecursionError"),
        ("return x / 0", "line 2, in f:\n    return x / 0\nZeroDivisionError: "),
        ("return [1][2]", "IndexError"),
        ("return {}['a']", "KeyError: 'a'\nThe dictionary has no such entry."),
        ("return len(1, 2)", "other arguments than it takes"),
        ("import sys; sys.exit()", "SystemExit\nPython is ended here"),
        ("import numpy as np; return np.zeros(2) + np.zeros(3)", "The shapes do not fit together"),
        ("raise NotImplementedError", "NotImplementedError"),
        ("pass", "Is a `return` missing?"),
    ],
)
def test_an_exception_is_told_with_the_learners_line(body, text):
    (event,) = found(f"def f(x):\n    {body}\n")
    assert event.kind == "wrong" and text in event.text and "Traceback" not in event.text
    assert "line 2" in event.text or body == "pass"


def test_an_exception_in_the_check_itself_is_told_too():
    def check_answer(lesson):
        """f: has a shape"""
        assert lesson.f(1).shape

    (event,) = found("def f(x):\n    return x\n", check_answer)
    assert event.kind == "wrong"
    assert event.text.startswith("The check could not go on with what your code gave it (test_checking.py, line ")


@pytest.mark.parametrize(
    "text,message",
    [
        ("def f(x):\n    y = x\nreturn y\n", "line 3: Python cannot read this line:\n    return y\n"),
        ("def f(x):\n    break\n", "line 2: Python cannot read this line:\n    break\n"),
        (
            "def f(x):\n    return (x\n",
            "line 2: Python cannot read this line:\n    return (x\n           ^\nSyntaxError: '(' was never closed",
        ),
        ("def f(x):\nreturn x\n", "The spaces at its beginning do not fit."),
        (
            "def f(x)\n    return x\n",
            "line 1: Python cannot read this line:\n    def f(x)\n            ^\nSyntaxError: expected ':'",
        ),
        ("x = = 1\n", "SyntaxError: invalid syntax\nLook for a missing bracket"),
        ("x = 1\0\n", "Python cannot read"),
    ],
)
def test_a_file_that_python_cannot_read(text, message):
    (event,) = found(text)
    assert event.kind == "syntax" and message in event.text


@pytest.mark.parametrize(
    "text",
    [
        "calls = 0\ndef f(x):\n    global calls\n    calls += 1\n    return x\n",
        "f = lambda x: x\n",
        "import functools\ndef mine(x, y):\n    return x\nf = functools.partial(mine, y=1)\n",
        "def mine(x):\n    return x\nf = mine\n",
        "total = 0\ntotal += 1\ndef f(x):\n    return x\n",
    ],
)
def test_what_a_function_needs_is_there(text):
    def check_answer(lesson):
        """f: gives x"""
        same("f(1)", lesson.f(1), 1)

    (event,) = found(text, check_answer)
    assert event.kind == "ok", event


def test_a_value_that_comes_too_late_is_explained():
    def check_answer(lesson):
        """f: gives 2"""
        lesson.f(1)

    (event,) = found("def make():\n    return 2\ntwo = make()\ndef f(x):\n    return two\n", check_answer)
    assert "line 5, in f:\n    return two\nNameError: name 'two' is not defined\nLine 3 gives it a value" in event.text


def test_a_call_with_too_many_arguments_names_the_learners_line():
    def check_answer(lesson):
        """f: takes two"""
        lesson.f(1, 2)

    (event,) = found("\ndef f(x):\n    return x\n", check_answer)
    assert event.text.startswith("line 2:\n    def f(x):\nTypeError: f() takes 1")


def test_an_exception_that_cannot_be_printed():
    def check_answer(lesson):
        """f: raises"""
        lesson.f(1)

    text = "class E(Exception):\n    def __str__(self):\n        raise ValueError\ndef f(x):\n    raise E\n"
    (event,) = found(text, check_answer)
    assert event.text.startswith("line 5, in f:\n    raise E\nE")


def test_a_name_that_is_not_there():
    (event,) = found("def g(x):\n    return x\n")
    assert event.text == "There is no `f` in your file; was it renamed or deleted?"
    (event,) = found("LIMIT = 1 / 0\n\n\ndef g(x):\n    return x\n")
    assert "Your file stops here:\nline 1:\n    LIMIT = 1 / 0\nZeroDivisionError" in event.text


def test_the_whole_file_runs_when_the_checks_pass():
    good = "def f(x):\n    return x * x\n\n\n"
    assert [event.kind for event in found(good)] == ["ok"]
    passed, stopped = found(good + "print(f(2), f)\nmissing()\n")
    assert (passed.kind, stopped.kind) == ("ok", "stopped")
    assert stopped.text.startswith("line 6:\n    missing()\nNameError")
    assert [event.kind for event in found(good + "missing()\n", whole=False)] == ["ok"]


def test_after_the_first_wrong_check_the_others_wait():
    def check_more(lesson):
        """f: of 3 is 9"""
        raise AssertionError("this is not to run")

    assert [event.kind for event in found("def f(x):\n    return 1\n", check_f, check_more)] == ["wrong", "later"]


def test_what_is_printed_while_a_check_runs_is_kept():
    (event,) = found("print('no')\n\n\ndef f(x):\n    print('x is', x)\n    return 1\n")
    assert event.printed == "x is 2.0\n"
    (event,) = found("def f(x):\n    for i in range(100_000):\n        print(i)\n    return 1\n")
    assert len(event.printed) < 3000


def test_a_check_runs_on_every_device_that_is_asked_for(device):
    """On the stand-in for CuPy here, on a GPU where there is one."""

    def check_double(lesson, device):
        """double: is twice as much"""
        same("double", lesson.double(Tensor([1.0, 2.0])), [2.0, 4.0])
        assert lesson.double(Tensor([1.0])).device.startswith(device)

    text = "def double(x):\n    return x + x\n"
    devices = ("cpu", device)
    assert [(event.kind, event.title) for event in found(text, check_double, devices=devices)] == [
        ("ok", f"double: is twice as much ({name})") for name in devices
    ]


def test_an_array_on_the_device_is_compared(device):
    array = Tensor([1.0, 2.0]).data
    same("f", array, [1.0, 2.0])
    assert "1 of 2 values is wrong, at [1]" in said(same, "f", get_array_module(array).asarray(array), [1.0, 3.0])
