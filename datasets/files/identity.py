"""Which file is where: what tells, without reading it, that a file is still the one that was read.

Whoever writes to a file, or puts another one in its place, changes its inode, its size or the time
of its last change. That time, unlike the time of modification, nobody can set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from weightcast.datasets.errors import ChangedMeanwhile

#: Seconds after a change within which another one may get the same time: clocks of file systems
#: tick slowly.
_TICK = 0.05


class Identity(NamedTuple):
    """One file as it is now; times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def identify(paths: Iterable[Path], *, settled: bool = False) -> tuple[Identity, ...]:
    """Return what files are now, those that links lead to.

    Parameters
    ----------
    paths : iterable of Path
    settled : bool
        Wait until no later change can have the same time as the last one.

    Raises
    ------
    ChangedMeanwhile
        If a file is gone or cannot be reached.
    """
    found = tuple(_identify(path) for path in paths)
    if settled:
        ago = time.time() - max((each.changed for each in found), default=0) / 1e9
        if 0 <= ago < _TICK:
            time.sleep(_TICK - ago)
    return found


def _identify(path: Path) -> Identity:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ChangedMeanwhile(f"{path} can no longer be read: {error.strerror}") from None
    return Identity(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )
