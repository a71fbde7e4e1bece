"""Cells per second on a Dask cluster of one and two workers, beside local runs with as many.

Runs a suite of fits and cells with real work (`lfd2-grad` trains, `ar1` solves) in this machine's
processes and on a cluster of worker processes of this machine, then once more with a worker that is
killed half-way. Prints a table with the ratios to one local worker; exit status 1 where a run
lacks cells or its numbers are not those of the local run.

Run with `python benchmarks/cluster.py`; needs `weightcast[cluster]` and two idle cores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from distributed import Client, LocalCluster

from weightcast.bench.results.cells import COMPUTE
from weightcast.bench.results.tables import load_results

METHODS = ("lfd2-grad", "ar1", "ar", "lfd2-ols", "damped-line", "last-value")
SUITE = f"""
name = "cluster-benchmark"
datasets = ["digits-mlp-sgd", "linreg-sgd"]
methods = {list(METHODS)}
contexts = [10, 20]
rotations = 4
"""


def weightcast_run(suite: Path, out: Path, *options: str) -> float:
    """Run the suite in a process of its own; return its seconds."""
    code = "from weightcast.bench.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "--suite", str(suite), "--out", str(out)]
    began = time.perf_counter()
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def on_cluster(suite: Path, out: Path, workers: int, kill_after: float | None = None) -> float:
    """Run the suite on a fresh cluster, killing a worker after so many seconds."""
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as cluster:
        timer = None
        if kill_after is not None:
            with Client(cluster, set_as_default=False) as client:
                victim = next(iter(client.run(os.getpid).values()))
            timer = threading.Timer(kill_after, os.kill, (victim, signal.SIGKILL))
            timer.start()
        seconds = weightcast_run(suite, out, "--scheduler", cluster.scheduler_address)
        if timer is not None and timer.is_alive():
            timer.cancel()
            raise SystemExit("the run was over before its worker was to be killed")
    return seconds


def numbers(out: Path) -> pd.DataFrame:
    """Return what a result folder holds apart from what it took."""
    cells = load_results(out).cells.drop(columns=[*COMPUTE])
    columns = ["method", "dataset", "context", "tier", "horizon_set", "run"]
    return cells.sort_values(columns).reset_index(drop=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "suite.toml"
        suite.write_text(SUITE, encoding="utf-8")
        one = weightcast_run(suite, folder / "0", "--jobs", "1")
        runs: list[tuple[str, Callable[[Path], float]]] = [
            ("--jobs 2", lambda out: weightcast_run(suite, out, "--jobs", "2")),
            ("1 Dask worker", lambda out: on_cluster(suite, out, 1)),
            ("2 Dask workers", lambda out: on_cluster(suite, out, 2)),
            ("2, one killed half-way", lambda out: on_cluster(suite, out, 2, one / 4)),
        ]
        expected = numbers(folder / "0")
        cells = len(expected.drop_duplicates(["method", "dataset", "context", "run"]))
        rows = [("--jobs 1", one, True)]
        for place, (title, run) in enumerate(runs, start=1):
            out = folder / str(place)
            seconds = run(out)
            rows.append((title, seconds, expected.equals(numbers(out))))
    print(f"{cells} cells; load of the machine in the last minutes: {os.getloadavg()[1]:.1f}")
    print(f"{'':24}{'seconds':>9}{'cells/s':>9}{'ratio':>7}  numbers")
    for title, seconds, same in rows:
        said = "the same" if same else "NOT THE SAME"
        print(f"{title:24}{seconds:9.1f}{cells / seconds:9.1f}{one / seconds:7.2f}  {said}")
    sys.exit(0 if all(same for *_, same in rows) else 1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
