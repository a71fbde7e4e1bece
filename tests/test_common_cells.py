"""Rankings of folders: over which horizons, on which cells, and what half-run folders say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightcast.bench.results.apart import by_dataset, terminal_rows
from weightcast.bench.results.leaderboard import board_table, rank_results
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError

LABELS = ("h5", "h10", "h20", "last")


def _row(label: str, dataset: str, run: int, losses: Any, **more: Any) -> dict[str, Any]:
    return {
        "label": label, "method": label, "dataset": dataset, "trained_on": dataset, "track": "main",
        "split": "seeds", "tier": "function", "context": 10, "rotation": run % 4, "repeat": 0,
        "run": run, "status": "ok", "rel_sum": np.nan, "rel_sum_sample": np.nan,
        **{f"train_loss_{h}": loss for h, loss in zip(LABELS, losses, strict=True)}, **more,
    }  # fmt: skip


def _results(rows: list[dict[str, Any]]) -> Results:
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


def _folder(losses: dict[str, Any], runs: int = 8, datasets: tuple[str, ...] = ("a",)) -> Results:
    return _results(
        [_row(m, d, r, losses[m]) for m in losses for d in datasets for r in range(runs)]
    )


@settings(max_examples=25)
@given(st.lists(st.floats(0.05, 20), min_size=4, max_size=4))
def test_when_function_is_ranked_then_skill_is_over_the_geometric_mean_of_horizons(
    ratios: list[float],
) -> None:
    base = np.array([0.9, 0.5, 0.3, 0.1])
    board = rank_results(_folder({"last-value": base, "m": base * ratios}), tier="function")
    m = next(s for s in board.ranking.standings if s.method == "m")
    assert m.skill.value == pytest.approx(1 - np.prod(ratios) ** 0.25)
    assert [one.value for one in board.at_horizons["m"]] == pytest.approx(
        [1 - ratio for ratio in ratios]
    )
    assert board.horizons == list(LABELS)
    assert board.spoken == (
        "train_loss (geometric mean over the horizons 5, 10, 20 and last), on a"
    )


def test_when_the_last_horizon_is_another_one_too_then_it_counts_once() -> None:
    losses = {"last-value": [1, 1, 1, 1], "m": [0.5, 0.5, 0.125, 0.125]}
    board = rank_results(_folder(losses), tier="function")
    assert board.horizons == ["h5", "h10", "h20"]
    m = next(s for s in board.ranking.standings if s.method == "m")
    assert m.skill.value == pytest.approx(1 - (0.5 * 0.5 * 0.125) ** (1 / 3))


def test_when_one_horizon_is_asked_for_then_the_ranking_is_about_it_alone() -> None:
    losses = {"last-value": [1, 1, 1, 1], "m": [0.5, 1, 1, 9]}
    board = rank_results(_folder(losses), tier="function", metric="train_loss_h5")
    assert board.ranking.standings[0].skill.value == pytest.approx(0.5)
    assert board.spoken == "train_loss_h5 (at horizon 5), on a"
    assert (board.horizons, board.at_horizons) == ([], {})


def test_when_a_folder_is_half_run_then_methods_are_ranked_on_common_cells_and_it_is_said() -> None:
    random = np.random.default_rng(0)
    rows = [
        _row(m, d, r, random.uniform(0.1, 2, 4))
        for m in ("last-value", "x", "y")
        for d in ("a", "b")
        for r in range(12)
    ]
    half = [
        row for row in rows if row["label"] != "y" or (row["dataset"] == "a" and row["run"] < 8)
    ]
    board = rank_results(_results(half), tier="function")
    common = [row for row in rows if row["dataset"] == "a" and row["run"] < 8]
    alone = rank_results(_results(common), tier="function")
    assert board.ranking.standings == alone.ranking.standings
    assert [note for note in board.notes if "left out" in note] == [
        "a: 4 of 12 runs are left out, for they have not been run with y (8 of 12 cells); all "
        "methods are ranked on common cells",
        "b: 12 of 12 runs are left out, for they have not been run with y (0 of 12 cells); all "
        "methods are ranked on common cells",
    ]


@pytest.mark.parametrize("has", [1, 5])
def test_when_a_method_was_run_on_too_little_then_it_alone_stands_below(has: int) -> None:
    random = np.random.default_rng(0)
    rows = [_row(m, "a", r, random.uniform(0.1, 2, 4)) for m in ("last-value", "x") for r in
            range(12)]  # fmt: skip
    few = [_row("late", "a", r, [0.01] * 4) for r in range(has)]
    board = rank_results(_results(rows + few), tier="function")
    assert (
        board.ranking.standings == rank_results(_results(rows), tier="function").ranking.standings
    )
    assert [u.method for u in board.ranking.unranked] == ["late"]
    assert f"late is not ranked: run on {has} of 12 cells so far" in board.notes


@pytest.mark.parametrize("tier", ["weights", "function"])
@pytest.mark.parametrize("failed", [12, 2])
def test_when_a_method_crashes_or_blows_up_then_it_stands_above_nobody(
    tier: str, failed: int
) -> None:
    random = np.random.default_rng(1)
    rows = []
    for method, worse in (("last-value", 1.0), ("bad", 30.0), ("game", 0.01)):
        for run in range(12):
            losses = worse * random.uniform(0.5, 1.5, 4)
            more = {"rel_sum": worse, "tier": tier, "status": "ok"}
            if method == "game" and run < failed:
                losses, more = [np.nan] * 4, {"rel_sum": np.nan, "tier": tier, "status": "invalid"}
            rows.append(_row(method, "a", run, losses, **more))
    board = rank_results(_results(rows), tier=tier)
    assert [s.method for s in board.ranking.standings] == ["last-value", "bad"]
    assert [u.method for u in board.ranking.unranked] == ["game"]
    table = board_table(board)
    assert table["method"].tolist() == ["last-value", "bad", "game"]
    assert table.loc[2, ["skill", "win_rate", "mean_rank"]].isna().all()


def test_when_a_ranking_is_taken_apart_then_each_set_has_the_skill_of_a_ranking_on_it() -> None:
    random = np.random.default_rng(2)
    rows = [
        _row(m, d, r, random.uniform(0.1, 2, 4))
        for m in ("last-value", "x")
        for d in ("a", "b")
        for r in range(9)
    ]
    results = _results(rows)
    table = by_dataset(results, rank_results(results, tier="function"), tier="function")
    for dataset in ("a", "b"):
        alone = rank_results(results, tier="function", datasets=[dataset])
        x = next(s for s in alone.ranking.standings if s.method == "x")
        row = table[(table["dataset"] == dataset) & (table["method"] == "x")].iloc[0]
        assert (row["skill"], row["skill_lower"]) == (x.skill.value, x.skill.lower)
        assert row["skill_h10"] == alone.at_horizons["x"][1].value
        assert row["runs"] == 9
    assert {name for row in terminal_rows(table) for name in row} == {"method", "a", "b"}


def test_when_a_data_set_is_not_there_then_the_choices_are_named() -> None:
    losses = {"last-value": [1, 1, 1, 1], "m": [0.5, 1, 1, 9]}
    with pytest.raises(InputError, match=r"unknown ranked data set 'b'.* a"):
        rank_results(_folder(losses), tier="function", datasets=["b"])
