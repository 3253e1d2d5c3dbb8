"""The course: 24 titles, and where the two files of each lesson lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lessons.runner import source

FOLDER = Path(__file__).resolve().parent.parent
ROOT = FOLDER.parent

TITLES = [
    "Slopes by hand: finite differences, why 1e-6, float32 against float64",
    "A scalar that remembers: add, multiply, the chain rule",
    "The order of the backward pass: an iterative topological sort",
    "Accumulate, then zero",
    "Trust nothing: build the gradient checker",
    "From scalars to arrays: broadcasting and its transpose",
    "matmul, sum, reshape, indexing",
    "One program, two devices: xp",
    "From one neuron (1943) and the perceptron (1958) to layers: Module, SGD, the spiral",
    "log-sum-exp and the fused softmax cross-entropy",
    "Convolution by loops, then as one matrix product: im2col",
    "Convolution backwards; stride, padding, groups; 224 or 227?",
    "LeNet (1998) reads digits; max pooling, overlapping, ties",
    "ReLU against tanh: the paper's figure 1 on a small scale",
    "Local response normalisation: window, alpha, towers",
    "Dropout, both scalings",
    "Momentum and decay as the paper writes them",
    "Where training starts: initial weights, and why AlexNet can sit at ln(classes)",
    "More data from the same data: mean, crop, mirror, colour noise",
    "AlexNet: 60,965,224 parameters, two towers",
    "Overfit 32 images: the test every training program must pass",
    "Making it fast: chunks, caches, and one kernel on the GPU",
    "A real run: schedule, checkpoint, resume, ten crops, the first-layer kernels",
    "Paper against program: the eight differences, switched one by one",
]


@dataclass(frozen=True)
class Lesson:
    """One of the course."""

    number: int
    title: str

    @cached_property
    def path(self) -> Path:
        (path,) = FOLDER.glob(f"{self.number:02d}_*.py")
        return path

    @property
    def name(self) -> str:
        """As in `00_slopes`."""
        return self.path.stem

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def checks(self) -> ModuleType:
        return import_module(f"lessons.checks.{self.name}")

    @property
    def minutes(self) -> int:
        """From the line "**Time:** 40 minutes" at the top of the lesson."""
        found = re.search(r"\*\*Time:\*\* (\d+) minutes", self.text)
        assert found, f"{self.path}: no **Time:**"
        return int(found[1])

    @cached_property
    def holes(self) -> list[source.Hole]:
        return source.holes(self.text)


COURSE = [Lesson(number, title) for number, title in enumerate(TITLES)]
