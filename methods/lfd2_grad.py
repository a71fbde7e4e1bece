"""`lfd2-grad`: LFD-2 with the regularizer that asks forecast steps not to grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.lfd2 import Lfd2, WeightedEquations
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Trajectory
    from weightcast.methods.lfd2 import AddUp
    from weightcast.methods.linear_map import Doubles, Gram


@register("lfd2-grad")
class Lfd2Grad(Lfd2):
    """LFD-2 plus λ · L_grad, where L_grad punishes growing steps of the forecast.

    Near an optimum gradients shrink, and so do steps. Shou et al. (arXiv 2505.02714) derive their
    L_grad from that. This is the hinge that descriptions of it allow, not compared with the paper's
    own formula: with ŵ_0 = w_n and s_j = ‖ŵ_j − ŵ_{j−1}‖/√d over a training run's d coordinates,

        L_grad = mean over runs of Σ_j max(0, s_j − s_{j−1}),   j = 2..m.

    For a linear map s_j² = δ_jᵀ G δ_j with G the run's p × p matrix of feature products and δ_j the
    difference of neighbouring columns of the map, so the regularizer needs no further pass over the
    data. Each pass replaces the absolute errors by their quadratic bound at the present map and
    minimises bound + λ · L_grad over the 3m numbers by L-BFGS.

    Parameters
    ----------
    weight : float
        λ, the price of a unit of step growth against a unit of mean absolute error at one horizon.
    columns, per_tensor, max_passes, tolerance
        As in `lfd2`. With a map for each tensor, each has a regularizer of its own, over the
        coordinates of that tensor.

    Attributes
    ----------
    growth_ : float
        L_grad of the shared map on the training runs.
    free_growth_ : float
        The same of the map that the fit gives at weight 0, which is fitted beside it.
    change_ : float
        How far the regularizer moved the forecasts: root mean square over the training coordinates
        and horizons of their difference from those at weight 0, in units of the latter's
        displacements.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "finite differences of its regularizer; lfd2 at weight 0"
    }
    param_grid: ClassVar[dict[str, Any]] = {"weight": (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)}

    def __init__(
        self,
        weight: float = 1.0,
        columns: Sequence[int] | None = None,
        per_tensor: bool = False,
        max_passes: int = 40,
        tolerance: float = 1e-5,
    ) -> None:
        self.weight = weight
        super().__init__(
            columns=columns, per_tensor=per_tensor, max_passes=max_passes, tolerance=tolerance
        )

    def check(self) -> None:
        super().check()
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"weight {self.weight} is no price of growth; give 0 (none) or more")

    def solve(
        self, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask, only: str | None
    ) -> Doubles:
        by_run = np.stack([sums.gram / max(1, sums.count) for sums in grams])  # (runs, p, p)
        # In a basis that the mean Gram matrix makes orthonormal, L-BFGS converges far faster.
        self._basis = _whitener(by_run.mean(axis=0))
        self._grams = self._basis.T @ by_run @ self._basis
        # First, so that the passes and the objective that are told are those of the map returned.
        free = self._priced(0.0, grams, train, task) if only is None and self.weight > 0 else None
        self._price = self.weight
        map_ = super().solve(grams, train, task, only)
        self._compare(map_, map_ if free is None else free)
        del self._basis, self._grams, self._price
        return map_

    def _priced(
        self, price: float, grams: list[Gram], train: Sequence[Trajectory], task: ForecastTask
    ) -> Doubles:
        """Return the shared map at another price of growth."""
        self._price = price
        return super().solve(grams, train, task, None)

    def _compare(self, map_: Doubles, free: Doubles) -> None:
        """Note what the regularizer did to a map. In this basis the mean Gram matrix is one."""
        theta, free_theta = self._coefficients(map_), self._coefficients(free)
        self.growth_ = growth(theta, self._grams)[0]
        self.free_growth_ = growth(free_theta, self._grams)[0]
        scale = float(np.linalg.norm(free_theta))
        self.change_ = float(np.linalg.norm(theta - free_theta)) / scale if scale > 0 else 0.0

    def first_smoothing(self, map_: Doubles, add_up: AddUp) -> Doubles:
        """Return the first pass's ε, a horizon each: the mean displacement.

        Where the unweighted fit leaves next to no residual, the bound at it is so sharp that the
        regularizer could not move the map; so ε starts from the data's scale.
        """
        return super().first_smoothing(np.zeros_like(map_), add_up)

    def penalty(self, map_: Doubles) -> float:
        return self._price * growth(self._coefficients(map_), self._grams)[0]

    def step(self, equations: WeightedEquations, map_: Doubles) -> Doubles:
        if self._price == 0:
            return super().step(equations, map_)
        from scipy.optimize import minimize

        # The bound |r| ≤ r²/(2|r₀|) + |r₀|/2 is a quadratic in the map, one a horizon.
        quadratic = self._basis.T @ equations.gram @ self._basis / equations.count  # (m, p, p)
        linear = equations.moment @ self._basis / equations.count  # (m, p)
        # In z = Lᵀθ, with quadratic = L Lᵀ, the bound is a plain sphere: whatever the weights, all
        # that L-BFGS has to learn is the regularizer. The jitter serves horizons with no residual.
        jitter = 1e-12 * np.einsum("mpp->m", quadratic)[:, None, None] * np.eye(linear.shape[1])
        lower = np.linalg.cholesky(quadratic + jitter)
        inverse = np.linalg.inv(lower)
        pull = np.einsum("mpq,mq->mp", inverse, linear)
        present = self._coefficients(map_)
        start = np.einsum("mqp,qm->mp", lower, present)
        # L-BFGS wants a slope without jumps: the hinge is rounded over a hundredth of a mean step.
        step = np.diff(present, axis=1, prepend=0.0)
        rounding = 0.01 * float(np.sqrt((step**2).sum(axis=0)).mean())

        def theta(z: Doubles) -> Doubles:
            rotated: Doubles = np.einsum("mqp,mq->pm", inverse, z)
            return rotated

        def loss(flat: Doubles) -> tuple[float, Doubles]:
            z = flat.reshape(pull.shape)
            grown, slope = growth(theta(z), self._grams, rounding)
            value = float(0.5 * np.sum(z * z) - np.sum(pull * z))
            gradient = z - pull + self._price * np.einsum("mpq,qm->mp", inverse, slope)
            return value + self._price * grown, gradient.ravel()

        options = {"maxiter": 500, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-10}
        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        best: Doubles = self._basis @ theta(found.x.reshape(pull.shape))
        return best

    def diagnostics(self) -> dict[str, Any]:
        return super().diagnostics() | {
            "growth": self.growth_,
            "growth_at_weight_0": self.free_growth_,
            "change_from_weight_0": self.change_,
        }

    def _coefficients(self, map_: Doubles) -> Doubles:
        """Return a map in the orthonormal basis, (r, m)."""
        coefficients: Doubles = np.linalg.pinv(self._basis) @ map_
        return coefficients


def growth(theta: Doubles, grams: Doubles, rounding: float = 0.0) -> tuple[float, Doubles]:
    """L_grad and its gradient with respect to the map.

    Parameters
    ----------
    theta : ndarray, shape (p, m)
        The map of features to displacements; ŵ_0 = w_n is a column of zeros before the first.
    grams : ndarray, shape (runs, p, p)
    rounding : float
        The hinge's corner is a parabola over rises up to here; 0 for the hinge itself.
    """
    delta = np.diff(theta, axis=1, prepend=0.0)  # (p, m)
    product = grams @ delta  # (runs, p, m)
    steps = np.sqrt(np.maximum(np.einsum("pm,rpm->rm", delta, product), 1e-30))  # (runs, m)
    rise = np.diff(steps, axis=1)
    # The rounded hinge: x²/2r up to r, x − r/2 beyond.
    above = np.maximum(rise, 0.0)
    active = (above > 0).astype(np.float64)
    if rounding > 0:
        active = np.minimum(above / rounding, 1.0)
        above = np.where(above < rounding, 0.5 * above * active, above - 0.5 * rounding)
    # By s_j: plus the hinge's slope where j rises over j − 1, minus that where j + 1 does over j.
    pull = np.pad(active, ((0, 0), (1, 0))) - np.pad(active, ((0, 0), (0, 1)))
    by_delta = np.einsum("rpm,rm->pm", product, pull / steps) / len(grams)
    slope = by_delta.copy()
    slope[:, :-1] -= by_delta[:, 1:]
    return float(above.sum() / len(grams)), slope


def _whitener(gram: Doubles) -> Doubles:
    """Return B (p, r) with Bᵀ gram B = I on the directions that the data span.

    Where they span less than all, features of unit length settle the rest, as in `solve_normal`.
    """
    scale = np.sqrt(np.diag(gram))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    values, vectors = np.linalg.eigh(gram * inverse[:, None] * inverse)
    keep = values > 1e-13 * values[-1]
    whitener: Doubles = inverse[:, None] * vectors[:, keep] / np.sqrt(values[keep])
    return whitener
