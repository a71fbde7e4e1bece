"""`weightcast run --scheduler`: a real Dask cluster of two worker processes on this machine."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from weightcast.bench.commands.run import RunFailed, RunOptions, run_suite
from weightcast.bench.engine import cluster, cluster_task
from weightcast.bench.engine.events import CellDone, Event
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.site import Setup
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.cells import COMPUTE
from weightcast.bench.results.tables import Results, load_results
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import InputError
from weightcast.methods import load_plugin

distributed = pytest.importorskip("distributed")

WritePlugin = Callable[..., Path]
WaitFor = Callable[..., bool]
Slack = Callable[[], AbstractContextManager[Callable[[], float]]]

SMALL = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "last-two-line", "lfd2-ols"]
contexts = [10]
rotations = 4
tuning = 0
jobs = 2
"""
LOOP = """
name = "loop-small"
datasets = ["digits-mlp-sgd"]
methods = ["ols-line"]
tiers = ["loop"]
jobs = 1

[loop]
steps = 60
spacing = 3
context = 5
horizon = 2
measure_every = 15
measured = 64
training = 2
calibration = 2
validation = 3
report = 3
widenings = 0

[loop.optimizers]
sgd = [0.02, 0.04, 0.08]
"""
#: Where the network's last tensor waits, so that a unit has a half-way.
SLOWLY = """
if task.tensor.shape == (10,):
    time.sleep(0.3)
return np.repeat(context[:, -1:], len(task.horizons), axis=1)
"""
#: The first nine forecasts go through.
HELD = """
if task.tensor.shape == (10,):
    open(f"BEGUN/{os.getpid()}-{time.time_ns()}", "w").close()
    while len(os.listdir("BEGUN")) > 9 and not os.path.exists("TOLD"):
        time.sleep(0.02)
return np.repeat(context[:, -1:], len(task.horizons), axis=1)
"""


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    with _cluster(2) as started:
        yield started


def _cluster(workers: int, **options: Any) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        **options,
    )


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return str(path)


def _run(suite: str, out: Path, plugins: list[Path], **options: Any) -> Results:
    methods = [name for plugin in plugins for name in load_plugin(plugin)]
    run_suite(RunOptions(suite, out, extra_methods=methods, plugins=plugins, **options))
    return load_results(out)


def _units(suite: str, methods: list[str]) -> list[Unit]:
    plan = make_plan(load_suite(suite).resolve(methods), RunCache(None))
    return [Unit(fit, fit.split.test) for fit in plan]


def _processes(dask_worker: int) -> list[psutil.Process]:
    """The processes that work for a Dask worker, their fork server among them."""
    try:
        return psutil.Process(dask_worker).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _at_work(dask_worker: int) -> bool:
    return len(_processes(dask_worker)) > 1


def _pids(started: Any) -> list[int]:
    with distributed.Client(started, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def test_when_a_suite_runs_on_a_cluster_then_numbers_are_those_of_a_local_run(
    dask_cluster: Any, small: str, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    plugin = write_plugin("mine", "return context[:, -1:] + 0.5 * task.horizons")
    text = SMALL.replace('"last-value", ', "").replace("rotations = 4", "rotations = 3")
    Path(small).write_text(text, encoding="utf-8")
    tables = []
    for name, where in (
        ("here", {"jobs": 2}),
        ("there", {"scheduler": dask_cluster.scheduler_address}),
    ):
        results = _run(small, tmp_path / name, [plugin], **where)
        cells = results.cells.drop(columns=[*COMPUTE])
        tables.append(cells.sort_values(["method", "tier", "run"]).reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) == 3 * 24
    assert set(tables[0]["status"]) == {"ok"}


def test_when_methods_misbehave_then_they_fare_as_in_a_local_run(
    dask_cluster: Any, small: str, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    bodies = {
        "raises": "raise RuntimeError(f'{__file__} {beside_it.__file__}')",
        "dies": "os.kill(os.getpid(), 11)",
        "eats": "kept = np.ones(200_000_000); raise RuntimeError('it fitted')",
    }
    plugins = [write_plugin(name, body, f"{name}.py") for name, body in bodies.items()]
    (tmp_path / "beside_it.py").touch()
    plugins[0].write_text("import beside_it\n" + plugins[0].read_text())
    hangs = write_plugin("hangs", "return context", "hangs.py")
    with hangs.open("a", encoding="utf-8") as file:
        file.write("    def fit(self, train, validation, task):\n        time.sleep(60)\n")
    plugins.append(hangs)
    text = SMALL.replace("rotations = 4", 'rotations = 3\ntiers = ["weights"]')
    Path(small).write_text(text.replace('"last-two-line", "lfd2-ols"', ""), encoding="utf-8")
    before = _pids(dask_cluster)
    results = _run(
        small,
        tmp_path / "out",
        plugins,
        scheduler=dask_cluster.scheduler_address,
        timeout=3.0,
        max_memory=1200,
    )
    statuses = results.cells.groupby("method")["status"].unique().map(list).to_dict()
    assert statuses == {
        "last-value": ["ok"],
        "raises": ["failed"],
        "dies": ["crashed"],
        "hangs": ["timeout"],
        "eats": ["out-of-memory"],
    }
    assert (results.cells.groupby("method")["run"].nunique() == 12).all()
    reasons = results.cells.groupby("method")["reason"].first()
    assert "SIGSEGV" in reasons["dies"]
    # What ran was the copy of the plugin, and of the module beside it, that was sent.
    assert re.search(r"/raises\.py \S+/beside_it\.py$", reasons["raises"])
    assert str(tmp_path) not in reasons["raises"]
    assert sorted(_pids(dask_cluster)) == sorted(before)


def test_when_a_dask_worker_is_killed_half_way_then_no_cell_is_lost_or_there_twice(
    dask_cluster: Any,
    small: str,
    tmp_path: Path,
    write_plugin: WritePlugin,
    wait_for: WaitFor,
    alive: Callable[[int], bool],
) -> None:
    plugin = write_plugin("slowly", SLOWLY)
    victim, out = _pids(dask_cluster)[0], tmp_path / "out"
    children: list[psutil.Process] = []

    def kill() -> None:
        if wait_for(lambda: _at_work(victim)):
            time.sleep(1.5)
            children.extend(_processes(victim))
            os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    cells = _run(small, out, [plugin], scheduler=dask_cluster.scheduler_address).cells
    killer.join()
    assert len(children) > 1
    assert victim not in _pids(dask_cluster)
    assert wait_for(lambda: not any(alive(child.pid) for child in children))
    assert not cells.duplicated(["method", "run", "tier"]).any()
    assert len(cells) == 4 * 24
    assert set(cells["status"]) == {"ok"}


def test_when_a_loop_suite_runs_on_a_cluster_then_numbers_are_those_of_a_local_run(
    dask_cluster: Any, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    suite = tmp_path / "loop.toml"
    suite.write_text(LOOP, encoding="utf-8")
    plugin = write_plugin("mine", "return context[:, -1:] + 0.5 * task.horizons")
    found = []
    for name, where in (
        ("here", {"jobs": 2}),
        ("there", {"scheduler": dask_cluster.scheduler_address}),
    ):
        rows = _run(str(suite), tmp_path / name, [plugin], **where).loops
        found.append({row["key"]: (row["status"], row["measured"]) for row in rows})
        assert {row["status"] for row in rows} == {"ok"}
        assert {row["method"] for row in rows} >= {"mine", "ols-line", "null"}
    assert found[0] == found[1]
    assert len(found[0]) == 114


def test_when_a_clusters_worker_has_another_version_then_it_is_refused(
    dask_cluster: Any, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getpid()

    def version(name: str) -> str:
        return "9.9.9" if os.getpid() == here else "0.1.0"

    monkeypatch.setattr(cluster, "version", version)
    says = (
        r"the Dask worker tcp://\S+ has Weightcast 0.1.0, this machine 9.9.9; install 9.9.9 on both"
    )
    with pytest.raises(InputError, match=says):
        run_suite(RunOptions(small, tmp_path / "out", scheduler=dask_cluster.scheduler_address))


def test_when_a_clusters_worker_does_not_see_the_data_then_it_is_refused(
    dask_cluster: Any, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, here, isdir = tmp_path / "data", os.getpid(), os.path.isdir

    def seen(path: Any) -> bool:
        return isdir(path) and (os.getpid() == here or Path(path).name != "data")

    data.mkdir()
    monkeypatch.setattr(os.path, "isdir", seen)
    says = f"has no folder {data}; name one that all machines share with --data"
    with pytest.raises(InputError, match=says):
        run_suite(
            RunOptions(small, tmp_path / "out", data=data, scheduler=dask_cluster.scheduler_address)
        )


def _begin(
    started: Any, units: list[Unit], plugin: Path, stop: threading.Event
) -> tuple[Iterator[list[Event]], list[Event]]:
    """Run units until one of them is back."""
    setup, limits = Setup((plugin,)), Limits(60.0, 10**10)
    happening, jobs = cluster.run_on_cluster(started.scheduler_address, units, setup, limits, stop)
    assert jobs == len(_pids(started))
    return happening, list(next(happening))


def test_when_a_run_is_to_stop_then_cells_under_way_come_back_and_no_others(
    dask_cluster: Any, small: str, tmp_path: Path, write_plugin: WritePlugin, wait_for: WaitFor
) -> None:
    Path(small).write_text(SMALL.replace("rotations = 4", "rotations = 3"), encoding="utf-8")
    begun, told = tmp_path / "begun", tmp_path / "told"
    begun.mkdir()
    # Two of three units come to their end; the cell that is under way then waits for the stop.
    body = HELD.replace("BEGUN", str(begun)).replace("TOLD", str(told))
    plugin, stop = write_plugin("stoppable", body), threading.Event()
    units = _units(small, load_plugin(plugin))
    happening, events = _begin(dask_cluster, units, plugin, stop)
    stop.set()

    def stopping() -> bool:
        return all(stop.is_set() for stop in cluster_task._stops.values())

    def let_go() -> None:
        with distributed.Client(dask_cluster, set_as_default=False) as client:
            assert wait_for(lambda: all(client.run(stopping).values()))
        told.touch()

    letting_go = threading.Thread(target=let_go)
    letting_go.start()
    events += [event for batch in happening for event in batch]
    letting_go.join()
    done = [event for event in events if isinstance(event, CellDone)]
    assert 4 <= len(done) < 12
    assert all(row.status == "ok" for cell in done for row in cell.rows)
    assert {cell.site.jobs for cell in done} == {2}


def test_when_a_run_is_given_up_then_its_processes_end_at_once(
    dask_cluster: Any,
    small: str,
    tmp_path: Path,
    write_plugin: WritePlugin,
    wait_for: WaitFor,
    slack: Slack,
) -> None:
    asleep = tmp_path / "asleep"
    asleep.mkdir()
    body = f"open(f'{asleep}/{{os.getpid()}}', 'w').close()\ntime.sleep(50)"
    plugin, pids = write_plugin("sleeps", body), _pids(dask_cluster)
    sleeping = load_plugin(plugin)
    units = _units(small, ["last-value"])[:1] + _units(small, sleeping)
    happening, _ = _begin(dask_cluster, units, plugin, threading.Event())
    # One Dask worker or both: Dask may have given all of the method's units to one of them, and the
    # process that the other one keeps for the next unit is to end as well.
    assert wait_for(lambda: any(asleep.iterdir()))
    with slack() as times_longer:
        began = time.monotonic()
        happening.close()  # type: ignore[attr-defined]
        assert wait_for(lambda: not any(_at_work(pid) for pid in pids))
        took = time.monotonic() - began
    assert took < 10 * times_longer()


def test_when_a_run_is_over_then_no_process_waits_for_another_unit(
    dask_cluster: Any, small: str, write_plugin: WritePlugin, wait_for: WaitFor, slack: Slack
) -> None:
    plugin = write_plugin("mine", "return context[:, -1:] + task.horizons")
    pids = _pids(dask_cluster)
    units = _units(small, load_plugin(plugin))
    happening, _ = _begin(dask_cluster, units, plugin, threading.Event())
    assert any(_at_work(pid) for pid in pids)
    assert list(happening)
    with slack() as times_longer:
        began = time.monotonic()
        assert wait_for(lambda: not any(_at_work(pid) for pid in pids))
        took = time.monotonic() - began
    assert took < 10 * times_longer()


def test_when_dask_gives_a_unit_up_then_its_cells_crashed_and_the_run_goes_on(
    small: str, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    body = "import psutil\npsutil.Process(os.getppid()).parent().kill()\ntime.sleep(60)"
    plugin = write_plugin("assassin", body)
    text = SMALL.replace("rotations = 4", 'rotations = 3\ntiers = ["weights"]')
    Path(small).write_text(text, encoding="utf-8")
    with _cluster(1, scheduler_kwargs={"allowed_failures": 0}) as started:
        results = _run(small, tmp_path / "out", [plugin], scheduler=started.scheduler_address)
    # Dask may blame units that wait beside it as well.
    assert (results.cells.groupby("method")["run"].count() == 12).all()
    assert results.cells["method"].nunique() == 4
    assassin = results.cells[results.cells["method"] == "assassin"]
    assert assassin["status"].unique().tolist() == ["crashed"]
    failure = next(row for row in results.failures if row["method"] == "assassin")
    assert failure["reason"] == "its Dask worker was lost 1 time"


def test_when_the_cluster_goes_then_the_run_says_what_did_not_come_back(
    small: str,
    tmp_path: Path,
    write_plugin: WritePlugin,
    wait_for: WaitFor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plugin = write_plugin("naps", "time.sleep(50)")
    with _cluster(1) as started:
        pid = _pids(started)[0]

        def close() -> None:
            wait_for(lambda: _at_work(pid))
            started.close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(RunFailed, match="cells did not come back; the same command runs them"):
            _run(small, tmp_path / "out", [plugin], scheduler=started.scheduler_address)
        closer.join()
    assert "or its scheduler is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "no address of a Dask scheduler"),
        ("smoke://127.0.0.1:8786", "unknown address scheme 'smoke'"),
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there within 1 s"),
    ],
)
def test_when_there_is_no_scheduler_then_it_is_said(
    address: str, says: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT", 1)
    with pytest.raises(InputError, match=says) as refusal:
        run_suite(RunOptions(small, tmp_path / "out", scheduler=address))
    assert len(str(refusal.value).splitlines()) == 1


def test_when_a_cluster_has_no_workers_then_it_is_waited_for_and_then_said(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "_WORKERS", 1)
    with (
        _cluster(0) as started,
        pytest.raises(InputError, match="no workers after 1 s; start some with: dask worker"),
    ):
        run_suite(RunOptions(small, tmp_path / "out", scheduler=started.scheduler_address))
    assert "waiting for them" in capsys.readouterr().err
