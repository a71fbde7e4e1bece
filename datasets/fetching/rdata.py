"""A reader of the one kind of R data needed here: a ``.rdb`` file of character vectors.

A ``.rdb`` file is a row of records: four bytes, big-endian, with the length of what follows once
unpacked, then a zlib stream. Unpacked, each is one R object in the XDR form of R's serialization
("R Internals", section 1.8). Only character vectors are read; anything else is refused.
"""

from __future__ import annotations

import struct
import zlib

from weightcast.datasets.errors import InputError

_STRSXP, _CHARSXP = 16, 9
_LATIN1 = 1 << 2  # of a CHARSXP's flags, which start at bit 12


def read_character_vectors(data: bytes) -> list[list[str]]:
    """Read the character vectors of a ``.rdb`` file, in the file's order.

    Raises
    ------
    InputError
        If the bytes are not such a file.
    """
    vectors, position = [], 0
    try:
        while position < len(data):
            (length,) = struct.unpack_from(">I", data, position)
            stream = zlib.decompressobj()
            record = stream.decompress(data[position + 4 :])
            if len(record) != length or not stream.eof:
                raise InputError("the R data are truncated")
            vectors.append(_character_vector(record))
            position = len(data) - len(stream.unused_data)
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"the R data cannot be read: {error}") from None
    return vectors


def _character_vector(record: bytes) -> list[str]:
    if record[:2] != b"X\n":
        raise InputError("the R data are not in XDR form")
    version, _, _ = struct.unpack_from(">3i", record, 2)
    position = 14
    if version >= 3:
        (length,) = struct.unpack_from(">i", record, position)  # the native encoding's name
        position += 4 + length
    flags, count = struct.unpack_from(">2i", record, position)
    if flags & 0xFF != _STRSXP:
        raise InputError(f"the R data hold an object of type {flags & 0xFF}, not characters")
    position += 8
    lines = []
    for _ in range(count):
        flags, length = struct.unpack_from(">2i", record, position)
        if flags & 0xFF != _CHARSXP or length < 0:
            raise InputError("the R data hold something that is not a string, or a missing one")
        position += 8
        encoding = "latin-1" if flags >> 12 & _LATIN1 else "utf-8"
        lines.append(record[position : position + length].decode(encoding))
        position += length
    return lines
