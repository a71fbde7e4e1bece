"""The arrays of a ``.npz`` file of numpy, read without unpickling and without mapping.

Every size is held against the others before anything of that size is made: what the header of an
array says against the bytes that the archive has for it, and those against the file.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign
from weightcast.datasets.files.tensor_file import Entry
from weightcast.datasets.trajectory import Floats

#: Bytes of packed arrays that are unpacked in memory; larger ones are to be saved unpacked.
MOST_PACKED = 2**31
#: Arrays, and bytes of an array's header, that are read.
_MOST_ARRAYS, _MOST_HEADER = 100_000, 65_536
_CHUNK = 2**20  # numbers converted at a time
#: Of a member's header in a zip file: its length without name and extra field, and where they are.
_LOCAL, _LENGTHS = 30, 26
#: What a loop calls the optimizer step that it saved at.
STEP_NAMES = ("step", "global_step")


@dataclass(frozen=True)
class _Array:
    """Where an array lies.

    Attributes
    ----------
    member : str
        Its name in the archive.
    offset : int or None
        Of its first number in the file, where numbers lie there as they are.
    """

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """A ``.npz`` file; see `weightcast.datasets.files.tensor_file.TensorFile`.

    Arrays that lie in the file as they are, as ``numpy.savez`` writes them, are read where they
    lie; packed ones, and those in Fortran's order, are unpacked once and kept.
    """

    light: bool = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, _Array] = {}
        self._unpacked: dict[str, NDArray[Any]] = {}
        with foreign(path, "a .npz file of numpy"), zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise ValueError(f"it holds more than {_MOST_ARRAYS:,} arrays")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename:
                    raise ValueError(f"{clipped(member.filename)} in it is no array")
                if name in self._arrays:
                    raise ValueError(f"two arrays are called {clipped(name)}")
                self._arrays[name] = _read_header(archive, member, path)
        packed = sum(array.bytes for array in self._arrays.values() if array.offset is None)
        if packed > MOST_PACKED:
            raise InputError(
                f"{path} has {packed / 2**30:.1f} GiB of packed arrays; save them with "
                "numpy.savez, which leaves them unpacked"
            )
        self.step = self._own_step()
        self.entries = {
            name: Entry(array.shape, array.dtype.kind == "f", dtype=str(array.dtype))
            for name, array in self._arrays.items()
            if self.step is None or name not in STEP_NAMES
        }

    def read_into(self, name: str, start: int, out: Floats) -> None:
        array = self._arrays[name]
        if array.offset is None:
            self._convert(self._unpack(name).reshape(-1)[start : start + len(out)], out)
            return
        with self.path.open("rb") as file:
            file.seek(array.offset + start * array.dtype.itemsize)
            for done in range(0, len(out), _CHUNK):
                piece = out[done : done + _CHUNK]
                self._convert(self._numbers(file, name, len(piece)), piece)

    def array(self, name: str) -> NDArray[Any]:
        array = self._arrays[name]
        if array.offset is None:
            return self._unpack(name)
        with self.path.open("rb") as file:
            file.seek(array.offset)
            found = self._numbers(file, name, math.prod(array.shape)).reshape(array.shape)
        return found.astype(array.dtype.newbyteorder("="), copy=False)

    def rows(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Return some rows of an array in its own type."""
        array = self._arrays[name]
        if array.offset is None:
            return self._unpack(name)[first : first + count]
        size = math.prod(array.shape[1:])
        with self.path.open("rb") as file:
            file.seek(array.offset + first * size * array.dtype.itemsize)
            found = self._numbers(file, name, count * size).reshape(count, *array.shape[1:])
        return found.astype(array.dtype.newbyteorder("="), copy=False)

    def verify(self) -> None:
        """Hold every array to the archive's checksum."""
        with foreign(self.path, "a .npz file of numpy"), zipfile.ZipFile(self.path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise InputError(f"{self.path}: array {clipped(damaged)} is damaged; save it again")

    def _own_step(self) -> int | None:
        for name in STEP_NAMES:
            array = self._arrays.get(name)
            if array is not None and array.shape in ((), (1,)) and array.dtype.kind in "iu":
                return int(self.array(name).reshape(()))
        return None

    def _numbers(self, file: IO[bytes], name: str, count: int) -> NDArray[Any]:
        found = np.fromfile(file, self._arrays[name].dtype, count)
        if len(found) < count:
            raise InputError(f"{self.path} ends inside array {clipped(name)}; save it again")
        return found

    def _convert(self, values: NDArray[Any], out: Floats) -> None:
        with np.errstate(over="ignore"):  # the infinity is reported as one
            out[:] = values

    def _unpack(self, name: str) -> NDArray[Any]:
        if name not in self._unpacked:
            with (
                foreign(self.path, "a .npz file of numpy"),
                zipfile.ZipFile(self.path) as archive,
                archive.open(self._arrays[name].member) as packed,
            ):
                self._unpacked[name] = np.ascontiguousarray(
                    np.lib.format.read_array(packed, allow_pickle=False)
                )
        return self._unpacked[name]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_unpacked": {}}


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> _Array:
    """Read what an array's header says, and hold it to the bytes that there are."""
    name = clipped(member.filename)
    if member.flag_bits & 1:
        raise ValueError(f"array {name} is encrypted")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"array {name} is of format {version[0]}.{version[1]}")
        shape, fortran, dtype = read(stream, max_header_size=_MOST_HEADER)
        begin = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"array {name} holds pickled objects, which are never loaded")
    if dtype.kind not in "biuf":
        raise ValueError(f"array {name} is of type {dtype}, no numbers")
    if len(shape) > 64 or any(n < 0 for n in shape):
        raise ValueError(f"array {name} has no such shape as {list(shape)[:8]}")
    size = math.prod(shape) * dtype.itemsize
    if begin + size != member.file_size:
        raise ValueError(
            f"array {name} takes {begin + size:,} bytes by its shape, and has {member.file_size:,}"
        )
    stored = member.compress_type == zipfile.ZIP_STORED and (not fortran or len(shape) < 2)
    offset = _place(path, member) + begin if stored else None
    if offset is not None and offset + size > path.stat().st_size:
        raise ValueError(f"it ends inside array {name}")
    return _Array(member.filename, tuple(map(int, shape)), dtype, offset)


def _place(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes begin in the file."""
    with path.open("rb") as file:
        file.seek(member.header_offset, os.SEEK_SET)
        header = file.read(_LOCAL)
    if len(header) < _LOCAL:
        raise ValueError(f"it ends before {clipped(member.filename)}")
    name, extra = struct.unpack_from("<HH", header, _LENGTHS)
    return member.header_offset + _LOCAL + int(name) + int(extra)
