"""A worker: one process that does one thing at a time and can be killed without harm.

Whatever a method does to its process (a crash, a hang that ignores signals, memory without end)
ends that process alone, and the next call has a new one. Where the process was at that moment is
kept: it writes its stack to a file that both sides hold open.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.context import BaseContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from weightcast.bench.engine.limits import Limits
from weightcast.bench.engine.processes import settle_worker

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

T = TypeVar("T")

#: Seconds between looks at a worker's memory.
_POLL = 0.05
#: Seconds that a worker has to end by itself once it is told to.
_GRACE = 0.5
#: Seconds after which a dead worker's last message is no longer waited for.
_LOST = 5.0
#: Seconds after which a process that was given up while it started does not come any more.
_STARTED = 120.0
#: Seconds within which the pool sees that a process ended, unless it takes that for an orderly end.
_NOTICED = 1.0


class WorkerEnded(Exception):
    """The process was ended, by a limit or by itself.

    Attributes
    ----------
    status : str
        ``timeout``, ``out-of-memory`` or ``crashed``.
    reason : str
    trace : str
        The stacks of its threads at the end; empty where the process could not write them.
    """

    def __init__(self, status: str, reason: str, trace: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.trace = status, reason, trace


class Stopped(Exception):
    """The call was given up because the run is to stop."""


class Worker:
    """One killable process, started with the first call.

    Parameters
    ----------
    context : BaseContext
        How the process starts.
    limits : Limits
    """

    def __init__(self, context: BaseContext, limits: Limits) -> None:
        self._context, self._limits = context, limits
        self._pool: ProcessPool | None = None
        # Written by each new process, read here; never written here, for that may come too late.
        self._pid = context.RawValue("q", 0)
        # The process that began the call under way; 0 until then.
        self._begun = context.RawValue("q", 0)
        self._traces = _SharedFile()
        self._killed = threading.Event()

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
        if isinstance(future.exception(), BrokenProcessPool) and not self._begun.value:
            # The process died while it had nothing to do, and nobody had seen it yet.
            self._give_up_pool()
            future = self._watched(function, args, stop, seconds)
        error = future.exception()
        if isinstance(error, TimeoutError) and not _from_function(error):
            named = "" if timeout else " (--timeout)"
            raise self._ended("timeout", f"took longer than the limit of {seconds:g} s{named}")
        if isinstance(error, ProcessExpired):
            raise self._ended("crashed", f"its process {_last_words(error.exitcode)}")
        if isinstance(error, BrokenProcessPool):
            raise self._ended("crashed", "its process could not be reached")
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
        """Have a function run; return once it has, or once the pool says why it has not."""
        self._begun.value = 0
        future = self._schedule(function, args, seconds)
        gone_since = None
        while not wait([future], timeout=_POLL).done:
            if self._killed.is_set() or (stop is not None and stop.is_set()):
                self._give_up_pool()
                raise Stopped
            if self._memory() > self._limits.max_memory:
                raise self._out_of_memory()
            if not self._gone():
                continue
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > _NOTICED:
                # The pool counts status 0 as no failure and would wait for the result.
                raise self._ended("crashed", f"its process {_last_words(0)}")
        return future

    def _schedule(
        self, function: Callable[..., T], args: tuple[Any, ...], seconds: float
    ) -> ProcessFuture[T]:
        for _ in range(2):
            if self._pool is None:
                self._pool = self._new_pool()
            try:
                return self._pool.schedule(_task, args=(seconds, function, args), timeout=seconds)
            except RuntimeError:  # the process died while it had nothing to do
                self._give_up_pool()
        raise WorkerEnded("crashed", "its process could not be started")

    def _new_pool(self) -> ProcessPool:
        from pebble import CONSTS, ProcessPool

        CONSTS.term_timeout = _GRACE
        # Each process has one of its own: another's would hide that this one is only starting.
        self._pid = self._context.RawValue("q", 0)
        return ProcessPool(
            max_workers=1,
            context=self._context,
            initializer=_start,
            initargs=(self._pid, self._begun, self._traces, self._limits.max_memory),
        )

    def _ended(self, status: str, reason: str) -> WorkerEnded:
        # Not used again: a process that dies in the middle of a message leaves the pool's channel
        # locked, and one that is dying now might still be given the next call.
        self._give_up_pool()
        return WorkerEnded(status, reason, self._traces.text())

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

    def _gone(self) -> bool:
        """Whether the process that began the call is no more."""
        import psutil

        return bool(self._begun.value and not psutil.pid_exists(self._begun.value))

    def _give_up_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # First of all, or the pool starts another process in place of the one that is killed.
        pool.stop()  # type: ignore[no-untyped-call]  # pebble is typed in part
        if self._pid.value:
            _send(int(self._pid.value), signal.SIGKILL)
        else:  # it is only starting, and the pool may not know of it
            threading.Thread(target=_end_once_here, args=(self._pid,), daemon=True).start()
        # Its own threads may wait for a message that will never be whole.
        ending = threading.Thread(target=pool.join, daemon=True)
        ending.start()
        ending.join(timeout=_LOST)


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


class _SharedFile:
    """A file without a name that the process, given it at its start, can write to as well."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115

    def clear(self) -> None:
        os.ftruncate(self._file.fileno(), 0)

    def text(self) -> str:
        size = os.fstat(self._file.fileno()).st_size
        text = os.pread(self._file.fileno(), size, 0).decode(errors="replace")
        # After a crash a list of all compiled modules follows, which nobody reads.
        return text.partition("\nExtension modules:")[0].strip()

    def close(self) -> None:
        self._file.close()

    def __getstate__(self) -> Any:
        return DupFd(self._file.fileno())

    def __setstate__(self, duplicate: Any) -> None:
        self._file = os.fdopen(duplicate.detach(), "a+b")

    def handler(self) -> IO[bytes]:
        return self._file


_traces: IO[bytes] | None = None
_begun: Any = None


def _start(pid: Any, begun: Any, traces: _SharedFile, max_memory: int) -> None:
    """Begin a worker process."""
    global _begun, _traces
    settle_worker()
    _begun = begun
    _traces = traces.handler()
    faulthandler.enable(_traces)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, _traces)
    _limit_allocation(max_memory)
    pid.value = os.getpid()


def _limit_allocation(max_memory: int) -> None:
    """Refuse what a single allocation would take past the limit before anybody could look.

    The limit itself is held from outside, on resident memory: a process may reserve more than it
    ever touches, so this one leaves it room.
    """
    try:
        import resource

        held = next(
            1024 * int(line.split()[1])
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("VmData:")
        )
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + max_memory, hard))
    except (ImportError, OSError, ValueError, StopIteration):
        pass  # not Linux


def _task(timeout: float, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Run a task in the process, which writes its stacks just before its time is up."""
    assert _traces is not None
    _begun.value = os.getpid()
    faulthandler.dump_traceback_later(max(timeout - 0.05, 0.9 * timeout), file=_traces)
    try:
        return function(*args)
    finally:
        faulthandler.cancel_dump_traceback_later()
