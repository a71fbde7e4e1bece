"""`oracle-line`: the best that anyone can do who stays on the line through w_0 and w_n."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask, Pair
    from weightcast.datasets.trajectory import Floats


@register("oracle-line")
class OracleLine(CoordinateForecaster):
    """The point of w_n + α (w_n − w_0) nearest to the truth, at each horizon apart.

    α_j = ⟨w_{n+j} − w_n, d⟩ / ⟨d, d⟩ with d = w_n − w_0, over all coordinates of the network. No
    forecast on that line has a lower ‖ŵ_j − w_j‖ at any horizon, hence no lower `rel_sum`; on a
    sample of coordinates, tensor by tensor, and in the real network's loss, another one may. A
    reference, not a forecaster: it is told the snapshots that it is to forecast.

    Attributes
    ----------
    alpha_ : ndarray, shape (m,)
        Only in what `with_truth` returns. Without the truth α is zero, the last value.

    Notes
    -----
    ``needs`` has ``"truth"``, which the harness honours for references of this package alone
    (`weightcast.bench.scoring.forecasting`). The truth is shown to a copy that serves one forecast,
    so what was fitted knows no more than any method.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "numpy.linalg.lstsq",
        "provenance": "own-run-only",
        "role": "reference",
        "needs": ("truth",),
        "reference": "orthogonal projection on w_n − w_0",
    }

    def with_truth(self, pairs: Iterable[Pair]) -> Self:
        """Return a copy that knows α of one run, from all its (context, target) blocks."""
        dots: Any = 0.0
        length = 0.0
        for context, target in pairs:
            last = context[:, -1].astype(np.float64)
            chord = last - context[:, 0]
            length += float(chord @ chord)
            dots = dots + chord @ (target - last[:, None])
        told: Self = self.clone()
        told.alpha_ = np.asarray(dots) / length if length > 0 else np.zeros_like(dots)
        return told

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        alpha = getattr(self, "alpha_", np.zeros(len(task.horizons)))
        last = context[:, -1:].astype(np.float64)
        forecast: Floats = (last + (last - context[:, :1]) * alpha).astype(np.float32)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 1.0 + 2.0 * len(task.horizons)
