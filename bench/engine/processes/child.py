"""A worker's own side: how its process starts, and how it runs what it is given."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import tempfile
import traceback
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import IO, Any, NamedTuple

from weightcast.bench.engine.processes.forks import settle_worker
from weightcast.datasets.files.system import take_at

#: How an open file is handed to a process at its start; None where the system cannot do that.
_HANDED_OVER: Any = getattr(reduction, "DupFd", None)


class SharedFile:
    """A file that the process, given it at its start, can write to as well.

    It has no name where open files can be handed over.
    """

    def __init__(self) -> None:
        self._file: IO[bytes]
        self._name = ""
        if _HANDED_OVER is not None:
            self._file = tempfile.TemporaryFile(mode="a+b")  # noqa: SIM115
            return
        # Processes cannot be handed open files here, so that it keeps a name until it is closed.
        file, self._name = tempfile.mkstemp()
        self._file = os.fdopen(file, "a+b")

    def clear(self) -> None:
        os.ftruncate(self._file.fileno(), 0)

    def text(self) -> str:
        size = os.fstat(self._file.fileno()).st_size
        text = take_at(self._file.fileno(), size, 0).decode(errors="replace")
        # After a crash a list of all compiled modules follows, which nobody reads.
        return text.partition("\nExtension modules:")[0].strip()

    def close(self) -> None:
        self._file.close()
        if self._name:
            with suppress(OSError):  # its other process has it open still
                os.unlink(self._name)

    def __getstate__(self) -> Any:
        return self._name if _HANDED_OVER is None else _HANDED_OVER(self._file.fileno())

    def __setstate__(self, found: Any) -> None:
        self._name = ""
        if isinstance(found, str):
            self._file = open(found, "a+b")  # noqa: SIM115
        else:
            self._file = os.fdopen(found.detach(), "a+b")

    def handler(self) -> IO[bytes]:
        return self._file


class Raised(NamedTuple):
    """What a function raised, and where."""

    error: BaseException
    trace: str


def serve(calls: Connection, pid: Any, begun: Any, traces: SharedFile, max_memory: int) -> None:
    """Be a worker's process: do one call after the other until nobody is there to make one.

    Parameters
    ----------
    calls : Connection
        Brings seconds, a function and its arguments; takes what it returns, or `Raised`.
    pid, begun : shared integers
        Told who this process is, and, the same again, that it has begun a call.
    traces : SharedFile
        Gets the process's stacks where it comes to a bad end.
    max_memory : int
    """
    settle_worker()
    handler = traces.handler()
    faulthandler.enable(handler)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, handler)
    _limit_allocation(max_memory)
    pid.value = os.getpid()
    while True:
        try:
            call = calls.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _answer(call, begun, handler)
        try:
            calls.send_bytes(answer)
        except OSError:  # whoever asked is gone, and wants no traceback of ours on the terminal
            return


def _answer(call: bytes, begun: Any, traces: IO[bytes]) -> bytes | memoryview:
    """Do a call, with the process's stacks written just before its time is up."""
    try:
        seconds, function, args = pickle.loads(call)
        begun.value = os.getpid()
        faulthandler.dump_traceback_later(max(seconds - 0.05, 0.9 * seconds), file=traces)
        try:
            return ForkingPickler.dumps(function(*args))
        finally:
            faulthandler.cancel_dump_traceback_later()
    except BaseException as error:  # told where the call was made
        trace = "".join(traceback.format_exception(error))
        try:
            told = ForkingPickler.dumps(Raised(error, trace))
            pickle.loads(told)  # not all exceptions come back whole
            return told
        except BaseException:
            plain = RuntimeError(f"{type(error).__name__}: {error}")
            return ForkingPickler.dumps(Raised(plain, trace))


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
