"""What methods share whose forecast is one linear combination of the snapshots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.methods.forecaster import CoordinateForecaster, Forecaster

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

Doubles = NDArray[np.float64]


class SnapshotCombination(CoordinateForecaster):
    """Base of them: ŵ_{n+h} = Σ_t c_th w_t, with the same c for every coordinate of every run.

    For each horizon the coefficients sum to one, so what is computed is w_n + Σ_t c_th (w_t − w_n):
    differences keep their digits in float32.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "zero-shot",
        "scale_free": True,
        "shift_free": True,
    }

    def coefficients(self, task: ForecastTask) -> Doubles:
        """Return c, shape (n + 1, m), or (n + 1, 1) where all horizons have the same.

        Raises
        ------
        InputError
            If a parameter makes no sense.
        """
        raise NotImplementedError(f"{type(self).__name__} has no coefficients")

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        mix = self.coefficients(task).astype(np.float32)
        last = context[:, -1:]
        ahead = last + (context - last) @ mix  # (c, m) or (c, 1)
        forecast: Floats = np.repeat(ahead, len(task.horizons) // mix.shape[1], axis=1)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * float(self.coefficients(task).size)


def window(method: Forecaster, name: str, most: int, least: int = 1) -> int:
    """Return a parameter that counts snapshots, as far as the context allows.

    Raises
    ------
    InputError
        If it is no whole number from ``least`` on.
    """
    value = getattr(method, name)
    if not (isinstance(value, int) and value >= least):
        called = re.sub("(?<!^)(?=[A-Z])", "-", type(method).__name__).lower()
        raise InputError(
            f"{name} of {called} is {value!r}; it must be a whole number from {least} on"
        )
    return min(value, most)


def polynomial(times: Doubles, ahead: Doubles, degree: int) -> Doubles:
    """Return what a least-squares polynomial's value ahead weighs each time's value with.

    Parameters
    ----------
    times : ndarray, shape (k,)
        Where values are known, k > ``degree``.
    ahead : ndarray, shape (m,)
        Where values are asked for.
    degree : int

    Returns
    -------
    ndarray, shape (k, m)
        Columns sum to one.
    """
    design, asked = (np.vander(part, degree + 1) for part in (times, ahead))
    weights: Doubles = np.linalg.pinv(design).T @ asked.T
    return weights
