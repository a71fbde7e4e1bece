"""`rre`: the limit that reduced-rank extrapolation sees in the snapshots, and the way there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.registry import register
from weightcast.methods.snapshot_span import Doubles, SnapshotSpan

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask

APPROACHES = ("geometric", "jump")


@register("rre")
class Rre(SnapshotSpan):
    """Approach w* = Σ γ_t w_t, the weighted mean of snapshots whose differences cancel best.

    γ minimises ‖Σ γ_t Δ_t‖² + ε σ² ‖γ‖² under Σ γ_t = 1, where Δ_t = w_t − w_{t−1}, t = 1..n, and
    σ is the largest singular value of (Δ_1 … Δ_n): γ ∝ (ΔᵀΔ + ε σ² I)⁻¹ 1, for the whole network
    at once. As ε → 0, w* is the exact limit of every linear recurrence with fewer than n rates. Of
    each difference it takes the snapshot that it leads to; the textbook form takes the one before,
    which has the same limit.

    Parameters
    ----------
    regularization : float
        ε > 0. Towards 0, noise makes γ large with alternating signs; large, w* is the mean
        of w_1..w_n.
    approach : str
        ``"geometric"``: ŵ_{n+h} = w_n + (1 − ρ^h)(w* − w_n), with the ρ at which the run closed in
        on w* over the context, ρ^n = ‖u‖² / ⟨w* − w_0, u⟩ along u = w* − w_n; a run that did not
        close in stays. Exact for one rate a run. ``"jump"``: w* at every horizon.

    Attributes
    ----------
    gamma_ : ndarray, shape (n,)
        γ of the last forecast.
    rate_ : float
        ρ of the last forecast; 0 for a jump.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "the penalised problem solved by numpy; exact on recurrences",
        "provenance": "own-run-only",
        "reference": (
            "Eddy 1979; Mešina 1977, Comput. Methods Appl. Mech. Eng. 10; "
            "regularised as in Scieur, d'Aspremont & Bach 2016, arXiv 1606.04133"
        ),
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "regularization": (1e-8, 1e-5, 1e-3, 1e-1),
        "approach": APPROACHES,
    }

    def __init__(self, regularization: float = 1e-5, approach: str = "geometric") -> None:
        self.regularization = regularization
        self.approach = approach
        super().__init__()

    def coefficients(self, gram: Doubles, task: ForecastTask) -> Doubles:
        if not self.regularization > 0:
            raise InputError(
                f"regularization of rre is {self.regularization!r}; it must be above 0 (1e-12 is "
                "next to none)"
            )
        if self.approach not in APPROACHES:
            raise InputError(
                f"approach of rre is {self.approach!r}; choices are {', '.join(APPROACHES)}"
            )
        values, vectors = np.linalg.eigh(gram)
        values = np.maximum(values, 0.0) + self.regularization * values[-1]
        weights = vectors @ (vectors.sum(axis=0) / values)
        self.gamma_ = weights / weights.sum()
        # Σ γ_t w_t − w_n in differences: w_t − w_n = −Σ_{s>t} Δ_s.
        ahead = -np.concatenate([[0.0], np.cumsum(self.gamma_)[:-1]])
        h = task.horizons.astype(np.float64)
        self.rate_ = self._rate(gram, ahead) if self.approach == "geometric" else 0.0
        return ahead[:, None] * (1.0 - self.rate_**h)

    def _rate(self, gram: Doubles, ahead: Doubles) -> float:
        left = float(ahead @ gram @ ahead)
        covered = float(gram.sum(axis=0) @ ahead)  # ⟨w_n − w_0, u⟩
        if left <= 0 or covered <= 0:
            return 1.0
        return float((left / (left + covered)) ** (1.0 / len(gram)))

    def diagnostics(self) -> dict[str, Any]:
        return {"rate": self.rate_} if hasattr(self, "rate_") else {}
