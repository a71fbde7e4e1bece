"""Kill `weightcast run` at random moments, again and again, and count what that costs.

The main process alone gets SIGKILL; its workers must end by themselves. The same command follows,
and so on until the run is done; then another folder begins. Methods of a plugin write down every
forecast that they finish, so that what runs twice is seen by those who do it. Kills are spread over
the time that a run still takes to its end.

Prints a table. The exit status is 1 if anything in it that must be 0 is not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from weightcast.bench.engine.store.store import NAME
from weightcast.datasets import get_dataset

METHODS = ("first-plugin", "second-plugin", "third-plugin")
DATASET, ROTATIONS, CONTEXT = "linreg-sgd", 8, 10
#: Seconds within which a killed run's workers must be gone.
GONE = 3.0

SUITE = f"""
name = "kills"
datasets = ["{DATASET}"]
methods = ["last-value"]
contexts = [{CONTEXT}]
rotations = {ROTATIONS}
tiers = ["weights"]
jobs = 2
"""

PLUGIN = '''
import os, sys, time
from hashlib import sha256

import numpy as np
from weightcast.methods import CoordinateForecaster, register


def drawn():
    """Whether a forecast is for a picture of the report and no cell's."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "draw_forecast":
        frame = frame.f_back
    return frame is not None


def log(name, context):
    run = sha256(np.ascontiguousarray(context).tobytes()).hexdigest()
    line = f"{os.environ['KILL_FOLDER']} {name} {run}\\n"
    file = os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
'''

METHOD = '''

@register("{name}")
class Method{number}(CoordinateForecaster):
    """Repeat the last snapshot, and write it down."""

    def fit(self, train, validation, task):
        time.sleep(0.03)
        return self

    def predict_block(self, context, task):
        forecast = np.repeat(context[:, -1:], len(task.horizons), axis=1)
        if not drawn():
            time.sleep(0.004)
            log("{name}", context)
        return forecast
'''

Cell = tuple[str, int]  # method, run


@dataclass
class Count:
    """What is counted over all kills."""

    kills: int = 0
    folders: int = 0
    lost: int = 0
    twice: int = 0
    duplicates: int = 0
    missing: int = 0
    orphans: int = 0
    tracebacks: int = 0
    refused: int = 0
    broken: int = 0
    slowest_end: float = 0.0
    landed: Counter[str] = field(default_factory=Counter)

    def rows(self) -> list[tuple[str, str, bool]]:
        """Return a name, a figure and whether it must be 0, row by row."""
        zero = {
            "finished cells lost": self.lost,
            "finished cells run twice": self.twice,
            "duplicates in the final tables": self.duplicates,
            "cells missing from the final tables": self.missing,
            f"workers left after {GONE:g} s": self.orphans,
            "tracebacks": self.tracebacks,
            "commands that failed by themselves": self.refused,
            "stores that are not whole": self.broken,
        }
        return [
            ("kills", str(self.kills), False),
            *((f"  {moment}", str(self.landed[moment]), False) for moment in MOMENTS),
            ("runs brought to their end", str(self.folders), False),
            ("longest until all workers were gone", f"{self.slowest_end:.1f} s", False),
            *((name, str(count), True) for name, count in zero.items()),
        ]


MOMENTS = ("before there is a store", "before a new cell is stored", "between cells", "at the end")


class Killer:
    """Runs the command in one folder after the other and kills it.

    Parameters
    ----------
    folder : Path
        For everything.
    seed : int
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._random = folder, random.Random(seed)
        self._log = folder / "log.txt"
        self._log.touch()
        self._suite, self._plugin = folder / "kills.toml", folder / "plugin.py"
        self._suite.write_text(SUITE, encoding="utf-8")
        self._plugin.write_text(
            PLUGIN + "".join(METHOD.format(name=n, number=i) for i, n in enumerate(METHODS)),
            encoding="utf-8",
        )
        self._runs = _runs()
        self._cells = {(method, run) for method in METHODS for run in self._runs.values()}
        self._pace = 1.2
        self.count = Count()

    def kill(self, kills: int) -> None:
        """Kill until that many kills are done, and bring the last run to its end."""
        self._whole_run("cold")  # the first compiles and fills the system's caches
        start, whole = self._whole_run("whole")
        print(f"one run: {whole:.1f} s, {start:.1f} s of it before the first cell", flush=True)
        while self.count.kills < kills:
            out = self._folder / f"out-{self.count.folders}"
            stored: set[str] = set()
            while not self._attempt(out, stored, start, whole, self.count.kills < kills):
                pass
            self.count.folders += 1
            keys, _, repeated = _read(out)
            self.count.lost += len(stored - set(keys))
            self.count.duplicates += repeated
            self.count.missing += len(self._cells - set(keys.values()))

    def _whole_run(self, name: str) -> tuple[float, float]:
        """Measure how long a run that nobody kills takes, to its first cell and to its end."""
        began = time.perf_counter()
        first, length = None, self._log.stat().st_size
        with self._started(self._folder / name) as process:
            while process.poll() is None:
                time.sleep(0.01)
                if first is None and self._log.stat().st_size > length:
                    first = time.perf_counter() - began
        if process.returncode or first is None:
            sys.exit(self._said(name))
        return first, time.perf_counter() - began

    def _attempt(self, out: Path, stored: set[str], start: float, whole: float, kill: bool) -> bool:
        """Run the command once, killed or not; return whether it came to its end."""
        before, _, _ = _read(out)
        position = self._log.stat().st_size
        left = 1.0 - len(before) / len(self._cells)
        seconds = self._random.uniform(0.0, self._pace * (start + (whole - start) * left))
        with self._started(out) as process:
            try:
                process.wait(seconds if kill else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self._see_workers_end()
        killed = process.returncode == -signal.SIGKILL
        # A busy machine changes its pace: about one run in four is to come to its end.
        self._pace *= 1.05 if killed else 0.85
        said = self._said(out.name)
        self.count.tracebacks += said.count("Traceback")
        after, whole_store, _ = _read(out)
        self.count.broken += not whole_store
        self.count.twice += len(self._forecast(out, position) & set(before.values()))
        if killed:
            self.count.kills += 1
            self.count.landed[self._moment(out, before, after)] += 1
            stored |= set(after)
            if self.count.kills % 10 == 0:
                print(f"{self.count.kills} kills, {self.count.folders} runs done", flush=True)
        elif process.returncode:
            self.count.refused += 1
            print(f"status {process.returncode}: {said}", flush=True)
            if not kill:
                return True  # it would fail for ever
        return not killed and process.returncode == 0

    def _started(self, out: Path) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-c", "from weightcast.bench.cli import main; main()", "run",
            "--suite", str(self._suite), "--out", str(out), "--plugin", str(self._plugin),
            "--methods", ",".join(METHODS),
        ]  # fmt: skip
        environment = {"KILL_FOLDER": out.name, "KILL_LOG": str(self._log)}
        with (self._folder / f"{out.name}.err").open("wb") as errors:
            return subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, **environment},
            )

    def _said(self, name: str) -> str:
        return (self._folder / f"{name}.err").read_text(encoding="utf-8", errors="replace")

    def _see_workers_end(self) -> None:
        began = time.monotonic()
        while left := self._workers():
            if time.monotonic() - began > GONE:
                self.count.orphans += len(left)
                for process in left:  # ours, by their environment
                    process.kill()
                break
            time.sleep(0.05)
        self.count.slowest_end = max(self.count.slowest_end, time.monotonic() - began)

    def _workers(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("KILL_LOG") == str(self._log)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _forecast(self, out: Path, position: int) -> set[Cell]:
        """Return what was forecast for a folder since the log was that long."""
        with self._log.open("rb") as log:
            log.seek(position)
            lines = [line.split() for line in log.read().decode().splitlines()]
        return {(method, self._runs[run]) for name, method, run in lines if name == out.name}

    def _moment(self, out: Path, before: dict[str, Cell], after: dict[str, Cell]) -> str:
        if not (out / NAME).exists():
            return MOMENTS[0]
        if len(after) == len(self._cells):
            return MOMENTS[3]
        return MOMENTS[1] if len(after) == len(before) else MOMENTS[2]


def _runs() -> dict[str, int]:
    """Return the run that each hash of a context stands for."""
    dataset = get_dataset(DATASET)
    found = {}
    for seed in dataset.seeds:
        run = dataset.run(seed)
        (tensor,) = run.tensors
        context = np.ascontiguousarray(run.read(tensor, range(CONTEXT + 1)).T)
        found[hashlib.sha256(context.tobytes()).hexdigest()] = seed
    return found


def _read(out: Path) -> tuple[dict[str, Cell], bool, int]:
    """Return a store's cells by key, whether it is whole, and how many rows are there twice."""
    path = out / NAME
    if not path.exists():
        return {}, True, 0
    with closing(sqlite3.connect(path)) as database:
        whole = database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return {}, whole, 0  # killed before its tables were made
        rows = database.execute(
            "SELECT cells.key, fits.method, cells.run FROM cells JOIN fits ON cells.fit = fits.key"
        ).fetchall()
    keys = {key: (method, run) for key, method, run in rows}
    return keys, whole, len(rows) - len(set(keys.values()))


def main() -> None:
    """Kill, count, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        killer = Killer(Path(folder), options.seed)
        killer.kill(options.kills)
    rows = killer.count.rows()
    for name, figure, _ in rows:
        print(f"{name:38} {figure:>8}")
    print(f"{'seconds':38} {time.perf_counter() - began:8.0f}")
    if any(must_be_zero and figure != "0" for _, figure, must_be_zero in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
