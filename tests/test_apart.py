"""Leaderboards taken apart by kind of tensor, by depth, and by context and horizon."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from weightcast.bench.cli import app as cli
from weightcast.bench.results.apart import (
    by_horizon,
    by_part,
    horizon_rows,
    part_notes,
    part_rows,
)
from weightcast.bench.results.leaderboard import board_table, rank_results
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError
from weightcast.reports.html import render_report
from weightcast.reports.numbers import fixed
from weightcast.reports.sections.apart import parts
from weightcast.reports.view import View

RUNS = 8
METRIC = {"weights": "rel_sum", "function": "train_loss"}
METHODS = ("last-value", "x", "y")
AT = ("h5", "h10", "last")


def _results(parts: dict[str, tuple[str, ...]], contexts: tuple[int, ...] = (10,)) -> Results:
    """Make cells with random errors of the last value, x and y; data set → its parts' columns."""
    random = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for dataset, columns in parts.items():
        for context in contexts:
            for label in METHODS:
                for run in range(RUNS):
                    names = ["rel_sum", *(f"rel_{at}" for at in AT), *columns]
                    errors = random.uniform(0.1, 2, len(names))
                    if label == "last-value":
                        errors[:] = 1.0
                    rows.append(
                        {
                            "label": label, "method": label, "dataset": dataset,
                            "trained_on": dataset, "track": "main", "split": "seeds",
                            "tier": "weights", "context": context, "rotation": run % 4,
                            "repeat": 0, "run": run, "status": "ok", "rel_sum_sample": np.nan,
                            **dict(zip(names, errors, strict=True)),
                        }
                    )  # fmt: skip
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


LINEAR, CONV, BIAS = (f"rel_sum_kind_{kind}" for kind in ("linear", "conv", "bias"))


def test_when_a_ranking_is_taken_apart_by_kind_then_each_is_ranked_where_it_is() -> None:
    results = _results({"mlp": (LINEAR, BIAS), "cnn": (LINEAR, CONV, BIAS), "line": (LINEAR,)})
    board = rank_results(results, metric="rel_sum")
    table = by_part(board, "kind")
    assert table["kind"].unique().tolist() == ["linear", "conv", "bias"]
    on = {LINEAR: ["cnn", "line", "mlp"], CONV: ["cnn"], BIAS: ["cnn", "mlp"]}
    for metric, datasets in on.items():
        alone = rank_results(results, metric=metric, datasets=datasets)
        there = table[table["metric"] == metric].set_index("method")
        assert set(there["datasets"]) == {", ".join(datasets)}
        for s in alone.ranking.standings:
            row = there.loc[s.method]
            assert tuple(row[["skill", "skill_lower", "skill_upper"]]) == (
                s.skill.value, s.skill.lower, s.skill.upper,
            )  # fmt: skip
            medians = alone.medians.loc[s.method].to_numpy(float)
            assert row["error"] == pytest.approx(np.exp(np.log(medians).mean()))
    # Methods stand in the whole ranking's order, and a part's sets are said.
    order = [s.method for s in board.ranking.standings]
    assert table["method"].drop_duplicates().tolist() == order
    assert part_notes(table, "kind", board.datasets) == [
        "conv: on cnn alone",
        "bias: on cnn, mlp alone",
    ]
    assert [list(row) for row in part_rows(table, "kind")] == 3 * [
        ["method", "linear", "conv", "bias"]
    ]


def test_when_networks_have_one_depth_then_taking_them_apart_by_it_is_refused() -> None:
    board = rank_results(_results({"line": (LINEAR,)}), metric="rel_sum")
    with pytest.raises(InputError, match="errors by depth on 6 runs; its networks have layers"):
        by_part(board, "depth")


def test_when_a_ranking_is_taken_apart_by_horizon_then_each_context_has_its_own() -> None:
    results = _results({"a": (), "b": ()}, contexts=(10, 20))
    board = rank_results(results)
    table = by_horizon(board)
    assert len(table) == len(METHODS) * 2 * len(AT)
    for context in (10, 20):
        cells = results.cells
        alone = rank_results(
            _replaced(results, cells[cells["context"] == context]), metric="rel_h10"
        )
        for s in alone.ranking.standings:
            (row,) = table[
                (table["context"] == context)
                & (table["horizon"] == "10")
                & (table["method"] == s.method)
            ].to_dict("records")
            assert row["metric"] == "rel_h10"
            assert (row["skill"], row["skill_lower"], row["skill_upper"]) == (
                s.skill.value, s.skill.lower, s.skill.upper,
            )  # fmt: skip
    rows = horizon_rows(table)
    assert [row["context"] for row in rows] == 3 * [10, 20]
    assert list(rows[0]) == ["method", "context", "at 5", "at 10", "at last"]
    with pytest.raises(InputError, match="rel_sum_kind_linear is not told at single horizons"):
        by_horizon(rank_results(_results({"a": (LINEAR,)}), metric=LINEAR))


def test_when_runs_hardly_move_by_a_horizon_then_taking_apart_by_it_is_refused() -> None:
    results = _results({"a": ()})
    late = results.cells["run"] >= 4  # no run of these has an error at the first horizon
    results.cells.loc[late, "rel_h5"] = np.nan
    with pytest.raises(InputError, match="rel_sum is not defined at single horizons here"):
        by_horizon(rank_results(results))


def test_when_there_are_over_a_hundred_data_sets_then_nobody_warns() -> None:
    board = rank_results(_results({f"set-{number}": () for number in range(120)}))
    table = board_table(board).set_index("method")  # warnings are errors here
    for name in ("set-0", "set-119"):
        medians = board.medians[name, 10].reindex(table.index)
        assert table[f"error of {name}, context 10"].tolist() == medians.tolist()


def _replaced(results: Results, cells: pd.DataFrame) -> Results:
    empty = pd.DataFrame()
    return Results(results.folder, cells, empty, empty, {}, [], [], {}, {}, [], "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run three methods, one of them on the sample alone, at two contexts."""
    path = tmp_path_factory.mktemp("apart")
    suite = path / "suite.toml"
    suite.write_text(
        'name = "apart"\ndatasets = ["digits-mlp-sgd"]\nmethods = ["last-value", "ols-line", '
        '"line-search", { name = "arima", params = { order = [1, 1, 0], coordinates = 4 } }]\n'
        "contexts = [10, 20]\nsample = 4\njobs = 1\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(
        cli.app, ["run", "--suite", str(suite), "--out", str(path / "out"), "--no-tuning"]
    )
    assert done.exit_code == 0, done.output
    return path / "out"


@pytest.mark.parametrize(
    ("option", "columns", "more"),
    [
        ("--by-kind", ["linear", "bias"], []),
        ("--by-depth", ["input", "output"], []),
        ("--by-horizon", ["at 5", "at 10", "at 20", "at last"], []),
        ("--by-horizon", ["at 5", "at 10", "at 20", "at last"], ["--tier", "function"]),
    ],
)
def test_when_a_folder_is_taken_apart_then_it_is_printed_and_written(
    folder: Path, tmp_path: Path, option: str, columns: list[str], more: list[str]
) -> None:
    out = tmp_path / "table.csv"
    done = CliRunner().invoke(
        cli.app, ["leaderboard", str(folder), option, "--csv", str(out), *more]
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert option.removeprefix("--").replace("-", " ") in lines[0]
    for column in columns:
        assert column in lines[1]
    table = pd.read_csv(out)
    assert set(table["method"]) == {"last-value", "ols-line", "line-search"}  # none on a sample
    assert (table.loc[table["method"] == "last-value", "skill"] == 0).all()


def test_when_results_are_loaded_then_errors_of_parts_are_columns(folder: Path) -> None:
    cells = load_results(folder).cells
    parts = [c for c in cells.columns if c.startswith(("rel_sum_kind_", "rel_sum_depth_"))]
    assert sorted(part.removeprefix("rel_sum_") for part in parts) == [
        "depth_input", "depth_output", "kind_bias", "kind_linear",
    ]  # fmt: skip
    whole = cells[(cells["tier"] == "weights") & (cells["method"] == "ols-line")]
    assert whole[parts].notna().all(axis=None)
    sampled = cells[cells["method"] == "arima"]
    assert sampled[parts].isna().all(axis=None)


def test_when_a_report_is_written_then_it_shows_the_skills_taken_apart(folder: Path) -> None:
    results = load_results(folder)
    page = render_report(results)
    board = rank_results(results, metric="rel_sum")
    tables = {f"by-{by}": by_part(board, by) for by in ("kind", "depth")}
    for tier in ("weights", "function"):
        table = by_horizon(rank_results(results, tier=tier, metric=METRIC[tier]))
        for context, part in table.groupby("context"):
            tables[f"at-horizon-{tier}-{context}"] = part
    for name, table in tables.items():
        svg = next(one for one in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if name in one)
        for skill in table["skill"]:
            assert fixed(skill, signed=True) in svg
        assert "arima" not in svg


def test_when_a_network_is_one_tensor_then_nothing_is_taken_apart() -> None:
    results = _results({"line": (LINEAR,)})
    assert parts(View(results)) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by-kind", "--pairs"], "--by-kind and --pairs are two tables; leave one out"),
        (["--by-dataset", "--by-horizon"], "--by-dataset and --by-horizon are two tables"),
        (["--by-depth", "--tier", "function"], "--by-depth takes rel_sum apart; leave --tier"),
        (["--by-kind", "--metric", "mae"], "--by-kind takes rel_sum apart; leave --tier"),
        (["--by-horizon", "--metric", "mae"], "mae is not told at single horizons"),
        (["--by-kind", "--horizons", "native"], "--by-kind is not for --horizons native"),
    ],
)
def test_when_tables_do_not_go_together_then_it_is_said(
    folder: Path, options: list[str], said: str
) -> None:
    done = CliRunner().invoke(cli.app, ["leaderboard", str(folder), *options])
    assert done.exit_code == 2
    assert said in done.output
