"""Ranking methods over tasks, with intervals that come from runs.

A task's error is the median over its test runs. Intervals are percentile bootstraps that draw runs
anew within each data set, all contexts of a run together, so they say how much the ranking would
move with other runs of the same data sets, given the training runs. Coordinates are never
resampled: those of one run move together, and intervals from them are far too narrow.

Skill, win rate and their clipping follow the definitions of fev (Shchur et al. 2025): ratios to the
baseline in [0.01, 100], skill = 1 − their geometric mean, ties half a win, missing results counted
as the baseline's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.estimate import Estimate
from weightcast.datasets import InputError
from weightcast.datasets.admission.gates import FEWEST_RUNS
from weightcast.datasets.errors import unknown

Doubles = NDArray[np.float64]

DRAWS = 1000
CLIP = (0.01, 100.0)


@dataclass(frozen=True)
class SetErrors:
    """One data set's errors.

    Attributes
    ----------
    dataset : str
    contexts : tuple of int
    runs : tuple of int
    errors : ndarray, shape (methods, contexts, runs)
        Failed cells are NaN.
    ran : ndarray of bool, shape (methods, contexts, runs), optional
        False where a method was never run: it gets the baseline's error there, but no failure.
    """

    dataset: str
    contexts: tuple[int, ...]
    runs: tuple[int, ...]
    errors: Doubles
    ran: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Standing:
    """One method's place, in numbers."""

    method: str
    skill: Estimate
    win_rate: Estimate
    mean_rank: float
    failures: int
    ratio: Estimate


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


def rank_runs(methods: Sequence[str], sets: Sequence[SetErrors], baseline: str) -> Ranking:
    """Rank methods by their errors on runs.

    Parameters
    ----------
    methods : sequence of str
    sets : sequence of SetErrors
        ``errors[i]`` belongs to ``methods[i]``.
    baseline : str
        One of the methods; failed cells count as its result.

    Raises
    ------
    InputError
        If the baseline is not among the methods, or no data set has enough runs.
    """
    base = _baseline(methods, baseline)
    failures = np.zeros(len(methods), dtype=int)
    points, draws, tasks, left_out = [], [], [], []
    random = np.random.default_rng(123)
    for data in sets:
        # A run that hardly moves has no relative error with any method; a failure is one method's.
        usable = np.isfinite(data.errors).any(axis=(0, 1))
        lacking = np.isnan(data.errors[:, :, usable])
        if data.ran is not None:
            lacking &= data.ran[:, :, usable]
        failures += lacking.sum(axis=(1, 2))
        errors = _impute(data.errors[:, :, usable], base)
        count = errors.shape[2]
        if count < FEWEST_RUNS:
            left_out.append(f"{data.dataset}: {count} usable runs, {FEWEST_RUNS} are needed")
            continue
        points.append(np.median(errors, axis=2).T)  # (contexts, methods)
        chosen = random.integers(count, size=(DRAWS, count))
        draws.append(np.stack([_medians(errors[:, c], chosen) for c in range(errors.shape[1])], 1))
        tasks += [f"{data.dataset}, context {context}" for context in data.contexts]
    if not points:
        raise InputError(f"no data set has enough runs to rank: {'; '.join(left_out) or 'no runs'}")
    point = np.concatenate(points)  # (tasks, methods)
    return _ranking(
        methods, baseline, point, np.concatenate(draws, axis=1), failures, tasks, left_out
    )


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
    base = _baseline(methods, baseline)
    failures = np.isnan(errors).sum(axis=1)
    point = _impute(errors, base).T  # (tasks, methods)
    chosen = np.random.default_rng(123).integers(len(point), size=(DRAWS, len(point)))
    return _ranking(methods, baseline, point, point[chosen], failures, list(tasks), [])


def _ranking(
    methods: Sequence[str],
    baseline: str,
    point: Doubles,
    draws: Doubles,
    failures: NDArray[np.int_],
    tasks: list[str],
    left_out: list[str],
) -> Ranking:
    """Build the ranking from errors (tasks, methods) and their redraws (draws, tasks, methods)."""
    base = list(methods).index(baseline)
    skill, skills = _skill(point, base), _skill(draws, base)
    ranks, all_ranks = _mean_rank(point), _mean_rank(draws)
    order = sorted(range(len(methods)), key=lambda i: (-skill[i], ranks[i], methods[i]))
    first = order[0]
    ratio, ratios = 1 - _skill(point, first), 1 - _skill(draws, first)

    wins, all_wins = _win_rate(ranks, len(methods)), _win_rate(all_ranks, len(methods))
    standings = [
        Standing(
            method=methods[i],
            skill=_estimate(skill[i], skills[:, i]),
            win_rate=_estimate(wins[i], all_wins[:, i]),
            mean_rank=float(ranks[i]),
            failures=int(failures[i]),
            ratio=_estimate(ratio[i], ratios[:, i]),
        )
        for i in order
    ]
    return Ranking(standings, baseline, tasks, left_out)


def _estimate(value: float, draws: Doubles) -> Estimate:
    lower, upper = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(lower), float(upper))


def _baseline(methods: Sequence[str], baseline: str) -> int:
    if baseline not in methods:
        raise unknown("baseline", baseline, methods)
    return list(methods).index(baseline)


def _impute(errors: Doubles, base: int) -> Doubles:
    """Put the baseline's error where a method has none; the baseline itself must have all."""
    if np.isnan(errors[base]).any():
        raise InputError("the baseline has no result on some tasks; choose another baseline")
    return np.where(np.isnan(errors), errors[base][None], errors)


def _medians(errors: Doubles, chosen: NDArray[np.int64]) -> Doubles:
    """Medians over redrawn runs: (methods, runs) and (draws, runs) → (draws, methods)."""
    return np.stack([np.median(row[chosen], axis=1) for row in errors], axis=1)


def _skill(errors: Doubles, base: int) -> Doubles:
    """1 − geometric mean over tasks of clipped ratios to one method: (..., tasks, M) → (..., M)."""
    # Where the baseline is perfect, matching it is a tie and anything else is as bad as it gets.
    floor = np.finfo(np.float64).tiny
    ratio = np.maximum(errors, floor) / np.maximum(errors[..., base : base + 1], floor)
    skill: Doubles = 1.0 - np.exp(np.log(np.clip(ratio, *CLIP)).mean(axis=-2))
    return skill


def _mean_rank(errors: Doubles) -> Doubles:
    """Average ranks over tasks, ties sharing theirs: (..., tasks, M) → (..., M)."""
    from scipy.stats import rankdata

    mean: Doubles = rankdata(errors, axis=-1).mean(axis=-2)
    return mean


def _win_rate(rank: Doubles, methods: int) -> Doubles:
    """Share of opponents beaten, ties half; it is the mean rank on another scale."""
    return (methods - rank) / (methods - 1) if methods > 1 else np.full_like(rank, np.nan)
