"""Kill the verbs that write files at random moments, and count what that costs.

`record`, `import`, `merge`, `report` and `forecast` get SIGKILL, again and again in one folder,
until the same command comes to its end; then another folder begins. After each kill nothing
half-written may stand under a final name, and nothing that was finished may be gone. At the end the
folder holds what a run that nobody killed wrote, and nothing beside it. Every other folder of
`report` and `forecast` holds an older page or forecast at first, which stays until the new one is
whole.

Prints a table. The exit status is 1 if anything in it that must be 0 is not. `kill_and_resume.py`
does the same for `run`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

import psutil
import torch
from safetensors.numpy import load_file

from weightcast.bench.engine.store.store import NAME
from weightcast.datasets import get_dataset, open_trajectory
from weightcast.datasets.files.stacked import write_stacked

#: Seconds within which a killed command's workers must be gone.
GONE = 3.0
SET, SMALL = "digits-mlp-sgd", "killed-mlp"
CHECKPOINTS, WIDTH = 40, 400
SUITE = """
name = "kills"
datasets = ["linreg-sgd"]
methods = ["last-value", "last-two-line"]
contexts = [10]
rotations = 4
tiers = ["weights"]
jobs = 2
"""

PLUGIN = f"""
from weightcast.datasets import Recipe, RecordedDataSet, register_dataset

recipe = Recipe(
    name="{SMALL}", network="mlp", network_options={{"sizes": [64, 32, 10]}}, data="digits",
    optimizer="sgd", learning_rate=0.1, batch_size=64, steps=200, snapshot_every=10, measured=64,
)
register_dataset(
    RecordedDataSet("{SMALL}", tuple(range(4)), "killed", "digits", "BSD-3-Clause", recipe=recipe)
)
"""

#: Names of finished things in a folder, each with a mark of what it holds.
Found = dict[str, str]


@dataclass(frozen=True)
class Verb:
    """A verb that writes.

    Attributes
    ----------
    name : str
    arguments : callable
        Given the folder to write to.
    found : callable
        What a folder holds; raises where something is not whole.
    before : callable
        Puts an older product into a folder.
    """

    name: str
    arguments: Callable[[Path], list[object]]
    found: Callable[[Path], Found]
    before: Callable[[Path], object] | None = None


@dataclass
class Count:
    """What is counted over all kills of a verb; all but the first three must be 0."""

    kills: int = 0
    under_way: int = 0
    folders: int = 0
    half_written: int = 0
    lost: int = 0
    wrong_at_the_end: int = 0
    left_over: int = 0
    orphans: int = 0
    tracebacks: int = 0
    refused: int = 0


class Killer:
    """Runs one verb in one folder after the other and kills it.

    Parameters
    ----------
    verb : Verb
    folder : Path
        For everything.
    seed : int
    """

    def __init__(self, verb: Verb, folder: Path, seed: int) -> None:
        self._verb, self._folder, self._random = verb, folder, random.Random(seed)
        self._pace = 1.1
        self.count = Count()

    def kill(self, kills: int) -> Count:
        """Kill until that many kills are done, and bring the last folder to its end."""
        wanted, names, seconds = self._by_nobody()
        while self.count.kills < kills:
            out = self._new(f"{self._verb.name}-{self.count.folders}")
            if self._verb.before and self.count.folders % 2:
                self._verb.before(out)
            older = self._read(out)
            while not self._attempt(out, older, wanted, seconds, self.count.kills < kills):
                pass
            self.count.folders += 1
            self.count.wrong_at_the_end += self._read(out) != wanted
            self.count.left_over += len(_names(out) - names)
            shutil.rmtree(out)
        return self.count

    def _by_nobody(self) -> tuple[Found, set[str], float]:
        """Return what the verb writes where nobody kills it, and how long that takes."""
        for name in ("cold", "whole"):
            out = self._new(name)
            began = time.perf_counter()
            with self._started(out) as process:
                process.wait()
            if process.returncode:
                sys.exit(self._said())
        return self._verb.found(out), _names(out), time.perf_counter() - began

    def _attempt(self, out: Path, older: Found, wanted: Found, seconds: float, kill: bool) -> bool:
        """Run the command once, killed or not; return whether it came to its end."""
        before, names = self._read(out), _names(out)
        with self._started(out) as process:
            try:
                limit = self._random.uniform(0.0, self._pace * seconds)
                process.wait(limit if kill else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.count.orphans += self._orphans()
        self.count.tracebacks += "Traceback" in self._said()
        killed = process.returncode == -signal.SIGKILL
        # About one attempt in four is to come to its end, however busy the machine is.
        self._pace *= 1.05 if killed else 0.85
        after = self._read(out)
        self.count.lost += len(set(before) - set(after))
        for name, mark in after.items():
            self.count.half_written += mark not in (wanted.get(name), older.get(name))
        if killed:
            self.count.kills += 1
            self.count.under_way += _names(out) != names
        elif process.returncode:
            self.count.refused += 1
            print(f"{self._verb.name}, status {process.returncode}: {self._said()}", flush=True)
        return process.returncode == 0 or not (kill or killed)

    def _read(self, out: Path) -> Found:
        try:
            return self._verb.found(out)
        except Exception as error:
            print(f"{self._verb.name}: {error!r}", flush=True)
            return {"what cannot be read": "anything"}

    def _new(self, name: str) -> Path:
        out = self._folder / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return out

    def _started(self, out: Path) -> subprocess.Popen[bytes]:
        arguments = [self._verb.name, *map(str, self._verb.arguments(out))]
        main = "from weightcast.bench.cli import main; main()"
        with (self._folder / "said").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-c", main, *arguments],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, "KILL_FOLDER": str(self._folder)},
            )

    def _said(self) -> str:
        return (self._folder / "said").read_text(encoding="utf-8", errors="replace")

    def _orphans(self) -> int:
        """Wait for the killed command's workers to end; return how many did not, and end them."""
        deadline = time.monotonic() + GONE
        while left := [process for process in psutil.process_iter() if self._ours(process)]:
            if time.monotonic() > deadline:
                for process in left:
                    process.kill()
                return len(left)
            time.sleep(0.05)
        return 0

    def _ours(self, process: psutil.Process) -> bool:
        try:
            named = process.environ().get("KILL_FOLDER") == str(self._folder)
            return named and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _names(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*")}


def _weightcast(*arguments: object) -> None:
    main = "from weightcast.bench.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", main, *map(str, arguments)], check=True, capture_output=True
    )


def _runs(out: Path) -> Found:
    """Trajectories under final names."""
    paths = [path for path in out.rglob("*.safetensors") if not path.name.startswith(".")]
    return {path.name: open_trajectory(path).content_hash() for path in paths}


def _weights(out: Path) -> Found:
    """Forecasts under their final name."""
    found = {}
    for path in out.glob("[!.]*.safetensors"):
        digest = hashlib.sha256()
        for name, values in sorted(load_file(path).items()):
            digest.update(name.encode() + values.tobytes())
        found[path.name] = digest.hexdigest()
    return found


def _page(out: Path) -> Found:
    path = out / "report.html"
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    return {path.name: hashlib.sha256(text.encode()).hexdigest()}


def _results(out: Path) -> Found:
    """Cells of a merged store, and the suite beside it."""
    found, path = {}, out / NAME
    if path.exists():
        with closing(sqlite3.connect(path)) as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise ValueError(f"{path} is not whole")
            keys = sorted(key for (key,) in database.execute("SELECT key FROM cells"))
        found[NAME] = hashlib.sha256(repr(keys).encode()).hexdigest()
    if (out / "suite.toml").exists():
        found["suite.toml"] = hashlib.sha256((out / "suite.toml").read_bytes()).hexdigest()
    return found


def _checkpoints(folder: Path) -> Path:
    """Write a run's checkpoints, large enough for a kill to hit the copying of them."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(0)
    for step in range(CHECKPOINTS):
        state = {f"layer.{i}.weight": torch.randn(WIDTH, WIDTH, generator=draw) for i in range(4)}
        torch.save(state, folder / f"step_{step}.pt")
    return folder


def _parts(folder: Path) -> list[Path]:
    """Run two parts of a suite."""
    suite = folder / "kills.toml"
    suite.write_text(SUITE, encoding="utf-8")
    parts = [folder / "part-0", folder / "part-1"]
    for part, methods in zip(parts, ("last-value", "last-two-line"), strict=True):
        if not part.exists():
            _weightcast("run", "--suite", suite, "--out", part, "--methods", methods)
    return parts


def record(folder: Path) -> Verb:
    """Four short runs, two side by side."""
    plugin = folder / "plugin.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    what = [SMALL, "--seeds", "0-3", "--jobs", 2, "--plugin", plugin]
    return Verb("record", lambda out: [*what, "--out", out], _runs)


def import_(folder: Path) -> Verb:
    """A run of some megabytes a checkpoint."""
    source = _checkpoints(folder / "checkpoints")
    return Verb("import", lambda out: [source, "--out", out / "run.safetensors"], _runs)


def merge(folder: Path) -> Verb:
    """Two parts of a suite."""
    parts = _parts(folder)
    return Verb("merge", lambda out: [*parts, "--out", out], _results)


def report(folder: Path) -> Verb:
    """A page, in place of an older one in every other folder."""
    results = _parts(folder)[0]
    return Verb(
        "report",
        lambda out: [results, "--out", out / "report.html"],
        _page,
        lambda out: (out / "report.html").write_text("an older page", encoding="utf-8"),
    )


def forecast(folder: Path) -> Verb:
    """A forecast, in place of an older one in every other folder."""
    run, name = folder / "run.safetensors", "next.safetensors"
    write_stacked(get_dataset(SET).run(0), run)

    def arguments(method: str, out: Path) -> list[object]:
        return [run, "--method", method, "--horizon", 5, "--no-measure", "--out", out / name]

    return Verb(
        "forecast",
        lambda out: arguments("ols-line", out),
        _weights,
        lambda out: _weightcast("forecast", *arguments("last-value", out)),
    )


VERBS = {
    "record": record, "import": import_, "merge": merge, "report": report, "forecast": forecast,
}  # fmt: skip


def main() -> None:
    """Kill, count, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "work"
        work.mkdir()
        for verb in options.verbs:
            began = time.perf_counter()
            counts[verb] = Killer(VERBS[verb](Path(name)), work, options.seed).kill(options.kills)
            print(f"{verb}: {time.perf_counter() - began:.0f} s, {counts[verb]}", flush=True)
    print(f"{'':18}" + "".join(f"{verb:>10}" for verb in counts))
    for field in fields(Count):
        figures = [getattr(count, field.name) for count in counts.values()]
        print(f"{field.name.replace('_', ' '):18}" + "".join(f"{figure:10}" for figure in figures))
    free = {"kills", "under_way", "folders"}
    if any(
        getattr(c, f.name) for c in counts.values() for f in fields(Count) if f.name not in free
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
