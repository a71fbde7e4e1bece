"""`ar1`: a first-order autoregression of the differences, in closed form for all coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("ar1")
class Ar1(CoordinateForecaster):
    """Least-squares AR(1) on the differences of each coordinate, without a constant.

    With Δ_t = w_t − w_{t−1}, φ = Σ Δ_t Δ_{t−1} / Σ Δ_{t−1}² and
    ŵ_{n+h} = w_n + Δ_n Σ_{i=1..h} φ^i.

    Parameters
    ----------
    max_rate : float
        |φ| is cut here. Above 1 a forecast grows without bound, and a handful of such coordinates
        would be the whole error.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "statsmodels' AutoReg",
        "provenance": "own-run-only",
        "reference": "conditional least squares, Hamilton 1994, ch. 5",
        "scale_free": True,
        "shift_free": True,
    }

    def __init__(self, max_rate: float = 1.0) -> None:
        self.max_rate = max_rate
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        steps = np.diff(context.astype(np.float64), axis=1)  # (c, n)
        before, after = steps[:, :-1], steps[:, 1:]
        power = np.einsum("ct,ct->c", before, before)
        with np.errstate(divide="ignore", invalid="ignore"):
            phi = np.einsum("ct,ct->c", before, after) / power
        # A coordinate that has not moved has no rate; its last step is zero anyway.
        phi = np.clip(np.where(power > 0, phi, 0.0), -self.max_rate, self.max_rate)
        # Σ φ^i has a removable singularity at 1: below, the ratio is 0/0 there and h is right.
        h = task.horizons.astype(np.float64)
        near_one = np.abs(1.0 - phi) < 1e-9
        rate = np.where(near_one, 0.0, phi)[:, None]
        reach = np.where(near_one[:, None], h, rate * (1.0 - rate**h) / (1.0 - rate))  # (c, m)
        forecast: Floats = (context[:, -1:] + steps[:, -1:] * reach).astype(np.float32)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 5.0 * task.context + 6.0 * len(task.horizons)
