"""`nlinear`: the forecasting literature's linear baseline, relative to the last value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.lfd_full import LfdFull
from weightcast.methods.linear_map import Doubles, Gram, solve_ridge, total
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Trajectory


@register("nlinear")
class NLinear(LfdFull):
    """NLinear: Ŵ = w_n + (X − w_n)·A + b, for X = w_0..w_n; one map for all coordinates.

    The paper trains A (n + 1, m) and b by gradient descent on the mean squared error. This is that
    error's minimiser in closed form, plus α ‖A‖². It is `lfd-full` without the free coefficient
    of w_n: the forecast depends on how a weight moved, and not on how large it is.

    Parameters
    ----------
    ridge : float
        α in units of the mean diagonal of the Gram matrix of the w_t − w_n, t < n, over the
        training coordinates; the intercept is free.

    Notes
    -----
    The last input is w_n − w_n = 0, so its row of A is no parameter: (n + 1) · m are counted.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "reference": "Zeng et al. 2023, arXiv 2205.13504",
        "tested_against": "scikit-learn's Ridge, numpy",
    }

    def __init__(self, ridge: float = 0.0) -> None:
        super().__init__(ridge=ridge)

    def solve(
        self, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        return solve_ridge(total(grams), self.ridge, self.inputs(task))

    def inputs(self, task: ForecastTask) -> Doubles:
        return np.eye(task.context + 1)[:, :-1]  # all differences; w_n itself is left out

    def parameter_count(self) -> int:
        return int(self.map_[1:].size)
