"""`snapshot-average`: the mean of the last snapshots, for every horizon alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("snapshot-average")
class SnapshotAverage(CoordinateForecaster):
    """Forecast (w_{n−k+1} + … + w_n)/k at every horizon.

    What weight averaging reads out in place of w_n. It goes nowhere, it takes the noise of
    mini-batches away; as a forecast it is for runs that circle about their end.

    Parameters
    ----------
    k : int
        Snapshots averaged; n + 1 at the most.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "numpy.mean",
        "provenance": "zero-shot",
        "reference": "Izmailov et al. 2018, arXiv 1803.05407 (SWA); Kaddour 2022, arXiv 2209.14981",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (2, 3, 4, 5, 6, 7, 8, 10)}

    def __init__(self, k: int = 3) -> None:
        self.k = k
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        if not (isinstance(self.k, int) and self.k >= 1):
            raise InputError(
                f"k of snapshot-average is {self.k!r}; it must be a whole number from 1 on"
            )
        mean = context[:, -self.k :].mean(axis=1, keepdims=True, dtype=np.float64)
        return np.repeat(mean.astype(np.float32), len(task.horizons), axis=1)

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return float(self.k)
