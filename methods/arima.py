"""`arima`: statsmodels' ARIMA, one coordinate at a time, on the task's fixed sample."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.rel import RelSums
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register
from weightcast.methods.training import draw_rows

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory

Order = tuple[int, int, int]


@register("arima")
class Arima(CoordinateForecaster):
    """ARIMA(p, d, q) by maximum likelihood, fitted anew to the context of every coordinate.

    Parameters
    ----------
    order : tuple of int or None
        (p, d, q). A difference takes the place of a constant: weights have no fixed level. None:
        of ``orders`` the one with the lowest median `rel_sum` over the validation runs.
    orders : sequence of tuple
        Candidates; the first is kept where validation runs tell nothing.
    coordinates : int
        Candidates are compared on so many coordinates, as many of each validation run, drawn the
        same whatever the task's seed.

    Attributes
    ----------
    order_ : tuple of int
        The order that is used.
    errors_ : dict of str to float
        Each candidate's median `rel_sum`; empty where nothing was to choose.

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
        "provenance": "fit-on-train-split",
        "reference": "Box & Jenkins 1970; statsmodels.tsa.arima",
        "sampled": True,
        "scale_free": True,
        "shift_free": True,
    }

    def __init__(
        self,
        order: Order | None = None,
        orders: Sequence[Order] = ((1, 1, 0), (2, 1, 0), (1, 1, 1), (0, 2, 1)),
        coordinates: int = 48,
    ) -> None:
        self.order = order
        self.orders = orders
        self.coordinates = coordinates
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        candidates = [self.order] if self.order is not None else list(self.orders)
        if not candidates or not all(_is_order(order) for order in candidates):
            raise InputError(
                f"orders of arima are {candidates}; give three whole numbers from 0 up each, "
                "such as [1, 1, 0]"
            )
        # A suite's TOML gives lists; they are tuples from here on.
        candidates = [(p, d, q) for p, d, q in candidates]
        self.order_: Order = candidates[0]
        self.errors_: dict[str, float] = {}
        if self.order is not None:
            self.set_tags(provenance="own-run-only")
        if len(candidates) > 1:
            self._choose(candidates, validation, task)
        return self

    def _choose(
        self, candidates: Sequence[Order], validation: Sequence[Trajectory], task: ForecastTask
    ) -> None:
        # Not the task's seed: the choice is the same under all, so that one fit stands for them.
        random = np.random.default_rng(0)
        each = max(1, round(self.coordinates / max(1, len(validation))))
        # In one order, whatever order runs come in: else others would be drawn of each.
        runs = sorted(validation, key=lambda run: run.meta.seed)
        drawn = [draw_rows([run], task, each, random)[""].values for run in runs]
        best = np.inf
        for order in candidates:
            errors = [_error(rows, task, order) for rows in drawn]
            # A run whose coordinates stay where they are has no error to choose by.
            moving = [error for error in errors if np.isfinite(error)]
            if not moving:
                continue
            error = float(np.median(moving))
            self.errors_[str(order)] = error
            if error < best:
                best, self.order_ = error, order

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        return _forecast(context, task, self.order_)

    def diagnostics(self) -> dict[str, Any]:
        return {"order": list(self.order_), "rel_sum": self.errors_}


def _is_order(order: Any) -> bool:
    if not isinstance(order, Sequence) or len(order) != 3:
        return False
    return all(isinstance(part, int) and part >= 0 for part in order)


def _error(rows: Floats, task: ForecastTask, order: Order) -> float:
    """Return the `rel_sum` on coordinates given from w_0 to the last horizon, (c, T)."""
    context, target = rows[:, : task.context + 1], rows[:, task.context + 1 :]
    sums = RelSums(len(task.horizons))
    sums.add(_forecast(context, task, order), target, context[:, -1])
    return float(sums.rel_sum())


def _forecast(context: Floats, task: ForecastTask, order: Order) -> Floats:
    """Forecast coordinates (c, n + 1), each by a model of its own: (c, m)."""
    from statsmodels.tsa.arima.model import ARIMA

    ahead = int(task.horizons[-1])
    wanted = task.horizons.astype(int) - 1
    last = context[:, -1:].astype(np.float64)
    forecast = np.repeat(last, len(wanted), axis=1)
    series = context - last
    spread = np.abs(series).max(axis=1)
    for index in np.flatnonzero(spread > 0):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Eleven points often end in a convergence warning; the forecast still counts.
            warnings.simplefilter("ignore")
            try:
                model = ARIMA(
                    series[index] / spread[index],
                    order=order,
                    enforce_stationarity=True,
                    enforce_invertibility=True,
                )
                path = model.fit().forecast(ahead)[wanted]
            except (np.linalg.LinAlgError, ValueError, IndexError):
                continue
        if np.isfinite(path).all():
            forecast[index] += path * spread[index]
    return forecast.astype(np.float32)
