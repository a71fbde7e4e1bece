"""`lfd2`: the paper's method, a 1-layer farcaster from the first and the last observed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.linear_map import Doubles, LinearMap, solve_normal
from weightcast.methods.registry import register


@register("lfd2")
class Lfd2(LinearMap):
    """LFD-2: min over A ∈ R^{2×m}, b of Σ_i ‖(w_0, w_n)_i·A + b − Y_i‖₁, 3m parameters.

    Solved by iteratively reweighted least squares: each pass weights a residual r by
    1/max(|r|, ε) and solves the weighted normal equations, horizon by horizon, while ε halves from
    pass to pass down to a small share of the mean residual.

    Parameters
    ----------
    max_passes : int
        Passes over the training runs after the first, unweighted one.
    tolerance : float
        Stop when ε is at its floor and the objective falls by less than this share in a pass.

    Attributes
    ----------
    objective_ : float
        What is minimised: the residuals' mean absolute value over coordinates, summed over
        horizons.
    passes_ : int
    """

    def __init__(self, max_passes: int = 40, tolerance: float = 1e-5) -> None:
        self.max_passes = max_passes
        self.tolerance = tolerance
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        self.fit_least_squares(train, task)
        before = np.inf
        smoothing = self.first_smoothing(train, task)
        for passes in range(1, self.max_passes + 1):
            self.passes_ = passes
            equations = WeightedEquations(len(self.map_), len(task.horizons))
            for x, y in self.material(train, task):
                equations.add(x, y, np.abs(x @ self.map_ - y), smoothing)
            self.objective_ = float(equations.residual.sum()) + self.penalty()
            at_floor = bool((smoothing <= 1.1 * equations.floor).all())
            if at_floor and before - self.objective_ < self.tolerance * self.objective_:
                break
            before = self.objective_
            self.map_ = self.solve(equations)
            smoothing = np.maximum(0.5 * smoothing, equations.floor)
        return self

    def first_smoothing(self, train: Sequence[Trajectory], task: ForecastTask) -> Doubles:
        """Return the first pass's ε, a horizon each: the mean residual of the unweighted fit."""
        total, count = np.zeros(len(task.horizons)), 0
        for x, y in self.material(train, task):
            total += np.abs(x @ self.map_ - y).sum(axis=0)
            count += len(x)
        return total / max(1, count)

    def penalty(self) -> float:
        """Return what the objective adds to the residuals at the present map."""
        return 0.0

    def solve(self, equations: WeightedEquations) -> Doubles:
        """Return the next map (p, m)."""
        return solve_normal(equations.gram, equations.moment[:, :, None])[:, :, 0].T

    def diagnostics(self) -> dict[str, Any]:
        return {"passes": self.passes_, "objective": self.objective_}


class WeightedEquations:
    """Normal equations with a weight 1/max(|r|, ε) for each coordinate and horizon.

    Attributes
    ----------
    moment : ndarray, shape (m, p)
    count : int
        Coordinates added.
    """

    def __init__(self, p: int, m: int) -> None:
        self._upper = np.triu_indices(p)
        self._products = np.zeros((m, len(self._upper[0])))
        self.moment = np.zeros((m, p))
        self._absolute = np.zeros(m)
        self.count = 0
        self._p = p

    def add(self, x: Doubles, y: Doubles, residual: Doubles, smoothing: Doubles) -> None:
        """Add a block: features (c, p), targets (c, m), |residuals| (c, m), ε (m,)."""
        # ε is zero only where every residual is: any positive weight then keeps the solution.
        weight = 1.0 / np.maximum(residual, np.where(smoothing > 0, smoothing, 1.0))
        self._products += weight.T @ (x[:, self._upper[0]] * x[:, self._upper[1]])
        self.moment += (weight * y).T @ x
        self._absolute += residual.sum(axis=0)
        self.count += len(x)

    @property
    def residual(self) -> Doubles:
        """Mean absolute residual a horizon, shape (m,), of the map that gave the weights."""
        return self._absolute / max(1, self.count)

    @property
    def floor(self) -> Doubles:
        """The smallest useful ε: below it the fit is an L1 fit to four digits and more."""
        return 1e-4 * self.residual

    @property
    def gram(self) -> Doubles:
        """Weighted feature products, shape (m, p, p)."""
        gram = np.zeros((len(self._products), self._p, self._p))
        gram[:, self._upper[0], self._upper[1]] = self._products
        gram[:, self._upper[1], self._upper[0]] = self._products
        return gram
