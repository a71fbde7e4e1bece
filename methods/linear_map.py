"""What the 1-layer farcasters share: one linear map for all coordinates, fitted over blocks.

The map of Shou et al. (arXiv 2505.02714), X·A + b = Y, is fitted here on differences from w_n: with
features x = (w_t − w_n for the chosen columns t, w_n, 1) it forecasts w_j − w_n. Both forms span
the same maps, since A and b take up any multiple of w_n, and the differences keep the digits that
float32 values near each other would lose. Sums run in float64 over blocks, so memory does not grow
with the network and the block size changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, Trajectory
from weightcast.methods.forecaster import CoordinateForecaster

Doubles = NDArray[np.float64]


class LinearMap(CoordinateForecaster):
    """Base of the farcasters; subclasses choose the columns and solve for ``map_``.

    Attributes
    ----------
    map_ : ndarray, shape (p, m), float64
        From p features to the displacement at m horizons.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "fit-on-train-split",
        "reference": "Shou et al. 2025, arXiv 2505.02714",
    }

    map_: Doubles

    def columns(self, task: ForecastTask) -> list[int]:
        """Return the context columns T that the map sees; the last is always w_n."""
        return [0, task.context]

    def features(self, context: Floats, task: ForecastTask) -> Doubles:
        """Return x (c, p): w_t − w_n for all columns but the last, w_n, 1."""
        last = context[:, -1:].astype(np.float64)
        seen = self.columns(task)[:-1]
        return np.concatenate([context[:, seen] - last, last, np.ones_like(last)], axis=1)

    def material(
        self, runs: Sequence[Trajectory], task: ForecastTask
    ) -> Iterator[tuple[Doubles, Doubles]]:
        """Stream features (c, p) and displacements (c, m) of whole runs, block by block."""
        for run in runs:
            for context, target in task.pairs(run):
                moved = target.astype(np.float64) - context[:, -1:]
                yield self.features(context, task), moved

    def fit_least_squares(self, train: Sequence[Trajectory], task: ForecastTask) -> Self:
        """Solve the normal equations in one pass."""
        p = len(self.columns(task)) + 1
        gram, moment = np.zeros((p, p)), np.zeros((p, len(task.horizons)))
        for x, y in self.material(train, task):
            gram += x.T @ x
            moment += x.T @ y
        self.map_ = solve_normal(gram, moment)
        return self

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        step = self.features(context, task) @ self.map_
        forecast: Floats = (context[:, -1:] + step).astype(np.float32)
        return forecast

    def parameter_count(self) -> int:
        return int(self.map_.size)

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * (len(self.columns(task)) + 1) * len(task.horizons)


def solve_normal(gram: Doubles, moment: Doubles) -> Doubles:
    """Solve gram @ map = moment, or give the smallest solution where it is singular.

    Parameters
    ----------
    gram : ndarray, shape (..., p, p)
    moment : ndarray, shape (..., p, k)

    Notes
    -----
    Features are brought to unit length first, so that the cut-off for singular directions means the
    same whatever their scales; a feature that is zero throughout gets a zero coefficient.
    """
    scale = np.sqrt(np.einsum("...pp->...p", gram))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = gram * inverse[..., :, None] * inverse[..., None, :]
    solution: Doubles = np.linalg.pinv(scaled, rcond=1e-13, hermitian=True) @ (
        moment * inverse[..., :, None]
    )
    solution *= inverse[..., :, None]
    return solution
