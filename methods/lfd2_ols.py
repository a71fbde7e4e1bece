"""`lfd2-ols`: the 1-layer farcaster from two snapshots, by ordinary least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.linear_map import LinearMap
from weightcast.methods.registry import register


@register("lfd2-ols")
class Lfd2Ols(LinearMap):
    """LFD-2's map of (w_0, w_n) to all later weights with squared instead of absolute error."""

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        return self.fit_least_squares(train, task)
