"""The header of a ``.safetensors`` file, held against the file's size before anything is read.

The format is eight bytes of length, JSON, then the tensors' bytes without a gap. A header is taken
only if it accounts for every byte of the file: types known, shapes whole, places in order, each as
long as its type and shape say, the last one ending where the file does.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, field_validator

from weightcast.datasets.errors import InputError
from weightcast.datasets.files.described import Shape, Strict, Whole, refuse_huge
from weightcast.datasets.files.foreign import clipped, parse_json

_MAX_HEADER = 100_000_000  # the format's own limit
#: Bytes of a number, of the format's types that are read or passed over.
WIDTHS = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip


class TensorEntry(Strict):
    """One tensor: its type, its shape, and where its bytes lie after the header."""

    dtype: str
    shape: Shape
    data_offsets: Annotated[list[Whole], Field(min_length=2, max_length=2)]

    _size = field_validator("shape")(refuse_huge)


class Header(NamedTuple):
    """A header that fits its file.

    Attributes
    ----------
    metadata : dict of str
    tensors : dict of TensorEntry
        In the order in which the header names them.
    start : int
        Where the tensors' bytes begin.
    """

    metadata: dict[str, str]
    tensors: dict[str, TensorEntry]
    start: int


_TENSORS = TypeAdapter(dict[str, TensorEntry])
_METADATA = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


def read_header(path: Path) -> Header:
    """Read and check a file's header; call it within `foreign`.

    Raises
    ------
    InputError
        If a tensor's type is not read, or the file ends before its tensors do.
    ValueError
        If the bytes are no header, or one that does not fit the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ValueError("it is truncated or not a safetensors file")
        said = parse_json(file.read(length))
    if not isinstance(said, dict):
        raise ValueError("its header is no JSON object")
    metadata = _METADATA.validate_python(said.pop("__metadata__", None) or {})
    tensors = _TENSORS.validate_python(said)
    header = Header(metadata, tensors, 8 + length)
    _hold_to_size(path, header, size - header.start)
    return header


def _hold_to_size(path: Path, header: Header, room: int) -> None:
    """Refuse tensors that do not fill the file's bytes one after the other."""
    position = 0
    for name, entry in sorted(header.tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        shown = clipped(name)
        if entry.dtype not in WIDTHS:
            raise InputError(
                f"{path}: tensor {shown} is {clipped(entry.dtype)}, which is not read; save it as "
                "bfloat16 or float32"
            )
        if begin != position:
            raise InputError(
                f"{path}: tensor {shown} begins at byte {begin:,}, where {position:,} would be "
                "next; save it again"
            )
        if end - begin != WIDTHS[entry.dtype] * math.prod(entry.shape):
            raise InputError(f"{path}: tensor {shown} has the wrong number of bytes; save it again")
        if end > room:
            raise InputError(f"{path} is truncated inside tensor {shown}; save it again")
        position = end
    if position != room:
        raise InputError(
            f"{path} has {room - position:,} bytes that belong to no tensor; save it again"
        )
