"""The interquartile mean against SciPy's trimmed mean, and its redraws against drawn cells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, trim_mean

from weightcast.bench.results.file_board import rank_csv
from weightcast.bench.results.inference.errors import SetErrors
from weightcast.bench.results.inference.interquartile import interquartile_mean
from weightcast.bench.results.inference.ranking import Standing, rank_runs
from weightcast.bench.results.inference.redraws import redraws

NAMES = ["base", "m", "other"]


def _set(
    seed: int, *, runs: int, contexts: int = 1, horizons: int = 1, repeats: int = 1
) -> SetErrors:
    random = np.random.default_rng(seed)
    errors = np.exp(random.normal(0, 2, (len(NAMES), contexts, horizons, runs, repeats)))
    return SetErrors(
        f"s{seed}",
        tuple(range(contexts)),
        tuple(range(runs)),
        errors,
        rotations=tuple(run % 4 for run in range(runs)),
        repeats=(1, repeats, 1),
    )


def _standings(sets: list[SetErrors]) -> dict[str, Standing]:
    return {s.method: s for s in rank_runs(NAMES, sets, "base").standings}


def _ratios(data: SetErrors, method: int) -> np.ndarray:
    """A method's clipped ratios to the baseline: (contexts, runs, fits)."""
    own, base = (np.exp(np.log(data.by_method()[place]).mean(axis=1)) for place in (method, 0))
    return np.clip(own / base, 0.01, 100)


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.integers(0, 4)),
        min_size=1,
        max_size=30,
    ).filter(lambda pairs: any(weight for _, weight in pairs))
)
def test_when_values_weigh_then_it_is_the_trimmed_mean_of_so_many_copies(
    pairs: list[tuple[float, int]],
) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    found = interquartile_mean(values.astype(float), weights[None].astype(float))
    # Four copies of each, so that a quarter of them is a whole number.
    expected = trim_mean(np.repeat(values, 4 * weights), 0.25)
    assert found == pytest.approx([expected], rel=1e-9, abs=1e-9)


def test_when_sets_have_alike_many_runs_then_it_is_the_trimmed_mean_of_all_their_runs() -> None:
    sets = [_set(seed, runs=12, contexts=2, horizons=3) for seed in range(3)]
    found = _standings(sets)
    for place, name in enumerate(NAMES):
        pooled = np.concatenate([_ratios(data, place).ravel() for data in sets])
        assert found[name].middle.value == pytest.approx(1 - trim_mean(pooled, 0.25))
    assert found["base"].middle.value == 0.0


def test_when_a_set_has_more_runs_or_fits_then_it_weighs_no_more() -> None:
    sets = [_set(0, runs=6, repeats=2), _set(1, runs=9, repeats=2)]
    # 36 copies of a run's fits in either set.
    copies = [np.repeat(_ratios(data, 1).ravel(), 36 // len(data.runs)) for data in sets]
    pooled = np.concatenate(copies)
    assert len(pooled) % 4 == 0
    assert _standings(sets)["m"].middle.value == pytest.approx(1 - trim_mean(pooled, 0.25))


@pytest.mark.parametrize("repeats", [1, 3])
def test_when_runs_are_redrawn_then_it_sees_the_cells_that_medians_see(repeats: int) -> None:
    data = _set(5, runs=8, repeats=repeats)
    own = data.by_method()[1]
    ((_, draw),) = redraws([data])
    counts, medians = draw.counts(repeats), draw.medians(own)
    assert (counts.sum(axis=(1, 2)) == own.size).all()
    for place in range(50):
        cells = np.repeat(own.ravel(), counts[place].ravel())
        assert np.median(cells) == pytest.approx(medians[place, 0, 0])


@pytest.mark.parametrize("repeats", [1, 3])
def test_when_runs_are_redrawn_then_its_interval_is_that_of_the_drawn_cells(repeats: int) -> None:
    data = _set(6, runs=12, contexts=2, repeats=repeats)
    ratios = _ratios(data, 1)
    ((_, draw),) = redraws([data])
    drawn = [
        trim_mean(np.concatenate([np.repeat(c.ravel(), counts.ravel()) for c in ratios]), 0.25)
        for counts in draw.counts(repeats)
    ]
    lower, upper = np.quantile(1 - np.array(drawn), [0.025, 0.975])
    found = _standings([data])["m"].middle
    assert (found.lower, found.upper) == pytest.approx((lower, upper))


def test_when_it_is_estimated_many_times_then_the_interval_covers_it_about_as_promised() -> None:
    # Errors over the baseline's are 0.8 exp(0.3 z): their mean between the quartiles of z.
    end, spread = norm.ppf(0.75), 0.3
    inside = norm.cdf(end - spread) - norm.cdf(-end - spread)
    truth = 1 - 0.8 * math.exp(spread**2 / 2) * inside / 0.5
    covered = 0
    for seed in range(60):
        noise = np.random.default_rng(seed).standard_normal((1, 1, 1, 25, 1))
        errors = np.concatenate([np.ones_like(noise), 0.8 * np.exp(spread * noise)])
        data = SetErrors("s", (10,), tuple(range(25)), errors)
        m = rank_runs(["base", "m"], [data], "base").standings[0]
        covered += m.middle.lower <= truth <= m.middle.upper
    assert covered >= 51


def test_when_the_baseline_is_fitted_several_times_then_it_has_no_skill_by_itself() -> None:
    data = _set(7, runs=9, repeats=3)
    middle = next(s for s in rank_runs(NAMES, [data], "m").standings if s.method == "m").middle
    assert (middle.value, middle.lower, middle.upper) == (0.0, 0.0, 0.0)


def test_when_one_set_alone_is_good_then_skill_and_interquartile_mean_part() -> None:
    errors = np.ones((3, 1, 1, 12, 1))
    good = errors.copy()
    good[1] = 0.01
    sets = [SetErrors(name, (10,), tuple(range(12)), e) for name, e in (("a", errors), ("b", good))]
    sets += [SetErrors(name, (10,), tuple(range(12)), errors) for name in "cde"]
    m = _standings(sets)["m"]
    assert m.skill.value == pytest.approx(1 - 0.01 ** (1 / 5))
    assert m.middle.value == 0.0


def test_when_a_table_of_tasks_is_ranked_then_it_is_over_tasks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    errors = np.exp(random.normal(0, 1, (2, 8)))
    lines = [
        f"{name},t{task},{float(error)!r}"
        for name, row in zip(("last-value", "m"), errors, strict=True)
        for task, error in enumerate(row)
    ]
    path = tmp_path / "errors.csv"
    path.write_text("\n".join(["method,task,error", *lines]), encoding="utf-8")
    table = rank_csv(path).table.set_index("method")
    expected = 1 - trim_mean(np.clip(errors[1] / errors[0], 0.01, 100), 0.25)
    assert table.loc["m", "skill_iqm"] == pytest.approx(expected)
    drawn = np.random.default_rng(123).integers(8, size=(1000, 8))
    redrawn = 1 - trim_mean((errors[1] / errors[0])[drawn], 0.25, axis=1)
    limits = table.loc["m", ["skill_iqm_lower", "skill_iqm_upper"]].astype(float)
    np.testing.assert_allclose(limits, np.quantile(redrawn, [0.025, 0.975]))
