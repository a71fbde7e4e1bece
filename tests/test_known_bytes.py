"""Nothing is computed on other bytes than those that a key stands for."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from weightcast.bench.commands.info import trajectory_info, trajectory_lines
from weightcast.bench.commands.run import RunFailed, RunOptions, run_suite
from weightcast.bench.engine.events import CellDone, Event
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.fits import KnownRun, make_plan
from weightcast.bench.plan.run_cache import TRIES, RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.scoring.cell import CellScore
from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.bench.scoring.known_bytes import KnownBytes
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import (
    GeneratedDataSet,
    InputError,
    RecordedDataSet,
    Trajectory,
    open_trajectory,
    registry,
)
from weightcast.datasets.dataset import SHIPPED
from weightcast.datasets.errors import ChangedMeanwhile
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.importing.run import import_run
from weightcast.methods import load_plugin

NAME = "toy-bytes"


@dataclass(frozen=True)
class _Folders(RecordedDataSet):
    """Runs in the checkpoints layout."""

    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        assert data is not None
        return open_trajectory(data / self.folder / f"run-{seed}")


@dataclass
class _Data:
    """A folder of data, its runs as a plan would know them, and how a worker reads them."""

    folder: Path
    known: list[KnownRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        runs = RunCache(self.folder.parent)
        found = runs.lineages(NAME)
        self.known = [
            KnownRun(NAME, seed, run.fingerprint, runs.files(NAME, seed))
            for seed, run in found.items()
        ]

    def worker(self, *, elsewhere: bool = False) -> tuple[KnownBytes, RunCache]:
        runs = RunCache(self.folder.parent)
        return KnownBytes(runs, elsewhere=elsewhere), runs

    @property
    def file(self) -> Path:
        """The file of seed 1."""
        return self.folder / "1.safetensors"


def _dataset(kind: type[RecordedDataSet]) -> RecordedDataSet:
    return kind(NAME, (0, 1), "a toy", "drawn", "BSD-3-Clause")


@pytest.fixture
def data(
    tmp_path: Path, toy_run: Callable[..., Trajectory], monkeypatch: pytest.MonkeyPatch
) -> _Data:
    monkeypatch.setitem(registry._DATASETS, NAME, _dataset(RecordedDataSet))
    for seed in range(2):
        write_stacked(_drawn(toy_run, seed), tmp_path / "data" / NAME / f"{seed}.safetensors")
    return _Data(tmp_path / "data" / NAME)


def _drawn(toy_run: Callable[..., Trajectory], seed: int) -> Trajectory:
    values = np.random.default_rng(seed).standard_normal((6, 5))
    return toy_run(values, seed, NAME)


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(7.0).tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_file_of_the_same_time(path: Path) -> None:
    other, before = path.with_suffix(".other"), path.stat()
    raw = bytearray(path.read_bytes())
    raw[-8:-4] = np.float32(7.0).tobytes()
    other.write_bytes(raw)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def _through_another_link(path: Path) -> None:
    link = path.with_suffix(".link")
    os.link(path, link)
    _same_size_and_time(link)
    link.unlink()


def _link_to_another(path: Path) -> None:
    other = path.parent.parent / "elsewhere.safetensors"
    shutil.copy2(path, other)
    _same_size_and_time(other)
    path.unlink()
    path.symlink_to(other)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def _gone(path: Path) -> None:
    path.unlink()


def _other_losses(path: Path) -> None:
    run = open_trajectory(path)
    arrays = {info.name: run.read(info).reshape(-1, *info.shape) for info in run.tensors}
    meta = replace(run.meta, train_loss=(9.0,) * run.n_snapshots)
    other = Trajectory.from_arrays(arrays, run.steps.tolist(), meta, run.tensors)
    write_stacked(other, path)


def _another_run(path: Path) -> None:
    shutil.copy(path.with_name("0.safetensors"), path)


CHANGES = [
    _same_size_and_time, _other_file_of_the_same_time, _through_another_link, _link_to_another,
    _cut, _gone, _other_losses, _another_run,
]  # fmt: skip


def reading(
    worker: KnownBytes, known: list[KnownRun], work: Callable[[], object] = lambda: None
) -> object:
    """Read as a unit does: again where files were touched meanwhile."""
    for _ in range(TRIES):
        worker.check_all(known)
        with suppress(OSError, InputError):  # of a file that was cut meanwhile
            done = work()
        if worker.untouched(known):
            return done
    raise AssertionError("it is written to again and again")


@pytest.mark.parametrize("change", CHANGES)
def test_when_a_file_changes_after_the_plan_then_nothing_reads_it(
    data: _Data, change: Callable[[Path], None]
) -> None:
    before, _ = data.worker()  # has read all runs, and has them open
    reading(before, data.known)
    change(data.file)
    for worker in (before, data.worker()[0]):
        reading(worker, data.known[:1])
        with pytest.raises(ChangedMeanwhile, match=f"{NAME}, seed 1 was changed while") as caught:
            reading(worker, data.known)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", CHANGES)
def test_when_a_file_changes_while_it_is_read_then_what_was_read_is_thrown_away(
    data: _Data, change: Callable[[Path], None]
) -> None:
    worker, runs = data.worker()

    def work() -> float:
        run = runs(NAME, 1)
        total = float(run.read(run.tensors[0], [0]).sum())
        if not done:
            done.append(change(data.file))
        return total + float(run.read(run.tensors[0], [5]).sum())

    done: list[None] = []
    with pytest.raises(ChangedMeanwhile):
        reading(worker, data.known, work)


def _touched(path: Path) -> None:
    path.touch()


def _replaced_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    os.replace(path.with_suffix(".copy"), path)


def _linked(path: Path) -> None:
    os.link(path, path.with_suffix(".link"))


def _mode(path: Path) -> None:
    path.chmod(0o444)


@pytest.mark.parametrize("touch", [_touched, _replaced_by_a_copy, _linked, _mode])
def test_when_a_file_is_touched_but_holds_what_it_held_then_work_goes_on(
    data: _Data, touch: Callable[[Path], None]
) -> None:
    worker, runs = data.worker()
    touched: list[None] = []

    def work() -> int:
        read.append(float(runs(NAME, 1).read(runs(NAME, 1).tensors[0]).sum()))
        if not touched:
            touched.append(touch(data.file))
        return len(read)

    read: list[float] = []
    # What was read meanwhile might have been anything, so it is done again.
    assert reading(worker, data.known, work) == 2
    assert read[0] == read[1]
    assert reading(worker, data.known, work) == 3


def test_when_nothing_changes_then_no_contents_are_read_to_know_it(
    data: _Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trajectory, "content_hash", None)
    worker, _ = data.worker()
    for _ in range(3):
        reading(worker, data.known)


def test_when_the_plan_is_another_machines_then_contents_are_read_once(
    data: _Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, _ = data.worker(elsewhere=True)
    reading(worker, data.known)
    with monkeypatch.context() as patch:
        patch.setattr(Trajectory, "content_hash", None)
        reading(worker, data.known)
    _same_size_and_time(data.file)
    with pytest.raises(ChangedMeanwhile, match="reads other data than the client"):
        reading(worker, data.known)


def test_when_a_file_is_written_to_all_the_time_then_its_cells_fail_and_are_tried_again(
    data: _Data,
    toy_run: Callable[..., Trajectory],
    this_process: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = range(4)
    for seed in seeds:
        write_stacked(_drawn(toy_run, seed), data.folder / f"{seed}.safetensors")
    kept = RecordedDataSet(NAME, tuple(seeds), "a toy", "drawn", "BSD-3-Clause")
    monkeypatch.setitem(registry._DATASETS, NAME, kept)
    asked = f'name = "all"\nrotations = 4\ndatasets = ["{NAME}"]\ncontexts = [2]\n'
    (tmp_path / "suite.toml").write_text(asked + 'methods = ["last-value"]\n', encoding="utf-8")
    suite = load_suite(str(tmp_path / "suite.toml")).resolve()
    plan = make_plan(suite, RunCache(data.folder.parent))
    fit = next(fit for fit in plan if 1 in fit.split.test)
    made = CellScore.add

    def touched(score: CellScore, block: ForecastBlock) -> None:
        data.file.touch()
        made(score, block)

    monkeypatch.setattr(CellScore, "add", touched)
    events: list[Event] = []
    setup, stop = Setup(data=data.folder.parent), threading.Event()
    Unit(fit, fit.split.test).run(this_process, setup, Site(), events.append, stop)
    rows = {event.run: event.rows[0] for event in events if isinstance(event, CellDone)}
    assert {seed: (row.status, row.again) for seed, row in rows.items() if row.again} == {
        1: ("failed", True)
    }
    assert "again and again" in rows[1].reason


def test_when_generated_runs_come_out_otherwise_in_a_worker_then_they_are_refused(
    toy_run: Callable[..., Trajectory], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    random = np.random.default_rng()  # a generator that forgot its seed

    def generate(seed: int) -> Trajectory:
        return toy_run(random.standard_normal((6, 5)), seed, NAME)

    drawn = GeneratedDataSet(NAME, (0, 1), "drawn", "drawn", "BSD-3-Clause", generate=generate)
    monkeypatch.setitem(registry._DATASETS, NAME, drawn)
    data = _Data(tmp_path / "data" / NAME)
    with pytest.raises(ChangedMeanwhile):
        reading(data.worker()[0], data.known)


@pytest.fixture
def folders(
    tmp_path: Path, toy_run: Callable[..., Trajectory], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Two runs in the checkpoints layout; return the folder of the second one."""
    monkeypatch.setitem(registry._DATASETS, NAME, _dataset(_Folders))
    for seed in range(2):
        run, folder = _drawn(toy_run, seed), tmp_path / "data" / NAME / f"run-{seed}"
        for index, step in enumerate(run.steps):
            (folder / f"checkpoint-{step}").mkdir(parents=True)
            values = {name: np.atleast_1d(v).copy() for name, v in run.snapshot(index).items()}
            save_file(values, folder / f"checkpoint-{step}" / "model.safetensors")
        import_run(folder, None, dataset=NAME, seed=seed)
    return tmp_path / "data" / NAME / "run-1"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("checkpoint-5/model.safetensors", _same_size_and_time),
        ("checkpoint-0/model.safetensors", _other_file_of_the_same_time),
        ("checkpoint-3/model.safetensors", _gone),
        ("trajectory.json", _gone),
    ],
)
def test_when_one_of_many_checkpoints_changes_then_the_run_is_not_read(
    folders: Path, name: str, change: Callable[[Path], None]
) -> None:
    data = _Data(folders.parent)
    worker, _ = data.worker()
    reading(worker, data.known)
    change(folders / name)
    with pytest.raises(ChangedMeanwhile, match=f"{NAME}, seed 1 was changed"):
        reading(worker, data.known)


SUITE = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value"]
contexts = [10]
rotations = 3
tiers = ["weights"]
"""

PLUGIN = """
from pathlib import Path

import numpy as np
from weightcast.methods import CoordinateForecaster, register

HERE = Path({here!r})


@register("meddles")
class Meddles(CoordinateForecaster):
    \"\"\"The last value; while the third cell is made somebody writes to all runs.\"\"\"

    def predict_block(self, context, task):
        with (HERE / "begun").open("a") as log:
            log.write("x")
        if (HERE / "begun").stat().st_size == 12 and (HERE / "meddle").exists():
            for path in (HERE / "data" / "digits-mlp-sgd").glob("*.safetensors"):
                raw = bytearray(path.read_bytes())
                raw[-4000:] = np.ones(1000, np.float32).tobytes()
                path.write_bytes(raw)
        return np.repeat(context[:, -1:], len(task.horizons), axis=1)
"""


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    shutil.copytree(SHIPPED / "digits-mlp-sgd", tmp_path / "data" / "digits-mlp-sgd")
    (tmp_path / "small.toml").write_text(SUITE)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN.format(here=str(tmp_path)))
    load_plugin(plugin)
    return RunOptions(
        str(tmp_path / "small.toml"),
        tmp_path / "out",
        methods=["meddles"],
        plugins=[plugin],
        data=tmp_path / "data",
        jobs=1,
    )


def _scores(folder: Path) -> list[tuple[int, str]]:
    with Store(folder) as store:
        rows = store.rows("SELECT run, status, metrics FROM cells ORDER BY run")
    return [(row["run"], row["metrics"]) for row in rows if row["status"] == "ok"]


def test_when_data_change_during_a_run_then_cells_fail_and_the_next_run_does_them_again(
    options: RunOptions, tmp_path: Path
) -> None:
    (tmp_path / "meddle").touch()
    with pytest.raises(RunFailed, match=r"have no result: digits-mlp-sgd, seed \d+ was changed"):
        run_suite(options)
    before = _scores(options.out)
    with Store(options.out) as store:
        failed = store.rows("SELECT reason FROM cells WHERE status != 'ok'")
    assert len(before) == 2
    assert len(failed) == 10
    assert all("the same command" in row["reason"] for row in failed)
    (tmp_path / "meddle").unlink()
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(SHIPPED / "digits-mlp-sgd", tmp_path / "data" / "digits-mlp-sgd")
    assert run_suite(options) == {"ok": 12}
    assert run_suite(replace(options, out=tmp_path / "clean")) == {"ok": 12}
    assert _scores(options.out) == _scores(tmp_path / "clean")
    assert set(before) < set(_scores(options.out))


def test_when_a_shipped_file_is_not_the_one_that_ships_then_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED / "digits-mlp-sgd", tmp_path / "digits-mlp-sgd")
    for module in ("weightcast.datasets.dataset", "weightcast.datasets.admission.shipped"):
        monkeypatch.setattr(f"{module}.SHIPPED", tmp_path)
    assert {run.verified for run in RunCache(None).lineages("digits-mlp-sgd").values()} == {
        "shipped"
    }
    _same_size_and_time(tmp_path / "digits-mlp-sgd" / "7.safetensors")
    with pytest.raises(InputError, match=r"7\.safetensors is not the file that ships"):
        RunCache(None).lineages("digits-mlp-sgd")


@pytest.mark.parametrize("name", ["digits-mlp-adam", "digits-mlp-sgd"])
def test_when_shipped_runs_are_read_then_each_is_the_one_that_is_pinned(name: str) -> None:
    found = RunCache(None).lineages(name)
    assert [run.verified for run in found.values()] == ["shipped"] * 12


def test_when_a_recorded_file_is_damaged_then_no_result_is_planned_on_it(data: _Data) -> None:
    assert {run.verified for run in RunCache(data.folder.parent).lineages(NAME).values()} == {
        "checksums"
    }
    _same_size_and_time(data.file)
    with pytest.raises(InputError, match="the bytes of tensor b are not those that were written"):
        RunCache(data.folder.parent).lineages(NAME)


def test_when_info_reads_a_file_then_it_says_whether_its_bytes_are_those_that_were_written(
    data: _Data, weightcast: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    said = "\n".join(trajectory_lines(trajectory_info(data.file)))
    assert "every tensor has the checksum" in said
    shipped = SHIPPED / "digits-mlp-sgd" / "0.safetensors"
    assert trajectory_info(shipped)["verified"] == "shipped"
    _same_size_and_time(data.file)
    done = weightcast("info", data.file)
    assert done.returncode == 2
    assert "the bytes of tensor b are not those that were written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_when_a_run_has_no_checksums_then_info_says_so(folders: Path) -> None:
    assert "no checksums: whether" in "\n".join(trajectory_lines(trajectory_info(folders)))


@pytest.mark.parametrize("method", ["wnn", "nino-mlp"])
def test_when_a_state_moves_then_keys_stay_and_when_its_bytes_change_they_do_not(
    tmp_path: Path, method: str
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "state.safetensors").write_bytes(b"published")

    def keys(folder: str) -> list[tuple[str, str]]:
        path = tmp_path / "s.toml"
        state = tmp_path / folder / "state.safetensors"
        path.write_text(
            'name = "s"\ndatasets = ["linreg-gd"]\ncontexts = [10]\ntiers = ["weights"]\n'
            f'[[methods]]\nname = "{method}"\nparams = {{ state = "{state}" }}\n'
        )
        plan = make_plan(load_suite(str(path)).resolve(), RunCache(None))
        return [(fit.key, fit.files) for fit in plan]

    first = keys("a")
    assert first == keys("b")
    times = (tmp_path / "a" / "state.safetensors").stat()
    (tmp_path / "a" / "state.safetensors").write_bytes(b"PUBLISHED")
    os.utime(tmp_path / "a" / "state.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not set(first) & set(keys("a"))
