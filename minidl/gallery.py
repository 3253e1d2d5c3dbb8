"""The pictures of an AlexNet's training, drawn anew after its epochs: the curves, and what the paper shows in figures 3 and 4."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from minidl import data, plots
from minidl.data import UndecodableImage
from minidl.evaluation import features, most_similar
from minidl.models import AlexNet

SHARE = 1 / 20  # of the time goes into drawing, at most
SHOWN = 40  # test images with their first guess
GUESSED = 8  # of these, with their five best guesses, and with their neighbours
SIMILAR = 6  # neighbours of each
SEARCHED = 2000  # training images among which neighbours are looked for: all of ImageNet would take a third of an epoch


class Gallery:
    """Pictures in `folder` of `model` and of what it says to some test images, always the same ones.

    train: the training images; tests: the loader of the test images. towers: how many the first layer has.
    """

    def __init__(self, folder: Path, model: AlexNet, train: Any, tests: data.DataLoader, towers: int, seed: int) -> None:
        self.folder, self.model, self.train, self.tests, self.towers = folder, model, train, tests, towers
        self.classes, self.test = train.classes, tests.dataset
        random = np.random.default_rng(seed)
        self.shown = _decodable(self.test, random.permutation(len(self.test)), SHOWN)
        self.searched = np.sort(random.permutation(len(train))[:SEARCHED])
        self.drawn, self.took = time.monotonic(), 5.0  # seconds, until it has been measured

    def draw(self, metrics: Sequence[Mapping[str, float]], probabilities: np.ndarray, at_once: bool) -> None:
        """Draw them all. Unless `at_once`, nothing is drawn while that would take more than `SHARE` of the time.

        metrics: a line for each epoch. probabilities: (N, classes), of all test images that can be decoded.
        """
        if time.monotonic() - self.drawn < self.took / SHARE and not at_once:
            return
        self.drawn = time.monotonic()
        images, labels = zip(*(self.test[int(i)] for i in self.shown), strict=True)
        kept = self.tests.kept  # without those that cannot be decoded
        said = probabilities[np.searchsorted(kept, self.shown)]
        plots.curves(metrics, len(self.classes), self.folder / "curves.png")
        plots.kernels(self.model["conv1"].weight.numpy(), self.folder / "kernels.png", self.towers)
        plots.contact_sheet(images, labels, said, self.classes, self.folder / "predictions.png")
        plots.confusion_matrix(probabilities, self.test.labels[kept], self.classes, self.folder / "confusion.png")
        if len(self.classes) >= 5:
            plots.five_guesses(images[:GUESSED], labels[:GUESSED], said[:GUESSED], self.classes, self.folder / "guesses.png")
        self._nearest(images[:GUESSED])
        self.took = time.monotonic() - self.drawn

    def _nearest(self, queries: Sequence[np.ndarray]) -> None:
        """Draw some test images, each beside the training images whose fc7 activations are nearest (figure 4, right)."""
        found, searched = self._features(self.train, self.searched)
        wanted, _ = self._features(self.test, self.shown[:GUESSED])
        neighbours, captions = [], []
        for query in wanted:
            numbers, _ = most_similar(found, query, SIMILAR)
            images, labels = zip(*(self.train[int(searched[i])] for i in numbers), strict=True)
            neighbours.append(images)
            captions.append([self.classes[label] for label in labels])
        plots.nearest(queries, neighbours, self.folder / "nearest.png", captions)

    def _features(self, images: Any, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features of the images at `indices` that can be decoded, and their indices."""
        chosen = data.Subset(images, indices)
        batches = data.DataLoader(chosen, self.tests.batch_size, transform=self.tests.transform, max_failures=1)
        return features(self.model, batches), indices[batches.kept]


def _decodable(images: Any, indices: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of `indices` whose images can be decoded."""
    found: list[int] = []
    for index in map(int, indices):
        if len(found) == count:
            break
        with suppress(UndecodableImage):
            images[index]
            found.append(index)
    return np.array(found)
