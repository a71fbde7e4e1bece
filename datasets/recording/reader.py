"""Reading a recording: what `recording_file` wrote, up to its last whole snapshot."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import parse_json
from weightcast.datasets.recording.file import MAGIC, NOTE, Layout, Measured
from weightcast.datasets.state import Fixed, StateInfo
from weightcast.datasets.trajectory import Floats, Metadata, State, TensorInfo, Trajectory


class RecordingSource:
    """Numbers in a recording file; the file is opened on first use, once in every process."""

    def __init__(self, path: Path, layout: Layout, begin: int, positions: Sequence[int]) -> None:
        self._path = path
        self._layout = layout
        self._begin = begin
        self._positions = list(positions)
        self._file: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read."""
        return (self._path,)

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        position = self._positions[snapshot] + 4 * (tensor.offset + start)
        self._read(tensor.name, position, out.data.cast("B") if out.size else memoryview(b""))

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
        self._read(info.name, position, memoryview(data))
        return np.frombuffer(data, info.numpy).reshape(info.shape)

    def _read(self, name: str, position: int, view: memoryview) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
        while view:
            got = os.preadv(self._file, [view], position)
            if got <= 0:
                raise InputError(f"{self._path} ends inside tensor {name}")
            view, position = view[got:], position + got

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def is_recording(path: Path) -> bool:
    """Say whether a file begins as a recording does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def holds_snapshot(path: Path) -> bool:
    """Say whether something of a file would be lost if it were removed."""
    size = path.stat().st_size
    if size < len(MAGIC):
        return not MAGIC.startswith(path.read_bytes())
    if not is_recording(path):
        return True
    try:
        read_recording(path)
    except InputError:
        return False
    return True


def read_recording(
    path: Path,
    *,
    dataset: str | None = None,
    seed: int | None = None,
    optimizer: str | None = None,
) -> Trajectory:
    """Open a recording's whole snapshots as a trajectory; the last one may be cut short.

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
    from weightcast.datasets.files.described import DescribedRecording

    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        try:
            (not_finite_from,) = NOTE.unpack(file.read(NOTE.size))
            header = DescribedRecording.model_validate(parse_json(_take(file, size)))
        except (ValueError, RecursionError, struct.error):
            raise InputError(f"{path} ends in its header; nothing can be saved") from None
        layout = Layout(
            tuple(tensor.info() for tensor in header.tensors),
            tuple(state.info() for state in header.states),
            tuple(state.info() for state in header.fixed),
            header.aliases,
        )
        begin = file.tell()
        file.seek(layout.fixed_bytes, os.SEEK_CUR)
        measured, positions = [], []
        for found in _records(file, layout.snapshot_bytes, size):
            measured.append(found)
            positions.append(file.tell())
    if not measured:
        raise InputError(f"{path} holds no whole snapshot; nothing can be saved")
    meta = replace(
        _with_measured(header.metadata.metadata(), measured),
        not_finite_from=not_finite_from or None,
    )
    asked: dict[str, Any] = {"dataset": dataset, "seed": seed, "optimizer": optimizer}
    meta = replace(meta, **{key: value for key, value in asked.items() if value is not None})
    source = RecordingSource(path, layout, begin, positions)
    fixed = Fixed(layout.fixed, source.read_fixed, layout.aliases)
    steps = [m.step for m in measured]
    return Trajectory(source, layout.tensors, steps, meta, source, fixed)


def _take(file: BinaryIO, size: int) -> bytes:
    """Read what its length comes before; nothing where the file ends before that."""
    length = int.from_bytes(file.read(8), "little")
    return file.read(length) if length <= size - file.tell() else b""


def _records(file: BinaryIO, width: int, size: int) -> Iterator[Measured]:
    """Walk the whole snapshots; at each, the file stands at its numbers."""
    from weightcast.datasets.files.described import DescribedRecord

    try:
        while record := _take(file, size):
            said = DescribedRecord.model_validate(parse_json(record))
            begin = file.tell()
            if begin + width > size:
                return
            yield Measured(**dict(said))
            file.seek(begin + width)
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
