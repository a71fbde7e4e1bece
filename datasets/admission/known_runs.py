"""What was found when a file was read whole, so that it is not read whole again.

Hashing gigabytes takes minutes, and every `weightcast run` needs the hashes. They are kept in the
user's cache for large files, under the file's path, size, time of change and inode: whoever changes
a file changes one of these. The cache can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from weightcast.datasets.admission.lineage import Lineage, lineage
from weightcast.datasets.fetching.fetch import cache_folder
from weightcast.datasets.files.partial_file import PartialFile
from weightcast.datasets.trajectory import Trajectory

#: Bytes from which a file is worth remembering; smaller ones are read in less than a second.
LARGE = 256 * 2**20


def checked_lineage(run: Trajectory) -> Lineage:
    """Return a run's lineage after seeing that all its numbers are finite.

    Raises
    ------
    InputError
        If it has NaN or infinity.
    """
    path = _remembered(run)
    if path is not None:
        with suppress(OSError, ValueError, TypeError):
            return Lineage(**json.loads(path.read_text(encoding="utf-8")))
    run.check_finite()
    found = lineage(run)
    if path is not None:
        with suppress(OSError):  # a cache that cannot be written costs time and nothing else
            file = PartialFile(path)
            file.put(json.dumps(asdict(found)).encode(), 0)
            file.finish()
    return found


def _remembered(run: Trajectory) -> Path | None:
    """Return where a run's lineage is, or would be, remembered; None for a small or no file."""
    file = run.file
    if file is None:
        return None
    found = file.stat()
    if found.st_size < LARGE:
        return None
    identity = [str(file.resolve()), found.st_size, found.st_mtime_ns, found.st_ino]
    # The label is read from the header, and the meaning of all this from the fields.
    identity += [run.label, *Lineage.__dataclass_fields__]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return cache_folder() / "known-runs" / f"{name}.json"
