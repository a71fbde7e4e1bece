"""What a worker does at a time, whatever its tier; and in which order, with what loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol

from weightcast.bench.engine.events import Event, Shown, Tell
from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.methods import get_method
from weightcast.methods.code import imported_packages
from weightcast.methods.forecaster import Forecaster

#: Libraries that take long to load, and that several methods share.
_HEAVY = frozenset({"torch", "sklearn", "sklearn.datasets", "statsmodels"})
_imported: dict[type[Forecaster], frozenset[str]] = {}
#: What real networks and their data take.
NETWORKS = frozenset({"torch", "sklearn.datasets"})


class Work(Protocol):
    """A unit of work: one method's, done by one worker from its start to its end."""

    @property
    def key(self) -> str:
        """Tells units of one run apart."""

    @property
    def suite(self) -> str:
        """The suite's name."""

    @property
    def shown(self) -> Shown:
        """Data set and method as the progress table names them."""

    @property
    def method(self) -> str:
        """The name of the method whose code runs; processes do not outlive a change of it."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of the results that are wanted: cells, or training runs."""

    @property
    def turn(self) -> tuple[int | str, ...]:
        """What puts units in order: lower ones begin first; comparable with all other units'."""

    @property
    def modules(self) -> frozenset[str]:
        """Modules that a process should have loaded from the start."""

    @property
    def like_others(self) -> bool:
        """Whether it takes about as long as units of other methods that say so too."""

    @property
    def slow(self) -> bool:
        """Whether it is of the methods that go first, each by far slower than all others."""

    def run(
        self, worker: Worker, setup: Setup, where: Site, tell: Tell, stop: threading.Event
    ) -> None:
        """Do it, telling each result as soon as it is there.

        Parameters
        ----------
        worker : Worker
        setup : Setup
        where : Site
        tell : callable
            Called with each event.
        stop : Event
            Once it is set nothing new begins.

        Raises
        ------
        Stopped
            If what was under way was given up, or the worker killed.
        """

    def given_up(self, why: Failure, where: Site) -> list[Event]:
        """Return what is told of a unit that nobody works on any more."""


def in_turn(units: Iterable[Work]) -> list[Work]:
    """Put units into the order in which they run."""
    return sorted(units, key=lambda unit: unit.turn)


def modules_of(units: Iterable[Work]) -> list[str]:
    """Name what processes should have loaded from the start."""
    wanted: set[str] = set()
    for unit in units:
        wanted |= unit.modules
    return sorted(wanted)


def heavy_libraries(method: str) -> frozenset[str]:
    """Name the libraries that a method needs and that take long to load."""
    cls = get_method(method)
    if cls not in _imported:
        _imported[cls] = _HEAVY & imported_packages(cls)
    return _imported[cls]
