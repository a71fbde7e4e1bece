"""A unit of work: a fit and those of its cells that are missing.

Two processes work on it, with a border between them: `weightcast.bench.scoring.border`. One that
ends over the fit costs the unit's cells; one that ends over a cell costs that cell. The next one
goes on with the same fitted method.
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
from weightcast.bench.plan.run_cache import TRIES
from weightcast.bench.scoring.border import desk, method_side
from weightcast.bench.scoring.border.crossing import READY, crossing_of
from weightcast.bench.scoring.border.method_side import NotHere
from weightcast.bench.scoring.border.offers import (
    FitOffer,
    FitReport,
    ForecastOffer,
    Order,
    Told,
)
from weightcast.methods.registry import method_tag

T = TypeVar("T")

#: Methods whose fits take longest; started first, so that no worker is left with one at the end.
SLOW = (
    "arima", "theta", "transformer", "patchtst", "nino-mlp", "lstm", "flow", "wnn",
    "introspection", "lfd2-grad",
)  # fmt: skip
#: What every error is held against, and takes next to no time.
FIRST = "last-value"
#: After so many cells in a row that ended their worker, the unit's others are not tried: each may
#: take the whole time limit.
ENOUGH = 2
_WRITTEN_TO = Failure(
    "failed", "its runs are written to again and again while they are read", "", again=True
)


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
        started. Before them all comes the last value, within a second: a run that cannot go well
        shows it at once.
        """
        method = self.fit.method
        rank = SLOW.index(method) if method in SLOW else len(SLOW)
        return self.fit.split.rotation, -1 if method == FIRST else rank, method

    @property
    def modules(self) -> frozenset[str]:
        networks = NETWORKS if "function" in self.fit.tiers else frozenset()
        # To clone a method skbase loads what else it could clone.
        always = frozenset({desk.__name__, method_side.__name__, "sklearn.base"})
        return always | networks | heavy_libraries(self.fit.method)

    @property
    def like_others(self) -> bool:
        return False

    @property
    def slow(self) -> bool:
        return self.fit.method in SLOW or bool(method_tag(self.fit.method, "sampled"))

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
    """What a unit has its processes do; whatever a stranger ends is done again."""

    worker: Worker
    setup: Setup
    of: Fit
    stop: threading.Event

    def __post_init__(self) -> None:
        self._crossing = crossing_of(self.worker)
        self._order = Order.of(self.setup, self.of)

    def fit(self) -> tuple[FitRecord, bytes | None]:
        """Make the fit; return what it was, and the fitted method where it can be pickled."""
        doing = "getting ready"

        def attempt() -> tuple[FitRecord, bytes | None]:
            nonlocal doing
            doing = "getting ready"
            self._get_ready()
            doing = "the fit"
            return self._fit(self.stop)

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
        examples: dict[str, Any] = {}
        with suppress(WorkerEnded, NotHere):
            offer = self._desk(desk.open_example, self.stop)
            if offer is not None:
                told = self._forecast(method_side.draw_forecast, offer, fitted, self.stop)
                examples = self._desk(desk.close_example, self.stop, told)
            diagnostics = self._crossing.ask_method(
                method_side.diagnostics, self.stop, self._order, fitted
            )
            return Afterwards(self.of, examples, diagnostics)
        return Afterwards(self.of, examples, None)

    def _fit(self, stop: threading.Event | None) -> tuple[FitRecord, bytes | None]:
        """Fit on runs that nobody writes to meanwhile."""
        for _ in range(TRIES):
            offer = self._desk(desk.open_fit, stop)
            if isinstance(offer, Failure):
                return FitRecord(self.of, offer), None
            report, fitted = self._crossing.ask_method(
                method_side.make_fit, stop, self._order, offer
            )
            closed = self._desk(desk.close_fit, stop)
            if isinstance(closed, Failure):
                return FitRecord(self.of, closed), None
            if closed:
                return _record(self.of, report, offer), fitted
        return FitRecord(self.of, _WRITTEN_TO), None

    def _cell(self, seed: int, fitted: bytes | None) -> list[CellRow]:
        """Make a cell; it is not given up once the run is to stop."""
        for _ in range(TRIES):
            offer = self._desk(desk.open_cell, None, seed)
            if isinstance(offer, Failure):
                return rows_without_result(seed, self.of.tiers, offer)
            try:
                told = self._forecast(method_side.make_forecast, offer, fitted, None)
            except NotHere:
                # A method that cannot be pickled is fitted again after its process ended.
                record, fitted = self._fit(None)
                if why := record.failure:
                    why = replace(why, reason=f"the fit, made again: {why.reason}")
                    return rows_without_result(seed, self.of.tiers, why)
                continue
            rows = self._desk(desk.close_cell, None, seed, told, timeout=None)
            if rows is not None:
                return rows
        return rows_without_result(seed, self.of.tiers, _WRITTEN_TO)

    def _forecast(
        self,
        make: Callable[..., Told],
        offer: ForecastOffer,
        fitted: bytes | None,
        stop: threading.Event | None,
    ) -> Told:
        """Have the method forecast what the desk laid out.

        Raises
        ------
        NotHere
            If its process has no method, nor can have one of these bytes.
        """
        ask = self._crossing.ask_method
        with suppress(NotHere):
            return ask(make, stop, self._order, offer, None)
        # A new process. Bytes go along only where they are needed; they may be large.
        self._get_ready()
        return ask(make, stop, self._order, offer, fitted)

    def _get_ready(self) -> None:
        """Have the method's process load what it takes for granted; none counts as its own."""
        self.worker.call(method_side.make_ready, self._order, stop=self.stop, timeout=READY)

    def _desk(
        self,
        function: Callable[..., T],
        stop: threading.Event | None,
        *args: Any,
        timeout: float | None = READY,
    ) -> T:
        call = self._crossing.ask_desk
        return call(function, self.setup, self.of, *args, stop=stop, timeout=timeout)


def _record(fit: Fit, report: FitReport, offer: FitOffer) -> FitRecord:
    if report.failure is not None:
        return FitRecord(fit, report.failure)
    return FitRecord(
        fit,
        chosen=report.chosen,
        trials=report.trials,
        fit_seconds=report.seconds,
        fit_cpu_seconds=report.cpu_seconds,
        fit_memory_bytes=report.memory_bytes,
        training_runs_seconds=offer.training_seconds if report.learned else 0.0,
        parameters=report.parameters,
        flops_per_coordinate=report.flops_per_coordinate,
        diagnostics=report.diagnostics,
        site=Site(threads=report.threads),
    )
