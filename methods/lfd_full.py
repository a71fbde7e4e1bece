"""`lfd-full`: the 1-layer farcaster that sees every snapshot of the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.linear_map import LinearMap
from weightcast.methods.registry import register


@register("lfd-full")
class LfdFull(LinearMap):
    """One linear map of w_0..w_n to all later weights, by ordinary least squares.

    What LFD-2 leaves out is what this one adds: where it does better, less was not more.
    """

    def columns(self, task: ForecastTask) -> list[int]:
        return list(range(task.context + 1))

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        return self.fit_least_squares(train, task)
