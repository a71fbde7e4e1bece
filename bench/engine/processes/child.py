"""A worker's own side: how its process starts, and how it runs what it is given."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any, TypeVar

from weightcast.bench.engine.processes.forks import settle_worker

T = TypeVar("T")


class SharedFile:
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


def start(pid: Any, begun: Any, traces: SharedFile, max_memory: int) -> None:
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


def task(timeout: float, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    """Run a task in the process, which writes its stacks just before its time is up."""
    assert _traces is not None
    _begun.value = os.getpid()
    faulthandler.dump_traceback_later(max(timeout - 0.05, 0.9 * timeout), file=_traces)
    try:
        return function(*args)
    finally:
        faulthandler.cancel_dump_traceback_later()
