"""Arguments held to what can be done, before anything is read or planned.

Every refusal is one line with what was given, why it will not do, and what would.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from weightcast.datasets.errors import InputError

#: Seconds: a year. What waits longer waits in vain, and clocks of operating systems overflow.
MOST_SECONDS = 366 * 24 * 3600
MOST_JOBS = 4096
#: Megabytes that a worker process takes before it has work, with the libraries of common methods.
LEAST_MEMORY = 200
MOST_MEMORY = 10**9
#: Snapshots: a forecast has so many values a coordinate.
MOST_HORIZON = 100_000
MOST_SEED = 2**63 - 1
#: Bytes of a file's name, without a temporary ending, that every file system takes.
_LONGEST_NAME = 200


def check_seconds(option: str, value: float | None) -> None:
    """Hold a time limit to a number of seconds that a clock can wait for."""
    if value is not None and not (math.isfinite(value) and 0 < value <= MOST_SECONDS):
        raise InputError(
            f"{option} {value:g} is not a time limit; give seconds above 0 and up to "
            f"{MOST_SECONDS:,}, e.g. 600"
        )


def check_count(option: str, value: int | None, what: str, least: int, most: int) -> None:
    """Hold a whole number to a range.

    Examples
    --------
    >>> check_count("--jobs", 0, "worker processes", 1, 4096)
    Traceback (most recent call last):
        ...
    weightcast.datasets.errors.InputError: --jobs 0: give 1 to 4,096 worker processes
    """
    if value is not None and not least <= value <= most:
        shown = str(value) if abs(value) < 10**12 else f"{value:.0e}"
        raise InputError(f"{option} {shown}: give {least:,} to {most:,} {what}")


def check_horizon(option: str, value: int) -> None:
    """Hold a horizon to snapshots that a forecast can hold."""
    if value < 1:
        raise InputError(
            f"{option} {value} is not after the origin; give 1 to {MOST_HORIZON:,} snapshots"
        )
    check_count(option, value, "snapshots after the origin", 1, MOST_HORIZON)


def check_memory(option: str, value: int | None) -> None:
    """Hold a memory limit to what a worker can start in."""
    check_count(option, value, "megabytes a worker process", LEAST_MEMORY, MOST_MEMORY)


def check_jobs(option: str, value: int | None, memory: int | None = None) -> None:
    """Hold a number of worker processes to what can be started, and to what memory they share.

    Parameters
    ----------
    option : str
    value : int or None
    memory : int, optional
        Bytes that they all share where none has a limit of its own.
    """
    check_count(option, value, "worker processes", 1, MOST_JOBS)
    if value and memory is not None and memory / value < 1e6 * LEAST_MEMORY:
        most = max(1, int(memory / (1e6 * LEAST_MEMORY)))
        if value > most:
            raise InputError(
                f"{option} {value}: this machine's memory is enough for {most:,} worker processes "
                f"of {LEAST_MEMORY} MB; give 1 to {most:,}, or a limit with --max-memory"
            )


def check_data(option: str, folder: Path | None) -> None:
    """Hold a folder of recorded data to being there."""
    if folder is None or os.path.isdir(folder):
        return
    what = "is a file" if os.path.exists(folder) else "is not there"
    raise InputError(
        f"{option} {folder} {what}; name the folder that holds DATASET/SEED.safetensors"
    )


def check_source(option: str, folder: Path | None) -> None:
    """Hold a folder that something is taken from to being there."""
    if folder is not None and not os.path.isdir(folder):
        what = "is a file" if os.path.exists(folder) else "is not there"
        raise InputError(f"{option} {folder} {what}; name the folder that holds the files")


def check_output_file(option: str, path: Path | None) -> None:
    """Hold a file that is to be written to a place where one can be."""
    if path is None:
        return
    if not path.name or os.path.isdir(path):
        raise InputError(f"{option} {path} is a folder; name a file in it")
    _check_above(option, path)


def check_output_folder(option: str, path: Path | None) -> None:
    """Hold a folder that is to be written to, or to be made, to a place where one can be."""
    if path is None:
        return
    if os.path.exists(path) and not os.path.isdir(path):
        raise InputError(f"{option} {path} is a file; name a folder")
    _check_above(option, path)


def _check_above(option: str, path: Path) -> None:
    """See that the nearest thing above a path that is there is a folder to write to."""
    for part in path.parts:
        if len(os.fsencode(part)) > _LONGEST_NAME or "\0" in part:
            raise InputError(f"{option} {part[:40]!r}… is no name for a file; give a shorter one")
    above = next(p for p in path.absolute().parents if os.path.lexists(p))
    if not os.path.isdir(above):
        raise InputError(f"{option} {path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path} cannot be written: {above} is read-only for you")
