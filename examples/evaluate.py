"""Test trained networks: top-1 and top-5 error of each run, and of the average of their probabilities.

    python examples/evaluate.py runs/first
    python examples/evaluate.py runs/first --crops 10
    python examples/evaluate.py runs/first runs/second runs/third --crops 10

With ten crops as the paper tests (section 4.1); the average of several networks is how the entry of 2012 got to 15.3 %. A run is
the folder that train_alexnet.py leaves, of which the best checkpoint counts, or one checkpoint in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import minidl
from minidl.data.open import open_data
from minidl.evaluation import average, load_run, probabilities, top_k_error
from minidl.program import main_or_exit


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or a checkpoint in it")
    option("--data", type=Path, default=None, metavar="DIR", help="the folder of the test images (default: that of the runs)")
    option("--crops", type=int, choices=[1, 10], default=1, help="the centre of each image (default), or ten crops")
    option("--device", default="cpu", help='where to compute: "cpu" (default), "gpu", or "gpu:1" for the second GPU')
    return parser.parse_args()


def row(name: str, errors: list[float], note: str = "") -> str:
    shown = name if len(name) <= 40 else "..." + name[-37:]
    return f"{shown:40}" + "".join(f"{100 * error:7.2f} %" for error in errors) + f"   {note}"


def print_errors(paths: list[Path], folder: Path | None, crops: int) -> None:
    """Print a row for each run, and one for the average of several. folder: of the test images, if not that of the runs."""
    runs = [load_run(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run.classes != runs[0].classes:
            raise ValueError(f"{path} and {paths[0]} know different classes; their probabilities cannot be averaged")
    tests = [run.fitting(open_data(folder or run.data_folder, run.recipe.stored_size)[1]) for run in runs]

    print(f"{'':40}" + "".join(f"  top-{k:<3}" for k in (1, 5)) + "   weights of", flush=True)
    all_labels, predictions = [], []
    for path, run, test in zip(paths, runs, tests, strict=True):
        p, labels = probabilities(run.model, run.loader(test, crops))
        predictions.append(p)
        all_labels.append(labels)
        print(row(str(path), [top_k_error(p, labels, k) for k in (1, 5)], run.moment), flush=True)
    if len(runs) > 1:
        if not all(np.array_equal(labels, all_labels[0]) for labels in all_labels):
            raise ValueError("the runs have different test images; give the same to all of them with --data")
        p = average(predictions)
        print(row(f"average of the {len(runs)}", [top_k_error(p, all_labels[0], k) for k in (1, 5)]))
    print(f"{len(all_labels[0]):,} test images, {'ten crops of each' if crops == 10 else 'the centre of each'}")


def main() -> None:
    options = arguments()
    minidl.set_default_device(options.device)
    print_errors(options.runs, options.data, options.crops)


if __name__ == "__main__":
    main_or_exit(main)
