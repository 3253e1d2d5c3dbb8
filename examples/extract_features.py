"""What the last hidden layer of a trained network makes of images, and which images are alike to it (figure 4 of the paper).

    python examples/extract_features.py runs/first photographs/ --out features.safetensors
    python examples/extract_features.py runs/first photographs/ --similar photo.jpg other.jpg

The features are the 4096 activations of fc7 after its ReLU (fewer in a narrower network). Photographs of the folder whose
activations have the smallest Euclidean distance are the most similar, though their pixels may be far apart (section 6.1).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import minidl
from minidl.checkpoint import save_state
from minidl.data.decode import decode
from minidl.data.image_files import list_images
from minidl.evaluation import Photographs, features, load_run, most_similar
from minidl.files import replacing
from minidl.plots import nearest, unused, unused_picture
from minidl.program import main_or_exit

LAYER = "relu7"
SHOWN = 6  # similar pictures for each photograph, as in the paper


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("run", type=Path, metavar="RUN", help="folder of a run, or a checkpoint in it")
    option("folder", type=Path, metavar="FOLDER", help="the images, in it or anywhere below")
    option("--out", type=Path, default=None, metavar="FILE", help="write the features (images, units) and the names of the files "
           "to this .safetensors or .npz")  # fmt: skip
    option("--similar", nargs="+", type=Path, default=[], metavar="PHOTO", help="draw the most similar images of the folder")
    option("--picture", type=Path, default=Path("similar.png"), metavar="FILE", help="where --similar draws them (default: "
           "similar.png)")  # fmt: skip
    option("--device", default="cpu", help='where to compute: "cpu" (default), "gpu", or "gpu:1" for the second GPU')
    options = parser.parse_args()
    if not options.out and not options.similar:
        parser.error("say with --out where to write the features, or with --similar what to look for")
    if options.out and options.out.suffix not in (".safetensors", ".npz"):
        parser.error(f"--out {options.out}: expected a name that ends in .safetensors or .npz")
    return options


def write(found: np.ndarray, files: list[str], run: Path, path: Path) -> None:
    """The features with the names of their files; safetensors has the names as JSON in its description."""
    if path.suffix == ".safetensors":
        save_state({"features": found}, {"files": files, "run": str(run), "layer": LAYER}, path)
    else:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, features=found, files=np.array(files))


def main() -> None:
    options = arguments()
    if options.out:
        unused(options.out)
    if options.similar:
        unused_picture(options.picture)
    if not options.folder.is_dir():
        raise FileNotFoundError(f"{options.folder}: there is no such folder")
    files = list_images(options.folder)
    if not files:
        raise ValueError(f"{options.folder} holds no images that Pillow can read")
    minidl.set_default_device(options.device)
    run = load_run(options.run)
    queries = [decode(path, 227) for path in options.similar]
    shape = run.statistics.shape

    batches = run.loader(Photographs([options.folder / file for file in files], shape), max_failures=1)
    found = features(run.model, batches, LAYER)
    files = [files[i] for i in batches.kept]
    print(f"{len(files):,} images, {found.shape[1]:,} activations each")
    if options.out:
        write(found, files, options.run, options.out)
        print(f"the features are in {options.out}")
    if options.similar:
        wanted = features(run.model, run.loader(Photographs(options.similar, shape), max_failures=0), LAYER)
        neighbours, captions = [], []
        for photo, query in zip(options.similar, wanted, strict=True):
            numbers, distances = most_similar(found, query, SHOWN + 1)
            others = [(i, d) for i, d in zip(numbers, distances, strict=True) if not photo.samefile(options.folder / files[i])]
            print(photo)
            for i, distance in others[:SHOWN]:
                print(f"  {distance:8.2f}  {files[i]}")
            neighbours.append([decode(options.folder / files[i], 227) for i, _ in others[:SHOWN]])
            captions.append([f"distance {distance:.1f}" for _, distance in others[:SHOWN]])
        nearest(queries, neighbours, options.picture, captions)
        print(f"the picture is {options.picture}")


if __name__ == "__main__":
    main_or_exit(main)
