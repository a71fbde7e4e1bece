"""The kernel of `rel`: squared error and squared displacement, summed over blocks.

Every weight metric of the suite, and every choice that a method makes on validation runs, is a
function of these few float64 sums, so all of them share one pass and one definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.trajectory import Floats

Doubles = NDArray[np.float64]

#: Displacements below this share of the last observed norm are left out of relative errors: a
#: run that does not move would make any forecast infinitely bad and the last value perfect.
STILL = 1e-6


#: Numbers added at a time, so that their differences stay in the processor's cache.
_AT_ONCE = 2**15


class RelSums:
    """Sums over coordinates, one entry a horizon.

    Attributes
    ----------
    error : ndarray, shape (m,)
        Σ (ŵ_j − w_j)².
    moved : ndarray, shape (m,)
        D_j² = Σ (w_j − w_n)².
    forecast : ndarray, shape (m,)
        Σ (ŵ_j − w_n)².
    dot : ndarray, shape (m,)
        Σ (ŵ_j − w_n)(w_j − w_n).
    absolute : ndarray, shape (m,)
        Σ |ŵ_j − w_j|.
    last : float
        ‖w_n‖².
    count : int
        Coordinates summed.
    """

    def __init__(self, m: int) -> None:
        self.error = np.zeros(m)
        self.moved = np.zeros(m)
        self.forecast = np.zeros(m)
        self.dot = np.zeros(m)
        self.absolute = np.zeros(m)
        self.last = 0.0
        self.count = 0

    def add(self, forecast: Floats, target: Floats, last: Floats) -> None:
        """Add a block.

        Parameters
        ----------
        forecast, target : ndarray, shape (c, m)
        last : ndarray, shape (c,)
            The last observed values.
        """
        at_once = max(1, _AT_ONCE // len(self.error))
        for start in range(0, len(last), at_once):
            rows = slice(start, start + at_once)
            self._add(forecast[rows], target[rows], last[rows])

    def _add(self, forecast: Floats, target: Floats, last: Floats) -> None:
        anchor = last.astype(np.float64)
        # A horizon's numbers side by side, in whatever order they come: mixed orders take thrice as
        # long, and sums run along them.
        truth = np.ascontiguousarray(target.T) - anchor  # (m, c)
        step = np.ascontiguousarray(forecast.T) - anchor
        error = step - truth
        self.error += np.vecdot(error, error)
        self.moved += np.vecdot(truth, truth)
        self.forecast += np.vecdot(step, step)
        self.dot += np.vecdot(step, truth)
        self.absolute += np.abs(error, out=error).sum(axis=1)
        self.last += float(anchor @ anchor)
        self.count += len(last)

    def merge(self, other: RelSums) -> None:
        """Add another block's or tensor's sums."""
        for name in ("error", "moved", "forecast", "dot", "absolute"):
            getattr(self, name).__iadd__(getattr(other, name))
        self.last += other.last
        self.count += other.count

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Horizons with enough displacement to divide by, shape (m,)."""
        moving: NDArray[np.bool_] = np.sqrt(self.moved) > STILL * np.sqrt(self.last)
        return moving

    def rel_sum(self) -> float:
        """Σ_j ‖ŵ_j − w_j‖ / Σ_j D_j over moving horizons; NaN where none moves."""
        return rel_sum(self.error, self.moved, self.last)


def rel_sum(error: Doubles, moved: Doubles, last: float) -> float:
    """Σ_j √error_j / Σ_j √moved_j over the horizons that move.

    Parameters
    ----------
    error, moved : ndarray, shape (m,)
        Squared error and squared displacement.
    last : float
        Squared norm of the last observed weights.
    """
    displacement = np.sqrt(moved)
    moving = displacement > STILL * np.sqrt(last)
    if not moving.any():
        return float("nan")
    return float(np.sqrt(error[moving]).sum() / displacement[moving].sum())
