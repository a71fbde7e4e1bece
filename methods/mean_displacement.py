"""`mean-displacement`: what other runs did, coordinate by coordinate. It detects leaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory


@register("mean-displacement")
class MeanDisplacement(CoordinateForecaster):
    """Add to w_n what the training runs' same coordinate moved by, on average.

    At horizon j the forecast is w_n + mean over training runs r of (w^r_{n+j} − w^r_n), for each
    coordinate apart. A reference, not a forecaster: it knows nothing but how near to each other
    runs end. On independent runs its error is about √(1 + 1/R) for R training runs, which is
    √(1 + 1/(R − 1)) where each run of R is forecast from the others: worse than the last value.
    Far below 1 it says that runs share a start, so that looking runs up is mistaken for
    forecasting; fine-tunes of one pretrained network do so by nature.

    A coordinate of another network has another meaning: on tensors that the training runs do not
    have, at the same place, it abstains.

    Attributes
    ----------
    runs_ : tuple of Trajectory
        The training runs. They are read again at every forecast, block by block, for the means of
        a large network at all horizons would not fit into memory.

    Notes
    -----
    Which coordinates a block holds stands in ``task.rows``; asked without, the method repeats w_n.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "the admission gate's own number",
        "provenance": "fit-on-train-split",
        "role": "reference",
        "reference": "mean of the training runs' displacements",
        "shift_free": True,
    }

    runs_: tuple[Trajectory, ...]

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        first = train[0]
        for run in train:
            if run.tensors != first.tensors:
                raise ValueError(
                    f"training runs {run.label} and {first.label} differ in their tensors, so "
                    "their coordinates have no mean"
                )
        self.runs_ = tuple(train)
        self._numbers = first.n_coordinates * len(task.horizons)
        return self

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        last = context[:, -1:]
        if task.tensor is not None and task.tensor not in self.runs_[0].tensors:
            return None
        if task.tensor is None or task.rows is None or len(task.rows) == 0:
            return np.repeat(last, len(task.horizons), axis=1)
        moved = self._mean(task, task.tensor, task.rows)
        forecast: Floats = (last + moved).astype(np.float32)
        return forecast

    def _mean(
        self, task: ForecastTask, tensor: TensorInfo, places: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the mean displacement from w_n at each horizon, shape (c, m)."""
        rows = range(task.context, task.context + 1 + len(task.horizons))
        start, stop = int(places[0]), int(places[-1]) + 1
        total = np.zeros((len(rows) - 1, stop - start))
        values = np.empty((len(rows), stop - start), dtype=np.float32)
        for run in self.runs_:
            if run.n_snapshots < rows.stop:
                raise ValueError(
                    f"training run {run.label} has {run.n_snapshots} snapshots, and the forecast "
                    f"reaches to snapshot {rows.stop - 1}"
                )
            run.read(tensor, rows, start, stop, out=values)
            np.add(total, values[1:], out=total)
            total -= values[0]
        total /= len(self.runs_)
        return total[:, places - start].T

    def parameter_count(self) -> int:
        return self._numbers

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * (len(self.runs_) + 1) * len(task.horizons)

    def diagnostics(self) -> dict[str, Any]:
        return {"training_runs": len(self.runs_)}
