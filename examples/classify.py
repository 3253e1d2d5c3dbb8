"""Ask a trained network what is in photographs: the five most probable labels, printed and as a picture (figure 4 of the paper).

python examples/classify.py photo.jpg other.png --checkpoint runs/first
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import minidl
from minidl.data.decode import decode
from minidl.evaluation import Photographs, load_run, probabilities
from minidl.plots import five_guesses, unused_picture
from minidl.program import main_or_exit

WIDTH = 80


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("photos", nargs="+", type=Path, metavar="PHOTO", help="image files")
    option("--checkpoint", type=Path, required=True, metavar="RUN", help="folder of a run, or a checkpoint in it")
    option("--crops", type=int, choices=[1, 10], default=1, help="the centre of each photograph (default), or ten crops")
    option("--out", type=Path, default=Path("classified.png"), metavar="FILE", help="the picture, .png, .jpg, .svg or .pdf (default: "
           "classified.png)")  # fmt: skip
    option("--device", default="cpu", help='where to compute: "cpu" (default), "gpu", or "gpu:1" for the second GPU')
    return parser.parse_args()


def bars(p: np.ndarray, classes: list[str]) -> list[str]:
    """A line of at most 80 characters for each of the five most probable labels."""
    best = np.argsort(-p, kind="stable")[:5]
    names = [name if len(name) <= 30 else name[:27] + "..." for name in (classes[i] for i in best)]
    width = max(map(len, names))
    space = WIDTH - width - 12
    return [f"  {name:{width}}  {p[i]:6.1%}  {'#' * round(space * p[i])}" for name, i in zip(names, best, strict=True)]


def main() -> None:
    options = arguments()
    unused_picture(options.out)
    minidl.set_default_device(options.device)
    run = load_run(options.checkpoint)
    pictures = [decode(path, 227) for path in options.photos]
    photographs = Photographs(options.photos, run.statistics.shape)
    p, _ = probabilities(run.model, run.loader(photographs, options.crops, max_failures=0))
    for path, mine in zip(options.photos, p, strict=True):
        print(path)
        print("\n".join(bars(mine, run.classes)))
    five_guesses(pictures, None, p, run.classes, options.out)
    print(f"the picture is {options.out}")


if __name__ == "__main__":
    main_or_exit(main)
