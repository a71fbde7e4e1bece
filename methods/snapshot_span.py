"""What `dmd` and `rre` share: forecasts in the span of the run's own snapshots.

Such a forecast is w_n + Σ_t C_tj Δ_t with the same coefficients C for all coordinates, and C
follows from the Gram matrix of the differences alone. Two passes over the blocks therefore do, one
for the Gram matrix and one for the forecast, and what is solved has the size of the context.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.history import History
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats
from weightcast.methods.forecaster import NetworkForecast, NetworkForecaster

Doubles = NDArray[np.float64]


class SnapshotSpan(NetworkForecaster):
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

    def predict(self, history: History, task: ForecastTask) -> NetworkForecast:
        n, m = len(history.steps) - 1, len(task.horizons)
        gram = np.zeros((n, n))
        for _, _, context in history.blocks(task.block_bytes):
            steps = np.diff(context.astype(np.float64), axis=1)
            gram += steps.T @ steps
        largest = gram.diagonal().max()
        # A run that stands still spans nothing.
        mix = self.coefficients(gram / largest, task) if largest > 0 else np.zeros((n, m))
        forecast: dict[str, Floats] = {
            info.name: np.empty((m, info.size), np.float32) for info in history.tensors
        }
        for tensor, start, context in history.blocks(task.block_bytes):
            values = context.astype(np.float64)
            moved = np.diff(values, axis=1) @ mix  # (c, m)
            forecast[tensor.name][:, start : start + len(values)] = (values[:, -1:] + moved).T
        return {info.name: forecast[info.name].reshape(m, *info.shape) for info in history.tensors}
