"""A unit of work: a fit and those of its cells that are missing, in one worker.

A worker that ends over the fit costs the unit's cells; one that ends over a cell costs that cell.
The next one goes on with the same fitted method.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from weightcast.bench.engine.events import (
    CellDone,
    Ended,
    FitRecord,
    Fitted,
    Started,
    Tell,
)
from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.worker import Worker, WorkerEnded
from weightcast.bench.plan.fits import Fit
from weightcast.bench.scoring.cell import CellRow, rows_without_result
from weightcast.bench.scoring.worker_side import (
    NotHere,
    Setup,
    finish_fit,
    make_cell,
    make_fit,
    make_ready,
)

#: After so many cells in a row that ended their worker, the unit's others are not tried: each may
#: take the whole time limit.
ENOUGH = 2
#: Seconds that a process has to load plugins, data and libraries.
READY = 600.0


@dataclass(frozen=True)
class Unit:
    """A fit, and the seeds of the test runs whose cells are wanted."""

    fit: Fit
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        """Tells units of one run apart."""
        return self.fit.key

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.fit.suite

    @property
    def shown(self) -> tuple[str, str]:
        """Data set and method as the progress table names them."""
        return self.fit.shown

    @property
    def cells(self) -> int:
        """How many cells are wanted."""
        return len(self.seeds)

    @property
    def keys(self) -> list[str]:
        """The keys of those cells."""
        return [key for seed, key in self.fit.cells if seed in self.seeds]

    def run(
        self, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
    ) -> None:
        """See `run_unit`."""
        run_unit(self, worker, setup, where, tell, stop)


@dataclass(frozen=True)
class Site:
    """Where units are worked on: stands in every fit and cell.

    Attributes
    ----------
    machine : str
        JSON.
    jobs : int
        Workers side by side.
    threads : int
        What each is held to.
    """

    machine: str
    jobs: int
    threads: int


def run_unit(
    unit: Unit, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
) -> None:
    """Fit, then forecast and score each run, telling each as soon as it is done.

    Parameters
    ----------
    unit : Unit
    worker : Worker
    setup : Setup
    where : Site
    tell : callable
        Called with each event.
    stop : Event
        Once it is set a fit under way is given up, a cell under way is finished, and nothing new
        begins.

    Raises
    ------
    Stopped
        If a fit was given up, or the worker killed.
    """
    fit, began = unit.fit, time.perf_counter()
    tell(Started(fit))
    record, fitted = _fit(worker, setup, fit, stop)
    record = replace(record, machine=where.machine, jobs=where.jobs)
    tell(Fitted(record))

    def done(seed: int, rows: list[CellRow]) -> None:
        tell(CellDone(fit, seed, rows, where.jobs, record.threads, where.machine))

    if record.status != "ok":
        why = Failure(record.status, record.reason, record.traceback, record.again)
        for seed in unit.seeds:
            done(seed, rows_without_result(seed, fit.tiers, why))
        tell(Ended(fit, seconds=time.perf_counter() - began))
        return
    ended: list[WorkerEnded] = []  # one cell after the other, up to now
    for seed in unit.seeds:
        if stop.is_set():
            return
        if len(ended) == ENOUGH:
            end = ended[-1]
            reason = f"not tried, for {ENOUGH} cells before it ended in a row: {end.reason}"
            why = Failure(end.status, reason, end.trace)
            done(seed, rows_without_result(seed, fit.tiers, why))
            continue
        start = time.perf_counter()
        try:
            rows = _cell(worker, setup, fit, seed, fitted, stop)
        except WorkerEnded as end:
            why = Failure(end.status, f"the cell: {end.reason}", end.trace)
            rows = rows_without_result(seed, fit.tiers, why)
            ended.append(end)
        else:
            ended.clear()
        for row in rows:
            row.cell_seconds = time.perf_counter() - start
        done(seed, rows)
    tell(_end(worker, setup, fit, fitted, stop, began))


def _get_ready(worker: Worker, setup: Setup, fit: Fit, stop: threading.Event) -> None:
    """Have the process load what fit and cells take for granted; none of it counts as theirs."""
    worker.call(make_ready, setup, fit, stop=stop, timeout=READY)


def _fit(
    worker: Worker, setup: Setup, fit: Fit, stop: threading.Event
) -> tuple[FitRecord, bytes | None]:
    what = "getting ready"
    try:
        _get_ready(worker, setup, fit, stop)
        what = "the fit"
        return worker.call(make_fit, setup, fit, stop=stop)
    except WorkerEnded as end:
        reason = f"{what}: {end.reason}"
        return FitRecord(fit, status=end.status, reason=reason, traceback=end.trace), None


def _cell(
    worker: Worker,
    setup: Setup,
    fit: Fit,
    seed: int,
    fitted: bytes | None,
    stop: threading.Event,
) -> list[CellRow]:
    with suppress(NotHere):
        return worker.call(make_cell, setup, fit, seed, None)
    _get_ready(worker, setup, fit, stop)
    # Bytes go along only where the method is not in the process already; they may be large.
    if fitted is not None:
        with suppress(NotHere):
            return worker.call(make_cell, setup, fit, seed, fitted)
    # A method that cannot be pickled is fitted again after its process ended.
    record, _ = worker.call(make_fit, setup, fit, stop=stop)
    if record.status != "ok":
        reason = f"the fit, made again: {record.reason}"
        why = Failure(record.status, reason, record.traceback, record.again)
        return rows_without_result(seed, fit.tiers, why)
    return worker.call(make_cell, setup, fit, seed, None)


def _end(
    worker: Worker,
    setup: Setup,
    fit: Fit,
    fitted: bytes | None,
    stop: threading.Event,
    began: float,
) -> Ended:
    ended = Ended(fit)
    with suppress(WorkerEnded, NotHere):  # nothing that is scored depends on it
        ended.examples, ended.diagnostics = worker.call(finish_fit, setup, fit, fitted, stop=stop)
    ended.seconds = time.perf_counter() - began
    return ended
