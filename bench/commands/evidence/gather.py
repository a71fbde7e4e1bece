"""Is a forecast worth using? What trying the method says, as a table and a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from weightcast.bench.commands.evidence.cases import Case, find_cases
from weightcast.bench.commands.evidence.released import ReleasedRow, nearest_rows
from weightcast.bench.commands.evidence.trials import LAST_VALUE, Trial, Trials
from weightcast.bench.commands.evidence.verdict import Score, Verdict, ahead, decide
from weightcast.bench.commands.forecast_asked import Asked
from weightcast.methods import Forecaster


@dataclass(frozen=True)
class Evidence:
    """What is known of a forecast's worth.

    Attributes
    ----------
    method : str
    horizon, steps : int
        In snapshots and in optimizer steps.
    metric : str
        What decided: ``"train_loss"`` where it was measured, else ``"rel_final"``.
    why_no_loss : str
        Why the training loss was not measured; empty where it was.
    verdict : Verdict
    trials : tuple of Trial
        Every method at every origin with a known future.
    reached : tuple of (Case, float or None)
        Each such origin with the training loss of the weights that the run reached.
    ahead : tuple of (str, int, int)
        Methods that did better at most origins: the name, at how many, of how many.
    rows : tuple of ReleasedRow
        The benchmark's, of the method on the sets nearest to the run.
    coordinates, of_coordinates : int
        On how many of the run's coordinates the methods were tried.
    longest : int
        The longest horizon with three origins to try it at.
    """

    method: str
    horizon: int
    steps: int
    metric: str
    why_no_loss: str
    verdict: Verdict
    trials: tuple[Trial, ...]
    reached: tuple[tuple[Case, float | None], ...]
    ahead: tuple[tuple[str, int, int], ...]
    rows: tuple[ReleasedRow, ...]
    coordinates: int
    of_coordinates: int
    longest: int


def gather_evidence(
    asked: Asked, fitted: Forecaster, *, count: int = 4, measure: bool = True
) -> Evidence:
    """Try a forecast's method wherever the future is known.

    Parameters
    ----------
    asked : Asked
    fitted : Forecaster
        The method as it was fitted for the forecast.
    count : int
        How many earlier origins of the run, and how many folds of the fit runs, at the most. What
        the run recorded after the forecast's own origin is used in any case.
    measure : bool
        Whether to measure training losses.
    """
    trials = Trials(asked, fitted, measure=measure)
    cases = find_cases(asked, count)
    tried = trials.at(cases)
    mine = [trial for trial in tried if trial.method == asked.method and not trial.why]
    losses = bool(mine) and all(trial.train_loss is not None for trial in mine)
    metric = "train_loss" if losses and not trials.why_no_loss else "rel_final"
    ratios = _ratios(tried, cases, metric)
    scores = [
        Score(ratio, case.unit, case.origin == asked.origin)
        for case, ratio in zip(cases, ratios.get(asked.method, []), strict=False)
        if not math.isnan(ratio)
    ]
    steps = int(asked.task.horizon_steps[-1] - asked.task.context_steps[-1])
    return Evidence(
        method=asked.method,
        horizon=asked.horizon,
        steps=steps,
        metric=metric,
        why_no_loss=trials.why_no_loss,
        verdict=decide(scores),
        trials=tuple(tried),
        reached=tuple((case, trials.train_loss(case)) for case in cases),
        ahead=tuple(ahead(ratios, asked.method)) if ratios else (),
        rows=tuple(nearest_rows(asked.own.run, asked.method)),
        coordinates=trials.coordinates,
        of_coordinates=asked.own.run.n_coordinates,
        longest=max(0, min(asked.origin, asked.own.run.n_snapshots - 1) // 4),
    )


def _ratios(tried: Sequence[Trial], cases: Sequence[Case], metric: str) -> dict[str, list[float]]:
    """Return each method's loss or error over the last value's, an entry a case."""
    found: dict[str, dict[int, float]] = {}
    for trial in tried:
        value = getattr(trial, metric)
        found.setdefault(trial.method, {})[id(trial.case)] = math.nan if value is None else value
    last = found.get(LAST_VALUE, {})
    return {
        method: [_over(values.get(id(case)), last.get(id(case))) for case in cases]
        for method, values in found.items()
    }


def _over(value: float | None, last: float | None) -> float:
    if value is None or last is None or math.isnan(value) or not last > 0 or value < 0:
        return math.nan
    return value / last
