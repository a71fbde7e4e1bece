"""Ctrl-C and SIGTERM, which other code must neither take for something else nor swallow.

An interrupt is an exception that Python raises wherever it happens to be. Libraries try imports
under a bare ``except`` and take it for a module that is not installed; SQLite takes it for an error
of a function that it calls; what is called back from C ignores it. So it is not raised while an
import is under way, and raised again where it has got lost.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Seconds after which it is looked again whether an import has ended.
_AGAIN = 0.05
#: Seconds after which an import is interrupted all the same: it may never end.
_AT_MOST = 5.0
#: Seconds after which it is looked whether the interrupt is still being handled.
_LOST = 0.5


class Terminated(KeyboardInterrupt):
    """SIGTERM: what is under way is cleared up as on Ctrl-C."""


@contextmanager
def stopped_for_sure() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Terminated` on SIGTERM, until it is not swallowed.

    A process that is deaf to Ctrl-C, as in the background of a script, stays so. A second SIGTERM
    ends the process at once.
    """
    handlers = {signal.SIGTERM: _Handler(Terminated)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers[signal.SIGINT] = _Handler(KeyboardInterrupt)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    told = sys.unraisablehook
    sys.unraisablehook = _without_stops
    try:
        yield
    finally:
        sys.unraisablehook = told
        for number, handler in before.items():
            handlers[signal.Signals(number)].over = True
            signal.signal(number, handler)


def asked_to_stop() -> int:
    """Return the signal by which the command was asked to stop; 0 where it was not.

    Whatever it ends with then, it ended for that.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if isinstance(handler, _Handler) and handler.raised is not None:
            return int(number)
    return 0


class _Handler:
    """Raises an exception in the main thread.

    Attributes
    ----------
    raises_interrupt : bool
        Whether it is for Ctrl-C: `weightcast.datasets.foreign_code` looks, to tell that from code
        that raises the same.
    raised : KeyboardInterrupt, optional
        What was raised last.
    over : bool
        Whether nothing is to be raised any more.
    """

    def __init__(self, kind: type[KeyboardInterrupt]) -> None:
        self._kind, self._asked, self._ours = kind, 0.0, False
        self.raises_interrupt = kind is KeyboardInterrupt
        self.raised: KeyboardInterrupt | None = None
        self.over = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        ours, self._ours = self._ours, False
        if ours and self.raised is not None and _handled(self.raised):
            self._look_again(number, _LOST)
            return
        if not ours and self.raised is not None and self._kind is Terminated:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked = self._asked or time.monotonic()
        if _importing(frame) and time.monotonic() - self._asked < _AT_MOST:
            self._look_again(number, _AGAIN)
            return
        self._asked, self.raised = 0.0, self._kind()
        self._look_again(number, _LOST)
        raise self.raised

    def _look_again(self, number: int, seconds: float) -> None:
        """Have this handler called once more, in a while."""

        def call() -> None:
            # Who handles signals by now has not had this one, unless it was raised already: then
            # another would mean something of its own.
            mine = signal.getsignal(number) is self
            if not self.over and (mine or self.raised is None):
                self._ours = mine
                _send(main, number)

        main = threading.main_thread().ident or 0
        timer = threading.Timer(seconds, call)
        timer.daemon = True
        timer.start()


def _send(thread: int, number: int) -> None:
    """Have the main thread, of that number, get a signal."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, number)
    else:
        _thread.interrupt_main(signal.Signals(number))  # as if it had come


def _without_stops(lost: sys.UnraisableHookArgs) -> None:
    """Tell what could not be raised, but for an interrupt, which is raised again."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


def _handled(error: BaseException) -> bool:
    """Whether an exception, or one that came of it, is being handled where a signal came in."""
    found = sys.exc_info()[1]
    while found is not None and found is not error:
        found = found.__context__
    return found is error


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
