"""Batch norm under forecast weights: what statistics a network gets whose weights were forecast.

A forecast is of weights. A network with batch norm needs running means and variances beside them,
and a suite's rule says where they come from: estimated anew on training data, kept as the run
recorded them at the origin, or forecast from what the context recorded.

What a run itself reached was measured when it was recorded, with statistics estimated on all the
training data that are measured: its losses at the origin and at the horizons, and with them
``loss_change`` and ``steps_gained`` of a forecast. Under the default rule all of these stand on
equal terms. Under another, or with fewer batches, the forecast alone is measured by it, since
nobody who forecasts has the later statistics; what the rule itself costs is then what the rows of
`last-value` show, whose weights are the origin's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from weightcast.bench.plan.batch_norm import (
    VARIANCE,
    BatchNorm,
    has_statistics,
    statistic_names,
)
from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.datasets.evaluator import Evaluator, FirstBatches, NetworkEvaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, State, TensorInfo, Trajectory


@dataclass(frozen=True)
class Statistics:
    """What one cell's network gets beside its forecast weights.

    Attributes
    ----------
    said : str
        The rule that held, as the cell's row says it; empty for a network without batch norm.
    states : dict of int to State
        A column of the horizons → all that the network keeps beside its weights; empty where that
        is estimated.
    kept : State
        The same as the run recorded it at the origin; empty where it is estimated.
    batches : FirstBatches, optional
        What it is estimated on.
    """

    said: str = ""
    states: Mapping[int, State] = field(default_factory=dict)
    kept: State = field(default_factory=dict)
    batches: FirstBatches | None = None

    def measure(
        self, evaluator: Evaluator, weights: Mapping[str, Floats], column: int, length: float = 1.0
    ) -> dict[str, float]:
        """Measure the weights that were forecast for one column, at a length of the forecast."""
        if isinstance(evaluator, NetworkEvaluator):
            return evaluator.measure(weights, self._state(column, length), self.batches)
        return evaluator.measure(weights)

    def train_loss(
        self, evaluator: Evaluator, weights: Mapping[str, Floats], column: int, length: float = 1.0
    ) -> float:
        """Measure their training loss alone."""
        if isinstance(evaluator, NetworkEvaluator):
            return evaluator.train_loss(weights, self._state(column, length), self.batches)
        return evaluator.train_loss(weights)

    def _state(self, column: int, length: float) -> State | None:
        """Return what the network keeps; statistics that were forecast are as long as it is."""
        state = self.states.get(column)
        if state is None or length == 1.0:
            return state
        scaled = dict(state)
        for name in statistic_names(state):
            values = self.kept[name] + np.float32(length) * (state[name] - self.kept[name])
            scaled[name] = np.maximum(values, 0.0) if name.endswith(VARIANCE) else values
        return scaled


#: All the training data that are measured; what recording does.
ESTIMATED = Statistics()


def are_forecast(
    batch_norm: BatchNorm, run: Trajectory, evaluator: Evaluator | None
) -> TypeGuard[NetworkEvaluator]:
    """Whether a rule asks for a forecast of a run's statistics, which it recorded."""
    return batch_norm.rule == "forecast" and _has_norms(evaluator) and has_statistics(run)


class ForecastStatistics:
    """Collects a forecast of batch-norm statistics while blocks stream by.

    They are a network of their own to a method: its forecast of the weights is the same under every
    rule. What it abstains on is kept.

    Parameters
    ----------
    run : Trajectory
    task : ForecastTask
    columns : sequence of int
        The columns of the horizons that are measured.

    Attributes
    ----------
    context : Trajectory
        What is to be forecast: the statistics that the run recorded up to its origin.
    """

    def __init__(self, run: Trajectory, task: ForecastTask, columns: Sequence[int]) -> None:
        self.context = _recorded(run, task.context + 1)
        self._columns = list(columns)
        self._found = {
            info.name: np.empty((len(self._columns), info.size), dtype=np.float32)
            for info in self.context.tensors
        }

    def add(self, block: ForecastBlock) -> None:
        """Keep a block's values at the measured horizons."""
        name = block.tensor.name
        if block.abstained:
            self._found.pop(name, None)
        elif name in self._found:
            self._found[name][:, block.rows] = block.forecast[:, self._columns].T

    def give_up(self) -> None:
        """Do without: a method that fails here has no forecast of them."""
        self._found = {}

    @property
    def found(self) -> dict[str, Floats]:
        """The statistics by name, each (columns, *shape); variances are not negative."""
        for name, values in self._found.items():
            if name.endswith(VARIANCE):
                np.maximum(values, 0.0, out=values)
        return {
            name: values.reshape(len(self._columns), *self.context.tensor_info(name).shape)
            for name, values in self._found.items()
        }


def statistics_for(
    batch_norm: BatchNorm,
    run: Trajectory,
    task: ForecastTask,
    evaluator: Evaluator,
    columns: Sequence[int],
    forecast: Mapping[str, Floats],
) -> Statistics:
    """Follow a rule for one run.

    Parameters
    ----------
    batch_norm : BatchNorm
        A run that recorded no statistics can neither keep nor forecast them: they are estimated.
    run : Trajectory
    task : ForecastTask
    evaluator : Evaluator
    columns : sequence of int
        The columns of the horizons that are measured.
    forecast : mapping of str to ndarray
        Those that were forecast, as `ForecastStatistics.found`.
    """
    if not _has_norms(evaluator):
        return ESTIMATED
    if batch_norm.rule == "re-estimate" or not has_statistics(run):
        batches = None
        if batch_norm.batches is not None and run.meta.batch_size is not None:
            batches = FirstBatches(batch_norm.batches, run.meta.batch_size)
        said = f"re-estimate on {evaluator.estimated_on(batches):,} examples"
        return Statistics(said, batches=batches)
    kept = run.state(task.context)
    left = len(statistic_names(kept)) - len(forecast)
    said = f"forecast, {left} of {len(statistic_names(kept))} kept" if left else "forecast"
    states = {
        column: kept | {name: values[index] for name, values in forecast.items()}
        for index, column in enumerate(columns)
    }
    return Statistics(said if forecast else "keep", states, kept)


def _has_norms(evaluator: Evaluator | None) -> TypeGuard[NetworkEvaluator]:
    return isinstance(evaluator, NetworkEvaluator) and evaluator.needs_own_network


def _recorded(run: Trajectory, snapshots: int) -> Trajectory:
    """Make a run of the statistics in the first snapshots; it has no later ones and no network."""
    states = [run.state(index) for index in range(snapshots)]
    depths = {info.name.rpartition(".")[0]: info.depth for info in run.tensors}
    arrays = {
        name: np.stack([state[name] for state in states]).astype(np.float32)
        for name in statistic_names(states[0])
    }
    infos = [
        TensorInfo(name, values.shape[1:], "norm", depths.get(name.rpartition(".")[0], 0))
        for name, values in arrays.items()
    ]
    meta = replace(run.meta, recipe={})
    return Trajectory.from_arrays(arrays, run.steps[:snapshots].tolist(), meta, infos)
