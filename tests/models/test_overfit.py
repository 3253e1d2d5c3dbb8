"""The last word on all that is below: the network of 2012 learns 32 photographs by heart."""

from math import log

import numpy as np

import minidl
import minidl.functional as F
from minidl import Tensor, optim
from minidl.data import EmbeddedCIFAR10, Resize
from minidl.models import AlexNet
from minidl.training import evaluate


def test_32_photographs_are_learnt_by_heart():
    minidl.manual_seed(0)
    dataset = EmbeddedCIFAR10(train=False)
    labels = np.arange(32) % 10
    chosen = [np.flatnonzero(dataset.labels == label)[i // 10] for i, label in enumerate(labels)]
    images = Resize(64)(dataset.images[chosen], np.random.default_rng(0))
    x = Tensor(images - images.mean(axis=(0, 1, 2)))

    model = AlexNet("program", 10, width=0.25, image_size=64)
    start, _ = evaluate(model, [(x, Tensor(labels))])
    assert abs(start.loss - log(10)) < 0.05, "before learning all classes are equally probable"
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.0005)
    for step in range(400):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        if step % 10 == 0:
            figures, _ = evaluate(model, [(x, Tensor(labels))])
            if figures.loss < 0.02:
                break
    assert figures.loss < 0.05 and figures.accuracy == 1
