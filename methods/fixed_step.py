"""`fixed-step`: one and the same share of the way so far, for every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.rel import rel_sum
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, Trajectory
from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register


@register("fixed-step")
class FixedStep(CoordinateForecaster):
    """Jump along w_n − w_0 by a length that all runs share: ŵ_{n+h} = w_n + min(h/n, α)(w_n − w_0).

    The path of `line-search`, without its look at the loss: what another forecast gains beyond this
    row is due to its direction, or to a length of its own for each run.

    Parameters
    ----------
    length : float or None
        α ≥ 0; 0 is the last value. None: of ``lengths`` the one with the lowest median `rel_sum`
        over the validation runs.
    lengths : sequence of float
        Candidates for α.

    Attributes
    ----------
    alpha_ : float
        The length that is used.

    Notes
    -----
    Each candidate's error is a quadratic in three sums over coordinates, so choosing takes one pass
    over the validation runs however many candidates there are.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "every candidate length tried",
        "provenance": "fit-on-train-split",
        "reference": "control of this benchmark",
        "scale_free": True,
        "shift_free": True,
    }

    def __init__(
        self,
        length: float | None = None,
        lengths: Sequence[float] = (
            0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0,
        ),
    ) -> None:  # fmt: skip
        self.length = length
        self.lengths = lengths
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Self:
        given = [self.length] if self.length is not None else list(self.lengths)
        if not given or not all(np.isfinite(a) and a >= 0 for a in given):
            raise InputError(
                f"lengths of fixed-step are {given}; give numbers from 0 up, such as 0.2"
            )
        self.alpha_ = float(given[0])
        if self.length is None:
            self.alpha_ = self._best(given, validation, task)
        return self

    def _best(
        self, lengths: Sequence[float], validation: Sequence[Trajectory], task: ForecastTask
    ) -> float:
        reach = np.stack([_reach(alpha, task) for alpha in lengths])  # (lengths, m)
        scores = []
        for run in validation:
            moved, dot = np.zeros(reach.shape[1]), np.zeros(reach.shape[1])
            chord = last = 0.0
            for context, target in task.pairs(run):
                anchor = context[:, -1].astype(np.float64)
                truth = target - anchor[:, None]  # (c, m)
                way = anchor - context[:, 0]
                moved += (truth**2).sum(axis=0)
                dot += way @ truth
                chord += float(way @ way)
                last += float(anchor @ anchor)
            errors = np.maximum(moved - 2 * reach * dot + reach**2 * chord, 0.0)
            scores.append([rel_sum(error, moved, last) for error in errors])
        # A run that stays where it is has no error to choose by.
        moving = np.array([row for row in scores if np.isfinite(row).all()])
        if not len(moving):
            raise ValueError("no validation run moves after its origin: nothing to choose by")
        return float(lengths[int(np.argmin(np.median(moving, axis=0)))])

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        reach = _reach(self.alpha_, task).astype(np.float32)
        forecast: Floats = context[:, -1:] + (context[:, -1:] - context[:, :1]) * reach
        return forecast

    def parameter_count(self) -> int:
        return 1

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 1.0 + 2.0 * len(task.horizons)

    def diagnostics(self) -> dict[str, Any]:
        return {"alpha": self.alpha_}


def _reach(alpha: float, task: ForecastTask) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of the way so far that the forecast has gone at each horizon, shape (m,)."""
    return np.minimum(task.horizons.astype(np.float64) / task.context, alpha)
