"""What can be said while a method, which says nothing itself, is at work.

A line now and then has the time so far. Where the method reads runs, as a fit does, how far it is
in reading them tells the time left of that pass.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from weightcast.bench.progress.bar import EVERY, duration
from weightcast.datasets import Trajectory
from weightcast.datasets.trajectory import Floats, TensorInfo
from weightcast.datasets.window import Window


class Reading:
    """One side of a fit's runs, and how far a method is in reading them.

    Give the method `runs`, and the reading to `signs_of_life`. How often the method will read them,
    and how long it thinks after that, only it knows; what can be said of the time left is that of a
    pass.

    Parameters
    ----------
    side : str
        A word on what they are for.
    runs : sequence of Trajectory
    snapshots : range
        Those that the method sees.

    Attributes
    ----------
    runs : list of Trajectory
    """

    def __init__(self, side: str, runs: Sequence[Trajectory], snapshots: range) -> None:
        self.runs = [_WatchedRun(run, snapshots, self) for run in runs]
        self._side = side
        self._total = max(1, len(snapshots) * sum(run.n_coordinates for run in self.runs))
        self._passes = self._read = 0
        self._pass_start = self._last = time.monotonic()

    def add(self, numbers: int) -> None:
        """Count numbers that were read."""
        self._last = time.monotonic()
        ended, read = divmod(self._read + numbers, self._total)
        if ended or self._read == 0:
            self._pass_start = self._last
        self._passes, self._read = self._passes + ended, read

    def left(self) -> str:
        """Say how long the present pass will take, nothing where none is under way."""
        share = self._read / self._total
        if share == 0 or time.monotonic() - self._last > EVERY:
            return ""
        left = (self._last - self._pass_start) * (1 - share) / share
        return (
            f", about {duration(left)} left of pass {self._passes + 1} over the {self._side} runs"
        )


class _WatchedRun(Window):
    """The first snapshots of a run; every reading is reported."""

    def __init__(self, run: Trajectory, snapshots: range, reading: Reading) -> None:
        super().__init__(run, snapshots)
        self._reading = reading

    def read(
        self,
        tensor: TensorInfo,
        snapshots: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Floats | None = None,
    ) -> Floats:
        values = super().read(tensor, snapshots, start, stop, out)
        self._reading.add(values.size)
        return values


@contextmanager
def signs_of_life(what: str, *readings: Reading) -> Iterator[None]:
    """Print a line now and then over a block, with the time left of the passes under way."""
    start, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        while not ended.wait(EVERY):
            left = "".join(reading.left() for reading in readings)
            elapsed = duration(time.monotonic() - start)
            print(f"{what}: {elapsed} so far{left}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
