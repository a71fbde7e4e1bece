"""The training runs of a group as they begin, and as trajectories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.own_side_by_side import OwnSideBySide, can_be_stacked
from weightcast.bench.loop.stepping.runs import Optimizer, TrainingRuns
from weightcast.bench.loop.stepping.side_by_side import SideBySide, can_stand_side_by_side
from weightcast.bench.plan.loop_settings import NULL, POOL, LoopGroup, LoopRun, rates
from weightcast.datasets import Metadata, Trajectory
from weightcast.datasets.given import GIVEN
from weightcast.datasets.networks.build import build_network
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Floats


def start(
    group: LoopGroup, recipe: Recipe, runs: Sequence[LoopRun], averages: Sequence[int] = ()
) -> TrainingRuns:
    """Make runs of a group's optimizer and schedule, to be trained together.

    Parameters
    ----------
    group : LoopGroup
    recipe : Recipe
        Its data set's.
    runs : sequence of LoopRun
    averages : sequence of int
        As in `TrainingRuns`.
    """
    settings = group.settings
    each = [rates(run.learning_rate, group.schedule, settings.steps) for run in runs]
    other = " null" if group.method == NULL else ""
    return _kind(recipe)(
        recipe,
        Optimizer(*POOL[group.optimizer]),
        np.stack(each),
        [run.seed for run in runs],
        [f"{run.seed}{other}" for run in runs],
        settings.measured,
        averages,
    )


def _kind(recipe: Recipe) -> type[TrainingRuns]:
    """Return how runs of a recipe's network are stepped."""
    network = build_network(recipe.network, **recipe.network_options)
    if recipe.network == GIVEN:
        return OwnSideBySide if can_be_stacked(recipe, network) else OneByOne
    return SideBySide if can_stand_side_by_side(network) else OneByOne


def trajectory_of(
    group: LoopGroup,
    recipe: Recipe,
    training: TrainingRuns,
    flat: Floats,
    steps: Sequence[int],
    run: LoopRun,
) -> Trajectory:
    """Make a trajectory of one run's snapshots, flat (T, coordinates) at steps (T,)."""
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
        optimizer="adam" if kind.endswith("adam") else "sgd",
        hyperparameters={"momentum": momentum, "nesterov": True} if kind == "nesterov" else {},
        learning_rates=tuple(
            rates(run.learning_rate, group.schedule, group.settings.steps).tolist()
        ),
        batch_size=recipe.batch_size,
    )
    return Trajectory.from_arrays(arrays, list(steps), meta, training.tensors)
