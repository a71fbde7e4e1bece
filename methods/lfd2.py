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
    1/max(|r|, ε) and solves the weighted normal equations, horizon by horizon, while ε shrinks
    towards a small share of the first fit's mean residual.

    Parameters
    ----------
    max_passes : int
        Passes over the training runs, the first unweighted.
    tolerance : float
        Stop when the L1 objective falls by less than this share in a pass and ε is at its floor.

    Attributes
    ----------
    objective_ : float
        Mean absolute residual over training coordinates and horizons.
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
        smoothing: Doubles | None = None
        before = np.inf
        for passes in range(2, self.max_passes + 1):
            self.passes_ = passes
            equations = self.reweighted(train, task, smoothing)
            self.objective_ = float(equations.residual.mean())
            at_floor = smoothing is not None and bool((smoothing <= equations.floor).all())
            if at_floor and before - self.objective_ < self.tolerance * self.objective_:
                break
            before = self.objective_
            self.map_ = equations.solve()
            smoothing = equations.shrink(smoothing)
        return self

    def reweighted(
        self, train: Sequence[Trajectory], task: ForecastTask, smoothing: Doubles | None
    ) -> WeightedEquations:
        """Run one pass: weighted normal equations at the present map.

        Parameters
        ----------
        train : sequence of Trajectory
        task : ForecastTask
        smoothing : ndarray, shape (m,), or None
            ε a horizon; None makes this pass measure residuals first.
        """
        if smoothing is None:
            first = WeightedEquations(len(self.map_), len(task.horizons))
            for x, y in self.material(train, task):
                first.add(x, y, np.abs(x @ self.map_ - y), np.ones(len(task.horizons)))
            smoothing = first.residual
        equations = WeightedEquations(len(self.map_), len(task.horizons))
        for x, y in self.material(train, task):
            equations.add(x, y, np.abs(x @ self.map_ - y), smoothing)
        return equations

    def diagnostics(self) -> dict[str, Any]:
        return {"passes": self.passes_, "objective": self.objective_}


class WeightedEquations:
    """Normal equations with a weight 1/max(|r|, ε) for each coordinate and horizon.

    Attributes
    ----------
    gram : ndarray, shape (m, p, p)
    moment : ndarray, shape (m, p)
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
        gram = np.zeros((len(self._products), self._p, self._p))
        gram[:, self._upper[0], self._upper[1]] = self._products
        gram[:, self._upper[1], self._upper[0]] = self._products
        return gram

    def solve(self) -> Doubles:
        """Return the map (p, m) that these equations give."""
        return solve_normal(self.gram, self.moment[:, :, None])[:, :, 0].T

    def shrink(self, smoothing: Doubles | None) -> Doubles:
        """Return the next pass's ε: half the last, but no less than the floor."""
        start = self.residual if smoothing is None else smoothing
        return np.maximum(0.5 * start, self.floor)
