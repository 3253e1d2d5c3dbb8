"""Time AlexNet's training step and inference, alone or against other frameworks, taking turns step by step in one run.

    python -m benchmarks.alexnet_step
    python -m benchmarks.alexnet_step --against torch dezero=path/to/an/environment/bin/python
    python -m benchmarks.alexnet_step --device gpu --against torch
    python -m benchmarks.alexnet_step --small --against torch

Times are milliseconds, medians of the steps. A row `torch / minidl` says how many times as much PyTorch needs, time or memory: the
median over neighbouring turns. `of product` is the share that the whole step reaches of the machine's matrix product. `benchmarks/
README.md` says more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import counts, small
from benchmarks.turns import Turns, cores, environment, interpreters, medians, ratios, take_turns, warn_if_busy
from benchmarks.worker import STEP
from minidl import models

TIMES = [*STEP, "step", "infer"]
BATCHES = {"cpu": [32, 128], "gpu": [128, 256, 512, 1024]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument(
        "--against", nargs="*", default=[], metavar="NAME[=PYTHON]",
        help="torch, torch-nchw (the same, channels first), dezero; with the interpreter of its environment if it is not in this one",
    )  # fmt: skip
    parser.add_argument("--variant", nargs="*", default=["paper", "torchvision"], choices=["paper", "torchvision"])
    parser.add_argument("--batch-size", nargs="*", type=int, help="default: 32 128, on a GPU 128 256 512 1024")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each, after two to warm up")
    parser.add_argument("--threads", type=int, default=cores(), help="of every process; default: the cores there are")
    parser.add_argument("--small", action="store_true", help="small work and the time of import in place of AlexNet")
    options = parser.parse_args()

    os.environ.update(environment(options.threads))  # before minidl's pool is made, which measures the matrix product here
    warn_if_busy()
    pythons = interpreters(options.against)
    if options.small:
        return small_work(pythons, options.threads, options.steps)
    batches = options.batch_size or BATCHES[options.device.partition(":")[0]]
    images, labels = real_images(max(batches), options.image_size)
    print(f"{'variant':12}{'batch':>5}  {'framework':20}{'forward':>9}{'backward':>9}{'update':>8}{'step':>9}", end="")
    print(f"{'images/s':>9}{'infer/s':>9}{'peak GB':>8}{'of product':>11}")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "images.npz")
        for variant in options.variant:
            operations = step_operations(variant, options.image_size)
            for batch in batches:
                np.savez(file, images=images[:batch], labels=labels[:batch])
                settings = {
                    "variant": variant, "batch": batch, "images": file, "size": options.image_size, "device": options.device,
                    "threads": options.threads,
                }  # fmt: skip
                able = {n: p for n, p in pythons.items() if n != "dezero" or (variant, options.device) == ("torchvision", "cpu")}
                before = matrix_product_rate(options.device)
                turns = take_turns("alexnet", able, settings, options.steps)
                after = matrix_product_rate(options.device)
                report(f"{variant:12}{batch:5}", batch, turns, batch * operations / max(before, after))
                print(f"{'':19}matrix product, before and after: {before / 1e9:.0f}, {after / 1e9:.0f} GFLOP/s", flush=True)


def real_images(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    from benchmarks import ceiling

    return ceiling.real_images(count, size)
