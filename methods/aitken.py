"""`aitken`: Aitken's Δ² limit of each coordinate, and the geometric approach to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("aitken")
class Aitken(CoordinateForecaster):
    """Approach the limit of three equally spaced snapshots at their own rate.

    With a = w_{n−k} − w_{n−2k}, b = w_n − w_{n−k} and r = b/a the limit is w* = w_n + b r/(1 − r),
    and ŵ_{n+h} = w* + (w_n − w*) r^{h/k}, (c, m) from (c, n + 1). Exact for w_t = w* + e ρ^t, each
    coordinate with a rate of its own, as long as 0 < ρ^k ≤ ``max_rate``.

    Parameters
    ----------
    lag : int or None
        k. By default, and at the most, the context's half, n // 2.
    max_rate : float
        r is cut here, between 0 and 1. Noise brings r near 1, and the limit away to infinity; at 1
        itself the forecast is the straight line through w_{n−k} and w_n.

    Notes
    -----
    A coordinate that turned round (r < 0), or that stood still over the first lag (no r), stays at
    w_n, and so do all of them where the context has fewer than three snapshots.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "exact where each coordinate has one rate",
        "provenance": "own-run-only",
        "reference": "Aitken 1926 (Δ² process)",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "lag": (None, 1, 2, 3, 5),
        "max_rate": (0.3, 0.5, 0.7, 0.9, 1.0),
    }

    def __init__(self, lag: int | None = None, max_rate: float = 0.7) -> None:
        self.lag = lag
        self.max_rate = max_rate
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        if self.lag is not None and not (isinstance(self.lag, int) and self.lag >= 1):
            raise InputError(
                f"lag of aitken is {self.lag!r}; it must be None, for half of the context, or a "
                "whole number from 1 on"
            )
        if not 0 <= self.max_rate <= 1:
            raise InputError(f"max_rate of aitken is {self.max_rate!r}; it must be from 0 to 1")
        half = (context.shape[1] - 1) // 2
        lag = half if self.lag is None else min(self.lag, half)
        if lag == 0:
            return np.repeat(context[:, -1:], len(task.horizons), axis=1).astype(np.float32)
        last, middle, first = (
            context[:, -1 - i * lag].astype(np.float64)[:, None] for i in range(3)
        )
        before, after = middle - first, last - middle  # (c, 1)
        rate = np.divide(after, before, out=np.zeros_like(after), where=before != 0)
        rate = np.clip(rate, 0.0, self.max_rate)
        spans = task.horizons.astype(np.float64) / lag
        # Within rounding of 1 the way r (1 − r^s)/(1 − r) is 0/0, and s is right.
        near_one = rate > 1.0 - 1e-9
        safe = np.where(near_one, 0.0, rate)
        reach = np.where(near_one, spans, safe * (1.0 - safe**spans) / (1.0 - safe))  # (c, m)
        forecast: Floats = (last + after * reach).astype(np.float32)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 4.0 + 6.0 * len(task.horizons)
