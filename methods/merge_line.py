"""`merge-line`: on along the line through two merges of snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.combination import Doubles, SnapshotCombination, window
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("merge-line")
class MergeLine(SnapshotCombination):
    """Forecast m_B + α (m_B − m_A) at every horizon, m_B the mean of the last k snapshots.

    m_A is the mean of the k snapshots before those. Merges of checkpoints are said to lie near a
    line; this goes on along it, by the same length whatever the horizon, as one model that is read
    out. α = 0 is ``snapshot-average``.

    Parameters
    ----------
    k : int
        Snapshots in each merge; half of the context's at the most.
    alpha : float
        How far, in distances of the two merges.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "numpy.mean; exact on lines",
        "reference": "Extra-Merge 2026, arXiv 2605.26484",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (3, 5), "alpha": (0.5, 1.0, 2.0, 4.0)}

    def __init__(self, k: int = 5, alpha: float = 1.0) -> None:
        self.k = k
        self.alpha = alpha
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        k = window(self, "k", (task.context + 1) // 2)
        mix = np.zeros((task.context + 1, 1))
        mix[-k:] = (1 + self.alpha) / k
        mix[-2 * k : -k] = -self.alpha / k
        return mix
