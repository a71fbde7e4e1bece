"""Read-outs: training goes on untouched, and forecasts are what is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from weightcast.bench.loop.stepping.runs import Measured, TrainingRuns
from weightcast.bench.loop.uses.forecasts import Forecasts
from weightcast.bench.loop.uses.log import Log, columns
from weightcast.bench.loop.uses.snapshots import Snapshots
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun


class Readings(Log):
    """Forecasts at every measurement, of runs that are trained once for all their horizons.

    Before there are snapshots enough to forecast from, weights are read out as they are. Whole
    readings are timed, one run at a time.

    Parameters
    ----------
    group : LoopGroup
    training : TrainingRuns
        Of `trained_for` the group's runs.
    forecasts : Forecasts
    """

    def __init__(self, group: LoopGroup, training: TrainingRuns, forecasts: Forecasts) -> None:
        super().__init__(training, len(group.runs))
        self._group, self._forecasts = group, forecasts
        self._trained = trained_for(group.runs)
        self._horizons = list(dict.fromkeys(run.horizon for run in group.runs))
        self._read: dict[int, list[Measured]] = {horizon: [] for horizon in self._horizons}
        self._snapshots = Snapshots(group, training)
        self._took: list[float] = []
        where = {_trained_as(run): index for index, run in enumerate(self._trained)}
        self._place = [where[_trained_as(run)] for run in group.runs]

    def after(self, step: int) -> None:
        """Take a snapshot where one is due."""
        if self._snapshots.after(step):
            del self._snapshots.taken[: -self._group.settings.context - 1]

    def measure(self, step: int) -> None:
        self._steps.append(step)
        raw = self._training.weights
        found = {horizon: raw.clone() for horizon in self._horizons}
        if len(self._snapshots.taken) > self._group.settings.context:
            self._forecast(step, found)
        for horizon, weights in found.items():
            self._read[horizon].append(self._training.measure(weights))

    def _forecast(self, step: int, into: dict[int, torch.Tensor]) -> None:
        window = np.stack(self._snapshots.taken, axis=1)  # (runs, n + 1, coordinates)
        for index, run in enumerate(self._trained):
            own = [i for i, place in enumerate(self._place) if place == index]
            if own[0] in self.failures or not np.isfinite(window[index]).all():
                continue
            with self.row_of(own[0]):
                start = time.perf_counter()
                ahead = self._forecasts.ahead(self._training, window[index], step, run)
                self._took.append(time.perf_counter() - start)
                for horizon, weights in into.items():
                    weights[index] = torch.from_numpy(ahead[horizon - 1])
            for i in own[1:] if own[0] in self.failures else ():
                self.failures[i] = self.failures[own[0]]
        if self._took:
            seconds = statistics.median(self._took)
            first = self._group.settings.interval
            for jumps in self.jumps:
                jumps[:] = [{"step": first, "reads": len(self._took), "seconds": seconds}]

    def _measured(self, index: int) -> dict[str, list[Any]]:
        kept = self._read[self._group.runs[index].horizon]
        return {"step": list(self._steps)} | columns({"": kept}, self._place[index])


def trained_for(runs: Sequence[LoopRun]) -> list[LoopRun]:
    """Return one run of those that differ in what is read out alone."""
    return list({_trained_as(run): run for run in reversed(runs)}.values())[::-1]


def _trained_as(run: LoopRun) -> tuple[float, int]:
    return run.learning_rate, run.seed
