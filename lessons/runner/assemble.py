"""`python -m lessons assemble`: AlexNet from the learner's own parts where their checks pass, from minidl's elsewhere; then trains it.

The network is built by the learner's `alexnet` (lesson 19) out of layers which keep minidl's parameters and call the learner's
operations. It is a quarter as wide as that of 2012 and sees the embedded images at 64 pixels, so that two cores see it learn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import minidl
import minidl.functional as F
from lessons.runner.course import COURSE
from lessons.runner.examine import defined, explain
from lessons.runner.process import findings
from lessons.runner.workbook import Workbook
from minidl import data, nn, optim, plots

SIZE, WIDTH, BATCH, RATE = 64, 0.25, 50, 0.01
ABOUT = (
    "The network is a quarter as wide as that of 2012 and looks at 5,000 photographs of ten kinds, enlarged to 64 pixels; its first "
    "weights follow He (lesson 17). A loss of 2.30 is that of guessing. An epoch takes some 10 to 20 seconds on two cores; Ctrl-C ends it."
)


@dataclass(frozen=True)
class Part:
    """A part of AlexNet: the lesson in which it is written, and what it is called there."""

    title: str
    lesson: int
    names: tuple[str, ...]


PARTS = (
    Part("softmax cross-entropy", 9, ("cross_entropy",)),
    Part("im2col", 10, ("im2col", "col2im")),
    Part("convolution", 11, ("conv2d",)),
    Part("max pooling", 12, ("max_pool2d",)),
    Part("ReLU", 13, ("relu",)),
    Part("response normalisation", 14, ("local_response_norm",)),
    Part("dropout", 15, ("dropout",)),
    Part("SGD with momentum", 16, ("SGD",)),
    Part("the network", 19, ("alexnet",)),
)


def find_parts(workbook: Workbook) -> Iterator[tuple[Part, Any, str]]:
    """(part, the learner's module or None, whose it is and why), one after the other, as their checks end."""
    own: set[str] = set()
    for part in PARTS:
        lesson = COURSE[part.lesson]
        path = workbook.path(lesson)
        if path.exists() and all(event.kind in ("begin", "ok") for event in findings(lesson, path, whole=False)):
            own.add(part.title)
            yield part, defined(path.read_text(encoding="utf-8"), str(path), f"lesson_{part.lesson:02}")[0], "yours"
            continue
        why = f"`check {part.lesson}` does not pass" if path.exists() else f"lesson {part.lesson} is not started"
        around = part.title == "convolution" and "im2col" in own  # see `operations`
        yield part, None, f"the lesson's, your im2col: {why}" if around else f"minidl's: {why}"


def operations(modules: Mapping[str, Any]) -> dict[str, Any]:
    """{name: the learner's function or class} of all parts that are the learner's.

    A convolution uses the im2col of lesson 11's file, which is given there; it gets the learner's own. Who has written im2col and no
    convolution yet gets that of the lesson's worked version around it.
    """
    own = {name: getattr(modules[part.title], name) for part in PARTS if part.title in modules for name in part.names}
    if "im2col" in own:
        convolution = modules.get("convolution")
        if convolution is None:
            lesson = COURSE[11]
            convolution = defined(lesson.text, str(lesson.path), "lesson_11")[0]
            own["conv2d"] = convolution.conv2d
        convolution.im2col, convolution.col2im = own["im2col"], own["col2im"]
    return own


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
    minidl.manual_seed(0)
    own = operations(modules)
    train_set, test_set = data.EmbeddedCIFAR10(), data.EmbeddedCIFAR10(train=False)
    model = network(own, len(train_set.classes))
    cross_entropy = own.get("cross_entropy", F.cross_entropy)
    colour = train_set.images.mean((0, 1, 2))
    transform = data.Compose(
        [data.Mirror(), data.Resize(SIZE), data.SubtractMean(colour), data.Scale(1 / train_set.images.std())]
    )
    still = data.Compose(transform.transforms[1:])
    batches = data.DataLoader(train_set, BATCH, shuffle=True, transform=transform, device=device)
    tests = data.DataLoader(test_set, 2 * BATCH, transform=still, device=device)
    model.to(device)
    optimizer = own.get("SGD", optim.SGD)(model.parameters(), lr=RATE, momentum=0.9, weight_decay=0.0005)
    metrics = []
    for epoch in range(1, epochs + 1):
        begin, figures = time.perf_counter(), {}
        for part, loader in (("train", batches), ("test", tests)):
            model.train(part == "train")
            losses, right = 0.0, 0
            for images, labels in loader:
                if part == "train":
                    logits = model(images)
                    loss = cross_entropy(logits, labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                else:
                    with minidl.no_grad():
                        logits = model(images)
                        loss = cross_entropy(logits, labels)
                losses += float(loss) * len(labels)
                right += int((logits.numpy().argmax(axis=1) == labels.numpy()).sum())
            figures |= {f"{part}_loss": losses / len(loader.dataset), f"{part}_accuracy": right / len(loader.dataset)}
        metrics.append({"epoch": epoch, "lr": RATE, **figures})
        yield (
            f"epoch {epoch:>2}   loss {figures['train_loss']:.3f}, test {figures['test_loss']:.3f}   "
            f"right {figures['train_accuracy']:.1%}, test {figures['test_accuracy']:.1%}   "
            f"{time.perf_counter() - begin:.0f} s"
        )
        folder.mkdir(exist_ok=True)
        plots.curves(metrics, len(train_set.classes), folder / "alexnet_curves.png")
        plots.kernels(next(iter(model.parameters())).numpy(), folder / "alexnet_kernels.png", towers=2)


def in_words(error: Exception, workbook: Workbook) -> str:
    """What the learner's code raised, with the learner's own line; where it is in none of the learner's files, `error` itself."""
    found = [path for path in _files(error) if path.parent == workbook.folder]
    if not found:
        raise error
    return f"In {found[-1].name}, {explain(error, str(found[-1]), found[-1].read_text(encoding='utf-8').splitlines())}"


def _files(error: BaseException) -> list[Path]:
    """Those whose lines led to `error`, and then those that led to its cause: minidl raises errors of operations again."""
    found, traceback = [], error.__traceback__
    while traceback is not None:
        found.append(Path(traceback.tb_frame.f_code.co_filename))
        traceback = traceback.tb_next
    return found + (_files(error.__cause__) if error.__cause__ is not None else [])
