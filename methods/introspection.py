"""`introspection`: four values of a weight's past to its value at twice the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import unknown
from weightcast.methods.learned import LearnedForecaster, value_range
from weightcast.methods.registry import register

if TYPE_CHECKING:
    import torch

    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats

FRACTIONS = (0.0, 0.4, 0.7, 1.0)
SCALINGS = ("coordinate", "raw")
_THOUSANDTH = np.float32(1e-3)


@register("introspection")
class Introspection(LearnedForecaster):
    """ŵ(2t) = f(w(0), w(0.4t), w(0.7t), w(t)), f a net 4 → 40 with ReLU → 1 of 241 parameters.

    t is the origin's step, counted from the context's first snapshot, and the inputs are the
    snapshots nearest to those times. The native horizon is t itself, 2t from the start. A context
    of fewer than four snapshots cannot give four inputs: the method abstains.

    Trained on the training runs with the paper's L1 error, in raw weights, at the task's own origin
    or, where the runs end before its 2t, at the last origin whose 2t they reach.

    On the common grid: up to 2t on the straight line from w_n to ŵ(2t). Beyond, the jump is
    repeated from 2t to 4t and so on, inputs after the origin taken from the forecast's own line.

    Parameters
    ----------
    scaling : str
        ``"coordinate"``: less w(t), over the range of the four inputs, which bounds every jump by
        a multiple of that range. ``"raw"``: the values themselves in thousandths, so that the
        net's numbers are of the order of one.
    learning_rate, updates, patience, batch_size, rows, device
        As in `LearnedForecaster`.

    References
    ----------
    Sinha, Sarkar, Mukherjee, Krishnamurthy 2017, arXiv 1704.04959.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "implementation": "retrained here",
        "tested_against": "the published network in numpy",
        "reference": "Sinha et al. 2017, arXiv 1704.04959",
        "native_context": 4,
        "native_horizons": "context",
    }
    param_grid: ClassVar[dict[str, Any]] = {
        "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2),
        "scaling": SCALINGS,
    }

    def __init__(
        self,
        scaling: str = "coordinate",
        learning_rate: float = 1e-2,
        updates: int = 8000,
        patience: int = 16,
        batch_size: int = 256,
        rows: int = 8192,
        device: str = "cpu",
    ) -> None:
        self.scaling = scaling
        super().__init__(learning_rate, updates, patience, batch_size, rows, device)

    def build(self, n: int, m: int) -> torch.nn.Module:
        from weightcast.methods.nets import IntrospectionNet

        if self.scaling not in SCALINGS:
            raise unknown("scaling", self.scaling, SCALINGS)
        return IntrospectionNet()

    def split(self, values: Floats, task: ForecastTask) -> tuple[Floats, Floats]:
        since = np.concatenate([task.context_steps, task.horizon_steps]) - task.context_steps[0]
        origin = min(task.context, int(np.flatnonzero(2 * since <= since[-1])[-1]))
        double = int(np.abs(since - 2 * since[origin]).argmin())
        return values[:, _inputs(since[: origin + 1])], values[:, double : double + 1]

    def origin_and_scale(self, seen: Floats) -> tuple[Floats, Floats]:
        spread = value_range(seen)
        if self.scaling == "coordinate":
            return seen[:, -1:], spread
        return np.zeros_like(spread), np.where(spread > 0, _THOUSANDTH, np.float32(0))

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        if task.context < 3:
            return None
        since = task.context_steps - task.context_steps[0]
        wanted = task.horizon_steps - task.context_steps[0]
        times = [float(since[-1])]
        knots = [context[:, -1]]
        seen = context[:, _inputs(since)]
        while times[-1] < wanted[-1]:
            made = self.forecast(seen, 1)[:, 0]
            # Nothing bounds a net on raw values; what it loses hold of stays where it is.
            knots.append(np.where(np.isfinite(made), made, knots[-1]))
            times.append(2 * times[-1])
            seen = np.stack(
                [
                    _between(times, knots, part * times[-1])
                    if part * times[-1] > since[-1]
                    else context[:, np.abs(since - part * times[-1]).argmin()]
                    for part in FRACTIONS
                ],
                axis=1,
            )
        forecast: Floats = np.stack([_between(times, knots, float(s)) for s in wanted], axis=1)
        return forecast

    def flops_per_coordinate(self, task: ForecastTask) -> float:
        return 2.0 * 4 * 40 + 2.0 * 40 + 2.0 * len(task.horizons)


def _inputs(since: NDArray[np.int64]) -> list[int]:
    """Return the snapshots nearest to the four fractions of the last one's time."""
    return [int(np.abs(since - part * since[-1]).argmin()) for part in FRACTIONS]


def _between(times: list[float], knots: list[Floats], time: float) -> Floats:
    """Return the values at a time on the lines between knots."""
    right = min(int(np.searchsorted(times, time)), len(times) - 1)
    left = max(0, right - 1)
    if left == right:
        return knots[right]
    share = np.float32((time - times[left]) / (times[right] - times[left]))
    value: Floats = knots[left] + share * (knots[right] - knots[left])
    return value
