"""A file that gets its name only when it is whole.

Its bytes go to a hidden ``.partial`` file beside it, which no reader takes for the real one and
whose writer holds a lock on it. A killed process leaves the file behind without the lock, and the
next writer of the same name removes it.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from weightcast.datasets.errors import InputError
from weightcast.datasets.files import system

#: Seconds that a writer has to end after it was killed.
_PATIENCE = 5.0
#: Two files of one name may be written at a time in one process.
_count = count()


class PartialFile:
    """Bytes that may be put anywhere, in any order, until `finish`.

    Parameters
    ----------
    path : Path
        The final name; its folder is made.

    Raises
    ------
    InputError
        If the file cannot be written, here or later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The name until then.
        self.partial = path.parent / f".{path.name}.{next(_count)}.{os.getpid()}.partial"
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(path.parent, path.name)
            self._file = self._create()

    def _create(self) -> int:
        while True:
            file = system.open_file(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            with suppress(OSError):  # a file system without locks: what is killed stays there
                system.lock(file, alone=False, wait=True)
            if os.fstat(file).st_nlink:
                return file
            os.close(file)  # another writer took it for a stale one before the lock was there

    def put(self, data: bytes | memoryview, position: int) -> None:
        """Write all of some bytes at a position."""
        view = memoryview(data)
        with self._writable():
            while view:
                done = system.write_at(self._file, view, position)
                view, position = view[done:], position + done

    def get(self, view: memoryview, position: int) -> None:
        """Read bytes that were put."""
        with self._writable():
            while view:
                got = system.read_at(self._file, view, position)
                if got <= 0:
                    raise OSError("it is shorter than what was written")
                view, position = view[got:], position + got

    def sync(self) -> None:
        """Make durable what was put."""
        with self._writable():
            os.fsync(self._file)

    def resize(self, size: int) -> None:
        """Cut the file, or fill it up with zeros."""
        with self._writable():
            os.ftruncate(self._file, size)

    def finish(self) -> None:
        """Make the bytes durable and give the file its name."""
        with self._writable():
            os.fsync(self._file)
            file, self._file = self._file, -1
            try:
                system.close_renamed(file, self.partial, self.path)
            except OSError:
                if not self._stays():
                    self.partial.unlink(missing_ok=True)
                raise

    def discard(self) -> None:
        """Close the file, unless it is finished, and remove what was written."""
        if self._file >= 0:
            file, self._file = self._file, -1
            if self._stays():
                os.close(file)
            else:
                system.close_removed(file, self.partial)

    def _stays(self) -> bool:
        """Whether what was written is left where it is, unfinished."""
        return False

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from None


class UnfinishedFile(PartialFile):
    """One that may be gone on with: it has one hidden name, and one process at a time writes it.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    keep : bool
        Whether what was written stays when the file is left before `finish`; False at first.

    Raises
    ------
    InputError
        If it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.partial, self.keep = path, unfinished_name(path), False
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked()

    def _locked(self) -> int:
        deadline = time.monotonic() + _PATIENCE
        while True:
            file = system.open_file(self.partial, os.O_RDWR | os.O_CREAT)
            try:
                system.lock(file, alone=True)
            except BlockingIOError:
                os.close(file)
                if time.monotonic() > deadline:
                    raise InputError(f"{self.path} is being written by another process") from None
                time.sleep(0.05)
                continue
            except OSError:
                return file  # a file system without locks
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), self.partial.stat()):
                    return file
            os.close(file)  # it was finished, or removed, before the lock was there

    def _stays(self) -> bool:
        return self.keep


def unfinished_name(path: Path) -> Path:
    """Return what an `UnfinishedFile` is called until it is finished."""
    return path.with_name(f".{path.name}.unfinished")


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Remove what killed writers left in a folder, of one file or of all; others' stay."""
    for partial in folder.glob(f".{glob.escape(name) if name else '*'}.*.partial"):
        # What cannot be removed is in nobody's way: every writer has a name of its own.
        remove_unlocked(partial)


def remove_unlocked(path: Path) -> None:
    """Remove a hidden file that nobody writes, where that can be done."""
    with suppress(OSError):
        file = system.open_file(path, os.O_RDWR)
        try:
            system.lock(file, alone=True)
            path.unlink()
        finally:
            os.close(file)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Lend a hidden name to write to; the file gets its own once the block is through.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    file = PartialFile(path)
    try:
        with file._writable():
            yield file.partial
        file.finish()
    finally:
        file.discard()


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    file = PartialFile(path)
    try:
        file.put(content, 0)
        file.finish()
    finally:
        file.discard()
