"""The checkpoints layout: a folder of ordinary checkpoints and a ``trajectory.json`` beside them.

The JSON file names the steps and each one's files, relative to the folder, the tensors that are
coordinates, and the metadata; the checkpoints stay as their program wrote them. Reading is out of
core. Headers of ``.safetensors`` files are kept; of the other formats one checkpoint at a time is
mapped, so walking many blocks opens them again and again: a stacked file is faster there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign, read_json
from weightcast.datasets.files.partial_file import write_text
from weightcast.datasets.files.stacked import describe, metadata_to_json
from weightcast.datasets.files.tensor_files import Checkpoint
from weightcast.datasets.state import Fixed, StateInfo
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory

FORMAT = "weightcast-checkpoints-1"
MANIFEST = "trajectory.json"
_MOST_BYTES = 2**28


class CheckpointSource:
    """Numbers in a run's checkpoints, opened on first use, anew in every process.

    Parameters
    ----------
    files : sequence of sequence of Path
        Each snapshot's files: one, or its shards.
    manifest : Path, optional
        What says so.
    states : sequence of StateInfo
        What lies beside the weights in every one of them.
    key : str
        What each file calls the network's state dict, where it holds several.
    """

    def __init__(
        self,
        files: Sequence[Sequence[Path]],
        manifest: Path | None = None,
        states: Sequence[StateInfo] = (),
        key: str = "",
    ) -> None:
        self.key = key
        self._files = [tuple(paths) for paths in files]
        self._manifest = manifest
        self.states = tuple(states)
        self._forget()

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        said = () if self._manifest is None else (self._manifest,)
        return (*said, *(path for paths in self._files for path in paths))

    def _forget(self) -> None:
        self._light: dict[int, Checkpoint] = {}
        self._mapped: tuple[int, Checkpoint] | None = None

    def checkpoint(self, snapshot: int) -> Checkpoint:
        """Return a snapshot's checkpoint, opened."""
        if self._mapped is not None and self._mapped[0] == snapshot:
            return self._mapped[1]
        if snapshot in self._light:
            return self._light[snapshot]
        self._mapped = None  # let go of one map before the next is made
        opened = Checkpoint(self._files[snapshot], self.key)
        if opened.light:
            self._light[snapshot] = opened
        else:
            self._mapped = (snapshot, opened)
        return opened

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        self.checkpoint(snapshot).read_into(tensor.name, tensor.shape, start, out)

    def read_state(self, snapshot: int) -> State:
        checkpoint, state = self.checkpoint(snapshot), {}
        for info in self.states:
            found = checkpoint.state(info.name)
            if found is None or found.shape != info.shape:
                raise InputError(
                    f"{checkpoint.path_of(info.name)}: tensor {clipped(info.name)} is not "
                    f"{info.dtype} {list(info.shape)}"
                )
            state[info.name] = found.astype(info.numpy, copy=False)
        return state

    def __getstate__(self) -> dict[str, Any]:
        # Maps mean nothing in another process.
        return {
            "files": self._files,
            "manifest": self._manifest,
            "states": self.states,
            "key": self.key,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._files, self._manifest = state["files"], state["manifest"]
        self.states, self.key = state["states"], state["key"]
        self._forget()


def read_checkpoints(folder: Path) -> Trajectory:
    """Open a folder of checkpoints that has a ``trajectory.json``, without reading its numbers.

    Raises
    ------
    InputError
        If the file is damaged or foreign, or a checkpoint that it names is missing.
    """
    manifest = folder / MANIFEST
    from weightcast.datasets.files.described import DescribedCheckpoints

    with foreign(manifest, "the description of a trajectory", "import the checkpoints again"):
        said = read_json(manifest, _MOST_BYTES)
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise ValueError(f"it does not say {FORMAT}")
        described = DescribedCheckpoints.model_validate(said)
        tensors = [tensor.info() for tensor in described.tensors]
        files = [[_inside(folder, name) for name in s.files] for s in described.snapshots]
        metadata = described.metadata.metadata()
        coordinates = sum(math.prod(tensor.shape) for tensor in tensors)
        for paths in files:
            for path in paths:
                if not path.is_file():
                    raise InputError(f"{path}, which {manifest} names, is missing")
            # Before anybody makes room for them; no number takes less than a byte.
            if (size := sum(path.stat().st_size for path in paths)) < coordinates:
                raise ValueError(
                    f"it tells of {coordinates:,} coordinates, and {paths[0].name} has "
                    f"{size:,} bytes"
                )
    states = [state.info() for state in described.state]
    source = CheckpointSource(files, manifest, states, described.key)
    fixed = Fixed(aliases=described.aliases)
    return Trajectory(source, tensors, described.steps, metadata, source, fixed)


def write_manifest(
    folder: Path,
    trajectory: Trajectory,
    files: Sequence[Sequence[Path]],
    meta: Metadata,
    key: str = "",
) -> Path:
    """Write the ``trajectory.json`` of a folder's checkpoints, whole or not at all.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    described: dict[str, Any] = {
        "format": FORMAT,
        "tensors": [describe(info) for info in trajectory.tensors],
        "snapshots": [
            {"step": step, "files": [path.relative_to(folder).as_posix() for path in paths]}
            for step, paths in zip(trajectory.steps.tolist(), files, strict=True)
        ],
        "metadata": metadata_to_json(meta),
        "state": [
            asdict(StateInfo.of(name, values)) for name, values in trajectory.state(0).items()
        ],
        "aliases": trajectory.fixed.aliases,
        "key": key,
    }
    path = folder / MANIFEST
    write_text(path, json.dumps(described, indent=1) + "\n")
    return path


def _inside(folder: Path, name: str) -> Path:
    # A description from elsewhere names files of its own folder only.
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise InputError(f"{folder / MANIFEST} names {clipped(name)}, which is outside its folder")
    return folder / pure
