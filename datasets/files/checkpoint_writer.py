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

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.partial_file import PartialFile
from weightcast.datasets.state import StateInfo


class CheckpointWriter:
    """Write a safetensors file in pieces; it gets its name only when it is whole.

    Parameters
    ----------
    path : Path
        The final name.
    infos : sequence of StateInfo
        What will be written.
    aliases : dict of str to str
        Further names of tied tensors → the name that is written; each gets the same numbers.
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
        infos: Sequence[StateInfo],
        aliases: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> None:
        self._infos = {info.name: info for info in infos}
        #: Where each tensor's bytes begin after the header, under every name that it has.
        self._places: dict[str, list[int]] = {info.name: [] for info in infos}
        self._header = self._lay_out(aliases, metadata)
        self._file = PartialFile(path)

    def _lay_out(self, aliases: Mapping[str, str], metadata: Mapping[str, str]) -> bytes:
        """Give every tensor its place and return the header, its length in front."""
        entries = [(name, info) for name, info in self._infos.items()]
        entries += [(name, self._infos[first]) for name, first in aliases.items()]
        # Widest numbers first: all then lie at multiples of their size, which some readers need.
        entries.sort(key=lambda entry: -entry[1].itemsize)
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        end = 0
        for name, info in entries:
            offsets = [end, end + info.nbytes]
            header[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": offsets}
            self._places[info.name].append(end)
            end += info.nbytes
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
        """Write some of a tensor's numbers, from flat index ``start`` on.

        Raises
        ------
        InputError
            If they are beyond the type that the file has for them.
        """
        info = self._infos[name]
        try:
            data = info.encode(np.asarray(values))
        except OverflowError as error:
            raise InputError(f"{error}; write it with --dtype float32") from None
        for begin in self._places[name]:
            self._file.put(data, len(self._header) + begin + info.itemsize * start)

    def read(self, name: str) -> NDArray[Any]:
        """Return a tensor as it was written."""
        info = self._infos[name]
        data = bytearray(info.nbytes)
        self._file.get(memoryview(data), len(self._header) + self._places[name][0])
        return info.decode(data).reshape(info.shape)

    def finish(self) -> None:
        """Write the header, make the bytes durable and give the file its name."""
        self._file.put(self._header, 0)
        self._file.finish()
