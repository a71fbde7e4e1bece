"""`open_trajectory`: one door to every layout that a trajectory may lie in on disk."""

from __future__ import annotations

from pathlib import Path

from weightcast.datasets.errors import InputError
from weightcast.datasets.stacked import read_stacked
from weightcast.datasets.trajectory import Trajectory


def open_trajectory(path: str | Path) -> Trajectory:
    """Open a recorded run without reading its numbers.

    Parameters
    ----------
    path : str or Path
        A stacked ``.safetensors`` file.

    Raises
    ------
    InputError
        If there is nothing at the path, or what is there is truncated or foreign.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no trajectory at {path}; record one with: weightcast record")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name one .safetensors file in it")
    return read_stacked(path)
