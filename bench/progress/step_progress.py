"""Progress of runs that are trained side by side, counted in steps, with time left.

A snapshot of a large network takes a minute, and getting ready to train takes another. So that
whoever waits knows that something is going on, lines come at their time, whether or not anything
was finished since the last one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from weightcast.bench.progress.bar import EVERY, duration

#: Seconds between looks on a terminal.
_REFRESH = 0.5
#: Runs under way that a line names.
_NAMED = 3


@dataclass
class _Run:
    label: str
    first: int = 0
    step: int = 0
    since: float | None = None
    latest: float = 0.0
    ended: bool = False


class StepProgress:
    """How far runs are.

    Parameters
    ----------
    labels : sequence of str
        One a run.
    steps : int
        Of each.
    every : int
        Steps between what is counted, snapshots.
    jobs : int
        Runs side by side.
    expected : float
        Seconds that a run is likely to take; 0 where nobody knows.
    clock : callable
    """

    def __init__(
        self,
        labels: Sequence[str],
        steps: int,
        every: int,
        jobs: int,
        expected: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = [_Run(label) for label in labels]
        self._steps, self._every, self._jobs, self._expected = steps, every, jobs, expected
        self._clock = clock
        self._start = clock()

    def at(self, run: int, step: int) -> None:
        """Say that a run is at a step; the first call for a run, that its training begins there."""
        found = self._runs[run]
        if found.since is None:
            found.since, found.first = self._clock(), step
        if step != found.step:
            found.step, found.latest = step, self._clock()

    def end(self, run: int) -> None:
        """Say that a run is over, through or not."""
        self._runs[run].ended = True

    @property
    def total(self) -> int:
        """Snapshots in all, the first ones apart."""
        return len(self._runs) * (self._steps // self._every)

    @property
    def done(self) -> int:
        """Snapshots that are done."""
        return sum(self._step(run) // self._every for run in self._runs)

    def left(self) -> float | None:
        """Return the seconds that are likely still to go; None where nobody knows."""
        trained = [run for run in self._runs if run.since is not None and run.step > run.first]
        steps = sum(run.step - run.first for run in trained)
        if steps:
            pace = sum(run.latest - (run.since or 0.0) for run in trained) / steps
        elif self._expected:
            pace = self._expected / self._steps
        else:
            return None
        runs = [pace * (self._steps - self._step(run)) for run in self._runs]
        # The last runs have fewer beside them than there are jobs.
        return max(sum(runs) / self._jobs, max(runs, default=0.0))

    def said(self) -> str:
        """Say how long it has taken, how long it will, and what is under way."""
        left = self.left()
        ahead = "time left not known yet" if left is None else f"about {duration(left)} left"
        begun = [run for run in self._runs if run.since is not None]
        going = [run for run in begun if not run.ended]
        if all(run.ended for run in self._runs):
            going = sorted(begun, key=lambda run: run.latest)[-1:]
        shown = "; ".join(
            f"{run.label}, step {run.step:,} of {self._steps:,}" for run in going[:_NAMED]
        )
        more = f" and {len(going) - _NAMED} more" if len(going) > _NAMED else ""
        elapsed = duration(self._clock() - self._start)
        return f"{elapsed} so far, {ahead} ({shown or 'getting ready'}{more})"

    def _step(self, run: _Run) -> int:
        return self._steps if run.ended else run.step


@contextmanager
def step_progress(what: str, progress: StepProgress) -> Iterator[StepProgress]:
    """Show progress on standard error over a block: a bar on a terminal, lines elsewhere."""
    ended = threading.Event()
    tell = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=tell, args=(what, progress, ended), daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join()


def _lines(what: str, progress: StepProgress, ended: threading.Event) -> None:
    going = True
    while going:
        going = not ended.wait(EVERY)
        if going or progress.done:
            print(
                f"{what}: {progress.done}/{progress.total}, {progress.said()}",
                file=sys.stderr,
                flush=True,
            )


def _bar(what: str, progress: StepProgress, ended: threading.Event) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=progress.total, said="")
        while not ended.wait(_REFRESH):
            bar.update(task, completed=progress.done, said=progress.said())
