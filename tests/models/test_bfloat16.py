"""AlexNet in bfloat16: images decide, weights stay float32, and it learns."""

import numpy as np
import pytest

import minidl
import minidl.functional as F
from minidl import Tensor, nn, optim
from minidl.data import EmbeddedCIFAR10
from minidl.models import AlexNet
from minidl.nn.module import observed
from models.networks import VARIANTS, lively, pixels

LABELS = np.arange(8) % 4


def gradients(model: nn.Module, images: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """The scores, and every parameter's gradient of their loss."""
    for parameter in model.parameters():
        parameter.grad = None
    scores = model(images)
    F.cross_entropy(scores, LABELS).backward()
    assert all(p.dtype == p.grad.dtype == np.float32 for p in model.parameters()), "the master weights and what moves them"
    return scores.astype("float32").numpy(), [p.grad.numpy().ravel() for p in model.parameters()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_as_near_to_float32_as_8_digits_are_and_no_nearer(device, variant):
    model = lively(AlexNet(variant, 10, width=0.1, image_size=63))
    model.eval()
    images, layers = Tensor(pixels(8, 63)), []
    exact, exact_gradients = gradients(model, images)
    with observed(model, lambda name, layer, result: layers.append(result.dtype.name)):
        scores, found = gradients(model, images.astype("bfloat16"))
    assert layers == ["bfloat16"] * len(list(model.named_children()))
    error = np.linalg.norm(scores - exact) / np.linalg.norm(exact)
    assert 2**-10 < error < 2**-5, (
        f"{error}: the rounding of one number is 2 ** -9 on average, that of several layers a few times that"
    )
    more_digits = {True: False, False: False}
    for parameter, ours, theirs in zip(model.parameters(), found, exact_gradients, strict=True):
        # Where rounding makes another unit the largest, or negative, its gradient goes another way.
        cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
        assert cosine > 0.95
        more_digits[parameter.ndim > 1] |= (ours.view(np.uint32) & 0xFFFF).any()
    assert more_digits == {True: False, False: True}, "the gradients of weights were bfloat16, those of biases never"


def test_eight_photographs_are_learnt_by_heart(device):
    """By AlexNet's kinds of layers, as few as will do; with a rate so small that a bfloat16 weight would hardly move."""
    minidl.manual_seed(0)
    photographs = EmbeddedCIFAR10(train=False).images[:8].astype(np.float32)
    images = Tensor((photographs - photographs.mean(axis=(0, 1, 2))) / 64).astype("bfloat16")
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.LocalResponseNorm(5, 1e-2), nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 16, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4),
    )  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses = []
    while len(losses) < 200 and (not losses or losses[-1] > 0.05):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - np.log(4)) < 0.3 and losses[-1] <= 0.05, losses
    assert all(p.dtype == np.float32 for p in model.parameters())
