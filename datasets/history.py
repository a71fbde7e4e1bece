"""The History: all that a forecaster sees of the run it has to forecast.

A History owns a copy of the context and nothing else of the weights: no path, no seed and no view
into a larger array leads from it to a snapshot after the origin. What a method may not see is not
hidden from it here; it is not there. The copy of a large network's context is an unnamed file, out
of which tensors are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.files.context_file import ContextFile, WeightsOnDisk
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory, block_ranges

#: Bytes of context that are held in memory at the most.
IN_MEMORY = 2**29


#: Measures the training loss at some weights, one array a tensor.
Measure = Callable[[Mapping[str, Floats]], float]


class TrainLoss:
    """The run's own training loss as a function of its weights; every call is counted.

    Parameters
    ----------
    measure : callable

    Attributes
    ----------
    evaluations : int
        Calls so far; the benchmark charges them as compute.
    cpu_elsewhere : float
        CPU seconds that they took in another process.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self.evaluations = 0
        self.cpu_elsewhere = 0.0

    def __call__(self, weights: Mapping[str, Floats]) -> float:
        """Return the training loss at the given weights, one array a tensor."""
        self.evaluations += 1
        return self._measure(weights)


def recorded_loss(run: Trajectory) -> TrainLoss | None:
    """Rebuild a run's training loss in this process; None where its recipe is not known."""
    evaluator = evaluator_for(run.meta, with_test=False)
    return TrainLoss(evaluator.train_loss) if evaluator else None


@dataclass
class History:
    """One test run up to its origin.

    Attributes
    ----------
    tensors : tuple of TensorInfo
    weights : mapping of str to ndarray, each (n + 1, *shape) float32
        The context w_0..w_n; in a large one each array is read when it is asked for.
    initial : mapping of str to ndarray, each (*shape)
        The run's very first snapshot.
    steps : ndarray, shape (n + 1,)
    train_loss : ndarray, shape (n + 1,)
        Training loss at w_0..w_n; empty where it was not recorded. There is no test loss.
    optimizer : str
    loss : TrainLoss or None
        For methods that declare the need ``"train-loss"``, and only where the run can be rebuilt.
    """

    tensors: tuple[TensorInfo, ...]
    weights: Mapping[str, Floats]
    initial: Mapping[str, Floats]
    steps: NDArray[np.int64]
    train_loss: NDArray[np.float64]
    optimizer: str = "unknown"
    loss: TrainLoss | None = field(default=None, repr=False)

    @classmethod
    def of(cls, run: Trajectory, task: ForecastTask, loss: TrainLoss | None = None) -> History:
        """Copy a run's context out of its trajectory."""
        rows = range(task.context + 1)
        weights: Mapping[str, Floats]
        initial: Mapping[str, Floats]
        if 4 * len(rows) * run.n_coordinates > IN_MEMORY:
            file = ContextFile(run, len(rows))
            weights = WeightsOnDisk(file, run.tensors)
            initial = WeightsOnDisk(file, run.tensors, len(rows))
        else:
            initial = run.initial()
            weights = {
                info.name: run.read(info, rows).reshape(len(rows), *info.shape)
                for info in run.tensors
            }
        return cls(
            tensors=run.tensors,
            weights=weights,
            initial=initial,
            steps=task.context_steps.copy(),
            train_loss=np.asarray(run.meta.train_loss[: task.context + 1], dtype=np.float64),
            optimizer=run.meta.optimizer,
            loss=loss,
        )

    @property
    def last(self) -> dict[str, Floats]:
        """The last observed weights w_n, one array a tensor."""
        return self.snapshot(-1)

    def snapshot(self, index: int) -> dict[str, Floats]:
        """Return one snapshot of the context, one array a tensor."""
        row = range(len(self.steps))[index]
        if isinstance(self.weights, WeightsOnDisk):
            return dict(WeightsOnDisk(self.weights.file, self.tensors, row))
        return {name: array[row] for name, array in self.weights.items()}

    def blocks(self, max_bytes: int) -> Iterator[tuple[TensorInfo, int, Floats]]:
        """Walk the context in blocks: tensor, first coordinate, values (c, n + 1)."""
        rows = range(len(self.steps))
        for info, start, stop in block_ranges(self.tensors, len(rows), max_bytes):
            if isinstance(self.weights, WeightsOnDisk):
                values = self.weights.file.read(info, rows, start, stop)
            else:
                values = self.weights[info.name].reshape(len(rows), -1)[:, start:stop]
            yield info, start, values.T
