"""The tensors of a ``.safetensors`` file, read with ``preadv`` at the offsets in its header."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files import system
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.files.tensor_file import Entry
from weightcast.datasets.state import DTYPES
from weightcast.datasets.trajectory import Floats

_CHUNK = 2**20  # numbers converted at a time
_FLOATS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


class SafetensorsFile:
    """A ``.safetensors`` file; only its header stays in memory."""

    light: bool = True
    step: int | None = None

    def __init__(self, path: Path) -> None:
        from weightcast.datasets.files.safetensors_header import read_header

        self.path = path
        self.entries = {}
        self._places: dict[str, tuple[str, int]] = {}
        with foreign(path, "a file of tensors"):
            header = read_header(path)
        self.metadata = header.metadata
        for name, entry in header.tensors.items():
            floating = entry.dtype in _FLOATS
            self.entries[name] = Entry(tuple(entry.shape), floating, dtype=entry.dtype)
            self._places[name] = (entry.dtype, header.start + entry.data_offsets[0])

    def read_into(self, name: str, start: int, out: Floats) -> None:
        dtype, begin = self._places[name]
        width = np.dtype(_FLOATS[dtype]).itemsize
        file = system.open_file(self.path, os.O_RDONLY)
        try:
            if dtype == "F32":
                self._fill(file, name, out, begin + 4 * start)
                return
            for done in range(0, len(out), _CHUNK):
                piece = out[done : done + _CHUNK]
                raw = np.empty(len(piece), _FLOATS[dtype])
                self._fill(file, name, raw, begin + width * (start + done))
                if dtype == "BF16":
                    # bfloat16 is float32's upper half.
                    np.left_shift(raw, 16, out=piece.view("<u4"), dtype="<u4", casting="safe")
                else:
                    with np.errstate(over="ignore"):  # the infinity is reported as one
                        piece[:] = raw
        finally:
            os.close(file)

    def array(self, name: str) -> NDArray[Any]:
        dtype, begin = self._places[name]
        shape = self.entries[name].shape
        if dtype == "BF16":
            values = np.empty(math.prod(shape), np.float32)
            self.read_into(name, 0, values)
            return values.reshape(shape)
        if dtype not in DTYPES:
            raise ValueError(f"numpy has no {dtype}")
        raw = np.empty(shape, DTYPES[dtype])
        file = system.open_file(self.path, os.O_RDONLY)
        try:
            self._fill(file, name, raw.reshape(-1), begin)
        finally:
            os.close(file)
        return raw

    def verify(self) -> None:
        pass  # the format has no checksums

    def _fill(self, file: int, name: str, out: np.ndarray[Any, Any], position: int) -> None:
        view = out.data.cast("B") if out.size else memoryview(b"")
        while view:
            got = system.read_at(file, view, position)
            if got <= 0:
                raise InputError(f"{self.path} ends inside tensor {name}; save it again")
            view, position = view[got:], position + got
