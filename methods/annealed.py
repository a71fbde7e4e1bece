"""`annealed`: where a falling learning rate would end, from two means of snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.methods.combination import Doubles, SnapshotCombination, window
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask


@register("annealed")
class Annealed(SnapshotCombination):
    """Forecast ŵ_h = m_B + α_h (m_B − m_A) with α_h = ((k − 1)/2 + h)/k, as far as noise allows.

    At a constant learning rate w circles about a path that moves on; a falling rate would settle on
    that path, some way ahead. m_B is the mean of the last k snapshots and m_A that of the k before
    them. As a mean m_B has less noise, but lies (k − 1)/2 snapshots behind; m_B − m_A is k
    snapshots of the path. So on a path that goes straight on ŵ_h is the path's own value h
    snapshots ahead, and the average's lag is gone.

    Of noise that is independent from snapshot to snapshot the forecast keeps the share
    ‖c‖² = ((1 + α)² + α²)/k, c its coefficients, which ``gain`` bounds: where the wanted α asks for
    more, the largest α within the bound is taken, and the forecast looks less far ahead.

    Parameters
    ----------
    k : int
        Snapshots in each of the two means; half of the context's at the most.
    gain : float
        The largest ‖c‖²; 1 is the noise of the last snapshot alone. 1/k, the gain of m_B, is
        always granted.

    Notes
    -----
    Our own method. ``merge-line`` has the same form and a fixed α; here α follows from the lag and
    the horizon. Made to be a read-out of the loop tier, where training goes on at its constant rate
    and the forecast is measured.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "tested_against": "exact on lines; the variance of its noise; merge-line at the same α",
        "reference": "this benchmark",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (1, 2, 3, 5), "gain": (0.5, 1.0, 2.0)}

    def __init__(self, k: int = 5, gain: float = 1.0) -> None:
        self.k = k
        self.gain = gain
        super().__init__()

    def coefficients(self, task: ForecastTask) -> Doubles:
        k = window(self, "k", (task.context + 1) // 2)
        if not self.gain > 0:
            raise InputError(f"gain of annealed is {self.gain!r}; it must be above 0")
        alpha = reach(k, task.horizons, float(self.gain))
        mix = np.zeros((task.context + 1, len(alpha)))
        mix[-k:] = (1 + alpha) / k
        mix[-2 * k : -k] = -alpha / k
        return mix


def reach(k: int, horizons: NDArray[np.float32], gain: float) -> Doubles:
    """Return α for every horizon: what removes the lag and looks ahead, within the noise's bound.

    Parameters
    ----------
    k : int
    horizons : ndarray, shape (m,)
    gain : float
        The largest ((1 + α)² + α²)/k.

    Examples
    --------
    >>> reach(5, np.array([1.0, 3.0]), 10.0), reach(5, np.array([3.0]), 0.2)
    (array([0.6, 1. ]), array([0.]))
    """
    wanted = ((k - 1) / 2 + np.asarray(horizons, dtype=np.float64)) / k
    # The root of 2α² + 2α + 1 = gain · k.
    most = (np.sqrt(max(2 * gain * k - 1, 1.0)) - 1) / 2
    found: Doubles = np.minimum(wanted, most)
    return found
