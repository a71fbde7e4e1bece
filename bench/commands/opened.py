"""Opening a run that somebody named: a trajectory, or a folder of checkpoints as it is."""

from __future__ import annotations

import sys
from pathlib import Path

from weightcast.bench.commands.fit_runs import NamedRun
from weightcast.datasets import open_trajectory
from weightcast.datasets.files.checkpoints import MANIFEST
from weightcast.datasets.files.foreign import foreign


def open_run(path: Path) -> NamedRun:
    """Open a run; checkpoints that nobody imported are taken as `weightcast import` takes them.

    Nothing is written. What is guessed is said on standard error, in one line.

    Raises
    ------
    InputError
        If there is no run, or no sure one.
    """
    with foreign(path, "a trajectory", "name another file"):
        loose = path.is_dir() and not (path / MANIFEST).is_file()
    if not loose:
        return NamedRun(path, open_trajectory(path))
    from weightcast.datasets.importing.run import gather_run

    found = gather_run(path)
    print(f"note: {path} is read as it is: {'; '.join(found.notes)}", file=sys.stderr)
    return NamedRun(path, found.run)
