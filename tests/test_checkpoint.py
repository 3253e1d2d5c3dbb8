"""Weights on disk: a round trip bit for bit, and what happens to files that are damaged, foreign or cannot be written."""

import json
import os
import struct

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file, save_file

import minidl
from minidl import checkpoint, nn
from minidl.checkpoint import load_weights, save_weights


def network(seed=0) -> nn.Module:
    minidl.manual_seed(seed)
    return nn.Sequential({"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm(4), "fc": nn.Linear(4, 2)})


def same(model, state) -> bool:
    return all(array.tobytes() == state[name].tobytes() for name, array in model.state_dict().items())


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, variant="test", width=0.5)
    return path


def test_round_trip_bit_for_bit(device, tmp_path):
    model = network(1)
    model["norm"].running_mean.data = [1e-40, -0.0, np.inf, np.nan]
    model["fc"].weight.data = np.arange(8, dtype=np.float32).reshape(2, 4).T
    save_weights(model, tmp_path / "weights.safetensors", variant="test", width=0.5)
    other = network(2)
    assert not same(other, model.state_dict())
    assert load_weights(other, tmp_path / "weights.safetensors") == {"variant": "test", "width": "0.5"}
    assert same(other, model.state_dict())
    assert {p.device for p in other.parameters()} == {minidl.get_default_device()}


def test_an_array_that_lies_otherwise_in_memory(tmp_path, monkeypatch):
    """safetensors (0.8) writes the memory as it lies."""
    weight = np.arange(6, dtype=np.float32).reshape(3, 2).T
    monkeypatch.setattr(nn.Linear, "state_dict", lambda self: {"weight": weight})
    save_weights(nn.Linear(2, 3, bias=False), tmp_path / "weights.safetensors")
    assert_array_equal(load_file(tmp_path / "weights.safetensors")["weight"], weight)


def test_any_reader_of_safetensors_can_read_it(saved):
    model = network()
    arrays = load_file(saved)
    assert set(arrays) == set(model.state_dict()) and same(model, arrays)


def test_without_a_description(tmp_path):
    save_weights(network(), str(tmp_path / "weights.safetensors"))
    assert load_weights(network(1), str(tmp_path / "weights.safetensors")) == {}


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path}: there is no such file of weights"):
            load_weights(network(), path)


def overlapping(data: bytes) -> bytes:
    """One array ends four bytes later than it did."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["conv.bias"]["data_offsets"][1] += 4
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


DAMAGE = {
    "empty": lambda data: b"",
    "cut in the header": lambda data: data[:50],
    "cut by one byte": lambda data: data[:-1],
    "one byte too many": lambda data: data + b"\0",
    "a length beyond the end": lambda data: struct.pack("<Q", 1 << 60) + data[8:],
    "no JSON": lambda data: data.replace(b"{", b"(", 1),
    "arrays that overlap": overlapping,
    "a pickle": lambda data: b"\x80\x04\x95" + bytes(100),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file(saved, damage):
    saved.write_bytes(DAMAGE[damage](saved.read_bytes()))
    model = network(3)
    before = model.state_dict()
    with pytest.raises(ValueError, match=f"{saved}: not a complete safetensors file .* damaged or cut short"):
        load_weights(model, saved)
    assert same(model, before)


def test_weights_of_another_network(saved):
    model = nn.Sequential({"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm(4), "out": nn.Linear(4, 2)})
    before = model.state_dict()
    with pytest.raises(ValueError) as error:
        load_weights(model, saved)
    text = str(error.value)
    assert text.startswith(f"{saved} (stored as: {{") and "'variant': 'test'" in text
    for line in (
        "missing: out.weight (4, 2)",
        "unexpected: fc.weight (4, 2)",
        "shape: conv.bias is (8,) here, (4,) in the state",
    ):
        assert line in text
    assert same(model, before)


@pytest.mark.parametrize("known", [False, True])
def test_numbers_of_a_type_that_numpy_lacks(tmp_path, known):
    """bfloat16, as many published files have it; NumPy knows it as soon as somebody has imported its package."""
    if known:
        minidl.Tensor([1.0]).astype("bfloat16")
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x80\x3f")
    with pytest.raises(ValueError, match=f"{path}: .*bfloat16"):
        load_weights(nn.Linear(1, 1, bias=False), path)


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(minidl.Tensor([[1.0]]).astype("bfloat16"))
    path = tmp_path / "weights.safetensors"
    for save in (lambda: save_weights(layer, path), lambda: checkpoint.save_state(layer.state_dict(), {}, path)):
        with pytest.raises(TypeError, match=f"{path}: weight is bfloat16.*make it float32 before it is saved"):
            save()
    assert not list(tmp_path.iterdir())


def test_other_float_types_are_converted(tmp_path):
    save_file({"weight": np.array([[0.5]], np.float16)}, tmp_path / "weights.safetensors")
    layer = nn.Linear(1, 1, bias=False)
    load_weights(layer, tmp_path / "weights.safetensors")
    assert_array_equal(layer.weight.numpy(), np.array([[0.5]], np.float32), strict=True)


@pytest.mark.parametrize("module, function", [(os, "replace"), (os, "fsync"), (checkpoint, "save_file")])
def test_when_writing_fails_the_older_file_stays(saved, monkeypatch, module, function):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(OSError, match="No space left"):
        save_weights(network(4), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
