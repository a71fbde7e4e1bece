"""The loop tier's training: every so many steps the forecaster jumps, and training goes on.

All runs of a group are trained together. What a forecaster costs is taken as a user would pay it:
one run's forecast at a time, in seconds, against the seconds of one plain step of one run alone.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from weightcast.bench.engine.failure import NONE, Failure, failure_of
from weightcast.bench.loop.one_by_one import OneByOne
from weightcast.bench.loop.runs import Measured, Optimizer, TrainingRuns
from weightcast.bench.loop.side_by_side import SideBySide, can_stand_side_by_side
from weightcast.bench.plan.loop_row import Jump, LoopRow, Sync, loop_row
from weightcast.bench.plan.loop_settings import (
    CONTROLS,
    DENOISE,
    LOOKAHEAD,
    NO_FORECAST,
    NULL,
    POOL,
    LoopGroup,
    LoopRun,
    LoopSettings,
    rates,
    recipe_of,
)
from weightcast.bench.scoring.forecasting import ForecastStream, InvalidForecast
from weightcast.datasets import Metadata, Trajectory, make_task
from weightcast.datasets.evaluator import cross_entropy
from weightcast.datasets.examples.examples import inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.networks.build import build_network
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats
from weightcast.datasets.window import Window
from weightcast.methods import make_method
from weightcast.methods.forecaster import Forecaster

#: Lookahead (Zhang et al. 2019, arXiv 1907.08610): steps between syncs, the slow weights' rate.
LOOKAHEAD_STEPS, LOOKAHEAD_RATE = 5, 0.5
#: Steps that a plain run is timed over, after as many to warm up; fewer where that takes longer
#: than so many seconds.
_TIMED, _FEWEST, _LONGEST = 40, 4, 10.0


def run_loop(group: LoopGroup) -> list[LoopRow]:
    """Train all runs of a group; return a row each.

    Raises
    ------
    InputError
        If the data set has no recipe, or what it trains on is not here.
    """
    recipe = recipe_of(group.dataset)
    settings = group.settings
    began = time.perf_counter()
    step_seconds, forward_seconds = time_plain_step(recipe, group.optimizer)
    forecasters = _forecasters(group, recipe)
    training = _start(group, recipe, group.runs)
    log = _Log(training, len(group.runs))
    jumper = _Jumper(group, recipe, training, forecasters, log)
    log.measure(0)
    for step in range(1, settings.steps + 1):
        training.step()
        jumper.after(step)
        if step % settings.measure_every == 0 or step == settings.steps:
            log.measure(step)
    seconds = time.perf_counter() - began
    rows = []
    for index, run in enumerate(group.runs):
        fitted = forecasters.get(run.learning_rate)
        why = log.failures.get(index, NONE)
        row = loop_row(group, run) | {
            "status": why.status,
            "reason": why.reason,
            "traceback": why.traceback,
            "measured": log.of(index),
            "jumps": log.jumps[index],
            "step_seconds": step_seconds,
            "forward_seconds": forward_seconds,
            "fit_seconds": fitted.seconds if fitted else 0.0,
            "fit_steps": fitted.steps if fitted else 0,
            "seconds": seconds / len(group.runs),
        }
        rows.append(row)
    return rows


def time_plain_step(recipe: Recipe, optimizer: str) -> tuple[float, float]:
    """Time one run alone: the median seconds of a training step and of a batch's forward pass."""
    network = build_network(recipe.network, **recipe.network_options).train()
    examples = load_examples(recipe.data, **recipe.data_options)
    x, y = inputs(examples.train_x[: recipe.batch_size]), examples.train_y[: recipe.batch_size]
    kind, momentum = POOL[optimizer]
    made: torch.optim.Optimizer
    if kind == "adam":
        made = torch.optim.Adam(network.parameters(), lr=1e-6)
    else:
        made = torch.optim.SGD(
            network.parameters(), lr=1e-6, momentum=momentum, nesterov=momentum > 0
        )

    def step() -> None:
        made.zero_grad()
        cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        made.step()

    def forward() -> None:
        with torch.no_grad():
            cross_entropy(network(x), y)

    return _median_seconds(step), _median_seconds(forward)


def _median_seconds(act: Callable[[], None]) -> float:
    took: list[float] = []
    while len(took) < 2 * _FEWEST or (len(took) < 2 * _TIMED and sum(took) < _LONGEST):
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return statistics.median(took[len(took) // 2 :])


def _start(group: LoopGroup, recipe: Recipe, runs: Sequence[LoopRun]) -> TrainingRuns:
    settings = group.settings
    each = [rates(run.learning_rate, group.schedule, settings.steps) for run in runs]
    other = " null" if group.method == NULL else ""
    network = build_network(recipe.network, **recipe.network_options)
    kind = SideBySide if can_stand_side_by_side(network) else OneByOne
    return kind(
        recipe,
        Optimizer(*POOL[group.optimizer]),
        np.stack(each),
        [run.seed for run in runs],
        [f"{run.seed}{other}" for run in runs],
        settings.measured,
    )


class _Fitted:
    """A forecaster for one learning rate, and what fitting it cost."""

    def __init__(self, method: Forecaster, task: ForecastTask, seconds: float, steps: int) -> None:
        self.method, self.task = method, task
        self.seconds, self.steps = seconds, steps


def _forecasters(group: LoopGroup, recipe: Recipe) -> dict[float, _Fitted]:
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
    steps = settings.steps if learns else settings.interval + settings.horizon * settings.spacing
    trajectories = _record(group, recipe, runs, steps)
    found = {}
    for rate in learning_rates:
        here = [t for run, t in zip(runs, trajectories, strict=True) if run.learning_rate == rate]
        windows = [_windows(run, settings) for run in here]
        train, validation = list(chain.from_iterable(windows[:-1])), windows[-1]
        task = make_task(train[0], settings.context)
        start = time.perf_counter()
        fitted = method.clone().fit(train, validation, task)
        seconds = time.perf_counter() - start
        found[rate] = (
            _Fitted(fitted, task, seconds, len(seeds) * settings.steps)
            if learns
            else _Fitted(fitted, task, 0.0, 0)
        )
    return found


def _record(
    group: LoopGroup, recipe: Recipe, runs: Sequence[LoopRun], steps: int
) -> list[Trajectory]:
    """Train plain runs and keep their snapshots."""
    settings = group.settings
    plain = replace(group, method=NO_FORECAST)
    training = _start(plain, recipe, runs)
    kept = [training.weights.numpy().copy()]
    for step in range(1, steps + 1):
        training.step()
        if step % settings.spacing == 0:
            kept.append(training.weights.numpy().copy())
    stacked = np.stack(kept, axis=1)  # (runs, T, coordinates)
    at = range(0, steps + 1, settings.spacing)
    return [
        _trajectory(group, recipe, training, stacked[index], at, run)
        for index, run in enumerate(runs)
    ]


def _trajectory(
    group: LoopGroup,
    recipe: Recipe,
    training: TrainingRuns,
    flat: Floats,
    steps: Sequence[int],
    run: LoopRun,
) -> Trajectory:
    """Make a trajectory of snapshots (T, coordinates)."""
    arrays = {
        info.name: np.ascontiguousarray(flat[:, info.offset : info.offset + info.size]).reshape(
            -1, *info.shape
        )
        for info in training.tensors
    }
    kind, momentum = POOL[group.optimizer]
    meta = Metadata(
        group.dataset,
        run.seed,
        recipe=recipe.to_json(),
        optimizer="adam" if kind == "adam" else "sgd",
        hyperparameters={"momentum": momentum, "nesterov": True} if momentum else {},
        learning_rates=tuple(
            rates(run.learning_rate, group.schedule, group.settings.steps).tolist()
        ),
        batch_size=recipe.batch_size,
    )
    return Trajectory.from_arrays(arrays, list(steps), meta, training.tensors)


def _windows(run: Trajectory, settings: LoopSettings) -> list[Trajectory]:
    """Cut a run into what a forecaster sees before each jump, with what comes after it."""
    length = settings.context + settings.horizon
    starts = range(0, run.n_snapshots - length, settings.context)
    return [Window(run, range(start, start + length + 1)) for start in starts]


class _Log:
    """What is measured of each run."""

    def __init__(self, training: TrainingRuns, runs: int) -> None:
        self._training = training
        self._steps: list[int] = []
        self._raw: list[Measured] = []
        self._average: list[Measured] = []
        self.jumps: list[list[Jump | Sync]] = [[] for _ in range(runs)]
        self.failures: dict[int, Failure] = {}

    def measure(self, step: int) -> None:
        self._steps.append(step)
        self._raw.append(self._training.measure(self._training.weights))
        self._average.append(self._training.measure(self._training.average))

    def of(self, index: int) -> dict[str, list[Any]]:
        """Return a run's measurements; None where a number is not finite."""
        found: dict[str, list[Any]] = {"step": list(self._steps)}
        for prefix, kept in (("", self._raw), ("average_", self._average)):
            for name in ("train_loss", "test_loss", "test_accuracy"):
                values = [float(getattr(measured, name)[index]) for measured in kept]
                found[prefix + name] = [
                    float(f"{value:.6g}") if np.isfinite(value) else None for value in values
                ]
        return found


class _Jumper:
    """Does between steps what the group's method does."""

    def __init__(
        self,
        group: LoopGroup,
        recipe: Recipe,
        training: TrainingRuns,
        forecasters: dict[float, _Fitted],
        log: _Log,
    ) -> None:
        self._group, self._recipe, self._training = group, recipe, training
        self._forecasters, self._log = forecasters, log
        self._window = [training.weights.numpy().copy()]
        self._slow = training.weights.clone() if group.method == LOOKAHEAD else None
        self._syncs: list[float] = []
        count = len(load_examples(recipe.data, **recipe.data_options).train_y)
        self._random = np.random.default_rng(recipe.random_seed(0, "loop held-out batches"))
        self._examples = count

    def after(self, step: int) -> None:
        """Act after a step of training."""
        if self._slow is not None:
            if step % LOOKAHEAD_STEPS == 0:
                self._sync()
            return
        if self._group.method in (NO_FORECAST, NULL):
            return
        settings = self._group.settings
        if step % settings.spacing == 0:
            self._window.append(self._training.weights.numpy().copy())
        if step % settings.interval == 0:
            if step < settings.steps:
                self._jump(step)
            self._window = [self._training.weights.numpy().copy()]

    def _sync(self) -> None:
        assert self._slow is not None
        weights = self._training.weights
        start = time.perf_counter()
        self._slow.lerp_(weights, LOOKAHEAD_RATE)
        weights.copy_(self._slow)
        seconds = (time.perf_counter() - start) / len(weights)
        self._syncs.append(seconds)
        # One entry for all syncs: their losses are not measured, and each costs the median's.
        seconds = statistics.median(self._syncs)
        for jumps in self._log.jumps:
            jumps[:] = [{"step": LOOKAHEAD_STEPS, "every": LOOKAHEAD_STEPS, "seconds": seconds}]

    def _jump(self, step: int) -> None:
        training, settings = self._training, self._group.settings
        window = np.stack(self._window, axis=1)  # (runs, n + 1, coordinates)
        before = training.weights.clone()
        proposed, took = before.clone(), [0.0] * len(before)
        forwards = 0
        for index, run in enumerate(self._group.runs):
            if index in self._log.failures or not np.isfinite(window[index]).all():
                continue
            with self._row_of(index):
                start = time.perf_counter()
                values = self._proposal(window[index], step, run)
                took[index] = time.perf_counter() - start
                proposed[index] = torch.from_numpy(values)
        accepted = np.ones(len(before), dtype=bool)
        if self._group.accept == "if-better":
            batch = self._random.integers(self._examples, size=self._recipe.batch_size)
            accepted = training.train_loss(proposed, batch) < training.train_loss(before, batch)
            forwards = 2
        training.weights[accepted] = proposed[accepted]
        if settings.reset:
            training.reset_optimizer()
        losses = [training.measure(weights).train_loss for weights in (before, proposed)]
        for index, jumps in enumerate(self._log.jumps):
            if index in self._log.failures or not np.isfinite(window[index]).all():
                continue
            jumps.append(
                {
                    "step": step,
                    "before": _number(losses[0][index]),
                    "after": _number(losses[1][index]),
                    "accepted": bool(accepted[index]),
                    "seconds": took[index],
                    "forwards": forwards,
                }
            )

    @contextmanager
    def _row_of(self, index: int) -> Iterator[None]:
        """Turn what a method raises into the end of that run's jumps, with a status."""
        try:
            yield
        except BaseException as error:  # a method may well call sys.exit
            self._log.failures[index] = failure_of(error, InvalidForecast)

    def _proposal(self, window: Floats, step: int, run: LoopRun) -> Floats:
        """Return where one run is to land, a flat row; window (n + 1, coordinates)."""
        if self._group.method == DENOISE:
            return _fitted_line(window)
        settings, fitted = self._group.settings, self._forecasters[run.learning_rate]
        spacing = settings.spacing
        steps = range(step - settings.interval, step + 1, spacing)
        ahead = step + spacing * np.arange(1, settings.horizon + 1, dtype=np.int64)
        task = replace(
            fitted.task,
            context_steps=np.asarray(steps, dtype=np.int64),
            horizon_steps=ahead,
            learning_rates=rates(
                run.learning_rate, self._group.schedule, settings.steps, until=int(ahead[-1])
            ),
        )
        trajectory = _trajectory(self._group, self._recipe, self._training, window, steps, run)
        landed: Floats = window[-1].copy()
        for block in ForecastStream(fitted.method, trajectory, task):
            landed[block.tensor.offset + block.rows] = block.forecast[:, settings.horizon - 1]
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


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
