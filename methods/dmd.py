"""`dmd`: dynamic mode decomposition of the whole network's differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.registry import register
from weightcast.methods.snapshot_span import Doubles, SnapshotSpan

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask

# Squared singular values below this share of the largest are rounding, not motion.
_ROUNDING = 1e-13


@register("dmd")
class Dmd(SnapshotSpan):
    """Go on with the linear recurrence Δ_{t+1} ≈ A Δ_t of the network's differences.

    With X = (Δ_1 … Δ_{n−1}) and Y = (Δ_2 … Δ_n), both d×(n − 1), and the truncated singular value
    decomposition X ≈ U S Vᵀ of rank r, Ã = Uᵀ Y V S⁻¹ (r×r) is what A does within the span of the
    snapshots. Its eigenvalues λ are clipped to a largest modulus; Uᵀ Δ_n is decomposed into its
    eigenvectors, and ŵ_{n+h} = w_n + U Σ_{i=1..h} Ã^i Uᵀ Δ_n. By the method of snapshots S, V and
    Ã come from ΔᵀΔ (n×n), and U is never formed.

    Differences, because training is affine: w_{t+1} = A w_t + d has Δ_{t+1} = A Δ_t, without the
    constant. Exact where the differences obey a linear recurrence with r rates: r = 1 for one rate
    a run, r for a sum of so many.

    Parameters
    ----------
    rank : int
        r; cut to the rank that X has in floating point, n − 1 at the most. Mini-batch noise is in
        every difference, and a few directions hold too little of it.
    max_radius : float
        Eigenvalues beyond it are moved to it along their direction.

    Attributes
    ----------
    eigenvalues_ : ndarray of complex, shape (r,)
        Those of the last forecast, clipped.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "exact on recurrences of its rank",
        "provenance": "own-run-only",
        "reference": (
            "Schmid 2010, J. Fluid Mech. 656; Rowley et al. 2009, J. Fluid Mech. 641; "
            "Kutz et al. 2016"
        ),
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "rank": (1, 3, 5, 10, 20),
        "max_radius": (0.9, 0.95, 1.0),
    }

    def __init__(self, rank: int = 10, max_radius: float = 1.0) -> None:
        self.rank = rank
        self.max_radius = max_radius
        super().__init__()

    def coefficients(self, gram: Doubles, task: ForecastTask) -> Doubles:
        if not (isinstance(self.rank, int) and self.rank >= 1):
            raise InputError(f"rank of dmd is {self.rank!r}; it must be a whole number from 1 on")
        if not self.max_radius > 0:
            raise InputError(f"max_radius of dmd is {self.max_radius!r}; it must be above 0")
        n, m = len(gram), len(task.horizons)
        self.eigenvalues_ = np.zeros(0, dtype=np.complex128)
        mix = np.zeros((n, m))
        if n < 2:
            return mix
        squares, right = np.linalg.eigh(gram[:-1, :-1])
        kept = np.flatnonzero(squares > _ROUNDING * max(squares[-1], 0.0))[-self.rank :]
        if len(kept) == 0:
            return mix  # only the last difference moves, and nothing says where it would go
        lift = right[:, kept] / np.sqrt(squares[kept])  # V S⁻¹: U = X lift, (n − 1, r)
        step = lift.T @ gram[:-1, 1:] @ lift
        values, vectors = np.linalg.eig(step)
        radius = np.abs(values)
        values = values * np.minimum(1.0, self.max_radius / np.where(radius > 0, radius, 1.0))
        self.eigenvalues_ = values
        here = lift.T @ gram[:-1, -1]
        amplitudes = np.linalg.lstsq(vectors, here.astype(vectors.dtype), rcond=None)[0]
        h = task.horizons.astype(int)
        powers = values[:, None] ** np.arange(1, h[-1] + 1)  # (r, h)
        reach = np.cumsum(powers, axis=1)[:, h - 1]
        mix[:-1] = lift @ (vectors @ (amplitudes[:, None] * reach)).real
        return mix

    def diagnostics(self) -> dict[str, Any]:
        if not hasattr(self, "eigenvalues_"):
            return {}
        return {"radii": [float(radius) for radius in np.abs(self.eigenvalues_)]}
