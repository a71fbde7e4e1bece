"""A worker: one process that does one thing at a time and can be killed without harm.

Whatever a method does to its process (a crash, a hang that ignores signals, memory without end)
ends that process alone, and the next call has a new one. Where the process was at that moment is
kept: it writes its stack to a file that both sides hold open.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from enum import Enum
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.child import SharedFile, start, task
from weightcast.bench.engine.processes.forks import server_ended, server_process
from weightcast.bench.engine.processes.limits import Limits

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

T = TypeVar("T")

#: Seconds between looks at a worker's memory.
_POLL = 0.05
#: Seconds that a worker has to end by itself once it is told to.
_GRACE = 0.5
#: Seconds after which a dead worker's last message is no longer waited for, nor a limit's effect.
_LOST = 5.0
#: Seconds after which a process that only starts does not come any more.
_STARTED = 120.0
#: Signals that people, schedulers and a system short of memory end processes by.
_FROM_OUTSIDE = {
    getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
}
#: Seconds within which the pool sees that a process ended, unless it takes that for an orderly end.
_NOTICED = 1.0


class By(Enum):
    """Who ended a process."""

    #: What it did, or a limit.
    ITSELF = "itself"
    #: A signal that comes from outside, unless the process sends it to itself.
    ANYBODY = "anybody"
    #: The process that starts workers was ended, and all of them with it.
    OTHERS = "others"


class WorkerEnded(Exception):
    """The process was ended, by a limit, by itself or from outside.

    Attributes
    ----------
    failure : Failure
        Status ``timeout``, ``out-of-memory`` or ``crashed``; for a traceback the stacks of its
        threads at the end, empty where the process could not write them.
    by : By
        Who may have ended it.
    """

    def __init__(self, failure: Failure, by: By = By.ITSELF) -> None:
        super().__init__(failure.reason)
        self.failure, self.by = failure, by


class Stopped(Exception):
    """The call was given up because the run is to stop."""


class Worker:
    """One killable process, started with the first call.

    Parameters
    ----------
    context : BaseContext
        How the process starts.
    limits : Limits

    Attributes
    ----------
    method : str
        Whose process it is; empty before anybody said so.
    """

    def __init__(self, context: BaseContext, limits: Limits) -> None:
        self._context, self._limits = context, limits
        self._pool: ProcessPool | None = None
        # Written by each new process, read here; never written here, for that may come too late.
        self._pid = context.RawValue("q", 0)
        # The process that began the call under way; 0 until then.
        self._begun = context.RawValue("q", 0)
        self.method = ""
        self._server: int | None = None
        self._traces = SharedFile()
        self._killed = threading.Event()

    def serve(self, method: str) -> None:
        """Work for a method from now on, in a process that no other one has worked in."""
        if self.method != method:
            self._give_up_pool(wait=False)  # the next one need not wait for the last one's end
        self.method = method

    def call(
        self,
        function: Callable[..., T],
        *args: Any,
        stop: threading.Event | None = None,
        timeout: float | None = None,
    ) -> T:
        """Run a function in the process and return what it returns.

        Parameters
        ----------
        function : callable
            Importable by the process; what it raises is raised here.
        *args
        stop : Event, optional
            Once it is set the call is given up and the process ended.
        timeout : float, optional
            Seconds, in place of the limit's.

        Raises
        ------
        WorkerEnded
            If a limit or the function ended the process.
        Stopped
            If ``stop`` was set, or the worker was killed from another thread.
        """
        from pebble import ProcessExpired

        self._traces.clear()
        seconds = timeout or self._limits.timeout
        future = self._watched(function, args, stop, seconds)
        if isinstance(self._error(future), BrokenProcessPool) and not self._begun.value:
            # The process died while it had nothing to do, and nobody had seen it yet.
            self._give_up_pool()
            future = self._watched(function, args, stop, seconds)
        error = self._error(future)
        if isinstance(error, TimeoutError) and not _from_function(error):
            named = "" if timeout else " (--timeout)"
            raise self._ended("timeout", f"took longer than the limit of {seconds:g} s{named}")
        if isinstance(error, ProcessExpired):
            by = By.ANYBODY if -error.exitcode in _FROM_OUTSIDE else By.ITSELF
            raise self._ended("crashed", f"its process {_last_words(error.exitcode)}", by)
        if isinstance(error, BrokenProcessPool):
            raise self._ended("crashed", "its process could not be reached", By.ANYBODY)
        return future.result()

    def kill(self) -> None:
        """End the process, whatever it is doing; a call in another thread raises `Stopped`."""
        self._killed.set()

    def close(self) -> None:
        """End the process and give back what it held."""
        self._give_up_pool()
        self._traces.close()

    def _watched(
        self,
        function: Callable[..., T],
        args: tuple[Any, ...],
        stop: threading.Event | None,
        seconds: float,
    ) -> ProcessFuture[T]:
        """Have a function run; return once it has, or once it is plain that it never will."""
        self._begun.value = 0
        future = self._schedule(function, args, seconds)
        seen = _Seen()
        while not wait([future], timeout=_POLL).done:
            if self._killed.is_set() or (stop is not None and stop.is_set()):
                self._give_up_pool()
                raise Stopped
            if self._memory() > self._limits.max_memory:
                raise self._out_of_memory()
            since = seen.since(int(self._pid.value), int(self._begun.value))
            if since.gone > _NOTICED and self._begun.value:
                # The pool counts status 0 as no failure and would wait for the result.
                raise self._ended("crashed", f"its process {_last_words(0)}")
            if since.gone > _NOTICED or since.waiting > _STARTED or since.begun > seconds + _LOST:
                break  # nor does the pool see what died between two calls, or with its locks
        return future

    def _schedule(
        self, function: Callable[..., T], args: tuple[Any, ...], seconds: float
    ) -> ProcessFuture[T]:
        for _ in range(2):
            if self._pool is None:
                self._pool = self._new_pool()
            try:
                return self._pool.schedule(task, args=(seconds, function, args), timeout=seconds)
            except RuntimeError:  # the process died while it had nothing to do
                self._give_up_pool()
        raise self._ended("crashed", "its process could not be started", By.ANYBODY)

    def _new_pool(self) -> ProcessPool:
        from pebble import CONSTS, ProcessPool

        CONSTS.term_timeout = _GRACE
        self._server = server_process()
        # Each process has one of its own: another's would hide that this one is only starting.
        self._pid = self._context.RawValue("q", 0)
        return ProcessPool(
            max_workers=1,
            context=self._context,
            initializer=start,
            initargs=(self._pid, self._begun, self._traces, self._limits.max_memory),
        )

    def _ended(self, status: str, reason: str, by: By = By.ITSELF) -> WorkerEnded:
        # Not used again: a process that dies in the middle of a message leaves the pool's channel
        # locked, and one that is dying now might still be given the next call.
        self._give_up_pool()
        # How a process ended is then not known: its parent alone would have been told.
        if status == "crashed" and server_ended(self._server):
            reason, by = "its process was ended with the one that starts processes", By.OTHERS
        return WorkerEnded(Failure(status, reason, self._traces.text()), by)

    def _out_of_memory(self) -> WorkerEnded:
        if self._pid.value and hasattr(signal, "SIGUSR1"):
            _send(int(self._pid.value), signal.SIGUSR1)  # writes its stacks
            time.sleep(_POLL)
        return self._ended("out-of-memory", f"its process passed {self._limits.memory_text}")

    def _memory(self) -> int:
        """Bytes resident in the process, 0 where it is gone or not here yet."""
        import psutil

        try:
            return int(psutil.Process(self._pid.value).memory_info().rss) if self._pid.value else 0
        except psutil.Error:
            return 0

    def _error(self, future: ProcessFuture[Any]) -> BaseException | None:
        """Return what a call failed with, also where the pool has no answer and never will."""
        if future.done():
            return future.exception()
        return TimeoutError() if self._begun.value else BrokenProcessPool()

    def _give_up_pool(self, wait: bool = True) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # First of all, or the pool starts another process in place of the one that is killed.
        pool.stop()  # type: ignore[no-untyped-call]  # pebble is typed in part
        if self._pid.value:
            _send(int(self._pid.value), signal.SIGKILL)
        else:  # it is only starting, and the pool may not know of it
            coming = threading.Thread(target=_end_once_here, args=(self._pid,), daemon=True)
            coming.start()
            if wait:  # what it is given at its start is gone once this process ends
                coming.join(timeout=_LOST)
        # Its own threads may wait for a message that will never be whole.
        ending = threading.Thread(target=pool.join, daemon=True)
        ending.start()
        if wait:
            ending.join(timeout=_LOST)


class _Since(NamedTuple):
    """Seconds since a call was handed over, began, and lost its process; 0 where it has not."""

    waiting: float
    begun: float
    gone: float


class _Seen:
    """What is seen of a call from outside, whatever the pool knows of it."""

    def __init__(self) -> None:
        self._first = 0
        self._handed, self._begun, self._gone = time.monotonic(), 0.0, 0.0

    def since(self, pid: int, begun: int) -> _Since:
        """Look at the process that is there now, and the one that began the call."""
        import psutil

        now = time.monotonic()
        self._first = begun or self._first or pid
        if begun:
            self._begun = self._begun or now
        # The pool may have started another one, which knows nothing of the call.
        gone = self._first and (self._first != pid or not psutil.pid_exists(self._first))
        self._gone = (self._gone or now) if gone else 0.0
        return _Since(
            0.0 if begun else now - self._handed,
            now - self._begun if self._begun else 0.0,
            now - self._gone if self._gone else 0.0,
        )


def _end_once_here(pid: Any) -> None:
    """Kill a process as soon as it says who it is."""
    deadline = time.monotonic() + _STARTED
    while not pid.value and time.monotonic() < deadline:
        time.sleep(_POLL)
    if pid.value:
        _send(int(pid.value), signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with suppress(OSError):  # it is gone
        os.kill(pid, number)


def _last_words(code: int) -> str:
    """Say how a process ended that nobody here ended."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", which the system sends where memory runs out" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


def _from_function(error: BaseException) -> bool:
    """Whether the function itself raised this: then it came with a traceback from there."""
    return error.__cause__ is not None
