"""Controls with slow weights: Lookahead, and an outer step with momentum.

Every so many steps slow weights go part of the way to the fast ones, and training goes on from
there. No forecast is made.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from weightcast.bench.loop.stepping.runs import TrainingRuns
from weightcast.bench.loop.uses.log import Log
from weightcast.bench.plan.loop_settings import LoopRun

#: Lookahead (Zhang et al. 2019, arXiv 1907.08610): steps between syncs, the slow weights' rate.
LOOKAHEAD_STEPS, LOOKAHEAD_RATE = 5, 0.5


class _Syncs(ABC):
    """Base of both.

    Parameters
    ----------
    training : TrainingRuns
    log : Log
    every : int
        Steps from one sync to the next.
    """

    def __init__(self, training: TrainingRuns, log: Log, every: int) -> None:
        self._training, self._log, self._every = training, log, every
        self._slow = training.weights.clone()
        self._took: list[float] = []

    @abstractmethod
    def _go(self, slow: torch.Tensor, fast: torch.Tensor) -> None:
        """Move all runs' slow weights."""

    def after(self, step: int) -> None:
        """Sync where it is due."""
        if step % self._every:
            return
        weights = self._training.weights
        start = time.perf_counter()
        self._go(self._slow, weights)
        weights.copy_(self._slow)
        self._took.append((time.perf_counter() - start) / len(weights))
        # One entry for all syncs: their losses are not measured, and each costs the median's.
        seconds = statistics.median(self._took)
        for jumps in self._log.jumps:
            jumps[:] = [{"step": self._every, "every": self._every, "seconds": seconds}]


class Lookahead(_Syncs):
    """Slow weights go half the way; parameters are those of `_Syncs`."""

    def __init__(self, training: TrainingRuns, log: Log) -> None:
        super().__init__(training, log, LOOKAHEAD_STEPS)

    def _go(self, slow: torch.Tensor, fast: torch.Tensor) -> None:
        slow.lerp_(fast, LOOKAHEAD_RATE)


class Snoo(_Syncs):
    """Outer steps with Nesterov momentum along the way that fast weights went.

    With s = w − w̃, w̃ the fast weights: b ← μb + s, w ← w − η(μb + s); at μ = 0 it is Lookahead
    (arXiv 2510.15830).

    Parameters
    ----------
    training : TrainingRuns
    log : Log
    runs : sequence of LoopRun
        Their lengths are η, their momenta μ.
    every : int
    """

    def __init__(
        self, training: TrainingRuns, log: Log, runs: Sequence[LoopRun], every: int
    ) -> None:
        super().__init__(training, log, every)
        self._rate = torch.tensor([[run.length] for run in runs])
        self._momentum = torch.tensor([[run.momentum] for run in runs])
        self._buffer = torch.zeros_like(self._slow)

    def _go(self, slow: torch.Tensor, fast: torch.Tensor) -> None:
        way = slow - fast
        self._buffer.mul_(self._momentum).add_(way)
        slow.sub_(self._rate * (self._momentum * self._buffer + way))
