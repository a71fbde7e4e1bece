"""The `function` tier: what the real network does with the forecast weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.scoring.batch_norm import ESTIMATED, Statistics
from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory

#: Horizons at which networks are measured, beside the last.
HORIZONS = (5, 10, 20)


def measured_horizons(task: ForecastTask) -> dict[str, int]:
    """Return label → column: those of horizons 5, 10, 20 that exist, and ``last``."""
    columns = {int(h): column for column, h in enumerate(task.horizons)}
    chosen = {f"h{h}": columns[h] for h in HORIZONS if h in columns}
    return chosen | {"last": len(task.horizons) - 1}


class ForecastWeights:
    """Collects the forecast weights at the measured horizons while blocks stream by.

    Attributes
    ----------
    horizons : dict of str to int
        The measured horizons: label → column.
    columns : list of int
        These columns, each once; what is held are the weights at each, and nothing more.
    """

    def __init__(self, tensors: Sequence[TensorInfo], task: ForecastTask) -> None:
        self._tensors = tensors
        self.horizons = measured_horizons(task)
        # The last horizon may be one of the others too.
        self.columns = list(dict.fromkeys(self.horizons.values()))
        self._flat = {
            info.name: np.empty((len(self.columns), info.size), np.float32) for info in tensors
        }

    def add(self, block: ForecastBlock) -> None:
        """Keep a block's values at the measured horizons."""
        self._flat[block.tensor.name][:, block.rows] = block.forecast[:, self.columns].T

    def at(self, column: int) -> dict[str, Floats]:
        """Return the forecast weights at one of the columns, each tensor in its shape."""
        row = self.columns.index(column)
        return {info.name: self._flat[info.name][row].reshape(info.shape) for info in self._tensors}


def function_metrics(
    weights: ForecastWeights,
    run: Trajectory,
    task: ForecastTask,
    evaluator: Evaluator,
    statistics: Statistics = ESTIMATED,
) -> dict[str, float | str]:
    """Measure one run's network with the forecast weights.

    Parameters
    ----------
    weights : ForecastWeights
    run : Trajectory
    task : ForecastTask
    evaluator : Evaluator
    statistics : Statistics
        What the network's batch norms get. What the run itself reached is not measured here: it is
        what the recording says, with statistics that were estimated on all the training data that
        are measured (`weightcast.bench.scoring.batch_norm`).

    Returns
    -------
    dict
        For each measured horizon, with its label as suffix: train and test loss and accuracy,
        ``loss_change`` (train loss minus that of the last observed weights), ``steps_gained`` and
        ``steps_gained_censored`` (``"below"``, ``"above"`` or ``""``), and the recorded run's own
        ``true_train_loss`` and so on; and the last observed weights' with the suffix ``_origin``.
        ``batch_norm`` says the rule that held, for a network with batch norm.
    """
    row: dict[str, float | str] = {"batch_norm": statistics.said} if statistics.said else {}
    recorded = {
        name: np.asarray(getattr(run.meta, name), dtype=np.float64)
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    }
    for name, values in recorded.items():
        if len(values):
            row[f"{name}_origin"] = float(values[task.context])
    if run.meta.seconds_per_step is not None:
        row["seconds_per_step"] = run.meta.seconds_per_step
    smooth = smoothed(recorded["train_loss"])
    at_column = {
        column: statistics.measure(evaluator, weights.at(column), column)
        for column in weights.columns
    }
    for label, column in weights.horizons.items():
        measured = at_column[column]
        row |= {f"{name}_{label}": value for name, value in measured.items()}
        row[f"loss_change_{label}"] = measured["train_loss"] - recorded["train_loss"][task.context]
        gained, censored = steps_gained(measured["train_loss"], smooth, run.steps, task.context)
        row[f"steps_gained_{label}"] = gained
        row[f"steps_gained_censored_{label}"] = censored
        for name, values in recorded.items():
            if len(values):
                row[f"true_{name}_{label}"] = float(values[task.context + 1 + column])
    return row


def not_finite(measured: Mapping[str, float | str], weights: ForecastWeights) -> list[str]:
    """Return the labels of the horizons at which the network's train or test loss is not finite."""
    return [
        label
        for label in weights.horizons
        if not np.isfinite(
            [
                float(measured.get(f"{name}_{label}", 0.0))  # not all networks have test data
                for name in ("train_loss", "test_loss")
            ]
        ).all()
    ]


def smoothed(losses: NDArray[np.float64], half: int = 2) -> NDArray[np.float64]:
    """Centred running median over 2·half + 1 snapshots, fewer near the ends but always centred.

    A median leaves a falling curve as it is, so the last observed weights gain no steps on
    themselves; a mean would lift every convex curve and credit all methods with steps that nobody
    gained.
    """
    out = np.empty_like(losses)
    for i in range(len(losses)):
        reach = min(half, i, len(losses) - 1 - i)
        out[i] = np.median(losses[i - reach : i + reach + 1])
    return out


def steps_gained(
    loss: float, smooth: NDArray[np.float64], steps: NDArray[np.int64], origin: int
) -> tuple[float, str]:
    """Optimizer steps that a forecast is ahead of its origin.

    The first recorded step whose smoothed train loss is at or below the forecast's, minus the
    origin's step.

    Returns
    -------
    gained : float
    censored : str
        ``"below"`` where even w_0 does as well or the loss is NaN (the value is then minus the
        origin's distance from w_0), ``"above"`` where the run never gets as low (the value is then
        the distance to its end), else ``""``.
    """
    reached = np.flatnonzero(smooth <= loss)
    if np.isnan(loss) or (len(reached) and reached[0] == 0):
        return float(steps[0] - steps[origin]), "below"
    if len(reached) == 0:
        return float(steps[-1] - steps[origin]), "above"
    return float(steps[reached[0]] - steps[origin]), ""
