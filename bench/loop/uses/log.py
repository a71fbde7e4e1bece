"""What is measured of the runs of a group, and which of them failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from weightcast.bench.engine.failure import NONE, Failure, failure_of
from weightcast.bench.loop.curves import average_prefix
from weightcast.bench.loop.stepping.runs import Measured, TrainingRuns
from weightcast.bench.plan.loop_row import Jump, LoopRow, Reading, Sync
from weightcast.bench.scoring.forecasting import InvalidForecast

NAMES = ("train_loss", "test_loss", "test_accuracy")


class Log:
    """Measurements of runs by their weights and each of their moving averages.

    Parameters
    ----------
    training : TrainingRuns
    runs : int

    Attributes
    ----------
    jumps : list of list
        What each run's row says of jumps, syncs or readings.
    failures : dict of int to Failure
        By run, what its forecaster failed of.
    """

    def __init__(self, training: TrainingRuns, runs: int) -> None:
        self._training = training
        self._steps: list[int] = []
        self._curves: dict[str, list[Measured]] = {}
        self.jumps: list[list[Jump | Sync | Reading]] = [[] for _ in range(runs)]
        self.failures: dict[int, Failure] = {}

    def measure(self, step: int) -> None:
        """Measure all runs after a step."""
        self._steps.append(step)
        self._keep("", self._training.measure(self._training.weights))
        for window, average in self._training.averages.items():
            self._keep(average_prefix(window), self._training.measure(average))

    def of(self, index: int) -> LoopRow:
        """Return what a run's row gets from here."""
        why = self.failures.get(index, NONE)
        return {  # type: ignore[typeddict-item]
            "status": why.status,
            "reason": why.reason,
            "traceback": why.traceback,
            "measured": self._measured(index),
            "jumps": self.jumps[index],
        }

    @contextmanager
    def row_of(self, index: int) -> Iterator[None]:
        """Turn what a method raises into the end of that run's forecasts, with a status."""
        try:
            yield
        except BaseException as error:  # a method may well call sys.exit
            self.failures[index] = failure_of(error, InvalidForecast)

    def _keep(self, prefix: str, measured: Measured) -> None:
        self._curves.setdefault(prefix, []).append(measured)

    def _measured(self, index: int) -> dict[str, list[Any]]:
        return {"step": list(self._steps)} | columns(self._curves, index)


def columns(curves: Mapping[str, Sequence[Measured]], index: int) -> dict[str, list[Any]]:
    """Return one run's measurements by prefix and name; None where a number is not finite."""
    found: dict[str, list[Any]] = {}
    for prefix, kept in curves.items():
        for name in NAMES:
            values = [float(getattr(measured, name)[index]) for measured in kept]
            found[prefix + name] = [number(value) for value in values]
    return found


def number(value: float) -> float | None:
    """Return a number as it is stored; None where it is not finite."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
