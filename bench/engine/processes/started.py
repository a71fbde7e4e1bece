"""One process as the one that started it sees it: its pipe, who it is, and how it ended."""

from __future__ import annotations

import os
import queue
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from weightcast.bench.engine.processes.child import SharedFile, serve

#: Seconds that a process which was killed is waited for.
_GONE = 5.0
#: Bytes that a pipe takes before anybody reads them.
_AT_ONCE = 2**15
#: Starting a process, and asking how one ended, look at all of this process's children.
_lock = threading.Lock()


class Started:
    """A process that is being started, or has been.

    Parameters
    ----------
    context : BaseContext
        How processes start.
    begun : shared integer
        Where it says that it has begun a call.
    traces : SharedFile
    max_memory : int
        Bytes.
    """

    def __init__(
        self, context: BaseContext, begun: Any, traces: SharedFile, max_memory: int
    ) -> None:
        # A shared integer of its own: another process's would hide that this one is only starting.
        self._pid = context.RawValue("q", 0)
        self._calls, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=serve, args=(theirs, self._pid, begun, traces, max_memory)
        )
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._here = threading.Event()
        # The first one waits for the fork server's libraries; who waits for it can be stopped.
        threading.Thread(target=self._start, args=(theirs,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Its number; 0 until it is there."""
        return int(self._pid.value)

    def send(self, call: tuple[Any, ...]) -> None:
        """Hand over a call; it is read once the process is there.

        Raises
        ------
        OSError
            If it is gone.
        """
        message = ForkingPickler.dumps(call)
        if len(message) <= _AT_ONCE:
            self._calls.send_bytes(message)
        else:  # it is taken while it is read, which may be never
            threading.Thread(target=self._send, args=(message,), daemon=True).start()

    def answer(self, seconds: float) -> bytes | None:
        """Wait for an answer; None where the pipe has come to its end.

        Raises
        ------
        queue.Empty
            If there is none after so many seconds.
        """
        return self._answers.get(timeout=seconds)

    def status(self, seconds: float = 0.0) -> int | None:
        """Return how it ended, negative for a signal; None while it has not, or is starting."""
        if not self._here.is_set() or not _lock.acquire(timeout=max(seconds, 0.01)):
            return None
        try:
            self._process.join(seconds)
            return self._process.exitcode
        finally:
            _lock.release()

    def interrupt(self) -> None:
        """Have it write its stacks."""
        if self.pid and hasattr(signal, "SIGUSR1"):
            self._signal(signal.SIGUSR1)

    def kill(self, wait: bool = True) -> None:
        """End it, now or as soon as it is there."""
        self._given_up.set()
        if self._here.is_set():
            self._end()
        elif wait:  # what it is given at its start is gone once this process ends
            self._here.wait(_GONE)
        if wait:
            self.status(_GONE)

    def _start(self, theirs: Connection) -> None:
        try:
            with _lock:
                self._process.start()
        except Exception:
            self._answers.put(None)
            return
        finally:
            theirs.close()
        self._here.set()
        if self._given_up.is_set():
            self._end()
            return
        self._listen()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._answers.put(self._calls.recv_bytes())
        self._answers.put(None)

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # then there is no answer either
            self._calls.send_bytes(message)

    def _end(self) -> None:
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        pid = self._process.pid
        if pid is not None and self.status() is None:
            with suppress(OSError):  # it has just gone
                os.kill(pid, number)
