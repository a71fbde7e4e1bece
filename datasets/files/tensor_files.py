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
from weightcast.datasets.files.foreign import foreign
from weightcast.datasets.trajectory import Floats

if TYPE_CHECKING:
    import torch

#: Endings of files that `open_tensors` reads; all but the first go through torch.
ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

#: Where programs put the state dict in what they save, in the order in which they are tried.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network", "net")

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


def open_tensors(path: Path) -> TensorFile:
    """Open a file of tensors by its ending.

    Raises
    ------
    InputError
        If it is missing, truncated, corrupt, or cannot be opened without running its code.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing")
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


class SafetensorsFile:
    """A ``.safetensors`` file; only its header stays in memory."""

    light: bool = True
    step: int | None = None

    def __init__(self, path: Path) -> None:
        from weightcast.datasets.files.safetensors_header import read_header

        self.path = path
        self.entries: dict[str, Entry] = {}
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

    def _fill(self, file: int, name: str, out: np.ndarray[Any, Any], position: int) -> None:
        view = out.data.cast("B") if out.size else memoryview(b"")
        while view:
            got = os.preadv(file, [view], position)
            if got <= 0:
                raise InputError(f"{self.path} ends inside tensor {name}; save it again")
            view, position = view[got:], position + got


class TorchFile:
    """A file that ``torch.save`` wrote: a state dict, bare or in one of `WRAPPERS`."""

    light: bool = False

    def __init__(self, path: Path) -> None:
        import torch

        self.path = path
        loaded = _load(path)
        self._tensors: dict[str, torch.Tensor] = _state_dict(loaded, path)
        self.step: int | None = None
        # Others count "global_step" as they like; in Lightning it is the optimizer's.
        if isinstance(loaded, Mapping) and "pytorch-lightning_version" in loaded:
            step = loaded.get("global_step")
            self.step = step if isinstance(step, int) else None
        self.entries: dict[str, Entry] = {}
        first: dict[tuple[Any, ...], str] = {}
        for name, tensor in self._tensors.items():
            if tensor.layout != torch.strided or tensor.is_quantized:
                self.entries[name] = Entry(tuple(tensor.shape), False)
                continue
            # Tied parameters are one storage under several names.
            memory = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            alias = first.setdefault(memory, name) if tensor.numel() else name
            self.entries[name] = Entry(
                tuple(tensor.shape), tensor.is_floating_point(), None if alias == name else alias
            )

    def read_into(self, name: str, start: int, out: Floats) -> None:
        import torch

        flat = self._tensors[name].detach().reshape(-1)[start : start + len(out)]
        torch.from_numpy(out).copy_(flat)


class Checkpoint:
    """One checkpoint: the tensors of one file, or of all its shards."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = [open_tensors(path) for path in paths]
        self._by_name = {name: file for file in self.files for name in file.entries}
        self.light = all(file.light for file in self.files)
        self.step = self.files[0].step if len(self.files) == 1 else None

    @property
    def entries(self) -> dict[str, Entry]:
        """All shards' tensors, in the files' order."""
        return {name: file.entries[name] for name, file in self._by_name.items()}

    def path_of(self, name: str) -> Path:
        """Return the file that holds a tensor; the first one where none does."""
        return self._by_name.get(name, self.files[0]).path

    def read_into(self, name: str, shape: tuple[int, ...], start: int, out: Floats) -> None:
        """Fill ``out`` (c,) with a tensor's coordinates from ``start`` on.

        Raises
        ------
        InputError
            If the tensor is not there in this shape.
        """
        file = self._by_name.get(name)
        if file is None:
            raise InputError(f"{self.files[0].path} has no tensor {name}")
        entry = file.entries[name]
        if entry.shape != shape or not entry.floating:
            raise InputError(
                f"{file.path}: tensor {name} is not floating-point of shape {list(shape)}"
            )
        file.read_into(name, start, out)


def _load(path: Path) -> Any:
    """Load tensors and plain values, memory-mapped where the file's format allows."""
    import pickle

    import torch

    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files from before torch 1.6 cannot be mapped; they are read whole, one at a time.
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise InputError(_damaged(path)) from None
        raise InputError(
            f"{path} holds {found[1]}, which cannot be opened without running its code; if you "
            "trust it, open it with torch.load(FILE, weights_only=False) and torch.save its state "
            "dict alone"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # damaged bytes make the unpickler raise anything
        raise InputError(_damaged(path)) from None


def _damaged(path: Path) -> str:
    return f"{path} is truncated or not a file of torch.save; save it again"


def _state_dict(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    candidates = []
    if isinstance(loaded, Mapping):
        candidates = [loaded[key] for key in WRAPPERS if key in loaded] + [loaded]
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            found = {
                str(name): value
                for name, value in candidate.items()
                if isinstance(value, torch.Tensor)
            }
            if found:
                return found
    raise InputError(
        f"{path} holds no state dict, bare or under {', '.join(WRAPPERS)}; save one with torch.save"
    )
