"""What rankings compute for many rows at once, against a loop that takes them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, rankdata

from weightcast.bench.results.inference import interquartile as interquartile_module
from weightcast.bench.results.inference import ranking as ranking_module
from weightcast.bench.results.inference import redraws as redraws_module
from weightcast.bench.results.inference.errors import SetErrors
from weightcast.bench.results.inference.order import average_ranks, ranks_and_ties
from weightcast.bench.results.inference.pairwise import pairwise, signed_rank
from weightcast.bench.results.inference.ranking import horizon_skills, rank_runs
from weightcast.bench.results.inference.redraws import DRAWS, redraws

#: Few values, so that many tie.
FEW = st.sampled_from([0.0, 0.5, 1.0, 2.0, 100.0])
FEW_DRAWS = 40
NAMES = ["base", "m", "other"]


@st.composite
def tables(draw: st.DrawFn) -> SetErrors:
    """One data set's errors, of methods with one fit and with several."""
    contexts, horizons, repeats = (draw(st.integers(1, most)) for most in (2, 3, 3))
    runs = draw(st.integers(6, 9))
    values = st.one_of(st.floats(0.01, 50), FEW.filter(bool))
    errors = draw(arrays(np.float64, (3, contexts, horizons, runs, repeats), elements=values))
    rotations = draw(st.lists(st.integers(0, 2), min_size=runs, max_size=runs))
    return SetErrors(
        f"s{draw(st.integers(0, 99))}",
        tuple(range(contexts)),
        tuple(range(runs)),
        errors,
        rotations=tuple(rotations),
        repeats=(1, repeats, repeats),
    )


@given(arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(1, 9)), elements=FEW))
def test_when_rows_are_ranked_then_scipy_ranks_each_the_same(rows: np.ndarray) -> None:
    ranks, ties = ranks_and_ties(rows)
    np.testing.assert_array_equal(average_ranks(rows), ranks)
    for row, own, alike in zip(rows, ranks, ties, strict=True):
        np.testing.assert_array_equal(own, rankdata(row))
        np.testing.assert_array_equal(alike, [(row == value).sum() for value in row])


@settings(deadline=None, max_examples=30)
@given(tables())
def test_when_runs_are_redrawn_then_medians_are_those_of_the_cells_drawn(data: SetErrors) -> None:
    ((_, redraw),) = redraws([data])
    for own in data.by_method():
        found = redraw.medians(own)
        for number in range(0, DRAWS, 97):
            drawn = []
            for run in redraw.chosen[number]:
                fits = np.zeros(own.shape[-1], dtype=int)
                if redraw.lots is not None and own.shape[-1] > 1:
                    lots = redraw.lots[number, redraw.rotation[run], : own.shape[-1]]
                    fits = (lots * own.shape[-1]).astype(int)
                drawn.append(own[:, :, run, fits])
            expected = np.median(np.concatenate(drawn, axis=-1), axis=-1)
            np.testing.assert_array_equal(found[number], expected)


def test_when_a_drawn_cell_has_no_number_then_neither_has_the_median() -> None:
    errors = np.ones((1, 1, 1, 5, 1))
    ((_, redraw),) = redraws([SetErrors("s", (0,), tuple(range(5)), errors)])
    gap = np.where(np.arange(5) == 2, np.nan, 1.0)[None, None, :, None]
    found = redraw.medians(gap)[:, 0, 0]
    np.testing.assert_array_equal(np.isnan(found), (redraw.chosen == 2).any(axis=1))


@settings(deadline=None, max_examples=20)
@given(st.lists(tables(), min_size=1, max_size=3))
def test_when_methods_are_ranked_then_a_loop_over_draws_says_the_same(
    sets: list[SetErrors],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (redraws_module, ranking_module, interquartile_module):
            patch.setattr(module, "DRAWS", FEW_DRAWS)
        found = {s.method: s for s in rank_runs(NAMES, sets, "base").standings}
        drawn = [[draw.medians(own) for own in data.by_method()] for data, draw in redraws(sets)]
    one_horizon = all(data.errors.shape[2] == 1 for data in sets)
    skills, ranks = np.empty((2, FEW_DRAWS, len(NAMES)))
    for number in range(FEW_DRAWS):
        ratios = []
        for medians in drawn:
            for context in range(medians[0].shape[1]):
                over = [_geometric_mean(own[number, context]) for own in medians]
                ratios.append([min(max(own / over[0], 0.01), 100.0) for own in over])
        skills[number] = 1 - np.exp(np.log(ratios).mean(axis=0))
        ranks[number] = np.mean([rankdata(one) for one in ratios], axis=0)
    for place, name in enumerate(NAMES):
        told_and_drawn = [(found[name].skill, skills[:, place])]
        if one_horizon:  # else two means over horizons may tie but for the last digit
            wins = (len(NAMES) - ranks[:, place]) / (len(NAMES) - 1)
            told_and_drawn.append((found[name].win_rate, wins))
        for told, of_draws in told_and_drawn:
            expected = np.quantile(of_draws, [0.025, 0.975])
            np.testing.assert_allclose([told.lower, told.upper], expected, rtol=1e-9, atol=1e-12)


def _geometric_mean(errors: np.ndarray) -> float:
    return float(errors[0] if len(errors) == 1 else np.exp(np.log(errors).mean()))


@settings(deadline=None, max_examples=15)
@given(tables())
def test_when_a_set_has_horizons_then_each_ones_skill_is_that_of_it_alone(data: SetErrors) -> None:
    found = horizon_skills(NAMES, [data], "base")
    for place in range(data.errors.shape[2]):
        alone = SetErrors(
            data.dataset, data.contexts, data.runs, data.errors[:, :, [place]], data.rotations,
            data.repeats,
        )  # fmt: skip
        for standing in rank_runs(NAMES, [alone], "base").standings:
            one = found[standing.method][place]
            np.testing.assert_allclose(
                [one.value, one.lower, one.upper],
                [standing.skill.value, standing.skill.lower, standing.skill.upper],
                atol=1e-10,
            )


def _signed_rank(row: np.ndarray) -> float:
    """Wilcoxon's statistic of one pair as a normal deviate, as its definition has it."""
    told = row[row != 0]
    if not len(told):
        return 0.0
    n, ranks = len(told), rankdata(np.abs(told))
    above, mean = ranks[told > 0].sum(), n * (n + 1) / 4
    ties = np.unique(ranks, return_counts=True)[1]
    if n == len(row) and (ties == 1).all():
        sums = np.array([0])
        for rank in range(1, n + 1):
            sums = np.concatenate([sums, sums + rank])
        chance = min(0.5, float((sums >= max(above, 2 * mean - above)).mean()))
        return float(np.sign(above - mean) * norm.isf(chance))
    variance = n * (n + 1) * (2 * n + 1) / 24 - (ties.astype(float) ** 3 - ties).sum() / 48
    return float((above - mean) / np.sqrt(variance))


@settings(deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        elements=st.one_of(st.floats(-3, 3), st.integers(-2, 2).map(float)),
    )
)
def test_when_pairs_are_tested_at_once_then_each_is_as_if_alone(differences: np.ndarray) -> None:
    np.testing.assert_allclose(
        signed_rank(differences), [_signed_rank(row) for row in differences], atol=1e-12
    )


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, (3, 6), elements=st.sampled_from([0.5, 1.0, 1.5, 2.0])))
def test_when_methods_are_compared_then_wins_and_ratios_are_those_of_each_pair(
    errors: np.ndarray,
) -> None:
    found = pairwise(NAMES, [errors])
    for i, one in enumerate(errors):
        for j, other in enumerate(errors):
            won = ((one < other) + 0.5 * (one == other)).mean() if i != j else 0.5
            np.testing.assert_allclose(found.won[i, j], won)
            np.testing.assert_allclose(
                found.ratio[i, j], np.exp(np.median(np.log(one) - np.log(other)))
            )
