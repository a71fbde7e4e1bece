"""A loop group as a unit of work: one call in a worker trains all its runs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from weightcast.bench.engine.events import Ended, Event, LoopDone, Shown, Started, Tell
from weightcast.bench.engine.failure import Failure, failure_of
from weightcast.bench.engine.processes.inside import (
    check_code,
    check_files,
    load_plugins,
    pin_threads,
)
from weightcast.bench.engine.processes.undisturbed import undisturbed
from weightcast.bench.engine.processes.worker import Worker, WorkerEnded
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.work import NETWORKS, heavy_libraries
from weightcast.bench.plan.loop_row import LoopRow, loop_row
from weightcast.bench.plan.loop_settings import CONTROLS, LoopGroup


@dataclass(frozen=True)
class LoopUnit:
    """The runs of a group that are missing: see `engine.work.Work`."""

    group: LoopGroup

    @property
    def key(self) -> str:
        return self.group.key

    @property
    def suite(self) -> str:
        return self.group.suite

    @property
    def shown(self) -> Shown:
        return self.group.shown

    @property
    def method(self) -> str:
        return self.group.method

    @property
    def keys(self) -> list[str]:
        return [run.key for run in self.group.runs]

    @property
    def turn(self) -> tuple[int | str, ...]:
        """As they were planned: plain training first."""
        return (0,)

    @property
    def modules(self) -> frozenset[str]:
        own = frozenset() if self.group.method in CONTROLS else heavy_libraries(self.group.method)
        return frozenset({make_loop.__module__}) | NETWORKS | own

    @property
    def like_others(self) -> bool:
        """Each run trains a network as the others do."""
        return True

    @property
    def slow(self) -> bool:
        return False

    def run(
        self, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
    ) -> None:
        """Train all runs, and tell of them at the end; what is half trained is of no use."""
        began = time.perf_counter()
        tell(Started(self.shown))
        try:
            rows = undisturbed(
                worker, lambda: worker.call(make_loop, setup, self.group, stop=stop), stop
            )
        except WorkerEnded as end:
            rows = failed_rows(self.group, end.failure)
        tell(self._done(rows, where))
        tell(Ended(self.key, self.shown, time.perf_counter() - began))

    def given_up(self, why: Failure, where: Site) -> list[Event]:
        rows = failed_rows(self.group, why)
        return [Started(self.shown), self._done(rows, where), Ended(self.key, self.shown)]

    def _done(self, rows: list[LoopRow], where: Site) -> LoopDone:
        for row in rows:
            row["jobs"], row["threads"], row["machine"] = where.jobs, where.threads, where.machine
        return LoopDone(self.shown, rows)


def make_loop(setup: Setup, group: LoopGroup) -> list[LoopRow]:
    """Train the runs of a loop group; what its forecaster raises becomes the rows' status."""
    from weightcast.bench.loop.training import run_loop

    try:
        load_plugins(setup, None if group.method in CONTROLS else group.method, [group.dataset])
        if group.code:
            check_code(setup, group.method, group.code)
        pin_threads()
        check_files(group.method, group.params, group.files)
        rows = run_loop(group)
        check_files(group.method, group.params, group.files)
        return rows
    except BaseException as error:  # a method may well call sys.exit
        return failed_rows(group, failure_of(error))


def failed_rows(group: LoopGroup, why: Failure) -> list[LoopRow]:
    """Make the rows of runs that have no result."""
    return [
        loop_row(group, run)
        | {
            "status": why.status,
            "reason": why.reason,
            "traceback": why.traceback,
            "again": why.again,
        }
        for run in group.runs
    ]
