"""Reading a recording: what `recording.file` wrote, up to its last whole snapshot."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import parse_json
from weightcast.datasets.recording.file import MAGIC, NOTE, Layout, Measured
from weightcast.datasets.recording.reading import RecordingBytes
from weightcast.datasets.state import Fixed, StateInfo
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory


class RecordingSource:
    """Numbers in a recording file."""

    def __init__(
        self, data: RecordingBytes, layout: Layout, begin: int, positions: Sequence[int]
    ) -> None:
        self._data = data
        self._layout = layout
        self._begin = begin
        self._positions = list(positions)

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""
        return (self._data.path,)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        position = self._positions[snapshot] + 4 * (tensor.offset + start)
        view = out.data.cast("B") if out.size else memoryview(b"")
        self._data.fill(view, position, f"tensor {tensor.name}")

    def read_state(self, snapshot: int) -> State:
        state, position = {}, self._positions[snapshot] + self._layout.weights_bytes
        for info in self._layout.states:
            state[info.name] = self._array(info, position)
            position += info.nbytes
        return state

    def read_fixed(self, info: StateInfo) -> NDArray[Any]:
        """Return what was written once."""
        position = self._begin
        for other in self._layout.fixed:
            if other.name == info.name:
                break
            position += other.nbytes
        return self._array(info, position)

    def _array(self, info: StateInfo, position: int) -> NDArray[Any]:
        data = bytearray(info.nbytes)
        self._data.fill(memoryview(data), position, f"tensor {info.name}")
        return np.frombuffer(data, info.numpy).reshape(info.shape)


def is_recording(path: Path) -> bool:
    """Say whether a file begins as a recording does."""
    return RecordingBytes(path).take(0, len(MAGIC)) == MAGIC


def holds_snapshot(path: Path) -> bool:
    """Say whether something of a file would be lost if it were removed."""
    begins = RecordingBytes(path).take(0, len(MAGIC))
    if begins != MAGIC:
        return not MAGIC.startswith(begins)
    try:
        scan_recording(path)
    except InputError:
        return False
    return True


@dataclass(frozen=True)
class Scanned:
    """What a recording says, up to its last whole snapshot.

    Attributes
    ----------
    data : RecordingBytes
    layout : Layout
    meta : Metadata
        Of which only what was known before training is there.
    begin : int
        Where the numbers begin that no step changes.
    measured : list of Measured
        One a snapshot.
    positions : list of int
        Where each one's numbers begin.
    not_finite_from : int or None
    """

    data: RecordingBytes
    layout: Layout
    meta: Metadata
    begin: int
    measured: list[Measured]
    positions: list[int]
    not_finite_from: int | None

    def trajectory(self, **said: Any) -> Trajectory:
        """Return its snapshots as a run, with some of its metadata replaced."""
        meta = replace(
            _with_measured(self.meta, self.measured), not_finite_from=self.not_finite_from, **said
        )
        source = RecordingSource(self.data, self.layout, self.begin, self.positions)
        fixed = Fixed(self.layout.fixed, source.read_fixed, self.layout.aliases)
        steps = [m.step for m in self.measured]
        return Trajectory(source, self.layout.tensors, steps, meta, source, fixed)


def scan_recording(path: Path) -> Scanned:
    """Walk a recording up to its last whole snapshot, without reading its numbers.

    Raises
    ------
    InputError
        If there is not one whole snapshot.
    """
    from weightcast.datasets.files.described import DescribedRecording

    data = RecordingBytes(path)
    size, at = data.size(), len(MAGIC)
    if data.take(0, at) != MAGIC:
        raise InputError(f"{path} is not a recording of this version; nothing of it can be read")
    try:
        (not_finite_from,) = NOTE.unpack(data.take(at, NOTE.size))
        said, begin = _take(data, at + NOTE.size, size)
        header = DescribedRecording.model_validate(parse_json(said))
    except (ValueError, RecursionError, struct.error):
        raise InputError(f"{path} ends in its header; nothing can be saved") from None
    layout = Layout(
        tuple(tensor.info() for tensor in header.tensors),
        tuple(state.info() for state in header.states),
        tuple(state.info() for state in header.fixed),
        header.aliases,
    )
    found = list(_records(data, begin + layout.fixed_bytes, layout.snapshot_bytes, size))
    if not found:
        raise InputError(f"{path} holds no whole snapshot; nothing can be saved")
    measured, positions = [each for each, _ in found], [position for _, position in found]
    meta = header.metadata.metadata()
    return Scanned(data, layout, meta, begin, measured, positions, not_finite_from or None)


def read_recording(
    path: Path,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    optimizer: str | None = None,
) -> Trajectory:
    """Open a recording's whole snapshots as a trajectory; the last one may be cut short.

    It may be one that is being written: what is opened are the snapshots of now.

    Parameters
    ----------
    path : Path
    dataset, seed, optimizer
        Instead of what the recording says.

    Raises
    ------
    InputError
        If there is not one whole snapshot.
    """
    asked = {"dataset": dataset, "seed": seed, "optimizer": optimizer}
    said = {key: value for key, value in asked.items() if value is not None}
    return scan_recording(path).trajectory(**said)


def _take(data: RecordingBytes, position: int, size: int) -> tuple[bytes, int]:
    """Read what its length comes before, nothing where the file ends before that; and its end."""
    length = int.from_bytes(data.take(position, 8), "little")
    position += 8
    return data.take(position, length) if length <= size - position else b"", position + length


def _records(
    data: RecordingBytes, position: int, width: int, size: int
) -> Iterator[tuple[Measured, int]]:
    """Walk the whole snapshots: what was measured, and where its numbers begin."""
    from weightcast.datasets.files.described import DescribedRecord

    try:
        while True:
            record, begin = _take(data, position, size)
            if not record or begin + width > size:
                return
            said = DescribedRecord.model_validate(parse_json(record))
            yield Measured(**dict(said)), begin
            position = begin + width
    except (ValueError, RecursionError):
        return  # killed while it wrote this record's JSON


def _with_measured(meta: Metadata, measured: Sequence[Measured]) -> Metadata:
    later = measured[1:]
    # The first loss is computed at w_0, before the first update.
    losses = [m.loss for m in later]
    known = [loss for loss in losses if loss is not None]
    train_loss: tuple[float, ...] = ()
    if known and len(known) == len(losses) and later[0].first_loss is not None:
        train_loss = (later[0].first_loss, *known)
    counted = measured[-1].step - measured[0].step
    return replace(
        meta,
        train_loss=train_loss,
        learning_rates=_rates(later, measured[-1].step),
        seconds_per_step=sum(m.seconds for m in later) / counted if counted else None,
        jumps=tuple(before.step for before, after in pairwise(measured) if after.jumped),
    )


def _rates(measured: Sequence[Measured], steps: int) -> tuple[float, ...]:
    """Return the rate of every step, none where that of one is not known.

    A resumed run does not know those before its start.
    """
    from weightcast.datasets.files.described import MOST_RATES

    pairs = [pair for m in measured for pair in m.learning_rates]
    if sum(count for _, count in pairs) != steps or steps > MOST_RATES:
        return ()
    return tuple(rate for rate, count in pairs for _ in range(int(count)))
