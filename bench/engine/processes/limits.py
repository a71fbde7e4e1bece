"""Limits on a worker: how long one fit or one cell may take, and how much memory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Share of the machine's memory that all workers together may take where nobody says more.
_SHARE = 0.9
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Limits:
    """What ends a worker.

    Attributes
    ----------
    timeout : float
        Seconds, for each fit and for each cell.
    max_memory : int
        Bytes resident in the worker process, the libraries that it loaded among them.
    """

    timeout: float
    max_memory: int

    @property
    def memory_text(self) -> str:
        """The memory limit in words."""
        return f"the limit of {self.max_memory / 1e6:,.0f} MB (--max-memory)"


def default_memory(jobs: int) -> int:
    """Return each worker's share of the memory that this process may use, in bytes."""
    import psutil

    total = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):  # no cgroup, or one without a limit ("max")
        total = min(total, int(_CGROUP.read_text()))
    return int(_SHARE * total / jobs)
