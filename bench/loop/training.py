"""The loop tier's training: what a method does between its steps, and what is measured.

All runs of a group are trained together. What a forecaster costs is taken as a user would pay it:
one run's forecast at a time, in seconds, against the seconds of one plain step of one run alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from weightcast.bench.loop.stepping.runs import Optimizer, TrainingRuns
from weightcast.bench.loop.stepping.schedule_free import ScheduleFree
from weightcast.bench.loop.uses.forecasts import Forecasts
from weightcast.bench.loop.uses.log import Log
from weightcast.bench.loop.uses.moves import Acts, Moves, Nothing
from weightcast.bench.loop.uses.readings import Readings, trained_for
from weightcast.bench.loop.uses.start import start
from weightcast.bench.loop.uses.syncs import Lookahead, Snoo
from weightcast.bench.plan.loop_row import LoopRow, loop_row
from weightcast.bench.plan.loop_settings import (
    LOOKAHEAD,
    NO_FORECAST,
    NULL,
    POOL,
    READ_OUT,
    SNOO,
    LoopGroup,
    recipe_of,
)
from weightcast.datasets.examples.examples import inputs
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.networks.build import build_network
from weightcast.datasets.recipe import Recipe

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
    forecasts = Forecasts(group, recipe)
    read = group.use == READ_OUT
    training = start(
        group,
        recipe,
        trained_for(group.runs) if read else group.runs,
        () if read else settings.averages,
    )
    log, acts = _acting(group, recipe, training, forecasts)
    log.measure(0)
    for step in range(1, settings.steps + 1):
        training.step()
        acts.after(step)
        if step % settings.measure_every == 0 or step == settings.steps:
            log.measure(step)
    seconds = time.perf_counter() - began
    rows = []
    for index, run in enumerate(group.runs):
        fitted = forecasts.fitted.get(run.learning_rate)
        row = (
            loop_row(group, run)
            | log.of(index)
            | {
                "step_seconds": step_seconds,
                "forward_seconds": forward_seconds,
                "fit_seconds": fitted.seconds if fitted else 0.0,
                "fit_steps": fitted.steps if fitted else 0,
                "seconds": seconds / len(group.runs),
            }
        )
        rows.append(row)
    return rows


def _acting(
    group: LoopGroup, recipe: Recipe, training: TrainingRuns, forecasts: Forecasts
) -> tuple[Log, Acts]:
    """Return what measures a group's runs, and what acts on them between steps."""
    if group.use == READ_OUT:
        readings = Readings(group, training, forecasts)
        return readings, readings
    settings, log = group.settings, Log(training, len(group.runs))
    if group.method in (NO_FORECAST, NULL):
        return log, Nothing()
    if group.method == LOOKAHEAD:
        return log, Lookahead(training, log)
    if group.method == SNOO:
        return log, Snoo(training, log, group.runs, settings.snoo_every)
    return log, Moves(group, recipe, training, forecasts, log)


def time_plain_step(recipe: Recipe, optimizer: str) -> tuple[float, float]:
    """Time one run alone: the median seconds of a training step and of a batch's forward pass."""
    network = build_network(recipe.network, **recipe.network_options).train()
    examples = load_examples(recipe.data, **recipe.data_options)
    x, y = inputs(examples.train_x[: recipe.batch_size]), examples.train_y[: recipe.batch_size]
    made = _optimizer_of(optimizer, network)

    def step() -> None:
        made.zero_grad()
        examples.loss(network, x, y).backward()  # type: ignore[no-untyped-call]
        made.step()

    def forward() -> None:
        with torch.no_grad():
            examples.loss(network, x, y)

    return _median_seconds(step), _median_seconds(forward)


def _optimizer_of(optimizer: str, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Make an optimizer of the pool for one network, in PyTorch's form."""
    kind, momentum = POOL[optimizer]
    parameters = network.parameters()
    if Optimizer(kind).schedule_free:
        adam = kind == "schedule-free-adam"
        return ScheduleFree(parameters, lr=1e-6, beta=momentum, adam=adam)
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=1e-6)
    return torch.optim.SGD(parameters, lr=1e-6, momentum=momentum, nesterov=momentum > 0)


def _median_seconds(act: Callable[[], None]) -> float:
    took: list[float] = []
    while len(took) < 2 * _FEWEST or (len(took) < 2 * _TIMED and sum(took) < _LONGEST):
        start = time.perf_counter()
        act()
        took.append(time.perf_counter() - start)
    return statistics.median(took[len(took) // 2 :])
