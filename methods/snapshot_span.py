"""What `dmd` and `rre` share: forecasts in the span of the run's own snapshots.

Such a forecast is w_n + Σ_t C_tj Δ_t with the same coefficients C for all coordinates, and C
follows from the Gram matrix of the differences alone. Two passes over the blocks therefore do, one
for the Gram matrix and one for the forecast, and what is solved has the size of the context.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from weightcast.methods.forecaster import CoordinateForecaster, OneLookForecaster, PerCoordinate

if TYPE_CHECKING:
    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

Doubles = NDArray[np.float64]


class SnapshotSpan(OneLookForecaster):
    """Base of both; subclasses turn the Gram matrix of Δ_1..Δ_n into coefficients."""

    def coefficients(self, gram: Doubles, task: ForecastTask) -> Doubles:
        """Return C from the differences' products.

        Parameters
        ----------
        gram : ndarray, shape (n, n)
            ⟨Δ_s, Δ_t⟩ over all coordinates, with the largest ‖Δ_t‖ as the unit.
        task : ForecastTask

        Returns
        -------
        ndarray, shape (n, m)
        """
        raise NotImplementedError(f"{type(self).__name__} has no coefficients")

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        n, m = len(history.steps) - 1, len(task.horizons)
        gram = np.zeros((n, n))
        for _, _, context in history.blocks(task.block_bytes):
            steps = np.diff(context.astype(np.float64), axis=1)
            gram += steps.T @ steps
        largest = gram.diagonal().max()
        # A run that stands still spans nothing.
        mix = self.coefficients(gram / largest, task) if largest > 0 else np.zeros((n, m))

        def extended(context: Floats, task: ForecastTask) -> Floats:
            values = context.astype(np.float64)
            moved = np.diff(values, axis=1) @ mix  # (c, m)
            forecast: Floats = (values[:, -1:] + moved).astype(np.float32)
            return forecast

        return PerCoordinate(extended)
