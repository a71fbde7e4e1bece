"""`open_trajectory`: one door to every layout that a trajectory may lie in on disk."""

from __future__ import annotations

from pathlib import Path

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.checkpoints import MANIFEST, read_checkpoints
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.files.stacked import read_stacked
from weightcast.datasets.trajectory import Trajectory


def open_trajectory(path: str | Path) -> Trajectory:
    """Open a recorded run without reading its numbers.

    Parameters
    ----------
    path : str or Path
        A stacked ``.safetensors`` file, or a folder of checkpoints with a ``trajectory.json``.

    Raises
    ------
    InputError
        If there is nothing at the path, or what is there is truncated or foreign.
    """
    path = Path(path)
    with foreign(path, "a trajectory", "name another file"):
        return _open(path)


def _open(path: Path) -> Trajectory:
    if not path.exists():
        raise InputError(f"there is no trajectory at {path}; record one with: weightcast record")
    if path.is_dir():
        if (path / MANIFEST).is_file():
            return read_checkpoints(path)
        raise InputError(
            f"{path} is a folder without {MANIFEST}; name one .safetensors file in it, or, where "
            f"it holds a run's checkpoints: weightcast import {path} --in-place"
        )
    if path.name == MANIFEST:
        return read_checkpoints(path.parent)
    return read_stacked(path)
