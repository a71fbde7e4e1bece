"""Correlations of gains in weights and in function: oracles, near-duplicates, what is left out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from weightcast.bench.results.gains import all_gains, correlations_table, gain_correlations
from weightcast.bench.results.tables import Results

LABELS = ("h5", "h10", "h20", "last")
RUNS = 12


def _rows(label: str, errors: np.ndarray, losses: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    """Make both tiers' rows of a method; errors and losses (horizons, runs)."""
    shared = {"label": label, "dataset": "a", "trained_on": "a", "track": "main", "split": "seeds",
              "context": 10, "repeat": 0, "status": "ok"} | more  # fmt: skip
    rows = []
    for run in range(errors.shape[1]):
        weights = {f"rel_{h}": e for h, e in zip(LABELS, errors[:, run], strict=True)}
        function = {f"train_loss_{h}": v for h, v in zip(LABELS, losses[:, run], strict=True)}
        rows += [
            shared | {"run": run, "tier": "weights", "rel_sum": errors[:, run].mean()} | weights,
            shared | {"run": run, "tier": "function"} | function,
        ]
    return rows


def _results(rows: list[dict[str, Any]]) -> Results:
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


def _field(seed: int, methods: int = 9, agree: float = 0.0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    rows = _rows("last-value", np.ones((4, RUNS)), np.ones((4, RUNS)))
    for i in range(methods):
        level = random.normal(0, 0.5)
        other = agree * level + (1 - agree) * random.normal(0, 0.5)
        noise = 0.1 * random.standard_normal((2, 4, RUNS))
        rows += _rows(f"m{i}", np.exp(level + noise[0]), np.exp(other + noise[1]))
    return rows


def _medians(rows: list[dict[str, Any]], tier: str, column: str) -> pd.Series:
    table = pd.DataFrame(rows)
    table = table[(table["tier"] == tier) & (table["label"] != "last-value")]
    return table.groupby("label")[column].median()


def _spearmanr(other: np.ndarray, one: np.ndarray) -> float:
    return float(stats.spearmanr(one, other).statistic)


@pytest.mark.parametrize("seed", range(5))
def test_when_gains_are_correlated_then_rho_and_p_are_scipys(seed: int) -> None:
    rows = _field(seed)
    for one in gain_correlations(_results(rows)):
        weights = _medians(rows, "weights", f"rel_{one.horizon}")
        function = _medians(rows, "function", f"train_loss_{one.horizon}")
        if one.among == "beating":
            weights = weights[weights < 1]
            function = function[weights.index]
        assert one.methods == sorted(weights.index)
        if len(weights) < 5:
            assert not one.rho.known
            continue
        expected = stats.spearmanr(weights, function).statistic
        assert one.rho.value == pytest.approx(expected)
        tested = stats.permutation_test(
            (weights.to_numpy(),),
            partial(_spearmanr, function.to_numpy()),
            permutation_type="pairings", n_resamples=2000, rng=0,
        )  # fmt: skip
        assert one.p == pytest.approx(tested.pvalue, abs=0.05)


def test_when_orders_agree_then_the_interval_is_above_0_and_when_not_it_holds_0() -> None:
    agree = gain_correlations(_results(_field(0, methods=12, agree=1.0)))
    assert all(one.rho.lower > 0 and one.p < 0.01 for one in agree if one.among == "all")
    held = [
        one.rho.lower <= 0 <= one.rho.upper
        for seed in range(12)
        for one in gain_correlations(_results(_field(seed)))
        if (one.among, one.horizon) == ("all", "h5")
    ]
    assert sum(held) >= 9


def test_when_two_methods_are_alike_then_they_count_once_and_it_is_said() -> None:
    rows = _field(1)
    first = [row for row in rows if row["label"] == "m3"]
    almost = [
        {k: v * 1.001 if k.startswith(("rel_", "train_loss")) else v for k, v in row.items()}
        | {"label": "m3-again"}
        for row in first
    ]
    alone, both = (gain_correlations(_results(r)) for r in (rows, rows + almost))
    assert [one.methods for one in alone] == [one.methods for one in both]
    assert all_gains(_results(rows + almost))[0].alike == {"m3-again": "m3"}


def test_when_a_method_fails_or_has_no_network_then_it_is_in_no_correlation() -> None:
    rows = _field(2)
    failed = _rows("failed", np.full((4, RUNS), 0.1), np.full((4, RUNS), 0.1), status="invalid")
    sampled = [row for row in _rows("sampled", np.ones((4, RUNS)), np.ones((4, RUNS)))
               if row["tier"] == "weights"]  # fmt: skip
    found = gain_correlations(_results(rows + failed + sampled))
    assert {method for one in found for method in one.methods} == {f"m{i}" for i in range(9)}


def test_when_correlations_are_tabulated_then_each_has_a_row() -> None:
    table = correlations_table(gain_correlations(_results(_field(3))))
    assert table.columns.tolist() == [
        "dataset", "context", "horizon", "among", "methods", "rho", "rho_lower", "rho_upper", "p",
    ]  # fmt: skip
    assert len(table) == 8
    assert table[table["among"] == "all"]["p"].between(0, 1).all()


def test_when_there_are_no_networks_then_nothing_is_correlated() -> None:
    rows = [row for row in _field(0) if row["tier"] == "weights"]
    assert gain_correlations(_results(rows)) == []
