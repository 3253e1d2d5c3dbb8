"""The benchmarks run and print their columns, at a size where nothing is measured; the counting of operations against known totals."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import standin_cupy

from minidl import data, default_device, get_float32_matmul_precision, models, nn, optim

ROOT = Path(__file__).parent.parent
TINY = ["--image-size", 63, "--batch-size", 2, "--steps", 1, "--variant", "paper"]


def run(*arguments) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=100
    )


def lines(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert all(len(line) <= 100 for line in printed if not line.startswith("warning"))
    return printed[2:] if printed[0].startswith("warning") else printed  # how busy the machine is


def test_the_step():
    head, row, product = lines(run("-m", "benchmarks.alexnet_step", *TINY))
    assert head.split() == [
        "variant", "batch", "framework", "forward", "backward", "update", "step", "images/s", "infer/s", "peak", "GB", "share",
    ]  # fmt: skip
    variant, batch, name, *figures, share = row.split()
    forward, backward, update, step, images, infer, peak = map(float, figures)
    assert (variant, batch, name) == ("paper", "2", "minidl") and share.endswith("%")
    assert step == pytest.approx(forward + backward + update, abs=0.5) and images == pytest.approx(2000 / step, rel=0.1)
    assert infer > 0 and 0 <= peak < 4
    assert "matrix product in float32, before and after: " in product and product.endswith("GFLOP/s")


def test_small_work():
    head, row = lines(run("-m", "benchmarks.alexnet_step", "--small", "--steps", 1))
    assert head.split() == ["framework", "step", "of", "784-128-10", "1,000", "additions", "import"]
    assert row.split()[::2] == ["minidl", "us", "ms", "ms"] and all(float(figure) > 0 for figure in row.split()[1::2])


@pytest.mark.parametrize(
    "peer, message",
    [
        ("caffe", "there is no such framework here; known are torch"),
        ("torch=nowhere/python", "nowhere/python cannot import torch ("),
        ("dezero=nowhere/python", "name the interpreter of an environment that has it: --against dezero="),
    ],
)
def test_peers_that_are_not_there(peer, message):
    done = run("-m", "benchmarks.alexnet_step", *TINY, "--against", peer)
    assert done.returncode == 1 and message in done.stderr and done.stderr.startswith("alexnet_step: --against")


def test_the_peers_never_meet_minidl():
    """Importing it changes BLAS and malloc."""
    done = run("-c", "import sys, benchmarks.worker; print([name for name in sys.modules if name.startswith('minidl')])")
    assert lines(done) == ["[]"]


def test_the_layers():
    printed = lines(run("-m", "benchmarks.profile_layers", *TINY))
    assert printed[0].startswith("paper, batch 2, 63 x 63 pixels, cpu, float32; matrix product ")
    assert printed[3].split() == ["layer", "output", "ms", "share", "ms", "share", "ms", "of", "step", "MB", "GFLOP"]
    rows = printed[4:-2]
    layers = [name for name, _ in models.AlexNet("paper", 2, width=0.05, image_size=63).named_children()]
    assert [row.split()[0] for row in rows] == [*layers, "loss", "between", "update", "total"]
    assert "55" not in rows[0] and "14 x 14 x 96" in rows[0], "(63 - 11) / 4 + 1"
    shares = [float(next(cell for cell in row[63:].split() if cell.endswith("%"))[:-1]) for row in rows]
    assert shares[-1] == 100 and sum(shares[:-1]) == pytest.approx(100, abs=2)
    assert printed[-1].startswith("At the rates above the step takes ")


def test_operations_and_bytes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import counts

    model = models.AlexNet("paper")
    table = {layer.name: layer for layer in counts.layers(model, 224, batch=1)}
    forward, backward = (sum(getattr(layer, part).operations for layer in table.values()) for part in ("forward", "backward"))
    assert forward == 2 * 724_406_816  # the 724 million multiplications that are known of it
    conv1 = 2 * 55 * 55 * 96 * 11 * 11 * 3
    assert table["conv1"].forward.operations == table["conv1"].backward.operations == conv1, "the images need no gradient"
    assert backward == 2 * forward - conv1

    fc8 = 4 * (4096 * 1000 + 1000)
    assert table["fc8"].forward.bytes == 4 * (4096 + 1000) + fc8
    assert table["fc8"].backward.bytes == 4 * (1000 + 4096 + 4096) + 2 * fc8, "dy, x and w are read, dx and dw written"
    assert table["pool5"].forward.bytes == 13 * 13 * 256 * 4 + 6 * 6 * 256 * (4 + 1), "a byte for where the maximum was"
    assert counts.update(model).bytes == 20 * 60_965_224
    halves = {layer.name: layer for layer in counts.layers(model, 224, batch=1, item=2)}
    assert halves["fc8"].backward.bytes == table["fc8"].backward.bytes / 2
    assert halves["pool5"].forward.bytes == 13 * 13 * 256 * 2 + 6 * 6 * 256 * (2 + 1), "the position is a byte still"
    assert table["flatten"].forward == table["flatten"].backward == counts.Work()


def test_the_floor():
    head, *rows = lines(run("-m", "benchmarks.counts", "--variant", "torchvision"))
    assert head.split() == ["variant", "part", "GFLOP", "MB", "H100", "SXM", "H200", "SXM"] and len(rows) == 8
    tf32, bf16 = (
        next(row.split() for row in rows if row.split()[1:3] == [precision, "forward"]) for precision in ("tf32", "bf16")
    )
    assert tf32[3] == bf16[3] == "182.8" and float(bf16[4]) == pytest.approx(float(tf32[4]) / 2, rel=0.01)
    assert float(bf16[5]) == pytest.approx(float(tf32[5]) / 2, rel=0.03)


@pytest.mark.parametrize("program", ["alexnet_step", "profile_layers"])
def test_a_cpu_has_no_reduced_precision(program):
    done = run("-m", f"benchmarks.{program}", "--precision", "bf16")
    assert done.returncode == 2 and "--precision bf16 is for GPUs; a CPU computes in float32" in done.stderr


@pytest.mark.parametrize("program", ["alexnet_step", "profile_layers", "convolutions", "end_to_end", "counts", "cuda_kernels"])
@pytest.mark.parametrize("size", ["0", "-3", "many"])
def test_a_batch_has_images(program, size):
    done = run("-m", f"benchmarks.{program}", f"--batch-size={size}")
    assert done.returncode == 2 and f"--batch-size: expected a whole number of at least 1, got '{size}'" in done.stderr


@pytest.mark.parametrize("program", ["alexnet_step", "profile_layers"])
def test_a_batch_larger_than_the_data_is_refused(program):
    """Or images a second would count images that nobody saw."""
    done = run("-m", f"benchmarks.{program}", "--batch-size", 5001)
    assert done.returncode == 1 and "--batch-size 5001: the package has 5,000 images" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["alexnet_step", "profile_layers", "convolutions", "end_to_end"])
def test_a_device_that_is_none(program):
    done = run("-m", f"benchmarks.{program}", "--device", "tpu")
    assert done.returncode == 1 and "unknown device 'tpu': use" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("precision, dtype, products", [
    ("float32", "float32", "highest"), ("tf32", "float32", "high"), ("bf16", "bfloat16", "highest"),
])  # fmt: skip
def test_the_step_on_a_gpu(monkeypatch, tmp_path, precision, dtype, products):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import worker

    np.savez(tmp_path / "images.npz", images=np.zeros((2, 63, 63, 3), np.float32), labels=np.zeros(2, np.int64))
    settings = {"variant": "paper", "images": str(tmp_path / "images.npz"), "size": 63, "device": "gpu", "threads": 1}
    settings["precision"] = precision
    with standin_cupy.install(), default_device("cpu"):
        framework = worker.WORK["alexnet"]["minidl"](**json.loads(json.dumps(settings)))
        assert get_float32_matmul_precision() == products
        times = worker.turn(framework)
    assert framework.images.dtype.name == dtype and framework.loss.dtype == np.float32
    assert list(times) == ["forward", "backward", "update", "infer", "step", "peak"] and times["peak"] > 0


PRODUCT = re.compile(
    r"(paper|torchvision) +2  (conv\d) +(forward|weight gradient|input gradient) +[\d.]+ +[\d.e+-]+ +\d+% +[\d.]+"
)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_convolutions(monkeypatch, capsys, where):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import convolutions

    monkeypatch.setattr(convolutions, "ROUNDS", 1)
    monkeypatch.setattr(convolutions, "warn_if_busy", lambda: None)
    monkeypatch.setattr(convolutions, "matrix_product_rate", lambda *_: 1e12)
    monkeypatch.setattr(convolutions, "seconds", lambda task, xp: float(task() is not None))
    with standin_cupy.install():
        convolutions.main([*map(str, TINY[:4]), "--variant", "paper", "--device", where])
    found = [PRODUCT.fullmatch(line).groups()[1:] for line in capsys.readouterr().out.splitlines()[3:]]
    assert len(found) == 14 and ("conv1", "input gradient") not in found and ("conv5", "input gradient") in found


END_TO_END = re.compile(
    r"paper, batch 2, 63 x 63 pixels of 72 x 72, (?:cpu|gpu)\n +images/s\n"
    r"the step alone +([\d.]+)\n"
    r"training +([\d.]+)   ([\d.]+)% of the step alone; waiting ([\d.]+)%\n"
    r"the loader alone +([\d.]+)\n"
)


def test_training_from_packed_images(tmp_path):
    printed = "\n".join(lines(run("-m", "benchmarks.end_to_end", *TINY))) + "\n"
    alone, training, share, waiting, loader = map(float, END_TO_END.fullmatch(printed).groups())
    assert share == pytest.approx(100 * training / alone, rel=0.5) and 0 <= waiting <= 100 and loader > 0

    (tmp_path / "photographs" / "few").mkdir(parents=True)
    few = run("-m", "benchmarks.end_to_end", *TINY, "--data", tmp_path / "photographs")
    assert few.returncode == 1 and few.stderr.startswith("end_to_end: ") and "Traceback" not in few.stderr


def test_training_from_packed_images_on_a_gpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import end_to_end

    monkeypatch.setattr(end_to_end, "TURNS", 1)
    monkeypatch.setattr(end_to_end, "warn_if_busy", lambda: None)
    with standin_cupy.install(), default_device("cpu"):
        end_to_end.main([*map(str, TINY), "--device", "gpu"])
        assert get_float32_matmul_precision() == "high"
    assert END_TO_END.fullmatch(capsys.readouterr().out)


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_loader_is_seen(monkeypatch, slow):
    """Batches that take 50 ms, two at a time, for a step of well below 1 ms; and such that are ready before the step is done."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import end_to_end

    def transform(images, rng):
        time.sleep(0.05 if slow else 0)
        return images

    class Slow(nn.Flatten):
        def forward(self, x):
            time.sleep(0 if slow else 0.05)
            return super().forward(x)

    dataset = data.ArrayDataset(np.zeros((44, 2, 2, 1), np.uint8), np.zeros(44, np.int64), ["nothing"])
    model = nn.Sequential(Slow(), nn.Linear(4, 1))
    batches = data.DataLoader(dataset, 4, transform=transform)
    with end_to_end.stopped_after(batches) as coming:
        there = next(coming)
    found = end_to_end.turn(model, optim.SGD(model.parameters(), 0.1), batches, there, 10, "cpu")
    assert found["share"] == found["training"] / found["alone"]
    if slow:
        assert found["waiting"] > 0.6 and found["share"] < 0.2
        assert found["training"] < 250 and found["loader"] < 250, "4 images in 25 ms are 160 a second"
    else:
        assert found["waiting"] < 0.2 and found["training"] < 80 and found["loader"] > 200
