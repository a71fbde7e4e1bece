"""How long what is left of a run will take."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from weightcast.bench.engine.events import Ended, Event, Shown
from weightcast.bench.engine.work import Work


class TimeLeft:
    """Estimates from the mean seconds a cell, fits shared out, by method and data set so far.

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
        self._left = Counter[Shown]()
        for unit in units:
            self._left[unit.shown] += len(unit.keys)
        self._alike = {unit.shown for unit in units if unit.like_others}
        self._seconds: dict[Shown, list[float]] = defaultdict(list)

    def saw(self, event: Event) -> None:
        """Learn from a unit that has ended."""
        if isinstance(event, Ended):
            cells = self._cells[event.key]
            self._left[event.shown] -= cells
            self._seconds[event.shown].append(event.seconds / cells)

    def estimate(self) -> float:
        """Return the seconds that are likely still to go."""
        means = {shown: sum(took) / len(took) for shown, took in self._seconds.items()}
        by_method: dict[str, list[float]] = defaultdict(list)
        for (_, method), mean in means.items():
            by_method[method].append(mean)
        # A method not seen yet is most likely a fast one, for the slow ones go first; but where
        # each of its cells is like another's, it will take as long.
        unknown = 0.1 * min(means.values(), default=0.0)
        alike = [mean for shown, mean in means.items() if shown in self._alike]
        as_long = sum(alike) / len(alike) if alike else unknown
        total = 0.0
        for shown, cells in self._left.items():
            others = by_method.get(shown[1])
            unseen = as_long if shown in self._alike else unknown
            mean = means.get(shown) or (sum(others) / len(others) if others else unseen)
            total += cells * mean
        return total / self._jobs
