"""`exponential`: the exponential approach to a limit that fits the whole context best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

Doubles = NDArray[np.float64]

STARTS = ("last", "curve")

# λ at which a curve is over within a snapshot or two: nothing faster can be told apart.
_FASTEST = 3.0
# Contexts after which an approach and a line differ by less than float32 does.
_SLOWEST = 1e4
# Coordinates in a slice: what the fit holds in between stays in the processor's cache.
_SLICE = 4096


@register("exponential")
class Exponential(CoordinateForecaster):
    """Least-squares fit of w_t = a + b e^{−λt} to w_0..w_n, each coordinate with its own a, b, λ.

    For a given λ, a and b are linear least squares, so only λ is searched for (variable
    projection): the best of a grid, then Gauss-Newton and secant steps between the neighbouring
    grid points, kept only where the sum of squares falls. The forecast, (c, m), is
    ŵ_{n+h} = w_n + b (e^{−λ(n+h)} − e^{−λn}), or the curve itself. Exact for one rate a
    coordinate, as long as 1/λ ≤ ``slowest`` n.

    Parameters
    ----------
    slowest : float
        The longest time constant 1/λ, in contexts of n snapshots. It bounds how far a coordinate
        can go: by its slope at the origin times that many snapshots.
    start : str
        ``"last"``: the forecast goes on from w_n. ``"curve"``: it is the curve's own value, which
        also smooths the noise in w_n.
    rates : int
        Points of the grid of λ, evenly spaced in log λ.
    refinements : int
        Steps from the grid's best.

    Notes
    -----
    λ > 0 throughout: a coordinate that speeds up is fitted with the slowest approach, nearly a
    line. Time counts snapshots.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "scipy.optimize.minimize_scalar",
        "provenance": "own-run-only",
        "reference": "Golub & Pereyra 1973 (variable projection)",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "slowest": (0.5, 1.0, 1.5, 3.0, 10.0),
        "start": STARTS,
    }

    def __init__(
        self, slowest: float = 1.5, start: str = "last", rates: int = 32, refinements: int = 5
    ) -> None:
        self.slowest = slowest
        self.start = start
        self.rates = rates
        self.refinements = refinements
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        self._check()
        last = context[:, -1:].astype(np.float64)
        forecast = np.repeat(last, len(task.horizons), axis=1)
        n = context.shape[1] - 1
        if n >= 2:
            grid = np.geomspace(min(1.0 / (self.slowest * n), _FASTEST), _FASTEST, self.rates)
            for begin in range(0, len(context), _SLICE):
                rows = slice(begin, begin + _SLICE)
                moved = context[rows] - last[rows]
                rate = fit_rate(moved, grid, self.refinements)
                level, slope = fit_level(moved, rate)
                ahead = np.expm1(-rate[:, None] * task.horizons.astype(np.float64))
                if self.start == "last":
                    level = np.zeros_like(level)
                forecast[rows] += level[:, None] + slope[:, None] * ahead
        return forecast.astype(np.float32)

    def _check(self) -> None:
        if not 0 < self.slowest <= _SLOWEST:
            raise InputError(
                f"slowest of exponential is {self.slowest!r}; it must be above 0 and at most "
                f"{_SLOWEST:g}"
            )
        if self.start not in STARTS:
            raise InputError(
                f"start of exponential is {self.start!r}; choices are {', '.join(STARTS)}"
            )
        if self.rates < 2 or self.refinements < 0:
            raise InputError(
                f"exponential has rates {self.rates!r} and refinements {self.refinements!r}; at "
                "least 2 and 0 are needed"
            )

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        points = task.context + 1.0
        return 2 * points * self.rates + 30 * points * self.refinements + 4 * len(task.horizons)


def fit_rate(values: Doubles, grid: Doubles, refinements: int) -> Doubles:
    """Return the λ of least squares within the grid, (c, n + 1) → (c,)."""
    time = np.arange(values.shape[1], dtype=np.float64)
    curves = np.exp(-grid[:, None] * time)
    curves -= curves.mean(axis=1, keepdims=True)
    curves /= np.sqrt(np.einsum("gt,gt->g", curves, curves))[:, None]
    best = ((values @ curves.T) ** 2).argmax(axis=1)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    rate: Doubles = grid[best]
    explained, slope, step = _at(values, rate)
    for _ in range(refinements):
        trial = np.clip(rate + step, low, high)
        found, ahead, following = _at(values, trial)
        better = found > explained
        # Gauss-Newton leaves out the residual's own curvature, which is large where noise is; two
        # slopes show it. Where they do not bend towards a maximum, a step that failed was too long.
        bend = np.divide(slope - ahead, trial - rate, out=np.zeros_like(step), where=trial != rate)
        follow = np.where(better, following, step / 4)
        step = np.divide(np.where(better, ahead, slope), bend, out=follow, where=bend > 0)
        rate = np.where(better, trial, rate)
        explained = np.where(better, found, explained)
        slope = np.where(better, ahead, slope)
    return rate


def _at(values: Doubles, rate: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return, each (c,): the sum of squares that λ explains, its slope, the Gauss-Newton step."""
    time = np.arange(values.shape[1], dtype=np.float64)
    decay = np.exp(-rate[:, None] * time)
    curve = decay - decay.mean(axis=1, keepdims=True)
    power = np.einsum("ct,ct->c", curve, curve)
    dot = np.einsum("ct,ct->c", curve, values)
    factor = dot / power  # b
    residual = values - values.mean(axis=1, keepdims=True) - factor[:, None] * curve
    # How the curve changes with λ, less what a and b would make up for.
    change = -time * decay
    change -= change.mean(axis=1, keepdims=True)
    change -= (np.einsum("ct,ct->c", change, curve) / power)[:, None] * curve
    slope = 2 * factor * np.einsum("ct,ct->c", change, residual)
    stiffness = 2 * factor**2 * np.einsum("ct,ct->c", change, change)
    step = np.divide(slope, stiffness, out=np.zeros_like(slope), where=stiffness != 0)
    return dot * factor, slope, step


def fit_level(values: Doubles, rate: Doubles) -> tuple[Doubles, Doubles]:
    """Return the curve's value at its last point and its b e^{−λn}, each (c,)."""
    n = values.shape[1] - 1
    decay = np.exp(-rate[:, None] * np.arange(-n, 1.0))  # 1 at the origin
    mean = decay.mean(axis=1)
    curve = decay - mean[:, None]
    slope = np.einsum("ct,ct->c", curve, values) / np.einsum("ct,ct->c", curve, curve)
    level: Doubles = values.mean(axis=1) + slope * (1.0 - mean)
    return level, slope
