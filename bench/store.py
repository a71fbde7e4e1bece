"""The result store: one SQLite file in the result folder, written by the runner alone.

A fit and its cells go in as one transaction, so a killed run leaves whole fits or nothing of them.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weightcast.bench.cell import CellRow
from weightcast.bench.plan import Fit
from weightcast.datasets import InputError
from weightcast.datasets.gates import Gate

NAME = "results.sqlite"
_APPLICATION = 0x57435354  # "WCST": tells our files from other SQLite files
_VERSION = 2

_SCHEMA = """
CREATE TABLE fits (
    key TEXT PRIMARY KEY, suite TEXT, method TEXT, params TEXT, chosen TEXT, trials TEXT,
    dataset TEXT, trained_on TEXT, track TEXT, split TEXT, context INTEGER, rotation INTEGER,
    status TEXT, reason TEXT, traceback TEXT, fit_seconds REAL, fit_cpu_seconds REAL,
    fit_memory_bytes INTEGER, training_runs_seconds REAL, parameters INTEGER,
    flops_per_coordinate REAL, diagnostics TEXT, jobs INTEGER, threads INTEGER,
    UNIQUE (method, params, dataset, trained_on, track, split, context, rotation)
);
CREATE TABLE gates (
    dataset TEXT, name TEXT, passed INTEGER, value REAL, limit_ REAL, meaning TEXT, data TEXT,
    PRIMARY KEY (dataset, name)
);
CREATE TABLE cells (
    fit TEXT NOT NULL REFERENCES fits (key) ON DELETE CASCADE, run INTEGER, tier TEXT,
    horizon_set TEXT, status TEXT, reason TEXT, traceback TEXT, coverage REAL,
    coordinates INTEGER, metrics TEXT, curve TEXT, predict_seconds REAL, predict_cpu_seconds REAL,
    peak_memory_bytes INTEGER, evaluations INTEGER,
    PRIMARY KEY (fit, run, tier, horizon_set)
);
CREATE TABLE examples (
    dataset TEXT, context INTEGER, method TEXT, params TEXT, content TEXT,
    PRIMARY KEY (dataset, context, method, params)
);
"""

# Later than the others, so a folder written before it gets it when it is next written to.
_SHARING = """
CREATE TABLE IF NOT EXISTS sharing (
    dataset TEXT, trained_on TEXT, track TEXT, split TEXT, traits TEXT,
    PRIMARY KEY (dataset, trained_on, track, split)
);
"""


@dataclass
class FitResult:
    """What one fit gave: its own record and its cells' rows.

    ``examples`` maps ``"truth"`` and ``"forecast"`` to what the report draws of one run;
    ``seconds`` is what all of it took, for the estimate of the time left.
    """

    fit: Fit
    cells: list[CellRow]
    status: str = "ok"
    reason: str = ""
    traceback: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    fit_seconds: float | None = None
    fit_cpu_seconds: float | None = None
    fit_memory_bytes: int | None = None
    training_runs_seconds: float = 0.0
    parameters: int | None = None
    flops_per_coordinate: float | None = None
    diagnostics: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1
    threads: int = 1
    examples: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Store:
    """An open result store.

    Parameters
    ----------
    folder : Path
        The result folder.
    create : bool
        Make the store where there is none yet.

    Raises
    ------
    InputError
        If the folder holds no store and is not to get one, holds something else, cannot be written
        to, or was written by another version.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        path = folder / NAME
        if create:
            _prepare(folder)
        elif not path.is_file():
            raise InputError(
                f"{folder} is not a result folder: it has no {NAME}; "
                f"make one with: weightcast run --suite quick --out {folder}"
            )
        # SQLite takes a file of a few bytes for an empty database and would write over it.
        if path.is_file() and _head(path) not in (b"", b"SQLite format 3\0"):
            raise InputError(f"{path} is not a Weightcast store; name another folder")
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA foreign_keys = ON")
            application = self._db.execute("PRAGMA application_id").fetchone()[0]
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application == 0 and tables == 0 and create:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(
                    f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION};"
                    f"PRAGMA user_version = {_VERSION}; COMMIT;"
                )
                version = _VERSION
            elif application != _APPLICATION:
                raise InputError(f"{path} is not a Weightcast store; name another folder")
            if create and version == _VERSION:
                self._db.execute(_SHARING)
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be used as a store: {error}") from None
        if version != _VERSION:
            raise InputError(
                f"{path} has store version {version}, this is version {_VERSION}; "
                "use another folder, or the Weightcast that wrote it"
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    @property
    def suite(self) -> str | None:
        """The suite whose results are here; None while there are none."""
        row = self._db.execute("SELECT suite FROM fits LIMIT 1").fetchone()
        return str(row[0]) if row else None

    def finished(self) -> set[str]:
        """Return the keys of all fits that are here, failed ones among them."""
        return {row[0] for row in self._db.execute("SELECT key FROM fits")}

    def drop_other_splits(self, plan: Sequence[Fit]) -> None:
        """Drop results of methods in the plan whose runs were cut into other folds.

        With another number of rotations a run is tested in another fold; kept side by side, both
        results of that run would count.
        """
        places = {_place(fit) for fit in plan}
        tested = {(*_place(fit), fit.split.rotation): sorted(fit.split.test) for fit in plan}
        other = []
        for row in self.rows(
            "SELECT key, method, params, dataset, trained_on, track, split, context, rotation "
            "FROM fits"
        ):
            key, *place, rotation = row.values()
            runs = self._db.execute("SELECT DISTINCT run FROM cells WHERE fit = ?", (key,))
            if tuple(place) in places and tested.get((*place, rotation)) != sorted(
                run[0] for run in runs
            ):
                other.append((key,))
        self._db.executemany("DELETE FROM fits WHERE key = ?", other)

    def failed_cells(self, keys: set[str]) -> int:
        """Count the cells of these fits that have a row without a result."""
        failed = self._db.execute("SELECT DISTINCT fit, run FROM cells WHERE status != 'ok'")
        return sum(row[0] in keys for row in failed)

    def add(self, result: FitResult) -> None:
        """Write a fit and its cells, in place of any older result for the same place."""
        fit = result.fit
        values = {
            "key": fit.key,
            "suite": fit.suite,
            "method": fit.method,
            "params": fit.params,
            "chosen": json.dumps(result.chosen, sort_keys=True),
            "trials": json.dumps(result.trials),
            "dataset": fit.place.dataset,
            "trained_on": fit.place.trained_on,
            "track": fit.place.track,
            "split": fit.place.split,
            "context": fit.context,
            "rotation": fit.split.rotation,
            "status": result.status,
            "reason": result.reason,
            "traceback": result.traceback,
            "fit_seconds": result.fit_seconds,
            "fit_cpu_seconds": result.fit_cpu_seconds,
            "fit_memory_bytes": result.fit_memory_bytes,
            "training_runs_seconds": result.training_runs_seconds,
            "parameters": result.parameters,
            "flops_per_coordinate": result.flops_per_coordinate,
            "diagnostics": json.dumps(result.diagnostics),
            "jobs": result.jobs,
            "threads": result.threads,
        }
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._insert("fits", [values])
            if fit.sharing:
                place = ("dataset", "trained_on", "track", "split")
                traits = {"traits": json.dumps(fit.sharing)}
                self._insert("sharing", [{name: values[name] for name in place} | traits])
            self._insert("cells", [_cell_values(fit.key, row) for row in result.cells])
            owner = {"truth": ("", ""), "forecast": (fit.method, fit.params)}
            self._insert(
                "examples",
                [
                    {
                        "dataset": fit.place.dataset,
                        "context": fit.context,
                        "method": owner[kind][0],
                        "params": owner[kind][1],
                        "content": json.dumps(content),
                    }
                    for kind, content in result.examples.items()
                ],
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def gates_of(self, dataset: str) -> str | None:
        """Return the hash of the data that a data set's gates were taken on, None before that."""
        found = self._db.execute("SELECT data FROM gates WHERE dataset = ? LIMIT 1", (dataset,))
        row = found.fetchone()
        return str(row[0]) if row else None

    def set_gates(self, dataset: str, data: str, gates: Sequence[Gate]) -> None:
        """Keep a data set's gates, in place of older ones."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM gates WHERE dataset = ?", (dataset,))
        self._insert(
            "gates",
            [
                {
                    "dataset": dataset,
                    "name": gate.name,
                    "passed": gate.passed,
                    "value": gate.value,
                    "limit_": gate.limit,
                    "meaning": gate.meaning,
                    "data": data,
                }
                for gate in gates
            ],
        )
        self._db.execute("COMMIT")

    def sharing(self) -> list[dict[str, Any]]:
        """Return what training and test runs share, a row a task without its context."""
        tables = self.rows("SELECT name FROM sqlite_master WHERE name = 'sharing'")
        return self.rows("SELECT * FROM sharing ORDER BY track, dataset, split") if tables else []

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Run a query and return its rows as dictionaries."""
        cursor = self._db.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            names = ", ".join(rows[0])
            marks = ", ".join(f":{name}" for name in rows[0])
            # OR REPLACE drops the row that held this place under an older key; its cells cascade.
            self._db.executemany(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", rows)


def _cell_values(key: str, row: CellRow) -> dict[str, Any]:
    values = asdict(row)
    metrics = {
        name: value
        for name, value in row.metrics.items()
        if not (isinstance(value, float) and math.isnan(value))
    }
    values |= {
        "fit": key,
        "metrics": json.dumps(metrics),
        "curve": json.dumps(row.curve),
    }
    return values


def _prepare(folder: Path) -> None:
    """Make the folder, or see that it is ours to write to; refuse anybody else's."""
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; name a folder for the results")
        if folder.is_dir() and not (folder / NAME).exists() and any(folder.iterdir()):
            raise InputError(
                f"{folder} holds other files and no {NAME}; name a new or empty folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"results cannot be written to {folder}: {error.strerror}") from None


def _place(fit: Fit) -> tuple[Any, ...]:
    """What a fit answers, whatever the fold."""
    place = fit.place
    return (
        fit.method, fit.params, place.dataset, place.trained_on, place.track, place.split,
        fit.context,
    )  # fmt: skip


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)
