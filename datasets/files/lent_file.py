"""Files that are open while they are in use, and a bounded number of them between two uses.

A data set may have more runs than a process may have open files.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import ChangedMeanwhile
from weightcast.datasets.files import system

#: Files that stay open although nobody reads them.
MOST_OPEN = 64

# Entered again where an object that is let go of meanwhile closes its own file.
_lock = threading.RLock()
#: Those that are open, the one used last at the end.
_open: dict[int, weakref.ref[LentFile]] = {}


class LentFile:
    """A file to read from, opened when that is asked for, once in every process.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._users = 0
        self._first: tuple[int, ...] | None = None

    @contextmanager
    def descriptor(self) -> Iterator[int]:
        """Lend what the file is open as.

        Raises
        ------
        ChangedMeanwhile
            If another file is there now than when it was first opened.
        OSError
            If it cannot be opened.
        """
        with _lock:
            file = self._file = self._opened() if self._file is None else self._file
            _open.pop(id(self), None)
            _open[id(self)] = weakref.ref(self)
            self._users += 1
            _close_others()
        try:
            yield file
        finally:
            with _lock:
                self._users -= 1

    def _opened(self) -> int:
        file = system.open_file(self.path, os.O_RDONLY)
        status = os.fstat(file)
        found = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if found != (self._first or found):
            os.close(file)
            raise ChangedMeanwhile(f"{self.path} was replaced or changed while it was in use")
        self._first = found
        return file

    def _close(self) -> None:
        with _lock:
            _open.pop(id(self), None)
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __getstate__(self) -> dict[str, Any]:
        # What is open here, and where it lies, mean nothing in another process.
        return {"path": self.path, "_file": None, "_users": 0, "_first": None}

    def __del__(self) -> None:
        with suppress(OSError):
            self._close()


def _close_others() -> None:
    """Close what was not used for the longest time, until few enough are open."""
    for reference in list(_open.values()):
        if len(_open) <= MOST_OPEN:
            return
        file = reference()
        if file is not None and not file._users:
            file._close()
