"""The border as the process in between sees it: two workers, and the pipe that joins them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.worker import By, Worker, WorkerEnded
from weightcast.bench.scoring.border import desk, method_side
from weightcast.bench.scoring.border.method_side import NotLinked
from weightcast.bench.scoring.border.sealed import DeskGone

T = TypeVar("T")

#: Seconds that a process has to load plugins, data and libraries.
READY = 600.0
#: How often a call is made whose process has to be linked first.
_TRIES = 3

_links = itertools.count(1)
_crossings: WeakKeyDictionary[Worker, Crossing] = WeakKeyDictionary()


class Crossing:
    """A worker for methods, the one beside it for data, and the pipe between their processes.

    Parameters
    ----------
    worker : Worker
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._link = 0
        self._ends: tuple[Connection, ...] = ()

    def ask_method(
        self,
        function: Callable[..., T],
        stop: threading.Event | None,
        *args: Any,
    ) -> T:
        """Call a function of `method_side` that asks at the desk.

        Raises
        ------
        WorkerEnded
            If the method's process ended, or the desk's meanwhile.
        """
        for _ in range(_TRIES):
            try:
                return self._worker.call(function, self._link, *args, stop=stop)
            except NotLinked:
                self._join(stop)
            except DeskGone:
                self._hang_up()
                raise WorkerEnded(_LOST, By.ANYBODY) from None
            except WorkerEnded:
                self._hang_up()
                raise
        raise WorkerEnded(_LOST, By.ANYBODY)

    def ask_desk(
        self,
        function: Callable[..., T],
        *args: Any,
        stop: threading.Event | None = None,
        timeout: float | None = None,
    ) -> T:
        """Call a function of `desk`.

        Raises
        ------
        WorkerEnded
            If its process ended, now or since a session was opened.
        """
        try:
            return self._worker.beside.call(function, *args, stop=stop, timeout=timeout)
        except desk.NotOpen:
            raise WorkerEnded(_LOST, By.ANYBODY) from None

    def _join(self, stop: threading.Event | None) -> None:
        """Give both processes an end of a new pipe."""
        self._hang_up()
        self._ends = multiprocessing.Pipe()
        self._link = next(_links)
        self.ask_desk(desk.take_link, self._ends[0], stop=stop, timeout=READY)
        self._worker.call(
            method_side.take_link, self._link, self._ends[1], stop=stop, timeout=READY
        )

    def _hang_up(self) -> None:
        """Let whoever is left at the pipe know that nobody is at its other end."""
        ends, self._ends, self._link = self._ends, (), 0
        for end in ends:
            # Closed here alone, it would stay open in a process that took it.
            with suppress(OSError), socket.socket(fileno=os.dup(end.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
            end.close()


_LOST = Failure("crashed", "the process that holds the data was lost", "")


def crossing_of(worker: Worker) -> Crossing:
    """Return a worker's crossing; it lasts as long as the worker does."""
    if worker not in _crossings:
        _crossings[worker] = Crossing(worker)
    return _crossings[worker]
