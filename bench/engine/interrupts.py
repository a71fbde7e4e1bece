"""Ctrl-C once lets what is under way come to its end; twice stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def orderly_stop(stop: threading.Event, say: Callable[[str], None]) -> Iterator[None]:
    """Set an event on the first Ctrl-C (or SIGTERM) over a block, and raise on the second.

    Schedulers of clusters send SIGTERM some time before they kill.

    Parameters
    ----------
    stop : Event
    say : callable
        Told what is going on.

    Raises
    ------
    KeyboardInterrupt
        On the second.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # What is being printed at this very moment may not be interrupted for it.
        with suppress(RuntimeError):
            say("stopping: cells under way are finished and stored; Ctrl-C again stops at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
