"""`dlinear`: the forecasting literature's linear baseline, trend and remainder apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.lfd_full import LfdFull
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.methods.linear_map import Doubles


@register("dlinear")
class DLinear(LfdFull):
    """DLinear: Ŵ = S·A_s + b_s + R·A_r + b_r, trend S and remainder R = X − S of the context X.

    S is the moving average of the n + 1 snapshots, the first and the last repeated beyond the ends.
    The two layers, (n + 1) × m each, are shared by all coordinates.

    The paper trains them by gradient descent on the mean squared error. This is that error's
    minimiser in closed form, plus α (‖A_s‖² + ‖A_r‖²).

    Parameters
    ----------
    kernel : int
        Snapshots in the moving average, odd. 25 is the paper's, for contexts of hundreds of values;
        on short ones the repeated end values weigh much.
    ridge : float
        α in units of the mean diagonal of [S R]ᵀ[S R] over the training coordinates; the
        intercepts are free.

    Notes
    -----
    Since S + R = X, S·A_s + R·A_r is one linear map of X, and every linear map of X can be so
    written in many ways: the joint least squares problem has rank n + 2 at most, not 2 (n + 2).
    Hence, with ``ridge=0``, the kernel drops out and the forecasts are those of `lfd-full` without
    ridge, a linear map of the whole context. A ridge picks one of the many ways, the one with the
    smallest layers, and is all that tells the two methods apart: `lfd-full` weighs the coefficients
    of the snapshots and draws its forecast towards w_n; this one weighs those of trend and
    remainder, which makes maps that are smooth in time cheaper than others, and draws its forecast
    towards the intercepts, since DLinear, unlike NLinear, has no tie to w_n. What is stored, and
    counted as parameters, is the one map of (n + 2) · m numbers that the two layers come to.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "reference": "Zeng et al. 2023, arXiv 2205.13504",
        "tested_against": "scikit-learn's Ridge",
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "kernel": (5, 25),
        "ridge": (0.0, 1e-5, 1e-4, 1e-3),
    }

    def __init__(self, kernel: int = 25, ridge: float = 1e-4) -> None:
        self.kernel = kernel
        super().__init__(target="values", ridge=ridge)

    def check(self) -> None:
        super().check()
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"kernel {self.kernel} is not an odd number of snapshots, 1 or more")

    def inputs(self, task: ForecastTask) -> Doubles:
        count = task.context + 1
        smooth = moving_average(count, self.kernel)
        snapshots = np.eye(count)
        snapshots[-1] = 1.0  # w_t = (w_t − w_n) + w_n
        both: Doubles = snapshots @ np.hstack([smooth.T, (np.eye(count) - smooth).T])
        return both


def moving_average(count: int, kernel: int) -> Doubles:
    """Return the matrix (count, count) that smooths a series whose end values go on beyond it.

    >>> moving_average(3, 3) * 3
    array([[2., 1., 0.],
           [1., 1., 1.],
           [0., 1., 2.]])
    """
    smooth = np.zeros((count, count))
    middle = np.arange(count)
    for offset in range(-(kernel // 2), kernel // 2 + 1):
        smooth[middle, np.clip(middle + offset, 0, count - 1)] += 1.0 / kernel
    return smooth
