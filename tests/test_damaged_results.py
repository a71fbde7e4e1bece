"""Result folders of strangers, of failing disks and of others: refused in one line, or as written.

Reading a folder writes nothing into it.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from weightcast.bench.cli import app as cli
from weightcast.bench.engine.environment import describe_environment, write_environment
from weightcast.bench.engine.events import Afterwards, CellDone, Event, Fitted
from weightcast.bench.engine.records import CellRow, FitRecord
from weightcast.bench.engine.site import Site
from weightcast.bench.engine.store.schema import TABLES, seal_again
from weightcast.bench.engine.store.store import NAME, Store
from weightcast.bench.plan.fits import RunCache, make_plan
from weightcast.bench.plan.suite import MethodEntry, Suite
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError

MACHINE = '{"cpu": "A", "cores": 2, "packages": {"numpy": "2.0"}}'
TRUTH = {
    "run": 0, "context": 10, "coordinates": ["w[0]"], "values": [[0.5] * 61],
    "plane": [[0.0, 1.0]] * 61, "explained": 0.9,
}  # fmt: skip
JUNK = [
    "", "null", "[]", "{", "3", '"x"', "NaN", "[" * 5000, '{"rel_sum": "x"}', '{"rel_sum": NaN}',
    '{"rel_sum": null}', '["a"]', '{"a": {"b": []}}', "true", "1e999",
]  # fmt: skip


def events_of(suite: Suite) -> Iterator[Event]:
    """Make up what workers would tell of a suite."""
    for place, fit in enumerate(make_plan(suite.resolve(), RunCache(None))):
        chance = np.random.default_rng(place)
        yield Fitted(FitRecord(fit, fit_seconds=0.1, fit_cpu_seconds=0.1, site=Site(MACHINE)))
        for run in fit.split.test:
            error = float(chance.uniform(0.5, 1.5))
            metrics = {
                f"{name}{end}": error for name in ("rel_sum", "mae") for end in ("", "_sample")
            }
            function = {"train_loss_last": error, "train_loss_h5": error, "batch_norm": "kept"}
            took: dict[str, Any] = {"coverage": 1.0, "coordinates": 10, "predict_seconds": 0.1}
            rows = [
                CellRow(run, "weights", metrics=metrics, curve=[error] * 50, **took),
                CellRow(run, "function", metrics=function, **took),
            ]
            yield CellDone(fit, run, rows, Site(MACHINE))
        drawn = {"values": [[0.5] * 50], "plane": [[0.0, 0.0]] * 50}
        yield Afterwards(fit, {"truth": TRUTH, "forecast": drawn}, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "results"
    suite = Suite(
        name="small",
        datasets=["linreg-gd"],
        methods=[MethodEntry(name=name) for name in ("last-value", "ols-line")],
        jobs=1,
    )
    with Store(folder, create=True) as store:
        store.add(list(events_of(suite)))
    (folder / "suite.toml").write_text(suite.resolve().to_toml(), encoding="utf-8")
    write_environment(folder, describe_environment(["run", "--suite", "small"], 1, 1))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def read(folder: Path, out: Path, *, report: bool = False) -> dict[str, str]:
    """Read a folder with every verb: what each says, or the one line by which it refuses."""
    out.mkdir()
    commands = {
        "leaderboard": ("leaderboard", folder),
        "function": ("leaderboard", folder, "--tier", "function"),
        "export": ("export", folder, out / "cells.csv"),
        "merge": ("merge", folder, "--out", out / "merged"),
    }
    if report:
        commands["report"] = ("report", folder, "--out", out / "page.html")
    said = {}
    for verb, arguments in commands.items():
        done = call(*arguments)
        assert done.exit_code in (0, 2), (verb, done.output, done.exception)
        if done.exit_code == 2:
            lines = done.stderr.splitlines()
            # Of a suite file every error is told, a line each.
            assert len(lines) == 1 or "suite.toml is not a suite; " in lines[0], lines
            assert all(line.startswith("  ") for line in lines[1:]), lines
            assert lines[0].startswith("weightcast: ")
            said[verb] = "refused"
        elif verb == "export":
            said[verb] = (out / "cells.csv").read_text(encoding="utf-8")
        elif verb != "report":
            said[verb] = done.stdout.replace(str(out), "")
    shutil.rmtree(out)
    return said


def bytes_changed(path: Path, chance: random.Random) -> None:
    found = bytearray(path.read_bytes())
    at = chance.randrange(len(found))
    how = chance.choice(["flip", "flip", "cut", "zero", "insert", "empty", "noise"])
    if how == "flip":
        for _ in range(chance.randint(1, 8)):
            found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del found[at:]
    elif how == "zero":
        found[at : at + 512] = bytes(len(found[at : at + 512]))
    elif how == "insert":
        found[at:at] = chance.randbytes(chance.randint(1, 40))
    else:
        found = bytearray(b"" if how == "empty" else chance.randbytes(chance.randint(1, 3000)))
    path.write_bytes(bytes(found))


def rows_changed(path: Path, chance: random.Random) -> None:
    """Change the store by SQL; half of the times a stranger seals what came of it."""
    table = chance.choice(TABLES)
    with closing(sqlite3.connect(path)) as db:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        column = chance.choice(columns)
        statement, values = chance.choice(
            [
                (f"UPDATE OR IGNORE {table} SET {column} = ?", (chance.choice(JUNK),)),
                (f"DELETE FROM {table}", ()),
                (f"DELETE FROM {table} WHERE rowid % 3 = 1", ()),
                ("UPDATE cells SET metrics = ?", (chance.choice(JUNK),)),
                ("UPDATE cells SET curve = ?", (chance.choice(JUNK),)),
                ("UPDATE examples SET content = ?", (chance.choice(JUNK),)),
                (
                    f"UPDATE OR IGNORE {table} SET {column} = ?",
                    (chance.choice([-1, b"\xff", 1e300]),),
                ),
                (f"UPDATE OR IGNORE {table} SET {column} = NULL", ()),
                (f"DROP TABLE {table}", ()),
                (f"ALTER TABLE {table} RENAME COLUMN {column} TO other", ()),
                (f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END", ()),
                (f"CREATE VIEW v AS SELECT * FROM {table}", ()),
                (f"CREATE INDEX i ON {table} ({column})", ()),
            ]
        )
        try:
            db.execute(statement, values)
        except sqlite3.IntegrityError:
            return  # a store does not take that
        if "UPDATE" in statement and chance.random() < 0.5:
            seal_again(db)
        db.commit()


def leftover(folder: Path, chance: random.Random) -> None:
    """Leave a log, an index or a journal that belongs to no store."""
    end = chance.choice(["-wal", "-shm", "-journal"])
    folder.joinpath(NAME + end).write_bytes(chance.randbytes(chance.choice([0, 10, 32, 9000])))


def damage(folder: Path, chance: random.Random) -> str:
    """Damage something; return what."""
    what = chance.choice(
        ["bytes", "bytes", "rows", "rows", "suite.toml", "environment.json", "log"]
    )
    if what == "bytes":
        bytes_changed(folder / NAME, chance)
    elif what == "rows":
        rows_changed(folder / NAME, chance)
    elif what == "log":
        leftover(folder, chance)
    elif chance.random() < 0.5:
        bytes_changed(folder / what, chance)
    elif chance.random() < 0.5:
        (folder / what).write_text(chance.choice(JUNK), encoding="utf-8")
    else:
        (folder / what).unlink()
        (folder / what).mkdir()
    return what


@pytest.mark.parametrize(
    "cases",
    [range(60), pytest.param(range(100, 1100), marks=pytest.mark.slow)],
    ids=["60", "1000"],
)
def test_when_a_folder_is_damaged_then_it_is_refused_in_one_line_or_reads_as_it_was_written(
    made: Path, tmp_path: Path, cases: range
) -> None:
    whole = read(made, tmp_path / "out", report=True)
    assert "refused" not in whole.values()
    for case in cases:
        folder = Path(shutil.copytree(made, tmp_path / "results"))
        what = damage(folder, random.Random(case))
        found = read(folder, tmp_path / "out", report=case % 20 == 0)
        if what != "rows":  # what a stranger seals is theirs, and need only be read without a fault
            for verb, said in found.items():
                assert said in ("refused", whole.get(verb)), (case, what, verb)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON cells BEGIN SELECT 1; END", "has a foreign trigger 't'"),
        ("CREATE VIEW v AS SELECT 1", "has a foreign view 'v'"),
        ("CREATE TABLE more (a)", "has a foreign table 'more'"),
        ("CREATE INDEX i ON cells (run)", "has a foreign index 'i'"),
        ("ALTER TABLE gates ADD COLUMN a", "has another table 'gates'"),
        ("DROP TABLE sharing", "lacks"),
        ("UPDATE cells SET metrics = json_remove(metrics, '$.rel_sum')", "table cells, row"),
        ("UPDATE fits SET fit_seconds = 3 WHERE rowid = 5", "table fits, row 5"),
        ("UPDATE machines SET content = '{}'", "table machines, row 1"),
        ("DELETE FROM cells WHERE run = 3", "table cells has"),
        ("DELETE FROM cells", "table cells has 0 rows, not the"),
        ("DELETE FROM fits WHERE method = 'ols-line'", "table fits has"),
        ("DELETE FROM examples WHERE method = ''", "table examples has"),
        ("UPDATE counts SET count = count - 1", "table counts, row 1"),
        ("DELETE FROM counts WHERE name = 'cells'", "not the 0 written"),
    ],
)
def test_when_a_store_is_not_as_we_make_it_then_no_verb_takes_it_and_nothing_is_run_into_it(
    folder: Path, tmp_path: Path, statement: str, says: str
) -> None:
    with closing(sqlite3.connect(folder / NAME)) as db:
        db.execute(statement)
        db.commit()
    for command in (
        ("leaderboard", folder),
        ("report", folder),
        ("merge", folder, "--out", tmp_path / "merged"),
        ("run", "--suite", folder / "suite.toml", "--out", folder),
    ):
        done = call(*command)
        assert done.exit_code == 2, done.output
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "merged").exists()


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return every file's size, time of change and contents, the folder's own time with them."""
    found = {path.name: path for path in folder.iterdir()}
    return {"": (0, folder.stat().st_mtime_ns, b"")} | {
        name: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for name, path in found.items()
    }


def test_when_a_folder_is_read_then_nothing_in_it_is_touched(folder: Path, tmp_path: Path) -> None:
    before = listing(folder)
    assert "refused" not in read(folder, tmp_path / "out", report=True).values()
    assert listing(folder) == before


def _without_power() -> None:
    """Have root obey permissions in the process that comes: it may not override them any more."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2, 3):  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0,
    reason="only root on Linux may make a folder somebody else's",
)
def test_when_a_folder_is_somebody_elses_then_it_can_be_read(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours"
    out.mkdir()
    code = f"""
import pathlib
from typer.testing import CliRunner
from weightcast.bench.cli import app as cli
try:
    (pathlib.Path({str(folder)!r}) / "probe").touch()
except PermissionError:
    print("may not write")
for command in (
    ["leaderboard", {str(folder)!r}],
    ["export", {str(folder)!r}, "{out}/cells.csv"],
    ["report", {str(folder)!r}, "--out", "{out}/report.html"],
    ["merge", {str(folder)!r}, "--out", "{out}/merged"],
):
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, (command, done.output, done.exception)
"""
    for path in folder.iterdir():
        path.chmod(0o444)
        os.chown(path, 65534, 65534)
    folder.chmod(0o555)
    os.chown(folder, 65534, 65534)
    before = listing(folder)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, preexec_fn=_without_power,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "may not write\n"
    assert listing(folder) == before
    assert (out / "cells.csv").stat().st_size > 0


def test_when_a_run_was_killed_then_readers_see_what_its_log_holds(
    made: Path, folder: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    with Store(folder) as store:
        gates = [row["dataset"] for row in store.rows("SELECT dataset FROM gates")]
        assert gates == []
        with store._transaction():
            store._insert(
                "sharing",
                [{"dataset": "d", "trained_on": "d", "track": "t", "split": "s", "traits": "{}"}],
            )
        assert (folder / f"{NAME}-wal").stat().st_size > 0
        shutil.copytree(folder, killed)  # as a kill leaves it
        before = listing(killed)
        for place in (folder, killed):  # beside the writer, and after its end
            assert load_results(place).sharing == {("d", "d", "t", "s"): {}}
        assert listing(killed) == before
    assert load_results(made).sharing == {}


def test_when_a_run_writes_all_the_while_then_readers_see_whole_states(
    folder: Path, write_many: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    writer = write_many(folder)
    try:
        counts = []
        while writer.poll() is None:
            with Store(folder, read_only=True) as store:
                # A state is a number of whole transactions of three rows.
                counts.append(len(store.rows("SELECT * FROM sharing")))
    finally:
        writer.kill()
        writer.wait(timeout=300)
    assert all(count % 3 == 0 for count in counts)
    assert counts == sorted(counts)


@pytest.fixture
def write_many() -> Callable[[Path], subprocess.Popen[bytes]]:
    """Start a process that adds rows, three at a time, opening the store anew now and then."""
    code = """
import sys
from pathlib import Path
from weightcast.bench.engine.store.store import Store
place = 0
for _ in range(8):
    with Store(Path(sys.argv[1])) as store:
        for _ in range(25):
            rows = [
                {"dataset": str(place + i), "trained_on": "x" * 2000, "track": "t", "split": "s",
                 "traits": "{}"}
                for i in range(3)
            ]
            place += 3
            with store._transaction():
                store._insert("sharing", rows)
"""

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(folder)])

    return start


def test_when_environment_json_is_damaged_then_it_is_said_and_without_it_all_reads(
    folder: Path,
) -> None:
    path = folder / "environment.json"
    path.write_text('{"packages": 3}', encoding="utf-8")
    with pytest.raises(InputError, match=r"environment\.json is damaged: packages: .*take it away"):
        load_results(folder)
    path.unlink()
    assert load_results(folder).environment == {}


def test_when_a_command_is_kept_then_its_absolute_paths_are_not(folder: Path) -> None:
    arguments = [
        "run", "--suite", "/home/someone/s.toml", "--data=/srv/data", "--out", "here/r",
        "--plugin", "/home/some one/my plugin.py", "--methods", "lfd2,ols-line",
    ]  # fmt: skip
    command = describe_environment(arguments, 1, 1)["command"]
    assert command == (
        "weightcast run --suite s.toml --data=data --out here/r --plugin 'my plugin.py' "
        "--methods lfd2,ols-line"
    )
