"""Where a method can be tried before its forecast is trusted, and what it may learn from there.

Three kinds of places have a known future: the forecast's own origin, where the run was recorded
beyond it; earlier origins of the same run; and the same origin of each run that was given to fit
on. Of the last, a run that is forecast is never one that the method was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weightcast.bench.commands.fit_runs import NamedRun, share_weights
from weightcast.bench.commands.forecast_asked import Asked
from weightcast.datasets.trajectory import Trajectory
from weightcast.datasets.window import Window

THIS_RUN, FIT_RUNS = "this run", "fit runs"


@dataclass(frozen=True)
class Case:
    """One origin of one run, with a recorded future.

    Attributes
    ----------
    run : NamedRun
    origin : int
        The last snapshot that is seen.
    train : tuple of NamedRun
        What a method that learns may be fitted on; never the run itself.
    where : str
        `THIS_RUN` or `FIT_RUNS`.
    unit : int
        Cases of one run, or of runs that share weights, have one number: they are one run to
        statistics.
    own_forecast : bool
        Whether it is the very forecast that was asked for.
    """

    run: NamedRun
    origin: int
    train: tuple[NamedRun, ...]
    where: str
    unit: int
    own_forecast: bool = False


def find_cases(asked: Asked, count: int) -> list[Case]:
    """Find where the method can be tried.

    Parameters
    ----------
    asked : Asked
    count : int
        How many earlier origins, and how many folds of the fit runs, at the most.
    """
    return [*_of_this_run(asked, count), *_of_fit_runs(asked, count)]


def earlier_origins(last: int, horizon: int, context: int, count: int) -> list[int]:
    """List origins whose forecasts do not overlap, the latest first.

    Parameters
    ----------
    last : int
        The latest origin that has the whole horizon after it.
    horizon, context : int
        Of the forecast in question: with less than a quarter of its context, and at least two
        snapshots after the first, a forecast tells little of one with all.
    count : int
        The most there are to be.

    Examples
    --------
    >>> earlier_origins(50, 10, 60, 4), earlier_origins(50, 10, 60, 9), earlier_origins(3, 9, 12, 4)
    ([50, 40, 30, 20], [50, 40, 30, 20], [3])
    """
    least = max(2, context // 4)
    return list(range(last, least - 1, -horizon))[:count]


def _of_this_run(asked: Asked, count: int) -> list[Case]:
    own, n, horizon = asked.own, asked.origin, asked.horizon
    recorded = own.run.n_snapshots - 1
    found = []
    if recorded >= n + horizon:
        found.append(Case(own, n, asked.others, THIS_RUN, 0, own_forecast=True))
    last = min(n, recorded) - horizon
    if recorded < n + horizon:
        last = min(n - 1, recorded - horizon)
    return found + [
        Case(own, origin, asked.others, THIS_RUN, 0)
        for origin in earlier_origins(last, horizon, n, count)
    ]


def _of_fit_runs(asked: Asked, count: int) -> list[Case]:
    """Leave each fit run out of a fit on the others, several at a time where there are many."""
    groups = _groups(asked.others)
    folds = max(1, min(count, len(groups)))
    cases = []
    for unit, group in enumerate(groups if count else [], start=1):
        left_out = {id(run) for other in groups[(unit - 1) % folds :: folds] for run in other}
        train = tuple(run for run in asked.others if id(run) not in left_out)
        cases += [Case(run, asked.origin, train, FIT_RUNS, unit) for run in group]
    return cases


def _groups(runs: Sequence[NamedRun]) -> list[list[NamedRun]]:
    """Put runs together that have weights in common, other than a shared start."""
    groups: list[list[NamedRun]] = []
    for run in runs:
        akin = [g for g in groups if any(share_weights(run, other) is not None for other in g)]
        groups = [g for g in groups if g not in akin]
        groups.append([*(other for group in akin for other in group), run])
    return groups


def up_to(run: Trajectory, origin: int) -> Trajectory:
    """Return what of a run was there at an origin: no later snapshot, loss or rate."""
    cut = Window(run, range(origin + 1))
    rates = run.meta.learning_rates[: int(run.steps[origin])]
    cut.meta = replace(cut.meta, learning_rates=rates, not_finite_from=None)
    return cut
