"""How long the command line takes to start, over an interpreter that does nothing.

    python benchmarks/start_up.py [--times 20]

Wall-clock and processor seconds, medians and minima, taken in turn so that a busy machine slows
all of them alike. A second `run` with nothing to do is timed on last value alone.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PASS = [sys.executable, "-P", "-c", "pass"]
WEIGHTCAST = [sys.executable, "-P", "-c", "from weightcast.bench.cli import main; main()"]


def timed(command: list[str]) -> tuple[float, float]:
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - began, processor


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        again = ["run", "--suite", "quick", "--methods", "last-value", "--datasets", "linreg-gd"]
        again += ["--out", str(Path(folder, "out"))]
        commands = {
            "python -c pass": PASS,
            **{
                f"weightcast {' '.join(verb[:2])}": [*WEIGHTCAST, *verb]
                for verb in (["--help"], ["list", "methods"], ["list", "datasets"], again)
            },
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for repeat in range(times + 1):
            for name, command in commands.items():
                if repeat:  # the first makes results and byte code
                    taken[name].append(timed(command))
                else:
                    timed(command)
    base = taken["python -c pass"]
    for name, pairs in taken.items():
        line = f"{name:24}"
        for which, what in ((0, "wall"), (1, "CPU")):
            for how in (statistics.median, min):
                seconds = how([pair[which] for pair in pairs])
                over = seconds / how([pair[which] for pair in base])
                line += f"  {what} {how.__name__} {seconds:6.3f} s, {over:5.1f} times"
        print(line)


if __name__ == "__main__":
    main()
