"""`line-search`: no forecast at all, only the run's own training loss along one direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.forecaster import CoordinateForecaster, OneLookForecaster, PerCoordinate
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

DIRECTIONS = ("context", "last")


@register("line-search")
class LineSearch(OneLookForecaster):
    """Jump along w_n − w_0 to where the training loss is lowest.

    α* minimises the training loss at w_n + α (w_n − w_0) over α ≥ 0: doubling steps bracket the
    minimum, golden sections narrow it. At horizon h the forecast is w_n + min(h/n, α*) (w_n − w_0):
    it moves at the context's mean speed and stops at the best point. A reference, not a forecaster:
    it needs no training runs, but it may measure the loss, and each measurement is counted.

    Parameters
    ----------
    evaluations : int
        Training losses measured at the most.
    direction : str
        ``"context"``: along w_n − w_0, as above. ``"last"``: along w_n − w_{n−1}, with min(h, α*).

    Attributes
    ----------
    alpha_ : float
        α* of the last forecast.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "a quadratic bowl's minimum",
        "provenance": "own-run-only",
        "needs": ("train-loss",),
        "role": "reference",
        "reference": "golden-section search, Kiefer 1953",
    }

    def __init__(self, evaluations: int = 15, direction: str = "context") -> None:
        self.evaluations = evaluations
        self.direction = direction
        super().__init__()

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        if history.loss is None:
            raise ValueError("line-search needs the training loss, and this run cannot be rebuilt")
        if self.direction not in DIRECTIONS:
            raise InputError(
                f"direction of line-search is {self.direction!r}; choices are "
                f"{', '.join(DIRECTIONS)}"
            )
        loss = history.loss
        span = task.context if self.direction == "context" else 1  # snapshots that a chord takes
        last = history.last
        chord = {name: last[name] - w for name, w in history.snapshot(-1 - span).items()}

        def along(alpha: float) -> float:
            step = np.float32(alpha)
            return loss({name: w + step * chord[name] for name, w in last.items()})

        self.alpha_ = minimise_along(
            along,
            self.evaluations,
            float(task.horizons[-1]) / span,
            # The same stretch of the run whatever the chord: a twentieth of the context.
            shortest=0.05 * (task.context / span),
        )
        reach = np.minimum(task.horizons / span, self.alpha_).astype(np.float32)  # (m,)

        def extended(context: Floats, task: ForecastTask) -> Floats:
            w = context[:, -1:]
            forecast: Floats = w + reach * (w - context[:, [-1 - span]])
            return forecast

        return PerCoordinate(extended)

    def diagnostics(self) -> dict[str, Any]:
        return {"alpha": self.alpha_} if hasattr(self, "alpha_") else {}


def minimise_along(
    loss: Callable[[float], float], evaluations: int, longest: float, shortest: float = 0.05
) -> float:
    """Find α in [0, longest] with the lowest loss seen, in so many evaluations.

    The doubling starts at ``shortest``. A loss that is not finite counts as worse than any other.
    """
    along = LossAlong(loss)
    along.measure(0.0)
    alpha = min(shortest, longest)
    # Double while it helps, keeping half of the budget to narrow the bracket down.
    while (
        along.measure(alpha) <= min(along.seen.values())
        and alpha < longest
        and len(along.seen) < evaluations // 2 + 1
    ):
        alpha = min(2 * alpha, longest)
    along.narrow(evaluations, tolerance=1e-6 * longest)
    return along.best


class LossAlong:
    """Losses along one direction, each measured once.

    Parameters
    ----------
    loss : callable
        The loss at a length.

    Attributes
    ----------
    seen : dict of float to float
        Length → loss, in the order in which they were measured; infinite where it is not finite.
    """

    def __init__(self, loss: Callable[[float], float]) -> None:
        self._loss = loss
        self.seen: dict[float, float] = {}

    @property
    def best(self) -> float:
        """The length with the lowest loss seen; of several the one that was measured first."""
        return min(self.seen, key=lambda a: self.seen[a])

    def measure(self, alpha: float) -> float:
        """Return the loss at a length."""
        if alpha not in self.seen:
            value = self._loss(alpha)
            self.seen[alpha] = value if np.isfinite(value) else np.inf
        return self.seen[alpha]

    def narrow(self, evaluations: int, tolerance: float) -> None:
        """Narrow the bracket around the best length down by golden sections.

        Parameters
        ----------
        evaluations : int
            Losses measured at the most, those so far among them.
        tolerance : float
            A bracket as narrow as this is left: of a few floats it has no new points inside.
        """
        best = self.best
        low = max((a for a in self.seen if a < best), default=0.0)
        high = min((a for a in self.seen if a > best), default=best)
        golden = (np.sqrt(5) - 1) / 2
        left, right = high - golden * (high - low), low + golden * (high - low)
        while len(self.seen) + 1 < evaluations and high - low > tolerance:
            if self.measure(left) <= self.measure(right):
                high, right = right, left
                left = high - golden * (high - low)
            else:
                low, left = left, right
                right = low + golden * (high - low)
