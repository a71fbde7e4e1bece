"""`ar`: an autoregression of any order of the differences, in closed form for all coordinates.

Every array is (…, c), coordinates last: the loops run over orders and horizons, which are few, and
each of their steps is one operation on all coordinates.
"""

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

# A pivot below this share of its diagonal entry counts as a dependent column.
_SINGULAR = 1e-10


@register("ar")
class Ar(CoordinateForecaster):
    """Least-squares AR(p) on the differences of each coordinate.

    With Δ_t = w_t − w_{t−1}, conditional least squares fits
    Δ_t = (δ +) φ_1 Δ_{t−1} + … + φ_p Δ_{t−p} + e_t to Δ_1..Δ_n of every coordinate (c, n) by its
    own normal equations (c, p, p). The forecast is w_n plus the sum of the iterated Δ̂, (c, m).

    Parameters
    ----------
    order : int
        p. A context of n differences has n − p equations, so p is cut to n − 1.
    intercept : bool
        Whether there is a constant δ. It gives a coordinate a drift that never ends.
    max_radius : float
        The largest modulus that a root of z^p − φ_1 z^{p−1} − … − φ_p may have. Where the largest,
        ρ, is beyond it, φ_i becomes φ_i (max_radius/ρ)^i, which scales every root by the same
        factor and leaves their directions alone. Above 1 a forecast grows without bound, and a
        handful of such coordinates would be the whole error.

    Notes
    -----
    Where the equations of a coordinate are singular, the coefficients are the solution of least
    norm, with the differences in units of their root mean square. With one order and no intercept
    this is `ar1`.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "statsmodels' AutoReg",
        "provenance": "own-run-only",
        "reference": "conditional least squares, Hamilton 1994, ch. 5",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "order": (1, 2, 3),
        "max_radius": (0.9, 0.95, 1.0),
    }

    def __init__(self, order: int = 2, intercept: bool = False, max_radius: float = 1.0) -> None:
        self.order = order
        self.intercept = intercept
        self.max_radius = max_radius
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        if not (isinstance(self.order, int) and self.order >= 1):
            raise InputError(f"order of ar is {self.order!r}; it must be a whole number from 1 on")
        if not self.max_radius > 0:
            raise InputError(f"max_radius of ar is {self.max_radius!r}; it must be above 0")
        steps = np.diff(np.ascontiguousarray(context.T, dtype=np.float64), axis=0)  # (n, c)
        # In units of their own size, so that a cut-off means the same for every coordinate.
        size = np.sqrt(np.einsum("tc,tc->c", steps, steps) / len(steps))
        steps /= np.where(size > 0, size, 1.0)
        order = min(self.order, len(steps) - 1)
        phi, constant = fit_ar(steps, order, self.intercept)
        phi = tamed(phi, self.max_radius)
        moved = iterate(steps, phi, constant, task.horizons) * size
        forecast: Floats = (context[:, -1:] + moved.T).astype(np.float32)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        k = self.order + self.intercept
        return k * (k + 3.0) * task.context + 2.0 * k * float(task.horizons[-1])


def fit_ar(steps: Doubles, order: int, intercept: bool) -> tuple[Doubles, Doubles]:
    """Fit by conditional least squares.

    Parameters
    ----------
    steps : ndarray, shape (n, c)
        The series, oldest first.
    order : int
        p < n.
    intercept : bool

    Returns
    -------
    phi : ndarray, shape (p, c)
    constant : ndarray, shape (c,)
        Zero without an intercept.
    """
    n, c = steps.shape
    columns = [steps[order - lag : n - lag] for lag in range(1, order + 1)]
    if intercept:
        columns.append(np.ones((n - order, c)))
    gram, moment = np.empty((len(columns), len(columns), c)), np.empty((len(columns), c))
    for i, column in enumerate(columns):
        moment[i] = np.einsum("tc,tc->c", column, steps[order:])
        for j, other in enumerate(columns[: i + 1]):
            gram[i, j] = gram[j, i] = np.einsum("tc,tc->c", column, other)
    solution = _solve(gram, moment)
    return solution[:order], solution[order] if intercept else np.zeros(c)


def tamed(phi: Doubles, max_radius: float) -> Doubles:
    """Shrink φ (p, c) to φ_i r^i wherever a root would lie beyond ``max_radius``."""
    powers = np.arange(1, len(phi) + 1)[:, None]
    # No root is beyond where Σ |φ_i| / max_radius^i ≤ 1; the others' roots have to be found.
    suspects = np.flatnonzero((np.abs(phi) * max_radius**-powers).sum(axis=0) > 1.0)
    if len(suspects) == 0:
        return phi
    shrink = np.minimum(1.0, max_radius / spectral_radius(phi[:, suspects]))
    phi = phi.copy()
    phi[:, suspects] *= shrink**powers
    return phi


def spectral_radius(phi: Doubles) -> Doubles:
    """Return the largest modulus of the roots of z^p − φ_1 z^{p−1} − … − φ_p, (p, c) → (c,)."""
    p, c = phi.shape
    radius: Doubles
    if p == 1:
        radius = np.abs(phi[0])
    elif p == 2:  # the default, and far cheaper than eigenvalues
        root = phi[0] ** 2 + 4 * phi[1]
        real = (np.abs(phi[0]) + np.sqrt(np.maximum(root, 0.0))) / 2
        radius = np.where(root >= 0, real, np.sqrt(np.maximum(-phi[1], 0.0)))
    else:
        companion = np.zeros((c, p, p))
        companion[:, 0] = phi.T
        companion[:, np.arange(1, p), np.arange(p - 1)] = 1.0
        radius = np.abs(np.linalg.eigvals(companion)).max(axis=1)
    return radius


def iterate(
    steps: Doubles, phi: Doubles, constant: Doubles, horizons: NDArray[np.float32]
) -> Doubles:
    """Return the sum of the forecast differences at every horizon, shape (m, c)."""
    past = [steps[-lag] for lag in range(1, len(phi) + 1)]
    moved = np.empty((len(horizons), steps.shape[1]))
    total = np.zeros(steps.shape[1])
    for h in range(1, int(horizons[-1]) + 1):
        ahead = constant.copy()
        for coefficient, step in zip(phi, past, strict=True):
            ahead += coefficient * step
        total += ahead
        past = [ahead, *past[:-1]] if past else []
        moved[horizons == h] = total
    return moved


def _solve(gram: Doubles, moment: Doubles) -> Doubles:
    """Solve every coordinate's equations, (k, k, c) and (k, c) → (k, c).

    By Cholesky's elimination, k³/3 operations on all coordinates at once; where a pivot vanishes,
    by the pseudo-inverse.
    """
    k = len(gram)
    factor, regular = gram.copy(), np.ones(gram.shape[2], dtype=bool)
    solution = moment.copy()
    for i in range(k):
        regular &= factor[i, i] > _SINGULAR * gram[i, i]
        pivot = np.where(regular, factor[i, i], 1.0)
        for j in range(i + 1, k):
            share = factor[j, i] / pivot
            solution[j] -= share * solution[i]
            for other in range(i + 1, k):
                factor[j, other] -= share * factor[i, other]
    for i in reversed(range(k)):
        for j in range(i + 1, k):
            solution[i] -= factor[i, j] * solution[j]
        solution[i] /= np.where(regular, factor[i, i], 1.0)
    singular = np.flatnonzero(~regular)
    if len(singular) and k:
        inverse = np.linalg.pinv(
            np.moveaxis(gram[:, :, singular], 2, 0), rcond=_SINGULAR, hermitian=True
        )
        solution[:, singular] = np.einsum("cij,jc->ic", inverse, moment[:, singular])
    return solution
