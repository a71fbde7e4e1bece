"""An open file of named tensors, whatever its format: what it says of each, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from weightcast.datasets.trajectory import Floats

#: Endings of files of tensors; all but the first two go through torch.
ENDINGS = (".safetensors", ".npz", ".bin", ".pt", ".pth", ".ckpt", ".pth.tar")


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

    def array(self, name: str) -> NDArray[Any]:
        """Return a tensor in its own type; bfloat16, which numpy lacks, as float32.

        Raises
        ------
        ValueError
            If numpy has no such numbers.
        """

    def verify(self) -> None:
        """Hold the bytes to the format's checksums, if any; `InputError` if they differ."""


def ending(path: Path) -> str | None:
    """Return which of `ENDINGS` a file's name has, in capitals or not; None if it has another.

    Examples
    --------
    >>> ending(Path("model_best.pth.tar")), ending(Path("STEP_1.PT")), ending(Path("notes.txt"))
    ('.pth.tar', '.pt', None)
    """
    name = path.name.lower()
    return max((end for end in ENDINGS if name.endswith(end)), key=len, default=None)
