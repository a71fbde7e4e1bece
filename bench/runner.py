"""The runner: hands out what is missing and stores what comes back.

Workers tell what they have done; only this process writes to the store.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from weightcast.bench.events import CellDone, Ended, Event, Started
from weightcast.bench.interrupts import orderly_stop
from weightcast.bench.plan import Fit
from weightcast.bench.results import method_label
from weightcast.bench.run_progress import RunProgress, run_progress
from weightcast.bench.store import Store
from weightcast.bench.unit import Unit
from weightcast.methods import get_method
from weightcast.methods.code import imported_packages

#: Methods whose fits take longest; started first, so that no worker is left with one at the end.
SLOW = ("arima", "transformer", "patchtst", "wnn", "nino-mlp", "lstm", "lfd2-grad")
#: Libraries that take long to load, and that several methods share.
_HEAVY = ("torch", "sklearn", "statsmodels")


def missing_units(plan: Sequence[Fit], finished: set[str]) -> list[Unit]:
    """List what a plan lacks, in its order."""
    units = []
    for fit in plan:
        seeds = tuple(seed for seed, key in fit.cells if key not in finished)
        if seeds:
            units.append(Unit(fit, seeds))
    return units


def in_turn(units: Sequence[Unit]) -> list[Unit]:
    """Put units into the order in which they run: rotation by rotation.

    A first picture and a good estimate of the rest then come early.
    """
    rank = {name: place for place, name in enumerate(SLOW)}
    return sorted(
        units, key=lambda unit: (unit.fit.split.rotation, rank.get(unit.fit.method, len(SLOW)))
    )


def heavy_libraries(units: Iterable[Unit]) -> list[str]:
    """Name what workers should have loaded from the start."""
    fits = [unit.fit for unit in units]
    wanted = {"torch"} if any("function" in fit.tiers for fit in fits) else set()
    for name in {fit.method for fit in fits}:
        wanted |= imported_packages(get_method(name))
    return [name for name in _HEAVY if name in wanted]


def store_all(
    units: Sequence[Unit],
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
        expected[_place(unit.fit)] += len(unit.seeds)
    left = _TimeLeft(units, workers)
    suite = units[0].fit.suite if units else ""
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
        progress.started(*_place(event.fit))
    elif isinstance(event, CellDone):
        progress.cell(*_place(event.fit), all(row.status == "ok" for row in event.rows))
    elif isinstance(event, Ended):
        progress.ended(*_place(event.fit))


def _place(fit: Fit) -> tuple[str, str]:
    """Data set and method as the table names them."""
    place = fit.place
    dataset = place.dataset
    if place.track not in ("main", "fine-tune"):
        dataset += f" ({place.track})"
    elif place.split != "seeds":
        dataset += f" ({place.split})"
    return dataset, method_label(fit.method, fit.params)


class _TimeLeft:
    """Estimates from the mean seconds a cell, fits shared out, by method and data set so far."""

    def __init__(self, units: Sequence[Unit], workers: int) -> None:
        self._workers = max(1, workers)
        self._cells = {unit.fit.key: len(unit.seeds) for unit in units}
        self._left = Counter[tuple[str, str]]()
        for unit in units:
            self._left[_place(unit.fit)] += len(unit.seeds)
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def saw(self, event: Event) -> None:
        if isinstance(event, Ended):
            place, cells = _place(event.fit), self._cells[event.fit.key]
            self._left[place] -= cells
            self._seconds[place].append(event.seconds / cells)

    def estimate(self) -> float:
        means = {place: sum(took) / len(took) for place, took in self._seconds.items()}
        by_method: dict[str, list[float]] = defaultdict(list)
        for (_, method), mean in means.items():
            by_method[method].append(mean)
        # A method not seen yet is most likely a fast one: the slow ones go first.
        unknown = 0.1 * min(means.values(), default=0.0)
        total = 0.0
        for place, cells in self._left.items():
            others = by_method.get(place[1])
            mean = means.get(place) or (sum(others) / len(others) if others else unknown)
            total += cells * mean
        return total / self._workers
