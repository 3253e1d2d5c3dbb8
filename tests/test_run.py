"""Runs that survive: stopped, killed and damaged, they go on to the same last bit, or say what is wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import minidl
from minidl import data, nn, optim
from minidl.run import Run, Stopped, check_unused, checkpoints, fit_or_exit

SCRIPT = Path(__file__).with_name("interrupted_run.py")


def start(folder, *arguments):
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen([sys.executable, SCRIPT, folder, *arguments], stderr=subprocess.DEVNULL, env=environment)


def outcome(folder):
    """The weights, and the metrics without the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figures = [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]
    return {k: v.tobytes() for k, v in load_file(folder / "weights.safetensors").items()}, figures


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert start(folder).wait() == 0
    return outcome(folder)


def until_there_is_a_checkpoint(process, folder):
    while process.poll() is None and not checkpoints(folder):
        time.sleep(0.005)


def test_killed_at_random_moments_it_ends_the_same(uninterrupted, tmp_path):
    kills, chance = int(os.environ.get("MINIDL_KILLS", 4)), random.Random(0)
    folder = tmp_path / "run"
    process, killed = start(folder), 0
    while process.poll() is None and killed < kills:
        until_there_is_a_checkpoint(process, folder)
        time.sleep(chance.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (folder / "weights.safetensors").exists():
            break  # it was too late for a kill
        killed += 1
        process = start(folder, "resume")
    assert process.wait() in (0, -signal.SIGKILL) and killed
    assert outcome(folder) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(uninterrupted, tmp_path, number):
    folder = tmp_path / "run"
    process = start(folder)
    until_there_is_a_checkpoint(process, folder)
    process.send_signal(number)
    assert process.wait() == 1  # Stopped ends the script
    assert not (folder / "weights.safetensors").exists()
    assert start(folder, "resume").wait() == 0
    assert outcome(folder) == uninterrupted


# In this process


class Nothing:
    def step(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def small_run(folder, width=4, **options):
    minidl.manual_seed(0)
    rng = np.random.default_rng(0)
    images = data.ArrayDataset(rng.integers(0, 256, (12, 2, 2, 3), np.uint8), np.arange(12) % 3, ["a", "b", "c"])
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))
    optimizer = optim.SGD(model.parameters(), options.pop("lr", 1e-4), momentum=0.9)
    loader = data.DataLoader(images, 4)
    return Run(folder, {"width": width}, model, optimizer, options.pop("schedule", Nothing()), loader, loader, **options)


def test_what_a_run_leaves(tmp_path):
    run = small_run(tmp_path / "run", save_every=1)
    run.fit(3)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"width": 4}
    assert [line["epoch"] for line in run.metrics] == [1, 2, 3]
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["0002-000003.safetensors", "0003-000000.safetensors"]
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_an_occupied_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="already holds something"):
        small_run(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(FileExistsError, match="mine.txt already holds something"):
        small_run(tmp_path / "mine.txt")
    with pytest.raises(OSError, match=r"nothing can be written to the folder .*mine\.txt/run \("):
        check_unused(tmp_path / "mine.txt" / "run")
    (tmp_path / "empty").mkdir()
    small_run(tmp_path / "empty")


def test_a_run_needs_an_epoch(tmp_path):
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        small_run(tmp_path / "run").fit(0)


def test_nothing_to_go_on_from(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run in this folder to go on with"):
        small_run(tmp_path, resume=True)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(tmp_path):
    small_run(tmp_path / "run").fit(2)
    expected = outcome_of(tmp_path / "run")
    small_run(tmp_path / "again")
    (tmp_path / "again" / "metrics.jsonl").write_text('{"epoch": 1, "step": 100}\n')
    small_run(tmp_path / "again", resume=True).fit(2)
    assert outcome_of(tmp_path / "again") == expected


def outcome_of(folder):
    """The best and the last weights, and the losses."""
    weights = [load_file(path)["model.1.weight"].tolist() for path in sorted(folder.glob("checkpoints/*.safetensors"))]
    return weights, [json.loads(line)["test_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_killed_between_the_best_checkpoint_and_the_numbered_one(tmp_path, monkeypatch):
    small_run(tmp_path / "run").fit(2)
    expected = outcome_of(tmp_path / "run")
    save, killed = minidl.run.save_state, tmp_path / "killed"

    def save_until(arrays, description, path):
        save(arrays, description, path)
        if path.name == "best.safetensors":
            raise KeyboardInterrupt

    monkeypatch.setattr(minidl.run, "save_state", save_until)
    with pytest.raises(KeyboardInterrupt):
        small_run(killed).fit(2)
    monkeypatch.setattr(minidl.run, "save_state", save)
    (killed / "checkpoints" / ".best.safetensors.1.tmp").touch()
    small_run(killed, resume=True).fit(2)
    assert outcome_of(killed) == expected and not list(killed.glob("checkpoints/.*"))


def test_two_processes_at_one_run(tmp_path):
    run = small_run(tmp_path / "run")
    program = f"import sys; sys.path[:0] = {sys.path!r}; from test_run import small_run; small_run({str(tmp_path / 'run')!r}, resume=True)"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert other.returncode == 1 and f"{run.folder}: another process is at work on this run" in other.stderr


def test_a_full_disk_is_said_in_a_sentence(tmp_path):
    """The largest file that the process may write stands in for the disk."""
    program = f"""
import sys, resource, signal
sys.path[:0] = {sys.path!r}
from test_run import small_run
from minidl.run import fit_or_exit
run = small_run({str(tmp_path / "run")!r}, width=4)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
fit_or_exit(run, 2, ["python", "again.py"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "safetensors could not be written" in done.stderr
    assert done.stderr.endswith(
        f"The run has ended; there is no checkpoint in {tmp_path / 'run'}. When that is put right, to go on:\n    python again.py\n"
    )
    assert checkpoints(tmp_path / "run") == [] and not list((tmp_path / "run").glob("checkpoints/.*"))


def full_disk(path):
    path.unlink()
    path.symlink_to("/dev/full")


SABOTAGE = {
    "the folder became a file": (
        lambda folder: folder.rename(folder.with_name("moved")) and folder.touch(),
        "{run}/metrics.jsonl could not be written: Not a directory.\nThe run has ended; there is no checkpoint in {run}. ",
    ),
    "the metrics are on a full disk": (
        lambda folder: full_disk(folder / "metrics.jsonl"),
        "{run}/metrics.jsonl could not be written: No space left on device.\n"
        "The run has ended; the last checkpoint is {run}/checkpoints/0001-000000.safetensors. ",
    ),
    "the checkpoints became a file": (
        lambda folder: (folder / "checkpoints").rename(folder / "moved") and (folder / "checkpoints").touch(),
        "{run}/checkpoints/0002-000000.safetensors could not be written, 0 MB: nothing can be written to the folder "
        "{run}/checkpoints ({run}/checkpoints: Not a directory); ",
    ),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", SABOTAGE)
def test_a_folder_that_cannot_be_written_to_any_more_is_named(tmp_path, name):
    sabotage, message = SABOTAGE[name]
    folder = tmp_path / "run"
    run = small_run(folder, after_epoch=lambda _: sabotage(folder))
    run.best = 1.0  # no test is better, so that the numbered checkpoint is the next
    with pytest.raises(SystemExit) as ended:
        fit_or_exit(run, 3, ["python", "again.py"])
    assert ended.value.code.startswith(f"{Path(sys.argv[0]).stem}: {message.format(run=folder)}")
    assert ended.value.code.endswith(". When that is put right, to go on:\n    python again.py")


def test_divergence_in_the_test_names_the_layer(tmp_path):
    run = small_run(tmp_path / "run")
    run.model[1].weight.data = np.full((12, 4), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match=r"the network has diverged: 1\.weight holds NaN"):
        minidl.training.evaluate(run.model, run.test)


def test_a_damaged_checkpoint_is_named_and_the_older_one_too(tmp_path):
    small_run(tmp_path / "run").fit(2)
    older, newest = checkpoints(tmp_path / "run")
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"(?s)checksum.*{newest.name} moved away, the run goes on from an older one, {older.name}"
    ):
        small_run(tmp_path / "run", resume=True)
    newest.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="cut short"):
        small_run(tmp_path / "run", resume=True)
    newest.unlink()
    assert small_run(tmp_path / "run", resume=True).epoch == 1
    older.write_bytes(b"cut")
    with pytest.raises(ValueError, match=f"{older.name} moved away, the run goes on from the start, for it is the only one"):
        small_run(tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", [b"{", b"\xff\n", b"[1]\n", b'{"epoch": 1, "test_loss": 2}\n'])
def test_damaged_metrics_are_named(tmp_path, content):
    small_run(tmp_path / "run").fit(2)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run/metrics\.jsonl: damaged \(.*; moved away, the run goes on without its earlier"):
        small_run(tmp_path / "run", resume=True)
    path.unlink()
    resumed = small_run(tmp_path / "run", resume=True)
    resumed.fit(3)
    assert [line["epoch"] for line in resumed.metrics] == [3]


def test_half_a_line_behind_the_checkpoint_is_no_damage(tmp_path):
    small_run(tmp_path / "run").fit(2)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "st')
    assert [line["epoch"] for line in small_run(tmp_path / "run", resume=True).metrics] == [1, 2]


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    small_run(tmp_path / "run").fit(1)
    before = checkpoints(tmp_path / "run")[-1].read_bytes()
    with pytest.raises(ValueError, match="shape: 1.weight is"):
        small_run(tmp_path / "run", width=5, resume=True)
    assert checkpoints(tmp_path / "run")[-1].read_bytes() == before


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    run = small_run(tmp_path / "run")
    run.fit(1)
    before = {path.name: path.read_bytes() for path in checkpoints(tmp_path / "run")}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        run.fit(2)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in checkpoints(tmp_path / "run")} == before
    resumed = small_run(tmp_path / "run", resume=True)
    assert resumed.epoch == 1 and len(resumed.metrics) == 1, "the line of the lost epoch is gone too"


def test_a_signal_during_the_last_epoch_does_not_lose_it(tmp_path):
    run = small_run(tmp_path / "run", after_epoch=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run.fit(2)
    assert run.epoch == 1
    resumed = small_run(tmp_path / "run", resume=True)
    resumed.fit(2)
    assert resumed.epoch == 2


def test_divergence_names_the_layer(tmp_path):
    run = small_run(tmp_path / "run", lr=1e38)
    with (
        pytest.raises(FloatingPointError, match=r"diverged after .* images.*(holds|first to give) NaN or infinity"),
        np.errstate(all="ignore"),
    ):
        run.fit(3)


def test_every_schedule_goes_on_where_it_was():
    w = minidl.Tensor([1.0], requires_grad=True)
    for make in (lambda o: optim.StepLR(o, 2), lambda o: optim.ReduceLROnPlateau(o, patience=0)):
        optimizer = optim.SGD([w], 1.0)
        schedule = make(optimizer)
        step = schedule.step if isinstance(schedule, optim.StepLR) else lambda s=schedule: s.step(1.0)
        for _ in range(3):
            step()
        fresh = optim.SGD([w], 1.0)
        other = make(fresh)
        other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
        assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] < 1
        assert other.state_dict() == schedule.state_dict()


@pytest.mark.parametrize("kind", [lambda p: optim.SGD(p, 0.1, momentum=0.9), lambda p: optim.Adam(p)])
def test_an_optimiser_goes_on_where_it_was(device, kind):
    def network():
        minidl.manual_seed(1)
        return nn.Linear(3, 2)

    def step(model, optimizer):
        (model(minidl.Tensor([[1.0, 2.0, 3.0]])) ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model = network()
    optimizer = kind(model.parameters())
    for _ in range(3):
        step(model, optimizer)
    other = network()
    other.load_state_dict(model.state_dict())
    fresh = kind(other.parameters())
    fresh.load_state_dict(optimizer.state_dict())
    step(model, optimizer)
    step(other, fresh)
    assert model.weight.numpy().tolist() == other.weight.numpy().tolist()
    with pytest.raises(ValueError, match="has shape"):
        kind(nn.Linear(3, 3).parameters()).load_state_dict(optimizer.state_dict())
