"""`logit-scale`: no forecast at all, only the run's own training loss as the last layer grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.forecaster import CoordinateForecaster, OneLookForecaster, PerCoordinate
from weightcast.methods.line_search import minimise_along
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

_LARGEST = 16.0


@register("logit-scale")
class LogitScale(OneLookForecaster):
    """Stay at w_n, with the last layer's tensors times the scale at which the loss is lowest.

    All logits of a network that ends in a linear layer grow by the scale s, 1 ≤ s ≤ 16: a
    temperature of 1/s. What it predicts stays the same, and only how sure it is of it changes. s
    minimises the training loss: doubling steps bracket the minimum, golden sections narrow it. The
    forecast is the same at all horizons. A reference, not a forecaster: it says how much of a lower
    loss comes from larger logits, and not from knowing where weights go. It needs no training runs,
    but it may measure the loss, and each measurement is counted.

    Parameters
    ----------
    evaluations : int
        Training losses measured at the most.

    Attributes
    ----------
    scale_ : float
        s of the last forecast.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "the temperature that scipy.optimize finds",
        "provenance": "own-run-only",
        "needs": ("train-loss",),
        "role": "reference",
        "reference": "temperature scaling, Guo et al. 2017, arXiv 1706.04599",
    }

    def __init__(self, evaluations: int = 15) -> None:
        self.evaluations = evaluations
        super().__init__()

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        if history.loss is None:
            raise ValueError("logit-scale needs the training loss, and this run cannot be rebuilt")
        loss, last = history.loss, history.last
        deepest = max(info.depth for info in history.tensors)
        grown = {info.name for info in history.tensors if info.depth == deepest}

        def along(alpha: float) -> float:
            scale = np.float32(1 + alpha)
            return loss({name: scale * w if name in grown else w for name, w in last.items()})

        alpha = minimise_along(along, self.evaluations, _LARGEST - 1, shortest=0.1)
        self.scale_ = 1 + alpha
        count = len(task.horizons)

        def scaled(context: Floats, task: ForecastTask) -> Floats:
            at = task.tensor
            assert at is not None
            scale = np.float32(self.scale_ if at.name in grown else 1.0)
            return np.repeat(scale * context[:, -1:], count, axis=1)

        return PerCoordinate(scaled)

    def diagnostics(self) -> dict[str, Any]:
        return {"scale": self.scale_} if hasattr(self, "scale_") else {}
