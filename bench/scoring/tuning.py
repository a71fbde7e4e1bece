"""Tuning: every method gets the same number of configurations, judged on validation runs alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets.history import TrainLoss, recorded_loss
from weightcast.datasets.rel import RelSums
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.forecaster import Forecaster

#: Gives a run's training loss, None where it cannot be rebuilt.
LossOf = Callable[[Trajectory], TrainLoss | None]


def configurations(method: Forecaster, budget: int, seed: int) -> list[dict[str, Any]]:
    """List what to try: the method as it was asked for, then points of its grid at random.

    Parameters that the suite sets are not tuned.
    """
    asked = method.get_params()
    grid = {
        name: values
        for name, values in type(method).param_grid.items()
        if asked[name] == type(method).get_param_defaults().get(name)
    }
    points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    default = {name: asked[name] for name in grid}
    others = [point for point in points if point != default]
    order = np.random.default_rng(seed).permutation(len(others))
    return [{}, *(others[i] for i in order)][: max(1, budget)]


def validation_error(
    method: Forecaster,
    runs: Sequence[Trajectory],
    task: ForecastTask,
    sample: NDArray[np.int64],
    loss_of: LossOf = recorded_loss,
) -> float:
    """Return the median `rel_sum` over validation runs; a method on a sample is judged on it."""
    only = sample if method.get_tag("sampled") else None
    targets = range(task.context + 1, task.context + 1 + len(task.horizons))
    errors = []
    for run in runs:
        sums = RelSums(len(task.horizons))
        for block in ForecastStream(method, run, task, only, loss_of):
            start = int(block.rows[0])
            target = run.read(block.tensor, targets, start, int(block.rows[-1]) + 1)
            sums.add(block.forecast, target[:, block.rows - start].T, block.last)
        errors.append(sums.rel_sum())
    return float(np.nanmedian(errors))


def fit_tuned(
    method: Forecaster,
    train: Sequence[Trajectory],
    validation: Sequence[Trajectory],
    task: ForecastTask,
    sample: NDArray[np.int64],
    budget: int,
    loss_of: LossOf = recorded_loss,
) -> tuple[Forecaster, dict[str, Any], list[dict[str, Any]]]:
    """Fit a method, with the best of its configurations where there is a budget.

    Returns
    -------
    fitted : Forecaster
    chosen : dict
        What tuning picked, beyond what was asked for.
    trials : list of dict
        Each configuration with its validation error, or with the reason why it failed, and the
        seconds that it took; none where nothing was to choose.

    Raises
    ------
    Exception
        The first configuration's, where none could be fitted.
    """
    # Learned methods draw their samples run by run: in one order, whatever order runs come in.
    train = sorted(train, key=lambda run: run.meta.seed)
    validation = sorted(validation, key=lambda run: run.meta.seed)
    points = configurations(method, budget, task.seed)
    if len(points) == 1:
        return method.clone().fit(train, validation, task), {}, []
    best: tuple[float, Forecaster, dict[str, Any]] | None = None
    trials: list[dict[str, Any]] = []
    failure: Exception | None = None
    for point in points:
        start = time.perf_counter()
        try:
            fitted = method.clone().set_params(**point).fit(train, validation, task)
            error = validation_error(fitted, validation, task, sample, loss_of)
        except Exception as reason:
            failure = failure or reason
            said = f"{type(reason).__name__}: {reason}"
            trials.append({"params": point, "failed": said, "seconds": time.perf_counter() - start})
            continue
        trials.append({"params": point, "rel_sum": error, "seconds": time.perf_counter() - start})
        if best is None or error < best[0]:
            best = (error, fitted, point)
    if best is None:
        assert failure is not None
        raise failure
    return best[1], best[2], trials
