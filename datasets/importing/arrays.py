"""A run in one ``.npz`` file: every array of weights with a leading axis of snapshots."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped
from weightcast.datasets.files.npz_file import NpzFile
from weightcast.datasets.networks.naming import guess_tensors, is_buffer
from weightcast.datasets.state import DTYPES, StateInfo
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory

#: Arrays of one number a snapshot that are no weights.
STEPS = "steps"
LOSSES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


class _ArraySource:
    """Reads snapshots out of arrays; NaN and infinity are refused as they are read."""

    def __init__(self, file: NpzFile, steps: list[int], states: tuple[StateInfo, ...]) -> None:
        self._file, self._steps, self._states = file, steps, states

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (self._file.path,)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        self._file.read_into(tensor.name, snapshot * tensor.size + start, out)
        if not np.isfinite(out).all():
            raise InputError(
                f"{self._file.path}: array {tensor.name} has NaN or infinity at step "
                f"{self._steps[snapshot]}; leave this snapshot and the later ones out"
            )

    def read_state(self, snapshot: int) -> State:
        return {
            info.name: self._file.rows(info.name, snapshot, 1)[0].astype(info.numpy, copy=False)
            for info in self._states
        }


def read_arrays(path: Path, meta: Metadata) -> tuple[Trajectory, list[str]]:
    """Open a run whose arrays have a leading axis of snapshots.

    Parameters
    ----------
    path : Path
        A ``.npz`` file. Its array ``steps``, where there is one, has each snapshot's step; arrays
        ``train_loss``, ``test_loss``, ``train_accuracy`` and ``test_accuracy`` are what they say.
    meta : Metadata
        What is known of the run beside that.

    Returns
    -------
    run : Trajectory
    notes : list of str

    Raises
    ------
    InputError
        If it is no such file, or its arrays differ in how many snapshots they have.
    """
    file = NpzFile(path)
    file.verify()
    count = _snapshots(file, path)
    said = [name for name in (STEPS, *LOSSES) if name in file.entries]
    for name in said:
        if file.entries[name].shape != (count,):
            raise InputError(
                f"{path}: array {name} has shape {list(file.entries[name].shape)}; one number for "
                f"each of {count} snapshots is needed"
            )
    steps, notes = _steps(file, count, path)
    buffers = {
        name
        for name, entry in file.entries.items()
        if name not in said and (is_buffer(name) or not entry.floating)
    }
    shapes = {
        name: entry.shape[1:]
        for name, entry in file.entries.items()
        if name not in said and name not in buffers
    }
    if not shapes:
        raise InputError(f"{path} holds no floating-point arrays of weights")
    states = tuple(_state(file, name) for name in sorted(buffers))
    source = _ArraySource(file, steps, states)
    losses: dict[str, Any] = {
        name: tuple(map(float, file.array(name))) for name in LOSSES if name in said
    }
    tensors = guess_tensors(shapes, buffers, set())
    run = Trajectory(source, tensors, steps, replace(meta, **losses), source)
    if states:
        notes.append(f"kept beside the weights: {', '.join(info.name for info in states[:3])}")
    return run, notes


def _snapshots(file: NpzFile, path: Path) -> int:
    counts = {name: entry.shape[0] if entry.shape else 0 for name, entry in file.entries.items()}
    if not counts:
        raise InputError(f"{path} holds no arrays")
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first] or count < 2:
            raise InputError(
                f"{path}: array {clipped(name)} has shape {list(file.entries[name].shape)}, and "
                f"{clipped(first)} {list(file.entries[first].shape)}; all need the same leading "
                "axis, one row a snapshot, two or more. One file a step: name their folder"
            )
    return counts[first]


def _steps(file: NpzFile, count: int, path: Path) -> tuple[list[int], list[str]]:
    if STEPS not in file.entries:
        return list(range(count)), [
            f"steps are snapshots, 0 to {count - 1}: no array '{STEPS}' says how many optimizer "
            "steps lie between them"
        ]
    values = file.array(STEPS)
    if values.dtype.kind not in "iu":
        raise InputError(f"{path}: array {STEPS} is {values.dtype}; steps are whole numbers")
    steps = [int(value) for value in values]
    if any(later <= before for before, later in itertools.pairwise(steps)) or steps[0] < 0:
        raise InputError(f"{path}: array {STEPS} must increase from 0 or more")
    return steps, []


def _state(file: NpzFile, name: str) -> StateInfo:
    info = StateInfo.of(name, file.rows(name, 0, 1)[0])
    assert info.dtype in DTYPES
    return info
