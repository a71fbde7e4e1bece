"""Asking a fitted method for its forecast of one run, block by block, past nothing but the context.

A coordinate forecaster gets each block of the context in an array that owns its memory, so that no
view leads from it to later snapshots; a network forecaster gets a `History`, and where one look at
that is enough for it, the blocks after it. The truth is read by
whoever scores the forecast, after it was made.

The one exception is a reference whose very subject is the truth: ``needs`` with ``"truth"``. Only
classes of this package get it, and only under the role ``reference``, so that no leaderboard takes
one for a forecaster; what a plugin declares does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.history import History, TrainLoss, recorded_loss
from weightcast.datasets.task import ForecastTask, Pair
from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory, block_ranges
from weightcast.methods.forecaster import CoordinateForecaster, Forecaster, OneLookForecaster


class InvalidForecast(ValueError):
    """A forecast of the wrong shape or with numbers that are not finite."""


class NeedsTruth(Protocol):
    """A reference that is told what it is to forecast."""

    def with_truth(self, pairs: Iterable[Pair]) -> Forecaster:
        """Return a copy for one forecast, after all blocks of the run, target included."""


def needs_truth(cls: type[Forecaster]) -> bool:
    """Whether a class asks for the truth; the class, for an instance's tags can be changed."""
    return "truth" in cls.get_class_tag("needs", ())


def is_told_the_truth(cls: type[Forecaster]) -> bool:
    """Whether a class is one of this package's references, and asks for the truth."""
    ours = cls.__module__.startswith("weightcast.methods.")
    return ours and needs_truth(cls) and cls.get_class_tag("role", "forecaster") == "reference"


@dataclass
class Stopwatch:
    """Wall and CPU seconds spent inside the method."""

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


@dataclass
class ForecastBlock:
    """A block's forecast.

    Attributes
    ----------
    tensor : TensorInfo
    rows : ndarray, shape (c,)
        Which coordinates of the tensor.
    last : ndarray, shape (c,)
        w_n.
    forecast : ndarray, shape (c, m)
    abstained : bool
        Whether the forecast is the last value for want of another.
    """

    tensor: TensorInfo
    rows: NDArray[np.int64]
    last: Floats
    forecast: Floats
    abstained: bool


@dataclass
class ForecastStream:
    """A method's forecast of one run; iterate over it once, then read what it cost.

    Parameters
    ----------
    method : Forecaster
        Fitted.
    run : Trajectory
    task : ForecastTask
    sample : ndarray of int, optional
        Flat indices, ascending; only these coordinates are forecast.
    loss_of : callable
        Gives a run's training loss, for a method that needs it; measured in this process by
        default.

    Attributes
    ----------
    stopwatch : Stopwatch
        Of its CPU seconds, those of training losses are there wherever they were measured.
    evaluations : int
        Training losses that the method measured.
    """

    method: Forecaster
    run: Trajectory
    task: ForecastTask
    sample: NDArray[np.int64] | None = None
    loss_of: Callable[[Trajectory], TrainLoss | None] = recorded_loss

    def __post_init__(self) -> None:
        self.stopwatch = Stopwatch()
        self.evaluations = 0

    def __iter__(self) -> Iterator[ForecastBlock]:
        method = self._told() if needs_truth(type(self.method)) else self.method
        if isinstance(method, OneLookForecaster):
            history = self._history()
            with self.stopwatch:
                method = method.look(history, self.task)
            self._count(history.loss)
            del history  # not held while blocks stream, but by a method that still needs it
        if isinstance(method, CoordinateForecaster):
            yield from self._coordinates(method)
        else:
            yield from self._network(method)

    def _told(self) -> Forecaster:
        """Show the run's future to a copy of the method, if it is one of our own references."""
        cls = type(self.method)
        if not is_told_the_truth(cls):
            raise InputError(
                f"{cls.__name__} asks for the truth, which references of this package alone are "
                "told; take 'truth' out of its tag needs"
            )
        if self.run.n_snapshots <= self.task.context + len(self.task.horizons):
            raise InputError(
                f"{cls.__name__} is told the truth, but {self.run.label} ends before the last "
                "horizon; use a method that forecasts"
            )
        with self.stopwatch:
            return cast(NeedsTruth, self.method).with_truth(self.task.pairs(self.run))

    def _coordinates(self, method: CoordinateForecaster) -> Iterator[ForecastBlock]:
        rows = range(self.task.context + 1)
        ahead = len(self.task.horizons)
        for tensor, start, stop in block_ranges(
            self.run.tensors, len(rows) + ahead, self.task.block_bytes
        ):
            indices = np.arange(start, stop)
            if self.sample is not None:
                indices = _within(self.sample, tensor, start, stop)
                if len(indices) == 0:
                    continue
            values = self.run.read(tensor, rows, start, stop)
            if self.sample is not None:
                values = values[:, indices - start]
            context = np.array(values.T, order="C")
            last = context[:, -1].copy()  # before the method can write to the context
            task = self.task.for_tensor(tensor, indices)
            with self.stopwatch:
                forecast = method.predict_block(context, task)
            yield self._block(tensor, indices, last, forecast)

    def _network(self, method: Forecaster) -> Iterator[ForecastBlock]:
        history = self._history()
        with self.stopwatch:
            forecast = method.predict(history, self.task)
        self._count(history.loss)
        for tensor in self.run.tensors:
            values = forecast.get(tensor.name)
            if values is not None:
                wanted = (len(self.task.horizons), *tensor.shape)
                if np.shape(values) != wanted:
                    raise InvalidForecast(
                        f"tensor {tensor.name}: forecast has shape {np.shape(values)}, not {wanted}"
                    )
                values = np.asarray(values).reshape(len(self.task.horizons), -1).T
            last = self.run.read(tensor, [self.task.context])[0]
            yield self._block(tensor, np.arange(tensor.size), last, values)

    def _history(self) -> History:
        needs_loss = "train-loss" in self.method.get_tag("needs")
        return History.of(self.run, self.task, self.loss_of(self.run) if needs_loss else None)

    def _count(self, loss: TrainLoss | None) -> None:
        if loss is not None:
            self.evaluations = loss.evaluations
            self.stopwatch.cpu += loss.cpu_elsewhere

    def _block(
        self,
        tensor: TensorInfo,
        rows: NDArray[np.int64],
        last: Floats,
        forecast: Floats | None,
    ) -> ForecastBlock:
        wanted = (len(rows), len(self.task.horizons))
        if forecast is None:
            repeated = np.repeat(last[:, None], wanted[1], axis=1)
            return ForecastBlock(tensor, rows, last, repeated, abstained=True)
        if np.shape(forecast) != wanted:
            raise InvalidForecast(
                f"tensor {tensor.name}: forecast has shape {np.shape(forecast)}, not {wanted}"
            )
        forecast = np.asarray(forecast, dtype=np.float32)
        if not np.isfinite(forecast).all():
            bad = int((~np.isfinite(forecast)).any(axis=1).sum())
            raise InvalidForecast(
                f"tensor {tensor.name}: the forecast is not finite for {bad} of {len(rows)} "
                "coordinates"
            )
        return ForecastBlock(tensor, rows, last, forecast, abstained=False)


def _within(
    sample: NDArray[np.int64], tensor: TensorInfo, start: int, stop: int
) -> NDArray[np.int64]:
    """Return the sampled coordinates of one block, as indices in the flattened tensor."""
    flat = sample - tensor.offset
    return flat[(flat >= start) & (flat < stop)]
