"""Packing: stopped at any moment it resumes and makes the same bytes; damage is found; nothing of others is overwritten."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidl.data import ImageFolder, PackedImages, pack, packing

SIZE, SHARD = 32, 4

PROGRAM = f"""
import sys, time
from minidl.data import decode, pack, pack_shard, packing
packing.SHARD_BYTES = {SHARD * SIZE * SIZE * 3}
pack_shard.decode = lambda path, size: (time.sleep(0.002), decode.decode(path, size))[1]  # leave time to stop it
if __name__ == "__main__":
    sys.exit(pack.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(packing, "SHARD_BYTES", SHARD * SIZE * SIZE * 3)


def save(path, number=0, size=(60, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """402 images of two classes, two of them damaged: 101 shards."""
    root = tmp_path_factory.mktemp("source")
    for number in range(402):
        save(root / "ab"[number % 2] / f"{number:03}.jpg", number)
    for name in ("a/100.jpg", "b/007.jpg"):
        (root / name).write_bytes((root / name).read_bytes()[:2000])
    return root


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
    """What packing it undisturbed makes: the bytes of every file."""
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARD_BYTES", SHARD * SIZE * SIZE * 3)
        assert run(source, folder) == 0
    return contents(folder)


def run(source, folder, *options):
    return pack.main([str(source), str(folder), f"--size={SIZE}", "--workers=1", *options])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(tmp_path, source, folder, workers):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = [sys.executable, str(program), str(source), str(folder), f"--size={SIZE}", f"--workers={workers}"]
    path = os.pathsep.join([str(Path(pack.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    # Tests that a shell runs in the background have SIGINT ignored, and would pass that on.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)


def finished_shards(folder):
    return len(list(folder.glob("shard-*.npz")))


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while process.poll() is None and not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def children(process):
    """The ids of its child processes; Linux only."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_folder_holds_what_it_should(source, expected, tmp_path):
    assert sorted(expected) == sorted(
        [f"shard-{number:05d}.npy" for number in range(101)]
        + ["plan.json", "manifest.json", "labels.npy", "mean_image.npy", "failures.log"]
    )
    manifest = json.loads(expected["manifest.json"])
    assert manifest["images"] == 400 and manifest["failures"] == 2 and manifest["plan"]["classes"] == ["a", "b"]
    lines = expected["failures.log"].decode().splitlines()
    assert [line.split(":")[0] for line in lines] == ["a/100.jpg", "b/007.jpg"] and all("truncated" in line for line in lines)


def test_two_processes_make_the_bytes_of_one(source, expected, tmp_path):
    process = start(tmp_path, source, tmp_path / "packed", workers=2)
    assert process.wait(60) == 0, process.stderr.read()
    assert contents(tmp_path / "packed") == expected


def test_killed_at_random_moments_it_resumes_with_the_same_bytes(source, expected, tmp_path):
    rng, folder = np.random.default_rng(), tmp_path / "packed"
    before = -1
    for kill in range(5):
        process = start(tmp_path, source, folder, workers=1 + kill % 2)
        if before > 60:  # too near the end to be sure of stopping it before
            break
        wanted = before + int(rng.integers(1, 18))
        wait_for(lambda wanted=wanted: finished_shards(folder) >= wanted, process)
        time.sleep(rng.random() * 0.01)
        workers = children(process)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(pid) for pid in workers)  # nobody is left who would go on writing
        assert not (folder / "manifest.json").exists()
        assert finished_shards(folder) >= before
        before = finished_shards(folder)
    assert 0 < before < 101
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.npz")}
    made = {name: (folder / name).with_suffix(".npy").stat().st_mtime_ns for name in made}
    assert run(source, folder) == 0
    assert contents(folder) == expected
    assert all((folder / name).with_suffix(".npy").stat().st_mtime_ns == time for name, time in made.items())  # nothing twice


@pytest.mark.parametrize("workers", [1, 2])
def test_terminated_it_says_so_and_resumes(source, expected, tmp_path, workers):
    folder = tmp_path / "packed"
    process = start(tmp_path, source, folder, workers)
    wait_for(lambda: finished_shards(folder) >= 5, process)
    process.terminate()
    assert process.wait(30) == 143
    err = process.stderr.read()
    assert err.splitlines()[-1].endswith(": stopped; the same command goes on from here") and "resource_tracker" not in err
    assert not list(folder.glob(".*")) and 5 <= finished_shards(folder) < 101
    assert run(source, folder) == 0
    assert contents(folder) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_by_ctrl_c_it_resumes(source, expected, tmp_path, workers):
    folder = tmp_path / "packed"
    process = start(tmp_path, source, folder, workers)
    wait_for(lambda: finished_shards(folder) >= 5, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the command gets it
    assert process.wait(30) == 130
    assert process.stderr.read().splitlines()[-1].endswith(": stopped; the same command goes on from here")
    assert not list(folder.glob(".*")) and 5 <= finished_shards(folder) < 101
    assert run(source, folder) == 0
    assert contents(folder) == expected


@pytest.mark.parametrize("moment", ["plan.json", "shard-00002.npy", "shard-00002.npz", "labels.npy", "manifest.json", "clean"])
def test_stopped_before_any_file_it_resumes(tmp_path, monkeypatch, moment):
    """The same without chance: whichever file is the first that is not written."""

    class Stopped(BaseException):
        pass

    def replace(temporary, path, whole=os.replace):
        if Path(path).name == moment:
            raise Stopped
        whole(temporary, path)

    for number in range(14):
        save(tmp_path / "source" / "only" / f"{number}.png", number)
    run(tmp_path / "source", tmp_path / "expected")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(os, "replace", replace)
        if moment == "clean":
            patch.setattr(Path, "unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(Stopped()))
        run(tmp_path / "source", tmp_path / "packed")
    left = tmp_path / "packed" / f".{'plan.json' if moment == 'plan.json' else 'shard-00001.npy'}.12345.tmp"
    left.write_bytes(b"half")  # what a process leaves that is killed
    assert run(tmp_path / "source", tmp_path / "packed") == 0
    assert contents(tmp_path / "packed") == contents(tmp_path / "expected")


def copy(expected, folder):
    for name, content in expected.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["shard-00042.npy", "labels.npy", "mean_image.npy"])
def test_a_damaged_file_is_found_and_made_anew(source, expected, tmp_path, capsys, name):
    folder = tmp_path / "packed"
    copy(expected, folder)
    assert pack.main(["--verify", str(folder)]) == 0 and "everything is as it was packed" in capsys.readouterr().out
    content = bytearray(expected[name])
    content[-100] ^= 1
    (folder / name).write_bytes(content)
    assert pack.main(["--verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"{folder / name} is damaged: its SHA-256 is not that of the manifest; delete this file and run the" in out
    assert out.count("\n") == 1
    (folder / name).unlink()
    assert run(source, folder) == 0
    assert contents(folder) == expected


def test_a_finished_folder_is_left_as_it_is(source, expected, tmp_path):
    copy(expected, tmp_path / "packed")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()}
    assert run(source, tmp_path / "packed") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()} == times


def test_a_shard_that_cannot_be_made_again_is_said_so(tmp_path, capsys):
    for number in range(8):
        save(tmp_path / "source" / "only" / f"{number}.bmp", number)
    run(tmp_path / "source", tmp_path / "packed")
    (tmp_path / "packed" / "shard-00001.npy").unlink()
    save(tmp_path / "source" / "only" / "5.bmp", 99)  # other pixels in as many bytes
    assert run(tmp_path / "source", tmp_path / "packed") == 1
    assert "shard-00001.npy: the source makes other bytes now" in capsys.readouterr().err
    assert not (tmp_path / "packed" / "shard-00001.npy").exists()


def test_folders_of_others_are_refused(source, expected, tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("Dear")
    assert run(source, tmp_path / "letters") == 1
    assert "holds files that are no packed images; choose a new or empty folder" in capsys.readouterr().err
    assert contents(tmp_path / "letters") == {"mother.txt": b"Dear"}
    for folder in ("mother.txt", "mother.txt/packed"):
        assert run(source, tmp_path / "letters" / folder) == 1
        assert f": nothing can be written to the folder {tmp_path / 'letters' / folder} (" in capsys.readouterr().err
    assert run(source, source / "packed") == 1
    assert "lies inside of the source" in capsys.readouterr().err and not (source / "packed").exists()
    copy(expected, tmp_path / "packed")
    (tmp_path / "packed" / "notes.txt").write_text("mine")
    assert run(source, tmp_path / "packed") == 0
    assert contents(tmp_path / "packed") == {**expected, "notes.txt": b"mine"}


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize("change", ["size", "class", "image"])
def test_other_images_are_not_mixed_in(tmp_path, capsys, state, change):
    for number in range(6):
        save(tmp_path / "source" / "only" / f"{number}.png", number)
    run(tmp_path / "source", tmp_path / "packed")
    if state == "unfinished":
        (tmp_path / "packed" / "manifest.json").unlink()
    before = contents(tmp_path / "packed")
    if change == "class":
        (tmp_path / "source" / "only").rename(tmp_path / "source" / "other")
    if change == "image":
        save(tmp_path / "source" / "only" / "3.png", 3, size=(61, 48))
    assert run(tmp_path / "source", tmp_path / "packed", *(["--size=33"] if change == "size" else [])) == 1
    assert re.search(r"holds images of another source or size \(.* differ\); choose another folder", capsys.readouterr().err)
    assert contents(tmp_path / "packed") == before


@pytest.mark.parametrize("workers", [1, 2])
def test_more_failures_than_the_share_are_fatal(source, expected, tmp_path, capsys, workers):
    folder = tmp_path / "packed"
    assert run(source, folder, "--max-failures=0.004", f"--workers={workers}") == 1
    err = capsys.readouterr().err
    assert (
        f"2 of 402 images cannot be decoded (0.5 %; 0.4 % may be); they are named in {folder}" in err and "--max-failures" in err
    )
    assert (folder / "failures.log").read_bytes() == expected["failures.log"]
    assert run(source, folder, "--max-failures=0.004") == 1  # and stays so
    assert run(source, folder, "--max-failures=0.005") == 0
    assert contents(folder) == expected


def test_a_source_file_that_vanishes_is_an_error_not_a_failure(tmp_path, monkeypatch):
    for number in range(5):
        save(tmp_path / "source" / "only" / f"{number}.png", number)
    dataset = ImageFolder(tmp_path / "source")
    plan = packing.make_plan(dataset, SIZE)
    monkeypatch.setattr(packing, "make_plan", lambda source, size: plan)
    dataset.path(2).unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        packing.pack(dataset, tmp_path / "packed", SIZE)


def test_train_and_val_become_two_sets(tmp_path, capsys):
    for number in range(6):
        save(tmp_path / "source" / "train" / "ba"[number % 2] / f"{number}.JPEG", number)
        save(tmp_path / "source" / "val" / "ba"[number % 2] / f"{number}.JPEG", 10 + number)
    assert run(tmp_path / "source", tmp_path / "packed") == 0
    assert pack.main(["--verify", str(tmp_path / "packed")]) == 0
    for part in ("train", "val"):
        packed, images = PackedImages(tmp_path / "packed" / part), ImageFolder(tmp_path / "source" / part, SIZE)
        assert packed.classes == ["a", "b"] and packed.labels.tolist() == images.labels.tolist()
        assert all(np.array_equal(packed[i][0], images[i][0]) for i in range(6))
    save(tmp_path / "source" / "val" / "c" / "0.JPEG")
    assert run(tmp_path / "source", tmp_path / "other") == 1
    assert "train/ and val/ have different classes, such as 'c'" in capsys.readouterr().err


def test_val_may_lie_flat_with_a_list(tmp_path, capsys):
    for number in range(6):
        save(tmp_path / "source" / "train" / f"n0{number % 3}" / f"{number}.JPEG", number)
        save(tmp_path / "source" / "val" / f"ILSVRC2012_val_{number}.JPEG", 10 + number)
    assert run(tmp_path / "source", tmp_path / "packed") == 1
    assert re.search("val holds no class folders, and .*val.txt is missing: .* --val-labels", capsys.readouterr().err)
    labels, numbers = tmp_path / "ground_truth.txt", tmp_path / "map_clsloc.txt"
    labels.write_text("1\n1\n2\n3\n3\n2\n")
    assert run(tmp_path / "source", tmp_path / "packed", f"--val-labels={labels}") == 1
    assert "line 1: '1' is a number" in capsys.readouterr().err
    numbers.write_text("n02 1 kit_fox\nn00 2 English_setter\nn01 3 Siberian_husky\n")
    assert run(tmp_path / "source", tmp_path / "packed", f"--val-labels={labels}", f"--val-numbers={numbers}") == 0
    val = PackedImages(tmp_path / "packed" / "val")
    assert val.labels.tolist() == [2, 2, 0, 1, 1, 0] and val.classes == ["n00", "n01", "n02"]
    for path in (labels, numbers):
        shutil.copy(path, tmp_path / "source" / {"ground_truth.txt": "val.txt"}.get(path.name, path.name))
    assert run(tmp_path / "source", tmp_path / "by itself") == 0
    assert contents(tmp_path / "by itself") == contents(tmp_path / "packed")


def test_the_command_is_checked(tmp_path, capsys):
    assert run(tmp_path / "missing", tmp_path / "packed") == 1
    assert "no directory" in capsys.readouterr().err
    assert pack.main(["--verify", str(tmp_path)]) == 1
    assert "no packed images in" in capsys.readouterr().err
    save(tmp_path / "source" / "only" / "0.png")
    for option, message in (
        ("--size=0", "size is 0"),
        ("--workers=0", "workers is 0"),
        ("--max-failures=2", "max_failures is 2"),
    ):
        assert run(tmp_path / "source", tmp_path / "packed", option) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        pack.main([str(tmp_path)])
    assert "give a source and a destination" in capsys.readouterr().err


def test_the_module_runs_as_a_command(tmp_path):
    for number in range(3):
        save(tmp_path / "source" / "only" / f"{number}.png", number)
    command = [sys.executable, "-m", "minidl.data.pack", str(tmp_path / "source"), str(tmp_path / "packed"), "--size", "8"]
    path = os.pathsep.join([str(Path(pack.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert result.returncode == 0 and result.stdout == f"{tmp_path / 'packed'}: 3 images of 1 classes\n"
    assert "Traceback" not in result.stderr and "RuntimeWarning" not in result.stderr
    again = subprocess.run(
        [*command, "--size", "9"], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path}
    )
    assert again.returncode == 1 and again.stderr.startswith(
        f"pack: {tmp_path / 'packed'} holds images of another source or size"
    )
