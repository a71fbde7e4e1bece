"""`quadratic`: the least-squares parabola through the last snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.combination import Doubles, SnapshotCombination, polynomial, window
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("quadratic")
class Quadratic(SnapshotCombination):
    """Extend the least-squares parabola through the last k snapshots, one a coordinate.

    k = 3 is the parabola through three snapshots; two snapshots have a line. The paper named leaps
    along a quadratic forecast and keeps a leap only if a check of the loss allows it, which here is
    the loop tier's ``if-better``. Its own formula was not compared with this one.

    Parameters
    ----------
    k : int
        Snapshots that the parabola is fitted to; n + 1 at the most.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "numpy.polyfit",
        "reference": "finite differences; used for leaps in Leap+Verify 2026, arXiv 2602.19580",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (3, 4, 5, 6, 7, 8, 9, 11)}

    def __init__(self, k: int = 11) -> None:
        self.k = k
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        n = task.context
        k = window(self, "k", n + 1, least=3)
        times = np.arange(1.0 - k, 1.0)
        mix = np.zeros((n + 1, len(task.horizons)))
        mix[-k:] = polynomial(times, task.horizons.astype(np.float64), min(2, k - 1))
        return mix
