"""The examples as a reader starts them: what they print, what they leave behind, how they refuse."""

import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin_cupy
from PIL import Image

import minidl
from minidl import backend, models, nn
from minidl.checkpoint import load_state, load_weights, save_weights
from minidl.data.open import open_data
from minidl.preparation import statistics
from minidl.recipes import recipe_from

ROOT = Path(__file__).parent.parent


def run(*arguments, folder, program="train_alexnet") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / f"{program}.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=100)


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Ten photographs in two classes, of different sizes: dark ones and light ones."""
    random = np.random.default_rng(0)
    for label, brightness in (("dark", 60), ("light", 180)):
        (tmp_path / "photographs" / label).mkdir(parents=True)
        for i in range(5):
            pixels = random.integers(brightness - 50, brightness + 50, (90 + i, 80, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photographs" / label / f"{i}.jpg")
    return tmp_path / "photographs"


def test_training_leaves_its_files(photographs, tmp_path):
    out = tmp_path / "out"
    done = run("--data", photographs, "--epochs", 1, "--width", 0.05, "--batch-size", 4, "--out", out, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "checkpoints", "config.json", "confusion.png", "curves.png", "kernels.png", "metrics.jsonl", "nearest.png",
        "predictions.png", "statistics.safetensors", "weights.safetensors",
    ]  # fmt: skip
    for name in ("curves", "kernels", "predictions", "nearest"):
        with Image.open(out / f"{name}.png") as image:
            assert image.width > 100 and image.height > 100

    config = json.loads((out / "config.json").read_text())
    recipe = config["recipe"]
    assert recipe["variant"] == "program" and recipe["width"] == 0.05 and recipe["epochs"] == 1 and config["seed"] == 0
    assert config["precision"] == "float32"
    (metrics,) = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    assert metrics["epoch"] == 1 and metrics["lr"] == recipe["lr"] and 0 <= metrics["test_accuracy"] <= 1

    model = models.AlexNet("program", 2, width=0.05, image_size=64)
    assert load_weights(model, out / "weights.safetensors") == {
        "variant": "program", "width": "0.05", "image_size": "64", "classes": "dark,light",
    }  # fmt: skip

    assert "8 images to learn from, 2 to test with, 2 classes" in done.stdout
    assert "a loss of ln 2 = 0.693" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"test accuracy {metrics['test_accuracy']:.1%}")
    assert "Traceback" not in done.stderr

    again = run("--data", photographs, "--epochs", 1, "--width", 0.05, "--out", out, folder=tmp_path)
    refused(again, f"{out} already holds something")
    assert json.loads((out / "config.json").read_text()) == config


def test_the_layout_of_imagenet_and_images_that_change(photographs, tmp_path):
    """Classes named by numbers, validation images in one folder with a list, one file damaged."""
    root = tmp_path / "imagenet"
    (root / "val").mkdir(parents=True)
    (root / "train").mkdir()
    lines = []
    for label, name in (("dark", "n01"), ("light", "n02")):
        shutil.copytree(photographs / label, root / "train" / name)
        for i in range(2):
            lines.append(f"ILSVRC2012_val_{len(lines) + 1:08}.JPEG {name}\n")
            shutil.copy(photographs / label / f"{i}.jpg", root / "val" / lines[-1].split()[0])
    options = ["--data", root, "--epochs", 1, "--width", 0.05, "--batch-size", 4, "--out", "run"]
    refused(run(*options, folder=tmp_path), "val.txt is missing: a line")
    (root / "val.txt").write_text("".join(lines))
    done = run(*options, folder=tmp_path)
    assert done.returncode == 0 and "10 images to learn from, 4 to test with, 2 classes" in done.stdout, done.stderr

    shutil.copy(photographs / "dark" / "0.jpg", root / "train" / "n01" / "another.jpg")
    refused(
        run("--resume", "run", folder=tmp_path), "these are other images than when the run was started: {'train': 11, 'test': 4"
    )
    (root / "train" / "n01" / "another.jpg").unlink()
    (root / "train" / "n02").rename(root / "train" / "n03")
    (root / "val.txt").write_text("".join(lines).replace("n02", "n03"))
    refused(run("--resume", "run", folder=tmp_path), "these are other classes than when the run was started: ['n01', 'n03']")


def test_damaged_images_are_left_out(photographs, tmp_path):
    """One to learn from and one to test with: named once each, not counted, and no picture needs them."""
    for part, numbers in (("train", "0123"), ("val", "34")):
        for label in ("dark", "light"):
            (tmp_path / "damaged" / part / label).mkdir(parents=True)
            for i in numbers:
                shutil.copy(photographs / label / f"{i}.jpg", tmp_path / "damaged" / part / label)
    for path in ("train/dark/0.jpg", "val/light/4.jpg"):
        (tmp_path / "damaged" / path).write_bytes(b"no picture")
    done = run("--data", "damaged", "--epochs", 1, "--width", 0.05, "--batch-size", 4, "--out", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("passed over") == 2 and (tmp_path / "run" / "nearest.png").exists()
    tested = run("--eval", "run", folder=tmp_path)
    assert tested.stdout.splitlines()[-1] == "3 test images, the centre of each", tested.stderr


def test_a_run_goes_on_with_another_rate_and_more_epochs(photographs, tmp_path):
    options = ["--data", photographs, "--width", 0.05, "--batch-size", 4, "--epochs", 1, "--out", "run", "--save-every", 50]
    assert run(*options, folder=tmp_path).returncode == 0
    photographs.rename(tmp_path / "moved")
    for fixed in (["--width", 0.1], ["--seed", 1], ["--recipe", "paper"]):
        refused(run("--resume", "run", *fixed, folder=tmp_path), f"a run cannot go on with another {fixed[0]}")
    refused(run("--resume", "run", "--data", "moved", "--lr", 0.001, "--precision", "tf32", folder=tmp_path), "tf32 is for GPUs")
    refused(run("--resume", "run", "--data", "gone", "--lr", 0.001, folder=tmp_path), "gone: there is no such folder")
    done = run("--resume", "run", "--data", "moved", "--lr", 0.001, "--epochs", 2, folder=tmp_path)
    assert done.returncode == 0 and "from here on: epochs 2, lr 0.001, bias_lr 0.002" in done.stdout, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["lr"] == 0.001 and config["save_every"] == 50 and len(config["changes"]) == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], round(line["lr"], 6)) for line in lines] == [(1, 0.005), (2, 0.0001)], "the milestone is behind"
    (tmp_path / "run" / "metrics.jsonl").unlink()
    again = run("--resume", "run", folder=tmp_path)
    assert again.returncode == 0 and "nothing to do: 2 epochs are done" in again.stdout, again.stderr


@pytest.fixture
def on_a_gpu(photographs, tmp_path, monkeypatch):
    """`train(*options)`: the example in this process, on the GPU that the stand-in is. Returns its configuration and what its layers
    computed in: a set for training, a set for tests."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    program = importlib.import_module("train_alexnet")
    seen = {True: set(), False: set()}
    forward = nn.Conv2d.forward

    def noted(layer, *arguments):
        y = forward(layer, *arguments)
        seen[layer.training].add((y.dtype.name, minidl.get_float32_matmul_precision()))
        return y

    def train(*options):
        common = ["--device", "gpu"] + (
            [] if "--resume" in options else ["--data", photographs, "--width", 0.05, "--batch-size", 4, "--out", "run"]
        )
        monkeypatch.setattr(sys, "argv", ["train_alexnet.py", *map(str, [*common, *options])])
        for found in seen.values():
            found.clear()
        program.main()
        return json.loads((tmp_path / "run" / "config.json").read_text()), seen[True], seen[False]

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    before = minidl.get_default_device()
    with standin_cupy.install(), backend.fixed_random(0):
        yield train
        minidl.set_default_device(before)


def test_a_gpu_trains_in_tf32_unless_told_otherwise(on_a_gpu, tmp_path):
    config, training, testing = on_a_gpu("--epochs", 1)
    assert config["precision"] == "tf32" and training == testing == {("float32", "high")}

    del config["precision"]  # a run of a minidl that had no such choice
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    config, training, testing = on_a_gpu("--resume", "run", "--epochs", 2)
    assert config["precision"] == "float32" and training == testing == {("float32", "highest")}


def test_training_in_bfloat16_is_tested_in_float32_and_goes_on_as_it_began(on_a_gpu, tmp_path, capsys):
    config, training, testing = on_a_gpu("--epochs", 1, "--precision", "bf16")
    assert config["precision"] == "bf16" and "2 classes; on gpu in bf16" in capsys.readouterr().out
    assert training == {("bfloat16", "highest")} and testing == {("float32", "highest")}
    config, training, _ = on_a_gpu("--resume", "run", "--epochs", 2)
    assert config["precision"] == "bf16" and training == {("bfloat16", "highest")} and config["changes"] == [{"epochs": 2}]
    refused(run("--resume", "run", "--epochs", 3, folder=tmp_path), "--precision bf16 is for GPUs")
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "precision": "half"}))
    refused(
        run("--resume", "run", "--epochs", 3, folder=tmp_path),
        "config.json: precision must be one of float32, tf32, bf16, got 'half'",
    )
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    config, training, _ = on_a_gpu("--resume", "run", "--epochs", 3, "--precision", "tf32")
    assert training == {("float32", "high")} and config["changes"][1] == {"epochs": 3, "precision": "tf32"}
    refused(
        run("--eval", "run", "--precision", "bf16", "--resume", "run", "--batch-size", 8, folder=tmp_path),
        "--batch-size, --resume, --precision: for training only; leave that out, --eval tests what is there, in float32",
    )
    done = run("--eval", "run", folder=tmp_path)
    assert done.returncode == 0 and "2 test images" in done.stdout, done.stderr


def test_what_is_no_run_cannot_go_on(tmp_path):
    refused(run("--resume", "nowhere", folder=tmp_path), "nowhere: there is no such run")
    (tmp_path / "config.json").write_text("[]")
    refused(run("--resume", tmp_path, folder=tmp_path), "config.json: damaged")
    (tmp_path / "config.json").write_text('{"classes": []}')
    refused(run("--resume", tmp_path, folder=tmp_path), "config.json: data, images, recipe, seed is missing")
    (tmp_path / "config.json").write_text('{"classes": 3}')
    refused(run("--resume", tmp_path, folder=tmp_path), "config.json: damaged (classes must be a list of names, got 3)")
    whole = {"classes": [], "data": None, "images": {}, "recipe": {"lr": "fast"}, "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    refused(run("--resume", tmp_path, folder=tmp_path), "config.json: a value of the recipe is of the wrong type (")
    (tmp_path / "config.json").write_text(json.dumps({**whole, "recipe": 1}))
    refused(run("--resume", tmp_path, folder=tmp_path), "config.json: a recipe has names and values, got 1")


def refused(done, message, program="train_alexnet") -> None:
    """One line that says what is wrong, nothing before it, and a return code that a script can see."""
    assert done.returncode != 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{program}: ") and message in line


def test_digits_without_colour(tmp_path):
    for part in ("train", "t10k"):
        images, labels = np.arange(10 * 28 * 28).astype(np.uint8), np.arange(10, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 10, 28, 28) + images.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 10) + labels.tobytes())
    done = run("--data", tmp_path, "--epochs", 1, "--width", 0.05, "--out", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("test accuracy ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--epochs", 0], "--epochs must be at least 1, got 0"),
        (["--resume", "run", "--network", "18pct", "--seed", 0], "a run cannot go on with another --network, --seed; leave"),
        (["--resume", "run"], "run: there is no such run"),
        ([], "no file"),
    ],
)
def test_what_train_cifar10_refuses(tmp_path, arguments, message):
    refused(run("--data", tmp_path, *arguments, folder=tmp_path, program="train_cifar10"), message, "train_cifar10")
    assert not list(tmp_path.glob("run*"))


def test_help(tmp_path):
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    options = ["device", "data", "variant", "image-size", "width", "epochs", "batch-size", "lr", "seed", "out"]
    assert all(f"--{option}" in done.stdout for option in options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere"], "nowhere: there is no such folder"),
        (["--image-size", 32], "image_size must be an int of at least 63 pixels, got 32"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--epochs", 0], "epochs must be at least 1, got 0"),
        (["--save-every", 0], "--save-every is a number of steps, at least 1; got 0"),
        (["--bias-decay", -1], "bias_decay must be at least 0 and finite, got -1.0"),
        (["--weight-decay", "nan"], "weight_decay must be at least 0 and finite, got nan"),
        (["--momentum", 1.5], "momentum must be at least 0 and less than 1, got 1.5"),
        (["--width", -1], "width is a factor on the channels, such as 0.25 or 1.0; got -1.0"),
        (["--data", "photographs/dark"], "dark holds no class folders"),
        (["--data", "one"], "one: 4 images to learn from and 1 to test with, in 1 class(es): there must be"),
        (
            ["--data", "other"],
            "other: the 1 classes of the training images and the 2 of the test images differ, in light for one",
        ),
        (["--milestones", 5, 3], "milestones are epochs from 1 on, each once and in order; got [5, 3]"),
        (["--lr", "inf"], "lr must be a positive number, got inf"),
        (["--conv1-frozen", -2], "conv1_frozen must be at least 0, got -2"),
        (["--crops", 10], "--crops goes with --eval"),
        (["--precision", "bf16"], "--precision bf16 is for GPUs, whose tensor cores are fast with it; a CPU has none"),
        (["--precision", "tf32"], "Use --precision float32, or --device gpu"),
        (["--out", "file/run"], "nothing can be written to the folder file/run (file: Not a directory); choose another one"),
    ],
)
def test_bad_arguments(photographs, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    shutil.copytree(photographs / "dark", tmp_path / "one" / "dark")
    shutil.copytree(tmp_path / "one", tmp_path / "other" / "train")
    shutil.copytree(photographs, tmp_path / "other" / "val")
    data = [] if "--data" in arguments else ["--data", photographs]
    out = [] if "--out" in arguments else ["--out", "run"]
    refused(run(*data, *out, "--width", 0.05, *arguments, folder=tmp_path), message)
    assert not (tmp_path / "run").exists(), "the folder would be refused when the mistake is corrected"


def test_an_unknown_variant_is_refused_by_the_parser(tmp_path):
    done = run("--variant", "vgg", folder=tmp_path)
    assert done.returncode == 2 and "invalid choice: 'vgg'" in done.stderr and "Traceback" not in done.stderr


# What a trained network is asked


@pytest.fixture
def trained(photographs, tmp_path) -> Path:
    """The folder of a run on the photographs, its weights as they were at the start."""
    recipe = {"variant": "program", "width": 0.05, "image_size": 64, "stored_size": 73, "batch_size": 4}
    config = {"recipe": recipe, "data": str(photographs), "seed": 0, "classes": ["dark", "light"]}
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "config.json").write_text(json.dumps(config))
    train, _ = open_data(photographs, 73)
    statistics(recipe_from(recipe), train).save(tmp_path / "trained")
    save_weights(models.AlexNet("program", 2, 0.05, 64), tmp_path / "trained" / "weights.safetensors")
    return tmp_path / "trained"


def test_evaluate(trained, photographs, tmp_path):
    done = run(trained, trained, "--crops", 10, folder=tmp_path, program="evaluate")
    assert done.returncode == 0, done.stderr
    head, *rows, last = done.stdout.splitlines()
    assert head.split() == ["top-1", "top-5", "weights", "of"] and last == "2 test images, ten crops of each"
    assert len(rows) == 3 and rows[2].startswith("average of the 2") and all("  0.00 %" in row for row in rows), "5 of 2 classes"

    the_same = run("--eval", trained, trained, "--crops", 10, folder=tmp_path)
    assert the_same.stdout == done.stdout and the_same.returncode == 0

    config = json.loads((trained / "config.json").read_text())
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    (other / "config.json").write_text(json.dumps({**config, "classes": ["light", "dark"]}))
    refused(run(trained, other, folder=tmp_path, program="evaluate"), "know different classes", "evaluate")


def test_classify(trained, photographs, tmp_path):
    photos = [photographs / "dark" / "0.jpg", photographs / "light" / "1.jpg"]
    done = run(*photos, "--checkpoint", trained, folder=tmp_path, program="classify")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [lines[0], lines[3], lines[6]] == [*map(str, photos), "the picture is classified.png"]
    assert sum(float(line.split()[1].rstrip("%")) for line in lines[1:3]) == pytest.approx(100, abs=0.2)
    assert all(len(line) <= 80 and line.count("#") > 10 for line in (lines[1], lines[4]))
    with Image.open(tmp_path / "classified.png") as image:
        assert image.width > 400 and image.height > 300
    again = run(*photos, "--checkpoint", trained, folder=tmp_path, program="classify")
    refused(again, "classified.png is already there; choose another name", "classify")
    for out, message in (("file/a.png", "nothing can be written to the folder file (file: Not"), ("a.bmp", "ends in .png, .jpg")):
        (tmp_path / "file").touch()
        done = run(*photos, "--checkpoint", trained, "--out", out, folder=tmp_path, program="classify")
        refused(done, message, "classify")
        assert not done.stdout, "before the work, not after it"


@pytest.mark.parametrize(
    "photo, checkpoint, message",
    [
        ("nowhere.jpg", "trained", "nowhere.jpg"),
        ("broken.jpg", "trained", "broken.jpg: cannot decode this image"),
        ("photographs/dark/0.jpg", "nowhere", "nowhere: there is no such run"),
    ],
)
def test_what_cannot_be_classified(trained, tmp_path, photo, checkpoint, message):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    refused(run(photo, "--checkpoint", checkpoint, folder=tmp_path, program="classify"), message, "classify")
    assert not (tmp_path / "classified.png").exists()


def test_extract_features(trained, photographs, tmp_path):
    folder = Path(shutil.copytree(photographs / "light", tmp_path / "others"))
    photo = folder / "1.jpg"
    (folder / "0.gif").write_bytes(b"no picture")
    for out in ("features.npz", "features.safetensors"):
        similar = ["--similar", photo] if out.endswith("npz") else []
        done = run(trained, folder, "--out", out, *similar, folder=tmp_path, program="extract_features")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("5 images, 204 activations each") and "0.gif: cannot decode this image" in done.stderr
    with np.load(tmp_path / "features.npz", allow_pickle=False) as stored:
        files, features = stored["files"].tolist(), stored["features"]
    assert files == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"] and features.shape == (5, 204)
    arrays, description = load_state(tmp_path / "features.safetensors")
    assert description["files"] == files and np.array_equal(arrays["features"], features)
    with Image.open(tmp_path / "similar.png") as image:
        assert image.width > 300, "the photograph, and the four others"

    refused(run(trained, "nowhere", "--out", "f.npz", folder=tmp_path, program="extract_features"),
            "nowhere: there is no such folder", "extract_features")  # fmt: skip
    for option, name in (("--out", "photograph/f.npz"), ("--picture", "photograph/s.png"), ("--picture", "s.bmp")):
        (tmp_path / "photograph").touch()
        done = run(trained, folder, "--similar", photo, option, name, folder=tmp_path, program="extract_features")
        refused(
            done, "s.bmp: expected" if name == "s.bmp" else "nothing can be written to the folder photograph", "extract_features"
        )
        assert not done.stdout, "before the work, not after it"
    neither = run(trained, folder, folder=tmp_path, program="extract_features")
    assert neither.returncode == 2 and "say with --out where" in neither.stderr
