"""A worker: one process that does one thing at a time and can be killed without harm.

Whatever a method does to its process (a crash, a hang that ignores signals, memory without end)
ends that process alone, and the next call has a new one. Where the process was at that moment is
kept: it writes its stack to a file that both sides hold open.
"""

from __future__ import annotations

import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, TypeVar

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.processes.child import Raised, SharedFile
from weightcast.bench.engine.processes.forks import server_ended, server_process
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.started import Started

T = TypeVar("T")

#: Seconds between looks at a worker's memory.
_POLL = 0.05
#: Seconds after which it is no longer waited for how a process ended.
_LOST = 5.0
#: Seconds after which a process that only starts does not come any more.
_STARTED = 120.0
#: Signals that people, schedulers and a system short of memory end processes by.
_FROM_OUTSIDE = {
    getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
}


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
        self._process: Started | None = None
        # The process that began the call under way; 0 until then.
        self._begun = context.RawValue("q", 0)
        self.method = ""
        self._server: int | None = None
        self._traces = SharedFile()
        self._killed = threading.Event()
        self._beside: Worker | None = None

    @property
    def beside(self) -> Worker:
        """A second process, that goes on whatever method this one serves.

        It is killed and closed with this one.
        """
        if self._beside is None:
            self._beside = Worker(self._context, self._limits)
            self._beside._killed = self._killed
        return self._beside

    def serve(self, method: str) -> None:
        """Work for a method from now on, in a process that no other one has worked in."""
        if self.method != method:
            self._give_up(wait=False)  # the next one need not wait for the last one's end
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
        self._traces.clear()
        seconds = timeout or self._limits.timeout
        call = _Call((seconds, function, args), seconds, timeout is None)
        for _ in range(2):
            self._begun.value = 0
            answer = self._answer(call, stop)
            if answer is not None:
                break
            # The process died while it had nothing to do, and nobody had seen it yet.
            self._give_up()
        else:
            raise self._ended("crashed", "its process could not be reached", By.ANYBODY)
        try:
            found = pickle.loads(answer)
        except Exception:
            raise self._ended("crashed", "its process sent what nobody can read") from None
        if isinstance(found, Raised):
            raise found.error from _Remote(found.trace)
        result: T = found
        return result

    def kill(self) -> None:
        """End the process, whatever it is doing; a call in another thread raises `Stopped`."""
        self._killed.set()

    def close(self) -> None:
        """End the process and give back what it held."""
        self._give_up()
        self._traces.close()
        if self._beside is not None:
            self._beside.close()

    def _answer(self, call: _Call, stop: threading.Event | None) -> bytes | None:
        """Hand a call over and wait; None where the process was gone before it began."""
        process = self._process = self._process or self._start()
        try:
            process.send(call.message)
        except OSError:
            return None
        handed, began = time.monotonic(), 0.0
        while True:
            try:
                answer = process.answer(_POLL)
                over = answer is None
            except queue.Empty:
                answer, over = None, process.status() is not None
            if answer is not None:
                return answer
            if over:
                return self._over(process)
            if self._killed.is_set() or (stop is not None and stop.is_set()):
                self._give_up()
                raise Stopped
            if self._memory() > self._limits.max_memory:
                process.interrupt()
                time.sleep(_POLL)
                text = f"its process passed {self._limits.memory_text}"
                raise self._ended("out-of-memory", text)
            now = time.monotonic()
            if self._begun.value:
                began = began or now
                if now - began > call.seconds:
                    raise self._ended("timeout", call.late)
            elif now - handed > _STARTED:
                return None

    def _over(self, process: Started) -> bytes | None:
        """Take the last answer of a process that has ended, or say how it ended."""
        with suppress(queue.Empty):
            if (answer := process.answer(0)) is not None:
                return answer
        if not self._begun.value:
            return None
        code = process.status(_LOST)
        if code is None:
            raise self._ended("crashed", "its process could not be reached", By.ANYBODY)
        by = By.ANYBODY if -code in _FROM_OUTSIDE else By.ITSELF
        raise self._ended("crashed", f"its process {_last_words(code)}", by)

    def _start(self) -> Started:
        self._server = server_process()
        return Started(self._context, self._begun, self._traces, self._limits.max_memory)

    def _ended(self, status: str, reason: str, by: By = By.ITSELF) -> WorkerEnded:
        self._give_up()
        # How a process ended is then not known: its parent alone would have been told.
        if status == "crashed" and server_ended(self._server):
            reason, by = "its process was ended with the one that starts processes", By.OTHERS
        return WorkerEnded(Failure(status, reason, self._traces.text()), by)

    def _memory(self) -> int:
        """Bytes resident in the process, 0 where it is gone or not here yet."""
        import psutil

        pid = self._process.pid if self._process is not None else 0
        try:
            return int(psutil.Process(pid).memory_info().rss) if pid else 0
        except psutil.Error:
            return 0

    def _give_up(self, wait: bool = True) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill(wait)


class _Call(NamedTuple):
    """What is handed over, and how long it may take."""

    message: tuple[float, Callable[..., Any], tuple[Any, ...]]
    seconds: float
    by_option: bool

    @property
    def late(self) -> str:
        named = " (--timeout)" if self.by_option else ""
        return f"took longer than the limit of {self.seconds:g} s{named}"


class _Remote(Exception):
    """Where in the process something was raised."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


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
