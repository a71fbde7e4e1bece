"""The runner: sends what is missing to worker processes and stores what comes back.

Workers are processes of their own (pebble), so a method that takes its process down costs its own
fit and nothing else. Only this process writes to the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from weightcast.bench.job import failed_fit, run_fit, start_worker
from weightcast.bench.plan import Fit
from weightcast.bench.progress import Advance
from weightcast.bench.store import FitResult, Store
from weightcast.bench.workers import worker_pool

#: Methods whose fits take longest; started first, so that no worker is left with one at the end.
SLOW = ("arima", "transformer", "patchtst", "wnn", "nino-mlp", "lstm", "lfd2-grad")


def run_plan(
    plan: list[Fit],
    store: Store,
    *,
    jobs: int,
    plugins: list[Path],
    data: Path | None,
    advance: Advance,
) -> None:
    """Run the fits of a plan that the store lacks.

    Parameters
    ----------
    plan : list of Fit
    store : Store
    jobs : int
        Worker processes.
    plugins : list of Path
        Plugin files that every worker loads.
    data : Path, optional
        Folder of recorded data sets.
    advance : Advance
        Called once a fit's results are stored.
    """
    finished = store.finished()
    missing = _in_order([fit for fit in plan if fit.key not in finished])
    if not missing:
        return
    pending: dict[Future[FitResult], Fit] = {}
    left = _TimeLeft(jobs)
    with worker_pool(min(jobs, len(missing)), start_worker, (plugins, data)) as pool:
        for fit in missing:
            pending[pool.schedule(run_fit, args=(fit, jobs))] = fit
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                fit = pending.pop(future)
                result = _result(fit, future, jobs)
                store.add(result)
                left.saw(fit, result)
                advance(fit.label, left.estimate(pending.values()))


def _result(fit: Fit, future: Future[FitResult], jobs: int) -> FitResult:
    """Return a finished future's result; a dead worker or a broken one becomes a failed fit."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except ProcessExpired as error:
        return failed_fit(fit, "crashed", error, jobs)
    except Exception as error:
        return failed_fit(fit, "failed", error, jobs)


def _in_order(fits: list[Fit]) -> list[Fit]:
    """Rotation by rotation, so that a first picture and a good estimate of the rest come early."""
    rank = {name: place for place, name in enumerate(SLOW)}
    return sorted(fits, key=lambda fit: (fit.split.rotation, rank.get(fit.method, len(SLOW))))


class _TimeLeft:
    """Estimates from the mean seconds that each method's fits have taken so far."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def saw(self, fit: Fit, result: FitResult) -> None:
        self._seconds[fit.method].append(result.seconds)

    def estimate(self, fits: Iterable[Fit]) -> float:
        means = {method: sum(took) / len(took) for method, took in self._seconds.items()}
        # A method not seen yet is most likely a fast one: the slow ones go first.
        unknown = 0.1 * min(means.values(), default=0.0)
        return sum(means.get(fit.method, unknown) for fit in fits) / self._jobs
