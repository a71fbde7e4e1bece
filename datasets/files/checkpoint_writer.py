"""A checkpoint that is written in pieces, so that no more than a block of it is ever in memory.

It is a plain safetensors file, laid out before its first number is known: a forecast goes to its
place in the file block by block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.files.partial_file import PartialFile
from weightcast.datasets.files.stacked import StateInfo
from weightcast.datasets.trajectory import State, TensorInfo


class CheckpointWriter:
    """Write a safetensors file in pieces; it gets its name only when it is whole.

    Parameters
    ----------
    path : Path
        The final name.
    tensors : sequence of TensorInfo
        What will be written, as float32.
    state : dict of ndarray
        What will be written beside the tensors; of these arrays only the types and shapes count.
    metadata : dict of str

    Raises
    ------
    InputError
        If the file cannot be written, here or later.

    Notes
    -----
    Used as a context manager. Left before `finish`, it removes what it wrote. Killed, it leaves a
    hidden ``.partial`` file, which the next writer of the same name removes.
    """

    def __init__(
        self,
        path: Path,
        tensors: Sequence[TensorInfo],
        state: State,
        metadata: Mapping[str, str],
    ) -> None:
        #: Where each tensor's bytes begin after the header, and the type of its numbers.
        self._places: dict[str, tuple[int, np.dtype[Any]]] = {}
        self._header = self._lay_out(tensors, state, metadata)
        self._file = PartialFile(path)

    def _lay_out(
        self, tensors: Sequence[TensorInfo], state: State, metadata: Mapping[str, str]
    ) -> bytes:
        """Give every tensor its place and return the header, its length in front."""
        entries = [(t.name, t.shape, "F32", np.dtype("<f4"), 4 * t.size) for t in tensors]
        for name, values in state.items():
            info = StateInfo.of(name, values)
            entries.append((name, info.shape, info.dtype, values.dtype, info.nbytes))
        # Widest numbers first: all then lie at multiples of their size, which some readers need.
        entries.sort(key=lambda entry: -entry[3].itemsize)
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        end = 0
        for name, shape, code, dtype, nbytes in entries:
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + nbytes]}
            self._places[name] = (end, dtype)
            end += nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.discard()

    def write(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Write some of a tensor's numbers, from flat index ``start`` on."""
        begin, dtype = self._places[name]
        flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
        if flat.size:
            place = len(self._header) + begin + dtype.itemsize * start
            self._file.put(flat.data.cast("B"), place)

    def finish(self) -> None:
        """Write the header, make the bytes durable and give the file its name."""
        self._file.put(self._header, 0)
        self._file.finish()
