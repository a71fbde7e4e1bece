"""How long what is left of a run will take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from weightcast.bench.engine.events import Ended, Event, Shown
from weightcast.bench.engine.work import Work


class TimeLeft:
    """Estimates from the mean seconds a cell, fits shared out, by method and data set so far.

    Of a method that has not been seen on a data set its cells elsewhere tell. One that has not been
    seen at all is taken for ten times as fast as the fastest, for the slow ones go first; but a
    slow one's units for as long as those of the slow ones that have been. Before any slow one has
    been seen nothing is known: they may take a thousand times as long as the others.

    Parameters
    ----------
    units : sequence of Work
        What was asked for.
    jobs : int
        Processes side by side.
    """

    def __init__(self, units: Sequence[Work], jobs: int) -> None:
        self._jobs = max(1, jobs)
        self._cells = {unit.key: len(unit.keys) for unit in units}
        self._left, self._units = Counter[Shown](), Counter[Shown]()
        for unit in units:
            self._left[unit.shown] += len(unit.keys)
            self._units[unit.shown] += 1
        self._planned = dict(self._left)
        self._alike = {unit.shown for unit in units if unit.like_others}
        self._slow = {unit.shown for unit in units if unit.slow}
        self._slow_took: list[float] = []
        self._seconds: dict[Shown, list[float]] = defaultdict(list)

    def saw(self, event: Event) -> None:
        """Learn from a unit that has ended."""
        if isinstance(event, Ended):
            cells = self._cells[event.key]
            self._left[event.shown] -= cells
            self._seconds[event.shown].append(event.seconds / cells)
            if event.shown in self._slow:
                self._slow_took.append(event.seconds)

    def estimate(self) -> float:
        """Return the seconds that are likely still to go, or NaN where none can be told."""
        slow = [shown for shown in self._slow if self._left[shown]]
        if not self._seconds or (slow and not self._slow_took):
            return float("nan")
        means = {shown: sum(took) / len(took) for shown, took in self._seconds.items()}
        by_method: dict[str, list[float]] = defaultdict(list)
        for (_, method), mean in means.items():
            by_method[method].append(mean)
        unknown = 0.1 * min(means.values(), default=0.0)
        alike = [mean for shown, mean in means.items() if shown in self._alike]
        as_long = sum(alike) / len(alike) if alike else unknown
        total = 0.0
        for shown, cells in self._left.items():
            others = by_method.get(shown[1])
            unseen = as_long if shown in self._alike else unknown
            if shown in self._slow and self._slow_took:
                unseen = sum(self._slow_took) / len(self._slow_took) / self._unit_cells(shown)
            mean = means.get(shown) or (sum(others) / len(others) if others else unseen)
            total += cells * mean
        return total / self._jobs

    def _unit_cells(self, shown: Shown) -> float:
        """Return the mean cells of a unit."""
        return self._planned[shown] / self._units[shown]
