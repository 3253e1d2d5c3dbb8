"""Time AlexNet's training step and inference, alone or against PyTorch, taking turns step by step in one run.

    python -m benchmarks.alexnet_step
    python -m benchmarks.alexnet_step --against torch --variant paper --batch-size 128

Each framework has a process of its own and works while the others wait, so that they share the machine's good and bad moments;
the figures are medians. PyTorch is found in this environment or, with --python, in another one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.frameworks import FRAMEWORKS

PARTS = ["forward", "backward", "update", "infer"]


def work(name: str, settings: list[Any]) -> None:
    """The life of a framework's process: a line on standard input asks for one step, the answer is its times in seconds."""
    framework: Any = FRAMEWORKS[name](*settings)
    print("ready", flush=True)
    for _ in sys.stdin:
        times = {}
        for part in PARTS:
            framework.wait()
            start = time.perf_counter()
            getattr(framework, part)()
            framework.wait()
            times[part] = time.perf_counter() - start
        times["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(times), flush=True)


def start(name: str, python: str, settings: list[Any]) -> subprocess.Popen[str]:
    command = [python, "-m", "benchmarks.alexnet_step", "--work", name, json.dumps(settings)]
    # The other environment may lack minidl and what it imports; its own NumPy comes first on the path.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        sys.exit(f"{name} did not start with {python}; see its message above")
    return process


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("step\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def matrix_product_rate() -> float:
    """Multiply-accumulates a second of NumPy's single-precision matrix product: the ceiling."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), dtype=np.float32)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2048**3 / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or gpu")
    parser.add_argument("--against", nargs="*", default=[], choices=[n for n in FRAMEWORKS if n != "minidl"])
    parser.add_argument("--variant", nargs="*", default=["paper", "torchvision"])
    parser.add_argument("--batch-size", nargs="*", type=int, default=[32])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each, after two to warm up")
    parser.add_argument("--python", default=sys.executable, help="the interpreter in whose environment the others are")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work[0], json.loads(options.work[1]))

    rate = matrix_product_rate() if options.device == "cpu" else None
    if rate:
        print(f"matrix product: {2 * rate / 1e9:.0f} GFLOP/s")
    print("variant      batch             forward  backward  update     step  images/s  inference  peak GB")
    for variant in options.variant:
        for batch in options.batch_size:
            names = ["minidl", *options.against]
            settings = [variant, batch, options.image_size, options.device]
            processes = {n: start(n, sys.executable if n == "minidl" else options.python, settings) for n in names}
            times: dict[str, list[dict[str, float]]] = {n: [] for n in names}
            for i in range(options.steps + 2):
                for n in names:
                    answer = ask(processes[n])
                    if i >= 2:
                        times[n].append(answer)
            for process in processes.values():
                process.communicate()
            report(variant, batch, times)


def report(variant: str, batch: int, times: dict[str, list[dict[str, float]]]) -> None:
    medians = {n: {key: median(t[key] for t in all_times) for key in all_times[0]} for n, all_times in times.items()}
    for name, m in medians.items():
        step = m["forward"] + m["backward"] + m["update"]
        print(
            f"{variant:12}{batch:6}  {name:8}{m['forward']:9.3f}{m['backward']:10.3f}{m['update']:8.3f}{step:9.3f}"
            f"{batch / step:10.1f}{batch / m['infer']:11.1f}{m['peak_bytes'] / 1e9:9.2f}"
        )
    for name in list(medians)[1:]:
        steps = [[sum(t[p] for p in PARTS[:3]) for t in times[n]] for n in ("minidl", name)]
        step_ratio = median(theirs / ours for ours, theirs in zip(*steps, strict=True))
        infer_ratio = median(b["infer"] / a["infer"] for a, b in zip(times["minidl"], times[name], strict=True))
        print(f"{'':20}minidl / {name}, images a second: training {step_ratio:.2f}, inference {infer_ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
