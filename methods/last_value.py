"""`last-value`: nothing moves any more. The baseline: its `rel` is 1 by definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("last-value")
class LastValue(CoordinateForecaster):
    """Repeat the last observed weights, ŵ_j = w_n."""

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "its relative error is 1 by definition",
        "provenance": "zero-shot",
        "scale_free": True,
        "shift_free": True,
    }

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        return np.repeat(context[:, -1:], len(task.horizons), axis=1)

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 0.0
