"""What the small learned networks share: one network for all coordinates of all networks.

Each coordinate is normalised by its own context: w_n is subtracted and the range of the context
divides. The network maps the n + 1 normalised values to m normalised displacements. Its loss is the
mean absolute error in raw weights (the normalised error times the coordinate's range), since
forecasts are scored in raw weights; coordinates that did not move are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, Trajectory
from weightcast.methods.forecaster import CoordinateForecaster

if TYPE_CHECKING:
    import torch


_CHECK_EVERY = 20  # updates between looks at the validation loss


class LearnedForecaster(CoordinateForecaster):
    """Base of the learned networks; subclasses build the network.

    Parameters
    ----------
    learning_rate : float
        Adam's, falling to zero along a cosine.
    updates : int
        Optimizer updates at most. A budget in updates, not epochs, trains on a data set of a few
        hundred coordinates as long as on one of thousands.
    patience : int
        Stop after so many checks without a better validation loss, one check every 20 updates; the
        best state is kept.
    batch_size : int
        At most a quarter of the training sample is taken.
    rows : int
        Coordinates sampled at random from the training runs; a quarter as many from validation.

    Attributes
    ----------
    network_ : torch.nn.Module
    updates_ : int
        Updates until the best validation loss.
    """

    _tags: ClassVar[dict[str, Any]] = {"provenance": "fit-on-train-split"}

    network_: torch.nn.Module

    def __init__(
        self,
        learning_rate: float = 3e-3,
        updates: int = 800,
        patience: int = 10,
        batch_size: int = 256,
        rows: int = 8192,
    ) -> None:
        self.learning_rate = learning_rate
        self.updates = updates
        self.patience = patience
        self.batch_size = batch_size
        self.rows = rows
        super().__init__()

    def build(self, n: int, m: int) -> torch.nn.Module:
        """Build the network: input (c, n + 1), output (c, m)."""
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            self.network_ = self.build(task.context, len(task.horizons))
            random = np.random.default_rng(task.seed)
            material = _sample(train, task, self.rows, random)
            check = _sample(validation, task, self.rows // 4, random)
            self._train(material, check, random)
        return self

    def _train(self, train: _Rows, validation: _Rows, random: np.random.Generator) -> None:
        import torch

        optimizer = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.updates)
        batches = _batches(train.count, min(self.batch_size, -(-train.count // 4)), random)
        self.validation_loss_, self.updates_ = np.inf, 0
        for update in range(1, self.updates + 1):
            rows = next(batches)
            # The mirror image of a trajectory is as good a trajectory.
            sign = random.choice(np.array([-1.0, 1.0], np.float32), size=(len(rows), 1))
            optimizer.zero_grad()
            self._loss(train.take(rows, sign)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if update % _CHECK_EVERY and update != self.updates:
                continue
            with torch.no_grad():
                loss = float(self._loss(validation.take(slice(None), 1.0)))
            if loss < self.validation_loss_:
                self.validation_loss_, self.updates_ = loss, update
                state = {key: value.clone() for key, value in self.network_.state_dict().items()}
            elif update - self.updates_ >= self.patience * _CHECK_EVERY:
                break
        self.network_.load_state_dict(state)
        self.network_.eval()

    def _loss(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y, importance = batch
        error: torch.Tensor = (self.network_(x) - y).abs().mean(dim=1) * importance
        return error.mean()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        import torch

        last, scale = context[:, -1:], _range(context)
        moving = scale[:, 0] > 0
        forecast = np.repeat(last, len(task.horizons), axis=1)
        with torch.no_grad():
            # Slices bound what the network holds in between, whatever the block's size.
            for rows in _slices(np.flatnonzero(moving), 4096):
                x = (context[rows] - last[rows]) / scale[rows]
                forecast[rows] += self.network_(torch.from_numpy(x)).numpy() * scale[rows]
        return forecast

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def diagnostics(self) -> dict[str, Any]:
        return {"updates": self.updates_, "validation_loss": self.validation_loss_}


class _Rows:
    """Normalised training material: inputs, targets and each row's weight in the loss."""

    def __init__(self, context: Floats, target: Floats) -> None:
        scale = _range(context)
        keep = scale[:, 0] > 0
        last = context[keep, -1:]
        self._x = (context[keep] - last) / scale[keep]
        self._y = (target[keep] - last) / scale[keep]
        self._importance = scale[keep, 0] / max(float(scale[keep, 0].mean()), 1e-30)
        self.count = len(self._x)

    def take(
        self, rows: Any, sign: Floats | float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import torch

        return (
            torch.from_numpy(np.asarray(self._x[rows] * sign, dtype=np.float32)),
            torch.from_numpy(np.asarray(self._y[rows] * sign, dtype=np.float32)),
            torch.from_numpy(self._importance[rows]),
        )


def _batches(
    count: int, size: int, random: np.random.Generator
) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Shuffle the rows anew every epoch, for ever; batches are as equal as they can be."""
    while True:
        yield from np.array_split(random.permutation(count), -(-count // size))


def _sample(
    runs: Sequence[Trajectory], task: ForecastTask, count: int, random: np.random.Generator
) -> _Rows:
    """Draw coordinates at random over all runs, the same ones whatever the block size."""
    totals = [run.n_coordinates for run in runs]
    offsets = np.cumsum([0, *totals])
    chosen = np.sort(random.permutation(offsets[-1])[:count])
    contexts, targets = [], []
    for run, begin in zip(runs, offsets[:-1], strict=True):
        for pair in task.pairs(run):
            first = begin + pair.tensor.offset + pair.start
            low, high = np.searchsorted(chosen, [first, first + len(pair.context)])
            if high > low:
                rows = chosen[low:high] - first
                contexts.append(pair.context[rows])
                targets.append(pair.target[rows])
    rows_ = _Rows(np.concatenate(contexts), np.concatenate(targets))
    if rows_.count == 0:
        raise ValueError("no sampled coordinate moves within its context: nothing to learn from")
    return rows_


def _range(context: Floats) -> Floats:
    """Return max − min over the context, shape (c, 1)."""
    spread: Floats = context.max(axis=1, keepdims=True) - context.min(axis=1, keepdims=True)
    return spread


def _slices(rows: np.ndarray[Any, Any], size: int) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
