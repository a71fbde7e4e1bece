"""`svd-line`: each tensor's way from its start as one direction, and a line along it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from weightcast.methods.combination import Doubles, polynomial, window
from weightcast.methods.forecaster import CoordinateForecaster, OneLookForecaster, PerCoordinate
from weightcast.methods.registry import register

if TYPE_CHECKING:
    from weightcast.datasets.history import History
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import Floats


@register("svd-line")
class SvdLine(OneLookForecaster):
    """Extend a line along the first singular direction of each tensor's moves w_t − w_0.

    With σuvᵀ the best approximation of rank one to the moves, rows t = 1..n, a tensor is at
    w_0 + σu_t v; the least-squares line through the last k of the numbers σu_t, with 0 for w_0
    among them, is read at n + h. All tensors of one dimension and more are treated alike. The
    paper's window and its treatment of small tensors were not compared with these.

    Parameters
    ----------
    k : int
        Snapshots that the line is fitted to, 2 or more; n + 1 at the most.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "provenance": "own-run-only",
        "tested_against": "numpy.linalg.svd and numpy.polyfit",
        "reference": "RELEX 2026, arXiv 2605.21468",
    }
    param_grid: ClassVar[dict[str, Sequence[Any]]] = {"k": (2, 3, 4, 5, 6, 7, 9, 11)}

    def __init__(self, k: int = 11) -> None:
        self.k = k
        super().__init__()

    def look(self, history: History, task: ForecastTask) -> CoordinateForecaster:
        n = len(history.steps) - 1
        k = window(self, "k", n + 1, least=2)
        grams: dict[str, Doubles] = {}
        for info, _, context in history.blocks(task.block_bytes):
            moves = (context[:, 1:] - context[:, :1]).astype(np.float64)
            grams[info.name] = grams.get(info.name, 0.0) + moves.T @ moves
        line = np.zeros((n + 1, len(task.horizons)))
        line[-k:] = polynomial(np.arange(1.0 - k, 1.0), task.horizons.astype(np.float64), 1)
        mixes = {name: _mix(gram, line) for name, gram in grams.items()}

        def extended(context: Floats, task: ForecastTask) -> Floats:
            start = context[:, :1].astype(np.float64)
            assert task.tensor is not None
            moved = (context[:, 1:] - start) @ mixes[task.tensor.name]  # (c, m)
            forecast: Floats = (start + moved).astype(np.float32)
            return forecast

        return PerCoordinate(extended)


def _mix(gram: Doubles, line: Doubles) -> Doubles:
    """Return what each move counts in the forecast, u (uᵀ·line): (n, m)."""
    u = np.linalg.eigh(gram)[1][:, -1]
    # σu_t at the horizons is σ·(u·line), and σv is the moves times u: σ cancels.
    mix: Doubles = np.outer(u, u @ line[1:])
    return mix
