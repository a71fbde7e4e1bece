"""Store, leaderboard, export and report over 100,000 cells: seconds and memory.

Run it in an environment that has Weightcast:

    python benchmarks/store_at_scale.py [--cells 100000]

Cells have both tiers, all metrics and an error curve, like real ones, with made-up numbers. Each
step is held to a multiple of the least that it could take, measured in the same run: for the store,
writing the same rows to a bare table in as many transactions; for what reads it, fetching all rows
and parsing their JSON. Exits 1 where a step takes more.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from weightcast.bench.engine.events import CellDone, Event, Fitted
from weightcast.bench.engine.records import CellRow, FitRecord
from weightcast.bench.engine.site import Site
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.fits import Fit
from weightcast.bench.plan.place import Place
from weightcast.bench.scoring.metrics import WEIGHT_METRICS
from weightcast.datasets.splits import Split

METHODS = ("last-value", "last-two-line", "ols-line", "damped-line", "lfd2", "lfd2-ols", "lfd-full",
           "dlinear", "nlinear", "ar1", "ar", "aitken", "exponential", "dmd", "rre", "lstm",
           "transformer", "patchtst", "introspection", "wnn")  # fmt: skip
RUNS, ROTATIONS, HORIZONS = 40, 4, 50
#: Rows of one fit's cells, in two tiers.
PER_FIT = 2 * RUNS // ROTATIONS
#: Times the floor that a step may take.
LIMITS = {"store": 20.0, "read the keys": 1.0, "leaderboard": 12.0, "export": 12.0, "report": 60.0}

_WEIGHTCAST = [sys.executable, "-c", "from weightcast.bench.cli import main; main()"]

SITE = Site("{}", jobs=2)


def main() -> int:
    """Fill a store, time what reads it, and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=100_000)
    cells: int = options.parse_args().cells
    folder = Path(tempfile.mkdtemp(prefix="weightcast-store-"))
    try:
        return _measure(folder, cells)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, cells: int) -> int:
    took = {"store": _timed(lambda: _fill(folder, cells))}
    with Store(folder) as store:
        took["read the keys"] = _timed(store.finished)
    path = folder / "results.sqlite"
    rows: list[tuple[object, ...]] = []
    reading = _timed(lambda: rows.extend(_read(path)))
    floors = dict.fromkeys(LIMITS, reading)
    floors["store"] = _timed(lambda: _write(folder / "bare.sqlite", rows))
    count, size = len(rows), path.stat().st_size / 2**20
    rows.clear()
    verbs = {
        "leaderboard": ["leaderboard", str(folder)],
        "export": ["export", str(folder), str(folder / "cells.parquet")],
        "report": ["report", str(folder), "--out", str(folder / "report.html")],
    }
    for name, arguments in verbs.items():
        run = [*_WEIGHTCAST, *arguments]
        took[name] = _timed(lambda run=run: subprocess.run(run, check=True, capture_output=True))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    print(f"{cells:,} cells, {count:,} rows, {size:,.0f} MiB on disk, peak {peak:,.0f} MiB")
    failed = False
    for name, seconds in took.items():
        ratio = seconds / floors[name]
        failed |= ratio > LIMITS[name]
        print(
            f"{name:14} {seconds:7.2f} s, {ratio:5.2f} times its floor of {floors[name]:.2f} s "
            f"(limit {LIMITS[name]:g})"
        )
    return int(failed)


def _read(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT * FROM cells").fetchall()
        names = [column[0] for column in db.execute("SELECT * FROM cells LIMIT 0").description]
    places = [names.index(name) for name in ("metrics", "curve")]
    for row in rows:
        for place in places:
            json.loads(row[place])
    return rows


def _write(path: Path, rows: list[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path)) as db:
        names = ", ".join(f"c{place}" for place in range(len(rows[0])))
        db.execute(f"CREATE TABLE bare ({names})")
        db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
        marks = ", ".join("?" * len(rows[0]))
        for first in range(0, len(rows), PER_FIT):
            db.executemany(f"INSERT INTO bare VALUES ({marks})", rows[first : first + PER_FIT])
            db.commit()


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _fill(folder: Path, cells: int) -> None:
    """Store cells fit by fit, one transaction each, as a run does."""
    random = np.random.default_rng(0)
    per_set = len(METHODS) * RUNS
    with Store(folder, create=True) as store:
        for number in range(-(-cells // per_set)):
            for method in METHODS:
                for rotation in range(ROTATIONS):
                    store.add(_events(f"set-{number}", method, rotation, random))


def _events(dataset: str, method: str, rotation: int, random: np.random.Generator) -> list[Event]:
    seeds = tuple(range(rotation, RUNS, ROTATIONS))
    key = f"{dataset}-{method}-{rotation}"
    fit = Fit(
        key=key, code="", suite="scale", method=method, params="{}",
        place=Place(dataset, dataset), context=10, split=Split(rotation, (), (), seeds),
        sample=128, seed=0, tuning=0, sampled=False, tiers=("weights", "function"),
        cells=tuple((seed, f"{key}-{seed}") for seed in seeds),
    )  # fmt: skip
    record = FitRecord(fit, fit_seconds=0.1, fit_cpu_seconds=0.1, site=SITE)
    events: list[Event] = [Fitted(record)]
    for seed in seeds:
        error = 1.0 if method == "last-value" else float(np.exp(0.3 * random.standard_normal()))
        shared = {
            "coverage": 1.0, "coordinates": 100_000, "predict_seconds": 0.01,
            "predict_cpu_seconds": 0.01, "peak_memory_bytes": 1, "network_seconds": 0.01,
            "scoring_seconds": 0.01, "cell_seconds": 0.04,
        }  # fmt: skip
        names = (*WEIGHT_METRICS, *(f"{name}_sample" for name in WEIGHT_METRICS))
        weights = CellRow(
            seed, "weights", metrics=dict.fromkeys(names, error),
            curve=(error * np.ones(HORIZONS)).tolist(), **shared,
        )  # fmt: skip
        kinds = ("train_loss", "test_loss", "loss_change", "steps_gained")
        labels = [f"{kind}_{at}" for at in ("h5", "h10", "h20", "last") for kind in kinds]
        function = CellRow(seed, "function", metrics=dict.fromkeys(labels, error), **shared)
        events.append(CellDone(fit, seed, [weights, function], SITE))
    return events


if __name__ == "__main__":
    sys.exit(main())
