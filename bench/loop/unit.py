"""A loop job as a unit of work: one call in a worker trains all its runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weightcast.bench.engine.events import LoopDone, LoopEnded, LoopStarted, Tell
from weightcast.bench.engine.worker import Worker, WorkerEnded
from weightcast.bench.plan.loop_settings import LoopJob, loop_row
from weightcast.bench.scoring.worker_side import Setup, make_loop

if TYPE_CHECKING:
    from weightcast.bench.scoring.unit import Site


@dataclass(frozen=True)
class LoopUnit:
    """The runs of a job that are missing."""

    job: LoopJob

    @property
    def key(self) -> str:
        """Tells units of one run apart."""
        return self.job.key

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.job.suite

    @property
    def shown(self) -> tuple[str, str]:
        """Data set and method as the progress table names them."""
        return self.job.shown

    @property
    def cells(self) -> int:
        """How many runs there are."""
        return len(self.job.runs)

    @property
    def keys(self) -> list[str]:
        """The runs' keys."""
        return [run.key for run in self.job.runs]

    def run(
        self, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
    ) -> None:
        """Train all runs, and tell of them at the end.

        Raises
        ------
        Stopped
            If ``stop`` was set: what is half trained is of no use.
        """
        began = time.perf_counter()
        tell(LoopStarted(self.job))
        shared: dict[str, Any] = {
            "jobs": where.jobs,
            "threads": where.threads,
            "machine": where.machine,
        }
        try:
            rows = worker.call(make_loop, setup, self.job, stop=stop)
        except WorkerEnded as end:
            rows = [
                loop_row(self.job, run, status=end.status, reason=end.reason, traceback=end.trace)
                for run in self.job.runs
            ]
        tell(LoopDone(self.job, [row | shared for row in rows]))
        tell(LoopEnded(self.job, time.perf_counter() - began))
