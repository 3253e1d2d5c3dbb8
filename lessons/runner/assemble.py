"""`python -m lessons assemble`: AlexNet from the learner's own parts where their checks pass, from minidl's elsewhere; then trains it.

The network is built by the learner's `alexnet` (lesson 19) out of layers which keep minidl's parameters and call the learner's
operations. It is a quarter as wide as that of 2012 and sees the embedded images at 64 pixels, so that two cores see it learn.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import minidl
import minidl.functional as F
from lessons.runner.course import COURSE
from lessons.runner.examine import Printed, Watch, defined, explain, without_exit
from lessons.runner.process import findings
from lessons.runner.source import ENCODING
from lessons.runner.terminal import wrapped
from lessons.runner.workbook import Workbook
from minidl import Tensor, data, nn, optim, plots
from minidl.backend import get_array_module

SIZE, WIDTH, BATCH, RATE = 64, 0.25, 50, 0.01  # pixels, of the channels of 2012, images, of the learning
ABOUT = (
    "The network is a quarter as wide as that of 2012 and looks at 5,000 photographs of ten kinds, enlarged to 64 pixels; its first "
    "weights follow He (lesson 17). A loss of 2.30 is that of guessing. An epoch takes some 10 to 20 seconds on two cores; Ctrl-C ends it."
)
STEP_SECONDS = 60.0  # that a step of the training may take


@dataclass(frozen=True)
class Part:
    """A part of AlexNet: the lesson in which it is written, and what it is called there."""

    title: str
    lesson: int
    names: tuple[str, ...]
    otherwise: str = "minidl"  # whose is taken where the learner's does not pass


PARTS = (
    Part("softmax cross-entropy", 9, ("cross_entropy",)),
    Part("im2col", 10, ("im2col", "col2im")),
    Part("convolution", 11, ("conv2d",)),
    Part("max pooling", 12, ("max_pool2d",)),
    Part("ReLU", 13, ("relu",)),
    Part("response normalisation", 14, ("local_response_norm",)),
    Part("dropout", 15, ("dropout",)),
    Part("SGD with momentum", 16, ("SGD",)),
    Part("the network", 19, ("alexnet",), otherwise="the lesson"),
)


def find_parts(workbook: Workbook, device: str) -> Iterator[tuple[Part, Any, str]]:
    """(part, the learner's module or None, whose it is and why), one after the other, as their checks on `device` end."""
    own: set[str] = set()  # titles
    sys.path.append(str(workbook.folder))  # last, as when they are checked: for helpers that the learner's files import
    for part in PARTS:
        lesson = COURSE[part.lesson]
        path = workbook.path(lesson)
        if path.exists() and all(e.kind in ("begin", "ok") for e in findings(lesson, path, devices=(device,), whole=False)):
            own.add(part.title)
            module, _ = defined(path.read_text(encoding=ENCODING), str(path), f"lesson_{part.lesson:02}", keep=part.names)
            yield part, module, "yours"
            continue
        why = f"`check {part.lesson}` does not pass" if path.exists() else f"lesson {part.lesson} is not started"
        around = part.title == "convolution" and "im2col" in own  # see `operations`
        yield part, None, f"{'the lesson' if around else part.otherwise}'s: {why}"


def operations(modules: Mapping[str, Any]) -> dict[str, Any]:
    """{name: the learner's function or class} of all parts that are the learner's.

    A convolution uses the im2col of lesson 11's file, which is given there; it gets the learner's own. Who has written im2col and no
    convolution yet gets that of the lesson's worked version around it.
    """
    own = {name: getattr(modules[part.title], name) for part in PARTS if part.title in modules for name in part.names}
    own |= {name: _watched(name, own[name]) for name in own.keys() & GIVE_TENSORS}
    if "im2col" in own:
        convolution: Any = modules.get("convolution")
        if convolution is None:
            lesson = COURSE[11]
            convolution = defined(lesson.text, str(lesson.path), "lesson_11")[0]
            own["conv2d"] = _watched("conv2d", convolution.conv2d)
        convolution.im2col, convolution.col2im = own["im2col"], own["col2im"]
    return own


class Odd(Exception):
    """A part gave something that it should not; the message says which and what."""


KEEP_SHAPE = {"relu", "local_response_norm", "dropout"}
GIVE_TENSORS = {"conv2d", "max_pool2d", "cross_entropy", *KEEP_SHAPE}


def _shape_after(name: str, x: Tensor, *arguments: Any, **named: Any) -> tuple[int, ...]:
    """What the shape of an operation's result must be, by minidl's on the first image."""
    if name in KEEP_SHAPE:
        return x.shape
    if name == "cross_entropy":
        return ()
    with minidl.no_grad():
        return (len(x), *getattr(F, name)(x[:1], *arguments, **named).shape[1:])


def _watched(name: str, operation: Callable[..., Any]) -> Callable[..., Tensor]:
    """The learner's operation; what it gives is looked at, since the checks have only seen small inputs."""

    def call(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        y = operation(x, *arguments, **named)
        if not isinstance(y, Tensor):
            raise Odd(f"Your `{name}` gave {type(y).__name__} instead of a Tensor, for an input of shape {x.shape}.")
        expected = _shape_after(name, x, *arguments, **named)
        if y.shape != expected:
            wanted = f"{expected}" if expected else "one number"
            raise Odd(f"Your `{name}` gave shape {y.shape} instead of {wanted}, for an input of shape {x.shape}.")
        if y.dtype != x.dtype:
            raise Odd(f"Your `{name}` made {y.dtype} of {x.dtype}: everything behind it would be slower, and not the same.")
        if not bool(get_array_module(y.data).isfinite(y.data).all()):
            raise Odd(
                f"Your `{name}` gave NaN or infinity, for an input of shape {x.shape}: a division by 0, or a step too large?"
            )
        return y

    return call


def layers_of(own: Mapping[str, Callable[..., Any]]) -> SimpleNamespace:
    """What `alexnet(layers=...)` takes: minidl's layers, whose operations are those of `own` where it has them."""
    conv2d, max_pool2d = own.get("conv2d", F.conv2d), own.get("max_pool2d", F.max_pool2d)
    relu, norm = own.get("relu", F.relu), own.get("local_response_norm", F.local_response_norm)
    dropout = own.get("dropout", lambda x, p, training: F.dropout(x, p, training, inverted=False))

    class Conv2d(nn.Conv2d):
        def forward(self, x):
            return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups)

    class MaxPool2d(nn.MaxPool2d):
        def forward(self, x):
            return max_pool2d(x, self.kernel_size, self.stride)

    class ReLU(nn.ReLU):
        def forward(self, x):
            return relu(x)

    class LocalResponseNorm(nn.LocalResponseNorm):
        def forward(self, x):
            return norm(x, self.size, self.alpha, self.beta, self.k, self.groups)

    class Dropout(nn.Dropout):
        def forward(self, x):
            return dropout(x, self.p, self.training)

    return SimpleNamespace(
        Conv2d=Conv2d, MaxPool2d=MaxPool2d, ReLU=ReLU, LocalResponseNorm=LocalResponseNorm, Dropout=Dropout,
        Linear=nn.Linear, Flatten=nn.Flatten, Sequential=nn.Sequential,
    )  # fmt: skip


def network(own: Mapping[str, Any], classes: int) -> nn.Module:
    """AlexNet, with initial weights after He (lesson 17): from those of 2012 a network of this size does not begin to learn."""
    build = own.get("alexnet")
    if build is None:
        lesson = COURSE[19]
        build = defined(lesson.text, str(lesson.path), "lesson_19")[0].alexnet
    model = build(layers_of(own), classes=classes, width=WIDTH, image_size=SIZE)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            nn.init.constant_(parameter, 0.0)
    return model


def trained(modules: Mapping[str, Any], epochs: int, device: str, folder: Path) -> Iterator[str]:
    """Build the network from the learner's modules ({title of a part: module}) and train it.

    Yields a line for every epoch, and leaves two pictures in `folder`.
    """
    folder.mkdir(exist_ok=True)
    minidl.manual_seed(0)
    own = operations(modules)
    parts = _images(device)
    classes = len(data.embedded.CLASSES)
    model = network(own, classes).to(device)
    cross_entropy = own.get("cross_entropy", F.cross_entropy)
    optimizer = own.get("SGD", optim.SGD)(model.parameters(), lr=RATE, momentum=0.9, weight_decay=0.0005)
    watch = Watch(_too_slow, folder)

    def step(images: Tensor, labels: Tensor, learn: bool) -> tuple[float, int]:
        """(sum of the losses, how many are right)."""
        watch.begin(STEP_SECONDS)
        model.train(learn)
        with ExitStack() as around:
            around.enter_context(redirect_stdout(Printed()))
            around.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # what NaN comes from, `_watched` says
            around.enter_context(without_exit())
            around.enter_context(nullcontext() if learn else minidl.no_grad())
            logits = model(images)
            loss = cross_entropy(logits, labels)
            if learn:
                optimizer.zero_grad()
                loss.backward()
                _look_at_gradients(model)
                optimizer.step()
        return float(loss) * len(labels), int((logits.numpy().argmax(axis=1) == labels.numpy()).sum())

    metrics: list[dict[str, float]] = []
    watch.start()
    try:
        for epoch in range(1, epochs + 1):
            begin = time.perf_counter()
            found: dict[str, float] = {"epoch": epoch, "lr": RATE}
            for part, loader in parts.items():
                done = [step(images, labels, learn=part == "train") for images, labels in loader]
                sums = [sum(column) / len(loader.dataset) for column in zip(*done, strict=True)]
                found |= {f"{part}_loss": sums[0], f"{part}_accuracy": sums[1]}
            watch.begin(float("inf"))
            metrics.append(found)
            yield _line(found, time.perf_counter() - begin)
            plots.curves(metrics, classes, folder / "alexnet_curves.png")
            plots.kernels(next(iter(model.parameters())).numpy(), folder / "alexnet_kernels.png", towers=2)
    finally:
        watch.end()


def _images(device: str) -> dict[str, data.DataLoader]:
    """The embedded images in batches, "train" and "test": enlarged, their mean colour taken off, with a variance of 1."""
    train_set, test_set = data.EmbeddedCIFAR10(), data.EmbeddedCIFAR10(train=False)
    still: list[Any] = [
        data.Resize(SIZE),
        data.SubtractMean(train_set.images.mean((0, 1, 2))),
        data.Scale(1 / train_set.images.std()),
    ]
    return {
        "train": data.DataLoader(train_set, BATCH, shuffle=True, transform=data.Compose([data.Mirror(), *still]), device=device),
        "test": data.DataLoader(test_set, 2 * BATCH, transform=data.Compose(still), device=device),
    }


def _line(found: Mapping[str, float], seconds: float) -> str:
    return (
        f"epoch {found['epoch']:>2}   loss {found['train_loss']:.3f}, test {found['test_loss']:.3f}   "
        f"right {found['train_accuracy']:.1%}, test {found['test_accuracy']:.1%}   {seconds:.0f} s"
    )


def _look_at_gradients(model: nn.Module) -> None:
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    if without:
        raise Odd(f"No gradient has arrived at {', '.join(without)}: the `backward` of a part that comes later gives none.")


_end = os._exit  # `without_exit` puts another in its place


def _too_slow(words: str) -> None:
    print("\n" + wrapped(words), file=sys.__stdout__, flush=True)
    _end(1)


def in_words(error: BaseException, workbook: Workbook) -> str:
    """What the learner's parts raised, with the learner's own line where there is one."""
    found = [path for path in _files(error) if path.parent == workbook.folder]
    if isinstance(error, Odd):
        return str(error)
    if not found:
        return f"The parts do not go together; what came from one did not suit the next:\n{type(error).__name__}: {error}"
    return f"In {found[-1].name}, {explain(error, str(found[-1]), found[-1].read_text(encoding=ENCODING).splitlines())}"


def _files(error: BaseException) -> list[Path]:
    """Those whose lines led to `error`, and then those that led to its cause: minidl raises errors of operations again."""
    found, traceback = [], error.__traceback__
    while traceback is not None:
        found.append(Path(traceback.tb_frame.f_code.co_filename))
        traceback = traceback.tb_next
    return found + (_files(error.__cause__) if error.__cause__ is not None else [])
