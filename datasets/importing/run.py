"""Making a trajectory of the checkpoints that a training program left behind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.checkpoints import CheckpointSource, read_checkpoints, write_manifest
from weightcast.datasets.files.foreign import clipped, foreign
from weightcast.datasets.files.safetensors_file import SafetensorsFile
from weightcast.datasets.files.stacked import FORMAT as STACKED
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.files.state_dict import WRAPPER_PREFIXES, is_measurement
from weightcast.datasets.files.tensor_file import Entry, ending
from weightcast.datasets.files.tensor_files import Checkpoint
from weightcast.datasets.importing.arrays import read_arrays
from weightcast.datasets.importing.discovery import (
    Found,
    find_checkpoints,
    refuse_equal_steps,
    told,
)
from weightcast.datasets.importing.hub_cache import model_name
from weightcast.datasets.importing.imported import Imported
from weightcast.datasets.importing.trainer_state import read_trainer_state
from weightcast.datasets.networks.naming import guess_tensors, is_buffer, natural_key
from weightcast.datasets.recording.reader import is_recording, read_recording
from weightcast.datasets.state import Fixed, StateInfo
from weightcast.datasets.trajectory import (
    BLOCK_BYTES,
    Floats,
    Metadata,
    TensorInfo,
    Trajectory,
    block_ranges,
)


def import_run(
    source: Path,
    out: Path | None,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    optimizer: str | None = None,
    key: str = "",
    stage: str = "",
) -> Imported:
    """Make a trajectory of checkpoints, of arrays, or of a recording that was cut short.

    Every number is read once; nothing is written under the final name unless all are finite.

    Parameters
    ----------
    source : Path
        A folder of checkpoints, a model's folder in Hugging Face's cache, a ``.npz`` file whose
        arrays have a leading axis of snapshots, or the hidden ``.recording`` file that a killed
        `TrajectoryRecorder` left.
    out : Path or None
        A ``.safetensors`` file to write in the stacked layout; None or the folder itself to
        write ``trajectory.json`` beside the checkpoints, which then must stay.
    dataset : str, optional
        The folder's name by default.
    seed : int, optional
        0 by default.
    optimizer : str, optional
    key : str, optional
        What the network's state dict is called in files of ``torch.save`` that hold several, or
        ``model.encoder`` where one lies in another.
    stage : str, optional
        Which stage of training, where checkpoints are of several.

    Raises
    ------
    InputError
        If the checkpoints are not of one network, are damaged, or hold NaN or infinity.
    """
    if out is not None and out.suffix != ".safetensors" and not _same(out, source):
        raise InputError(
            f"--out {out} is neither a .safetensors file nor the folder of the checkpoints itself"
        )
    with foreign(source, "a folder of checkpoints", "name another folder"):
        recording = source.is_file()
    for option, value in (("--key", key), ("--stage", stage)):
        if recording and value:
            raise InputError(f"{source} is a file and holds no such thing; leave {option} out")
    if recording and source.suffix.lower() == ".npz":
        return _arrays(source, out, dataset, seed, optimizer)
    if recording:
        return _finish_recording(source, out, dataset, seed, optimizer)
    gathered = gather_run(
        source, dataset=dataset, seed=seed, optimizer=optimizer, key=key, stage=stage
    )
    if out is not None and any(_same(out, path) for paths in gathered.files for path in paths):
        raise InputError(f"--out {out} is one of the checkpoints; name another file")
    run = gathered.run
    if out is None or out.suffix != ".safetensors":
        _read_all(run)
        path = write_manifest(source, run, gathered.files, run.meta, key)
        return Imported(path, read_checkpoints(source), gathered.notes)
    _write(run, out)
    return Imported(out, run, gathered.notes)


@dataclass(frozen=True)
class Gathered:
    """A folder of checkpoints as a trajectory; nothing was written.

    Attributes
    ----------
    run : Trajectory
        Reading NaN or infinity from it is an error.
    files : list of tuple of Path
        Each snapshot's.
    notes : tuple of str
        What was left out or assumed, a line each.
    """

    run: Trajectory
    files: list[tuple[Path, ...]]
    notes: tuple[str, ...]


def gather_run(
    folder: Path,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    optimizer: str | None = None,
    key: str = "",
    stage: str = "",
) -> Gathered:
    """Make a trajectory of the checkpoints in a folder without reading their numbers.

    Parameters are those of `import_run`.

    Raises
    ------
    InputError
        If the checkpoints are not of one network, or are damaged.
    """
    found, passed_over = find_checkpoints(folder, stage)
    notes = told(passed_over)
    found = _with_own_steps(found, folder, key)
    notes.append(_order(found))
    if found[0].unit == "epoch":
        notes.append("steps are epochs: the files' names count nothing else")
    files = [c.files for c in found]
    steps = [c.step for c in found]
    checkpoints = _CheckedSource(files, steps, key)
    tensors, fixed, left_out = _coordinates(checkpoints, [c.places for c in found])
    notes += left_out
    logged = read_trainer_state(files[-1][0].parent, steps)
    meta = Metadata(
        dataset=dataset or model_name(folder.resolve()),
        seed=seed or 0,
        optimizer=optimizer or "unknown",
        source="imported from checkpoints",
        **logged,
    )
    run = Trajectory(checkpoints, tensors, steps, meta, checkpoints, fixed)
    return Gathered(run, files, tuple(notes))


class _CheckedSource(CheckpointSource):
    """Refuses NaN and infinity as they are read, so that one pass both checks and copies."""

    def __init__(self, files: list[tuple[Path, ...]], steps: list[int], key: str) -> None:
        super().__init__(files, key=key)
        self.steps = steps

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        super().read_into(tensor, snapshot, start, out)
        if not np.isfinite(out).all():
            path = self.checkpoint(snapshot).path_of(tensor.name)
            raise InputError(
                f"{path}: tensor {tensor.name} has NaN or infinity at step {self.steps[snapshot]}; "
                "leave this checkpoint and the later ones out"
            )


def _with_own_steps(found: list[Found], folder: Path, key: str) -> list[Found]:
    """Prefer the optimizer steps that the files name themselves, where all of them do."""
    if ending(found[0].files[0]) == ".safetensors":
        return found
    steps = [Checkpoint(c.files, key).step for c in found]
    own = [
        c._replace(step=step, unit="step")
        for c, step in zip(found, steps, strict=True)
        if step is not None
    ]
    if len(own) != len(found):
        return found
    own.sort(key=lambda c: c.step)
    refuse_equal_steps(((c.step, c.files[0]) for c in own), folder)
    return own


def _order(found: Sequence[Found]) -> str:
    """Say in what order the checkpoints are taken: the first, the last and some between."""
    names = [f"{clipped(c.name)} is {c.unit} {c.step:,}" for c in found]
    if len(names) > 5:
        names[3:-1] = ["…"]
    return f"order: {', '.join(names)}"


def _coordinates(
    source: _CheckedSource, places: Sequence[Mapping[str, str] | None]
) -> tuple[list[TensorInfo], Fixed, list[str]]:
    """Choose the tensors of the first checkpoint, and hold the others to them.

    What is no coordinate but of a network is kept beside them: buffers, further names of tied ones.
    """
    first = source.checkpoint(0)
    _hold_to_index(first, places[0])
    for file in first.files:
        if isinstance(file, SafetensorsFile) and file.metadata.get("format") == STACKED:
            raise InputError(f"{file.path} is a whole trajectory already; use it as it is")
    entries = first.entries
    shapes, beside = _chosen(first)
    if not shapes:
        raise InputError(f"{first.files[0].path} holds no floating-point parameters")
    aliases = {entry.alias for entry in entries.values() if entry.alias is not None}
    tensors = guess_tensors(shapes, set(beside.buffers), aliases)
    stripped = first.stripped
    for snapshot in range(1, len(source.steps)):
        checkpoint = source.checkpoint(snapshot)
        stripped |= checkpoint.stripped
        _hold_to_index(checkpoint, places[snapshot])
        _hold_to(checkpoint, shapes, set(entries), first)
        beside.hold_to(checkpoint.entries)
    source.states = beside.states(first)
    notes = []
    if stripped:
        notes.append(f"names are the network's own, without {' and '.join(WRAPPER_PREFIXES)}")
    return tensors, Fixed(aliases=beside.tied), notes + beside.notes(source.states)


@dataclass
class _Beside:
    """What a checkpoint has beside its coordinates, by name.

    Attributes
    ----------
    buffers : dict of str to tuple of int
        Shapes.
    tied : dict of str to str
        Further names of coordinates → their first.
    left_out : dict of str to list of str
        By reason.
    """

    buffers: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    left_out: dict[str, list[str]]

    def hold_to(self, entries: Mapping[str, Entry]) -> None:
        """Leave out what another checkpoint lacks, or has in another shape."""
        for name in [
            n for n, s in self.buffers.items() if n not in entries or entries[n].shape != s
        ]:
            del self.buffers[name]
            self.left_out.setdefault("not alike in all checkpoints", []).append(name)
        for name in [n for n, f in self.tied.items() if n not in entries or entries[n].alias != f]:
            del self.tied[name]
            self.left_out.setdefault("not tied in all checkpoints", []).append(name)

    def states(self, first: Checkpoint) -> tuple[StateInfo, ...]:
        """Describe the buffers whose types can be kept."""
        arrays = {name: first.state(name) for name in self.buffers}
        lost = [name for name, array in arrays.items() if array is None]
        if lost:
            self.left_out["of types that numpy lacks"] = lost
        return tuple(
            StateInfo.of(name, array) for name, array in arrays.items() if array is not None
        )

    def notes(self, states: Sequence[StateInfo]) -> list[str]:
        """Say what is kept and what is left out."""
        said = [(f"left out ({why})", names) for why, names in self.left_out.items()]
        said.append(("kept beside the weights", [info.name for info in states]))
        said.append(("tied", [f"{name} is {first}" for name, first in self.tied.items()]))
        notes = []
        for what, names in said:
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                notes.append(f"{what}: {', '.join(names[:3])}{more}")
        return notes


def _chosen(first: Checkpoint) -> tuple[dict[str, tuple[int, ...]], _Beside]:
    """Return the shapes of the tensors that are coordinates, and what there is beside them."""
    entries = first.entries
    names = list(entries)
    if first.light:
        # safetensors sorts by name as text; files of torch keep the network's order.
        names.sort(key=natural_key)
    shapes: dict[str, tuple[int, ...]] = {}
    beside = _Beside({}, {}, {})
    for name in names:
        entry = entries[name]
        if is_buffer(name) or not entry.floating:
            beside.buffers[name] = entry.shape
        elif is_measurement(name, entry.shape):
            beside.left_out.setdefault("measurements, by name", []).append(name)
        elif entry.alias in shapes:
            beside.tied[name] = entry.alias
        else:
            shapes[name] = entry.shape
    return shapes, beside


def _hold_to_index(checkpoint: Checkpoint, places: Mapping[str, str] | None) -> None:
    """Refuse a checkpoint whose files are damaged, or hold other tensors than its index names."""
    checkpoint.verify()
    if places is None:
        return
    held = set(checkpoint.names.values())
    for name, file in places.items():
        if name not in held or checkpoint.path_of(name).name != file:
            raise InputError(
                f"{checkpoint.files[0].path.parent / file} has no tensor {clipped(name)}, which "
                "the index of its shards names; save the checkpoint again"
            )
    for name in held - set(places):
        raise InputError(
            f"{checkpoint.path_of(name)} has a tensor {clipped(name)}, which the index of its "
            "shards lacks; save the checkpoint again"
        )


def _hold_to(
    checkpoint: Checkpoint,
    shapes: dict[str, tuple[int, ...]],
    known: set[str],
    first: Checkpoint,
) -> None:
    entries = checkpoint.entries
    against = first.files[0].path
    for name, shape in shapes.items():
        if name not in entries:
            raise InputError(
                f"{checkpoint.files[0].path} has no tensor {name}, which {against} has"
            )
        if not entries[name].floating:
            raise InputError(
                f"{checkpoint.path_of(name)}: tensor {name} is {entries[name].dtype}, but "
                f"floating-point in {against}"
            )
        if entries[name].shape != shape:
            raise InputError(
                f"{checkpoint.path_of(name)}: tensor {name} has shape {list(entries[name].shape)}, "
                f"but {list(shape)} in {against}"
            )
    for name, entry in entries.items():
        passed_over = is_buffer(name) or is_measurement(name, entry.shape)
        if name not in known and entry.floating and not passed_over:
            raise InputError(
                f"{checkpoint.path_of(name)} has a tensor {name}, which {against} lacks"
            )


def _read_all(run: Trajectory) -> None:
    for snapshot in range(run.n_snapshots):
        for tensor, start, stop in block_ranges(run.tensors, 1, BLOCK_BYTES):
            run.read(tensor, [snapshot], start, stop)


def _arrays(
    source: Path, out: Path | None, dataset: str | None, seed: int | None, optimizer: str | None
) -> Imported:
    if out is None or _same(out, source):
        raise InputError(f"{source} is one file; give --out a .safetensors file to write")
    meta = Metadata(
        dataset=dataset or source.stem,
        seed=seed or 0,
        optimizer=optimizer or "unknown",
        source="imported from arrays",
    )
    with foreign(source, "a .npz file of numpy"):
        run, notes = read_arrays(source, meta)
    _write(run, out)
    return Imported(out, run, tuple(notes))


def _finish_recording(
    source: Path, out: Path | None, dataset: str | None, seed: int | None, optimizer: str | None
) -> Imported:
    if not is_recording(source):
        raise InputError(f"{source} is a file; name the folder of the checkpoints")
    if out is None or out.suffix != ".safetensors":
        raise InputError(f"{source} is a recording; give --out a .safetensors file to write")
    with foreign(source, "a recording", "record the run again"):
        run = read_recording(source, dataset=dataset, seed=seed, optimizer=optimizer)
        run.check_finite()
    _write(run, out)
    return Imported(out, run, (f"{source.name} was kept; remove it when you are content",))


def _write(run: Trajectory, out: Path) -> None:
    try:
        write_stacked(run, out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from None


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
