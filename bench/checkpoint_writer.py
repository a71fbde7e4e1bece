"""A checkpoint that is written in pieces, so that no more than a block of it is ever in memory.

It is a plain safetensors file, laid out before its first number is known: a forecast goes to its
place in the file block by block.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets import InputError
from weightcast.datasets.stacked import StateInfo
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
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        #: Where each tensor's bytes begin after the header, and the type of its numbers.
        self._places: dict[str, tuple[int, np.dtype[Any]]] = {}
        self._header = self._lay_out(tensors, state, metadata)
        self._file = -1
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                stale.unlink(missing_ok=True)
            self._file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

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
        if self._file >= 0:
            os.close(self._file)
            self._partial.unlink(missing_ok=True)

    def write(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Write some of a tensor's numbers, from flat index ``start`` on."""
        begin, dtype = self._places[name]
        flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
        if flat.size:
            self._put(flat.data.cast("B"), len(self._header) + begin + dtype.itemsize * start)

    def finish(self) -> None:
        """Write the header, make the bytes durable and give the file its name."""
        self._put(self._header, 0)
        with self._writable():
            os.fsync(self._file)
            os.replace(self._partial, self._path)
        os.close(self._file)
        self._file = -1

    def _put(self, data: bytes | memoryview, position: int) -> None:
        view = memoryview(data)
        with self._writable():
            while view:
                done = os.pwrite(self._file, view, position)
                view, position = view[done:], position + done

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}") from None
