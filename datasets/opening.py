"""`open_trajectory`: one door to every layout that a trajectory may lie in on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.checkpoints import MANIFEST, read_checkpoints
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.files.stacked import read_stacked
from weightcast.datasets.recording.claim import SUFFIX, recording_of
from weightcast.datasets.recording.reader import is_recording, read_recording
from weightcast.datasets.trajectory import Trajectory

if TYPE_CHECKING:
    from weightcast.datasets.recording.trajectory_recorder import TrajectoryRecorder


def open_trajectory(path: str | Path | TrajectoryRecorder) -> Trajectory:
    """Open a recorded run without reading its numbers.

    Parameters
    ----------
    path : str, Path or TrajectoryRecorder
        A stacked ``.safetensors`` file; a folder of checkpoints with a ``trajectory.json``; a run
        that is being recorded, as its recorder or as the hidden ``.recording`` file, which may be
        another process's, or what a killed one left. Of a recording it is what is there now, up to
        the last whole snapshot.

    Raises
    ------
    InputError
        If there is nothing at the path, or what is there is truncated or foreign.
    """
    if not isinstance(path, str | Path):
        return path.trajectory()
    path = Path(path)
    with foreign(path, "a trajectory", "name another file"):
        return _open(path)


def _open(path: Path) -> Trajectory:
    if not path.exists():
        if path.name and recording_of(path).is_file():
            raise InputError(
                f"there is no trajectory at {path} yet; what is recorded of it so far is in "
                f"{recording_of(path)}"
            )
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
    if path.suffix == SUFFIX and is_recording(path):
        return read_recording(path)
    return read_stacked(path)
