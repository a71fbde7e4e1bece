"""Rankings: the formulas, the invariants, and intervals that come from runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightcast.bench.results.file_board import rank_csv
from weightcast.bench.results.inference.charging import Unranked
from weightcast.bench.results.inference.errors import SetErrors
from weightcast.bench.results.inference.ranking import (
    Ranking,
    failure_notes,
    rank_runs,
    rank_tasks,
)
from weightcast.bench.results.leaderboard import ranking_table
from weightcast.datasets import InputError


def _reference(errors: np.ndarray, base: int) -> tuple[np.ndarray, np.ndarray]:
    """fev's skill and win rate, one comparison at a time; errors (methods, tasks).

    Both are of the ratios to the baseline, clipped.
    """
    methods, tasks = errors.shape
    skill, wins = np.zeros(methods), np.zeros(methods)
    ratios = [
        [min(max(e / b, 0.01), 100.0) for e, b in zip(m, errors[base], strict=True)] for m in errors
    ]
    for i in range(methods):
        skill[i] = 1 - np.prod(ratios[i]) ** (1 / tasks)
        scores = [
            1.0 if ratios[i][t] < ratios[j][t] else 0.5 if ratios[i][t] == ratios[j][t] else 0.0
            for j in range(methods)
            if j != i
            for t in range(tasks)
        ]
        wins[i] = np.mean(scores)
    return skill, wins


ERRORS = st.integers(0, 10_000).map(
    lambda seed: np.round(np.exp(np.random.default_rng(seed).normal(0, 3, (4, 6))), 1) + 0.1
)


@settings(max_examples=30)
@given(ERRORS)
def test_when_tasks_are_ranked_then_skill_and_win_rate_follow_their_definitions(
    errors: np.ndarray,
) -> None:
    names = ["a", "b", "c", "d"]
    ranking = rank_tasks(names, errors, [f"t{i}" for i in range(6)], "b")
    skill, wins = _reference(errors, 1)
    for standing in ranking.standings:
        i = names.index(standing.method)
        assert standing.skill.value == pytest.approx(skill[i])
        assert standing.win_rate.value == pytest.approx(wins[i])
        assert standing.skill.lower - 1e-9 <= standing.skill.upper
    in_order = [s.skill.value for s in ranking.standings]
    assert in_order == pytest.approx(sorted(skill.tolist(), reverse=True))
    assert next(s for s in ranking.standings if s.method == "b").skill.value == 0.0


@pytest.mark.parametrize(("first", "second"), [(2e-3, 9e-3), (150.0, 900.0)])
def test_when_two_errors_lie_beyond_the_clip_then_neither_wins(first: float, second: float) -> None:
    errors = np.array([[1.0, 1.0], [first, 0.5], [second, 0.5]])
    found = {
        s.method: s for s in rank_tasks(["base", "a", "b"], errors, ["x", "y"], "base").standings
    }
    assert found["a"].win_rate == found["b"].win_rate
    assert found["a"].mean_rank == found["b"].mean_rank
    # Against the other it is a tie on both tasks; against the baseline a win, or a loss and a win.
    assert found["a"].win_rate.value == pytest.approx((0.5 + (1.0 if first < 1 else 0.5)) / 2)


@settings(max_examples=20)
@given(ERRORS, st.floats(0.01, 50))
def test_when_a_task_is_measured_in_another_unit_then_nothing_changes(
    errors: np.ndarray, unit: float
) -> None:
    scaled = errors.copy()
    scaled[:, 2] *= unit
    names = ["a", "b", "c", "d"]
    tasks = [f"t{i}" for i in range(6)]
    first, second = (ranking_table(rank_tasks(names, e, tasks, "a")) for e in (errors, scaled))
    pd.testing.assert_frame_equal(
        first.set_index("method"), second.set_index("method").loc[first["method"]], atol=1e-9
    )


def _with_failures(failed: int) -> Ranking:
    """Rank a method that is better on 40 tasks, but for some where it has no result."""
    errors = np.array([np.ones(40), np.full(40, 0.5)])
    errors[1, :failed] = np.nan
    return rank_tasks(["base", "m"], errors, [f"t{i}" for i in range(40)], "base")


def test_when_one_in_twenty_results_is_missing_then_each_counts_as_the_baselines() -> None:
    first = _with_failures(2).standings[0]
    assert (first.method, first.failures) == ("m", 2)
    assert first.skill.value == pytest.approx(1 - 0.5 ** (38 / 40))
    assert first.win_rate.value == pytest.approx(39 / 40)


@pytest.mark.parametrize("failed", [3, 39, 40])
def test_when_more_results_are_missing_then_the_method_is_not_ranked(failed: int) -> None:
    ranking = _with_failures(failed)
    assert [s.method for s in ranking.standings] == ["base"]
    assert ranking.unranked == [Unranked("m", failed, 40)]
    assert failure_notes(ranking) == [
        f"m is not ranked: {failed} of 40 cells failed; ranked is who fails in at most 5%"
    ]


def _sets(spread: float, runs: int, seed: int = 0) -> list[SetErrors]:
    random = np.random.default_rng(seed)
    base = np.ones((1, 1, 1, runs, 1))
    other = 0.8 * np.exp(spread * random.standard_normal((1, 1, 1, runs, 1)))
    return [SetErrors("s", (10,), tuple(range(runs)), np.concatenate([base, other]))]


def test_when_runs_agree_then_the_interval_is_narrow_and_more_runs_make_it_narrower() -> None:
    def width(spread: float, runs: int) -> float:
        first = rank_runs(["base", "m"], _sets(spread, runs), "base").standings[0]
        return first.skill.upper - first.skill.lower

    assert width(0.01, 20) < width(0.3, 20)
    assert width(0.3, 400) < 0.5 * width(0.3, 20)


def test_when_skill_is_estimated_many_times_then_the_interval_covers_it_about_as_promised() -> None:
    covered = 0
    for seed in range(60):
        standing = rank_runs(["base", "m"], _sets(0.3, 25, seed), "base").standings[0]
        covered += standing.skill.lower <= 0.2 <= standing.skill.upper  # the true median is 0.8
    assert covered >= 51


def test_when_contexts_of_a_run_are_alike_then_they_are_drawn_together() -> None:
    # Two contexts with the same errors hold no more information than one.
    one = _sets(0.5, 15)[0]
    two = SetErrors("s", (10, 20), one.runs, np.repeat(one.errors, 2, axis=1))
    a, b = (rank_runs(["base", "m"], [s], "base").standings[0] for s in (one, two))
    assert a.skill == b.skill


def _fits(noise: float, seed: int, runs: int = 24, repeats: int = 3) -> SetErrors:
    """Errors of a method whose fits differ more than its runs do; its true median ratio is 0.8."""
    random = np.random.default_rng(seed)
    rotations = tuple(run % 4 for run in range(runs))
    errors = np.ones((2, 1, 1, runs, repeats))
    of_fit = random.standard_normal((4, repeats))[np.array(rotations)]
    of_run = 0.05 * random.standard_normal((runs, 1))
    errors[1, 0, 0] = 0.8 * np.exp(noise * of_fit + of_run)
    return SetErrors("s", (10,), tuple(range(runs)), errors, rotations, (1, repeats))


def test_when_fits_differ_then_the_interval_holds_their_noise() -> None:
    def covered(repeats: bool) -> int:
        count = 0
        for seed in range(60):
            data = _fits(0.2, seed)
            if not repeats:  # one fit alone, as if there were no other
                data = replace(data, errors=data.errors[..., :1], repeats=(1, 1))
            m = rank_runs(["base", "m"], [data], "base").standings
            skill = next(s for s in m if s.method == "m").skill
            count += skill.lower <= 0.2 <= skill.upper
        return count

    with_repeats, without = covered(True), covered(False)
    assert with_repeats > without + 10
    assert with_repeats >= 45


def test_when_a_method_is_fitted_once_then_those_with_repeats_do_not_change_its_numbers() -> None:
    random = np.random.default_rng(0)
    errors = np.exp(random.normal(0, 0.3, (3, 1, 2, 12, 3)))
    both = SetErrors("s", (10,), tuple(range(12)), errors, repeats=(1, 1, 3))
    alone = SetErrors("s", (10,), tuple(range(12)), errors[:2, ..., :1])
    one = {s.method: s for s in rank_runs(["base", "once", "thrice"], [both], "base").standings}
    other = {s.method: s for s in rank_runs(["base", "once"], [alone], "base").standings}
    assert one["once"].skill == other["once"].skill
    assert one["once"].failures == 0


def test_when_one_of_three_fits_failed_then_its_cells_are_counted_among_all() -> None:
    errors = np.full((2, 1, 1, 12, 3), 0.5)
    errors[0] = 1.0
    errors[1, 0, 0, ::4, 2] = np.nan  # one rotation's third fit
    data = SetErrors("s", (10,), tuple(range(12)), errors, repeats=(1, 3))
    ranking = rank_runs(["base", "m"], [data], "base")
    assert ranking.unranked == [Unranked("m", 3, 36)]


@pytest.mark.parametrize(("own_worst", "charged"), [(0.5, 1.0), (3.0, 3.0)])
def test_when_a_cell_failed_then_it_is_charged_the_worse_of_baseline_and_own_worst(
    own_worst: float, charged: float
) -> None:
    runs = 21
    errors = np.concatenate([np.ones((1, 1, 1, runs, 1)), np.full((1, 1, 1, runs, 1), 0.4)])
    errors[1, 0, 0, -1] = own_worst
    whole = errors.copy()
    errors[1, 0, 0, 0], whole[1, 0, 0, 0] = np.nan, charged
    ranked, as_charged = (
        rank_runs(["base", "m"], [SetErrors("s", (10,), tuple(range(runs)), e)], "base")
        for e in (errors, whole)
    )
    m, same = ranked.standings[0], as_charged.standings[0]
    assert (m.failures, m.skill, m.ratio) == (1, same.skill, same.ratio)


@pytest.mark.parametrize("contexts", [1, 3])
def test_when_cells_of_all_runs_failed_then_the_method_stands_below_the_others(
    contexts: int,
) -> None:
    random = np.random.default_rng(0)
    errors = np.exp(random.normal(0, 0.1, (4, contexts, 1, 12, 1)))
    errors[3] = np.nan  # all failed
    errors[2, 0, 0, :2] = np.nan  # 2 of 12, or of 36: more than 5 %
    names = ["base", "fine", "fails", "boom"]
    data = SetErrors("s", tuple(range(contexts)), tuple(range(12)), errors)
    ranking = rank_runs(names, [data], "base")
    assert {s.method for s in ranking.standings} == {"base", "fine"}
    cells = 12 * contexts
    assert ranking.unranked == [Unranked("fails", 2, cells), Unranked("boom", cells, cells)]
    # The others' numbers are those of a ranking without them.
    data = SetErrors("s", tuple(range(contexts)), tuple(range(12)), errors[:2])
    assert rank_runs(names[:2], [data], "base").standings == ranking.standings
    assert ranking_table(ranking)["method"].tolist()[2:] == ["fails", "boom"]


def test_when_a_run_hardly_moves_then_it_is_left_out_for_everybody_and_no_failure() -> None:
    data = _sets(0.1, 9)[0]
    data.errors[..., 3, :] = np.nan
    ranking = rank_runs(["base", "m"], [data], "base")
    assert all(s.failures == 0 for s in ranking.standings)


def test_when_a_set_has_few_runs_then_it_is_left_out_and_said() -> None:
    few = SetErrors("few", (10,), (0, 1), np.ones((2, 1, 1, 2, 1)))
    ranking = rank_runs(["base", "m"], [few, *_sets(0.1, 9)], "base")
    assert ranking.left_out == ["few: 2 usable runs, 6 are needed"]
    with pytest.raises(InputError, match="few: 2 usable runs"):
        rank_runs(["base", "m"], [few], "base")


def test_when_the_baseline_is_unknown_then_the_choices_are_named() -> None:
    with pytest.raises(InputError, match="unknown baseline 'lastvalue': did you mean last-value"):
        rank_tasks(["last-value", "m"], np.ones((2, 3)), ["a", "b", "c"], "lastvalue")


def test_when_only_one_method_is_there_then_it_ranks_without_a_warning() -> None:
    ranking = rank_tasks(["a"], np.ones((1, 3)), ["x", "y", "z"], "a")
    assert ranking.standings[0].mean_rank == 1.0


def test_when_a_csv_is_ranked_then_the_table_has_the_promised_columns(tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    path.write_text(
        "method,task,error\nlast-value,x,1\nlast-value,y,2\nm,x,0.5\nm,y,\n", encoding="utf-8"
    )
    table = rank_csv(path).table
    assert table.columns.tolist() == [
        "method", "skill", "skill_lower", "skill_upper", "win_rate", "win_rate_lower",
        "win_rate_upper", "mean_rank", "failures", "skill_iqm", "skill_iqm_lower",
        "skill_iqm_upper",
    ]  # fmt: skip
    assert table["method"].tolist() == ["last-value", "m"]
    assert table["failures"].tolist() == [0, 1]
    assert table.iloc[1].drop(["method", "failures"]).isna().all()
