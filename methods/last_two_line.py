"""`last-two-line`: go on as in the last snapshot interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("last-two-line")
class LastTwoLine(CoordinateForecaster):
    """Extend the line through the last two snapshots, ŵ_{n+h} = w_n + h (w_n − w_{n−1})."""

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "exact on straight lines",
        "provenance": "zero-shot",
        "scale_free": True,
        "shift_free": True,
    }

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        step = context[:, -1:] - context[:, -2:-1]
        forecast: Floats = context[:, -1:] + step * task.horizons
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 1.0 + 2.0 * len(task.horizons)
