"""`snapshot-average`: the mean of the last snapshots, for every horizon alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.combination import Doubles, SnapshotCombination, window
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("snapshot-average")
class SnapshotAverage(SnapshotCombination):
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
        "reference": "Izmailov et al. 2018, arXiv 1803.05407 (SWA); Kaddour 2022, arXiv 2209.14981",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (2, 3, 4, 5, 6, 7, 8, 10)}

    def __init__(self, k: int = 3) -> None:
        self.k = k
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        k = window(self, "k", task.context + 1)
        mix = np.zeros((task.context + 1, 1))
        mix[-k:] = 1 / k
        return mix
