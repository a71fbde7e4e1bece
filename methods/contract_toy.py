"""The runs that the contract is checked on: a few coordinates that relax, made in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.history import TrainLoss
from weightcast.datasets.task import ForecastTask, make_task
from weightcast.datasets.trajectory import Floats, Metadata, TensorInfo, Trajectory

SNAPSHOTS = 31
CONTEXT = 10
#: Names, shapes and kinds as a network's: matrices, a vector, a scalar.
TENSORS = (
    TensorInfo("first.weight", (3, 2), "linear"),
    TensorInfo("first.bias", (3,), "bias", depth=1),
    TensorInfo("second.weight", (1, 2), "linear", depth=2),
    TensorInfo("scale", (), "other", depth=3),
)
ONE = (TensorInfo("scale", (), "other"),)
WITH_EMPTY = (*TENSORS, TensorInfo("none.weight", (0, 2), "linear", depth=4))


class Bowl(TrainLoss):
    """A training loss with its minimum at zero, for methods that measure one."""

    def __init__(self) -> None:
        super().__init__(_squares)


def _squares(weights: Mapping[str, Floats]) -> float:
    return float(sum((w.astype(np.float64) ** 2).sum() for w in weights.values()))


def relaxing(seed: int, count: int) -> NDArray[np.float64]:
    """Return the values (T, count) of coordinates that relax to random optima, with some noise."""
    random = np.random.default_rng(seed)
    start, end = random.standard_normal((2, count))
    rate = random.uniform(0.85, 0.97, count)
    decay = rate[None] ** np.arange(SNAPSHOTS)[:, None]
    noise = 0.01 * random.standard_normal((SNAPSHOTS, count)).cumsum(axis=0)
    values: NDArray[np.float64] = end + (start - end) * decay + noise
    return values


def size_of(tensors: Sequence[TensorInfo]) -> int:
    """Count the coordinates of some tensors."""
    return sum(info.size for info in tensors)


def run_of(
    values: NDArray[np.floating], seed: int = 0, tensors: Sequence[TensorInfo] = TENSORS
) -> Trajectory:
    """Make a run of values (T, d)."""
    count = len(values)
    cuts = np.cumsum([info.size for info in tensors])[:-1]
    parts = np.split(np.asarray(values, np.float32), cuts, axis=1)
    arrays = {
        info.name: part.reshape(count, *info.shape)
        for info, part in zip(tensors, parts, strict=True)
    }
    meta = Metadata(
        "contract-toy",
        seed,
        optimizer="sgd",
        hyperparameters={"momentum": 0.0},
        learning_rates=(0.1,) * (count - 1),
        train_loss=tuple(np.linspace(1.0, 0.1, count).tolist()),
    )
    return Trajectory.from_arrays(arrays, range(count), meta, tensors)


def toy_runs(tensors: Sequence[TensorInfo] = TENSORS) -> list[Trajectory]:
    """Make eight runs: four to train, two to validate, two to forecast."""
    return [run_of(relaxing(seed, size_of(tensors)), seed, tensors) for seed in range(8)]


def toy_task(run: Trajectory, context: int = CONTEXT, **options: int) -> ForecastTask:
    """Make the task of toy runs, with a seed that is not the default."""
    return make_task(run, context, **{"seed": 3, **options})
