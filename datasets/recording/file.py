"""The recording file: a run while it is being recorded, and what a killed process leaves of it.

A magic line, a JSON header with the tensors and metadata and the numbers of what no step changes,
then one record a snapshot: its length, JSON with the step and what was measured since the last one,
all tensors' float32 numbers, and the state beside them. It grows at its end only, so it holds whole
snapshots up to the moment of a kill; a record cut short is passed over. `open_trajectory` reads it
up to its last whole snapshot, also while it is written; a `TrajectoryRecorder` with ``resume=True``
goes on with one that was left, and ``weightcast import FILE --out RUN.safetensors`` finishes it.
"""

from __future__ import annotations

import json
import os
import struct
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from weightcast.datasets.files import system
from weightcast.datasets.files.stacked import describe, metadata_to_json
from weightcast.datasets.state import StateInfo, bytes_of
from weightcast.datasets.trajectory import Metadata, TensorInfo

MAGIC = b"weightcast-recording-2\n"
#: After it, the first step whose weights were not finite; 0 where all were.
NOTE = struct.Struct("<Q")


class Measured(NamedTuple):
    """What was measured since the snapshot before.

    Attributes
    ----------
    step : int
    loss : float or None
        The mean of the training losses reported.
    first_loss : float or None
        The first of them.
    learning_rates : list of [float, int]
        Each rate and for how many steps it was in force.
    seconds : float
        Time spent outside the recorder.
    jumped : bool
        Whether something else than the optimizer moved the weights.
    """

    step: int
    loss: float | None
    first_loss: float | None
    learning_rates: Sequence[Sequence[float]]
    seconds: float
    jumped: bool = False


@dataclass(frozen=True)
class Layout:
    """What every snapshot of a recording holds, in order, and what is written once.

    Attributes
    ----------
    tensors : tuple of TensorInfo
    states : tuple of StateInfo
        What lies beside the tensors in every snapshot.
    fixed : tuple of StateInfo
        What is written once, before the first snapshot.
    aliases : dict of str to str
        Further names of tied tensors.
    """

    tensors: tuple[TensorInfo, ...]
    states: tuple[StateInfo, ...] = ()
    fixed: tuple[StateInfo, ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the tensors of one snapshot."""
        return 4 * sum(info.size for info in self.tensors)

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of one snapshot's numbers."""
        return self.weights_bytes + sum(info.nbytes for info in self.states)

    @property
    def fixed_bytes(self) -> int:
        """Bytes of what is written once."""
        return sum(info.nbytes for info in self.fixed)


#: Writers of this process by device and inode of their files; see `writer_of`.
_writers: weakref.WeakValueDictionary[tuple[int, int], RecordingWriter] = (
    weakref.WeakValueDictionary()
)


class RecordingWriter:
    """Append snapshots to a recording file.

    Parameters
    ----------
    file : int
        The descriptor of an empty file, or of one that is gone on with, which the writer owns.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._end = 0
        self._noted = False
        self._kept: list[int] = []
        self._process = os.getpid()
        _writers[_identity(os.fstat(file))] = self

    @property
    def descriptor(self) -> int | None:
        """What the file is open as; None once it is closed, and in other processes."""
        return self._file if self._file >= 0 and os.getpid() == self._process else None

    def keep(self, file: int) -> None:
        """Keep another descriptor of the file open for as long as this one.

        A process that closes any descriptor of a file lets go of its locks on it.
        """
        self._kept.append(file)

    def go_on(self, end: int, *, noted: bool) -> None:
        """Go on with what was left: cut it to its first bytes, and append to them.

        Parameters
        ----------
        end : int
            Where its last snapshot that is kept ends.
        noted : bool
            Whether it notes a step whose weights were not finite.
        """
        os.ftruncate(self._file, end)
        self._end, self._noted = end, noted

    def begin(self, layout: Layout, meta: Metadata, fixed: Iterable[NDArray[Any]] = ()) -> None:
        """Write what comes before the first snapshot.

        Parameters
        ----------
        layout : Layout
        meta : Metadata
            Of which only what is known before training counts.
        fixed : iterable of ndarray
            What is written once, in the layout's order.
        """
        self._put(MAGIC + NOTE.pack(0))
        said = asdict(layout) | {"tensors": [describe(info) for info in layout.tensors]}
        self._put_json({**said, "metadata": metadata_to_json(meta)})
        for array in fixed:
            self._put(bytes_of(array))

    def note_not_finite(self, step: int) -> None:
        """Note the first step whose weights were not finite."""
        if not self._noted:
            system.write_at(self._file, NOTE.pack(step), len(MAGIC))
            self._noted = True

    def append(self, measured: Measured, arrays: Iterable[NDArray[Any]]) -> None:
        """Write one snapshot, an array a tensor and a state; all of it or nothing."""
        whole = self._end
        try:
            self._put_json(measured._asdict())
            for array in arrays:
                self._put(bytes_of(array))
        except BaseException:
            # The next record must not follow half a one: a reader could not find it.
            self._end = whole
            os.ftruncate(self._file, whole)
            raise

    def close(self) -> None:
        """Close the file; it stays where it is."""
        if self._file >= 0:
            for file in (*self._kept, self._file):
                os.close(file)
            self._file = -1

    def __del__(self) -> None:
        self.close()

    def _put_json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self._put(len(data).to_bytes(8, "little") + data)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            done = system.write_at(self._file, view, self._end)
            view, self._end = view[done:], self._end + done


def writer_of(path: Path) -> RecordingWriter | None:
    """Return what writes a recording in this process, None where nothing does."""
    try:
        writer = _writers.get(_identity(path.stat()))
    except OSError:
        return None
    return writer if writer is not None and writer.descriptor is not None else None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
