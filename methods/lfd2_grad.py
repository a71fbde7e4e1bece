"""`lfd2-grad`: LFD-2 with the regularizer that asks forecast steps not to grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory
from weightcast.methods.lfd2 import Lfd2, WeightedEquations
from weightcast.methods.linear_map import Doubles
from weightcast.methods.registry import register


@register("lfd2-grad")
class Lfd2Grad(Lfd2):
    """LFD-2 plus λ · L_grad, where L_grad punishes growing steps of the forecast.

    Near an optimum gradients shrink, and so do steps. Shou et al. (arXiv 2505.02714) derive their
    L_grad from that; its exact formula is not public. This is the hinge that the description
    allows: with ŵ_0 = w_n and s_j = ‖ŵ_j − ŵ_{j−1}‖/√d over the d coordinates of a training run,

        L_grad = mean over runs of Σ_j max(0, s_j − s_{j−1}),   j = 2..m.

    For a linear map s_j² = δ_jᵀ G δ_j with G the run's p × p matrix of feature products and δ_j the
    difference of neighbouring columns of the map, so the regularizer needs no further pass over the
    data. Each pass replaces the absolute errors by their quadratic bound at the present map and
    minimises bound + λ · L_grad over the 3m numbers by L-BFGS.

    Parameters
    ----------
    weight : float
        λ, the price of a unit of step growth against a unit of summed mean absolute error.
    max_passes, tolerance
        As in `lfd2`.
    """

    param_grid: ClassVar[dict[str, Any]] = {"weight": (0.1, 1.0, 10.0, 100.0)}

    def __init__(self, weight: float = 1.0, max_passes: int = 12, tolerance: float = 1e-4) -> None:
        self.weight = weight
        super().__init__(max_passes=max_passes, tolerance=tolerance)

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        super().fit(train, validation, task)  # the unregularized fit is a good start
        grams = np.stack([self._run_gram(run, task) for run in train])  # (runs, p, p)
        before = np.inf
        # Whitened by the mean Gram matrix the problem is far better conditioned for L-BFGS.
        basis = _whitener(grams.mean(axis=0))
        grams = basis.T @ grams @ basis
        inverse = np.linalg.pinv(basis)
        for passes in range(1, self.max_passes + 1):
            self.passes_ = passes
            equations = self.reweighted(train, task, None)
            growth = _growth(inverse @ self.map_, grams)[0]
            self.objective_ = float(equations.residual.sum() + self.weight * growth)
            self.growth_ = growth
            if before - self.objective_ < self.tolerance * self.objective_:
                break
            before = self.objective_
            self.map_ = basis @ self._minimise(inverse @ self.map_, equations, basis, grams)
        return self

    def _run_gram(self, run: Trajectory, task: ForecastTask) -> Doubles:
        """Return one run's XᵀX / d, shape (p, p)."""
        p = len(self.columns(task)) + 1
        gram, count = np.zeros((p, p)), 0
        for x, _ in self.material([run], task):
            gram += x.T @ x
            count += len(x)
        return gram / max(1, count)

    def _minimise(
        self, start: Doubles, equations: WeightedEquations, basis: Doubles, grams: Doubles
    ) -> Doubles:
        from scipy.optimize import minimize

        # The bound |r| ≤ r²/(2|r₀|) + |r₀|/2 is a quadratic in the map, one a horizon.
        quadratic = basis.T @ equations.gram @ basis / equations.count  # (m, p, p)
        linear = equations.moment @ basis / equations.count  # (m, p)

        def loss(flat: Doubles) -> tuple[float, Doubles]:
            theta = flat.reshape(start.shape)  # (p, m)
            pull = np.einsum("mpq,qm->pm", quadratic, theta)
            value = 0.5 * np.sum(pull * theta) - np.sum(linear.T * theta)
            growth, slope = _growth(theta, grams)
            return value + self.weight * growth, (pull - linear.T + self.weight * slope).ravel()

        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        best: Doubles = found.x.reshape(start.shape)
        return best

    def diagnostics(self) -> dict[str, Any]:
        return super().diagnostics() | {"growth": self.growth_}


def _growth(theta: Doubles, grams: Doubles) -> tuple[float, Doubles]:
    """L_grad and its gradient with respect to the map.

    Parameters
    ----------
    theta : ndarray, shape (p, m)
        The map of features to displacements; ŵ_0 = w_n is a column of zeros before the first.
    grams : ndarray, shape (runs, p, p)
    """
    delta = np.diff(theta, axis=1, prepend=0.0)  # (p, m)
    product = grams @ delta  # (runs, p, m)
    steps = np.sqrt(np.maximum(np.einsum("pm,rpm->rm", delta, product), 1e-30))  # (runs, m)
    rise = np.diff(steps, axis=1)
    active = (rise > 0).astype(np.float64)
    # d/ds_j of Σ max(0, s_j − s_{j−1}): plus one where j rises, minus one where j + 1 does.
    pull = np.pad(active, ((0, 0), (1, 0))) - np.pad(active, ((0, 0), (0, 1)))
    by_delta = np.einsum("rpm,rm->pm", product, pull / steps) / len(grams)
    slope = by_delta.copy()
    slope[:, :-1] -= by_delta[:, 1:]
    return float((rise * active).sum() / len(grams)), slope


def _whitener(gram: Doubles) -> Doubles:
    """Return B (p, r) with Bᵀ gram B = I on the directions that the data span."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > 1e-13 * values[-1]
    whitener: Doubles = vectors[:, keep] / np.sqrt(values[keep])
    return whitener
