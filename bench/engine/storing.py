"""Storing and showing what comes back from units; this process alone writes results."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

from weightcast.bench.engine.events import CellDone, Ended, Event, LoopDone, Shown, Started
from weightcast.bench.engine.interrupts import orderly_stop
from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.time_left import TimeLeft
from weightcast.bench.engine.work import Work
from weightcast.bench.progress.run_progress import RunProgress, run_progress


def store_all(
    units: Sequence[Work],
    happening: Iterator[list[Event]],
    store: Store,
    stop: threading.Event,
    jobs: int,
) -> None:
    """Store what happens until nothing more does, and show it.

    Parameters
    ----------
    units : sequence of Work
        What was asked for.
    happening : iterator of list of Event
        Closed at the end, whatever ends it.
    store : Store
    stop : Event
        Set on Ctrl-C.
    jobs : int
        For the estimate of the time left.

    Raises
    ------
    StoreFailed
        If the store cannot be written to; what it holds stays.
    KeyboardInterrupt
        On a second Ctrl-C.
    """
    expected = Counter[Shown]()
    for unit in units:
        expected[unit.shown] += len(unit.keys)
    left = TimeLeft(units, jobs)
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
        progress.started(*event.shown)
    elif isinstance(event, CellDone | LoopDone):
        for ok in event.outcomes:
            progress.cell(*event.shown, ok)
    elif isinstance(event, Ended):
        progress.ended(*event.shown)
