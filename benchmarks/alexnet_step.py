"""Time AlexNet's training step and inference, alone or against other frameworks, taking turns step by step in one run.

    python -m benchmarks.alexnet_step
    python -m benchmarks.alexnet_step --against torch dezero=path/to/an/environment/bin/python
    python -m benchmarks.alexnet_step --device gpu --against torch
    python -m benchmarks.alexnet_step --device gpu --against torch --precision bf16
    python -m benchmarks.alexnet_step --small --against torch

Times are milliseconds, medians of the steps. A row `torch / minidl` says how many times as much PyTorch needs, time or memory: the
median over neighbouring turns. `share`: of the machine's matrix product, what the whole step reaches. benchmarks/README.md says more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import counts, small
from benchmarks.ceiling import add_precision, at_least_one, chosen_precision, matrix_product_rate, real_images
from benchmarks.turns import Turns, cores, environment, interpreters, medians, ratios, take_turns, warn_if_busy
from benchmarks.worker import STEP
from minidl import models
from minidl.backend import canonical_device
from minidl.program import main_or_exit

TIMES = [*STEP, "step", "infer"]
BATCHES = {"cpu": [32, 128], "gpu": [128, 256, 512, 1024]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument(
        "--against", nargs="*", default=[], metavar="NAME[=PYTHON]",
        help="torch, torch-nchw (the same, channels first), dezero; with the interpreter of its environment if it is not in this one",
    )  # fmt: skip
    add_precision(parser)
    parser.add_argument("--variant", nargs="*", default=["paper", "torchvision"], choices=["paper", "torchvision"])
    parser.add_argument("--batch-size", nargs="*", type=at_least_one, help="default: 32 128, on a GPU 128 256 512 1024")
    parser.add_argument("--image-size", type=at_least_one, default=224)
    parser.add_argument("--steps", type=at_least_one, default=9, help="timed steps of each, after two to warm up")
    parser.add_argument("--threads", type=at_least_one, default=cores(), help="of every process; default: the cores there are")
    parser.add_argument("--small", action="store_true", help="small work and the time of import in place of AlexNet")
    options = parser.parse_args()
    precision = chosen_precision(parser, options)

    # minidl, which measures the matrix product in this process, asks for its threads when it first needs them.
    os.environ.update(environment(options.threads))
    warn_if_busy()
    pythons = interpreters(options.against)
    if options.small:
        small_work(pythons, options.threads, options.steps)
    else:
        batches = options.batch_size or BATCHES[canonical_device(options.device).partition(":")[0]]
        settings = {"size": options.image_size, "device": options.device, "threads": options.threads, "precision": precision}
        alexnet(pythons, options.variant, batches, settings, options.steps)


def alexnet(pythons: dict[str, str], variants: list[str], batches: list[int], settings: dict[str, Any], rounds: int) -> None:
    size, device, precision = settings["size"], settings["device"], settings["precision"]
    images, labels = real_images(max(batches), size)
    print(f"{'variant':12}{'batch':>5}  {'framework':12}{'forward':>9}{'backward':>9}{'update':>8}{'step':>9}", end="")
    print(f"{'images/s':>9}{'infer/s':>9}{'peak GB':>9}{'share':>7}")
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "images.npz")
        for variant in variants:
            able = {n: p for n, p in pythons.items() if n != "dezero" or (variant, device) == ("torchvision", "cpu")}
            operations = step_operations(variant, size)
            for batch in batches:
                np.savez(file, images=images[:batch], labels=labels[:batch])
                before = matrix_product_rate(device, precision)
                turns = take_turns("alexnet", able, {"variant": variant, "images": file, **settings}, rounds)
                after = matrix_product_rate(device, precision)
                report(f"{variant:12}{batch:5}", batch, turns, batch * operations / max(before, after))
                print(
                    f"{'':19}matrix product in {precision}, before and after: {before / 1e9:.0f}, {after / 1e9:.0f} GFLOP/s",
                    flush=True,
                )


def step_operations(variant: str, image_size: int) -> float:
    """Of a training step, for one image: those of the direct convolutions, whatever a framework computes in their place.

    minidl's Winograd convolutions, on a CPU, and cuDNN's make do with a fraction of them: so the share may pass 100 %.
    """
    table = counts.layers(models.AlexNet(variant, image_size=image_size), image_size, 1)
    return sum(layer.forward.operations + layer.backward.operations for layer in table)


def report(label: str, batch: int, turns: dict[str, Turns], floor: float) -> None:
    """floor: the seconds that a step's operations would take at the rate of the matrix product."""
    for name, m in {n: medians(t) for n, t in turns.items()}.items():
        f, b, u, step, _ = (1e3 * m[t] for t in TIMES)
        print(
            f"{label}  {name:12}{f:9.1f}{b:9.1f}{u:8.1f}{step:9.1f}{batch / m['step']:9.1f}{batch / m['infer']:9.1f}"
            f"{m['peak'] / 1e9:9.2f}{floor / m['step']:7.0%}"
        )
    for name in list(turns)[1:]:
        r = ratios(turns["minidl"], turns[name])
        f, b, u, step, infer = (r[t] for t in TIMES)
        print(f"{name + ' / minidl':>31}{f:9.2f}{b:9.2f}{u:8.2f}{step:9.2f}{'':9}{infer:9.2f}{r['peak']:9.2f}")


def small_work(pythons: dict[str, str], threads: int, rounds: int) -> None:
    able = {name: python for name, python in pythons.items() if name in small.FRAMEWORKS}
    turns = take_turns("small", able, {"threads": threads}, rounds)
    each = {name: medians(t) for name, t in turns.items()}
    print(f"{'framework':20}{'step of 784-128-10':>20}{'1,000 additions':>18}{'import':>10}")
    for name, python in able.items():
        network, additions = (each[name][part] / small.REPEAT[part] for part in small.REPEAT)
        print(f"{name:20}{1e6 * network:17.0f} us{1e3 * additions:15.2f} ms{1e3 * import_time(name, python):7.0f} ms")
    for name in list(able)[1:]:
        r = ratios(turns["minidl"], turns[name])
        print(f"{name + ' / minidl':20}{r['network']:20.2f}{r['additions']:18.2f}")


def import_time(package: str, python: str) -> float:
    """Seconds that `import package` takes in a fresh process, median of five; its files are in the system's cache by then."""
    program = f"import time; start = time.perf_counter(); import {package}; print(time.perf_counter() - start)"
    runs = [
        subprocess.run([python, "-c", program], capture_output=True, text=True, check=True, env=environment(1)) for _ in range(6)
    ]
    return median(float(run.stdout) for run in runs[1:])


if __name__ == "__main__":
    main_or_exit(main)
