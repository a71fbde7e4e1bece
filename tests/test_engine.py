"""The engine of `weightcast run` against methods that misbehave, kills, full disks and Ctrl-C.

Real worker processes throughout. Methods of the tests act once a cell, at its first tensor, and
write down what they finished at its last.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine import local
from weightcast.bench.engine.events import CellDone, Event, Fitted
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.store.store import NAME, Store
from weightcast.bench.engine.work import in_turn
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.bench.scoring.unit import ENOUGH, Unit
from weightcast.datasets import InputError, Trajectory, get_dataset
from weightcast.methods import load_plugin

SUITE = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value"]
contexts = [10]
rotations = 3
tiers = ["weights"]
"""
SEEDS = range(12)
FIRST, LAST = "1.weight", "3.bias"

PLUGIN = '''
import ctypes, os, signal, sys, threading, time
from hashlib import sha256
from pathlib import Path

import numpy as np
from weightcast.methods import CoordinateForecaster, register

HERE = Path({here!r})


def note(file, line):
    with open(HERE / file, "a") as log:
        log.write(line + "\\n")


def drawn():
    """Whether this forecast is for a picture of the report and no cell's."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "draw_forecast":
        frame = frame.f_back
    return frame is not None


def once(file):
    """Whether this is the first time that anybody asks."""
    first = not (HERE / file).exists()
    (HERE / file).touch()
    return first
'''

METHOD = '''

@register({name!r})
class {cls}(CoordinateForecaster):
    """A method of the tests."""

    def fit(self, train, validation, task):
        note({name!r} + ".fits", "fit")
        {fit}
        return self

    def predict_block(self, context, task):
        forecast = np.repeat(context[:, -1:], len(task.horizons), axis=1)
        if task.tensor.name == {first!r}:
            if not drawn():
                note({name!r} + ".begun", "cell")
            {predict}
        if task.tensor.name == {last!r} and not drawn():
            note({name!r} + ".cells", sha256(context.tobytes()).hexdigest())
        return forecast
    {more}
'''

Write = Callable[..., Path]
WaitFor = Callable[..., bool]
Slack = Callable[[], AbstractContextManager[Callable[[], float]]]


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SUITE, encoding="utf-8")
    return str(path)


@pytest.fixture
def plugin(tmp_path: Path) -> Write:
    """Write a plugin file; a method's text is what it does when it forecasts, or parts of it."""

    def write(**methods: str | dict[str, str]) -> Path:
        text = PLUGIN.format(here=str(tmp_path))
        for cls, does in methods.items():
            parts = {"predict": does} if isinstance(does, str) else does
            text += METHOD.format(
                name=cls.replace("_", "-"),
                cls=cls,
                first=FIRST,
                last=LAST,
                fit=_indented(parts.get("fit", "pass"), 8),
                predict=_indented(parts.get("predict", "pass"), 12),
                more=_indented(parts.get("more", ""), 4),
            )
        path = tmp_path / "plugin.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _indented(text: str, spaces: int) -> str:
    return text.strip().replace("\n", "\n" + " " * spaces)


def _noted(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _runs() -> dict[str, int]:
    """What a method notes of each run that it forecast."""
    found = {}
    for seed in SEEDS:
        run = get_dataset("digits-mlp-sgd").run(seed)
        info = run.tensor_info(LAST)
        context = np.ascontiguousarray(run.read(info, range(11)).T)
        found[hashlib.sha256(context.tobytes()).hexdigest()] = seed
    assert len(found) == len(SEEDS)
    return found


def _rows(out: Path, query: str = "") -> list[dict[str, Any]]:
    with Store(out) as store:
        return store.rows(
            "SELECT cells.*, fits.method, fits.rotation, fits.jobs AS fit_jobs, "
            "fits.reason AS fit_reason, fits.status AS fit_status "
            f"FROM cells JOIN fits ON cells.fit = fits.key {query}"
        )


def _command(suite: str, out: Path, *more: object) -> list[str]:
    main = "from weightcast.bench.cli import main; main()"
    arguments = ["run", "--suite", suite, "--out", out, *more]
    return [sys.executable, "-c", main, *map(str, arguments)]


def _weightcast(suite: str, out: Path, *more: object, **how: Any) -> Any:
    return subprocess.run(
        _command(suite, out, *more), capture_output=True, text=True, check=False, **how
    )


@contextmanager
def _under_way(suite: str, out: Path, *more: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        _command(suite, out, *more),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _plan(suite: str, methods: list[str]) -> list[Fit]:
    return make_plan(load_suite(suite).resolve(methods), RunCache(None))


def _work_on(
    fit: Fit, plugin: Path, *, timeout: float = 60.0, memory: int = 2_000_000_000
) -> tuple[Fitted, dict[int, CellDone]]:
    """Work on one fit and its four cells; return how the fit and each of the cells went."""
    units = [Unit(fit, tuple(seed for seed, _ in fit.cells))]
    happened: list[Event] = []
    for events in local.run_here(
        units, Setup((plugin,)), Limits(timeout, memory), Site("{}", 1, 1), threading.Event()
    ):
        happened += events
    (fitted,) = (event for event in happened if isinstance(event, Fitted))
    cells = {event.run: event for event in happened if isinstance(event, CellDone)}
    assert len(cells) == 4
    return fitted, cells


BAD = {
    "raises": "raise RuntimeError('no forecast today')",
    "raises_memory_error": "raise MemoryError",
    "allocates_without_end": "held = []\nwhile True: held.append(np.ones(1_000_000))",
    "falls": "ctypes.string_at(0)",
    "sleeps_for_ever": "while True: time.sleep(3600)",
    "ignores_sigterm": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)",
    "returns_nan": "return np.full_like(forecast, np.nan)",
    "wrong_shape": "return context",
}
BAD_STATUS = {
    "raises": "failed",
    "raises-memory-error": "out-of-memory",
    "allocates-without-end": "out-of-memory",
    "falls": "crashed",
    "sleeps-for-ever": "timeout",
    "ignores-sigterm": "timeout",
    "returns-nan": "invalid",
    "wrong-shape": "invalid",
}


#: Those that the time limit alone ends.
WAITING = {"sleeps-for-ever", "ignores-sigterm"}


def test_when_eight_methods_misbehave_then_each_costs_its_own_cells_and_its_limit_alone(
    suite: str, tmp_path: Path, plugin: Write, slack: Slack
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert run_suite(RunOptions(suite, alone)) == {"ok": 12}
    common = ("--plugin", plugin(**BAD), "--max-memory", 300, "--jobs", 4)
    # On a busy machine memory fills slowly: what ends by itself is given the time that it takes.
    quick = ",".join(["last-value", *sorted(set(BAD_STATUS) - WAITING)])
    done = _weightcast(suite, out, *common, "--methods", quick)
    assert done.returncode == 0, done.stderr
    with slack() as times_longer:
        done = _weightcast(suite, out, *common, "--timeout", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "96 failed cells: 12 crashed, 12 failed, 24 invalid, 24 out-of-memory, 24 timeout"
    )
    assert "Traceback" not in done.stderr, done.stderr
    rows = _rows(out)
    assert len(rows) == 9 * 12
    for row in rows:
        assert row["status"] == BAD_STATUS.get(row["method"], "ok"), row
        assert row["threads"] == 1
        assert row["machine"]
        if row["status"] != "ok":
            assert row["reason"]
        if row["status"] == "timeout" and not row["reason"].startswith("not tried"):
            assert 2.0 <= row["cell_seconds"] <= 2.0 + 2.0 * times_longer()
            assert "in predict_block" in row["traceback"]
    with Store(out) as store:
        (machine,) = store.machines()
        assert machine["cells"] == 9 * 12
    numbers = ("run", "metrics", "curve", "coverage")
    expected = [{name: row[name] for name in numbers} for row in _rows(alone)]
    found = [{name: row[name] for name in numbers} for row in rows if row["method"] == "last-value"]
    assert sorted(found, key=lambda r: r["run"]) == sorted(expected, key=lambda r: r["run"])


@pytest.mark.parametrize(
    ("does", "status", "reason"),
    [
        ("while True: time.sleep(60)", "timeout", "the fit: took longer than the limit of 1 s"),
        ("ctypes.string_at(0)", "crashed", "the fit: its process was ended by SIGSEGV"),
        ("os._exit(0)", "crashed", "the fit: its process ended with status 0"),
        ("raise RuntimeError('no fit today')", "failed", "RuntimeError: no fit today"),
        ("sys.exit('enough')", "failed", "SystemExit: enough"),
    ],
)
def test_when_a_fit_misbehaves_then_its_cells_have_its_status_and_reason(
    suite: str, tmp_path: Path, plugin: Write, does: str, status: str, reason: str
) -> None:
    path = plugin(mine={"fit": does})
    load_plugin(path)
    limit = 1.0 if status == "timeout" else 60.0
    fitted, cells = _work_on(_plan(suite, ["mine"])[0], path, timeout=limit)
    failure = fitted.record.failure
    assert failure is not None
    assert failure.status == status
    assert failure.reason.startswith(reason)
    assert "fit" in failure.traceback or "_exit(0)" in does
    for cell in cells.values():
        assert [(row.status, row.reason) for row in cell.rows] == [(status, failure.reason)]
    assert len(_noted(tmp_path, "mine.fits")) == 1
    assert not _noted(tmp_path, "mine.begun")


def test_when_code_is_changed_under_way_then_what_it_makes_is_not_taken_for_the_old_codes(
    suite: str, plugin: Write
) -> None:
    path = plugin(edited="pass")
    (fit, *_) = _plan(suite, load_plugin(path))
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("forecast = ", "forecast = 1.0 + "), encoding="utf-8")
    fitted, cells = _work_on(fit, path)
    failure = fitted.record.failure
    assert failure is not None
    assert failure.status == "failed"
    assert failure.reason.endswith(
        "the code of edited was changed while the run was under way; the same command runs it again"
    )
    assert {row.status for cell in cells.values() for row in cell.rows} == {"failed"}
    path.write_text(before, encoding="utf-8")
    assert _work_on(fit, path)[0].record.failure is None


def test_when_one_cell_ends_its_worker_then_it_alone_is_lost_and_the_fit_is_kept(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path = plugin(mine="if once('marker'): os._exit(9)")
    load_plugin(path)
    fitted, cells = _work_on(_plan(suite, ["mine"])[0], path)
    assert fitted.record.failure is None
    assert [cell.rows[0].status for cell in cells.values()] == ["crashed", "ok", "ok", "ok"]
    assert "the cell: its process ended with status 9" in next(iter(cells.values())).rows[0].reason
    assert len(_noted(tmp_path, "mine.fits")) == 1
    assert len(_noted(tmp_path, "mine.cells")) == 3


NOT_PICKLED = {
    "cannot be pickled": "self.held_ = threading.Lock()",
    "cannot be read back": "self.held_ = Sour()",
}
SOUR = """
class Sour:
    def __reduce__(self):
        return int, ("no number",)
"""


@pytest.mark.parametrize("why", NOT_PICKLED)
def test_when_a_fitted_method_cannot_be_handed_on_then_it_is_fitted_again(
    suite: str, tmp_path: Path, plugin: Write, why: str
) -> None:
    path = plugin(mine={"fit": NOT_PICKLED[why], "predict": "if once('marker'): os._exit(9)"})
    path.write_text(path.read_text(encoding="utf-8") + SOUR, encoding="utf-8")
    load_plugin(path)
    _, cells = _work_on(_plan(suite, ["mine"])[0], path)
    assert [cell.rows[0].status for cell in cells.values()] == ["crashed", "ok", "ok", "ok"]
    assert len(_noted(tmp_path, "mine.fits")) == 2
    assert len(_noted(tmp_path, "mine.cells")) == 3


def test_when_a_fit_that_is_made_again_fails_then_its_cell_says_so_and_the_run_goes_on(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path = plugin(
        mine={
            "fit": "self.held_ = threading.Lock()\nif not once('fit'): raise RuntimeError('again')",
            "predict": "os._exit(9)",
        }
    )
    load_plugin(path)
    fitted, cells = _work_on(_plan(suite, ["mine"])[0], path)
    assert fitted.record.failure is None
    statuses = [(cell.rows[0].status, cell.rows[0].reason) for cell in cells.values()]
    assert statuses[0][0] == "crashed"
    assert statuses[1:] == [("failed", "the fit, made again: RuntimeError: again")] * 3


DIAGNOSTICS = """
def diagnostics(self):
    return {{'found': {}}}
"""
COUNT = """
def parameter_count(self):
    return np.int64(7)
"""


def test_when_a_method_exits_or_hands_back_what_cannot_be_kept_then_the_others_go_on(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path = plugin(
        exits="sys.exit(4)",
        keeps_a_lock={"more": DIAGNOSTICS.format("threading.Lock()")},
        keeps_numbers={"more": DIAGNOSTICS.format("np.ones(3)") + COUNT},
        exits_late={
            "predict": "self.late_ = True",
            "more": DIAGNOSTICS.format("sys.exit(5) if hasattr(self, 'late_') else 1"),
        },
    )
    load_plugin(path)
    methods = ["exits", "keeps-a-lock", "keeps-numbers", "exits-late", "last-value"]
    out = tmp_path / "out"
    run_suite(RunOptions(suite, out, methods=methods, plugins=[path]))
    found: dict[str, set[tuple[str, str]]] = {}
    for row in _rows(out):
        found.setdefault(row["method"], set()).add((row["status"], row["reason"]))
    assert found == {
        "exits": {("failed", "SystemExit: 4")},
        "keeps-a-lock": {
            ("failed", "TypeError: lock is no plain value, as the result store needs it")
        },
        "keeps-numbers": {("ok", "")},
        "exits-late": {("ok", "")},
        "last-value": {("ok", "")},
    }
    with Store(out) as store:
        kept = store.rows("SELECT method, parameters, diagnostics FROM fits WHERE rotation = 0")
    by_method = {row["method"]: row for row in kept}
    assert by_method["keeps-numbers"]["parameters"] == 7
    assert by_method["keeps-numbers"]["diagnostics"] == '{"found": [1.0, 1.0, 1.0]}'
    assert by_method["exits-late"]["diagnostics"] == '{"found": 1}'


def test_when_enough_cells_in_a_row_ended_their_worker_then_the_others_are_not_tried(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path = plugin(mine="os._exit(9)")
    load_plugin(path)
    _, cells = _work_on(_plan(suite, ["mine"])[0], path)
    assert len(_noted(tmp_path, "mine.begun")) == ENOUGH
    reasons = [cell.rows[0].reason for cell in cells.values()]
    assert {cell.rows[0].status for cell in cells.values()} == {"crashed"}
    assert [reason.startswith("not tried, for 2 cells") for reason in reasons] == [
        False, False, True, True,
    ]  # fmt: skip


class _Altered(RunCache):
    """The runs, one of them with something changed."""

    def __init__(self, seed: int, change: Callable[[Trajectory], Trajectory]) -> None:
        super().__init__(None)
        self._seed, self._change = seed, change

    def __call__(self, dataset: str, seed: int) -> Trajectory:
        run = super().__call__(dataset, seed)
        return self._change(run) if seed == self._seed else run


def _other_bytes(run: Trajectory) -> Trajectory:
    arrays = {i.name: run.read(i, range(run.n_snapshots)) for i in run.tensors}
    arrays = {
        name: np.array(values).reshape(run.n_snapshots, *run.tensor_info(name).shape)
        for name, values in arrays.items()
    }
    arrays[LAST][-1, 0] += 1e-3
    return Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta, run.tensors)


def _other_seconds(run: Trajectory) -> Trajectory:
    same = {i.name: run.read(i, range(run.n_snapshots)) for i in run.tensors}
    arrays = {
        name: np.array(values).reshape(run.n_snapshots, *run.tensor_info(name).shape)
        for name, values in same.items()
    }
    meta = replace(run.meta, seconds_per_step=123.0)
    return Trajectory.from_arrays(arrays, run.steps.tolist(), meta, run.tensors)


def _resolved(suite: str) -> Suite:
    return load_suite(suite).resolve(["last-value", "lfd2-ols"])


def test_when_a_run_begins_then_the_last_value_goes_first_and_the_slow_methods_next() -> None:
    plan = make_plan(load_suite("quick").resolve(), RunCache(None))
    order = [unit.method for unit in in_turn([Unit(fit, (0,)) for fit in plan])]
    assert order[:4] == ["last-value"] * 3 + ["arima"]


def test_when_bytes_of_a_run_change_then_what_learns_from_it_and_its_own_cells_are_asked_for_again(
    suite: str,
) -> None:
    before = make_plan(_resolved(suite), RunCache(None))
    after = make_plan(_resolved(suite), _Altered(5, _other_bytes))
    assert len(before) == len(after) == 6
    for old, new in zip(before, after, strict=True):
        learns = 5 in (*old.split.train, *old.split.validation)
        assert (old.key != new.key) == learns
        for (seed, old_key), (_, new_key) in zip(old.cells, new.cells, strict=True):
            assert (old_key != new_key) == (learns or seed == 5)


def test_when_only_what_was_measured_of_a_run_changes_then_nothing_is_asked_for_again(
    suite: str,
) -> None:
    before = make_plan(_resolved(suite), RunCache(None))
    after = make_plan(_resolved(suite), _Altered(5, _other_seconds))
    assert [(fit.key, fit.cells) for fit in before] == [(fit.key, fit.cells) for fit in after]


def test_when_a_run_is_repeated_or_extended_then_only_what_is_new_runs(
    suite: str, tmp_path: Path, plugin: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = plugin(mine="pass", yours="pass"), tmp_path / "out"
    load_plugin(path)
    options = RunOptions(suite, out, methods=["last-value", "mine"], plugins=[path], jobs=2)
    run_suite(options)

    def refuse(*arguments: object) -> None:
        raise AssertionError("workers were asked for")

    with monkeypatch.context() as patch:
        patch.setattr(local, "run_here", refuse)
        assert run_suite(options) == {"ok": 24}
    options.methods = ["last-value", "mine", "yours"]
    assert run_suite(options) == {"ok": 36}
    for name in ("mine", "yours"):
        assert len(_noted(tmp_path, f"{name}.fits")) == 3
        assert len(_noted(tmp_path, f"{name}.cells")) == len(SEEDS)


def test_when_failed_cells_are_to_be_tried_again_then_they_alone_run(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    # Of each fit one cell fails while the file is not there.
    path = plugin(
        mine="if once(f'one-{self.failing_}') and not (HERE / 'mended').exists(): raise OSError",
        yours="pass",
    )
    text = path.read_text(encoding="utf-8")
    text = text.replace('"fit")\n        pass', '"fit")\n        self.failing_ = task.seed', 1)
    path.write_text(text, encoding="utf-8")
    load_plugin(path)
    out = tmp_path / "out"
    options = RunOptions(suite, out, methods=["mine", "yours"], plugins=[path])
    assert run_suite(options) == {"ok": 21, "failed": 3}
    assert run_suite(options) == {"ok": 21, "failed": 3}
    assert len(_noted(tmp_path, "mine.begun")) == 12
    (tmp_path / "mended").touch()
    options.retry_failed = True
    assert run_suite(options) == {"ok": 24}
    assert run_suite(options) == {"ok": 24}
    assert len(_noted(tmp_path, "mine.begun")) == 12 + 3
    assert sorted(Counter(_noted(tmp_path, "mine.cells")).values()) == [1] * 12
    assert len(_noted(tmp_path, "yours.begun")) == 12


def test_when_timing_is_asked_for_then_what_ran_side_by_side_runs_again_once(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path, out = plugin(mine="pass"), tmp_path / "out"
    load_plugin(path)
    options = RunOptions(suite, out, methods=["mine"], plugins=[path], jobs=2)
    run_suite(options)
    assert {(row["jobs"], row["fit_jobs"]) for row in _rows(out)} == {(2, 2)}
    options.jobs, options.timing = None, True
    for _ in range(2):
        assert run_suite(options) == {"ok": 12}
        assert {(row["jobs"], row["fit_jobs"]) for row in _rows(out)} == {(1, 1)}
        assert sorted(Counter(_noted(tmp_path, "mine.cells")).values()) == [2] * 12


def test_when_a_run_is_killed_between_the_cells_of_a_fit_then_only_those_missing_run(
    suite: str, tmp_path: Path, plugin: Write, wait_for: WaitFor
) -> None:
    # Nobody goes on from the second cell before the run was killed.
    does = "while not once('first') and not (HERE / 'killed').exists(): time.sleep(0.02)"
    path, out = plugin(mine=does), tmp_path / "out"
    arguments = ("--plugin", path, "--methods", "mine", "--jobs", 1)
    with _under_way(suite, out, *arguments) as process:
        assert wait_for(lambda: len(_noted(tmp_path, "mine.begun")) == 2 and _stored(out) == 1)
        process.kill()
        process.communicate(timeout=300)
    (before,) = _rows(out)
    (tmp_path / "killed").touch()
    done = _weightcast(suite, out, *arguments)
    assert done.returncode == 0, done.stderr
    runs = _runs()
    finished = Counter(runs[line] for line in _noted(tmp_path, "mine.cells"))
    assert finished == dict.fromkeys(SEEDS, 1)
    assert len(_noted(tmp_path, "mine.fits")) == 1 + 3
    rows = _rows(out)
    assert len(rows) == 12
    assert before in rows


def _stored(out: Path) -> int:
    try:
        return len(_rows(out))
    except InputError:  # not there yet
        return 0


def test_when_the_disk_is_full_then_what_was_stored_stays_and_the_same_command_finishes(
    suite: str, tmp_path: Path, plugin: Write
) -> None:
    path, out = plugin(mine="pass", yours="pass"), tmp_path / "out"
    arguments = ("--plugin", path, "--methods", "mine,yours,last-two-line", "--jobs", 1)

    def few_bytes() -> None:
        # As a full disk does, writing fails instead of ending the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    full = _weightcast(suite, out, *arguments, preexec_fn=few_bytes)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("weightcast: results cannot be written: ")
    assert last.endswith("what was finished before is stored, and the same command resumes")
    before = _rows(out)
    assert 0 < len(before) < 36
    with sqlite3.connect(out / NAME) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    runs, seen = _runs(), {}
    for name in ("mine", "yours"):
        seen[name] = len(_noted(tmp_path, f"{name}.cells"))
    done = _weightcast(suite, out, *arguments)
    assert done.returncode == 0, done.stderr
    rows = _rows(out)
    assert len(rows) == 36
    assert all(row in rows for row in before)
    for name, count in seen.items():
        stored = {row["run"] for row in before if row["method"] == name}
        again = [runs[line] for line in _noted(tmp_path, f"{name}.cells")[count:]]
        assert Counter(again) == dict.fromkeys(set(SEEDS) - stored, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_when_a_run_is_stopped_then_the_cell_under_way_is_stored_and_it_says_how_to_go_on(
    suite: str, tmp_path: Path, plugin: Write, wait_for: WaitFor, number: signal.Signals
) -> None:
    # The cell goes on until the run has said that it stops.
    path = plugin(mine="while not (HERE / 'said').exists(): time.sleep(0.02)")
    out = tmp_path / "out"
    with _under_way(suite, out, "--plugin", path, "--methods", "mine", "--jobs", 1) as process:
        assert process.stderr is not None
        assert wait_for(lambda: bool(_noted(tmp_path, "mine.begun")))
        if number is signal.SIGINT:
            os.killpg(process.pid, number)  # from a keyboard it reaches the workers, too
        else:
            process.send_signal(number)
        err = ""
        while "stopping: cells under way are finished and stored" not in err:
            line = process.stderr.readline()
            assert line, err
            err += line
        (tmp_path / "said").touch()
        err += process.stderr.read()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    begun = len(_noted(tmp_path, "mine.begun"))
    assert err.splitlines()[-1] == (
        f"weightcast: interrupted with {12 - begun} cells to go; the same command resumes"
    )
    assert {row["status"] for row in _rows(out)} == {"ok"}
    assert len(_rows(out)) == begun == len(_noted(tmp_path, "mine.cells")) == 1


def test_when_ctrl_c_is_pressed_twice_then_the_run_ends_at_once(
    suite: str, tmp_path: Path, plugin: Write, wait_for: WaitFor
) -> None:
    path, out = plugin(mine="time.sleep(600)"), tmp_path / "out"
    with _under_way(suite, out, "--plugin", path, "--methods", "mine", "--jobs", 2) as process:
        assert wait_for(lambda: len(_noted(tmp_path, "mine.begun")) == 2)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        start = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 15.0
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        "weightcast: interrupted with 12 cells to go; the same command resumes"
    )
    assert not _rows(out)


def test_when_a_store_is_of_an_older_version_then_it_is_refused_and_left_as_it_is(
    suite: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(suite, out))
    database = sqlite3.connect(out / NAME)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    database.execute(f"PRAGMA user_version = {version - 1}")
    database.close()
    with pytest.raises(InputError) as caught:
        run_suite(RunOptions(suite, out))
    assert str(caught.value) == (
        f"{out / NAME} has store version {version - 1}, this is version {version}; "
        "use another folder, or the Weightcast that wrote it"
    )
    database = sqlite3.connect(out / NAME)
    assert database.execute("SELECT count(*) FROM cells").fetchone() == (12,)
    database.close()
