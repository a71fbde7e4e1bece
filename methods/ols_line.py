"""`ols-line`: the least-squares line through the whole context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("ols-line")
class OlsLine(CoordinateForecaster):
    """Extend the ordinary least-squares line through w_0..w_n, one line a coordinate.

    The forecast is the line's own value at n + h; it does not start from w_n, so it also smooths
    the noise in the last snapshot.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "numpy.polyfit",
        "provenance": "zero-shot",
        "scale_free": True,
        "shift_free": True,
    }

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        n = context.shape[1] - 1
        design = np.stack([np.ones(n + 1), np.arange(-n, 1.0)], axis=1)  # (n + 1, 2)
        ahead = np.stack([np.ones(len(task.horizons)), task.horizons], axis=1)  # (m, 2)
        # The forecast is linear in the context, with weights that no coordinate changes.
        weights = (np.linalg.pinv(design).T @ ahead.T).astype(np.float32)  # (n + 1, m)
        # The weights of a horizon sum to one, so differences from w_n keep float32 digits.
        last = context[:, -1:]
        forecast: Floats = last + (context - last) @ weights
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * (task.context + 1) * len(task.horizons)
