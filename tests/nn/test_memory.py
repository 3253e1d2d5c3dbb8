"""The memory of a training step: predicted, counted by hand, measured; and the error where it does not suffice."""

import re
import tracemalloc

import numpy as np
import pytest
import standin_cupy
from numpy.testing import assert_array_equal
from standin_cupy.memory import OutOfMemoryError, limited_memory

import minidl
import minidl.functional as F
from minidl import Tensor, backend, models, nn, optim
from minidl.kernels import parallel
from minidl.nn.memory import memory_explained, step_memory


def small_network() -> nn.Sequential:
    layers = [nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(8 * 9, 5))


def train_step(model, optimizer, x, labels):
    optimizer.zero_grad()
    F.cross_entropy(model(x), labels).backward()
    optimizer.step()


# Against counting by hand


def test_by_hand():
    """conv -> relu -> flatten -> linear, 10 images: fullest on the way back through conv, with a gradient on each side of relu."""
    model = nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3, bias=False))
    memory = step_memory(model, (6, 6, 2)).at(10)
    convolution, linear = 3 * 3 * 2 * 6, 96 * 3
    assert memory.parameters == memory.state == 4 * (convolution + linear)
    # The images, relu's output (which is also the linear layer's input), the logits; not what the convolution gave to relu.
    assert memory.kept == 4 * 10 * (72 + 96 + 3)
    assert memory.gradients == 4 * (convolution + linear)
    assert memory.passing == 4 * 10 * (96 + 96)


def test_at_the_end_of_the_way_back_the_first_layers_gradient_counts():
    model = nn.Sequential(nn.Linear(4, 1000, bias=False), nn.Linear(1000, 1, bias=False))
    memory = step_memory(model, (4,)).at(1)
    assert memory.gradients == 4 * (4000 + 1000) and memory.workspace == 0


def test_frozen_parameters_have_neither_gradient_nor_momentum():
    model = nn.Sequential(nn.Linear(100, 100, bias=False), nn.Linear(100, 100, bias=False))
    model[0].weight.requires_grad = False
    memory = step_memory(model, (100,)).at(1)
    assert (memory.parameters, memory.gradients, memory.state) == (80_000, 40_000, 40_000)


def test_bfloat16_halves_what_grows_with_the_batch(device):
    """And the rounded weights are kept beside the float32 ones."""
    model = nn.Sequential(nn.Conv2d(2, 8, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4, bias=False))
    float32, bfloat16 = (step_memory(model, (6, 6, 2), dtype) for dtype in ("float32", "bfloat16"))
    assert_array_equal(bfloat16.per_item[0], float32.per_item[0] / 2)
    assert bfloat16.fixed[0, 0] == float32.fixed[0, 0] + 2 * (3 * 3 * 2 * 8 + 128 * 4)
    assert (bfloat16.parameters, bfloat16.state) == (float32.parameters, float32.state)


def test_a_model_without_parameters():
    memory = step_memory(nn.ReLU(), (25,)).at(4)
    assert memory.total == memory.kept == 4 * 4 * (25 + 25)


def test_it_is_of_training_in_whatever_mode_the_model_is():
    """Dropout keeps a mask, and what it masked, only in training."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    assert step_memory(model.train(), (1,)).at(9).kept == step_memory(model.eval(), (1,)).at(9).kept >= 4 * 9 * 4
    expected = step_memory(model, (1,)).at(9)
    with minidl.no_grad():
        assert step_memory(model, (1,)).at(9) == expected


# Against measurement


@pytest.mark.parametrize("variant", ["paper", "torchvision"])
@pytest.mark.parametrize("batch_size", [8, 64])
def test_alexnet_against_the_memory_it_takes(variant, batch_size):
    """What NumPy allocated at most in the second step, when there is a velocity. The workspace is an estimate that depends on the
    cores, so the truth is to lie between the prediction without it and with it."""
    size = 127
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        model = models.AlexNet(variant, width=0.25, image_size=size)
        optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)
        x, labels = Tensor(np.ones((batch_size, size, size, 3), np.float32)), Tensor(np.arange(batch_size))
        for _ in range(2):
            tracemalloc.reset_peak()
            train_step(model, optimizer, x, labels)
        measured = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    predicted = nn.summary(model, (size, size, 3), batch_size).memory
    assert 0.95 * (predicted.total - predicted.workspace) < measured < 1.05 * predicted.total, (predicted.total, measured)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_layer_with_and_without_relu_against_the_memory_it_takes(monkeypatch, kind, relu):
    """On one thread, whose workspace is there after the first step: which of several makes its own when, is chance."""
    monkeypatch.setattr(parallel, "worker_count", lambda: 1)
    if kind == "linear":
        shape, layers = (64,), [nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 8)]
    else:
        shape, layers = (24, 24, 8), [nn.Conv2d(8, 64, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144 * 64, 8)]
    model = nn.Sequential(*(layer for layer in layers if relu or not isinstance(layer, nn.ReLU)))
    optimizer, n = optim.SGD(model.parameters(), 0.01, momentum=0.9), 1024 if kind == "linear" else 64
    x, labels = Tensor(np.ones((n, *shape), np.float32)), Tensor(np.zeros(n, np.int64))
    train_step(model, optimizer, x, labels)
    tracemalloc.start()
    try:
        own = sum(3 * p.data.nbytes for p in model.parameters()) + x.data.nbytes
        train_step(model, optimizer, x, labels)
        measured = tracemalloc.get_traced_memory()[1] + own - sum(p.data.nbytes for p in model.parameters())
    finally:
        tracemalloc.stop()
    predicted = nn.summary(model, shape, n).memory
    assert measured == pytest.approx(predicted.total - predicted.workspace, rel=0.05)


# What it leaves behind, and what it is used for


def test_the_model_is_left_as_it_was(device):
    model = small_network().eval()
    model[0].train()
    before, modes = model.state_dict(), [module.training for module in model.modules()]
    minidl.manual_seed(1)
    expected = nn.Linear(2, 2).weight.numpy()
    minidl.manual_seed(1)
    step_memory(model, (6, 6, 4))
    with pytest.raises(ValueError, match="does not fit weight"):
        step_memory(model, (8, 6, 4))
    assert_array_equal(nn.Linear(2, 2).weight.numpy(), expected, "it used random numbers")
    assert [module.training for module in model.modules()] == modes
    for name, array in model.state_dict().items():
        assert_array_equal(array, before[name], name)
    assert all(p.grad is None for p in model.parameters())


def test_the_largest_batch_that_fits():
    memory = step_memory(small_network(), (6, 6, 4))
    for available in (memory.at(1).total, memory.at(50).total, memory.at(50).total + 1, memory.at(51).total - 1, 10**9):
        n = memory.largest_batch(available)
        assert memory.at(n).total <= available < memory.at(n + 1).total
    assert memory.largest_batch(memory.at(1).total - 1) == 0 == memory.largest_batch(0)


def test_the_text():
    text = repr(nn.summary(nn.Sequential({"fc": nn.Linear(1024, 1024, bias=False)}), (1024,), batch_size=256)).splitlines()
    assert text[-8:] == [
        "memory of a training step, batch size 256",
        "parameters                        4.0 MiB",
        "their gradients                   4.0 MiB",
        "momentum                          4.0 MiB",
        "kept for backward                 2.0 MiB",
        "gradients on their way            1.0 MiB",
        "workspace                         0.0 MiB",
        "about                            15.0 MiB",
    ]


# The error


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(parallel, "GPU_FACTOR", 0)  # no workspace to speak of: the stand-in's memory is small
    with standin_cupy.install(), minidl.default_device("gpu"), backend.fixed_random(0):
        yield


def explained_step(model, batch_size):
    optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x, labels = Tensor(np.ones((batch_size, 6, 6, 4), np.float32)), Tensor(np.zeros(batch_size, np.int64))
    with memory_explained(model, x):
        train_step(model, optimizer, x, labels)


def test_the_error_names_a_batch_size_that_fits(gpu):
    model = small_network()
    with limited_memory(1 << 20):
        with pytest.raises(MemoryError, match="a training step on a batch of 200 does not fit on gpu:0. Out of memory") as caught:
            explained_step(model, 200)
        text = str(caught.value)
        del caught
        fits = int(re.search(r"A batch of about (\d+) would fit; nn.summary\(model, \(6, 6, 4\), batch_size=\1\)", text)[1])
        assert 20 < fits < 200
        explained_step(model, fits)
        with pytest.raises(MemoryError):
            explained_step(model, 3 * fits)


def test_the_error_has_the_figures(gpu, monkeypatch):
    figures = {"used_bytes": 3 << 30, "total_bytes": 5 << 30, "get_limit": 0}
    with limited_memory(8 << 30):
        for name, value in figures.items():
            monkeypatch.setattr(standin_cupy.get_default_memory_pool(), name, lambda value=value: value)
        monkeypatch.setattr(standin_cupy.cuda.runtime, "memGetInfo", lambda: (1 << 30, 8 << 30))
        model, x = small_network(), Tensor(np.ones((1 << 10, 6, 6, 4), np.float32))
        with pytest.raises(MemoryError) as caught, memory_explained(model, x):
            raise OutOfMemoryError(1234567, 7654321)
        assert str(caught.value) == (
            "a training step on a batch of 1024 does not fit on gpu:0. Out of memory allocating 1,234,567 bytes (allocated so far: "
            "7,654,321 bytes). CuPy's pool holds 5.00 GiB, 3.00 of them in use, and 1.00 of the GPU's 8.00 GiB are free. "
            "Try a batch of 512."  # the prediction says that 1024 fit, and is wrong
        )
        assert isinstance(caught.value.__cause__, OutOfMemoryError)


@pytest.mark.parametrize("limit, advice", [(0, "about {} would"), (1 << 20, "about {} would"), (1000, "Not even a batch of one")])
def test_what_may_be_used(gpu, monkeypatch, limit, advice):
    """What the pool holds and what is free, but no more than the pool's limit; nine tenths of it."""
    model, x = small_network(), Tensor(np.ones((5000, 6, 6, 4), np.float32))
    step = step_memory(model, (6, 6, 4))
    with limited_memory(1 << 30):
        pool = standin_cupy.get_default_memory_pool()
        for name, value in {"total_bytes": 1 << 20, "get_limit": limit}.items():
            monkeypatch.setattr(pool, name, lambda value=value: value)
        monkeypatch.setattr(standin_cupy.cuda.runtime, "memGetInfo", lambda: (3 << 20, 1 << 30))
        with pytest.raises(MemoryError) as caught, memory_explained(model, x):
            raise OutOfMemoryError(1, 1)
    assert advice.format(step.largest_batch(0.6 * (limit or 4 << 20))) in str(caught.value)


def test_where_nothing_can_be_predicted(gpu):
    x = Tensor(np.ones((7, 3), np.float32))
    for batch, advice in ((x, "Try a batch of 3."), (x[:1], "Make the model or the images smaller.")):
        with limited_memory(1 << 20), pytest.raises(MemoryError, match=advice), memory_explained(nn.Linear(4, 4), batch):
            raise OutOfMemoryError(1, 1)


@pytest.mark.parametrize("error", [ValueError("cudaErrorMemoryAllocation"), MemoryError("host"), FloatingPointError("diverged")])
def test_other_errors_pass(gpu, error):
    with pytest.raises(type(error)) as caught, memory_explained(nn.ReLU(), Tensor([1.0])):
        raise error
    assert caught.value is error
