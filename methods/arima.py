"""`arima`: statsmodels' ARIMA, one coordinate at a time, on the task's fixed sample."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("arima")
class Arima(CoordinateForecaster):
    """ARIMA(p, d, q) by maximum likelihood, fitted anew to the context of every coordinate.

    Parameters
    ----------
    order : tuple of int
        (p, d, q). A difference takes the place of a constant: weights have no fixed level.

    Notes
    -----
    A coordinate takes tens of milliseconds, so a network of a million would take hours. The
    benchmark therefore runs the method on one fixed random sample of coordinates and gives every
    other method's error on the same sample beside it. Each series is scaled by its own spread
    before the fit, because the optimizer's tolerances are absolute; where a fit fails or its
    forecast is not finite, the coordinate keeps its last value.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "implementation": "library",
        "tested_against": "statsmodels, called apart",
        "provenance": "own-run-only",
        "reference": "Box & Jenkins 1970; statsmodels.tsa.arima",
        "sampled": True,
        "scale_free": True,
        "shift_free": True,
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "order": (
            (1, 1, 0),
            (0, 2, 1),
            (2, 1, 0),
            (1, 1, 1),
            (0, 1, 1),
            (3, 1, 0),
            (1, 2, 1),
            (1, 0, 0),
        )
    }

    def __init__(self, order: tuple[int, int, int] = (1, 1, 0)) -> None:
        self.order = order
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        from statsmodels.tsa.arima.model import ARIMA

        ahead = int(task.horizons[-1])
        rows = task.horizons.astype(int) - 1
        last = context[:, -1:].astype(np.float64)
        forecast = np.repeat(last, len(rows), axis=1)
        series = context - last
        spread = np.abs(series).max(axis=1)
        for index in np.flatnonzero(spread > 0):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                # Eleven points often end in a convergence warning; the forecast still counts.
                warnings.simplefilter("ignore")
                try:
                    model = ARIMA(
                        series[index] / spread[index],
                        order=tuple(self.order),
                        enforce_stationarity=True,
                        enforce_invertibility=True,
                    )
                    path = model.fit().forecast(ahead)[rows]
                except (np.linalg.LinAlgError, ValueError, IndexError):
                    continue
            if np.isfinite(path).all():
                forecast[index] += path * spread[index]
        return forecast.astype(np.float32)
