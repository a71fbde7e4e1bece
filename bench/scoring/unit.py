"""A unit of work: a fit and those of its cells that are missing, in one worker.

A worker that ends over the fit costs the unit's cells; one that ends over a cell costs that cell.
The next one goes on with the same fitted method.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from weightcast.bench.engine.events import (
    Afterwards,
    CellDone,
    Ended,
    Event,
    Fitted,
    Shown,
    Started,
    Tell,
)
from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.undisturbed import undisturbed
from weightcast.bench.engine.processes.worker import Worker, WorkerEnded
from weightcast.bench.engine.records import CellRow, FitRecord, rows_without_result
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.engine.work import NETWORKS, heavy_libraries
from weightcast.bench.plan.fits import Fit
from weightcast.bench.scoring.worker_side import (
    NotHere,
    finish_fit,
    make_cell,
    make_fit,
    make_ready,
)

T = TypeVar("T")

#: Methods whose fits take longest; started first, so that no worker is left with one at the end.
SLOW = ("arima", "transformer", "patchtst", "wnn", "nino-mlp", "lstm", "lfd2-grad")
#: After so many cells in a row that ended their worker, the unit's others are not tried: each may
#: take the whole time limit.
ENOUGH = 2
#: Seconds that a process has to load plugins, data and libraries.
READY = 600.0


@dataclass(frozen=True)
class Unit:
    """A fit, and the seeds of the test runs whose cells are wanted: see `engine.work.Work`."""

    fit: Fit
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        return self.fit.key

    @property
    def suite(self) -> str:
        return self.fit.suite

    @property
    def shown(self) -> Shown:
        return self.fit.shown

    @property
    def method(self) -> str:
        return self.fit.method

    @property
    def keys(self) -> list[str]:
        return [key for seed, key in self.fit.cells if seed in self.seeds]

    @property
    def turn(self) -> tuple[int | str, ...]:
        """Rotation by rotation, the slow methods first, and each method's units together.

        A first picture and a good estimate of the rest then come early, and few processes are
        started.
        """
        method = self.fit.method
        rank = SLOW.index(method) if method in SLOW else len(SLOW)
        return self.fit.split.rotation, rank, method

    @property
    def modules(self) -> frozenset[str]:
        networks = NETWORKS if "function" in self.fit.tiers else frozenset()
        # To clone a method, as tuning does, skbase loads what else it could clone.
        cloned = frozenset({"sklearn.base"}) if self.fit.tuning else frozenset()
        own = heavy_libraries(self.fit.method)
        return frozenset({make_cell.__module__}) | networks | cloned | own

    @property
    def like_others(self) -> bool:
        return False

    def run(
        self, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
    ) -> None:
        """Fit, then forecast and score each run, telling each as soon as it is done.

        A fit under way is given up once it is to stop, a cell under way is finished.
        """
        began = time.perf_counter()
        tell(Started(self.shown))
        hands = _Hands(worker, setup, self.fit, stop)
        record, fitted = hands.fit()
        site = replace(where, threads=record.site.threads)
        tell(Fitted(replace(record, site=site)))
        if record.failure is not None:
            for event in self._failed(record.failure, site):
                tell(event)
        elif self._run_cells(hands, fitted, site, tell):
            tell(hands.finish(fitted))
        else:
            return
        tell(Ended(self.key, self.shown, time.perf_counter() - began))

    def given_up(self, why: Failure, where: Site) -> list[Event]:
        return [
            Started(self.shown),
            Fitted(FitRecord(self.fit, why, site=where)),
            *self._failed(why, where),
            Ended(self.key, self.shown),
        ]

    def _failed(self, why: Failure, site: Site) -> list[Event]:
        rows = {seed: rows_without_result(seed, self.fit.tiers, why) for seed in self.seeds}
        return [CellDone(self.fit, seed, rows[seed], site) for seed in self.seeds]

    def _run_cells(self, hands: _Hands, fitted: bytes | None, site: Site, tell: Tell) -> bool:
        """Have each cell made; return False where the run stopped before the last."""
        ended: list[Failure] = []  # one cell after the other, up to now
        for seed in self.seeds:
            if hands.stop.is_set():
                return False
            if len(ended) == ENOUGH:
                rows = rows_without_result(seed, self.fit.tiers, _not_tried(ended[-1]))
            else:
                rows, failure = hands.cell(seed, fitted)
                ended = [*ended, failure] if failure else []
            tell(CellDone(self.fit, seed, rows, site))
        return True


def _not_tried(why: Failure) -> Failure:
    reason = f"not tried, for {ENOUGH} cells before it ended in a row: {why.reason}"
    return replace(why, reason=reason)


@dataclass
class _Hands:
    """What a unit has its worker do; whatever a stranger ends is done again."""

    worker: Worker
    setup: Setup
    of: Fit
    stop: threading.Event

    def fit(self) -> tuple[FitRecord, bytes | None]:
        """Make the fit; return what it was, and the fitted method where it can be pickled."""
        doing = "getting ready"

        def attempt() -> tuple[FitRecord, bytes | None]:
            nonlocal doing
            doing = "getting ready"
            self._get_ready()
            doing = "the fit"
            return self._call(make_fit)

        try:
            return undisturbed(self.worker, attempt, self.stop)
        except WorkerEnded as end:
            reason = f"{doing}: {end.failure.reason}"
            return FitRecord(self.of, replace(end.failure, reason=reason)), None

    def cell(self, seed: int, fitted: bytes | None) -> tuple[list[CellRow], Failure | None]:
        """Make a cell; return its rows, and why its process ended if it did."""
        began = 0.0
        ended: Failure | None = None

        def attempt() -> list[CellRow]:
            nonlocal began
            began = time.perf_counter()
            return self._cell(seed, fitted)

        try:
            rows = undisturbed(self.worker, attempt, self.stop)
        except WorkerEnded as end:
            ended = end.failure
            why = replace(ended, reason=f"the cell: {ended.reason}")
            rows = rows_without_result(seed, self.of.tiers, why)
        for row in rows:
            row.cell_seconds = time.perf_counter() - began
        return rows, ended

    def finish(self, fitted: bytes | None) -> Afterwards:
        """Ask for what the report draws; nothing that is scored depends on it."""
        with suppress(WorkerEnded, NotHere):
            return Afterwards(self.of, *self._call(finish_fit, fitted))
        return Afterwards(self.of, {}, None)

    def _cell(self, seed: int, fitted: bytes | None) -> list[CellRow]:
        make = self.worker.call  # not to be given up once it is to stop
        with suppress(NotHere):
            return make(make_cell, self.setup, self.of, seed, None)
        self._get_ready()
        # Bytes go along only where the method is not in the process already; they may be large.
        if fitted is not None:
            with suppress(NotHere):
                return make(make_cell, self.setup, self.of, seed, fitted)
        # A method that cannot be pickled is fitted again after its process ended.
        record, _ = self._call(make_fit)
        if why := record.failure:
            why = replace(why, reason=f"the fit, made again: {why.reason}")
            return rows_without_result(seed, self.of.tiers, why)
        return make(make_cell, self.setup, self.of, seed, None)

    def _get_ready(self) -> None:
        """Have the process load what fit and cells take for granted; none counts as theirs."""
        self._call(make_ready, timeout=READY)

    def _call(self, function: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
        return self.worker.call(
            function, self.setup, self.of, *args, stop=self.stop, timeout=timeout
        )
