"""`sktime:Class(params)`: any sktime forecaster, one coordinate at a time, on a fixed sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.methods.adapted import Adapter, param_names
from weightcast.methods.library_class import find_class, make_instance, silence

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory
    from weightcast.methods.adapter_name import AdapterName


class SktimeAdapter(Adapter):
    """An sktime forecaster, fitted anew to the context of every coordinate.

    It gets the series y_t = 1 + (w_t − min)/r for t = 0..n, with min and r = max − min taken over
    the context, and is asked for all horizons of the task: ŵ_{n+j} = w_n + r (ŷ_{n+j} − y_n).
    Between 1 and 2, a series suits optimizers whose tolerances are absolute, and forecasters that
    multiply or take logarithms, as `ThetaForecaster` does when it looks for seasons.

    Attributes
    ----------
    forecasts_, failures_ : int
        Coordinates that were forecast, and those of them that keep their last value because the
        forecaster raised or its forecast was not finite. Coordinates that did not move stay and are
        not counted.

    Notes
    -----
    A coordinate takes milliseconds to seconds, so the benchmark runs the method on its fixed
    sample of coordinates. `fit` forecasts one smooth series of the context's length, so that a
    forecaster that cannot work at all, for want of a longer context, say, fails as a whole and does
    not pass for the last value.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "own-run-only",
        "sampled": True,
        "scale_free": True,
        "shift_free": True,
    }

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        self.forecasts_, self.failures_ = 0, 0
        smooth = 1.0 + np.power(0.8, np.arange(task.context + 1), dtype=np.float64)
        try:
            self._forecast(smooth, task)
        except Exception as error:
            raise RuntimeError(
                f"{self.spec} cannot forecast a smooth series of {task.context + 1} values: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        values = context.astype(np.float64)
        low, scale = values.min(axis=1, keepdims=True), np.ptp(values, axis=1)
        forecast = np.repeat(context[:, -1:], len(task.horizons), axis=1)
        for row in np.flatnonzero(scale > 0):
            self.forecasts_ = getattr(self, "forecasts_", 0) + 1
            series = 1.0 + (values[row] - low[row]) / scale[row]
            try:
                path = self._forecast(series, task)
            except MemoryError:
                raise
            except Exception:
                path = np.full(forecast.shape[1], np.nan)
            with np.errstate(all="ignore"):
                ahead = (values[row, -1] + (path - series[-1]) * scale[row]).astype(np.float32)
            if np.isfinite(ahead).all():
                forecast[row] = ahead
            else:
                self.failures_ = getattr(self, "failures_", 0) + 1
        return forecast

    def _forecast(self, series: NDArray[np.float64], task: ForecastTask) -> NDArray[np.float64]:
        import pandas as pd

        with silence(), np.errstate(all="ignore"):
            made = self.estimator(task.seed)
            made.fit(pd.Series(series), fh=task.horizons.astype(int).tolist())
            path = np.asarray(made.predict(), dtype=np.float64)
        return path.reshape(len(task.horizons))

    def diagnostics(self) -> dict[str, Any]:
        return {
            "estimator": str(self.spec),
            "forecasts": getattr(self, "forecasts_", 0),
            "failures": getattr(self, "failures_", 0),
        }


#: The class that those of all names derive from.
BASE = SktimeAdapter


def adapt(spec: AdapterName) -> type[Adapter]:
    """Make the forecaster of a name.

    Raises
    ------
    InputError
        If sktime has no such forecaster, or the forecaster refuses the
        parameters or needs another package.
    """
    with silence():
        from sktime.forecasting.base import BaseForecaster
        from sktime.utils.dependencies import _check_estimator_deps

    cls = find_class(
        spec, "sktime.forecasting", "forecaster", lambda c: issubclass(c, BaseForecaster), _names
    )
    made = make_instance(cls, spec, param_names(cls))
    if not _check_estimator_deps(made, severity="none"):
        needed = cls.get_class_tag("python_dependencies") or cls.get_class_tag("python_version")
        packages = [needed] if isinstance(needed, str) else needed
        raise InputError(
            f"sktime:{spec.class_name} needs what is not installed: {', '.join(map(str, packages))}"
        )
    return SktimeAdapter.made_for(spec, cls, "sktime")


def _names() -> Iterable[str]:
    with silence():
        from sktime.registry import all_estimators

        return [name for name, _ in all_estimators("forecaster", return_names=True)]
