"""The zip archive that ``torch.save`` writes, held against what was mapped of it.

``torch.load(..., mmap=True)`` takes the sizes in the pickle on trust: a storage that claims more
numbers than its record has gets the bytes that come after it, and a compressed record is mapped as
it lies. So the records are compared with the storages, and their checksums with their bytes.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: Bytes of a zip file's local header before the record's name.
_LOCAL_HEADER = 30


class Record(NamedTuple):
    """One storage's bytes in the file."""

    start: int
    size: int


def storage_records(path: Path) -> list[Record] | None:
    """Return where an archive's storages lie; None if the file is no archive (torch before 1.6).

    Raises
    ------
    ValueError
        If a record is compressed or lies outside the file, or two have one name.
    """
    if not zipfile.is_zipfile(path):
        return None
    size = path.stat().st_size
    records = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        found = archive.infolist()
        if len({info.filename for info in found}) != len(found):
            raise ValueError("two of its records have one name")
        for info in found:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"its record {info.filename} is compressed")
            file.seek(info.header_offset)
            local = file.read(_LOCAL_HEADER)
            lengths = [int.from_bytes(local[at : at + 2], "little") for at in (26, 28)]
            start = info.header_offset + _LOCAL_HEADER + sum(lengths)
            if start + info.file_size > size:
                raise ValueError(f"its record {info.filename} is cut")
            if info.filename.split("/")[-2:-1] == ["data"]:
                records.append(Record(start, info.file_size))
    return records


def refuse_damaged(path: Path) -> None:
    """Read an archive once and compare every record with its checksum.

    Raises
    ------
    ValueError
        If one does not agree.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"its record {bad} does not agree with its checksum")


def refuse_misplaced(records: Iterable[Record], storages: Iterable[tuple[int, int]]) -> None:
    """Refuse mapped storages that are not whole records.

    Parameters
    ----------
    records : iterable of Record
    storages : iterable of (int, int)
        Each one's address and bytes.

    Raises
    ------
    ValueError
        If no place of the map in memory makes each storage one record.
    """
    known = set(records)
    mapped = {(address, size) for address, size in storages if size}
    if not mapped:
        return
    address, size = next(iter(mapped))
    for candidate in known:
        base = address - candidate.start
        if (
            candidate.size == size
            and base % mmap.PAGESIZE == 0
            and all(Record(place - base, width) in known for place, width in mapped)
        ):
            return
    raise ValueError("a tensor claims more or other bytes than its record has")
