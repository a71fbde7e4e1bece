"""Bytes of a recording that this process may be writing at the same time.

Whoever closes any descriptor of a file lets go of the locks that the process holds on it. A
recorder holds one on its recording, so what it writes is read through its own descriptor, and a
descriptor that is no longer needed is left to it to close.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.files import system
from weightcast.datasets.recording.file import RecordingWriter, writer_of


class RecordingBytes:
    """A recording file to read from; it is opened on first use, once in every process.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        writer = writer_of(path)
        # A recorder that nobody holds any more lets go of its file, whoever reads it.
        self._writer: weakref.ref[RecordingWriter] | None = (
            None if writer is None else weakref.ref(writer)
        )
        self._file: int | None = None

    def size(self) -> int:
        """Return the bytes that there are now."""
        return os.fstat(self._descriptor()).st_size

    def take(self, position: int, count: int) -> bytes:
        """Read so many bytes, fewer where the file ends before that."""
        found = b""
        while len(found) < count:
            piece = system.take_at(self._descriptor(), count - len(found), position + len(found))
            if not piece:
                break
            found += piece
        return found

    def fill(self, view: memoryview, position: int, what: str) -> None:
        """Read all of some bytes.

        Raises
        ------
        InputError
            If the file ends before that, or is no longer there.
        """
        while view:
            got = system.read_at(self._descriptor(), view, position)
            if got <= 0:
                raise InputError(f"{self.path} ends inside {what}")
            view, position = view[got:], position + got

    def _descriptor(self) -> int:
        writer = self._writer() if self._writer is not None else None
        if writer is not None and writer.descriptor is not None:
            return writer.descriptor
        if self._file is None:
            try:
                self._file = system.open_file(self.path, os.O_RDONLY)
            except FileNotFoundError:
                raise InputError(
                    f"{self.path} is no longer there; where its recorder was closed, open the "
                    "trajectory that it wrote"
                ) from None
        return self._file

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            if (writer := writer_of(self.path)) is not None:
                writer.keep(self._file)
            else:
                os.close(self._file)
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_writer": None, "_file": None}

    def __del__(self) -> None:
        self.close()
