"""What the desk answers while a session is open: numbers, losses, and blocks that it takes.

Every question comes from a method's process, which is not trusted: its form is checked, and what
may not be seen is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weightcast.bench.engine.failure import Failure, failure_of
from weightcast.bench.scoring.border.offers import RunOffer
from weightcast.bench.scoring.border.wire import Message
from weightcast.bench.scoring.forecasting import ForecastBlock, InvalidForecast
from weightcast.datasets.errors import InputError
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import BLOCK_BYTES, Floats, Metadata, TensorInfo, Trajectory

#: The data set that every task and run is said to be of.
NO_NAME = "withheld"

Whole = Annotated[int, Field(ge=0)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    session: int


class _Read(_Asked):
    run: Whole
    tensor: str
    snapshots: list[Whole]
    start: Whole
    stop: Whole


class _Loss(_Asked):
    run: Whole
    names: list[str]


class _Block(_Asked):
    number: Whole
    tensor: str
    start: Whole
    stop: Whole


class Readable:
    """A run at the desk, and how much of it may be seen.

    Parameters
    ----------
    run : Trajectory
    seed : int
        What it is told to be: its place among the runs of its session.
    snapshots : int
        How many of the first may be read.
    evaluator : callable, optional
        Gives what measures its training loss, None where that cannot be.
    """

    def __init__(
        self,
        run: Trajectory,
        seed: int,
        snapshots: int,
        evaluator: Callable[[], Evaluator | None] | None = None,
    ) -> None:
        self.run, self._seed, self._snapshots, self._evaluator = run, seed, snapshots, evaluator
        # In a window the run's own first snapshot is another one.
        self._first = run.initial() if type(run).initial is not Trajectory.initial else None

    def offer(self, place: int) -> RunOffer:
        """Describe the run under no name."""
        run = self.run
        return RunOffer(
            place=place,
            tensors=run.tensors,
            steps=tuple(run.steps[: self._snapshots].tolist()),
            meta=_without_origin(run.meta, self._seed, self._snapshots),
            own_first=self._first is not None,
            has_loss=self._evaluator is not None and bool(run.meta.recipe),
        )

    def read(self, asked: _Read) -> Floats:
        """Read what may be seen."""
        info = self._tensor(asked.tensor)
        count = len(asked.snapshots) * (asked.stop - asked.start)
        if not asked.start <= asked.stop <= info.size or 4 * count > 2 * BLOCK_BYTES:
            raise InputError(f"tensor {info.name} has no coordinates {asked.start}..{asked.stop}")
        found = np.empty((len(asked.snapshots), asked.stop - asked.start), np.float32)
        for row, snapshot in enumerate(asked.snapshots):
            if snapshot < self._snapshots:
                self.run.read(info, [snapshot], asked.start, asked.stop, out=found[row : row + 1])
            elif snapshot == self._snapshots and self._first is not None:
                found[row] = self._first[info.name].reshape(-1)[asked.start : asked.stop]
            else:
                raise InputError(
                    f"snapshot {snapshot} is not to be seen; there are {self._snapshots}"
                )
        return found

    def loss(self, weights: dict[str, Floats]) -> float:
        """Measure the training loss."""
        evaluator = self._evaluator() if self._evaluator is not None else None
        if evaluator is None:
            raise InputError("the training loss of this run cannot be measured")
        wanted = {info.name: info.shape for info in self.run.tensors}
        if {name: values.shape for name, values in weights.items()} != wanted:
            raise InputError("these are not the network's weights, one array a tensor")
        return evaluator.train_loss(weights)

    def _tensor(self, name: str) -> TensorInfo:
        for info in self.run.tensors:
            if info.name == name:
                return info
        raise InputError(f"the run has no tensor {name!r}")


class Incoming:
    """The blocks of one forecast: in the tensors' order, no coordinate twice.

    Parameters
    ----------
    run : Trajectory
        That is forecast.
    task : ForecastTask
    sample : ndarray of int, optional
        The only coordinates that are asked for.
    take : callable
        Gets each block, with w_n as the run has it.
    """

    def __init__(
        self,
        run: Trajectory,
        task: ForecastTask,
        sample: NDArray[np.int64] | None,
        take: Callable[[ForecastBlock], None],
    ) -> None:
        self._run, self._task, self._sample, self._take = run, task, sample, take
        self._next, self._count = 0, 0
        self._by_name = {info.name: info for info in run.tensors}

    def add(self, asked: _Block, arrays: tuple[Floats, ...]) -> None:
        """Take a block.

        Raises
        ------
        InvalidForecast
            If it is none.
        """
        info = self._by_name.get(asked.tensor)
        if info is None or not asked.start < asked.stop <= info.size:
            raise InvalidForecast(f"a forecast of coordinates that {asked.tensor!r} does not have")
        if info.offset + asked.start < self._next:
            raise InvalidForecast(f"tensor {info.name}: coordinates are forecast twice")
        rows = np.arange(asked.start, asked.stop)
        if self._sample is not None:
            flat = self._sample - info.offset
            rows = flat[(flat >= asked.start) & (flat < asked.stop)]
        if len(rows) == 0:
            raise InvalidForecast(f"tensor {info.name}: a forecast of what was not asked for")
        last = self._run.read(info, [self._task.context], asked.start, asked.stop)[0]
        last = last[rows - asked.start]
        self._take(ForecastBlock(info, rows, last, *self._values(info, last, arrays)))
        self._next = info.offset + asked.stop
        self._count += len(rows)

    def missing(self) -> str:
        """Say how much has not come, if anything."""
        wanted = self._run.n_coordinates if self._sample is None else len(self._sample)
        if self._count == wanted:
            return ""
        return f"the forecast has {self._count} of {wanted} coordinates"

    def _values(
        self, info: TensorInfo, last: Floats, arrays: tuple[Floats, ...]
    ) -> tuple[Floats, bool]:
        wanted = (len(last), len(self._task.horizons))
        if not arrays:
            return np.repeat(last[:, None], wanted[1], axis=1), True
        (forecast,) = arrays
        if forecast.shape != wanted or forecast.dtype != np.float32:
            raise InvalidForecast(
                f"tensor {info.name}: forecast has shape {forecast.shape}, not {wanted}"
            )
        if not np.isfinite(forecast).all():
            raise InvalidForecast(f"tensor {info.name}: the forecast is not finite")
        return forecast, False


class Session:
    """What may be asked until the next session begins.

    Parameters
    ----------
    number : int
    runs : list of Readable
    incoming : list of Incoming
        What each number of a block means.

    Attributes
    ----------
    evaluations : int
        Training losses measured so far.
    failure : Failure or None
        Why no more is answered.
    """

    def __init__(self, number: int, runs: list[Readable], incoming: list[Incoming]) -> None:
        self.number, self._runs, self.incoming = number, runs, incoming
        self.evaluations = 0
        self.failure: Failure | None = None
        self._answers: dict[str, Callable[[Message], Message]] = {
            "read": self._read,
            "loss": self._loss,
            "block": self._block,
        }

    @property
    def most(self) -> int:
        """Bytes that a question may have."""
        largest = max((readable.run.n_coordinates for readable in self._runs), default=0)
        return max(2 * BLOCK_BYTES, 4 * largest)

    def answer(self, message: Message) -> Message:
        """Answer a question; what cannot be answered is refused, or ends the session."""
        if self.failure is not None:
            return Message("failed", {})
        try:
            return self._answers[message.word](message)
        except (InputError, ValidationError, KeyError, IndexError, ValueError) as error:
            return Message("refused", {"reason": " ".join(str(error).split())})
        except Exception as error:  # ours, or a lack of memory
            self.failure = failure_of(error, InvalidForecast)
            return Message("failed", {})

    def _read(self, message: Message) -> Message:
        asked = _Read(**message.values)
        return Message("numbers", {}, [self._runs[asked.run].read(asked)])

    def _loss(self, message: Message) -> Message:
        asked = _Loss(**message.values)
        self.evaluations += 1
        weights = dict(zip(asked.names, message.arrays, strict=True))
        began = time.thread_time()
        value = self._runs[asked.run].loss(weights)
        return Message("measured", {"loss": value, "cpu_seconds": time.thread_time() - began})

    def _block(self, message: Message) -> Message:
        asked = _Block(**message.values)
        try:
            self.incoming[asked.number].add(asked, tuple(message.arrays))
        except InvalidForecast as error:
            self.failure = replace(failure_of(error, InvalidForecast), traceback="")
            return Message("failed", {})
        return Message("taken", {})


def _without_origin(meta: Metadata, seed: int, snapshots: int) -> Metadata:
    """Return what may be known of a run beside its weights."""

    def seen(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[:snapshots])

    return Metadata(
        NO_NAME,
        seed,
        optimizer=meta.optimizer,
        hyperparameters=dict(meta.hyperparameters),
        learning_rates=tuple(meta.learning_rates),
        batch_size=meta.batch_size,
        steps_per_epoch=meta.steps_per_epoch,
        train_loss=seen(meta.train_loss),
        train_accuracy=seen(meta.train_accuracy),
        seconds_per_step=meta.seconds_per_step,
        flops_per_step=meta.flops_per_step,
    )
