"""A group's forecaster in the loop tier: fitted for each learning rate, and one run's forecast."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from weightcast.bench.loop.stepping.runs import TrainingRuns
from weightcast.bench.loop.uses.snapshots import Snapshots
from weightcast.bench.loop.uses.start import start, trajectory_of
from weightcast.bench.plan.loop_settings import (
    CONTROLS,
    NO_FORECAST,
    LoopGroup,
    LoopRun,
    LoopSettings,
    rates,
)
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import Trajectory, make_task
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats
from weightcast.datasets.window import Window
from weightcast.methods import make_method
from weightcast.methods.forecaster import Forecaster


@dataclass(frozen=True)
class Fitted:
    """A forecaster for one learning rate.

    Attributes
    ----------
    method : Forecaster
    task : ForecastTask
    seconds : float
        What its fit took.
    steps : int
        Of the runs that it was trained on.
    """

    method: Forecaster
    task: ForecastTask
    seconds: float
    steps: int


class Forecasts:
    """What a group forecasts by; without a forecaster for controls.

    Parameters
    ----------
    group : LoopGroup
    recipe : Recipe
        Its data set's.

    Attributes
    ----------
    fitted : dict of float to Fitted
        By learning rate.
    """

    def __init__(self, group: LoopGroup, recipe: Recipe) -> None:
        self._group, self._recipe = group, recipe
        self.fitted = _fitted(group, recipe)

    def ahead(self, training: TrainingRuns, window: Floats, step: int, run: LoopRun) -> Floats:
        """Forecast one run from its snapshots up to a step.

        Parameters
        ----------
        training : TrainingRuns
            Which the run is one of.
        window : ndarray, shape (n + 1, coordinates)
        step : int
            Of its last snapshot.
        run : LoopRun

        Returns
        -------
        ndarray, shape (horizons, coordinates)
            One to ``reach`` snapshots ahead.
        """
        settings, fitted = self._group.settings, self.fitted[run.learning_rate]
        spacing = settings.spacing
        steps = range(step - settings.interval, step + 1, spacing)
        ahead = step + spacing * np.arange(1, settings.reach + 1, dtype=np.int64)
        task = replace(
            fitted.task,
            context_steps=np.asarray(steps, dtype=np.int64),
            horizon_steps=ahead,
            learning_rates=rates(
                run.learning_rate, self._group.schedule, settings.steps, until=int(ahead[-1])
            ),
        )
        trajectory = trajectory_of(self._group, self._recipe, training, window, steps, run)
        found: Floats = np.repeat(window[-1:], settings.reach, axis=0)
        for block in ForecastStream(fitted.method, trajectory, task):
            found[:, block.tensor.offset + block.rows] = block.forecast.T
        return found


def _fitted(group: LoopGroup, recipe: Recipe) -> dict[float, Fitted]:
    """Fit the group's forecaster for each learning rate, on runs of the same configuration."""
    if group.method in CONTROLS:
        return {}
    settings = group.settings
    method = make_method(group.method, json.loads(group.params))
    learning_rates = list(dict.fromkeys(run.learning_rate for run in group.runs))
    learns = method.get_tag("provenance") == "fit-on-train-split"
    seeds = settings.seeds("training")
    runs = [LoopRun(rate, seed, "training", "") for rate in learning_rates for seed in seeds]
    # What fits nothing needs no more than a window to make the task of; nothing is charged for it.
    steps = settings.steps if learns else settings.interval + settings.reach * settings.spacing
    trajectories = _record(group, recipe, runs, steps)
    found = {}
    for rate in learning_rates:
        here = [t for run, t in zip(runs, trajectories, strict=True) if run.learning_rate == rate]
        windows = [_windows(run, settings) for run in here]
        train, validation = list(chain.from_iterable(windows[:-1])), windows[-1]
        task = make_task(train[0], settings.context)
        begun = time.perf_counter()
        fitted = method.clone().fit(train, validation, task)
        seconds = time.perf_counter() - begun
        found[rate] = (
            Fitted(fitted, task, seconds, len(seeds) * settings.steps)
            if learns
            else Fitted(fitted, task, 0.0, 0)
        )
    return found


def _record(
    group: LoopGroup, recipe: Recipe, runs: Sequence[LoopRun], steps: int
) -> list[Trajectory]:
    """Train plain runs and keep their snapshots."""
    training = start(replace(group, method=NO_FORECAST), recipe, runs)
    snapshots = Snapshots(group, training)
    for step in range(1, steps + 1):
        training.step()
        snapshots.after(step)
    stacked = np.stack(snapshots.taken, axis=1)  # (runs, T, coordinates)
    at = range(0, steps + 1, group.settings.spacing)
    return [
        trajectory_of(group, recipe, training, stacked[index], at, run)
        for index, run in enumerate(runs)
    ]


def _windows(run: Trajectory, settings: LoopSettings) -> list[Trajectory]:
    """Cut a run into what a forecaster sees before each jump, with what comes after it."""
    length = settings.context + settings.reach
    starts = range(0, run.n_snapshots - length, settings.context)
    return [Window(run, range(start, start + length + 1)) for start in starts]
