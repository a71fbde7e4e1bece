"""Peak memory of a stretch of code, above what the process held before it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Set when the block ends.

    Attributes
    ----------
    above_baseline : int or None
        Bytes; None where the system cannot tell (only Linux can reset a process's high-water mark).
    """

    above_baseline: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the resident high-water mark over a block, minus what was resident at its start."""
    peak = Peak()
    _give_back_free_memory()
    try:
        _CLEAR.write_text("5")  # resets VmHWM to the present size
        before = _status("VmRSS")
    except OSError:
        yield peak
        return
    yield peak
    peak.above_baseline = max(0, _status("VmHWM") - before)


def _give_back_free_memory() -> None:
    """Return what earlier work freed to the system; otherwise it would hide what is taken next."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # not glibc: the figure is then a lower bound


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{_STATUS} has no {field}")
