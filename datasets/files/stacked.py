"""The stacked layout: one ``.safetensors`` file a run, each tensor with a leading time axis.

What a network keeps beside its trained weights, batch-norm statistics for one, lies in the same
file as ``state/NAME``, in its own dtype; what no step changes, frozen parameters, once and without
a time axis as ``fixed/NAME``.

The metadata is JSON in the file's header. Reading goes through ``preadv`` into the caller's buffer
rather than through a memory map, whose pages would count as resident memory for as long as the map
lives. Writing goes snapshot by snapshot to a hidden ``.partial`` file whose header room is reserved
first, so a recording holds no trajectory in memory; the file gets its name only when it is whole.
The header has a SHA-256 of each tensor's bytes too, by which `StackedSource.verify` finds what was
changed or damaged since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files import system
from weightcast.datasets.files.foreign import clipped, foreign, parse_json
from weightcast.datasets.files.lent_file import LentFile
from weightcast.datasets.files.partial_file import PartialFile
from weightcast.datasets.state import DTYPES, Fixed, StateInfo, bytes_of
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory

if TYPE_CHECKING:
    from weightcast.datasets.files.safetensors_header import Header

FORMAT = "weightcast-stacked-1"
STATE, FIXED = "state/", "fixed/"
#: What a file's own metadata call the checksums.
CHECKSUMS = "checksums"
#: Bytes that are checked at a time.
_PIECE = 2**22


class StackedSource:
    """Numbers in a stacked file, which is opened when it is read."""

    def __init__(
        self,
        path: Path,
        positions: Mapping[str, int],
        states: Sequence[StateInfo] = (),
        fixed: Sequence[StateInfo] = (),
        checksums: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.files = (path,)
        self._checksums = dict(checksums or {})
        self._positions = dict(positions)
        self._states, self._fixed = tuple(states), tuple(fixed)
        self._file = LentFile(path)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        view = out.data.cast("B") if out.size else memoryview(b"")
        self._read(tensor.name, 4 * (snapshot * tensor.size + start), view)

    def read_state(self, snapshot: int) -> State:
        return {info.name: self._array(STATE, info, snapshot) for info in self._states}

    def read_fixed(self, info: StateInfo) -> NDArray[Any]:
        """Return what no step changes."""
        return self._array(FIXED, info, 0)

    def _array(self, prefix: str, info: StateInfo, row: int) -> NDArray[Any]:
        data = bytearray(info.nbytes)
        self._read(prefix + info.name, row * info.nbytes, memoryview(data))
        return np.frombuffer(data, info.numpy).reshape(info.shape)

    def verify(self, tensors: Sequence[TensorInfo], snapshots: int) -> bool:
        """Compare every tensor's bytes with its checksum; false where the file has none.

        Raises
        ------
        InputError
            Naming the first tensor whose bytes are not those that were written.
        """
        entries = _entries(tensors, self._states, self._fixed, snapshots)
        buffer = memoryview(bytearray(_PIECE))
        for entry in entries if self._checksums else ():
            digest = hashlib.sha256()
            for start in range(0, entry.nbytes, _PIECE):
                piece = buffer[: min(_PIECE, entry.nbytes - start)]
                self._read(entry.name, start, piece)
                digest.update(piece)
            if digest.hexdigest() != self._checksums.get(entry.name):
                raise InputError(
                    f"{self.path} was damaged or changed: the bytes of tensor {entry.name} are not "
                    "those that were written; copy it again, or record it again"
                )
        return bool(self._checksums)

    def _read(self, name: str, offset: int, view: memoryview) -> None:
        position = self._positions[name] + offset
        with self._file.descriptor() as file:
            while view:
                got = system.read_at(file, view, position)
                if got <= 0:
                    raise InputError(f"{self.path} ends inside tensor {name}; record it again")
                view, position = view[got:], position + got


def read_stacked(path: Path) -> Trajectory:
    """Open a stacked file without reading its numbers.

    Raises
    ------
    InputError
        If the file is missing, truncated, or not one of ours.
    """
    from weightcast.datasets.files.described import DescribedTrajectory
    from weightcast.datasets.files.safetensors_header import read_header

    with foreign(path, "a Weightcast trajectory", "record it again"):
        header = read_header(path)
        if header.metadata.get("format") != FORMAT:
            raise ValueError(f"its header does not say {FORMAT}")
        if unknown := set(header.metadata) - {"format", "trajectory", CHECKSUMS}:
            raise ValueError(f"its header has {clipped(str(sorted(unknown)))}")
        said = parse_json(header.metadata["trajectory"].encode())
        described = DescribedTrajectory.model_validate(said)
        tensors = [tensor.info() for tensor in described.tensors]
        states = [state.info() for state in described.state]
        fixed = [state.info() for state in described.fixed]
        entries = _entries(tensors, states, fixed, len(described.steps))
        positions = _positions(header, entries)
        metadata = described.metadata.metadata()
        checksums = _checksums(header, positions)
    source = StackedSource(path, positions, states, fixed, checksums)
    kept = Fixed(fixed, source.read_fixed, described.aliases)
    return Trajectory(source, tensors, described.steps, metadata, source, kept)


def _entries(
    tensors: Sequence[TensorInfo],
    states: Sequence[StateInfo],
    fixed: Sequence[StateInfo],
    snapshots: int,
) -> list[StateInfo]:
    """List what a file holds, in its order, each with its name and shape in the file."""
    return [
        *(StateInfo(info.name, (snapshots, *info.shape), "F32") for info in tensors),
        *(StateInfo(STATE + s.name, (snapshots, *s.shape), s.dtype) for s in states),
        *(StateInfo(FIXED + s.name, s.shape, s.dtype) for s in fixed),
    ]


def _positions(header: Header, entries: Sequence[StateInfo]) -> dict[str, int]:
    """Return where each tensor's bytes begin; the header must hold these tensors and no others."""
    expected = {entry.name: (entry.dtype, entry.shape) for entry in entries}
    if len(expected) != len(entries) or set(expected) != set(header.tensors):
        odd = sorted(set(expected) ^ set(header.tensors))
        raise ValueError(f"its header does not describe its tensors: {clipped(str(odd))}")
    for name, (dtype, shape) in expected.items():
        entry = header.tensors[name]
        if dtype not in DTYPES or (entry.dtype, tuple(entry.shape)) != (dtype, shape):
            raise ValueError(
                f"tensor {clipped(name)} is {entry.dtype} {entry.shape}, not {dtype} {list(shape)}"
            )
    return {name: header.start + header.tensors[name].data_offsets[0] for name in expected}


def _checksums(header: Header, tensors: Collection[str]) -> dict[str, str]:
    """Return each tensor's checksum; a file from before there were any has none."""
    if CHECKSUMS not in header.metadata:
        return {}
    said = parse_json(header.metadata[CHECKSUMS].encode())
    if not isinstance(said, dict) or set(said) != set(tensors):
        raise ValueError("its checksums are not those of its tensors")
    return {name: str(checksum) for name, checksum in said.items()}


class StackedWriter:
    """Write a trajectory snapshot by snapshot; the file appears under its name once complete.

    Parameters
    ----------
    path : Path
        The final name, ending in ``.safetensors``.
    tensors : sequence of TensorInfo
    steps : sequence of int
        The steps that will be written, all known beforehand.
    header_room : int, optional
        Bytes to reserve for the header. By default enough for the tensors' descriptions, four
        metrics a snapshot and a stepwise schedule.
    states : sequence of StateInfo
        What will be written beside the tensors.
    fixed : Fixed, optional
        What no step changes; it is read and written at the end.
    file : PartialFile, optional
        Where the bytes go until then; one of its own by default.

    Notes
    -----
    Used as a context manager. Left by an exception, it removes what it wrote. Killed, it leaves a
    hidden ``.partial`` file that no reader takes for a trajectory and that the next writer of the
    same path removes.
    """

    def __init__(
        self,
        path: Path,
        tensors: Sequence[TensorInfo],
        steps: Sequence[int],
        header_room: int | None = None,
        states: Sequence[StateInfo] = (),
        fixed: Fixed | None = None,
        file: PartialFile | None = None,
    ) -> None:
        self._tensors = list(tensors)
        self._states = list(states)
        self._fixed = fixed or Fixed()
        self._steps = [int(step) for step in steps]
        self._written = 0
        self._file = file or PartialFile(path)
        # `finish` checks it; unused room stays as the blanks that the format allows.
        described = len(self._tensors) + len(self._states) + len(self._fixed.infos)
        room = header_room or 4096 + 768 * described + 128 * len(steps)
        self._header_bytes = room + -room % 8
        self._positions, position = [], 8 + self._header_bytes
        entries = _entries(self._tensors, self._states, self._fixed.infos, len(steps))
        for entry in entries:
            self._positions.append(position)
            position += entry.nbytes
        self._end = position
        self._digests = {entry.name: hashlib.sha256() for entry in entries}

    def __enter__(self) -> StackedWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.discard()

    def write(
        self, arrays: Sequence[NDArray[np.float32]], state: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Write the next snapshot: one array a tensor in their order, and one a state."""
        if (len(arrays), len(state)) != (len(self._tensors), len(self._states)):
            raise ValueError(f"{len(arrays)} arrays and {len(state)} states are not as announced")
        described = [(t.name, t.shape, "F32") for t in self._tensors]
        described += [(s.name, s.shape, s.dtype) for s in self._states]
        arrays = [*arrays, *state]
        for (name, shape, dtype), position, digest, array in zip(
            described, self._positions, self._digests.values(), arrays, strict=False
        ):
            if array.shape != shape or array.dtype != np.dtype(DTYPES[dtype]):
                raise ValueError(f"{name}: {array.dtype} {array.shape}, not {dtype} {shape}")
            data = bytes_of(array)
            place = position + self._written * len(data)
            self._file.put(data, place)
            digest.update(data)
        self._written += 1

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of what is written of each tensor and state so far."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def go_on(self, written: int, checksums: Mapping[str, str]) -> bool:
        """Take the first snapshots to be those that a writer before put into the same file.

        Parameters
        ----------
        written : int
            How many.
        checksums : dict of str to str
            What `checksums` said of them.

        Returns
        -------
        bool
            Whether they are there to the last bit; nothing has changed where they are not.
        """
        sizes = [4 * info.size for info in self._tensors] + [s.nbytes for s in self._states]
        found = {name: hashlib.sha256() for name in self._digests}
        buffer = memoryview(bytearray(_PIECE))
        for (name, digest), position, size in zip(
            found.items(), self._positions, sizes, strict=False
        ):
            for start in range(0, written * size, _PIECE):
                piece = buffer[: min(_PIECE, written * size - start)]
                try:
                    self._file.get(piece, position + start)
                except InputError:  # it is shorter
                    return False
                digest.update(piece)
            if digest.hexdigest() != checksums.get(name):
                return False
        self._digests, self._written = found, written
        return True

    def _write_fixed(self) -> None:
        varying = len(self._tensors) + len(self._states)
        for info, position in zip(self._fixed.infos, self._positions[varying:], strict=True):
            data = bytes_of(self._fixed.read(info))
            self._file.put(data, position)
            self._digests[FIXED + info.name].update(data)

    def finish(self, meta: Metadata) -> None:
        """Write the header, make the bytes durable and give the file its name."""
        if self._written != len(self._steps):
            raise ValueError(f"{self._written} of {len(self._steps)} snapshots were written")
        self._write_fixed()
        header = _header(
            self._tensors, self._steps, meta, self._states, self._fixed, self.checksums()
        )
        if len(header) > self._header_bytes:
            raise ValueError(f"metadata needs {len(header)} bytes, {self._header_bytes} reserved")
        self._file.put(self._header_bytes.to_bytes(8, "little"), 0)
        self._file.put(header.ljust(self._header_bytes), 8)
        self._file.resize(self._end)
        self._file.finish()


def write_stacked(trajectory: Trajectory, path: Path, *, dataset: str | None = None) -> None:
    """Write a whole trajectory to a stacked file."""
    meta = trajectory.meta if dataset is None else replace(trajectory.meta, dataset=dataset)
    steps = trajectory.steps.tolist()
    # A window keeps the rates of its whole run; a file has them to its last snapshot, or none.
    rates = meta.learning_rates[: steps[-1]]
    meta = replace(meta, learning_rates=rates if len(rates) == steps[-1] else ())
    states = [StateInfo.of(name, array) for name, array in trajectory.state(0).items()]
    fixed = trajectory.fixed
    room = len(_header(trajectory.tensors, steps, meta, states, fixed))
    with StackedWriter(path, trajectory.tensors, steps, room, states, fixed) as writer:
        for index in range(trajectory.n_snapshots):
            state = trajectory.state(index)
            writer.write(list(trajectory.snapshot(index).values()), [state[s.name] for s in states])
        writer.finish(meta)


def header_room(
    tensors: Sequence[TensorInfo],
    steps: Sequence[int],
    meta: Metadata,
    states: Sequence[StateInfo] = (),
    fixed: Fixed | None = None,
) -> int:
    """Bytes that a header takes whose metadata lacks the metrics so far, four a snapshot."""
    return len(_header(tensors, steps, meta, states, fixed or Fixed())) + 1024 + 128 * len(steps)


def _header(
    tensors: Sequence[TensorInfo],
    steps: Sequence[int],
    meta: Metadata,
    states: Sequence[StateInfo],
    fixed: Fixed,
    checksums: Mapping[str, str] | None = None,
) -> bytes:
    """Lay out the JSON header; the data offsets follow the tensors' order without gaps.

    Without checksums it is as long as it will be with them.
    """
    described: dict[str, Any] = {
        "tensors": [describe(info) for info in tensors],
        "steps": list(steps),
        "metadata": metadata_to_json(meta),
    }
    if states:
        described["state"] = [asdict(state) for state in states]
    if fixed.infos:
        described["fixed"] = [asdict(info) for info in fixed.infos]
    if fixed.aliases:
        described["aliases"] = fixed.aliases
    entries = _entries(tensors, states, fixed.infos, len(steps))
    checksums = checksums or {entry.name: hashlib.sha256().hexdigest() for entry in entries}
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "trajectory": json.dumps(described),
            CHECKSUMS: json.dumps(checksums),
        }
    }
    begin = 0
    for entry in entries:
        end = begin + entry.nbytes
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    return json.dumps(header, separators=(",", ":")).encode()


def describe(info: TensorInfo) -> dict[str, Any]:
    """Return a tensor's description as plain values."""
    return {
        "name": info.name,
        "shape": list(info.shape),
        "kind": info.kind,
        "depth": info.depth,
        "tied": info.tied,
    }


def metadata_to_json(meta: Metadata) -> dict[str, Any]:
    """Return the metadata as plain values, learning rates as pairs (rate, steps)."""
    data = asdict(meta)
    # Constant and stepwise schedules shrink to a few pairs (rate, steps).
    data["learning_rates"] = [
        [rate, len(list(group))] for rate, group in groupby(meta.learning_rates)
    ]
    return data
