"""A training run in a folder, that can be stopped at any step and goes on as if it had never been stopped.

A checkpoint holds everything that decides the future: weights, the optimiser's state, the schedule, the position in the data and the
sums of the running epoch. Random numbers need no saving: those of a step are drawn from the seed, the epoch and the number of the
batch, and so are the order and the crops of the images (`DataLoader`). On a CPU the weights at the end are therefore the same to the
last bit, however often the run was interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from minidl.backend import manual_seed
from minidl.checkpoint import load_state, save_state
from minidl.data import DataLoader
from minidl.files import check_writable, replacing
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.program import said
from minidl.tensor import Tensor
from minidl.training import Totals, evaluate, train_epoch

KEPT = 2  # checkpoints of the latest positions; the best by test accuracy is kept besides
STEPS_PER_LINE = 100  # of metrics.jsonl, within an epoch
# What the line of an epoch's end says, at least.
AT_THE_END = {"epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"}


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class Run:
    """One run: `config.json`, `metrics.jsonl` and `checkpoints/` in `folder`.

    model, optimizer, schedule: as they are at the start; a run that is resumed brings them to where it was.
    schedule: anything with step(), state_dict() and load_state_dict(); `ReduceLROnPlateau` is given the test error.
    config: what the run was started with, to be stored. save_every: steps between checkpoints within an epoch (each epoch's end
    is saved anyway). before_epoch: called with the number of epochs done. after_epoch: called with the probabilities (N, classes)
    of every test, to draw pictures.
    resume: go on with the run in `folder`, from the start if it has no checkpoint yet; its configuration becomes `config`.
    Otherwise the folder must be new or empty: FileExistsError. Raises ValueError for a checkpoint that is damaged or of another
    network, and says which older one there is; RuntimeError if another process is at work on this run.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        config: dict[str, Any],
        model: Module,
        optimizer: Optimizer,
        schedule: Any,
        train: DataLoader,
        test: DataLoader,
        seed: int = 0,
        save_every: int = 1000,
        before_epoch: Callable[[int], None] | None = None,
        after_epoch: Callable[[np.ndarray], None] | None = None,
        resume: bool = False,
    ) -> None:
        self.folder, self.config = Path(folder), config
        self.model, self.optimizer, self.schedule, self.train, self.test = model, optimizer, schedule, train, test
        self.seed, self.save_every, self.before_epoch, self.after_epoch = seed, save_every, before_epoch, after_epoch
        self.epoch, self.batch, self.totals, self.seconds = 0, 0, Totals(), 0.0
        self.lines: list[dict[str, Any]] = []
        self.best = -1.0
        if save_every < 1:
            raise ValueError(f"save_every is a number of steps, at least 1; got {save_every}")
        if resume:
            if not (self.folder / "config.json").is_file():
                raise FileNotFoundError(f"{self.folder}: there is no run in this folder to go on with")
            self._lock = _locked(self.folder)
            self._restore()
        else:
            check_unused(self.folder)
            self._lock = _locked(self.folder)
        self._write_config()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of the metrics that end an epoch."""
        return [line for line in self.lines if "test_loss" in line]

    def fit(self, epochs: int) -> None:
        """Train until `epochs` are done, with a test, a line and a checkpoint after each; at a terminal a bar over the whole run.

        Raises Stopped when SIGINT or SIGTERM arrives: the step is finished and saved first.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        images = len(self.train.dataset)
        started = time.perf_counter() - self.seconds
        done = self.epoch * images + self.totals.images
        with (
            _stop_signals() as asked,
            tqdm(total=epochs * images, initial=done, unit=" images", disable=None, smoothing=0.05, dynamic_ncols=True) as bar,
        ):
            while self.epoch < epochs:
                bar.set_description(f"epoch {self.epoch + 1}/{epochs}")
                if self.before_epoch is not None:
                    self.before_epoch(self.epoch)
                rate = self.optimizer.param_groups[0]["lr"]
                learned = train_epoch(self.model, self._batches(started, asked), self.optimizer, bar, self.totals)
                tested, probabilities = evaluate(self.model, self.test)
                _advance(self.schedule, 1 - tested.accuracy)
                self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()
                self.seconds = time.perf_counter() - started
                self._log(
                    epoch=self.epoch, lr=rate, train_loss=learned.loss, train_accuracy=learned.accuracy,
                    test_loss=tested.loss, test_accuracy=tested.accuracy,
                    images_per_second=learned.images_per_second, seconds=self.seconds,
                )  # fmt: skip
                self.save(best=tested.accuracy > self.best)
                bar.write(
                    f"epoch {self.epoch:3d}   train: loss {learned.loss:.3f}, top-1 {learned.accuracy:6.1%}   "
                    f"test: loss {tested.loss:.3f}, top-1 {tested.accuracy:6.1%}   "
                    f"{learned.images_per_second:5.0f} images/s   {self.seconds:4.0f} s"
                )
                if self.after_epoch is not None:
                    self.after_epoch(probabilities)
                if asked() and self.epoch < epochs:
                    raise Stopped

    def _batches(self, started: float, asked: Callable[[], bool]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the epoch from here on. The next one is asked for when the step with this one is done: so what comes
        after the `yield` comes after the step."""
        self.train.set_epoch(self.epoch, self.batch)
        for images, labels in self.train:
            manual_seed(int(np.random.SeedSequence([self.seed, self.epoch, self.batch]).generate_state(1)[0]))
            yield images, labels
            self.batch += 1
            if self.batch % STEPS_PER_LINE == 0:
                mean, share = self.totals.loss / self.totals.images, self.totals.right / self.totals.images
                self._log(epoch=self.epoch + 1, step=self.batch, train_loss=mean, train_accuracy=share)
            if asked() or self.batch % self.save_every == 0:
                self.seconds = time.perf_counter() - started
                self.save()
            if asked():
                raise Stopped

    # On disk

    def save(self, best: bool = False) -> None:
        """Write a checkpoint of this moment, and drop those that are no longer needed."""
        if best:
            self.best = self.metrics[-1]["test_accuracy"]
        arrays = {f"model.{name}": array for name, array in self.model.state_dict().items()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        description = {
            "config": self.config, "epoch": self.epoch, "batch": self.batch, "totals": asdict(self.totals),
            "schedule": self.schedule.state_dict(), "lines": len(self.lines), "best": self.best, "seconds": self.seconds,
        }  # fmt: skip
        # The best one first: stopped between the two, a resumed run comes to this epoch again, and knows of no better one.
        folder = self.folder / "checkpoints"
        for name in ["best"] * best + [f"{self.epoch:04d}-{self.batch:06d}"]:
            save_state(arrays, description, folder / f"{name}.safetensors")
        for old in checkpoints(self.folder)[:-KEPT]:
            old.unlink()

    def _write_config(self) -> None:
        with replacing(self.folder / "config.json") as temporary:
            temporary.write_text(json.dumps(self.config, indent=2, default=str) + "\n")

    def _restore(self) -> None:
        for left_over in self.folder.glob("checkpoints/.*.tmp"):  # of a save that was killed
            left_over.unlink()
        found = checkpoints(self.folder)
        if not found:  # it was stopped before its first one: so it starts again, and with the same weights
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return
        try:
            arrays, description = load_state(found[-1])
            self.model.load_state_dict(_under("model.", arrays))
            self.optimizer.load_state_dict(_under("optimizer.", arrays))
        except ValueError as error:
            where = f"an older one, {found[-2].name}" if len(found) > 1 else "the start, for it is the only one"
            raise ValueError(f"{error}.\nWith {found[-1]} moved away, the run goes on from {where}") from error
        self.schedule.load_state_dict(description["schedule"])
        self.epoch, self.batch, self.best = description["epoch"], description["batch"], description["best"]
        self.totals, self.seconds = Totals(**description["totals"]), description["seconds"]
        # Lines after the checkpoint are of steps that will be done again.
        path = self.folder / "metrics.jsonl"
        self.lines = read_lines(self.folder, description["lines"])
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def _log(self, **line: float) -> None:
        self.lines.append(line)
        path = self.folder / "metrics.jsonl"
        try:
            with open(path, "a") as file:
                file.write(json.dumps(line, default=float) + "\n")
        except OSError as error:  # a full disk names no file
            raise OSError(f"{path} could not be written: {error.strerror}") from error


def fit_or_exit(run: Run, epochs: int, again: Sequence[str]) -> None:
    """Train as a program does: whatever ends the run early is said in a sentence, with the command `again` that goes on."""
    command = f"to go on:\n    {shlex.join(again)}"
    if run.epoch >= epochs:
        print(f"nothing to do: {run.epoch} epochs are done; --epochs with a larger number goes on")
    try:
        run.fit(epochs)
    except Stopped:
        sys.exit(said(f"stopped and saved after {run.epoch} epochs and {run.batch} steps; {command}"))
    except KeyboardInterrupt:
        sys.exit(said(f"stopped at once, without saving; {command}"))
    except FloatingPointError as error:
        sys.exit(said(f"{error}. The last checkpoint is from before; {command}"))
    except OSError as error:
        saved = checkpoints(run.folder)
        safe = f"the last checkpoint is {saved[-1]}" if saved else f"there is no checkpoint in {run.folder}"
        sys.exit(said(f"{error}.\nThe run has ended; {safe}. When that is put right, {command}"))


def _locked(folder: Path) -> Any:
    """An open file that this process alone has, until it ends: two runs in one folder would overwrite each other's checkpoints.

    Raises RuntimeError if another process has it. Where there are no such locks (Windows), None.
    """
    try:
        import fcntl
    except ImportError:
        return None
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RuntimeError(f"{folder}: another process is at work on this run; wait for its end, or stop it") from error
    return file


def check_unused(folder: str | os.PathLike[str]) -> None:
    """Raise FileExistsError unless `folder` is new or empty, so that no earlier run is lost; OSError if it cannot be written to."""
    if os.path.exists(folder) and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise FileExistsError(f"{folder} already holds something, perhaps an earlier run; choose another folder")
    check_writable(folder)


def read_lines(folder: str | os.PathLike[str], count: int | None = None) -> list[dict[str, Any]]:
    """The first `count` lines of a run's metrics.jsonl, none if there is no such file. Raises ValueError for damage."""
    path = Path(folder) / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()[:count]] if path.is_file() else []
        if all(isinstance(line, dict) and ("test_loss" not in line or line.keys() >= AT_THE_END) for line in lines):
            return lines
        raise ValueError("a line without its figures")
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); moved away, the run goes on without its earlier figures") from error


def checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of a run, oldest first; without the best one."""
    return sorted(Path(folder).glob("checkpoints/[0-9]*.safetensors"))


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _advance(schedule: Any, error: float) -> None:
    """Schedules that look at a figure are given the test error."""
    if hasattr(schedule, "patience"):
        schedule.step(error)
    else:
        schedule.step()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Inside the block SIGINT and SIGTERM only set a flag, which the yielded function reads; a second SIGINT interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(number)
        text = "\nstopping after this step, or after the test if one is going on; Ctrl-C again stops at once, without saving\n"
        os.write(2, text.encode())  # a signal may come in the middle of a print

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
