"""`lfd-full`: the 1-layer farcaster that sees every snapshot of the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from weightcast.methods.linear_map import (
    Doubles,
    Gram,
    LinearMap,
    check_ridge,
    solve_normal,
    solve_ridge,
    total,
)
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Trajectory


@register("lfd-full")
class LfdFull(LinearMap):
    """One linear map of w_0..w_n to all later weights, by least squares; (n + 2) · m parameters.

    What LFD-2 leaves out is what this one adds: where it does better, less was not more.

    Parameters
    ----------
    per_tensor, target
        As in `lfd2`; ``target`` matters only with a ridge.
    ridge : float
        α ‖A‖² is added to the squared error, α in units of the mean diagonal of XᵀX over the
        training coordinates; the intercept is free.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "scikit-learn's LinearRegression and Ridge"
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "ridge": (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    }

    def __init__(
        self, per_tensor: bool = False, target: str = "displacements", ridge: float = 0.0
    ) -> None:
        self.ridge = ridge
        super().__init__(per_tensor=per_tensor, target=target)

    def sampled(self, task: ForecastTask) -> list[int]:
        return list(range(task.context + 1))

    def check(self) -> None:
        super().check()
        check_ridge(self.ridge)

    def solve(
        self, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        sums = total(grams)
        if self.ridge == 0:
            return solve_normal(sums.gram, sums.moment)
        return solve_ridge(sums, self.ridge, self.inputs(task), values=self.target == "values")

    def inputs(self, task: ForecastTask) -> Doubles | None:
        """Return what the ridge weighs, as combinations of the features; None: the snapshots."""
        return None
