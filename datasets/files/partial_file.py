"""A file that gets its name only when it is whole.

Its bytes go to a hidden ``.partial`` file beside it, which no reader takes for the real one. A
killed process leaves that behind, and the next writer of the same name removes it.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path


class PartialFile:
    """Bytes that may be put anywhere, in any order, until `finish`.

    Parameters
    ----------
    path : Path
        The final name; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.parent / f".{path.name}.{os.getpid()}.partial"
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            stale.unlink(missing_ok=True)
        self._file = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def put(self, data: bytes | memoryview, position: int) -> None:
        """Write all of some bytes at a position."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file, view, position)
            view, position = view[done:], position + done

    def resize(self, size: int) -> None:
        """Cut the file, or fill it up with zeros."""
        os.ftruncate(self._file, size)

    def finish(self) -> None:
        """Make the bytes durable and give the file its name."""
        os.fsync(self._file)
        os.replace(self._partial, self.path)
        os.close(self._file)
        self._file = -1

    def discard(self) -> None:
        """Remove what was written, unless it is finished."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._partial.unlink(missing_ok=True)
