"""`weightcast merge`: parts of one suite, computed on several machines, become one folder.

The merged store is built under a temporary name inside the folder that it is for, and renamed into
place once it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightcast.bench.commands.run import only_writer, refuse_written_to
from weightcast.bench.engine.environment import read_environment
from weightcast.bench.engine.store.schema import count_again
from weightcast.bench.engine.store.store import LOCK, NAME, Store
from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.bench.plan.united import FIXED, united
from weightcast.bench.results.mixed import store_note
from weightcast.datasets import InputError
from weightcast.datasets.files.partial_file import write_text

_BUILD = ".merging"

# What a fit answers, whatever the fold.
_TASK = ("method", "params", "dataset", "trained_on", "track", "split", "context")
# What tells training runs of the loop tier apart.
_LOOP_PLACE = (
    "dataset", "method", "params", "accept", "use", "optimizer", "schedule", "learning_rate",
    "length", "horizon", "momentum", "seed",
)  # fmt: skip


@dataclass
class Merged:
    """What a merge put together.

    Attributes
    ----------
    folder : Path
    parts, fits, cells : int
    repeated : int
        Cells that were in several folders.
    notes : list of str
        What a reader of the results must know.
    """

    folder: Path
    parts: int
    fits: int = 0
    cells: int = 0
    repeated: int = 0
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Say it in one line."""
        fits = f"{self.fits:,} fit{'' if self.fits == 1 else 's'}"
        cells = f"{self.cells:,} cell{'' if self.cells == 1 else 's'}"
        parts = f"{self.parts} folder{'' if self.parts == 1 else 's'}"
        repeated = f"{self.repeated:,} cell{' was' if self.repeated == 1 else 's were'} in several"
        return f"{fits} and {cells} from {parts} in {self.folder}, {repeated}"


def merge_folders(folders: Sequence[Path], out: Path) -> Merged:
    """Put result folders of one suite together.

    Parameters
    ----------
    folders : sequence of Path
        Of a cell that is in several of them the first one's result counts.
    out : Path
        A new or empty folder, or a result folder of the suite: it is then the first part.

    Raises
    ------
    InputError
        If a folder holds no results of this suite or is being written to, if two hold results that
        exclude each other, or if ``out`` cannot be written to. Everything is then as it was.
    """
    parts = _parts(folders, out)
    with _writable(out), ExitStack() as held:
        held.enter_context(only_writer(out))
        for folder in parts:
            if folder.resolve() != out.resolve():
                refuse_written_to(folder)
        suites = _suites(parts)
        build = out / _BUILD
        shutil.rmtree(build, ignore_errors=True)  # what a killed merge left
        try:
            merged = _merge_stores(parts, build, out)
            if suites:
                suite, notes = united([suite for _, suite in suites])
                write_text(build / "suite.toml", suite.to_toml())
                merged.notes += notes
            if environment := _united_environment(parts):
                write_text(
                    build / "environment.json",
                    json.dumps(environment, indent=2) + "\n",
                )
            _put_in_place(build, out)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"the results cannot be merged into {out}: {error}") from None
        finally:
            shutil.rmtree(build, ignore_errors=True)
    return merged


def _parts(folders: Sequence[Path], out: Path) -> list[Path]:
    """List the folders that take part, each once, ``out`` first where it holds results already."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the merged results")
    if (out / NAME).exists():
        folders = [out, *folders]
    elif out.is_dir() and {path.name for path in out.iterdir()} - {_BUILD, LOCK}:
        raise InputError(
            f"{out} holds other files and no {NAME}; name a new or empty folder, or a result folder"
        )
    found: dict[Path, Path] = {}
    names: dict[str, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    for folder in found.values():
        with Store(folder, read_only=True) as store:
            if store.suite is not None:
                names.setdefault(store.suite, folder)
    if not names:
        given = ", ".join(map(str, found.values()))
        raise InputError(f"there are no results yet in {given}; name folders that hold some")
    if len(names) > 1:
        (first, here), (second, there) = list(names.items())[:2]
        raise InputError(
            f"{here} holds results of the suite '{first}', {there} of '{second}'; "
            "merge folders of one suite"
        )
    return list(found.values())


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Make the folder; if nothing comes of it, what was not there is not there afterwards."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"results cannot be written to {out}: {error.strerror}") from None
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                (out / LOCK).unlink(missing_ok=True)
                out.rmdir()
        raise


def _merge_stores(parts: Sequence[Path], build: Path, out: Path) -> Merged:
    with Store(build, create=True):
        pass  # an empty store, with its tables
    merged = Merged(out, len(parts))
    with closing(sqlite3.connect(build / NAME, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        # Whatever ends it, nobody needs what is half built.
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = OFF")  # a fit is replaced, its cells stay
        db.execute("CREATE TEMP TABLE origins (fit TEXT PRIMARY KEY, folder TEXT)")
        db.execute("CREATE TEMP TABLE gated (dataset TEXT PRIMARY KEY, folder TEXT)")
        db.execute("CREATE TEMP TABLE repeated (fit TEXT, run INTEGER, PRIMARY KEY (fit, run))")
        db.execute("CREATE TEMP TABLE repeated_loops (key TEXT PRIMARY KEY)")
        for folder in parts:
            with Store(folder, read_only=True) as part:
                db.execute("ATTACH ? AS part", (str(part.source),))
                db.execute("BEGIN")
                _refuse_conflicts(db, folder)
                _take(db, folder)
                db.execute("COMMIT")
                db.execute("DETACH part")
        count_again(db)
        merged.fits = _count(db, "fits")
        merged.cells = _count(db, "(SELECT DISTINCT fit, run FROM cells)")
        merged.repeated = _count(db, "repeated")
        # A training run of the loop tier is a cell like any other.
        merged.cells += _count(db, "loops")
        merged.repeated += _count(db, "repeated_loops")
    with Store(build, read_only=True) as store:
        if note := store_note(store):
            merged.notes.append(note)
    return merged


def _count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _take(db: sqlite3.Connection, folder: Path) -> None:
    """Add what the attached part has and the merged store has not."""
    db.execute(
        "INSERT OR IGNORE INTO repeated SELECT DISTINCT fit, run FROM part.cells AS theirs "
        "WHERE key IS NOT NULL "
        "AND EXISTS (SELECT 1 FROM main.cells WHERE fit = theirs.fit AND run = theirs.run)"
    )
    # A cell is all of its rows: one that failed has fewer, and must not get another's. What is to
    # be tried again has no key and is left out.
    db.execute(
        "INSERT INTO main.cells SELECT * FROM part.cells AS theirs "
        "WHERE key IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM repeated WHERE fit = theirs.fit AND run = theirs.run)"
    )
    # Cells with a result need the numbers of a fit that came off.
    db.execute(
        "DELETE FROM main.fits WHERE status != 'ok' "
        "AND key IN (SELECT key FROM part.fits WHERE status = 'ok')"
    )
    db.execute(
        "INSERT OR IGNORE INTO repeated_loops "
        "SELECT key FROM part.loops WHERE key IN (SELECT key FROM main.loops)"
    )
    for table in ("fits", "gates", "examples", "machines", "sharing", "methods", "loops"):
        db.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM part.{table}")
    for table in ("fits", "loops"):
        keys = f"SELECT key, ? FROM part.{table}"
        db.execute(f"INSERT OR IGNORE INTO origins {keys}", (str(folder),))
    db.execute("INSERT OR IGNORE INTO gated SELECT dataset, ? FROM part.gates", (str(folder),))


def _refuse_conflicts(db: sqlite3.Connection, folder: Path) -> None:
    """Refuse results of the attached part that exclude those taken from earlier ones.

    Raises
    ------
    InputError
        With the method, the data set and both folders.
    """
    # CROSS JOIN keeps the order of tables, which SQLite guesses wrong without statistics.
    place = " AND ".join(f"ours.{name} = theirs.{name}" for name in (*_TASK, "rotation", "repeat"))
    row = db.execute(
        f"SELECT theirs.*, folder FROM part.fits AS theirs CROSS JOIN main.fits AS ours ON {place} "
        "JOIN origins ON origins.fit = ours.key WHERE ours.key != theirs.key LIMIT 1"
    ).fetchone()
    if row:
        raise InputError(
            f"{_label(row)}, rotation {row['rotation']}: {row['folder']} and {folder} hold results "
            "made with different code, data or settings; run the suite again into one of them with "
            "the Weightcast, plugins and data of the other, or leave one out"
        )
    # Another fold, but not another fit of the same one.
    task = " AND ".join(f"ours.{name} = theirs.{name}" for name in (*_TASK, "repeat"))
    row = db.execute(
        "SELECT theirs.*, there.run, folder FROM part.fits AS theirs "
        f"CROSS JOIN main.fits AS ours ON {task} AND ours.key != theirs.key "
        "CROSS JOIN part.cells AS there ON there.fit = theirs.key "
        "CROSS JOIN main.cells AS here ON here.fit = ours.key AND here.run = there.run "
        "JOIN origins ON origins.fit = ours.key LIMIT 1"
    ).fetchone()
    if row:
        raise InputError(
            f"{_label(row)}: run {row['run']} is tested in one fold in {row['folder']} and in "
            f"another in {folder}, so it would count twice; run the suite again into one of them "
            "with the rotations of the other, or leave one out"
        )
    row = db.execute(
        "SELECT theirs.*, there.run, folder FROM part.cells AS there "
        "CROSS JOIN main.cells AS here ON here.fit = there.fit AND here.run = there.run "
        "JOIN part.fits AS theirs ON theirs.key = there.fit "
        "JOIN origins ON origins.fit = here.fit WHERE here.key != there.key LIMIT 1"
    ).fetchone()
    if row:
        raise InputError(
            f"{_label(row)}, run {row['run']}: {row['folder']} and {folder} hold results on "
            "different data or of different tiers; run the suite again into one of them with the "
            "data and tiers of the other, or leave one out"
        )
    place = " AND ".join(f"ours.{name} = theirs.{name}" for name in _LOOP_PLACE)
    row = db.execute(
        f"SELECT theirs.*, folder FROM part.loops AS theirs JOIN main.loops AS ours ON {place} "
        "JOIN origins ON origins.fit = ours.key WHERE ours.key != theirs.key LIMIT 1"
    ).fetchone()
    if row:
        raise InputError(
            f"{method_label(row['method'], row['params'])} in the loop on {row['dataset']}: "
            f"{row['folder']} and {folder} hold runs made with different code, data or settings; "
            "run the suite again into one of them with those of the other, or leave one out"
        )
    row = db.execute(
        "SELECT theirs.dataset, folder FROM part.gates AS theirs JOIN main.gates AS ours "
        "ON ours.dataset = theirs.dataset JOIN gated ON gated.dataset = ours.dataset "
        "WHERE ours.data != theirs.data LIMIT 1"
    ).fetchone()
    if row:
        raise InputError(
            f"{row['dataset']}: {row['folder']} and {folder} were made with different runs of it; "
            "run the suite again into one of them with the data of the other, or leave one out"
        )


def _label(row: sqlite3.Row) -> str:
    label = method_label(row["method"], row["params"])
    track = "" if row["track"] == "main" else f" ({row['track']})"
    return f"{label} on {row['dataset']}{track}, context {row['context']}"


def _suites(parts: Sequence[Path]) -> list[tuple[Path, Suite]]:
    """Load the parts' suites, as far as they are there, and see that they cut runs alike."""
    files = [folder / "suite.toml" for folder in parts]
    found = [(path.parent, load_suite(str(path))) for path in files if path.exists()]
    for folder, suite in found[1:]:
        first, other = found[0]
        for name in FIXED:
            if getattr(suite, name) != getattr(other, name):
                raise InputError(
                    f"{first} was run with {name} = {getattr(other, name)}, {folder} with "
                    f"{getattr(suite, name)}; run the suite again into one of them with the "
                    f"{name} of the other, or leave one out"
                )
    return found


def _united_environment(parts: Sequence[Path]) -> dict[str, Any]:
    """Return the environment of the run that began last, all others in ``earlier``."""
    found: list[dict[str, Any]] = []
    for folder in parts:
        if last := read_environment(folder):
            found += [each for each in (*last.pop("earlier", []), last) if each not in found]
    found.sort(key=lambda each: str(each.get("written", "")))
    return {**found[-1], "earlier": found[:-1]} if found else {}


def _put_in_place(build: Path, out: Path) -> None:
    """Rename the merged files into place, the store first: the others only describe it."""
    # SQLite would take an old store's log, which a killed run leaves, for the new one's.
    if (out / NAME).exists():
        with Store(out):
            pass
    if (out / f"{NAME}-wal").exists():
        raise InputError(f"another program has {out / NAME} open; close it and merge again")
    # It was built without waiting for the disk, and may take an older store's place.
    with (build / NAME).open("rb+") as file:
        os.fsync(file.fileno())
    for name in (NAME, "suite.toml", "environment.json"):
        if (build / name).exists():
            os.replace(build / name, out / name)
