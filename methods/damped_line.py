"""`damped-line`: a line whose steps shrink, tuned on validation runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.rel import rel_sum
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats, Trajectory


@register("damped-line")
class DampedLine(CoordinateForecaster):
    """Damped trend, ŵ_{n+h} = w_n + (w_n − w_{n−k})/k · Σ_{i=1..h} φ^i.

    Parameters
    ----------
    lags : sequence of int
        Candidates for k; those beyond the context are passed over.
    dampings : sequence of float
        Candidates for φ. 0 is the last value, 1 an undamped line.

    Attributes
    ----------
    k_, phi_ : int, float
        The pair with the lowest median `rel_sum` over the validation runs.

    Notes
    -----
    The damped trend is Gardner and McKenzie's (Management Science, 1985). Each candidate's error is
    a quadratic in three sums over coordinates, so choosing takes one pass over the validation runs
    however many candidates there are.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "the sum written out, every pair tried",
        "provenance": "fit-on-train-split",
        "reference": "Gardner & McKenzie 1985 (damped trend)",
        "scale_free": True,
        "shift_free": True,
    }

    def __init__(
        self,
        lags: Sequence[int] = (1, 2, 3, 5, 7, 10, 15, 20),
        dampings: Sequence[float] = (
            0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94,
            0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 1.0,
        ),
    ) -> None:  # fmt: skip
        self.lags = lags
        self.dampings = dampings
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        lags = [k for k in self.lags if k <= task.context]
        reach = np.stack([damped_sum(phi, task.horizons) for phi in self.dampings])  # (φ, m)
        scores = np.empty((len(validation), len(lags), len(self.dampings)))
        for row, run in enumerate(validation):
            moved = np.zeros(len(task.horizons))
            slope, dot = np.zeros(len(lags)), np.zeros((len(lags), len(moved)))
            last = 0.0
            for context, target in task.pairs(run):
                anchor = context[:, -1].astype(np.float64)
                truth = target - anchor[:, None]  # (c, m)
                slopes = np.stack([(anchor - context[:, -1 - k]) / k for k in lags])  # (k, c)
                moved += (truth**2).sum(axis=0)
                slope += (slopes**2).sum(axis=1)
                dot += slopes @ truth
                last += float(anchor @ anchor)
            for i in range(len(lags)):
                for j in range(len(reach)):
                    error = moved - 2 * reach[j] * dot[i] + reach[j] ** 2 * slope[i]
                    scores[row, i, j] = rel_sum(np.maximum(error, 0.0), moved, last)
        # A run that stays where it is has no error to choose by.
        moving = scores[np.isfinite(scores).all(axis=(1, 2))]
        if not len(moving):
            raise ValueError("no validation run moves after its origin: nothing to choose by")
        score = np.median(moving, axis=0)
        lag, damping = divmod(int(np.argmin(score)), len(self.dampings))
        self.k_, self.phi_ = lags[lag], float(self.dampings[damping])
        return self

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        before = context[:, -1 - self.k_, None]
        reach = (damped_sum(self.phi_, task.horizons) / self.k_).astype(np.float32)
        forecast: Floats = context[:, -1:] + (context[:, -1:] - before) * reach
        return forecast

    def parameter_count(self) -> int:
        return 2

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 + 2.0 * len(task.horizons)

    def diagnostics(self) -> dict[str, Any]:
        return {"k": self.k_, "phi": self.phi_}


def damped_sum(phi: float, horizons: NDArray[np.float32]) -> NDArray[np.float64]:
    """Σ_{i=1..h} φ^i for every horizon h, shape (m,)."""
    h = np.asarray(horizons, dtype=np.float64)
    return h if phi == 1.0 else phi * (1.0 - phi**h) / (1.0 - phi)
