"""Forecasts at their best length: how much of what one gains is direction, how much is length.

A forecast is a direction from the last observed weights, w_n, and a length along it. With
``lengths = true`` in a suite each forecast is also measured at w_n + a (ŵ − w_n), the same forecast
and not fitted again, where a is chosen by the run's own training loss.

What is chosen from: no step at all, a = 0, and seven lengths from an eighth of the forecast to
eight times as far, its own length a = 1 among them. Where the longest is the best, twice as far is
tried up to three times, while that helps: else a timid forecast would be held to its timidity.
Golden sections then narrow down the bracket around the best of these. Of all that was measured the
lowest loss counts, so that at its best length no forecast has a higher training loss than at its
own, or than the last value.

What it costs: at most `EVALUATIONS` measurements of the training loss, the budget of `line-search`,
which spends it alike: about half to bracket the minimum, the others on golden sections. Each
measured horizon has that budget to itself. That is what equal means here: every network that is
compared is the best that so many looks found along one direction. A line search has one direction
for all horizons, so that its looks are shared by all; a forecast has another direction at each
horizon, and what was measured along one says nothing of the next. Four horizons thus cost up to
four times what one line search does. Looks that a method took itself, while it made its forecast,
count: with fewer left than the bracket takes, its length is chosen already, and stays. So does that
of a forecast that is w_n itself, and has no direction.

Test losses have no part in the choice; they are measured once, at the length that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weightcast.bench.scoring.batch_norm import ESTIMATED, Statistics
from weightcast.bench.scoring.function import ForecastWeights
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, Trajectory
from weightcast.methods.line_search import LossAlong

#: Multiples of the forecast's displacement; its own length first, which wins where all are alike.
LENGTHS = (1.0, 0.125, 0.25, 0.5, 2.0, 4.0, 8.0)
#: Training losses measured at the most at a horizon, those that the method measured among them.
EVALUATIONS = 15
#: How often twice as far is tried beyond the longest.
DOUBLINGS = 3
#: Of the bracket around the best length, in multiples of the displacement.
_TOLERANCE = 1e-6

MEASURED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def length_metrics(
    weights: ForecastWeights,
    run: Trajectory,
    task: ForecastTask,
    evaluator: Evaluator,
    statistics: Statistics = ESTIMATED,
    plain: Mapping[str, float | str] | None = None,
    spent: int = 0,
) -> dict[str, float | str]:
    """Measure one run's network with the forecast at its best length.

    Parameters
    ----------
    weights : ForecastWeights
    run : Trajectory
    task : ForecastTask
    evaluator : Evaluator
    statistics : Statistics
        What the network's batch norms get; statistics that were forecast are scaled alike.
    plain : mapping, optional
        `function_metrics` of the same forecast: what it has at its own length. Measured here where
        it is not given.
    spent : int
        Training losses that the method measured itself.

    Returns
    -------
    dict
        For each measured horizon, with its label as suffix: ``length`` (a), ``evaluations_length``
        (training losses measured to choose it), and with ``_length`` in their names train and test
        loss and accuracy there.
    """
    chosen: dict[int, _Chosen] = {}
    last = {
        info.name: run.read(info, [task.context])[0].reshape(info.shape) for info in run.tensors
    }
    line = _Lines(last, evaluator, statistics)
    row: dict[str, float | str] = {}
    for label, column in weights.horizons.items():
        if column not in chosen:
            own = {
                name: float(plain[f"{name}_{label}"])
                for name in MEASURED
                if plain is not None and f"{name}_{label}" in plain
            }
            chosen[column] = line.best(weights.at(column), column, own, EVALUATIONS - spent)
        found = chosen[column]
        row[f"length_{label}"] = found.length
        row[f"evaluations_length_{label}"] = found.evaluations
        row |= {f"{name}_length_{label}": value for name, value in found.measured.items()}
    return row


@dataclass(frozen=True)
class _Chosen:
    """The length that was chosen at one horizon, and what the network does there."""

    length: float
    evaluations: int
    measured: dict[str, float]


class _Lines:
    """What is measured along lines from the last observed weights."""

    def __init__(
        self, last: Mapping[str, Floats], evaluator: Evaluator, statistics: Statistics
    ) -> None:
        self._last = last
        self._evaluator = evaluator
        self._statistics = statistics

    def best(
        self, forecast: Mapping[str, Floats], column: int, own: dict[str, float], budget: int
    ) -> _Chosen:
        """Choose a length; ``own`` is what the forecast has at its own, if it was measured."""
        own = own or self._statistics.measure(self._evaluator, forecast, column)
        stays = all(np.array_equal(values, self._last[name]) for name, values in forecast.items())
        if stays or budget <= len(LENGTHS):
            return _Chosen(1.0, 0, own)

        def loss(length: float) -> float:
            if length == 1.0:
                return own["train_loss"]
            at = self._at(forecast, length)
            return self._statistics.train_loss(self._evaluator, at, column, length)

        along = LossAlong(loss)
        for length in (*LENGTHS, 0.0):
            along.measure(length)
        furthest = max(LENGTHS) * 2**DOUBLINGS
        while (length := max(along.seen)) == along.best and length < furthest:
            if len(along.seen) == budget:
                break
            along.measure(2 * length)
        along.narrow(budget, _TOLERANCE)
        length = along.best
        if length != 1.0:
            at = self._at(forecast, length)
            own = self._statistics.measure(self._evaluator, at, column, length)
        return _Chosen(length, len(along.seen), own)

    def _at(self, forecast: Mapping[str, Floats], length: float) -> dict[str, Floats]:
        step = np.float32(length)
        # Eight times a forecast that went far may be beyond float32; its loss is then not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            return {
                name: self._last[name] + step * (values - self._last[name])
                for name, values in forecast.items()
            }
