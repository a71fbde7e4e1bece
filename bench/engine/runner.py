"""The runner: hands out what is missing and stores what comes back.

Workers tell what they have done; only this process writes to the store.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from weightcast.bench.engine.events import (
    CellDone,
    Ended,
    Event,
    LoopDone,
    LoopEnded,
    LoopStarted,
    Started,
)
from weightcast.bench.engine.interrupts import orderly_stop
from weightcast.bench.engine.store import Store
from weightcast.bench.loop.unit import LoopUnit
from weightcast.bench.plan.loop_settings import CONTROLS
from weightcast.bench.progress.run_progress import RunProgress, run_progress
from weightcast.bench.scoring.unit import Unit
from weightcast.methods import get_method
from weightcast.methods.code import imported_packages

#: Methods whose fits take longest; started first, so that no worker is left with one at the end.
SLOW = ("arima", "transformer", "patchtst", "wnn", "nino-mlp", "lstm", "lfd2-grad")
#: What a worker works on at a time.
Work = Unit | LoopUnit

#: Libraries that take long to load, and that several methods share.
_HEAVY = ("torch", "sklearn", "sklearn.datasets", "statsmodels")
#: What real networks and their data take.
_NETWORKS = {"torch", "sklearn.datasets"}


def in_turn(units: Sequence[Work]) -> list[Work]:
    """Put units into the order in which they run: rotation by rotation, the slow ones first.

    A first picture and a good estimate of the rest then come early.
    """
    rank = {name: place for place, name in enumerate(SLOW)}
    return sorted(
        units,
        key=lambda unit: (
            (unit.fit.split.rotation, rank.get(unit.fit.method, len(SLOW)))
            if isinstance(unit, Unit)
            else (0, 0)
        ),
    )


def heavy_libraries(units: Iterable[Work]) -> list[str]:
    """Name what workers should have loaded from the start."""
    wanted: set[str] = set()
    methods: set[str] = set()
    for unit in units:
        if isinstance(unit, LoopUnit):
            wanted |= _NETWORKS
            methods |= {unit.job.method} - set(CONTROLS)
        else:
            wanted |= _NETWORKS if "function" in unit.fit.tiers else set()
            methods.add(unit.fit.method)
    for name in methods:
        wanted |= imported_packages(get_method(name))
    return [name for name in _HEAVY if name in wanted]


def store_all(
    units: Sequence[Work],
    happening: Iterator[list[Event]],
    store: Store,
    stop: threading.Event,
    workers: int,
) -> None:
    """Store what happens until nothing more does, and show it.

    Parameters
    ----------
    units : sequence of Unit
        What was asked for.
    happening : iterator of list of Event
        Closed at the end, whatever ends it.
    store : Store
    stop : Event
        Set on Ctrl-C.
    workers : int
        For the estimate of the time left.

    Raises
    ------
    StoreFailed
        If the store cannot be written to; what it holds stays.
    KeyboardInterrupt
        On a second Ctrl-C.
    """
    expected = Counter[tuple[str, str]]()
    for unit in units:
        expected[unit.shown] += unit.cells
    left = TimeLeft(units, workers)
    suite = units[0].suite if units else ""
    with run_progress(suite, expected) as progress, orderly_stop(stop, progress.say):
        try:
            for events in happening:
                store.add(events)
                for event in events:
                    _show(event, progress)
                    left.saw(event)
                progress.left(left.estimate())
        finally:
            # An iterator that nobody reads on would leave its workers at work.
            close = getattr(happening, "close", None)
            if close is not None:
                close()


def _show(event: Event, progress: RunProgress) -> None:
    if isinstance(event, Started):
        progress.started(*event.fit.shown)
    elif isinstance(event, LoopStarted):
        progress.started(*event.job.shown)
    elif isinstance(event, CellDone):
        progress.cell(*event.fit.shown, all(row.status == "ok" for row in event.rows))
    elif isinstance(event, LoopDone):
        for row in event.rows:
            progress.cell(*event.job.shown, row["status"] == "ok")
    elif isinstance(event, Ended):
        progress.ended(*event.fit.shown)
    elif isinstance(event, LoopEnded):
        progress.ended(*event.job.shown)


class TimeLeft:
    """Estimates from the mean seconds a cell, fits shared out, by method and data set so far."""

    def __init__(self, units: Sequence[Work], workers: int) -> None:
        self._workers = max(1, workers)
        self._cells = {unit.key: unit.cells for unit in units}
        self._left = Counter[tuple[str, str]]()
        for unit in units:
            self._left[unit.shown] += unit.cells
        self._loops = {unit.shown for unit in units if isinstance(unit, LoopUnit)}
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def saw(self, event: Event) -> None:
        if isinstance(event, Ended | LoopEnded):
            work = event.fit if isinstance(event, Ended) else event.job
            place, cells = work.shown, self._cells[work.key]
            self._left[place] -= cells
            self._seconds[place].append(event.seconds / cells)

    def estimate(self) -> float:
        means = {place: sum(took) / len(took) for place, took in self._seconds.items()}
        by_method: dict[str, list[float]] = defaultdict(list)
        for (_, method), mean in means.items():
            by_method[method].append(mean)
        # A method not seen yet is most likely a fast one, for the slow ones go first; but in the
        # loop each of its runs trains a network as the others do.
        unknown = 0.1 * min(means.values(), default=0.0)
        loops = [mean for place, mean in means.items() if place in self._loops]
        in_the_loop = sum(loops) / len(loops) if loops else unknown
        total = 0.0
        for place, cells in self._left.items():
            others = by_method.get(place[1])
            unseen = in_the_loop if place in self._loops else unknown
            mean = means.get(place) or (sum(others) / len(others) if others else unseen)
            total += cells * mean
        return total / self._workers
