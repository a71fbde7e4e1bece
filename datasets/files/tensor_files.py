"""The tensors in one checkpoint's files, read piece by piece as float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.foreign import clipped, foreign
from weightcast.datasets.files.npz_file import NpzFile
from weightcast.datasets.files.safetensors_file import SafetensorsFile
from weightcast.datasets.files.state_dict import plain_names
from weightcast.datasets.files.tensor_file import ENDINGS, Entry, TensorFile, ending
from weightcast.datasets.files.torch_file import TorchFile
from weightcast.datasets.state import StateInfo
from weightcast.datasets.trajectory import Floats

#: torch's names of floating-point types → those of safetensors.
_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def open_tensors(path: Path, key: str = "") -> TensorFile:
    """Open a file of tensors by its ending.

    Parameters
    ----------
    path : Path
    key : str
        What the state dict is called in a file of ``torch.save`` that holds several.

    Raises
    ------
    InputError
        If it is missing, truncated, corrupt, or cannot be opened without running its code.
    """
    with foreign(path, "a file of tensors"):
        if not path.is_file():
            raise InputError(f"{path} is missing")
    if ending(path) not in ENDINGS[:2]:
        return TorchFile(path, key)
    if key:
        raise InputError(f"{path} holds one state dict and no keys; leave --key out")
    return SafetensorsFile(path) if ending(path) == ENDINGS[0] else NpzFile(path)


class Checkpoint:
    """One checkpoint: the tensors of one file, or of all its shards.

    Names are those of the network itself, without what ``torch.compile`` and data parallelism put
    before them (`plain_names`); the names in the files will do too.

    Parameters
    ----------
    paths : sequence of Path
    key : str
        See `open_tensors`.

    Attributes
    ----------
    stripped : bool
        Whether names in the files are longer.
    """

    def __init__(self, paths: Sequence[Path], key: str = "") -> None:
        self.files = [open_tensors(path, key) for path in paths]
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

    @property
    def types(self) -> dict[str, str]:
        """What safetensors calls each tensor's type; of others, that of the file's own format."""
        return {name: _CODES.get(entry.dtype, entry.dtype) for name, entry in self.entries.items()}

    @property
    def folder(self) -> Path:
        """The folder in which it lies."""
        return self.files[0].path.parent

    def path_of(self, name: str) -> Path:
        """Return the file that holds a tensor; the first one where none does."""
        return self._by_name[name][0].path if name in self._by_name else self.files[0].path

    def state(self, name: str) -> NDArray[Any] | None:
        """Return a tensor in its own type; None where it is missing or numpy has no such type."""
        file, own = self._by_name.get(name, (None, name))
        try:
            found = None if file is None else file.array(own)
            return found if found is not None and StateInfo.of(name, found) else None
        except (TypeError, ValueError):
            return None

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
