"""Who records where: one recorder a file, and nothing that a killed one left is lost unasked.

The owner holds a POSIX lock on its recording. That is let go when the process ends, however it
ends, and is not inherited by forked ones: a loader's workers that outlive it hold nothing.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Protocol

from weightcast.datasets.errors import InputError
from weightcast.datasets.files import system
from weightcast.datasets.recording.file import RecordingWriter
from weightcast.datasets.recording.reader import holds_snapshot


class Owner(Protocol):
    """A recorder."""

    process: int

    def abandon(self) -> None:
        """Stop recording."""


#: How the name of a recording ends.
SUFFIX = ".recording"
#: Recordings of this process: a lock says nothing to the process that holds it.
_owners: weakref.WeakValueDictionary[Path, Owner] = weakref.WeakValueDictionary()


def recording_of(path: Path) -> Path:
    """Return the hidden file that becomes a trajectory."""
    return path.with_name(f".{path.name}{SUFFIX}")


def salvage(path: Path) -> str:
    """Return the command that saves what a recording holds."""
    return f"weightcast import {recording_of(path)} --out {path}"


def claim(
    path: Path, owner: Owner, *, overwrite: bool, resume: bool = False
) -> tuple[RecordingWriter, bool]:
    """Make the recording of a trajectory, or take over the one that is there.

    Parameters
    ----------
    path : Path
        The trajectory's, absolute.
    owner : Owner
    overwrite : bool
        Whether a trajectory of that name, a recording that a killed process left, and a recorder of
        this process may be replaced.
    resume : bool
        Whether to go on with a recording that a killed process left.

    Returns
    -------
    writer : RecordingWriter
    found : bool
        Whether its file holds snapshots, which are to be gone on with.

    Raises
    ------
    InputError
        If the path is taken or cannot be written.
    """
    _check_path(path, overwrite)
    recording = recording_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer, found = _left(path, recording, overwrite, resume), True
        if writer is None:
            file = system.open_file(recording, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            _lock(file)
            writer, found = RecordingWriter(file), False
    except OSError as error:
        if isinstance(error, FileExistsError) and path.parent.is_dir():
            raise _taken(path) from None
        raise InputError(f"{recording} cannot be written: {error.strerror}") from None
    _owners[recording] = owner
    return writer, found


def give_up(path: Path) -> None:
    """Let a path go."""
    _owners.pop(recording_of(path), None)


def _check_path(path: Path, overwrite: bool) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"{path} must end in .safetensors")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; remove it, or give overwrite=True")


def _left(path: Path, recording: Path, overwrite: bool, resume: bool) -> RecordingWriter | None:
    """Return a recording that is to be gone on with; remove one that nobody needs."""
    other = _owners.get(recording)
    if other is not None and other.process == os.getpid():
        if not overwrite:
            raise InputError(
                f"{path} is being recorded by another recorder of this process; close it first, "
                "or give overwrite=True"
            )
        other.abandon()
    if not recording.exists():
        return None
    # From here on it is read through the writer: closing another descriptor would unlock it.
    writer = RecordingWriter(system.open_file(recording, os.O_RDWR))
    try:
        if not _lock(writer.descriptor):
            raise _taken(path)
        if not overwrite and holds_snapshot(recording):
            if resume:
                return writer
            raise InputError(
                f"{recording} is left from a run that was killed or broken off; save it with: "
                f"{salvage(path)}, go on with it by resume=True, remove it, or give overwrite=True"
            )
        recording.unlink()
    except BaseException:
        writer.close()
        raise
    writer.close()
    return None


def _lock(file: int | None) -> bool:
    """Take the lock; False where another process has it."""
    assert file is not None
    try:
        system.lock_for_process(file)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _taken(path: Path) -> InputError:
    return InputError(
        f"{path} is being recorded by another process; name another file (of processes that train "
        "together, one records)"
    )
