"""`lfd2`: the paper's method, a 1-layer farcaster from the first and the last observed weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.datasets.errors import unknown
from weightcast.methods.linear_map import (
    Doubles,
    Gram,
    LinearMap,
    Numbers,
    check_ridge,
    solve_normal,
    solve_ridge,
    total,
)
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask, Pair
    from weightcast.datasets.trajectory import Floats, Trajectory

    #: A pass: the equations that a map and an ε make.
    AddUp = Callable[[Doubles, Doubles], "WeightedEquations"]

#: What the residuals are judged by.
SOLVERS = ("l1", "least-squares", "ridge")

#: Coordinates that an L1 fit is first solved on, where there are over so many times as many.
SAMPLE = 1 << 17
SAMPLE_BELOW = 8
#: The share of the mean residual that ε may smooth away in such a fit.
SLACK = 1e-4
#: The ε that its passes over all coordinates start from, as a share of the sample's first.
RESTART = 1 / 32


@register("lfd2")
class Lfd2(LinearMap):
    """LFD-2: min over A ∈ R^{2×m}, b of Σ_i ‖(w_0, w_n)_i·A + b − Y_i‖₁, 3m parameters.

    Solved by iteratively reweighted least squares: each pass weights a residual r by
    1/max(|r|, ε) and solves the weighted normal equations, horizon by horizon, while ε halves from
    pass to pass down to a small share of the mean residual. The other solvers take one pass.

    Over a million coordinates, the problem is first solved on 131,072 of them, drawn at random but
    the same in every fit. That map is so near the optimum that as a rule three passes over all
    coordinates settle it. ε then falls until it smooths away at most 10⁻⁴ of the objective.

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
        For L1, weighted passes over the training runs (and as many over a sample of them).
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
        add_up, slack = partial(self._equations, train, task, only), 0.0
        if sums.count > SAMPLE_BELOW * SAMPLE:
            drawn = self._draw(SAMPLE, train, task, only)
            sampled, slack = partial(self._sample_equations, drawn), SLACK
            first = self.first_smoothing(map_, sampled)
            map_, smoothing = self._reweight(sampled, map_, first, slack)
            # At a sharp ε the coordinates that the sample's map meets would hold it where it is.
            smoothing = np.maximum(smoothing, RESTART * first)
        else:
            smoothing = self.first_smoothing(map_, add_up)
        return self._reweight(add_up, map_, smoothing, slack)[0]

    def _reweight(
        self, add_up: AddUp, map_: Doubles, smoothing: Doubles, slack: float
    ) -> tuple[Doubles, Doubles]:
        """Reweight until a pass gains next to nothing; return the map and its ε, a horizon each.

        Parameters
        ----------
        add_up : callable
            A pass, over all coordinates or over a sample.
        slack : float
            ε has fallen enough where it smooths away this share of the mean residual; at 0, only
            at its floor.
        """
        before: Doubles = np.full(map_.shape[1], np.inf)
        for passes in range(1, self.max_passes + 1):
            self.passes_ = passes
            equations = add_up(map_, smoothing)
            self.objective_ = float(equations.residual.sum()) + self.penalty(map_)
            sharp = smoothing <= 1.1 * equations.floor
            if slack > 0:
                sharp |= equations.smoothed <= slack * equations.residual
            parts = equations.residual + self.penalty(map_) / map_.shape[1]
            # From a sample on, a horizon that still falls may not hide among those that have ended.
            now = parts if slack > 0 else parts.sum(keepdims=True)
            if sharp.all() and (before - now < self.tolerance * now).all():
                break
            before = now
            map_ = self.step(equations, map_)
            halved = np.maximum(0.5 * smoothing, equations.floor)
            smoothing = np.where(sharp, smoothing, halved) if slack > 0 else halved
        return map_, smoothing

    def _equations(
        self,
        train: Sequence[Trajectory],
        task: ForecastTask,
        only: str | None,
        map_: Doubles,
        smoothing: Doubles,
    ) -> WeightedEquations:
        """Add up over all training coordinates."""
        new = partial(WeightedEquations, map_, smoothing)
        parts = self.sums(new, train, task, only)
        return reduce(WeightedEquations.plus, (sums for _, sums in parts))

    def _sample_equations(
        self, drawn: Floats, map_: Doubles, smoothing: Doubles
    ) -> WeightedEquations:
        """Add up over drawn coordinates (k + m, c)."""
        equations = WeightedEquations(map_, smoothing)
        p, m = map_.shape
        for z in self.features_and_targets(drawn[:-m], drawn[-m:], p - 1):
            equations.add(z)
        return equations

    def _draw(
        self, count: int, train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Floats:
        """Draw coordinates of all training runs: the columns read, then the targets (k + m, c)."""
        # In an order that callers do not choose, with a seed of its own: what is drawn settles
        # where the passes over all coordinates start, which is no noise that a repeat should see.
        runs = sorted(train, key=lambda run: run.meta.seed)
        sizes = [sum(i.size for i in run.tensors if only in (None, i.name)) for run in runs]
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(sum(sizes), count, replace=False, shuffle=False))

        def keep(before: int, pair: Pair) -> Floats:
            first = before + pair.start + (pair.tensor.offset if only is None else 0)
            low, high = np.searchsorted(chosen, [first, first + len(pair.context)])
            rows = chosen[low:high] - first
            return np.concatenate([pair.context[rows], pair.target[rows]], axis=1)

        parts: list[Floats] = []
        for run, start in zip(runs, np.cumsum([0, *sizes]).tolist(), strict=False):
            parts += task.map_pairs(partial(keep, start), run, self.read_columns(task), only)
        return np.ascontiguousarray(np.concatenate(parts).T)

    def first_smoothing(self, map_: Doubles, add_up: AddUp) -> Doubles:
        """Return the first pass's ε, a horizon each: the mean residual of the unweighted fit."""
        return add_up(map_, np.ones(map_.shape[1])).residual

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
        self._raised = np.zeros(m)
        self.count = 0

    def add(self, z: Numbers) -> None:
        """Add a block (p + m, c): features, then targets."""
        x, y = z[: len(self._map)], z[len(self._map) :]
        residual = self._map.T @ x
        np.abs(np.subtract(y, residual, out=residual), out=residual)
        self._absolute += residual.sum(axis=1)
        raised = np.maximum(residual, self._smoothing, out=residual)
        self._raised += raised.sum(axis=1)
        weight = np.divide(1.0, raised, out=raised)
        self._products += weight @ (x[self._upper[0]] * x[self._upper[1]]).T
        weight *= y
        self.moment += weight @ x.T
        self.count += z.shape[1]

    def plus(self, other: WeightedEquations) -> Self:
        """Add the sums over other coordinates to these."""
        self._products += other._products
        self.moment += other.moment
        self._absolute += other._absolute
        self._raised += other._raised
        self.count += other.count
        return self

    @property
    def residual(self) -> Doubles:
        """Mean absolute residual a horizon, shape (m,), of the map that gave the weights."""
        return self._absolute / max(1, self.count)

    @property
    def smoothed(self) -> Doubles:
        """The most that ε adds to the mean absolute residual, a horizon each, shape (m,).

        Below ε, |r| has become r²/2ε + ε/2, which is (ε − |r|)²/2ε ≤ (ε − |r|)/2 more.
        """
        smoothed: Doubles = 0.5 * (self._raised - self._absolute) / max(1, self.count)
        return smoothed

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
