"""Method against method: scipy and statsmodels as oracles, and bands of those not told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from weightcast.bench.results.inference.pairwise import holm, pairwise, signed_rank


@pytest.mark.parametrize(
    ("runs", "rounded", "method"),
    [(8, None, "exact"), (40, None, "exact"), (80, None, "asymptotic"), (40, 1, "asymptotic")],
)
@pytest.mark.parametrize("seed", range(3))
def test_when_pairs_are_tested_then_scipy_says_the_same(
    seed: int, runs: int, rounded: int | None, method: str
) -> None:
    differences = np.random.default_rng(seed).normal(0.1, 1, (6, runs))
    if rounded is not None:
        differences = np.round(differences, rounded)  # ties and zeros
    for row, z in zip(differences, signed_rank(differences), strict=True):
        found = stats.wilcoxon(row, zero_method="wilcox", correction=False, method=method)
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(found.pvalue)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_when_p_values_are_adjusted_then_statsmodels_says_the_same(p: list[float]) -> None:
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(holm(np.array(p)), expected, atol=1e-12)


def test_when_there_are_several_sets_then_stouffer_joins_them_with_equal_weights() -> None:
    random = np.random.default_rng(0)
    sets = [np.exp(random.normal(0, 0.3, (2, runs))) for runs in (12, 200)]
    z = [signed_rank(np.log(errors[:1]) - np.log(errors[1:]))[0] for errors in sets]
    expected = stats.combine_pvalues(stats.norm.sf(z), method="stouffer").pvalue
    found = pairwise(["a", "b"], sets).p[0, 1]
    assert found == pytest.approx(2 * min(expected, 1 - expected))


def test_when_methods_are_compared_then_both_sides_of_a_pair_agree() -> None:
    random = np.random.default_rng(1)
    found = pairwise(["a", "b", "c"], [np.exp(random.normal(0, 1, (3, 15)))])
    np.testing.assert_allclose(found.won + found.won.T, 1)
    np.testing.assert_allclose(found.ratio * found.ratio.T, 1)
    np.testing.assert_array_equal(found.p, found.p.T)


def test_when_some_cannot_be_told_apart_then_their_bands_overlap_and_others_do_not() -> None:
    random = np.random.default_rng(2)
    runs = np.exp(random.normal(0, 0.3, 24))
    noise = np.exp(random.normal(0, 0.05, (4, 24)))
    errors = runs * noise * np.array([[0.5], [1.0], [1.0], [2.0]])
    found = pairwise(["best", "one", "other", "worst"], [errors])
    assert [found.band(m) for m in found.methods] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert found.won[0, 1] == 1.0
    assert found.ratio[3, 0] == pytest.approx(4, rel=0.1)


def test_when_two_methods_are_the_same_then_they_tie() -> None:
    errors = np.exp(np.random.default_rng(3).normal(0, 1, (1, 12)))
    found = pairwise(["a", "b"], [np.repeat(errors, 2, axis=0)])
    assert (found.won[0, 1], found.ratio[0, 1], found.p[0, 1]) == (0.5, 1.0, 1.0)


def test_when_nothing_differs_then_a_false_alarm_is_rare_over_all_pairs() -> None:
    alarms = 0
    for seed in range(100):
        sets = [np.exp(np.random.default_rng([seed, n]).normal(0, 0.3, (6, n))) for n in (12, 30)]
        alarms += bool((pairwise(list("abcdef"), sets).p < 0.05).any())
    assert alarms <= 12
