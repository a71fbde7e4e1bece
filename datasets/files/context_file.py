"""The context of a large run in a file of its own, which a `History` owns in place of arrays.

The file has no name and holds the context and the run's first snapshot, nothing else: no path and
no file leads from it to a later snapshot. It goes when nobody refers to it any more.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from weightcast.datasets.trajectory import Floats, TensorInfo, Trajectory

#: Bytes that are copied at a time.
_PIECE = 2**24


class ContextFile:
    """Snapshots w_0..w_n of a run, and its very first one, in an unnamed temporary file.

    Parameters
    ----------
    run : Trajectory
    length : int
        n + 1.

    Attributes
    ----------
    length : int
    """

    def __init__(self, run: Trajectory, length: int) -> None:
        self.length = length
        self._size = run.n_coordinates
        # In $TMPDIR, as all temporary files.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        for info in run.tensors:
            for start in range(0, info.size, _PIECE // 4):
                stop = min(info.size, start + _PIECE // 4)
                for row in range(length):
                    self._write(info, row, start, run.read(info, [row], start, stop)[0])
        for info, values in zip(run.tensors, run.initial().values(), strict=True):
            self._write(info, length, 0, values.reshape(-1))

    def read(self, tensor: TensorInfo, rows: Sequence[int], start: int, stop: int) -> Floats:
        """Return some coordinates at some snapshots, (k, c); row n + 1 is the run's first one."""
        found = np.empty((len(rows), stop - start), np.float32)
        for place, row in enumerate(rows):
            view = found[place].data.cast("B")
            self._file.seek(self._at(tensor, row, start))
            while view:
                got = self._file.readinto(view)
                if not got:
                    raise OSError("a temporary file with the context of a run was cut")
                view = view[got:]
        return found

    def _write(self, tensor: TensorInfo, row: int, start: int, values: Floats) -> None:
        view = np.ascontiguousarray(values).data.cast("B")
        self._file.seek(self._at(tensor, row, start))
        while view:
            view = view[self._file.write(view) :]

    def _at(self, tensor: TensorInfo, row: int, start: int) -> int:
        return 4 * (row * self._size + tensor.offset + start)


class WeightsOnDisk(Mapping[str, Floats]):
    """Tensors by name, each read from a `ContextFile` when it is asked for.

    Parameters
    ----------
    file : ContextFile
    tensors : sequence of TensorInfo
    row : int, optional
        One snapshot, each array (*shape); by default the whole context, each (n + 1, *shape).
    """

    def __init__(
        self, file: ContextFile, tensors: Sequence[TensorInfo], row: int | None = None
    ) -> None:
        self.file = file
        self._tensors = {info.name: info for info in tensors}
        self._row = row

    def __getitem__(self, name: str) -> Floats:
        info = self._tensors[name]
        if self._row is not None:
            snapshot: Floats = self.file.read(info, [self._row], 0, info.size)[0]
            return snapshot.reshape(info.shape)
        rows = range(self.file.length)
        return self.file.read(info, rows, 0, info.size).reshape(len(rows), *info.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
