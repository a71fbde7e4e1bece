"""The tensors in one checkpoint's files, read piece by piece as float32.

A ``.safetensors`` file is read with ``preadv`` at the offsets in its header, any other one through
``torch.load`` with ``weights_only=True`` and memory-mapped storages. Nothing else is ever
unpickled: a checkpoint from the network must not be able to run code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign
from weightcast.datasets.files.state_dict import find_state_dict, plain_names
from weightcast.datasets.files.torch_archive import (
    refuse_damaged,
    refuse_misplaced,
    storage_records,
)
from weightcast.datasets.trajectory import Floats

if TYPE_CHECKING:
    import torch

#: Endings of files that `open_tensors` reads; all but the first go through torch.
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pth.tar")

_WHAT = "a file of tensors"
_ALONE = "save the network's state dict alone with torch.save"
_CHUNK = 2**20  # numbers converted at a time
_FLOATS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


class Entry(NamedTuple):
    """One stored tensor: its shape, whether it holds floating-point numbers, what it aliases.

    ``alias`` is the name of an earlier tensor in the same file with the same memory, or None;
    ``dtype`` is what the file calls the type of its numbers.
    """

    shape: tuple[int, ...]
    floating: bool
    alias: str | None = None
    dtype: str = ""


class TensorFile(Protocol):
    """An open file of named tensors.

    Attributes
    ----------
    path : Path
    entries : dict of str to Entry
    step : int or None
        The optimizer step that the file itself names (Lightning's ``global_step``).
    light : bool
        Whether it may stay open: it holds no memory map.
    """

    path: Path
    entries: dict[str, Entry]
    step: int | None
    light: bool

    def read_into(self, name: str, start: int, out: Floats) -> None:
        """Fill ``out`` (c,) with the tensor's coordinates from ``start`` on."""

    def verify(self) -> None:
        """Hold the bytes to the format's checksums, if any; `InputError` if they differ."""


def open_tensors(path: Path) -> TensorFile:
    """Open a file of tensors by its ending.

    Raises
    ------
    InputError
        If it is missing, truncated, corrupt, or cannot be opened without running its code.
    """
    with foreign(path, _WHAT):
        if not path.is_file():
            raise InputError(f"{path} is missing")
    return SafetensorsFile(path) if ending(path) == ENDINGS[0] else TorchFile(path)


def ending(path: Path) -> str | None:
    """Return which of `ENDINGS` a file's name has, in capitals or not; None if it has another.

    Examples
    --------
    >>> ending(Path("model_best.pth.tar")), ending(Path("STEP_1.PT")), ending(Path("notes.txt"))
    ('.pth.tar', '.pt', None)
    """
    name = path.name.lower()
    return max((end for end in ENDINGS if name.endswith(end)), key=len, default=None)


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
        file = os.open(self.path, os.O_RDONLY)
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

    def verify(self) -> None:
        pass  # the format has no checksums

    def _fill(self, file: int, name: str, out: np.ndarray[Any, Any], position: int) -> None:
        view = out.data.cast("B") if out.size else memoryview(b"")
        while view:
            got = os.preadv(file, [view], position)
            if got <= 0:
                raise InputError(f"{self.path} ends inside tensor {name}; save it again")
            view, position = view[got:], position + got


class TorchFile:
    """A file that ``torch.save`` wrote: a state dict, bare or under a usual name."""

    light: bool = False

    def __init__(self, path: Path) -> None:
        self.path = path
        with foreign(path, _WHAT):
            loaded = _load(path)
        with foreign(path, "a checkpoint with one state dict", _ALONE):
            self._tensors = find_state_dict(loaded)
            # Others count "global_step" as they like; in Lightning it is the optimizer's.
            step = loaded.get("global_step") if "pytorch-lightning_version" in loaded else None
            self.step = step if type(step) is int and 0 <= step < 2**63 else None
            self.entries = _entries(self._tensors)

    def read_into(self, name: str, start: int, out: Floats) -> None:
        import torch

        tensor = self._tensors[name].detach()
        with foreign(self.path, _WHAT):
            flat = tensor.reshape(-1)[start : start + len(out)]
            torch.from_numpy(out).copy_(flat)

    def verify(self) -> None:
        with foreign(self.path, _WHAT):
            refuse_damaged(self.path)


def _entries(tensors: Mapping[str, torch.Tensor]) -> dict[str, Entry]:
    import torch

    entries: dict[str, Entry] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        if tensor.device.type != "cpu":
            raise ValueError(f"tensor {clipped(name)} has no numbers: it is on {tensor.device}")
        if tensor.layout != torch.strided or tensor.is_quantized:
            entries[name] = Entry(shape, False, dtype=f"{tensor.layout} {dtype}")
            continue
        storage = tensor.untyped_storage().nbytes()
        if tensor.is_floating_point() and tensor.numel() * tensor.element_size() > storage:
            raise ValueError(
                f"tensor {clipped(name)} has shape {list(shape)}, but the file has "
                f"{storage:,} bytes of it"
            )
        # Tied parameters are one storage under several names.
        memory = (tensor.data_ptr(), tensor.dtype, shape, tensor.stride())
        alias = first.setdefault(memory, name) if tensor.numel() else name
        entries[name] = Entry(
            shape, tensor.is_floating_point(), None if alias == name else alias, dtype
        )
    return entries


class Checkpoint:
    """One checkpoint: the tensors of one file, or of all its shards.

    Names are those of the network itself, without what ``torch.compile`` and data parallelism put
    before them (`plain_names`); the names in the files will do too.

    Attributes
    ----------
    stripped : bool
        Whether names in the files are longer.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = [open_tensors(path) for path in paths]
        self._by_name: dict[str, tuple[TensorFile, str]] = {}
        for file in self.files:
            for name in file.entries:
                if name in self._by_name:
                    raise InputError(
                        f"{file.path} and {self._by_name[name][0].path} both hold tensor "
                        f"{clipped(name)}; they are no shards of one checkpoint"
                    )
                self._by_name[name] = (file, name)
        with foreign(self.files[0].path, "a checkpoint of one network"):
            plain = plain_names(self._by_name)
        self.names = {short: name for name, short in plain.items()}
        self.stripped = any(short != name for short, name in self.names.items())
        self._by_name |= {short: self._by_name[name] for short, name in self.names.items()}
        self.light = all(file.light for file in self.files)
        self.step = self.files[0].step if len(self.files) == 1 else None

    @property
    def entries(self) -> dict[str, Entry]:
        """All shards' tensors, in the files' order."""
        return {short: self._entry(short) for short in self.names}

    def _entry(self, name: str) -> Entry:
        file, own = self._by_name[name]
        entry = file.entries[own]
        if entry.alias is None or not self.stripped:
            return entry
        return entry._replace(alias=next(s for s, n in self.names.items() if n == entry.alias))

    def path_of(self, name: str) -> Path:
        """Return the file that holds a tensor; the first one where none does."""
        return self._by_name[name][0].path if name in self._by_name else self.files[0].path

    def verify(self) -> None:
        """Read the files and hold them to the checksums that they carry, where they do.

        Raises
        ------
        InputError
            If bytes are not those that were written.
        """
        for file in self.files:
            file.verify()

    def read_into(self, name: str, shape: tuple[int, ...], start: int, out: Floats) -> None:
        """Fill ``out`` (c,) with a tensor's coordinates from ``start`` on.

        Raises
        ------
        InputError
            If the tensor is not there in this shape.
        """
        if name not in self._by_name:
            raise InputError(f"{self.files[0].path} has no tensor {clipped(name)}")
        file, own = self._by_name[name]
        entry = file.entries[own]
        if not entry.floating:
            raise InputError(
                f"{file.path}: tensor {clipped(name)} is {entry.dtype}, not floating-point"
            )
        if entry.shape != shape:
            raise InputError(
                f"{file.path}: tensor {clipped(name)} has shape {list(entry.shape)}, not "
                f"{list(shape)}"
            )
        file.read_into(own, start, out)


def _load(path: Path) -> Any:
    """Load tensors and plain values, memory-mapped where the file's format allows."""
    import pickle
    import warnings

    import torch

    records = storage_records(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types that are passed over anyway
            # Files from before torch 1.6 cannot be mapped; they are read whole, one at a time.
            loaded = torch.load(
                path, map_location="cpu", weights_only=True, mmap=records is not None
            )
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ValueError("it is truncated or not a file of torch.save") from None
        raise InputError(
            f"{path} holds {clipped(found[1])}, which cannot be opened without running its code; "
            "if you trust it, open it with torch.load(FILE, weights_only=False) and torch.save its "
            "state dict alone"
        ) from None
    except Exception as error:
        if isinstance(error, MemoryError | OSError):
            raise
        raise ValueError("it is truncated or not a file of torch.save") from None
    if records is not None:
        refuse_misplaced(records, _storages(loaded))
    return loaded


def _storages(loaded: Any) -> set[tuple[int, int]]:
    """Return the address and bytes of every storage in memory that what was loaded leads to."""
    import torch

    found: set[tuple[int, int]] = set()
    seen: set[int] = set()
    left = [loaded]
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and value.device.type == "cpu":
                storage = value.untyped_storage()
                found.add((storage.data_ptr(), storage.nbytes()))
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, Mapping) else value
    return found
