"""What a forecaster is asked: from these snapshots, forecast those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.trajectory import BLOCK_BYTES, Floats, TensorInfo, Trajectory


@dataclass(frozen=True)
class Pair:
    """A block of coordinates as training material; unpacks into ``context, target``.

    Attributes
    ----------
    context : ndarray, shape (c, n + 1)
        Snapshots w_0..w_n, a row a coordinate.
    target : ndarray, shape (c, m)
        The snapshots to forecast.
    tensor : TensorInfo
    start : int
        The first row's place in the flattened tensor.

    Both arrays live in buffers that the next block reuses: copy what has to outlive the loop.
    """

    context: Floats
    target: Floats
    tensor: TensorInfo
    start: int

    def __iter__(self) -> Iterator[Floats]:
        yield self.context
        yield self.target


@dataclass(frozen=True)
class ForecastTask:
    """One data set at one context length.

    Attributes
    ----------
    dataset : str
    context : int
        n: the method sees w_0..w_n.
    horizons : ndarray, shape (m,), float32
        Snapshots after the origin, 1, 2, ..., m.
    context_steps : ndarray, shape (n + 1,), int64
        Optimizer steps of w_0..w_n.
    horizon_steps : ndarray, shape (m,), int64
        Optimizer steps of the snapshots to forecast.
    learning_rates : ndarray, float64
        One entry an optimizer step, to the last horizon.
    optimizer : str
    hyperparameters : dict
        The optimizer's.
    seed : int
        Seeds whatever a method draws at random.
    tensor : TensorInfo or None
        Set while a block of that tensor is handled.
    """

    dataset: str
    context: int
    horizons: NDArray[np.float32]
    context_steps: NDArray[np.int64]
    horizon_steps: NDArray[np.int64]
    learning_rates: NDArray[np.float64]
    optimizer: str = "unknown"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    tensor: TensorInfo | None = None
    block_bytes: int = BLOCK_BYTES

    def for_tensor(self, tensor: TensorInfo) -> ForecastTask:
        """Return the task as it stands for one tensor's block."""
        return replace(self, tensor=tensor)

    def pairs(self, run: Trajectory) -> Iterator[Pair]:
        """Stream a training or validation run as (context, target) blocks.

        Yields
        ------
        Pair
            ``context`` (c, n + 1) and ``target`` (c, m), valid until the next one.
        """
        last = self.context + len(self.horizons)
        for block in run.blocks(range(last + 1), self.block_bytes):
            values = block.values
            yield Pair(
                values[: self.context + 1].T,
                values[self.context + 1 :].T,
                block.tensor,
                block.start,
            )


def make_task(
    run: Trajectory, context: int, *, seed: int = 0, block_bytes: int = BLOCK_BYTES
) -> ForecastTask:
    """Build the task that forecasts every snapshot after w_n of runs like this one.

    Raises
    ------
    InputError
        If the run has no snapshot after the origin.
    """
    if not 1 <= context <= run.n_snapshots - 2:
        raise InputError(
            f"context {context} does not fit {run.meta.dataset}: its runs have "
            f"{run.n_snapshots} snapshots, so a context is 1 to {run.n_snapshots - 2}"
        )
    horizons = run.n_snapshots - 1 - context
    return ForecastTask(
        dataset=run.meta.dataset,
        context=context,
        horizons=np.arange(1, horizons + 1, dtype=np.float32),
        context_steps=run.steps[: context + 1].copy(),
        horizon_steps=run.steps[context + 1 :].copy(),
        learning_rates=np.asarray(run.meta.learning_rates[: int(run.steps[-1])], dtype=np.float64),
        optimizer=run.meta.optimizer,
        hyperparameters=dict(run.meta.hyperparameters),
        seed=seed,
        block_bytes=block_bytes,
    )
