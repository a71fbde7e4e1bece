"""A store as it stands, copied without touching its folder.

Even to read a database, SQLite writes beside it: an index of the log, locks. The folder may be
somebody else's, on a disk that cannot be written to, or be written to by a run just now. So who
only reads works on a copy, in the system's folder for temporary files.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weightcast.datasets.errors import InputError

_TRIES = 100
_PAUSE = 0.05
#: A log's header; its salts change with every new beginning of the log.
_HEADER = 32


@contextmanager
def snapshot(path: Path) -> Iterator[Path]:
    """Copy a database with what its log holds, and take the copy away afterwards.

    Raises
    ------
    InputError
        If it cannot be read, or copied.
    """
    with tempfile.TemporaryDirectory(prefix="weightcast-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / path.name
        try:
            _copy(path, copy)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None
        yield copy


def _copy(path: Path, copy: Path) -> None:
    """Copy both files as they were at one moment.

    A log only grows until it is begun anew, and what has gone from it into the database stays in
    it until then: with one log all the while, the database may have changed under the copy.
    """
    log, copied_log = _log(path), _log(copy)
    for _ in range(_TRIES):
        before = _state(path, log)
        try:
            shutil.copyfile(path, copy)
            copied_log.unlink(missing_ok=True)
            if log.is_file():
                shutil.copyfile(log, copied_log)
            after = _state(path, log)
        except FileNotFoundError:  # its writer closed it in between
            after = None
        if before == after:
            return
        time.sleep(_PAUSE)
    raise InputError(f"{path} is being written to without a pause; read it when the run is done")


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state(path: Path, log: Path) -> tuple[object, ...]:
    """Return what tells one state of the files from another."""
    about = path.stat()
    try:
        with log.open("rb") as file:
            head = file.read(_HEADER)
    except FileNotFoundError:
        head = b""
    if len(head) == _HEADER:
        return about.st_ino, head
    return about.st_ino, head, about.st_size, about.st_mtime_ns
