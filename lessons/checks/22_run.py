"""Lesson 22: a file that is whole at every moment, all that decides the future of a run, a plug pulled at every step, ten crops."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np

import minidl
from lessons.checking import Mutant, Wrong, is_a, same
from minidl import nn

# write_checkpoint


class PulledPlug(Exception):
    """What happens in the middle of a file."""


class _Plug:
    """Something like an array, at which writing ends."""

    def __array__(self, *args, **kwargs):
        raise PulledPlug


def _some(seed=0):
    rng = np.random.default_rng(seed)
    return {"model.0.weight": rng.standard_normal((3, 4), np.float32), "order": rng.permutation(7)}


FACTS = {"epoch": 3, "step": 5, "random": {"state": {"state": 2**127 + 1, "inc": 7}}}


def _write(lesson, path, arrays, facts):
    try:
        lesson.write_checkpoint(path, arrays, facts)
    except FileNotFoundError as error:
        raise Wrong(
            f"write_checkpoint: {error}.\nLikely cause: np.savez has added .npz to the name that it was given. Give it the open file."
        ) from None


def _content(path):
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def check_written(lesson):
    """write_checkpoint: what is written can be read, and is no pickle"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        _write(lesson, path, _some(), FACTS)
        found = sorted(os.listdir(folder))
        if "run.npz" not in found:
            raise Wrong(
                f"After write_checkpoint('run.npz', ...) there is no such file; in the folder is: {', '.join(found) or 'nothing'}."
            )
        if len(found) > 1:
            left = ", ".join(name for name in found if name != "run.npz")
            raise Wrong(f"After write_checkpoint('run.npz', ...) there is also {left}: it should have been renamed, not copied.")
        try:
            stored = _content(path)
        except ValueError:
            raise Wrong(
                "The file has a pickle in it, which could run anything when it is read.\n"
                "Likely cause: a dictionary was given to np.savez, which pickles what is no array of numbers or text. Give it `text`."
            ) from None
        missing = {*_some(), "facts"} - stored.keys()
        if missing:
            raise Wrong(f"{' and '.join(sorted(missing))} not in the file; in it is: {', '.join(stored) or 'nothing'}.")
        for name, array in _some().items():
            same(f"{name} in the file", stored[name], array, 0, 0, dtype=array.dtype)
        _, facts = lesson.read_checkpoint(path)
        if facts != FACTS:
            raise Wrong(f"The facts come back as {facts!r} instead of {FACTS!r}.")


def check_old_one_stays(lesson):
    """write_checkpoint: with the plug pulled while it writes, the old file is whole"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        _write(lesson, path, _some(1), FACTS)
        broken = {"model.0.weight": _some(2)["model.0.weight"], "order": _Plug()}
        try:
            lesson.write_checkpoint(path, broken, FACTS)
        except PulledPlug:
            pass
        else:
            raise Wrong("write_checkpoint: an exception on the way was swallowed; whoever trains would think that all is saved.")
        try:
            stored = _content(path)
            whole = all(np.array_equal(stored[name], array) for name, array in _some(1).items())
        except Exception:
            whole = False
        if not whole:
            raise Wrong(
                "While a checkpoint was written the plug was pulled, and the old one is gone: at its place is half a file.\n"
                "Likely cause: it is written under its own name. Write to `temporary`, and rename it when it is complete."
            )


def check_complete_first(lesson):
    """write_checkpoint: renamed when all of it is on the disk"""
    seen, synced = [], []
    own = {name: getattr(os, name) for name in ("replace", "rename", "fsync")}

    def spy(name):
        def rename(source, target, *args, **kwargs):
            try:
                whole = sorted(_content(source)) == ["facts", "model.0.weight", "order"]
            except Exception:
                whole = False
            seen.append((Path(source), Path(target), whole, bool(synced)))
            return own[name](source, target, *args, **kwargs)

        return rename

    def fsync(file):
        synced.append(file)
        return own["fsync"](file)

    with tempfile.TemporaryDirectory() as folder:
        os.replace, os.rename, os.fsync = spy("replace"), spy("rename"), fsync
        try:
            lesson.write_checkpoint(Path(folder, "run.npz"), _some(), FACTS)
        finally:
            os.replace, os.rename, os.fsync = own["replace"], own["rename"], own["fsync"]
    for source, target, whole, on_disk in seen:
        if source.parent != target.parent:
            raise Wrong(
                f"The temporary file is in {source.parent}, the checkpoint in {target.parent}; renaming works within one folder."
            )
        if not whole:
            raise Wrong(
                "When the file was renamed it was not complete: Python still held a part of it back.\n"
                "Likely cause: the renaming stands inside `with open(...)`, before `file.flush()`. Rename after the block."
            )
        if not on_disk:
            raise Wrong(
                "When the file was renamed, nobody had asked for it to be really on the disk: os.fsync(file.fileno()), inside the `with`.\n"
                "Without it a power cut can leave the new name with nothing behind it."
            )


# Run


def _network(seed):
    minidl.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 5))


def _run(lesson, seed=0, steps=0):
    """A small run: three steps an epoch, and another rate from the second epoch on."""
    rng = np.random.default_rng(7)
    images = rng.standard_normal((12, 6, 6, 3), np.float32)
    run = lesson.Run(images, rng.integers(5, size=12), _network(seed), size=4, batch=4, seed=seed)
    run.rate, run.drops = 0.1, (1,)
    for _ in range(steps):
        run.advance()
    return run


def _parts(run):
    """What decides the future, each with what happens without it."""
    yield "the weights", {"model." + name: array for name, array in run.model.state_dict().items()}
    yield "the velocity", {"optimizer." + name: array for name, array in run.optimizer.state_dict().items()}
    yield "the order of this epoch", {"order": np.array(run.order)}


CONSEQUENCES = {
    "the weights": "Without them nothing has been learnt.",
    "the velocity": "Without it every resume begins from rest, ten steps of momentum lost.",
    "the order of this epoch": "Without it the rest of the epoch sees some images twice and others not at all.",
    "epoch": "Without it the rate falls at the wrong time, and the run ends too late.",
    "step": "Without it the epoch begins again.",
    "random": "Without it other crops, mirror images and dropout masks come than without the plug.",
}


def _reference(run):
    """(arrays, facts), as the lesson names them."""
    arrays = {name: array for _, part in _parts(run) for name, array in part.items()}
    return arrays, {"epoch": run.epoch, "step": run.step, "random": run.rng.bit_generator.state}


def check_state(lesson, device):
    """Run.state: everything is in it"""
    run = _run(lesson, steps=4)
    arrays, facts = run.state()
    is_a("the arrays of state()", arrays, dict)
    is_a("the facts of state()", facts, dict)
    for part, expected in _parts(run):
        for name, array in expected.items():
            if name not in arrays:
                inside = ", ".join(map(str, arrays)) or "nothing"
                raise Wrong(
                    f"After 4 steps state() lacks {part}: there is no {name!r}. {CONSEQUENCES[part]}\nThere is: {inside}."
                )
            same(f"{name!r} in state() after 4 steps", arrays[name], array, 0, 0)
    _, expected_facts = _reference(run)
    for name in expected_facts:
        if name not in facts:
            raise Wrong(f"After 4 steps state() lacks the fact {name!r}. {CONSEQUENCES[name]}")
    for name in ("epoch", "step"):
        same(f"{name!r} in state() after 4 steps, 3 an epoch", facts[name], expected_facts[name])
    if facts["random"] != expected_facts["random"]:
        raise Wrong(
            f"'random' in state() is {str(facts['random'])[:40]}..., but it should be rng.bit_generator.state: "
            "a seed says where the random numbers began, not where they are now."
        )
    try:
        json.dumps(facts)
    except TypeError as error:
        raise Wrong(f"The facts cannot be written as JSON: {error}.") from None


def check_state_stays(lesson):
    """Run.state: it stays as it was when the run goes on"""
    run = _run(lesson, steps=4)
    arrays, _ = run.state()
    before, _ = _reference(run)
    for _ in range(3):
        run.advance()
    for name, array in before.items():
        mistakes = {
            "it is the array of the run itself, which goes on changing in place. `state_dict()` gives copies.": _reference(run)[
                0
            ][name]
        }
        same(f"{name!r} in a state that was taken 3 steps ago", arrays[name], array, 0, 0, mistakes=mistakes)


def check_state_at_once(lesson):
    """Run.state: before the first step too"""
    run = _run(lesson)
    arrays, _ = run.state()
    for name, array in _reference(run)[0].items():
        same(f"{name!r} in state() before the first step", arrays[name], array, 0, 0)


def check_killed_at_every_step(lesson):
    """Run.state: stopped after any step and restored, it ends the same to the last bit"""
    total = 8
    whole = _run(lesson, steps=total)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.npz")
        for step in range(total):
            lesson.write_checkpoint(path, *_run(lesson, steps=step).state())
            resumed = _run(lesson, seed=5 + step)
            resumed.restore(*lesson.read_checkpoint(path))
            for _ in range(total - step):
                resumed.advance()
            for (part, expected), (_, got) in zip(_parts(whole), _parts(resumed), strict=True):
                if any(not np.array_equal(got.get(name), array) for name, array in expected.items()):
                    raise Wrong(
                        f"Stopped after {step} steps of {total} and resumed, {part} at the end is not the same as without a stop. "
                        "(An epoch has 3 steps.)"
                    )


# Ten crops


def _numbered(n, height, width):
    """Images in which every pixel says where it is."""
    image, row, column = np.ogrid[:n, :height, :width]
    place = (10000 * image + 100 * row + column).astype(np.float32)
    return np.stack([place, place + 0.5], axis=3)


def _crops(images, size, mirror=lambda piece: piece[:, :, ::-1], middle=lambda n: n // 2):
    down, along = images.shape[1] - size, images.shape[2] - size
    places = [(0, 0), (0, along), (down, 0), (down, along), (middle(down), middle(along))]
    five = [images[:, y : y + size, x : x + size] for y, x in places]
    return five, [mirror(piece) for piece in five]


def check_ten_crops(lesson):
    """ten_crops: five places, and their mirror images"""
    for shape in ((2, 5, 5), (3, 5, 8)):
        images = _numbered(*shape)
        five, mirrored = _crops(images, 3)
        upside_down = _crops(images, 3, lambda piece: piece[:, ::-1])[1]
        both = _crops(images, 3, lambda piece: piece[:, ::-1, ::-1])[1]
        colours = _crops(images, 3, lambda piece: piece[..., ::-1])[1]
        pairs = [piece for pair in zip(five, mirrored, strict=True) for piece in pair]
        mistakes = {
            "the mirrored ones are not mirrored.": np.stack(five + five, 1),
            "mirrored top to bottom; a cat on its head is a rare sight. The axes are N, H, W, C.": np.stack(
                five + upside_down, 1
            ),
            "turned by 180 degrees: only left and right change places.": np.stack(five + both, 1),
            "the channels are reversed, not the columns. The axes are N, H, W, C.": np.stack(five + colours, 1),
            "each piece is followed by its mirror image; first all five, then the mirrored ones.": np.stack(pairs, 1),
        }
        got = lesson.ten_crops(images, 3)
        if hasattr(got, "shape") and got.shape[:2] == (10, shape[0]) and shape[0] != 10:
            raise Wrong(f"ten_crops: shape {got.shape}; N comes first, then the ten: np.stack(..., axis=1).")
        if hasattr(got, "shape") and got.shape[:1] == (10 * shape[0],):
            raise Wrong(
                f"ten_crops: shape {got.shape}; the ten pieces need an axis of their own, the second: np.stack(..., axis=1)."
            )
        same(f"ten_crops of images {images.shape}, size 3", got, np.stack(five + mirrored, 1), mistakes=mistakes)


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def check_averaged(lesson):
    """averaged: probabilities first, then their mean"""
    rng = np.random.default_rng(3)
    for crops in (2, 10):
        logits = 3 * rng.standard_normal((3 * crops, 4), np.float32)
        each = _softmax(logits)
        grouped = logits.reshape(3, crops, 4)
        mistakes = {
            "the mean of the logits, and then softmax: the paper averages the probabilities.": _softmax(grouped.mean(axis=1)),
            "the mean of the logits; these are no probabilities yet.": grouped.mean(axis=1),
            "crops of different images are averaged: those of one image lie one after the other, so reshape to (N, crops, classes).": (
                each.reshape(crops, 3, 4).mean(axis=0)
            ),
            "only the first crop counts.": each.reshape(3, crops, 4)[:, 0],
            "the largest of the probabilities instead of their mean.": each.reshape(3, crops, 4).max(axis=1),
        }
        what = f"averaged(logits of 3 images with {crops} crops)"
        same(what, lesson.averaged(logits, crops), each.reshape(3, crops, 4).mean(axis=1), 1e-5, 1e-6, mistakes=mistakes)


def check_averaged_votes(lesson):
    """averaged: one very sure crop does not outvote two others"""
    logits = np.array([[80, 0], [0, 2], [0, 2]], np.float32)
    got = lesson.averaged(logits, 3)
    same("averaged, for the logits (80, 0), (0, 2), (0, 2)", got, _softmax(logits).mean(axis=0)[None], 1e-5, 1e-6)
    large = np.array([[1e4, 0], [-1e4, 0]], np.float32)
    same("averaged, for the logits (10000, 0), (-10000, 0)", lesson.averaged(large, 2), [[0.5, 0.5]], 1e-5, 1e-6)


HINTS = {
    "write_checkpoint": (
        "Four steps, the first three inside `with open(temporary, 'wb') as file:`, the last behind it.",
        "np.savez(file, facts=text, and all arrays by their names: **arrays); flush; fsync of file.fileno(); os.replace(temporary, path).",
        "    with open(temporary, 'wb') as file:\n"
        "        np.savez(file, facts=text, **...)\n"
        "        file...\n"
        "        os.fsync(...)\n"
        "    os.replace(..., ...)",
    ),
    "Run.state": (
        "Go through `advance` line by line: whatever it reads from `self` and also changes belongs into the state.",
        "arrays: all of model.state_dict() and optimizer.state_dict(), each name behind its prefix, and order. facts: epoch, step, and "
        "random = rng.bit_generator.state.",
        "        for name, array in self.model.state_dict().items():\n"
        '            arrays["model." + name] = ...\n'
        "        (the same for the optimizer)\n"
        '        arrays["order"] = ...\n'
        '        facts["epoch"], facts["step"] = ...\n'
        '        facts["random"] = ...',
    ),
    "ten_crops": (
        "Each of the five is a slice of all images at once. The axis that goes from left to right is the third, W.",
        "five = images[:, y : y + size, x : x + size] for (y, x) in places; mirrored: piece[:, :, ::-1]; np.stack of all ten along axis 1.",
        "    five = [images[:, y : ..., x : ...] for y, x in places]\n"
        "    return np.stack(five + [piece[...] for piece in five], axis=...)",
    ),
    "averaged": (
        "Softmax belongs to each crop; the mean comes after it. A reshape brings the crops of an image together.",
        "p = softmax(logits), (N * crops, classes); p as (N, crops, classes); the mean over axis 1.",
        "    probabilities = F.softmax(Tensor(logits)).numpy()\n    return probabilities.reshape(-1, crops, ...).mean(axis=...)",
    ),
}

WRITE = """\
        np.savez(file, facts=text, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
"""
OPENED = '    with open(temporary, "wb") as file:\n'
VELOCITY = """\
        for name, array in self.optimizer.state_dict().items():
            arrays["optimizer." + name] = array
"""
AVERAGE = """\
    probabilities = F.softmax(Tensor(logits)).numpy()
    return probabilities.reshape(-1, crops, logits.shape[1]).mean(axis=1)
"""

MUTANTS = [
    Mutant("in place", OPENED + WRITE, "    np.savez(path, facts=text, **arrays)\n", "the old one is gone"),
    Mutant(
        "a name with .npz added",
        OPENED + WRITE,
        "    np.savez(temporary, facts=text, **arrays)\n    os.replace(temporary, path)\n",
        "has added .npz",
    ),
    Mutant(
        "not on the disk",
        WRITE,
        "        np.savez(file, facts=text, **arrays)\n    os.replace(temporary, path)\n",
        "really on the disk",
    ),
    Mutant("pickled", "np.savez(file, facts=text, **arrays)", "np.savez(file, facts=facts, **arrays)", "has a pickle in it"),
    Mutant("never renamed", "    os.replace(temporary, path)\n", "", "there is no such file"),
    Mutant("no velocity", VELOCITY, "", "lacks the velocity"),
    Mutant("no order", '        arrays["order"] = self.order\n', "", "lacks the order of this epoch"),
    Mutant(
        "no step", 'facts["epoch"], facts["step"] = self.epoch, self.step', 'facts["epoch"] = self.epoch', "lacks the fact 'step'"
    ),
    Mutant("no random state", '        facts["random"] = self.rng.bit_generator.state\n', "", "lacks the fact 'random'"),
    Mutant("a seed", 'facts["random"] = self.rng.bit_generator.state', 'facts["random"] = 0', "where the random numbers began"),
    Mutant("upside down", "[piece[:, :, ::-1] for", "[piece[:, ::-1] for", "top to bottom"),
    Mutant("not mirrored", "[piece[:, :, ::-1] for", "[piece for", "are not mirrored"),
    Mutant("the ten first", "for piece in five], axis=1)", "for piece in five], axis=0)", "N comes first"),
    Mutant(
        "logits averaged",
        AVERAGE,
        """\
    together = logits.reshape(-1, crops, logits.shape[1]).mean(axis=1)
    return F.softmax(Tensor(together)).numpy()
""",
        "the paper averages the probabilities",
    ),
    Mutant(
        "images mixed",
        AVERAGE,
        """\
    probabilities = F.softmax(Tensor(logits)).numpy()
    return probabilities.reshape(crops, -1, logits.shape[1]).mean(axis=0)
""",
        "crops of different images",
    ),
    Mutant(
        "exponentials too large",
        AVERAGE,
        """\
    with np.errstate(all="ignore"):
        e = np.exp(logits)
        p = e / e.sum(axis=1, keepdims=True)
    return p.reshape(-1, crops, logits.shape[1]).mean(axis=1)
""",
        "NaN",
    ),
]
