"""The life of a framework's process: a line on standard input asks for one turn, the answer is its times in seconds, as JSON.

Started by `turns`, never by hand. This file must not import minidl, nor anything that does (see `frameworks`).
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import frameworks, small

WORK = {"alexnet": frameworks.FRAMEWORKS, "small": small.FRAMEWORKS}
STEP = ("forward", "backward", "update")


def seconds(framework: Any, *parts: str) -> float:
    framework.wait()
    start = time.perf_counter()
    for part in parts:
        getattr(framework, part)()
    framework.wait()
    return time.perf_counter() - start


def peak_bytes() -> float:
    """The most memory this process has held. Not getrusage's figure, in which the peak of the process that started it goes on."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return 1024.0 * int(found[1]) if found else float("nan")


def turn(framework: Any) -> dict[str, float]:
    times = {part: seconds(framework, part) for part in framework.parts}
    if "forward" in times:
        # On a GPU the host runs ahead of the device; waiting after each part would take that from the step, so it gets its own time.
        times["step"] = seconds(framework, *STEP) if framework.asynchronous else sum(times[part] for part in STEP)
    in_use = framework.device_bytes()
    return {**times, "peak": peak_bytes() if in_use is None else in_use}


def main(work: str, name: str, settings: str) -> None:
    framework: Any = WORK[work][name](**json.loads(settings))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(turn(framework)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
