"""Places: what a fit is trained on and what it is tested on.

Most tasks train and test on whole runs of one data set. Windows take a half of each run; shift
tracks train on one data set and test on another, or at another cadence.
"""

from __future__ import annotations

from dataclasses import dataclass

from weightcast.datasets import Trajectory
from weightcast.datasets.window import named_window, thinned

#: The split of tasks on whole runs; the others are windows.
WHOLE = "seeds"


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
        ``"seeds"`` for whole runs, or a window's name.
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

    def training_view(self, run: Trajectory) -> Trajectory:
        """Return what a training or validation run shows."""
        return self._view(run, 1)

    def test_view(self, run: Trajectory) -> Trajectory:
        """Return what a test run shows."""
        return self._view(run, self.every)

    def _view(self, run: Trajectory, every: int) -> Trajectory:
        if self.split != WHOLE:
            return named_window(run, self.split)
        return thinned(run, every, self.snapshots) if self.snapshots else run
