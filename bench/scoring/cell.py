"""One cell: a fitted method's forecast of one test run is scored, tier by tier.

What is scored here are blocks of numbers, wherever they come from: `evaluate_cell` asks a method in
this process, a run of the benchmark one in another (`weightcast.bench.scoring.border`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.failure import failure_of
from weightcast.bench.engine.records import CellRow, rows_without_result
from weightcast.bench.plan.batch_norm import BatchNorm
from weightcast.bench.scoring.batch_norm import (
    ForecastStatistics,
    are_forecast,
    statistics_for,
)
from weightcast.bench.scoring.breakdown import breakdown
from weightcast.bench.scoring.forecasting import ForecastBlock, ForecastStream, InvalidForecast
from weightcast.bench.scoring.function import ForecastWeights, function_metrics, not_finite
from weightcast.bench.scoring.lengths import length_metrics
from weightcast.bench.scoring.memory import peak_memory
from weightcast.bench.scoring.metrics import WEIGHT_METRICS, WeightErrors
from weightcast.datasets.dataset import seed_ranges
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.forecaster import Forecaster


@dataclass(frozen=True)
class Costs:
    """What a method's forecast of one run took, and what it was made for.

    Attributes
    ----------
    seconds, cpu_seconds : float
        Inside the method.
    memory_bytes : int or None
        The method's peak, above what its process held before.
    evaluations : int
        Training losses that it measured.
    native : tuple of int
        Its native horizons, in snapshots; empty unless the task has them all.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int | None
    evaluations: int
    native: tuple[int, ...] = ()


class CellScore:
    """The score of one cell, gathered while the forecast's blocks stream by.

    Parameters
    ----------
    run : Trajectory
    task : ForecastTask
    sample : ndarray of int
        The data set's fixed sample of flat coordinates.
    evaluator : Evaluator, optional
        For the function tier; without one, or where a sample alone is forecast, there is no
        function row.
    batch_norm : BatchNorm, optional
        What statistics a network's batch norms get; estimated on all the training data that are
        measured by default.
    lengths : bool
        Whether to measure the forecast at its best length too.
    sampled : bool
        Whether the sample alone is forecast.

    Attributes
    ----------
    statistics : ForecastStatistics or None
        What is to be forecast beside the run, where the rule for batch norm says so.
    """

    def __init__(
        self,
        run: Trajectory,
        task: ForecastTask,
        sample: NDArray[np.int64],
        evaluator: Evaluator | None = None,
        batch_norm: BatchNorm | None = None,
        lengths: bool = False,
        *,
        sampled: bool = False,
    ) -> None:
        self.run, self.task, self.sample = run, task, sample
        self._evaluator = None if sampled else evaluator
        self._batch_norm, self._lengths, self._sampled = batch_norm or BatchNorm(), lengths, sampled
        m = len(task.horizons)
        self._everything, self._on_sample = WeightErrors(m), WeightErrors(m)
        self._targets = range(task.context + 1, task.context + 1 + m)
        self._weights = ForecastWeights(run.tensors, task) if self._evaluator is not None else None
        self._forecast_count = 0
        self._seconds = 0.0
        self.statistics: ForecastStatistics | None = None
        if self._weights is not None and are_forecast(self._batch_norm, run, self._evaluator):
            self.statistics = ForecastStatistics(run, task, self._weights.columns)

    @property
    def tiers(self) -> list[str]:
        """What there is a row for."""
        return ["weights", *(["function"] if self._evaluator is not None else [])]

    def add(self, block: ForecastBlock) -> None:
        """Hold a block against the truth."""
        began = time.perf_counter()
        tensor, start = block.tensor, int(block.rows[0])
        target = self.run.read(tensor, self._targets, start, int(block.rows[-1]) + 1)
        target = (target[:, block.rows - start] if self._sampled else target).T
        if not self._sampled:
            self._everything.add(tensor.name, block.forecast, target, block.last)
        chosen = np.isin(block.rows + tensor.offset, self.sample, assume_unique=True)
        if chosen.any():
            self._on_sample.add(
                tensor.name, block.forecast[chosen], target[chosen], block.last[chosen]
            )
        if self._weights is not None:
            self._weights.add(block)
        self._forecast_count += 0 if block.abstained else len(block.rows)
        self._seconds += time.perf_counter() - began

    def rows(self, costs: Costs) -> list[CellRow]:
        """Return a row a tier, once the last block is added.

        Of the weights tier there is one more at the method's native horizons, where the task has
        them all.
        """
        everything = None if self._sampled else self._everything
        shared: dict[str, Any] = {
            "run": self.run.meta.seed,
            "coverage": self._forecast_count / max(1, self.run.n_coordinates),
            "coordinates": self.run.n_coordinates,
            "predict_seconds": costs.seconds,
            "predict_cpu_seconds": costs.cpu_seconds,
            "peak_memory_bytes": costs.memory_bytes,
            "evaluations": costs.evaluations,
            "scoring_seconds": self._seconds,
        }
        metrics = _metrics(everything, self._on_sample)
        metrics |= breakdown(self._everything, self.run.tensors)
        curve = (self._on_sample if everything is None else everything).curve()
        rows = [CellRow(tier="weights", metrics=metrics, curve=curve, **shared)]
        if costs.native:
            columns = [horizon - 1 for horizon in costs.native]
            metrics = _metrics(everything and everything.at(columns), self._on_sample.at(columns))
            metrics["horizons"] = seed_ranges(costs.native)
            rows.append(CellRow(tier="weights", horizon_set="native", metrics=metrics, **shared))
        if self._weights is not None and self._evaluator is not None:
            rows += self._function(self._weights, self._evaluator, costs, shared, rows)
        return rows

    def _function(
        self,
        weights: ForecastWeights,
        evaluator: Evaluator,
        costs: Costs,
        shared: dict[str, Any],
        others: list[CellRow],
    ) -> list[CellRow]:
        """Measure the network; what that took stands in the other rows as well."""
        started = time.perf_counter()
        run, task = self.run, self.task
        forecast = self.statistics.found if self.statistics is not None else {}
        statistics = statistics_for(
            self._batch_norm, run, task, evaluator, weights.columns, forecast
        )
        measured = function_metrics(weights, run, task, evaluator, statistics)
        if self._lengths:
            measured |= length_metrics(
                weights, run, task, evaluator, statistics, measured, costs.evaluations
            )
        row = CellRow(tier="function", metrics=dict(measured), **shared)
        if labels := not_finite(measured, weights):
            row.status = "invalid"
            row.reason = (
                "the network's loss is not finite with the forecast weights at " + ", ".join(labels)
            )
        seconds = time.perf_counter() - started
        for each in (*others, row):
            each.network_seconds = seconds
        return [row]


def evaluate_cell(
    method: Forecaster,
    run: Trajectory,
    task: ForecastTask,
    sample: NDArray[np.int64],
    evaluator: Evaluator | None = None,
    batch_norm: BatchNorm | None = None,
    lengths: bool = False,
) -> list[CellRow]:
    """Have a method of this process forecast a run, and score it.

    Parameters
    ----------
    method : Forecaster
        Fitted on other runs.
    run, task, sample, evaluator, batch_norm, lengths
        As in `CellScore`.

    Returns
    -------
    list of CellRow
        A row a tier. An exception makes them failed rows with its reason and traceback.
    """
    sampled = bool(method.get_tag("sampled"))
    score = CellScore(run, task, sample, evaluator, batch_norm, lengths, sampled=sampled)
    try:
        stream = ForecastStream(method, run, task, sample if sampled else None)
        with peak_memory() as memory:
            for block in stream:
                score.add(block)
        if score.statistics is not None:
            forecast_statistics(method, score.statistics, task)
        return score.rows(
            Costs(
                stream.stopwatch.wall,
                stream.stopwatch.cpu,
                memory.above_baseline,
                stream.evaluations,
                tuple(native_horizons(method, task)),
            )
        )
    except BaseException as error:  # a method may well call sys.exit
        return rows_without_result(run.meta.seed, score.tiers, failure_of(error, InvalidForecast))


def forecast_statistics(
    method: Forecaster, statistics: ForecastStatistics, task: ForecastTask
) -> None:
    """Have a method of this process forecast batch-norm statistics, as far as it can."""
    try:
        for block in ForecastStream(method, statistics.context, task):
            statistics.add(block)
    except MemoryError:
        raise
    except Exception:
        # A method may know weights by their names, or need the loss that none of these has.
        statistics.give_up()


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
