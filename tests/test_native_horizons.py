"""Rows at a peer's native horizon, from the suite to the report."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.native import native_standings
from weightcast.bench.results.tables import Results, export_cells, load_results
from weightcast.bench.scoring.metrics import WeightErrors
from weightcast.datasets import InputError
from weightcast.reports.html import render_report


def test_when_sums_are_narrowed_then_metrics_are_those_of_the_columns() -> None:
    random = np.random.default_rng(0)
    whole, part = WeightErrors(6), WeightErrors(2)
    for tensor, size in (("a", 20), ("b", 3)):
        forecast, target = random.standard_normal((2, size, 6)).astype(np.float32)
        last = random.standard_normal(size).astype(np.float32)
        whole.add(tensor, forecast, target, last)
        part.add(tensor, forecast[:, [1, 4]], target[:, [1, 4]], last)
    assert whole.at([1, 4]).metrics() == pytest.approx(part.metrics())
    assert whole.at([1, 4]).curve() == part.curve()


SUITE = """
name = "peers"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "damped-line", "lfd2-ols",
    {name = "wnn", params = {updates = 10}},
    {name = "introspection", params = {updates = 10}},
    {name = "nino-mlp", params = {updates = 10}}]
windows = ["early"]
tiers = ["weights"]
rotations = 3
jobs = 2
"""
LABELS = {f"{name}(updates=10)": name for name in ("introspection", "wnn", "nino-mlp")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("peers")
    (here / "suite.toml").write_text(SUITE, encoding="utf-8")
    assert run_suite(RunOptions(str(here / "suite.toml"), here / "out")) == {"ok": 144}
    return here / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder)


def test_when_a_suite_is_run_then_peers_have_rows_at_their_native_horizons(
    results: Results,
) -> None:
    assert set(results.cells["horizon_set"]) == {"common"}
    native = results.native
    assert set(native["horizon_set"]) == {"native"}
    assert set(native["tier"]) == {"weights"}
    found = native.groupby(["label", "split"])["horizons"].unique().map(list).to_dict()
    assert found == {
        ("introspection(updates=10)", "seeds"): ["10"],
        ("introspection(updates=10)", "early"): ["10"],
        ("wnn(updates=10)", "seeds"): ["5"],
        ("wnn(updates=10)", "early"): ["5"],
        # Half a run has 20 horizons after a context of 10, and this method has 40.
        ("nino-mlp(updates=10)", "seeds"): ["1-40"],
    }
    for _, part in native.groupby(["label", "split"]):
        assert sorted(part["run"]) == list(range(12))
    single = native[native["label"] != "nino-mlp(updates=10)"]
    for other in ("rel_final", "rel_mean"):
        np.testing.assert_allclose(single["rel_sum"].to_numpy(float), single[other].to_numpy(float))
    curves = results.curves["wnn(updates=10)", "digits-mlp-sgd", 10]
    wnn = native[(native["method"] == "wnn") & (native["split"] == "seeds")]
    np.testing.assert_allclose(wnn["rel_sum"].to_numpy(float), curves[:, 4], atol=1e-6)


def test_when_peers_are_compared_then_every_method_is_taken_at_their_horizons(
    results: Results,
) -> None:
    table = results.at_native
    assert set(table["label"]) == {"last-value", "damped-line", "lfd2-ols", *LABELS}
    own = table[table["label"] == table["peer"]].set_index(["label", "split", "run"])["error"]
    rows = results.native.set_index(["label", "split", "run"])["rel_mean"]
    np.testing.assert_allclose(own, rows.loc[own.index].to_numpy(float), atol=1e-6)
    standings, notes = native_standings(results)
    assert notes == []
    assert {s.method for s in standings} == set(LABELS)
    for s in standings:
        assert (s.task, s.runs, s.failures) == ("digits-mlp-sgd, context 10", 12, 0)
        assert s.others["last-value"] == pytest.approx(1.0, abs=1e-6)
        curve = results.curves["damped-line", "digits-mlp-sgd", 10]
        columns = {"5": slice(4, 5), "10": slice(9, 10), "1-40": slice(0, 40)}[s.horizons]
        assert s.others["damped-line"] == pytest.approx(np.median(curve[:, columns].mean(axis=1)))
    early, _ = native_standings(results, split="early")
    assert {s.method for s in early} == set(LABELS) - {"nino-mlp(updates=10)"}


def test_when_methods_are_ranked_then_native_rows_have_no_part_in_it(results: Results) -> None:
    board = rank_results(results)
    assert {s.method for s in board.ranking.standings} == {
        "last-value", "damped-line", "lfd2-ols", *LABELS,
    }  # fmt: skip
    common = results.cells[(results.cells["split"] == "seeds")]
    for label in LABELS:
        expected = common[common["label"] == label]["rel_sum"].median()
        assert board.medians.loc[label].iloc[0] == pytest.approx(expected)


def test_when_a_peers_cell_failed_then_it_is_counted_and_left_out_of_the_medians(
    results: Results,
) -> None:
    from dataclasses import replace

    table = results.at_native.copy()
    gone = (table["label"] == "wnn(updates=10)") & (table["run"] == 0)
    table.loc[gone, "error"] = np.nan
    standings, _ = native_standings(replace(results, at_native=table))
    wnn = next(s for s in standings if s.method == "wnn(updates=10)")
    assert (wnn.runs, wnn.failures) == (11, 1)
    with pytest.raises(InputError, match="no method here has a native horizon"):
        native_standings(replace(results, at_native=table[:0]))


def test_when_cells_are_exported_then_both_horizon_sets_are_there(
    results: Results, tmp_path: Path
) -> None:
    for name in ("cells.csv", "cells.parquet"):
        count = export_cells(results, tmp_path / name)
        assert count == len(results.cells) + len(results.native) == 12 * (12 + 5)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["horizon_set"].value_counts().to_dict() == {"common": 144, "native": 60}
    parquet = pd.read_parquet(tmp_path / "cells.parquet")
    assert parquet["rel_sum"].dtype == float
    np.testing.assert_allclose(parquet["rel_sum"], table["rel_sum"])


def test_when_native_horizons_are_asked_for_then_command_line_and_report_show_them(
    folder: Path,
    results: Results,
    tmp_path: Path,
    weightcast: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = weightcast(
        "leaderboard", folder, "--horizons", "native", "--csv", tmp_path / "native.csv"
    )
    assert done.returncode == 0, done.stderr
    assert "native horizons" in done.stdout
    for text in ("wnn(updates=10)", "1-40", "damped-line", "last-value"):
        assert text in done.stdout
    table = pd.read_csv(tmp_path / "native.csv")
    assert list(table.columns[:6]) == ["method", "task", "horizons", "runs", "failures", "error"]
    refused = weightcast("leaderboard", folder, "--horizons", "native", "--tier", "function")
    assert refused.returncode == 2
    assert "--horizons native has one tier" in refused.stderr
    page = render_report(results)
    section = page.partition("At their native horizon")[2].partition("</section>")[0]
    for text in ("nino-mlp", "5 snapshots, 200 steps apart", "5 snapshots, one epoch apart"):
        assert text in section
