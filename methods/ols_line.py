"""`ols-line`: the least-squares line through the whole context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.combination import Doubles, SnapshotCombination, polynomial
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("ols-line")
class OlsLine(SnapshotCombination):
    """Extend the ordinary least-squares line through w_0..w_n, one line a coordinate.

    The forecast is the line's own value at n + h; it does not start from w_n, so it also smooths
    the noise in the last snapshot.
    """

    _tags: ClassVar[dict[str, Any]] = {"tested_against": "numpy.polyfit"}

    def coefficients(self, task: ForecastTask) -> Doubles:
        return polynomial(np.arange(-task.context, 1.0), task.horizons.astype(np.float64), 1)
