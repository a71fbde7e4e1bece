"""Lookahead: slow weights that go half the way to the fast ones every few steps."""

from __future__ import annotations

import statistics
import time

from weightcast.bench.loop.runs import TrainingRuns
from weightcast.bench.loop.uses.log import Log

#: Lookahead (Zhang et al. 2019, arXiv 1907.08610): steps between syncs, the slow weights' rate.
LOOKAHEAD_STEPS, LOOKAHEAD_RATE = 5, 0.5


class Lookahead:
    """Syncs slow and fast weights.

    Parameters
    ----------
    training : TrainingRuns
    log : Log
    """

    def __init__(self, training: TrainingRuns, log: Log) -> None:
        self._training, self._log = training, log
        self._slow = training.weights.clone()
        self._took: list[float] = []

    def after(self, step: int) -> None:
        """Sync where it is due."""
        if step % LOOKAHEAD_STEPS:
            return
        weights = self._training.weights
        start = time.perf_counter()
        self._slow.lerp_(weights, LOOKAHEAD_RATE)
        weights.copy_(self._slow)
        self._took.append((time.perf_counter() - start) / len(weights))
        # One entry for all syncs: their losses are not measured, and each costs the median's.
        seconds = statistics.median(self._took)
        for jumps in self._log.jumps:
            jumps[:] = [{"step": LOOKAHEAD_STEPS, "every": LOOKAHEAD_STEPS, "seconds": seconds}]
