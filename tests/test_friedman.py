"""Friedman's test over data sets or runs: SciPy and Demšar's example as oracles, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from weightcast.bench.cli import app as cli
from weightcast.bench.results.inference.errors import RunErrors, SetErrors
from weightcast.bench.results.inference.friedman import Friedman, friedman, friedman_runs
from weightcast.bench.results.inference.pairwise import pairwise
from weightcast.bench.results.pairs_table import pairs_rows, pairs_table
from weightcast.datasets import InputError
from weightcast.reports.palette import looks
from weightcast.reports.plots.critical import critical_plot

# Areas under the curve of C4.5 with and without two parameters tuned: Demšar 2006, table 6.
DEMSAR = 1 - np.array(
    [
        [.763, .599, .954, .628, .882, .936, .661, .583, .775, 1, .940, .619, .972, .957],
        [.768, .591, .971, .661, .888, .931, .668, .583, .838, 1, .962, .666, .981, .978],
        [.771, .590, .968, .654, .886, .916, .609, .563, .866, 1, .965, .614, .9751, .946],
        [.798, .569, .967, .657, .898, .931, .685, .625, .875, 1, .962, .669, .975, .970],
    ]
)  # fmt: skip


def errors(methods: int, runs: tuple[int, ...], seed: int = 0, apart: float = 0.0) -> RunErrors:
    random = np.random.default_rng(seed)
    level = np.exp(apart * np.arange(methods))[:, None, None, None, None]
    sets = [
        SetErrors(
            f"s{place}",
            (10,),
            tuple(range(count)),
            level * np.exp(random.normal(0, 0.2, (methods, 1, 2, count, 1))),
        )
        for place, count in enumerate(runs)
    ]
    return RunErrors([f"m{i}" for i in range(methods)], sets, ["5", "last"])


def test_when_demsars_example_is_tested_then_ranks_and_critical_difference_are_his() -> None:
    found = friedman(["a", "b", "c", "d"], DEMSAR, "data set", 14)
    assert found.mean_ranks == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=5e-4)
    # His χ² of 9.28 leaves ties out of account; his critical value for four methods is 2.569.
    expected = 2.569 * np.sqrt(4 * 5 / (6 * 14))
    assert found.critical_difference == pytest.approx(expected, rel=1e-3)
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*DEMSAR).statistic)
    assert found.statistic > 9.28
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 3))


@pytest.mark.parametrize("seed", range(5))
def test_when_ranks_lie_further_apart_than_the_critical_difference_then_the_pair_is_clear(
    seed: int,
) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (6, 15)) + np.arange(6)[:, None] / 3
    found = friedman([*"abcdef"], values, "run", 1)
    apart = np.abs(found.mean_ranks[:, None] - found.mean_ranks[None, :])
    np.testing.assert_array_equal(apart > found.critical_difference, found.pairs < 0.05)


def test_when_there_are_six_data_sets_then_these_are_the_blocks_and_else_runs() -> None:
    by_set = friedman_runs(errors(4, (6,) * 6, apart=0.5), "m0")
    assert isinstance(by_set, Friedman)
    assert (by_set.of, by_set.blocks) == ("data set", 6)
    by_run = friedman_runs(errors(4, (6, 12, 30)), "m0")
    assert isinstance(by_run, Friedman)
    assert (by_run.of, by_run.blocks) == ("run", 18)
    assert "18 runs, the first 6 of each data set" in by_run.spoken


def test_when_nothing_differs_then_the_sentence_says_so_and_no_pair_is_clear() -> None:
    values = np.ones((4, 8))
    found = friedman([*"abcd"], values, "run", 1)
    assert (found.p, found.statistic) == (1.0, 0.0)
    assert (found.pairs == 1).all()
    assert "does not say that any method differs" in found.spoken


def test_when_there_are_too_few_methods_or_blocks_then_a_line_says_so() -> None:
    assert friedman_runs(errors(2, (8,)), "m0") == (
        "no Friedman test: it compares 3 methods or more, here are 2"
    )
    with pytest.raises(InputError, match="it needs 6 runs, here are 5"):
        friedman([*"abc"], np.ones((3, 5)), "run", 1)


def test_when_the_diagram_is_drawn_then_every_method_and_its_rank_stand_in_it() -> None:
    given = errors(7, (8,), apart=0.2)
    found = friedman_runs(given, "m0")
    assert isinstance(found, Friedman)
    svg = str(critical_plot("cd", "ranks", found, looks(given.methods)))
    for method, rank in zip(found.methods, found.mean_ranks, strict=True):
        assert method in svg
        assert f"{rank:.1f}" in svg
    assert f"critical difference {found.critical_difference:.2f}" in svg


def test_when_two_names_are_cut_to_the_same_then_both_are_drawn() -> None:
    methods = [f"my-method(a={i}, begins_alike_{'x' * 30}=1.0)" for i in range(3)]
    methods = [m.replace(f"a={i}", f"aaaaaaaaaaaaaaaaaa={i}") for i, m in enumerate(methods)]
    values = np.random.default_rng(0).normal(0, 1, (3, 8))
    svg = str(critical_plot("cd", "r", friedman(methods, values, "run", 1), looks(methods)))
    assert all(method in svg for method in methods)


def test_when_pairs_are_tabulated_then_each_ordered_pair_has_a_row() -> None:
    given = errors(4, (8,), apart=0.4)
    runs = given.sets[0].errors[:, 0, 0, :, 0]
    pairs, found = pairwise(given.methods, [runs]), friedman_runs(given, "m0")
    table = pairs_table(given.methods, pairs, found, tier="weights")
    assert len(table) == 12
    one = table[(table["method"] == "m0") & (table["other"] == "m3")].iloc[0]
    other = table[(table["method"] == "m3") & (table["other"] == "m0")].iloc[0]
    assert one["won"] + other["won"] == 1
    assert one["p_nemenyi"] == other["p_nemenyi"]
    assert [row["4"] for row in pairs_rows(given.methods, pairs, found)][3] == "—"
    assert pairs_table(given.methods, pairs, "none")["mean_rank"].isna().all()


def test_when_a_file_has_no_runs_then_pairs_are_refused_and_else_written(tmp_path: Path) -> None:
    path, out = tmp_path / "errors.csv", tmp_path / "pairs.csv"
    rows = [(m, "a", r, 1 + i + r / 9) for i, m in enumerate("abc") for r in range(8)]
    table = pd.DataFrame(rows, columns=["method", "task", "run", "error"])
    table[table["run"] == 0].drop(columns="run").to_csv(path, index=False)
    done = CliRunner().invoke(cli.app, ["leaderboard", str(path), "--pairs"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    table.to_csv(path, index=False)
    done = CliRunner().invoke(cli.app, ["leaderboard", str(path), "--pairs", "--csv", str(out)])
    assert done.exit_code == 0, done.output
    assert "Friedman's test over 8 runs" in done.output
    assert len(pd.read_csv(out)) == 6
