"""The benchmark end to end, in real worker processes: results, failures, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import MethodEntry, load_suite
from weightcast.bench.results.cells import COMPUTE, IDENTITY
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import export_cells, load_results
from weightcast.datasets import InputError
from weightcast.datasets.admission.gates import Gate
from weightcast.methods import get_method

WritePlugin = Callable[..., Path]

SMALL = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "last-two-line", "lfd2-ols"]
contexts = [10]
rotations = 4
jobs = 2
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return str(path)


def _keys(folder: Path) -> set[str]:
    """Return the keys of the cells that are stored."""
    with Store(folder) as store:
        return store.finished()


def _cells(folder: Path) -> pd.DataFrame:
    return load_results(folder).cells


def test_when_a_suite_is_run_then_every_run_is_tested_once_in_every_tier(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run_suite(RunOptions(small, out)) == {"ok": 36}
    cells = _cells(out)
    for _, part in cells.groupby(["method", "tier"]):
        assert sorted(part["run"]) == list(range(12))
    assert set(cells["tier"]) == {"weights", "function"}
    weights = cells[cells["tier"] == "weights"].set_index(["method", "run"])
    baseline = weights.loc["last-value"]
    for name in ("rel_sum", "rel_final", "rel_mean", "rel_tensor_mean", "rel_sum_sample"):
        np.testing.assert_allclose(baseline[name].to_numpy(float), 1.0, atol=1e-9)
    assert (weights["coverage"] == 1.0).all()
    assert (weights.loc["lfd2-ols"]["rel_sum"] < 0.9).all()
    function = cells[cells["tier"] == "function"].set_index(["method", "run"]).loc["last-value"]
    np.testing.assert_allclose(function["loss_change_last"].to_numpy(float), 0.0, atol=1e-5)
    assert (function["steps_gained_last"].abs() <= 45).all()
    assert {path.name for path in out.iterdir()} >= {
        "results.sqlite", "suite.toml", "environment.json",
    }  # fmt: skip
    assert load_suite(str(out / "suite.toml")).name == "small"
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    assert environment["packages"]["numpy"] == np.__version__


def test_when_a_suite_is_run_twice_or_in_one_process_then_the_numbers_are_the_same(
    small: str, tmp_path: Path
) -> None:
    tables = []
    for name, jobs in (("a", 2), ("b", 1)):
        run_suite(RunOptions(small, tmp_path / name, jobs=jobs))
        cells = _cells(tmp_path / name).drop(columns=[*COMPUTE])
        tables.append(cells.sort_values(["method", "tier", "run"]).reset_index(drop=True))
    pd.testing.assert_frame_equal(*tables)


def test_when_nothing_changed_then_nothing_runs_and_when_a_method_is_added_only_it_does(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value"]))
    first = _keys(out)
    assert len(first) == 12
    capsys.readouterr()
    run_suite(RunOptions(small, out, methods=["last-value"]))
    assert "12 of 12 cells are here, 0 to run" in capsys.readouterr().err
    run_suite(RunOptions(small, out))
    assert "12 of 36 cells are here, 24 to run" in capsys.readouterr().err
    assert first < _keys(out)


def test_when_a_plugins_code_changes_then_its_results_are_replaced_and_no_others(
    small: str, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    out = tmp_path / "out"
    body = "return np.repeat(context[:, -1:], len(task.horizons), axis=1)"
    options = RunOptions(small, out, methods=["last-value", "mine"])
    keys = []
    for text in (body, body + "  # changed"):
        plugin = write_plugin("mine", text)
        options.plugins = [plugin]
        from weightcast.methods import load_plugin

        load_plugin(plugin)
        run_suite(options)
        keys.append(_keys(out))
    assert len(keys[0]) == len(keys[1]) == 24
    assert len(keys[0] & keys[1]) == 12
    cells = _cells(out)
    assert len(cells[cells["method"] == "mine"]) == 24


def test_when_methods_misbehave_then_each_costs_its_own_rows_alone(
    small: str, tmp_path: Path, write_plugin: WritePlugin
) -> None:
    bodies = {
        "raises": "raise RuntimeError('no forecast today')",
        "returns-nan": "return np.full((len(context), len(task.horizons)), np.nan)",
        "wrong-shape": "return context",
        "dies": "os._exit(9)",
        "out-of-memory": "raise MemoryError",
        "abstains": "return None if task.tensor.kind == 'bias' else "
        "np.repeat(context[:, -1:], len(task.horizons), axis=1)",
    }
    plugins = [write_plugin(name, body, f"{name}.py") for name, body in bodies.items()]
    from weightcast.methods import load_plugin

    for plugin in plugins:
        load_plugin(plugin)
    out = tmp_path / "out"
    statuses = run_suite(
        RunOptions(small, out, methods=["last-value", *bodies], plugins=plugins, jobs=2)
    )
    assert statuses == {
        "ok": 24, "failed": 12, "invalid": 24, "crashed": 12, "out-of-memory": 12,
    }  # fmt: skip
    results = load_results(out)
    statuses = results.cells.groupby("method")["status"].unique().map(list).to_dict()
    assert statuses == {
        "last-value": ["ok"],
        "raises": ["failed"],
        "returns-nan": ["invalid"],
        "wrong-shape": ["invalid"],
        "dies": ["crashed"],
        "out-of-memory": ["out-of-memory"],
        "abstains": ["ok"],
    }
    reasons = results.cells.groupby("method")["reason"].first()
    assert reasons["raises"] == "RuntimeError: no forecast today"
    assert "shape" in reasons["wrong-shape"]
    assert "not finite" in reasons["returns-nan"]
    trace = next(f["traceback"] for f in results.failures if f["method"] == "raises")
    assert "predict_block" in trace
    coverage = results.cells[results.cells["method"] == "abstains"]["coverage"]
    np.testing.assert_allclose(coverage, (2410 - 42) / 2410)
    # Who fails everywhere is no competitor, and is counted below the ranking.
    ranking = rank_results(results).ranking
    assert "raises" not in {standing.method for standing in ranking.standings}
    assert ("raises", 12, 12) in {(u.method, u.failures, u.cells) for u in ranking.unranked}


def test_when_a_run_is_killed_then_a_second_one_finishes_it_and_loses_nothing(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    Path(small).write_text(f'{SMALL}tiers = ["weights"]\n', encoding="utf-8")
    command = [
        sys.executable, "-c", "from weightcast.bench.cli import main; main()",
        "run", "--suite", small, "--out", str(out), "--jobs", "1",
        "--methods", "last-value,last-two-line,ols-line,lfd2-ols,ar1",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None:
            time.sleep(0.05)
            if (out / "results.sqlite").exists():
                try:
                    before = _keys(out)
                except InputError:
                    continue
                if before:
                    break
        os.killpg(process.pid, signal.SIGKILL)
    before = _keys(out)
    assert before
    subprocess.run(command, check=True, capture_output=True)
    assert before <= _keys(out)
    assert len(_keys(out)) == 5 * 12
    cells = _cells(out)
    assert not cells.duplicated(["method", "run", "tier"]).any()
    assert len(cells) == 5 * 12


def test_when_cells_are_exported_then_columns_come_in_order_in_both_formats(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value"]))
    results = load_results(out)
    for name in ("cells.csv", "cells.parquet"):
        assert export_cells(results, tmp_path / name) == 24
    table = pd.read_csv(tmp_path / "cells.csv")
    assert tuple(table.columns[: len(IDENTITY)]) == IDENTITY
    assert set(COMPUTE) <= set(table.columns)
    assert table["params"].unique().tolist() == ["{}"]
    assert table["horizon_set"].unique().tolist() == ["common"]
    parquet = pd.read_parquet(tmp_path / "cells.parquet")
    assert list(parquet.columns) == list(table.columns)
    with pytest.raises(InputError, match=r"must end in \.csv or \.parquet"):
        export_cells(results, tmp_path / "cells.xlsx")


def test_when_a_sampled_method_runs_then_all_are_ranked_on_its_sample(
    small: str, tmp_path: Path
) -> None:
    text = SMALL.replace('"lfd2-ols"', '"lfd2-ols", "arima"') + "sample = 6\n"
    Path(small).write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    run_suite(RunOptions(small, out))
    results = load_results(out)
    board = rank_results(results)
    assert board.metric == "rel_sum_sample"
    assert any("arima" in note for note in board.notes)
    assert {s.method for s in board.ranking.standings} >= {"arima", "lfd2-ols"}
    everywhere = rank_results(results, metric="rel_sum")
    assert "arima" not in {s.method for s in everywhere.ranking.standings}
    arima = results.cells[results.cells["method"] == "arima"]
    assert arima["tier"].unique().tolist() == ["weights"]
    assert arima["rel_sum"].isna().all()
    np.testing.assert_allclose(arima["coverage"], 6 / 2410)


def test_when_a_suite_asks_for_parameters_then_they_are_kept_and_named(
    small: str, tmp_path: Path
) -> None:
    text = SMALL.replace(
        '"lfd2-ols"',
        '"damped-line", {name = "damped-line", params = {lags = [1], dampings = [1.0]}}',
    )
    Path(small).write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    run_suite(RunOptions(small, out))
    cells = _cells(out)
    labels = set(cells["label"])
    assert "damped-line" in labels
    assert "damped-line(dampings=[1.0], lags=[1])" in labels
    weights = cells[cells["tier"] == "weights"].set_index(["label", "run"])["rel_sum"]
    np.testing.assert_allclose(  # with k = 1 and φ = 1 it is the line through the last two
        weights["damped-line(dampings=[1.0], lags=[1])"].to_numpy(float),
        weights["last-two-line"].to_numpy(float),
        rtol=1e-5,
    )


def test_when_a_device_is_named_then_methods_that_take_one_get_it_and_no_others(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(small).resolve(["last-value", "lstm", "nino-mlp"])
    said = suite.model_copy(
        update={"methods": [*suite.methods, MethodEntry(name="lstm", params={"device": "cpu"})]}
    )
    found = [(entry.name, entry.params) for entry in said.on_device("cuda").methods]
    assert found == [
        ("last-value", {}),
        ("lstm", {"device": "cuda"}),
        ("nino-mlp", {"device": "cuda"}),
        ("lstm", {"device": "cpu"}),
    ]
    weights = tmp_path / "weights.toml"
    weights.write_text('tiers = ["weights"]\n' + SMALL, encoding="utf-8")
    with pytest.raises(InputError, match="no method of this run takes a device, and no network is"):
        run_suite(RunOptions(str(weights), tmp_path / "out", device="cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA GPU on this machine"):
        run_suite(RunOptions(small, tmp_path / "out", methods=["lstm"], device="cuda"))
    assert not (tmp_path / "out").exists()


def test_when_a_folder_is_filled_by_several_commands_then_its_suite_names_all_it_holds(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value"]))
    run_suite(RunOptions(small, out, methods=["last-two-line"], tuning=0, datasets=None))
    run_suite(RunOptions(small, out, methods=["last-value"], datasets=["digits-mlp-sgd"]))
    suite = load_suite(str(out / "suite.toml"))
    assert [entry.name for entry in suite.methods] == ["last-value", "last-two-line"]
    assert set(_cells(out)["method"]) == {"last-value", "last-two-line"}
    other = tmp_path / "small-other.toml"
    other.write_text(
        SMALL.replace("digits-mlp-sgd", "digits-mlp-adam").replace("[10]", "[12]"), encoding="utf-8"
    )
    run_suite(RunOptions(str(other), out, methods=["last-value"]))
    suite = load_suite(str(out / "suite.toml"))
    assert suite.datasets == ["digits-mlp-sgd", "digits-mlp-adam"]
    assert suite.contexts == [10, 12]
    # Runs cut otherwise take the place of all that was there, and so does what is asked for.
    other.write_text(SMALL.replace("rotations = 4", "rotations = 3"), encoding="utf-8")
    run_suite(RunOptions(str(other), out, methods=["last-value"]))
    suite = load_suite(str(out / "suite.toml"))
    assert [entry.name for entry in suite.methods] == ["last-value"]
    assert suite.datasets == ["digits-mlp-sgd"]


def test_when_a_plan_is_made_then_keys_depend_on_what_numbers_depend_on(small: str) -> None:
    suite = load_suite(small).resolve()
    runs = RunCache(None)
    plan = make_plan(suite, runs)
    keys, cells = {fit.key for fit in plan}, {key for fit in plan for _, key in fit.cells}
    assert (len(keys), len(cells)) == (12, 36)
    for change in ({"seed": 1}, {"sample": 64}, {"contexts": [11]}):
        assert not keys & {fit.key for fit in make_plan(suite.model_copy(update=change), runs)}
    # What is measured of a forecast is the cells' business, not that of the fit.
    other = make_plan(suite.model_copy(update={"tiers": ["weights"]}), runs)
    assert {fit.key for fit in other} == keys
    assert not cells & {key for fit in other for _, key in fit.cells}
    # A tuning budget changes nothing for methods without a grid, and all for those with one.
    tuned = {f.key: f.method for f in make_plan(suite.model_copy(update={"tuning": 5}), runs)}
    changed = {method for key, method in tuned.items() if key not in keys}
    assert changed == {f.method for f in make_plan(suite, runs) if get_method(f.method).param_grid}


def test_when_context_is_longer_than_the_run_then_it_is_refused(small: str) -> None:
    suite = load_suite(small).resolve().model_copy(update={"contexts": [60]})
    with pytest.raises(InputError, match="context 60 does not fit digits-mlp-sgd"):
        make_plan(suite, RunCache(None))


def test_when_a_run_is_half_done_then_what_is_there_is_ranked_and_the_rest_is_said(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value", "last-two-line"]))
    with Store(out) as store, store._transaction():
        store._db.execute("DELETE FROM fits WHERE method = 'last-value' AND rotation = 3")
        store._db.execute("DELETE FROM fits WHERE method = 'last-two-line' AND rotation = 0")
    board = rank_results(load_results(out))
    assert board.notes == [
        "digits-mlp-sgd: 6 of 12 runs are left out, for they have not been run with last-two-line "
        "(9 of 12 cells), last-value (9 of 12 cells); all methods are ranked on common cells"
    ]
    assert all(standing.failures == 0 for standing in board.ranking.standings)


def test_when_another_run_holds_the_folder_then_a_second_one_is_turned_away(
    small: str, tmp_path: Path
) -> None:
    from filelock import FileLock

    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value"]))
    with (
        FileLock(out / ".lock"),
        pytest.raises(InputError, match="another run is writing to"),
    ):
        run_suite(RunOptions(small, out))
    run_suite(RunOptions(small, out))
    assert len(_keys(out)) == 36


def test_when_a_run_is_interrupted_then_it_says_how_to_resume_and_keeps_what_was_done(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", "from weightcast.bench.cli import main; main()",
        "run", "--suite", "quick", "--datasets", "linreg-sgd", "--out", str(out), "--jobs", "1",
        "--methods", "last-value,last-two-line,ols-line,transformer",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (
            (out / "results.sqlite").exists() and _finished(out)
        ):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "the same command resumes" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert _finished(out)


def _finished(out: Path) -> set[str]:
    try:
        return _keys(out)
    except InputError:
        return set()


SHIFTS = """
name = "shifts"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "last-two-line", "lfd2-ols", "lfd-full"]
windows = ["early", "late"]
jobs = 2

[[shifts]]
track = "shift-optimizer"
train = "digits-mlp-adam"
test = "digits-mlp-sgd"

[[shifts]]
track = "shift-cadence"
train = "digits-mlp-sgd"
test = "digits-mlp-sgd"
every = 2
"""


def test_when_windows_and_shifts_are_run_then_each_is_ranked_apart(tmp_path: Path) -> None:
    suite = tmp_path / "shifts.toml"
    suite.write_text(SHIFTS, encoding="utf-8")
    out = tmp_path / "out"
    assert set(run_suite(RunOptions(str(suite), out))) == {"ok"}
    results = load_results(out)
    cells = results.cells[results.cells["tier"] == "weights"]
    assert set(zip(cells["track"], cells["split"], strict=True)) == {
        ("main", "seeds"), ("main", "early"), ("main", "late"),
        ("shift-optimizer", "seeds"), ("shift-cadence", "seeds"),
    }  # fmt: skip
    for _, part in cells.groupby(["track", "split", "method"]):
        assert sorted(part["run"]) == list(range(12))
    optimizer = cells[cells["track"] == "shift-optimizer"]
    assert optimizer["trained_on"].unique().tolist() == ["digits-mlp-adam"]
    assert optimizer["dataset"].unique().tolist() == ["digits-mlp-sgd"]

    def error(method: str, track: str, split: str = "seeds") -> float:
        chosen = (cells["method"] == method) & (cells["track"] == track) & (cells["split"] == split)
        return float(cells[chosen]["rel_sum"].median())

    # A map learned on other runs of the same kind does better than one from the other optimizer.
    assert error("lfd2-ols", "shift-optimizer") > error("lfd2-ols", "main")
    # Nothing is trained in a line through two points, so where it is fitted does not matter.
    assert error("last-two-line", "shift-optimizer") == error("last-two-line", "main")
    board = rank_results(results, track="shift-cadence")
    assert board.ranking.tasks == ["digits-mlp-sgd, context 10"]
    assert rank_results(results, split="early").ranking.standings[0].method == "lfd-full"
    with pytest.raises(InputError, match="unknown track 'shift-optimiser': did you mean shift-opt"):
        rank_results(results, track="shift-optimiser")
    curves = results.curves["lfd-full", "digits-mlp-sgd", 10]
    assert curves.shape == (12, 50)  # of whole runs alone


def test_when_a_gate_fails_then_the_set_is_kept_but_not_ranked(small: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value", "last-two-line"]))
    with Store(out) as store:
        gates = [Gate("no-shared-start", False, 0.1, 0.95, "starts are apart")]
        store.set_gates("digits-mlp-sgd", str(store.gates_of("digits-mlp-sgd")), gates)
    with pytest.raises(
        InputError, match="left to rank: digits-mlp-sgd is left out: its gate no-sh"
    ):
        rank_results(load_results(out))


def test_when_runs_are_cut_into_other_folds_then_no_run_counts_twice(
    small: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_suite(RunOptions(small, out, methods=["last-value", "last-two-line"]))
    Path(small).write_text(SMALL.replace("rotations = 4", "rotations = 3"), encoding="utf-8")
    run_suite(RunOptions(small, out, methods=["last-value"]))
    cells = _cells(out)
    assert not cells.duplicated(["method", "tier", "run"]).any()
    assert sorted(cells[cells["method"] == "last-value"]["rotation"].unique()) == [0, 1, 2]
    # What this plan does not ask for stays as it was.
    assert sorted(cells[cells["method"] == "last-two-line"]["rotation"].unique()) == [0, 1, 2, 3]
