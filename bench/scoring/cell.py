"""One cell: a fitted method forecasts one test run and is scored, tier by tier."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.failure import failure_of
from weightcast.bench.engine.records import CellRow, rows_without_result
from weightcast.bench.plan.batch_norm import BatchNorm
from weightcast.bench.scoring.batch_norm import statistics_for
from weightcast.bench.scoring.breakdown import breakdown
from weightcast.bench.scoring.forecasting import ForecastStream, InvalidForecast
from weightcast.bench.scoring.function import ForecastWeights, function_metrics, not_finite
from weightcast.bench.scoring.lengths import length_metrics
from weightcast.bench.scoring.memory import peak_memory
from weightcast.bench.scoring.metrics import WEIGHT_METRICS, WeightErrors
from weightcast.datasets.dataset import seed_ranges
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.forecaster import Forecaster


def evaluate_cell(
    method: Forecaster,
    run: Trajectory,
    task: ForecastTask,
    sample: NDArray[np.int64],
    evaluator: Evaluator | None = None,
    batch_norm: BatchNorm | None = None,
    lengths: bool = False,
) -> list[CellRow]:
    """Forecast and score one run.

    Parameters
    ----------
    method : Forecaster
        Fitted on other runs.
    run : Trajectory
    task : ForecastTask
    sample : ndarray of int
        The data set's fixed sample of flat coordinates.
    evaluator : Evaluator, optional
        For the function tier; without one, or for a method that forecasts a sample only, there is
        no function row.
    batch_norm : BatchNorm, optional
        What statistics a network's batch norms get; estimated on all the training data that are
        measured by default.
    lengths : bool
        Whether to measure the forecast at its best length too.

    Returns
    -------
    list of CellRow
        A row a tier. An exception makes them failed rows with its reason and traceback. Of the
        weights tier there is one more at the method's native horizons, where the task has them all
        and nothing failed.
    """
    sampled = bool(method.get_tag("sampled"))
    tiers = ["weights", *(["function"] if evaluator is not None and not sampled else [])]
    try:
        network = None if sampled else evaluator
        return _evaluate(method, run, task, sample, network, batch_norm or BatchNorm(), lengths)
    except BaseException as error:  # a method may well call sys.exit
        return rows_without_result(run.meta.seed, tiers, failure_of(error, InvalidForecast))


def _evaluate(
    method: Forecaster,
    run: Trajectory,
    task: ForecastTask,
    sample: NDArray[np.int64],
    evaluator: Evaluator | None,
    batch_norm: BatchNorm,
    lengths: bool,
) -> list[CellRow]:
    m = len(task.horizons)
    sampled = bool(method.get_tag("sampled"))
    everything, on_sample = WeightErrors(m), WeightErrors(m)
    weights = ForecastWeights(run.tensors, task) if evaluator is not None else None
    stream = ForecastStream(method, run, task, sample if sampled else None)
    forecast_count = 0
    targets = range(task.context + 1, task.context + 1 + m)
    started = time.perf_counter()
    with peak_memory() as memory:
        for block in stream:
            tensor, start = block.tensor, int(block.rows[0])
            target = run.read(tensor, targets, start, int(block.rows[-1]) + 1)
            target = (target[:, block.rows - start] if sampled else target).T
            if not sampled:
                everything.add(tensor.name, block.forecast, target, block.last)
            chosen = np.isin(block.rows + tensor.offset, sample, assume_unique=True)
            if chosen.any():
                on_sample.add(
                    tensor.name, block.forecast[chosen], target[chosen], block.last[chosen]
                )
            if weights is not None:
                weights.add(block)
            forecast_count += 0 if block.abstained else len(block.rows)
    shared: dict[str, Any] = {
        "run": run.meta.seed,
        "coverage": forecast_count / max(1, run.n_coordinates),
        "coordinates": run.n_coordinates,
        "predict_seconds": stream.stopwatch.wall,
        "predict_cpu_seconds": stream.stopwatch.cpu,
        "peak_memory_bytes": memory.above_baseline,
        "evaluations": stream.evaluations,
        "scoring_seconds": time.perf_counter() - started - stream.stopwatch.wall,
    }
    metrics = _metrics(None if sampled else everything, on_sample)
    metrics |= breakdown(everything, run.tensors)
    curve = (on_sample if sampled else everything).curve()
    rows = [CellRow(tier="weights", metrics=metrics, curve=curve, **shared)]
    if native := native_horizons(method, task):
        columns = [horizon - 1 for horizon in native]
        metrics = _metrics(None if sampled else everything.at(columns), on_sample.at(columns))
        metrics["horizons"] = seed_ranges(native)
        rows.append(CellRow(tier="weights", horizon_set="native", metrics=metrics, **shared))
    if weights is not None and evaluator is not None:
        started = time.perf_counter()
        statistics = statistics_for(batch_norm, method, run, task, evaluator, weights.columns)
        measured = function_metrics(weights, run, task, evaluator, statistics)
        if lengths:
            measured |= length_metrics(
                weights, run, task, evaluator, statistics, measured, stream.evaluations
            )
        seconds = time.perf_counter() - started
        row = CellRow(tier="function", metrics=dict(measured), **shared)
        if labels := not_finite(measured, weights):
            row.status = "invalid"
            row.reason = (
                "the network's loss is not finite with the forecast weights at " + ", ".join(labels)
            )
        rows.append(row)
        for each in rows:  # like all that a cell cost, it stands in each of its rows
            each.network_seconds = seconds
    return rows


def native_horizons(method: Forecaster, task: ForecastTask) -> list[int]:
    """Return a method's native horizons, in snapshots; empty unless the task has them all.

    The tag ``native_horizons`` lists them, or is ``"context"``: as far ahead as the context is
    long, in optimizer steps. With a context shorter than ``native_context`` there are none.
    """
    wanted = method.get_tag("native_horizons", None)
    if wanted is None or task.context + 1 < (method.get_tag("native_context", None) or 0):
        return []
    if wanted == "context":
        double = 2 * task.context_steps[-1] - task.context_steps[0]
        return [int(column) + 1 for column in np.flatnonzero(task.horizon_steps == double)]
    return [int(h) for h in wanted] if set(wanted) <= set(task.horizons.tolist()) else []


def _metrics(everything: WeightErrors | None, on_sample: WeightErrors) -> dict[str, Any]:
    """Return the metrics on every coordinate, where there are any, and those on the sample."""
    found: dict[str, Any] = {} if everything is None else everything.metrics()
    sampled = on_sample.metrics()
    return found | {f"{name}_sample": sampled[name] for name in WEIGHT_METRICS}
