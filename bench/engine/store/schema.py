"""What a store must be: our tables and nothing else, every row as it was written.

A store may come from a stranger, or from a disk that fails. Its schema is held against ours word
for word, for a trigger or a view in it could change what is computed here. Every row carries a
seal, a checksum of its values as SQLite keeps them: a byte that changed does not become a number.
How many rows each table has is kept too: what somebody deleted is no run that only has to go on.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError

_APPLICATION = 0x57435354  # "WCST": tells our files from other SQLite files
_VERSION = 10
#: The first bytes of every SQLite file.
_MAGIC = b"SQLite format 3\0"

_TABLES = """
CREATE TABLE fits (
    key TEXT PRIMARY KEY, suite TEXT, method TEXT, params TEXT, chosen TEXT, trials TEXT,
    dataset TEXT, trained_on TEXT, track TEXT, split TEXT, context INTEGER, rotation INTEGER,
    repeat INTEGER, status TEXT, reason TEXT, traceback TEXT, fit_seconds REAL,
    fit_cpu_seconds REAL, fit_memory_bytes INTEGER, training_runs_seconds REAL, parameters INTEGER,
    flops_per_coordinate REAL, diagnostics TEXT, jobs INTEGER, threads INTEGER, machine TEXT,
    seal INTEGER,
    UNIQUE (method, params, dataset, trained_on, track, split, context, rotation, repeat)
);
CREATE TABLE gates (
    dataset TEXT, name TEXT, passed INTEGER, value REAL, limit_ REAL, meaning TEXT, data TEXT,
    seal INTEGER,
    PRIMARY KEY (dataset, name)
);
CREATE TABLE cells (
    fit TEXT NOT NULL REFERENCES fits (key) ON DELETE CASCADE, key TEXT, run INTEGER, tier TEXT,
    horizon_set TEXT, status TEXT, reason TEXT, traceback TEXT, coverage REAL,
    coordinates INTEGER, metrics TEXT, curve TEXT, predict_seconds REAL, predict_cpu_seconds REAL,
    peak_memory_bytes INTEGER, evaluations INTEGER, network_seconds REAL, scoring_seconds REAL,
    cell_seconds REAL, fit_seconds REAL, fit_cpu_seconds REAL, fit_memory_bytes INTEGER,
    fit_jobs INTEGER, jobs INTEGER, threads INTEGER, machine TEXT, seal INTEGER,
    PRIMARY KEY (fit, run, tier, horizon_set)
);
CREATE TABLE examples (
    dataset TEXT, context INTEGER, method TEXT, params TEXT, content TEXT, seal INTEGER,
    PRIMARY KEY (dataset, context, method, params)
);
CREATE TABLE loops (
    key TEXT PRIMARY KEY, suite TEXT, dataset TEXT, method TEXT, params TEXT, accept TEXT,
    use TEXT, optimizer TEXT, schedule TEXT, learning_rate REAL, pool_rate REAL, length REAL,
    horizon INTEGER, momentum REAL, seed INTEGER,
    seed_role TEXT, status TEXT, reason TEXT, traceback TEXT, measured TEXT, jumps TEXT,
    step_seconds REAL, forward_seconds REAL, fit_seconds REAL, fit_steps INTEGER, seconds REAL,
    jobs INTEGER, threads INTEGER, machine TEXT, seal INTEGER,
    UNIQUE (
        dataset, method, params, accept, use, optimizer, schedule, learning_rate, length, horizon,
        momentum, seed
    )
);
CREATE TABLE machines (id TEXT PRIMARY KEY, content TEXT, seal INTEGER);
CREATE TABLE sharing (
    dataset TEXT, trained_on TEXT, track TEXT, split TEXT, traits TEXT, seal INTEGER,
    PRIMARY KEY (dataset, trained_on, track, split)
);
CREATE TABLE methods (
    method TEXT, params TEXT, facts TEXT, seal INTEGER, PRIMARY KEY (method, params)
);
CREATE TABLE counts (name TEXT PRIMARY KEY, count INTEGER, seal INTEGER);
"""

#: What holds results.
TABLES = ("fits", "gates", "cells", "examples", "loops", "machines", "sharing", "methods")

# What is not sealed yet is found without looking at every row.
_SEALED = (*TABLES, "counts")
_INDEXES = "".join(
    f"CREATE INDEX unsealed_{table} ON {table} (seal) WHERE seal IS NULL;\n" for table in _SEALED
)
_NO_ROWS = "".join(
    f"INSERT INTO counts VALUES ('{table}', 0, seal_of('{table}', 0));\n" for table in TABLES
)


def make_schema(db: sqlite3.Connection) -> None:
    """Turn an empty database into a store."""
    add_seals(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        f"BEGIN; {_TABLES} {_INDEXES} {_NO_ROWS} PRAGMA application_id = {_APPLICATION};"
        f"PRAGMA user_version = {_VERSION}; COMMIT;"
    )


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether a database is nobody's yet."""
    return _number(db, "PRAGMA application_id") == 0 and not _objects(db)


def check_head(path: Path) -> None:
    """Refuse a file that is no SQLite database.

    Raises
    ------
    InputError
        SQLite itself takes a file of a few bytes for an empty database, and writes over it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if head not in (b"", _MAGIC):
        raise InputError(f"{path} is not a Weightcast store; name another folder")


def check_schema(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not a store of this version, to the last word of its schema.

    Raises
    ------
    InputError
        With what is lacking or foreign.
    """
    if _number(db, "PRAGMA application_id") != _APPLICATION:
        raise InputError(f"{path} is not a Weightcast store; name another folder")
    version = _number(db, "PRAGMA user_version")
    if version != _VERSION:
        raise InputError(
            f"{path} has store version {version}, this is version {_VERSION}; "
            "use another folder, or the Weightcast that wrote it"
        )
    ours, theirs = _expected(), _objects(db)
    if theirs == ours:
        return
    changed = {kind_and_name for kind_and_name, _ in ours ^ theirs}
    kind, name = min(changed)
    here = {kind_and_name for kind_and_name, _ in theirs}
    known = {kind_and_name for kind_and_name, _ in ours}
    what = "lacks" if (kind, name) not in here else "has a foreign"
    if (kind, name) in here & known:
        what = "has another"
    raise InputError(
        f"{path} is not as Weightcast makes a store: it {what} {kind} '{name}'; "
        "take the folder from a copy, or run the suite into a new one"
    )


def check_contents(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a store whose pages are damaged, or with a row that is not as it was written.

    Raises
    ------
    InputError
        With the first place found.
    """
    found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    place = None if found == "ok" else " ".join(found.split())
    for table in _SEALED:
        place = place or _broken_row(db, table)
    for table in TABLES:
        place = place or _missing_rows(db, table)
    if place:
        raise InputError(
            f"{path} is damaged ({place}); take the folder from a copy, or run the suite into a "
            "new one"
        )


def add_seals(db: sqlite3.Connection) -> None:
    """Let `seal_rows` and `check_contents` compute seals in this connection."""
    db.create_function("seal_of", -1, _seal, deterministic=True)


def count_rows(db: sqlite3.Connection) -> None:
    """Have this connection, and no other, count what it adds and removes.

    Counting all rows anew with each result would take the longer the more there are.
    """
    db.execute("PRAGMA recursive_triggers = ON")  # a replaced row is removed and added
    for table in TABLES:
        for what, by in (("INSERT", 1), ("DELETE", -1)):
            db.execute(
                f"CREATE TEMP TRIGGER {table}_{what} AFTER {what} ON main.{table} BEGIN "
                f"UPDATE counts SET count = count + {by}, seal = NULL WHERE name = '{table}'; END"
            )


def seal_rows(db: sqlite3.Connection) -> None:
    """Seal what was written since the last time; it has no seal."""
    for table in _SEALED:
        db.execute(f"UPDATE {table} SET seal = {_seal_call(table)} WHERE seal IS NULL")


def count_again(db: sqlite3.Connection) -> None:
    """Count all rows as they are now."""
    add_seals(db)
    for table in TABLES:
        db.execute(
            f"UPDATE counts SET count = (SELECT count(*) FROM {table}), seal = NULL "
            f"WHERE name = '{table}'"
        )
    seal_rows(db)


def seal_again(db: sqlite3.Connection) -> None:
    """Count and seal every row as it is now, for who changed some by hand and stands by it."""
    for table in TABLES:
        db.execute(f"UPDATE {table} SET seal = NULL")
    count_again(db)


def _seal(*values: Any) -> int:
    return zlib.crc32(repr(values).encode())


def _broken_row(db: sqlite3.Connection, table: str) -> str | None:
    query = f"SELECT rowid FROM {table} WHERE seal IS NOT {_seal_call(table)} LIMIT 1"
    row = db.execute(query).fetchone()
    return f"table {table}, row {row[0]}" if row else None


def _missing_rows(db: sqlite3.Connection, table: str) -> str | None:
    here = _number(db, f"SELECT count(*) FROM {table}")
    written = db.execute("SELECT count FROM counts WHERE name = ?", (table,)).fetchone()
    if written == (here,):
        return None
    return f"table {table} has {here:,} rows, not the {written[0] if written else 0:,} written"


@cache
def _seal_call(table: str) -> str:
    """Write the call that computes a row's seal from all its other columns."""
    columns = _columns()[table]
    return f"seal_of({', '.join(name for name in columns if name != 'seal')})"


@cache
def _columns() -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        return {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in _SEALED
        }


@cache
def _expected() -> frozenset[tuple[tuple[str, str], str]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        make_schema(db)
        return _objects(db)


def _objects(db: sqlite3.Connection) -> frozenset[tuple[tuple[str, str], str]]:
    """Return every table, index, view and trigger: its kind and name, and what made it."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return frozenset(((kind, name), f"{table}: {sql}") for kind, name, table, sql in rows)


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(pragma).fetchone()[0])
