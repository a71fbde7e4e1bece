"""Places: what a fit is trained on and what it is tested on.

Most tasks train and test on whole runs of one data set. Windows take a half of each run; tasks of
few runs learn from the first of them alone; shift tracks train on one data set and test on another,
or at another cadence.
"""

from __future__ import annotations

from dataclasses import dataclass

from weightcast.datasets import Trajectory
from weightcast.datasets.window import WINDOWS, named_window, thinned

#: The split of tasks on whole runs and all training runs.
WHOLE = "seeds"
_FEW = "train-"


def few(train_runs: int) -> str:
    """Name the split whose fits learn from so many training runs."""
    return f"{_FEW}{train_runs}"


@dataclass(frozen=True)
class Place:
    """Training and test material of a task.

    Attributes
    ----------
    dataset : str
        The data set that is tested on.
    trained_on : str
        The data set that is trained and validated on.
    track : str
        ``"main"``, the data set's own track, or a shift.
    split : str
        ``"seeds"`` for whole runs, a window's name, or ``"train-3"`` for whole runs of which each
        rotation learns from its first three training runs.
    every : int
        Test runs are seen at every so many-th snapshot.
    snapshots : int
        How many of the first snapshots count in shift tracks, so that both sides have as many; 0
        for all.
    """

    dataset: str
    trained_on: str
    track: str = "main"
    split: str = WHOLE
    every: int = 1
    snapshots: int = 0

    @property
    def train_runs(self) -> int | None:
        """How many of a rotation's training runs are learned from; None for all."""
        return int(self.split[len(_FEW) :]) if self.split.startswith(_FEW) else None

    def training_view(self, run: Trajectory) -> Trajectory:
        """Return what a training or validation run shows."""
        return self._view(run, 1)

    def test_view(self, run: Trajectory) -> Trajectory:
        """Return what a test run shows."""
        return self._view(run, self.every)

    def _view(self, run: Trajectory, every: int) -> Trajectory:
        if self.split in WINDOWS:
            return named_window(run, self.split)
        return thinned(run, every, self.snapshots) if self.snapshots else run
