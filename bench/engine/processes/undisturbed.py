"""Trying again what a process did not end by itself.

People, schedulers and a system short of memory kill processes. Such an end is held against a method
only where it comes again, to its process alone: what is killed together was not killed for what one
of them did.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from weightcast.bench.engine.processes.worker import By, Stopped, Worker, WorkerEnded

T = TypeVar("T")

#: Seconds within which ends count as one event, and in which others' are waited for.
_TOGETHER = 2.0
#: How often something is tried at most; who is ended more often has no quiet machine.
_MOST = 8

#: When processes of this one were last ended from outside, and whose.
_ends: deque[tuple[float, int]] = deque(maxlen=1000)
_lock = threading.Lock()


def undisturbed(worker: Worker, attempt: Callable[[], T], stop: threading.Event) -> T:
    """Return what an attempt returns, made again where the process was ended from outside.

    Parameters
    ----------
    worker : Worker
    attempt : callable
        Calls the worker.
    stop : Event
        Once it is set nothing is made again.

    Raises
    ------
    WorkerEnded
        If the process ended for what it did, or was ended alone and again.
    Stopped
        If ``stop`` was set after such an end.
    """
    ends: list[float] = []
    for _ in range(_MOST - 1):
        try:
            return attempt()
        except WorkerEnded as end:
            if end.by is By.ITSELF:
                raise
            if end.by is By.ANYBODY:
                ends.append(_note(worker))
            if len(ends) > 1 and _alone(worker, ends) > 1:
                raise
        if stop.is_set():
            raise Stopped
    return attempt()


def _note(worker: Worker) -> float:
    now = time.monotonic()
    with _lock:
        _ends.append((now, id(worker)))
    return now


def _alone(worker: Worker, ends: list[float]) -> int:
    """Count the ends of a worker's processes with which no other worker's came."""
    # Another's end may be seen a moment later.
    time.sleep(max(0.0, ends[-1] + _TOGETHER / 2 - time.monotonic()))
    with _lock:
        others = [when for when, who in _ends if who != id(worker)]
    return sum(all(abs(end - other) > _TOGETHER for other in others) for end in ends)
