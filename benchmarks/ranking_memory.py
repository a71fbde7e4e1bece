"""What it takes to rank a CSV of 2,000 tasks and 41 methods: seconds and peak memory.

python benchmarks/ranking_memory.py [TASKS METHODS]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(path: Path, tasks: int, methods: int) -> None:
    """Write errors, the first method's as ``last-value``."""
    errors = np.exp(np.random.default_rng(0).normal(size=(methods, tasks)))
    names = ["last-value", *(f"method-{i}" for i in range(1, methods))]
    lines = [
        f"{name},task-{t},{error!r}"
        for name, row in zip(names, errors.tolist(), strict=True)
        for t, error in enumerate(row)
    ]
    path.write_text("method,task,error\n" + "\n".join(lines) + "\n", encoding="utf-8")


def main(tasks: int = 2000, methods: int = 41) -> None:
    """Rank in a process of its own and print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "errors.csv"
        write(path, tasks, methods)
        code = "from weightcast.bench.cli import main; main()"
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, "leaderboard", path], check=True, capture_output=True
        )
        seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{tasks:,} tasks, {methods} methods: {seconds:.1f} s, of them "
        f"{used.ru_utime + used.ru_stime:.1f} s computing; {used.ru_maxrss / 1024:.0f} MiB at most"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
