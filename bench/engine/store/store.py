"""The result store: one SQLite file in the result folder, written by one process alone.

A cell goes in whole or not at all: what workers told since the last time is one transaction. A
killed run leaves every cell that was stored, and nothing of the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from weightcast.bench.engine.events import Afterwards, CellDone, Event, Fitted, LoopDone
from weightcast.bench.engine.failure import NONE
from weightcast.bench.engine.records import CellRow, FitRecord
from weightcast.bench.engine.site import Site
from weightcast.bench.engine.store.cell_chunk import CellChunk, cell_chunks
from weightcast.bench.engine.store.schema import (
    add_seals,
    check_contents,
    check_head,
    check_schema,
    count_rows,
    is_empty,
    make_schema,
    seal_rows,
)
from weightcast.bench.engine.store.snapshot import snapshot
from weightcast.bench.engine.store.stored import (
    ExampleRecord,
    GateRecord,
    LoopRecord,
    MachineRecord,
    MethodRecord,
    SharingRecord,
    loads,
    not_ours,
)
from weightcast.bench.plan.fits import Fit
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.method_facts import MethodFacts, facts_of
from weightcast.datasets import InputError
from weightcast.datasets.admission.gates import Gate

NAME = "results.sqlite"
#: Held by whoever writes to the folder.
LOCK = ".lock"
_FIT_PLACE = (
    "method", "params", "dataset", "trained_on", "track", "split", "context", "rotation", "repeat",
)  # fmt: skip


Record = TypeVar("Record", bound=BaseModel)


class StoreFailed(Exception):
    """The store cannot be written to any more; what it holds is whole."""


class Store:
    """An open result store.

    Parameters
    ----------
    folder : Path
        The result folder.
    create : bool
        Make the store where there is none yet.
    read_only : bool
        Read a copy of the store as it stands; nothing in the folder is touched.

    Raises
    ------
    InputError
        If the folder holds no store and is not to get one, holds something else, is damaged,
        cannot be written to, or was written by another version.
    """

    def __init__(self, folder: Path, *, create: bool = False, read_only: bool = False) -> None:
        self._path = path = folder / NAME
        if create:
            prepare(folder)
        elif not path.is_file():
            into = "" if folder.exists() else f" --out {folder}"  # others' folders stay as they are
            raise InputError(
                f"{folder} is not a result folder: it has no {NAME}; "
                f"make one with: weightcast run --suite quick{into}"
            )
        with contextlib.ExitStack() as held:
            if path.exists():
                check_head(path)
            #: The file that is open: the store itself, or the copy of it that is read.
            self.source = held.enter_context(snapshot(path)) if read_only else path
            try:
                self._db = sqlite3.connect(self.source, isolation_level=None)
                held.callback(self._db.close)
                self._open(path, create)
            except sqlite3.Error as error:
                raise InputError(f"{path} cannot be used as a store: {error}") from None
            self._held = held.pop_all()

    def _open(self, path: Path, create: bool) -> None:
        # A stranger's schema must not call functions before it has been looked at.
        self._db.execute("PRAGMA trusted_schema = OFF")
        self._db.execute("PRAGMA cell_size_check = ON")
        self._db.execute("PRAGMA foreign_keys = ON")
        # A killed process loses nothing under it; a power cut may cost the last cells, and no more
        # than them.
        self._db.execute("PRAGMA synchronous = NORMAL")
        add_seals(self._db)
        if create and is_empty(self._db):
            make_schema(self._db)
        check_schema(self._db, path)
        check_contents(self._db, path)
        count_rows(self._db)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    @property
    def suite(self) -> str | None:
        """The suite whose results are here; None while there are none."""
        both = "SELECT suite FROM fits UNION ALL SELECT suite FROM loops LIMIT 1"
        row = self._db.execute(both).fetchone()
        return str(row[0]) if row else None

    def finished(self, *, timed: bool = False, retry: bool = False) -> set[str]:
        """Return the keys of all cells that are here.

        Parameters
        ----------
        timed : bool
            Only those that were timed, fit and forecast, while no other worker was at work.
        retry : bool
            Only those with a result.
        """
        query = "SELECT DISTINCT key FROM cells WHERE key IS NOT NULL"
        if timed:
            query += " AND jobs = 1 AND fit_jobs = 1"
        found = {row[0] for row in self._db.execute(query)}
        loops = "SELECT key FROM loops" + " WHERE jobs = 1" * timed
        found |= {row[0] for row in self._db.execute(loops)}
        if retry:
            without = (
                "SELECT key FROM cells WHERE status != 'ok' "
                "UNION SELECT key FROM loops WHERE status != 'ok'"
            )
            found -= {row[0] for row in self._db.execute(without)}
        return found

    def reasons_to_try_again(self) -> list[str]:
        """Return why cells are to be tried again that failed through no fault of their method."""
        query = "SELECT DISTINCT reason FROM cells WHERE key IS NULL ORDER BY reason"
        return [row[0] for row in self._db.execute(query)]

    def drop_other_splits(self, plan: Sequence[Fit]) -> None:
        """Drop results of methods in the plan whose runs were cut into other folds.

        With another number of rotations a run is tested in another fold; kept side by side, both
        results of that run would count.
        """
        places = {_place(fit) for fit in plan}
        tested = {(*_place(fit), fit.split.rotation): set(fit.split.test) for fit in plan}
        other = []
        for row in self.rows(
            "SELECT key, method, params, dataset, trained_on, track, split, context, rotation "
            "FROM fits"
        ):
            key, *place, rotation = row.values()
            runs = self._db.execute("SELECT DISTINCT run FROM cells WHERE fit = ?", (key,))
            # Fewer of them are a fit whose other cells are still to come.
            here = {run[0] for run in runs}
            if tuple(place) in places and not here <= tested.get((*place, rotation), set()):
                other.append((key,))
        with self._transaction():
            self._db.executemany("DELETE FROM fits WHERE key = ?", other)

    def statuses(self, keys: set[str]) -> dict[str, int]:
        """Count these cells by status; one with a failed row in any tier has that row's."""
        worst: dict[str, str] = {}
        both = "SELECT key, status FROM cells UNION ALL SELECT key, status FROM loops"
        for key, status in self._db.execute(both):
            if key in keys and worst.get(key, "ok") == "ok":
                worst[key] = status
        return dict(Counter(worst.values()))

    def add(self, events: Sequence[Event]) -> None:
        """Write what workers told, as one transaction.

        A fit takes the place of an older one with another key, whose cells go with it; cells take
        the place of older ones of the same fit, run and tier.

        Raises
        ------
        StoreFailed
            If it cannot be written; then nothing of it is.
        """
        with self._transaction():
            for event in events:
                if isinstance(event, Fitted):
                    self._add_fit(event.record)
                elif isinstance(event, CellDone):
                    self._add_cell(event)
                elif isinstance(event, Afterwards):
                    self._add_afterwards(event)
                elif isinstance(event, LoopDone):
                    self._add_loop(event.rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Keep what a block writes, or nothing of it."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            seal_rows(self._db)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreFailed(f"results cannot be written: {error}") from None
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # A full disk may have ended the transaction already, or forbid this too; closing does it.
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    def _add_fit(self, record: FitRecord) -> None:
        fit, why = record.fit, record.failure or NONE
        values = {
            "key": fit.key,
            "suite": fit.suite,
            "method": fit.method,
            "params": fit.params,
            "chosen": json.dumps(record.chosen, sort_keys=True),
            "trials": json.dumps(record.trials),
            "dataset": fit.place.dataset,
            "trained_on": fit.place.trained_on,
            "track": fit.place.track,
            "split": fit.place.split,
            "context": fit.context,
            "rotation": fit.split.rotation,
            "repeat": fit.repeat,
            "status": why.status,
            "reason": why.reason,
            "traceback": why.traceback,
            "fit_seconds": record.fit_seconds,
            "fit_cpu_seconds": record.fit_cpu_seconds,
            "fit_memory_bytes": record.fit_memory_bytes,
            "training_runs_seconds": record.training_runs_seconds,
            "parameters": record.parameters,
            "flops_per_coordinate": record.flops_per_coordinate,
            "diagnostics": json.dumps(record.diagnostics),
            **self._site(record.site),
            "seal": None,
        }
        older = " AND ".join(f"{name} = :{name}" for name in _FIT_PLACE)
        self._db.execute(f"DELETE FROM fits WHERE {older} AND key != :key", values)
        # An update, for a replaced row would take the cells that are here already with it.
        changes = ", ".join(f"{name} = excluded.{name}" for name in values if name != "key")
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        self._db.execute(
            f"INSERT INTO fits ({names}) VALUES ({marks}) "
            f"ON CONFLICT (key) DO UPDATE SET {changes}",
            values,
        )
        self._add_methods([(fit.method, fit.params)])
        if fit.sharing:
            place = {n: values[n] for n in ("dataset", "trained_on", "track", "split")}
            self._insert("sharing", [place | {"traits": json.dumps(fit.sharing)}])

    def _add_cell(self, done: CellDone) -> None:
        # Without its key the next run takes the cell for one that is missing.
        again = any(row.again for row in done.rows)
        key = None if again else dict(done.fit.cells)[done.run]
        self._db.execute("DELETE FROM cells WHERE fit = ? AND run = ?", (done.fit.key, done.run))
        shared = {"fit": done.fit.key, "key": key, **self._site(done.site)}
        shared |= self._fit_took(done.fit.key)
        self._insert("cells", [_cell_values(row) | shared for row in done.rows])

    def _fit_took(self, key: str) -> dict[str, Any]:
        """Return what the fit took that is here now: a cell keeps it if its fit is made anew."""
        cursor = self._db.execute(
            "SELECT fit_seconds, fit_cpu_seconds, fit_memory_bytes, jobs AS fit_jobs "
            "FROM fits WHERE key = ?",
            (key,),
        )
        names = [column[0] for column in cursor.description]
        return dict(zip(names, cursor.fetchone() or [None] * len(names), strict=True))

    def _add_afterwards(self, left: Afterwards) -> None:
        fit = left.fit
        if left.diagnostics is not None:
            self._db.execute(
                "UPDATE fits SET diagnostics = ?, seal = NULL WHERE key = ?",
                (json.dumps(left.diagnostics), fit.key),
            )
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
                for kind, content in left.examples.items()
            ],
        )

    def _add_methods(self, methods: Sequence[tuple[str, str]]) -> None:
        """Keep what methods say of themselves now, in place of what they said."""
        told = {at: facts for at in methods if (facts := facts_of(*at)) is not None}
        self._insert(
            "methods",
            [
                {"method": method, "params": params, "facts": facts.model_dump_json()}
                for (method, params), facts in told.items()
            ],
        )

    def _add_loop(self, rows: Sequence[LoopRow]) -> None:
        self._add_methods(sorted({(row["method"], row["params"]) for row in rows}))
        # A run with another key at the same place was made with other code or settings: it goes.
        self._insert(
            "loops",
            [
                {
                    **{name: value for name, value in row.items() if name != "again"},
                    "measured": json.dumps(row["measured"]),
                    "jumps": json.dumps(row["jumps"]),
                    "machine": self._machine(row["machine"]),
                }
                for row in rows
                if not row.get("again")  # it stays missing
            ],
        )

    def loops(self) -> list[LoopRow]:
        """Return the loop tier's runs, as `weightcast.bench.loop.training.run_loop` made them."""
        found = self.rows("SELECT * FROM loops ORDER BY dataset, method, params, accept, use, seed")
        self.check_rows("loops", LoopRecord, found)
        for row in found:
            row["measured"], row["jumps"] = json.loads(row["measured"]), json.loads(row["jumps"])
        return cast(list[LoopRow], found)

    def _site(self, site: Site) -> dict[str, Any]:
        return asdict(site) | {"machine": self._machine(site.machine)}

    def _machine(self, content: str) -> str:
        """Keep a machine's description once; return its name here."""
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._db.execute("INSERT OR IGNORE INTO machines VALUES (?, ?, NULL)", (name, content))
        return name

    def machines(self) -> list[dict[str, Any]]:
        """Return the machines that fits or cells here were made on, with how many cells each."""
        found = self.rows(
            "SELECT content, (SELECT count(DISTINCT fit || ' ' || run) FROM cells "
            "WHERE machine = machines.id) + "
            "(SELECT count(*) FROM loops WHERE machine = machines.id) AS cells "
            "FROM machines WHERE id IN "
            "(SELECT machine FROM cells UNION SELECT machine FROM fits "
            "UNION SELECT machine FROM loops) ORDER BY rowid"
        )
        described = [loads(row["content"]) for row in found]
        self.check_rows("machines", MachineRecord, described)
        return [
            machine | {"cells": row["cells"]} for machine, row in zip(described, found, strict=True)
        ]

    def gates(self) -> list[dict[str, Any]]:
        """Return every data set's admission gates, a row a gate."""
        found = self.rows("SELECT * FROM gates ORDER BY dataset, rowid")
        self.check_rows("gates", GateRecord, found)
        for gate in found:
            gate["limit"], gate["passed"] = gate.pop("limit_"), bool(gate["passed"])
            gate["value"] = math.nan if gate["value"] is None else gate["value"]  # NaN is NULL
        return found

    def examples(self) -> list[dict[str, Any]]:
        """Return what is drawn of one run a task, a row a method; content is parsed."""
        found = self.rows("SELECT * FROM examples ORDER BY dataset, context, method")
        self.check_rows("examples", ExampleRecord, found)
        return [row | {"content": json.loads(row["content"])} for row in found]

    def gates_of(self, dataset: str) -> str | None:
        """Return the hash of the data that a data set's gates were taken on, None before that."""
        found = self._db.execute("SELECT data FROM gates WHERE dataset = ? LIMIT 1", (dataset,))
        row = found.fetchone()
        return str(row[0]) if row else None

    def set_gates(self, dataset: str, data: str, gates: Sequence[Gate]) -> None:
        """Keep a data set's gates, in place of older ones."""
        with self._transaction():
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

    def sharing(self) -> list[dict[str, Any]]:
        """Return what training and test runs share, a row a task without its context."""
        found = self.rows("SELECT * FROM sharing ORDER BY track, dataset, split")
        self.check_rows("sharing", SharingRecord, found)
        return [row | {"traits": json.loads(row["traits"])} for row in found]

    def methods(self) -> dict[tuple[str, str], MethodFacts]:
        """Return what methods said of themselves when they were run, by name and parameters.

        Plain training's controls are not among them.
        """
        query = "SELECT * FROM methods ORDER BY method, params"
        return {
            (row["method"], row["params"]): found.facts
            for row, found in self.checked("methods", MethodRecord, query)
        }

    def check_rows(
        self, table: str, model: type[BaseModel], rows: Sequence[dict[str, Any]]
    ) -> None:
        """See that each row is as its model says; a store may be a stranger's.

        Raises
        ------
        InputError
            With the first one that is not.
        """
        for place, row in enumerate(rows, 1):
            try:
                model.model_validate(row)
            except ValidationError as error:
                raise not_ours(self._path, f"{table}, row {place}", error) from None

    def checked(
        self, table: str, model: type[Record], query: str
    ) -> Iterator[tuple[dict[str, Any], Record]]:
        """Run a query and yield its rows one after the other, as stored and as their model.

        Raises
        ------
        InputError
            With the first one that is not.
        """
        cursor = self._db.execute(query)
        names = [column[0] for column in cursor.description]
        for place, row in enumerate(cursor, 1):
            values = dict(zip(names, row, strict=True))
            values.pop("seal", None)
            try:
                found = model.model_validate(values)
            except ValidationError as error:
                raise not_ours(self._path, f"{table}, row {place}", error) from None
            yield values, found

    def cells(self, query: str) -> Iterator[CellChunk]:
        """Run a query for cells and yield them many at a time, checked.

        Raises
        ------
        InputError
            With the first row that is not as its model says.
        """
        return cell_chunks(self._db, self._path, query)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Run a query and return its rows as dictionaries, seals left out."""
        cursor = self._db.execute(query)
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in found:
            row.pop("seal", None)
        return found

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            names = ", ".join(rows[0])
            marks = ", ".join(f":{name}" for name in rows[0])
            self._db.executemany(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", rows)


def _cell_values(row: CellRow) -> dict[str, Any]:
    values = asdict(row)
    del values["again"]
    metrics = {
        name: value
        for name, value in row.metrics.items()
        if not (isinstance(value, float) and math.isnan(value))
    }
    return values | {"metrics": json.dumps(metrics), "curve": json.dumps(row.curve)}


def prepare(folder: Path) -> None:
    """Make the folder, or see that it is ours to write to; refuse anybody else's."""
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; name a folder for the results")
        # A run that was killed at its very beginning leaves its lock alone.
        others = {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else set()
        if others and NAME not in others:
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
