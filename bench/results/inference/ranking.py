"""Ranking methods over tasks, with intervals that come from runs.

A task's error is the median over its test runs, and over the seeds under which a method that draws
random numbers was fitted; of a metric that is taken at several horizons it is the geometric mean
over these of the medians. Intervals are percentile bootstraps that draw runs anew within each data
set, all contexts and horizons of a run together, and with them the fits of each rotation, so they
say how much the ranking would move with other runs of the same data sets and other fits, given the
training runs. Coordinates are never resampled: those of one run move together, and intervals from
them are far too narrow.

Skill, win rate and their clipping are those of fev's leaderboard (Shchur et al. 2025): ratios to
the baseline in [0.01, 100], skill = 1 − their geometric mean; the win rate compares these same
ratios, ties half a win, so that two errors beyond the clip tie. Three things differ from fev:
methods stand in the order of their skills, runs are redrawn where there are any, and failures are
charged. Beside the skill stands that of the middle half of all runs.

Who fails too often is not ranked, and who fails seldom is charged for it, by `charging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.verdicts import MOST_FAILED
from weightcast.bench.results.inference.charging import (
    Failures,
    Unranked,
    charge,
    check_baseline,
    ready,
)
from weightcast.bench.results.inference.errors import Doubles, SetErrors
from weightcast.bench.results.inference.interquartile import interquartile_mean, middle_ratios
from weightcast.bench.results.inference.order import average_ranks
from weightcast.bench.results.inference.redraws import DRAWS, counted, redraws

CLIP = (0.01, 100.0)


@dataclass(frozen=True)
class Standing:
    """One method's place, in numbers.

    Attributes
    ----------
    method : str
    skill : Estimate
        1 − the geometric mean over tasks of the median error over the baseline's.
    win_rate : Estimate
    mean_rank : float
    failures : int
    ratio : Estimate
        The geometric mean over tasks of the error over the first method's.
    middle : Estimate
        1 − the interquartile mean of the errors over the baseline's, run by run.
    """

    method: str
    skill: Estimate
    win_rate: Estimate
    mean_rank: float
    failures: int
    ratio: Estimate
    middle: Estimate


@dataclass(frozen=True)
class Ranking:
    """Methods in order, best first.

    Attributes
    ----------
    standings : list of Standing
        ``ratio`` compares each with the first, paired: the geometric mean over tasks of its error
        over the first's.
    baseline : str
    tasks : list of str
    left_out : list of str
        Data sets with too few runs, with the reason.
    """

    standings: list[Standing]
    baseline: str
    tasks: list[str]
    left_out: list[str]
    unranked: list[Unranked] = field(default_factory=list)


def failure_notes(ranking: Ranking) -> list[str]:
    """Say in a line each which methods are charged for failures, and which are not ranked."""
    charged = [
        f"{s.method}: {s.failures} failed cell{'s' * (s.failures > 1)}, each charged the worse of "
        f"{ranking.baseline}'s error and its own worst on that task"
        for s in ranking.standings
        if s.failures
    ]
    return charged + [
        f"{u.method} is not ranked: {u.spoken}"
        + f"; ranked is who fails in at most {MOST_FAILED:.0%}" * (not u.lacks)
        for u in ranking.unranked
    ]


def rank_runs(methods: Sequence[str], sets: Sequence[SetErrors], baseline: str) -> Ranking:
    """Rank methods by their errors on runs.

    Parameters
    ----------
    methods : sequence of str
    sets : sequence of SetErrors
        ``errors[i]`` belongs to ``methods[i]``.
    baseline : str
        One of the methods.

    Raises
    ------
    InputError
        If the baseline is not among the methods, or no data set has enough runs.
    """
    found = ready(methods, sets, baseline)
    base = found.methods.index(baseline)
    # (tasks, methods)
    point = np.concatenate([_over_horizons(_median(data)).T for data in found.sets])

    def redraw(first: int) -> Doubles:
        """Draw the runs of one data set after the other: all at once would fill the memory."""
        total = np.zeros((3, DRAWS, len(found.methods)))
        for drawn in _redrawn(found.sets):
            tasks = _over_horizons(drawn).swapaxes(1, 2)  # (draws, tasks, methods)
            total += _compared(tasks, base, first).sum(axis=-2)
        return total / len(point)

    middles = middle_ratios(_run_ratios(found.sets, base), found.sets)
    ranking = _ranking(found.methods, baseline, point, redraw, middles, found.failures)
    return replace(ranking, tasks=found.tasks, left_out=found.left_out, unranked=found.unranked)


def horizon_skills(
    methods: Sequence[str], sets: Sequence[SetErrors], baseline: str
) -> dict[str, list[Estimate]]:
    """Return each ranked method's skill at each horizon, from the draws that `rank_runs` makes.

    Parameters
    ----------
    methods, sets, baseline
        As for `rank_runs`. Runs that hardly move by one of the horizons are left out at all.

    Returns
    -------
    dict of str to list of Estimate
        A skill a horizon; without the methods too many of whose cells failed.
    """
    found = ready(methods, sets, baseline)
    base = found.methods.index(baseline)
    point = np.concatenate([_median(data) for data in found.sets], axis=1)
    skill = 1.0 - np.exp(_log_ratio(np.moveaxis(point, 0, -1), base).mean(axis=0))
    total = np.zeros((DRAWS, point.shape[2], len(found.methods)))
    for drawn in _redrawn(found.sets):
        total += _log_ratio(np.moveaxis(drawn, 1, -1), base).sum(axis=1)
    skills = 1.0 - np.exp(total / point.shape[1])
    return {name: _estimates(skill[:, i], skills[:, :, i]) for i, name in enumerate(found.methods)}


def run_errors(
    methods: Sequence[str], sets: Sequence[SetErrors], baseline: str
) -> tuple[list[str], list[Doubles]]:
    """Return ranked methods and, a data set each, their errors run by run: (methods, runs).

    A run's error is the median over a method's fits, and the geometric mean over horizons and
    contexts of these; failed cells are charged as `rank_runs` does.
    """
    found = ready(methods, sets, baseline)
    tiny = np.finfo(np.float64).tiny
    return found.methods, [
        np.stack(
            [
                np.exp(np.log(np.maximum(np.median(own, axis=-1), tiny)).mean(axis=(0, 1)))
                for own in data.by_method()
            ]
        )
        for data in found.sets
    ]


def set_errors(
    methods: Sequence[str], sets: Sequence[SetErrors], baseline: str
) -> tuple[list[str], Doubles]:
    """Return ranked methods and their error on each data set, (methods, sets).

    It is the geometric mean over contexts and horizons of the median over runs and fits; failed
    cells are charged as `rank_runs` does.
    """
    found = ready(methods, sets, baseline)
    medians = [_over_horizons(_median(data)) for data in found.sets]
    return found.methods, np.stack([_over_horizons(one) for one in medians], axis=1)


def _redrawn(sets: Sequence[SetErrors]) -> Iterator[Doubles]:
    """Yield each data set's medians over redrawn runs and fits.

    The shape is (draws, methods, contexts, horizons).
    """
    for data, draw in redraws(sets):
        drawn = np.empty((DRAWS, *data.errors.shape[:3]))
        for methods, errors in data.by_repeats():
            drawn[:, methods] = draw.medians(errors)
        yield drawn


def rank_tasks(
    methods: Sequence[str], errors: Doubles, tasks: Sequence[str], baseline: str
) -> Ranking:
    """Rank methods by one error a task; the bootstrap draws tasks.

    Parameters
    ----------
    methods : sequence of str
    errors : ndarray, shape (methods, tasks)
        NaN where a method has no result.
    tasks : sequence of str
    baseline : str
    """
    check_baseline(methods, baseline)
    failed = np.isnan(errors)
    found = Failures(failed.sum(axis=1), np.full(len(methods), errors.shape[1]))
    kept, unranked = found.split(methods, baseline, np.asarray(~failed.all(axis=1)))
    names = [methods[i] for i in kept]
    base = names.index(baseline)
    # A task has one error a method: the worst of its own there is none.
    places = tuple(range(len(tasks)))
    table = SetErrors("", places, (0,), errors[kept][:, :, None, None, None])
    point = charge(table, base).errors[:, :, 0, 0, 0].T
    chosen = np.random.default_rng(123).integers(len(point), size=(DRAWS, len(point)))
    # Each task weighs as often as it was drawn; nothing is as large as draws × tasks × methods.
    weights = counted(chosen, len(point))

    def redraw(first: int) -> Doubles:
        means: Doubles = weights @ _compared(point, base, first) / len(point)
        return means

    as_it_is = np.concatenate([np.ones((1, len(point)), dtype=weights.dtype), weights])
    middles = [interquartile_mean(own, as_it_is) for own in _ratio(point, base).T]

    failures = [int(found.failed[i]) for i in kept]
    ranking = _ranking(names, baseline, point, redraw, np.stack(middles, axis=1), failures)
    return replace(ranking, tasks=list(tasks), unranked=unranked)


def _ranking(
    methods: Sequence[str],
    baseline: str,
    point: Doubles,
    redraw: Callable[[int], Doubles],
    middles: Doubles,
    failures: Sequence[int],
) -> Ranking:
    """Build the ranking from errors (tasks, methods).

    ``redraw`` gets the first method's place and returns the means of `_compared` over redrawn
    tasks, (3, draws, methods); ``middles`` are interquartile means of ratios, (1 + draws, methods).
    """
    base = list(methods).index(baseline)
    skill, _, ranks = _from_means(_compared(point, base, base).mean(axis=-2))
    order = sorted(range(len(methods)), key=lambda i: (-skill[i], ranks[i], methods[i]))
    first = order[0]
    _, ratio, _ = _from_means(_compared(point, base, first).mean(axis=-2))
    skills, ratios, all_ranks = _from_means(redraw(first))
    told = {
        "skill": _estimates(skill, skills),
        "win_rate": _estimates(_win_rate(ranks, len(methods)), _win_rate(all_ranks, len(methods))),
        "ratio": _estimates(ratio, ratios),
        "middle": _estimates(1.0 - middles[0], 1.0 - middles[1:]),
    }
    standings = [
        Standing(
            method=methods[i],
            mean_rank=float(ranks[i]),
            failures=failures[i],
            **{name: estimates[i] for name, estimates in told.items()},
        )
        for i in order
    ]
    return Ranking(standings, baseline, [], [])


def _estimates(values: Doubles, draws: Doubles) -> list[Estimate]:
    """Give each value, (k,), the interval of its draws, (draws, k)."""
    bounds = np.quantile(draws, [0.025, 0.975], axis=0)
    return [Estimate(*map(float, one)) for one in zip(values, *bounds, strict=True)]


def _median(data: SetErrors) -> Doubles:
    """Medians over runs and fits: (methods, contexts, horizons)."""
    medians = np.empty(data.errors.shape[:3])
    for methods, errors in data.by_repeats():
        medians[methods] = np.median(errors, axis=(-2, -1))
    return medians


def _over_horizons(errors: Doubles) -> Doubles:
    """Geometric mean over horizons: (..., horizons) → (...)."""
    if errors.shape[-1] == 1:
        return errors[..., 0]
    means: Doubles = np.exp(np.log(np.maximum(errors, np.finfo(np.float64).tiny)).mean(axis=-1))
    return means


def _compared(errors: Doubles, base: int, first: int) -> Doubles:
    """Compare methods on each task: (..., tasks, M) → (3, ..., tasks, M).

    These are the logarithms of clipped ratios to the baseline and to the first, and the ranks of
    those to the baseline, ties sharing theirs.
    """
    ratios = _ratio(errors, base)
    found: Doubles = np.stack(
        [np.log(ratios), _log_ratio(errors, first), average_ranks(ratios)],
    )
    return found


def _log_ratio(errors: Doubles, other: int) -> Doubles:
    logs: Doubles = np.log(_ratio(errors, other))
    return logs


def _ratio(errors: Doubles, other: int) -> Doubles:
    return _over(errors, errors[..., other : other + 1])


def _over(errors: Doubles, others: Doubles) -> Doubles:
    """Divide errors, and clip."""
    # Where the other is perfect, matching it is a tie and anything else is as bad as it gets.
    floor = np.finfo(np.float64).tiny
    ratio: Doubles = np.clip(np.maximum(errors, floor) / np.maximum(others, floor), *CLIP)
    return ratio


def _run_ratios(sets: Sequence[SetErrors], base: int) -> list[list[Doubles]]:
    """Return each method's clipped ratios to the baseline run by run: (contexts, runs, repeats).

    An error is the geometric mean over horizons; the baseline's is the median over its fits.
    """
    of_runs = [
        [_over_horizons(np.moveaxis(own, 1, -1)) for own in data.by_method()] for data in sets
    ]
    beside = [np.median(own[base], axis=-1, keepdims=True) for own in of_runs]
    return [
        [
            np.ones_like(other) if method == base else _over(own[method], other)
            for own, other in zip(of_runs, beside, strict=True)
        ]
        for method in range(len(of_runs[0]))
    ]


def _from_means(means: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return skills, ratios to the first and mean ranks from means of `_compared` over tasks."""
    return 1.0 - np.exp(means[0]), np.exp(means[1]), means[2]


def _win_rate(rank: Doubles, methods: int) -> Doubles:
    """Share of opponents beaten, ties half; it is the mean rank on another scale."""
    return (methods - rank) / (methods - 1) if methods > 1 else np.full_like(rank, np.nan)
