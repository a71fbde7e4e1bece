"""`theta`: sktime's Theta forecaster, one coordinate at a time, on the task's fixed sample."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, ClassVar

from weightcast.methods.registry import register
from weightcast.methods.sktime_adapter import SktimeAdapter


@register("theta")
class Theta(SktimeAdapter):
    """Theta: exponential smoothing with half of the trend, fitted to every coordinate's context.

    With ℓ the level of simple exponential smoothing, its weight α chosen by least squares, and b
    the slope of the least-squares line, sktime forecasts y_{n+h} = ℓ + (b/2)(h + (1 − (1 − α)^N)/α)
    from N values. Hyndman and Billah's form of the method has h − 1 where sktime has h: half a
    slope less at every horizon. Series are scaled, and failures counted, as for every sktime
    forecaster here.

    References
    ----------
    Assimakopoulos & Nikolopoulos 2000, Int. J. Forecasting 16(4); Hyndman & Billah 2003, Int. J.
    Forecasting 19(2).
    """

    depends_on = ("sktime " + version("sktime"),)

    _tags: ClassVar[dict[str, Any]] = {
        "implementation": "library",
        "tested_against": "its formula, with statsmodels' smoothing and numpy's slope",
        "reference": "Assimakopoulos & Nikolopoulos 2000; sktime.forecasting.theta",
    }

    def estimator(self, seed: int) -> Any:
        """Make sktime's forecaster; a dozen snapshots have no seasons."""
        from sktime.forecasting.theta import ThetaForecaster

        return ThetaForecaster(deseasonalize=False)

    def diagnostics(self) -> dict[str, Any]:
        return super().diagnostics() | {"estimator": "ThetaForecaster"}
