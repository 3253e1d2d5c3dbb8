"""Frameworks that take turns: each in a process of its own, one working while the others wait, all with as many threads.

So they share the good and the bad moments of the machine, and two times measured one after the other can be compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

PEERS = {"torch": "torch", "torch-nchw": "torch", "dezero": "dezero"}  # name -> the package it needs
PAUSE = 0.05  # seconds: threads of OpenMP and OpenBLAS go on spinning for a while when their work is done
BUSY = 0.5

Turns = list[dict[str, float]]


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_if_busy() -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        print(f"warning: this machine is busy (load average {load:.1f}); the figures will be worse than it can do\n")


def environment(threads: int) -> dict[str, str]:
    """For every process the same: the threads of OpenMP (PyTorch; minidl goes by it too) and of the BLAS below."""
    path = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **count, "PYTHONPATH": os.pathsep.join(path)}


def interpreters(against: list[str]) -> dict[str, str]:
    """["torch", "dezero=path/to/python"] -> name: interpreter, minidl first. Raises ValueError where one cannot be had."""
    found = {"minidl": sys.executable}
    for entry in against:
        name, _, python = entry.partition("=")
        if name not in PEERS:
            raise ValueError(f"--against {name}: there is no such framework here; known are {', '.join(PEERS)}")
        found[name] = python or sys.executable
        try:
            tried = subprocess.run([found[name], "-c", f"import {PEERS[name]}"], capture_output=True, text=True)
            problem = tried.stderr.strip().rpartition("\n")[2] if tried.returncode else ""
        except OSError as error:
            problem = str(error)
        if problem:
            raise ValueError(
                f"--against {name}: {found[name]} cannot import {PEERS[name]} ({problem}). Peers are not installed with minidl; "
                f"name the interpreter of an environment that has it: --against {name}=path/to/bin/python"
            )
    return found


def take_turns(work: str, pythons: dict[str, str], settings: dict[str, Any], rounds: int, warm: int = 2) -> dict[str, Turns]:
    """The times of `rounds` turns of each framework, after `warm` ones that are not counted."""
    times: dict[str, Turns] = {name: [] for name in pythons}
    with ExitStack() as stack:
        processes = {}
        for name, python in pythons.items():
            command = [python, "-m", "benchmarks.worker", work, name, json.dumps(settings)]
            processes[name] = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(settings["threads"])
                )
            )
            if _line(name, processes[name]) != "ready":
                raise RuntimeError(f"{name} did not start with {python}; see its message above")
        for i in range(warm + rounds):
            for name, process in processes.items():
                time.sleep(PAUSE)
                assert process.stdin is not None
                process.stdin.write("turn\n")
                process.stdin.flush()
                answer = json.loads(_line(name, process))
                if i >= warm:
                    times[name].append(answer)
    return times


def _line(name: str, process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{name} stopped; see its message above")
    return line


def medians(turns: Turns) -> dict[str, float]:
    return {key: median(t[key] for t in turns) for key in turns[0]}


def ratios(ours: Turns, theirs: Turns) -> dict[str, float]:
    """How many times as much they need: of the ratios of neighbouring turns the median."""
    return {key: median(b[key] / a[key] for a, b in zip(ours, theirs, strict=True)) for key in ours[0]}
