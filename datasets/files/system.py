"""Calls on open files: the system's own where it has them, and what does the same where not.

Unix has all of them. Windows can neither read and write at a position nor lock as Unix does, and
gives no file another name while it is open. Which of them there are is asked once, here.
"""

from __future__ import annotations

import errno
import importlib
import os
import threading
from pathlib import Path
from types import ModuleType
from typing import Any


def _locks() -> ModuleType | None:
    try:
        return importlib.import_module("fcntl")
    except ImportError:
        return None


_fcntl: Any = _locks()
#: A position is moved to and read from in two calls there.
_moving = threading.Lock()
# Files are opened as text by default where the system knows that.
_BINARY = getattr(os, "O_BINARY", 0)


def open_file(path: Path | str, flags: int) -> int:
    """Open a file for bytes and return its descriptor; a new one gets the usual permissions.

    Raises
    ------
    OSError
        As `os.open` does.
    """
    return os.open(path, flags | _BINARY, 0o666)


def read_at(file: int, view: memoryview, position: int) -> int:
    """Read into a buffer from a position; return how many bytes, 0 at the file's end."""
    if hasattr(os, "preadv"):
        return os.preadv(file, [view], position)
    found = take_at(file, len(view), position)
    view[: len(found)] = found
    return len(found)


def take_at(file: int, count: int, position: int) -> bytes:
    """Return so many bytes from a position, fewer where the file ends before that."""
    if hasattr(os, "pread"):
        return os.pread(file, count, position)
    with _moving:
        os.lseek(file, position, os.SEEK_SET)
        return os.read(file, count)


def write_at(file: int, view: bytes | memoryview, position: int) -> int:
    """Write bytes at a position; return how many of them."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, view, position)
    with _moving:
        os.lseek(file, position, os.SEEK_SET)
        return os.write(file, view)


def lock(file: int, *, alone: bool, wait: bool = False) -> None:
    """Lock an open file, alone or beside others who share it, until it is closed.

    Parameters
    ----------
    file : int
    alone : bool
    wait : bool
        Until another lets it go.

    Raises
    ------
    BlockingIOError
        If another has locked it and is not to be waited for.
    OSError
        If the system, or this file's, knows no locks.
    """
    if _fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    how = _fcntl.LOCK_EX if alone else _fcntl.LOCK_SH
    _fcntl.flock(file, how if wait else how | _fcntl.LOCK_NB)


def lock_for_process(file: int) -> None:
    """Lock a file for this process alone, whatever descriptors of it there are.

    Raises
    ------
    BlockingIOError, OSError
        As of `lock`.
    """
    if _fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    _fcntl.lockf(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)


def close_renamed(file: int, old: Path, new: Path) -> None:
    """Give an open file another name, in place of whatever has it, and close it.

    Where there are locks it is closed last, so that nobody takes it for one that was left.
    """
    if _fcntl is None:
        os.close(file)
    try:
        os.replace(old, new)
    finally:
        if _fcntl is not None:
            os.close(file)


def close_removed(file: int, path: Path) -> None:
    """Remove an open file and close it, in the order that the system allows."""
    if _fcntl is None:
        os.close(file)
        path.unlink(missing_ok=True)
        return
    path.unlink(missing_ok=True)
    os.close(file)
