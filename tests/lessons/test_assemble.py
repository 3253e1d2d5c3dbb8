"""`assemble`: the network from a learner's parts is AlexNet, every part of the learner's is really used, and it says whose is whose."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import minidl
from lessons.runner import assemble, commands
from lessons.runner.course import COURSE, ROOT
from lessons.runner.examine import defined
from lessons.runner.workbook import Workbook
from minidl import data, functional, optim

PARTS = {name: part for part in assemble.PARTS for name in part.names}


@pytest.fixture(scope="module")
def modules():
    """The worked files, as if a learner had written them."""
    lessons = {part.title: COURSE[part.lesson] for part in assemble.PARTS}
    return {title: defined(lesson.text, str(lesson.path), f"worked_{lesson.number}")[0] for title, lesson in lessons.items()}


@pytest.fixture
def own(modules):
    return assemble.operations(modules)


def step(own):
    """(loss, weights after one step) of the network of these parts."""
    minidl.manual_seed(0)
    model = assemble.network(own, classes=10)
    train_set = data.EmbeddedCIFAR10()
    images = data.Resize(assemble.SIZE)(train_set.images[:4], np.random.default_rng(0))
    model.eval()  # in training the masks would differ
    loss = own.get("cross_entropy", functional.cross_entropy)(model(minidl.Tensor(images / 255)), train_set.labels[:4])
    optimizer = own.get("SGD", optim.SGD)(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    loss.backward()
    optimizer.step()
    return float(loss), [p.numpy() for p in model.parameters()]


def test_the_learners_network_computes_what_minidls_does(own):
    assert set(own) == set(PARTS)
    loss, weights = step(own)
    expected_loss, expected = step({"alexnet": own["alexnet"]})
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for got, want in zip(weights, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * abs(want).max())


class Called(Exception):
    pass


@pytest.mark.parametrize("name", PARTS)
def test_each_part_is_used(modules, name):
    def called(*_, **__):
        raise Called

    broken = {**modules, PARTS[name].title: type("Module", (), {**vars(modules[PARTS[name].title]), name: staticmethod(called)})}
    with pytest.raises(Called):
        step(assemble.operations(broken))


@pytest.mark.parametrize(
    "gives,words",
    [
        (lambda x: x * np.nan, "Your `relu` gave NaN"),
        (lambda x: None, "Your `relu` gave NoneType instead of a Tensor"),
        (lambda x: x.numpy(), "Your `relu` gave ndarray instead of a Tensor"),
        (lambda x: x.astype("float64"), "Your `relu` made float64 of float32"),
        (lambda x: x[..., :-1], "Your `relu` gave shape (50, 15, 15, 23) instead of (50, 15, 15, 24), for an input of"),
        (lambda x: minidl.Tensor(x.numpy()), "No gradient has arrived at conv1.weight, conv1.bias, "),
    ],
)
def test_what_a_part_should_not_give(modules, monkeypatch, tmp_path, gives, words):
    module = type("Module", (), {"relu": staticmethod(gives)})
    with pytest.raises(Exception) as caught:
        list(assemble.trained({**modules, "ReLU": module}, 1, "cpu", tmp_path))
    assert words in assemble.in_words(caught.value, Workbook())
    for thread in threading.enumerate():
        if isinstance(thread, assemble.Watch):  # left over, it would end this process when a step's time is up
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "title,name,wrong,words",
    [
        ("max pooling", "max_pool2d", lambda x, kernel, stride: x[:, ::3, ::3], "gave shape (50, 5, 5, 24) instead of (50, 7, 7, 24)"),
        ("softmax cross-entropy", "cross_entropy", lambda z, labels: z.sum(axis=1), "gave shape (50,) instead of one number"),
        ("the network", "alexnet", lambda layers, **_: layers.Sequential(layers.Linear(7, 10)), "The parts do not go together"),
    ],
)  # fmt: skip
def test_a_shape_that_the_next_part_does_not_take(modules, tmp_path, title, name, wrong, words):
    with pytest.raises(Exception) as caught:
        list(assemble.trained({title: type("Module", (), {name: staticmethod(wrong)})}, 1, "cpu", tmp_path))
    assert words in assemble.in_words(caught.value, Workbook())


def test_im2col_without_a_convolution_gets_that_of_the_lesson(modules):
    calls = []

    class Counted:
        col2im = staticmethod(modules["im2col"].col2im)

        @staticmethod
        def im2col(*arguments):
            calls.append(arguments)
            return modules["im2col"].im2col(*arguments)

    step(assemble.operations({"im2col": Counted}))
    assert calls


@pytest.fixture
def workbook(tmp_path, monkeypatch):
    monkeypatch.setattr("lessons.runner.workbook.FOLDER", tmp_path / "workbook")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workbook").mkdir()
    few = [data.ArrayDataset(d.images[:60], d.labels[:60], d.classes) for d in map(data.EmbeddedCIFAR10, (True, False))]
    monkeypatch.setattr(assemble.data, "EmbeddedCIFAR10", lambda train=True: few[0 if train else 1])
    return Workbook()


def test_whose_is_what(workbook, capsys):
    workbook.path(COURSE[13]).write_text(COURSE[13].text)
    workbook.path(COURSE[10]).write_text(COURSE[10].text)
    workbook.path(COURSE[14]).write_text("window = 5\n")
    assert commands.main(["assemble", "--epochs", "1"]) == 0
    text = capsys.readouterr().out
    assert "  ReLU                     yours\n" in text
    assert "  response normalisation   minidl's: `check 14` does not pass\n" in text
    assert "  im2col                   yours\n" in text
    assert "  convolution              the lesson's: lesson 11 is not started\n" in text
    assert "  dropout                  minidl's: lesson 15 is not started\n" in text
    assert "\nepoch  1   loss 2." in text or "\nepoch  1   loss 3." in text
    assert all(len(line) < 80 for line in text.splitlines())
    for name in ("curves", "kernels"):
        assert (workbook.folder / f"alexnet_{name}.png").stat().st_size > 5000


def test_an_exception_behind_an_operation_names_the_file_in_which_it_was_raised(workbook, capsys):
    """im2col runs inside the convolution, that inside a Function: the line that failed is behind both."""
    text = COURSE[10].text
    begin = text.index("def im2col(")
    end = text.index('"""', text.index('"""', begin) + 3) + 3
    trap = text[:end] + "\n    if x.shape[-1] == 12:\n        return x @ x[:0]" + text[end:]
    workbook.path(COURSE[10]).write_text(trap)
    workbook.path(COURSE[11]).write_text(COURSE[11].text)
    assert commands.main(["assemble", "--epochs", "1"]) == 1
    line = trap.splitlines().index("        return x @ x[:0]") + 1
    assert f"In 10_im2col.py, line {line}, in im2col:\n    return x @ x[:0]\n" in capsys.readouterr().out


def trapped(workbook, code):
    """Lesson 13 with `code` in relu, where no check goes; the number of its line."""
    text = COURSE[13].text
    begin = text.index("def relu(x):")
    end = text.index('"""', text.index('"""', begin) + 3) + 3
    trap = text[:end] + f"\n    if x.shape[-1] == 24:\n        {code}" + text[end:]
    workbook.path(COURSE[13]).write_text(trap)
    return trap.splitlines().index(f"        {code}") + 1


@pytest.mark.parametrize(
    "code,words",
    [
        ("return x / None", "TypeError"),
        ("raise SystemExit", "Python is ended here"),
        ("__import__('os')._exit(3)", "Python is ended here"),
        ("raise type('Mine', (BaseException,), {})('ended')", "Mine: ended"),
    ],
)
def test_an_exception_in_training_names_the_learners_line(workbook, capsys, code, words):
    line = trapped(workbook, code)
    assert commands.main(["assemble", "--epochs", "1"]) == 1
    said = capsys.readouterr().out
    assert f"In 13_relu.py, line {line}, in relu:\n    {code}\n" in said and words in said
    assert "Traceback" not in said


def test_a_file_of_the_learners_own_may_be_imported(workbook, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (workbook.folder / "my_helpers.py").write_text("def same(x):\n    return x\n")
    text = COURSE[13].text.replace("    return ReLU()(x)\n", "    return same(ReLU()(x))\n")
    workbook.path(COURSE[13]).write_text(
        text.replace("import numpy as np\n", "import numpy as np\nfrom my_helpers import same\n", 1)
    )
    assert commands.main(["assemble", "--epochs", "1"]) == 0
    assert "  ReLU                     yours\n" in capsys.readouterr().out


def test_numpys_warnings_are_not_shown(workbook, recwarn):
    trapped(workbook, "x = x + 0 * (x / 0).data.size")
    assert commands.main(["assemble", "--epochs", "1"]) == 0
    assert [str(w.message) for w in recwarn if "divide" in str(w.message)] == []


def test_what_the_learners_parts_print_is_not_shown(workbook, capsys):
    trapped(workbook, "print('here')")
    assert commands.main(["assemble", "--epochs", "1"]) == 0
    assert "here" not in capsys.readouterr().out


def test_a_call_that_keeps_pythons_lock_is_ended(workbook):
    line = trapped(workbook, "sum(range(10**12))")
    code = (
        "from pathlib import Path; from lessons.runner import assemble, commands, workbook; assemble.STEP_SECONDS = 1; "
        f"workbook.FOLDER = Path({str(workbook.folder)!r}); commands.main(['assemble', '--epochs', '1'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1 and "Timeout (" in done.stderr
    assert f'13_relu.py", line {line} in relu\n' in done.stderr


def test_a_loop_without_end_is_stopped(workbook, monkeypatch):
    line = trapped(workbook, "while True: pass")
    said = []

    def stop(words):
        said.append(words)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(assemble, "_too_slow", stop)
    monkeypatch.setattr(assemble, "STEP_SECONDS", 2.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
    try:
        assert commands.main(["assemble", "--epochs", "1"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == [
        f"Still at work after 2 s, at line {line}, in relu:\n    while True: pass\nA loop without end, or far more work than needed?"
    ]
