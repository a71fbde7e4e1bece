"""`weight-merge`: the merge of snapshots that stands for a falling learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import unknown
from weightcast.methods.combination import Doubles, SnapshotCombination, window
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask

#: What is left of the rate after a share of the fall, 1 at 0 and 0 at 1.
FALLS: dict[str, Callable[[Doubles], Doubles]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + np.cos(np.pi * share)) / 2,
    "sqrt": lambda share: 1 - np.sqrt(share),
}


@register("weight-merge")
class WeightMerge(SnapshotCombination):
    """Forecast Σ_j c_j w_j, what the last updates would have led to at a falling learning rate.

    Over the last k snapshots the update from w_i to w_{i+1} counts d_i times, d falling towards 0,
    as it would were the rate d_i times as large and the gradients the same: w + Σ d_i (w_{i+1} −
    w_i), which is the merge with c_j = d_{j−1} − d_j. A linear fall is the plain mean of the k
    snapshots, as in ``snapshot-average``.

    Parameters
    ----------
    k : int
        Snapshots merged; n + 1 at the most.
    fall : str
        ``"linear"``, ``"cosine"``, or ``"sqrt"``, 1 − √share.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "updates replayed in a loop",
        "reference": "Tian et al. 2025, arXiv 2507.17634 (WSM)",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "k": (3, 5, 7, 10),
        "fall": ("cosine", "sqrt"),
    }

    def __init__(self, k: int = 5, fall: str = "sqrt") -> None:
        self.k = k
        self.fall = fall
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        if self.fall not in FALLS:
            raise unknown("fall of weight-merge", self.fall, FALLS)
        k = window(self, "k", task.context + 1)
        left = FALLS[self.fall](np.arange(k + 1) / k)  # before the first update 1, after all 0
        mix = np.zeros((task.context + 1, 1))
        mix[-k:, 0] = left[:-1] - left[1:]
        return mix
