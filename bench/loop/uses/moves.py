"""Moves of weights while training goes on: jumps, outer steps, and what is no forecast beside them.

A *jump* lands on the forecast of the snapshots since the last one. An *outer* step goes part of the
way to the forecast of the last snapshots, every few of them. Both keep the optimizer's state.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import torch

from weightcast.bench.loop.stepping.runs import TrainingRuns
from weightcast.bench.loop.uses.forecasts import Forecasts
from weightcast.bench.loop.uses.log import Log, number
from weightcast.bench.plan.loop_settings import DENOISE, OUTER, LoopGroup, LoopRun
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Floats


class Acts(Protocol):
    """What a method does between steps of training."""

    def after(self, step: int) -> None:
        """Act after a step."""


class Nothing:
    """Plain training."""

    def after(self, step: int) -> None:
        """Do nothing."""


class Moves:
    """Moves runs to where their forecasts are, or part of the way.

    Parameters
    ----------
    group : LoopGroup
    recipe : Recipe
    training : TrainingRuns
        Of the group's runs.
    forecasts : Forecasts
    log : Log
    """

    def __init__(
        self,
        group: LoopGroup,
        recipe: Recipe,
        training: TrainingRuns,
        forecasts: Forecasts,
        log: Log,
    ) -> None:
        self._group, self._recipe, self._training = group, recipe, training
        self._forecasts, self._log = forecasts, log
        self._window = [training.weights.numpy().copy()]
        self._examples = len(load_examples(recipe.data, **recipe.data_options).train_y)
        self._random = np.random.default_rng(recipe.random_seed(0, "loop held-out batches"))

    def after(self, step: int) -> None:
        """Take a snapshot where one is due, and move where a window is whole."""
        settings = self._group.settings
        if step % settings.spacing:
            return
        self._window.append(self._training.weights.numpy().copy())
        outer = self._group.use == OUTER
        if outer:
            del self._window[: -settings.context - 1]
        every = settings.spacing * settings.outer_every if outer else settings.interval
        if step % every or len(self._window) <= settings.context:
            return
        if step < settings.steps:
            self._move(step)
        # A jump begins a new window; an outer step takes the one before it along, so that what is
        # extrapolated is the way that training went.
        by = self._training.weights.numpy() - self._window[-1]
        kept = self._window if outer else self._window[-1:]
        self._window = [snapshot + by for snapshot in kept[:-1]]
        self._window.append(self._training.weights.numpy().copy())

    def _move(self, step: int) -> None:
        training = self._training
        window = np.stack(self._window, axis=1)  # (runs, n + 1, coordinates)
        before = training.weights.clone()
        proposed, took = before.clone(), [0.0] * len(before)
        moving = [
            index
            for index in range(len(before))
            if index not in self._log.failures and np.isfinite(window[index]).all()
        ]
        for index in moving:
            with self._log.row_of(index):
                start = time.perf_counter()
                values = self._landing(window[index], step, self._group.runs[index])
                took[index] = time.perf_counter() - start
                proposed[index] = torch.from_numpy(values)
        accepted = np.ones(len(before), dtype=bool)
        forwards = 0
        if self._group.accept == "if-better":
            batch = self._random.integers(self._examples, size=self._recipe.batch_size)
            accepted = training.train_loss(proposed, batch) < training.train_loss(before, batch)
            forwards = 2
        training.weights[accepted] = proposed[accepted]
        if self._group.settings.reset:
            training.reset_optimizer()
        losses = [training.measure(weights).train_loss for weights in (before, proposed)]
        for index in moving:
            if index not in self._log.failures:
                self._log.jumps[index].append(
                    {
                        "step": step,
                        "before": number(losses[0][index]),
                        "after": number(losses[1][index]),
                        "accepted": bool(accepted[index]),
                        "seconds": took[index],
                        "forwards": forwards,
                    }
                )

    def _landing(self, window: Floats, step: int, run: LoopRun) -> Floats:
        """Return where one run is to land, a flat row; window (n + 1, coordinates)."""
        if self._group.method == DENOISE:
            return _fitted_line(window)
        forecast = self._forecasts.ahead(self._training, window, step, run)
        landed: Floats = forecast[self._group.settings.horizon - 1]
        # A whole jump lands on its forecast to the last bit.
        return landed if run.length == 1 else window[-1] + run.length * (landed - window[-1])


def _fitted_line(window: Floats) -> Floats:
    """Return the least-squares line's own value at the last snapshot."""
    n = len(window) - 1
    design = np.stack([np.ones(n + 1), np.arange(-n, 1.0)], axis=1)
    weights = np.linalg.pinv(design)[0].astype(np.float32)  # the value at 0, from n + 1 values
    last: Floats = window[-1]
    moved: Floats = weights @ (window - last)
    found: Floats = last + moved
    return found
