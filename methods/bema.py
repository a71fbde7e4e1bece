"""`bema`: a moving mean of the snapshots, pushed on against its lag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.methods.combination import Doubles, SnapshotCombination
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("bema")
class Bema(SnapshotCombination):
    """Forecast EMA_t + (ρ + γt)^−η (w_t − w_0) at every horizon, t the origin's step from w_0.

    EMA starts at w_0 and moves by (ρ + γt)^−κ towards each later snapshot, t its step. The second
    term makes up for what the mean lags behind. The paper updates every few hundred steps of a long
    run; here it is once a snapshot.

    Parameters
    ----------
    eta, kappa : float
        Powers of the correction and of the mean, 0 to 1; larger is less of both.
    rho, gamma : float
        In optimizer steps; ρ ≥ 1 keeps both factors at 1 and below.

    References
    ----------
    Block, Foster, Krishnamurthy, Simchowitz, Zhang 2025, arXiv 2508.00180.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "its recursion in a loop",
        "reference": "Block et al. 2025, arXiv 2508.00180",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {
        "eta": (0.1, 0.2, 0.4, 0.8),
        "kappa": (0.25, 0.5),
    }

    def __init__(
        self, eta: float = 0.2, kappa: float = 0.5, rho: float = 10.0, gamma: float = 1.0
    ) -> None:
        self.eta = eta
        self.kappa = kappa
        self.rho = rho
        self.gamma = gamma
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        for name, least in (("eta", 0.0), ("kappa", 0.0), ("rho", 1.0), ("gamma", 0.0)):
            if not getattr(self, name) >= least:
                raise InputError(
                    f"{name} of bema is {getattr(self, name)!r}; it must be {least:g} or more"
                )
        since = (task.context_steps - task.context_steps[0]).astype(np.float64)
        base = self.rho + self.gamma * since
        mean = np.zeros(len(since))
        mean[0] = 1.0
        for t, share in enumerate(base[1:] ** -self.kappa, start=1):
            mean *= 1 - share
            mean[t] += share
        push = base[-1] ** -self.eta
        mean[-1] += push
        mean[0] -= push
        return mean[:, None]
