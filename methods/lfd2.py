"""`lfd2`: the paper's method, a 1-layer farcaster from the first and the last observed weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.datasets.errors import unknown
from weightcast.methods.linear_map import (
    Doubles,
    Gram,
    LinearMap,
    check_ridge,
    solve_normal,
    solve_ridge,
    total,
)
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Trajectory

#: What the residuals are judged by.
SOLVERS = ("l1", "least-squares", "ridge")


@register("lfd2")
class Lfd2(LinearMap):
    """LFD-2: min over A ∈ R^{2×m}, b of Σ_i ‖(w_0, w_n)_i·A + b − Y_i‖₁, 3m parameters.

    Solved by iteratively reweighted least squares: each pass weights a residual r by
    1/max(|r|, ε) and solves the weighted normal equations, horizon by horizon, while ε halves from
    pass to pass down to a small share of the mean residual. The other solvers take one pass.

    Parameters
    ----------
    columns : sequence of int, optional
        The sampled columns T of the context. Negative ones count from its end, so −1 is w_n; one
        named twice counts once. By default (0, n), which makes the method LFD-2.
    per_tensor : bool
        Fit a map of its own for each named tensor. A tensor that no training run has is forecast by
        the shared map, which is fitted in any case.
    target : {"displacements", "values"}
        What X·A + b forecasts: w_j − w_n, or w_j itself. With w_n in T, the two span the same maps
        and least squares and L1 make no difference between them; ridge does, which draws towards
        w_n in one case and towards b alone in the other. Without w_n in T, they are other maps.
    solver : {"l1", "least-squares", "ridge"}
    ridge : float
        For the solver of that name: α ‖A‖² is added to the squared error, α in units of the mean
        diagonal of XᵀX over the training coordinates; b is free.
    max_passes : int
        For L1, passes over the training runs after the first, unweighted one.
    tolerance : float
        For L1, stop when ε is at its floor and the objective falls by less than this share in a
        pass.

    Attributes
    ----------
    objective_ : float
        For L1, what is minimised: the residuals' mean absolute value over coordinates, summed over
        horizons. This and ``passes_`` are the shared map's.
    passes_ : int
    """

    _tags: ClassVar[dict[str, Any]] = {"tested_against": "scipy's linear programmes"}
    param_grid: ClassVar[dict[str, Any]] = {
        "columns": (None, (-2, -1), (0, -4, -1), (0, -3, -2, -1)),
        "per_tensor": (False, True),
    }

    def __init__(
        self,
        columns: Sequence[int] | None = None,
        per_tensor: bool = False,
        target: str = "displacements",
        solver: str = "l1",
        ridge: float = 1e-4,
        max_passes: int = 40,
        tolerance: float = 1e-5,
    ) -> None:
        self.solver = solver
        self.ridge = ridge
        self.max_passes = max_passes
        self.tolerance = tolerance
        super().__init__(columns=columns, per_tensor=per_tensor, target=target)

    def check(self) -> None:
        super().check()
        if self.solver not in SOLVERS:
            raise unknown("solver", str(self.solver), SOLVERS)
        check_ridge(self.ridge)

    def solve(
        self, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        sums = total(grams)
        if self.solver == "ridge":
            return solve_ridge(sums, self.ridge, values=self.target == "values")
        map_ = solve_normal(sums.gram, sums.moment)
        if self.solver == "least-squares":
            return map_
        before = np.inf
        smoothing = self.first_smoothing(map_, train, task, only)
        for passes in range(1, self.max_passes + 1):
            self.passes_ = passes
            new = partial(WeightedEquations, map_, smoothing)
            equations = reduce(
                WeightedEquations.plus, (sums for _, sums in self.sums(new, train, task, only))
            )
            self.objective_ = float(equations.residual.sum()) + self.penalty(map_)
            at_floor = bool((smoothing <= 1.1 * equations.floor).all())
            if at_floor and before - self.objective_ < self.tolerance * self.objective_:
                break
            before = self.objective_
            map_ = self.step(equations, map_)
            smoothing = np.maximum(0.5 * smoothing, equations.floor)
        return map_

    def first_smoothing(
        self, map_: Doubles, train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        """Return the first pass's ε, a horizon each: the mean residual of the unweighted fit."""
        new = partial(WeightedEquations, map_, np.ones(map_.shape[1]))
        parts = self.sums(new, train, task, only)
        return reduce(WeightedEquations.plus, (sums for _, sums in parts)).residual

    def penalty(self, map_: Doubles) -> float:
        """Return what the objective adds to the residuals of a map."""
        return 0.0

    def step(self, equations: WeightedEquations, map_: Doubles) -> Doubles:
        """Return the next map (p, m)."""
        return solve_normal(equations.gram, equations.moment[:, :, None])[:, :, 0].T

    def diagnostics(self) -> dict[str, Any]:
        if self.solver != "l1":
            return {}
        return {"passes": self.passes_, "objective": self.objective_}


class WeightedEquations:
    """Normal equations with a weight 1/max(|r|, ε) for each coordinate and horizon.

    Parameters
    ----------
    map_ : ndarray, shape (p, m)
        The present map, which leaves the residuals r.
    smoothing : ndarray, shape (m,)
        ε.

    Attributes
    ----------
    moment : ndarray, shape (m, p)
    count : int
        Coordinates added.
    """

    def __init__(self, map_: Doubles, smoothing: Doubles) -> None:
        p, m = map_.shape
        self._map = map_
        # ε is zero only where every residual is: any positive weight then keeps the solution.
        self._smoothing = np.where(smoothing > 0, smoothing, 1.0)[:, None]
        self._upper = np.triu_indices(p)
        self._products = np.zeros((m, len(self._upper[0])))
        self.moment = np.zeros((m, p))
        self._absolute = np.zeros(m)
        self.count = 0

    def add(self, z: Doubles) -> None:
        """Add a block (p + m, c): features, then targets."""
        x, y = z[: len(self._map)], z[len(self._map) :]
        residual = np.abs(y - self._map.T @ x)
        self._absolute += residual.sum(axis=1)
        weight = 1.0 / np.maximum(residual, self._smoothing)
        self._products += weight @ (x[self._upper[0]] * x[self._upper[1]]).T
        self.moment += (weight * y) @ x.T
        self.count += z.shape[1]

    def plus(self, other: WeightedEquations) -> Self:
        """Add the sums over other coordinates to these."""
        self._products += other._products
        self.moment += other.moment
        self._absolute += other._absolute
        self.count += other.count
        return self

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
        p = len(self._map)
        gram = np.zeros((len(self._products), p, p))
        gram[:, self._upper[0], self._upper[1]] = self._products
        gram[:, self._upper[1], self._upper[0]] = self._products
        return gram
