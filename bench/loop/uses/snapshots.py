"""What a forecaster of the loop tier sees of runs in training."""

from __future__ import annotations

import torch

from weightcast.bench.loop.stepping.runs import TrainingRuns
from weightcast.bench.plan.loop_settings import READ_OUT, LoopGroup
from weightcast.datasets.trajectory import Floats


class Snapshots:
    """Takes the weights every so many steps, or their means over these steps.

    Parameters
    ----------
    group : LoopGroup
    training : TrainingRuns

    Attributes
    ----------
    taken : list of ndarray, shape (runs, coordinates)
        The start is the first.
    """

    def __init__(self, group: LoopGroup, training: TrainingRuns) -> None:
        self._training, self._spacing = training, group.settings.spacing
        means = group.use == READ_OUT and group.settings.read_means
        self._sum = torch.zeros_like(training.weights) if means else None
        self.taken: list[Floats] = [training.weights.numpy().copy()]

    def after(self, step: int) -> bool:
        """Take what is due after a step; tell whether something was."""
        if self._sum is not None:
            self._sum += self._training.weights
        if step % self._spacing:
            return False
        if self._sum is None:
            self.taken.append(self._training.weights.numpy().copy())
        else:
            self.taken.append((self._sum / self._spacing).numpy())
            self._sum.zero_()
        return True
