"""What was found when a file was read whole, so that it is not read whole again.

Hashing gigabytes takes minutes, and every `weightcast run` needs the hashes. They are kept in the
user's cache for large files, under their paths, sizes, inodes and times of change: whoever changes
a file changes one of these. The cache can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from weightcast.datasets.admission.lineage import Lineage, lineage
from weightcast.datasets.errors import InputError
from weightcast.datasets.fetching.fetch import cache_folder
from weightcast.datasets.files.identity import identify
from weightcast.datasets.files.partial_file import write_text
from weightcast.datasets.trajectory import Trajectory

#: Bytes from which a file is worth remembering; smaller ones are read in less than a second.
LARGE = 256 * 2**20


def checked_lineage(run: Trajectory) -> Lineage:
    """Return a run's lineage after seeing that all its numbers are finite and as they were written.

    Raises
    ------
    InputError
        If it has NaN or infinity, or its bytes are not those of its checksums.
    """
    path = _remembered(run)
    if path is not None:
        with suppress(OSError, ValueError, TypeError):
            return Lineage(**json.loads(path.read_text(encoding="utf-8")))
    run.check_finite()
    found = lineage(run)
    if path is not None:
        with suppress(InputError):  # a cache that cannot be written costs time and nothing else
            write_text(path, json.dumps(asdict(found)))
    return found


def _remembered(run: Trajectory) -> Path | None:
    """Return where a run's lineage is, or would be, remembered; None for a small or no file."""
    if sum(file.size for file in identify(run.files)) < LARGE or not run.files:
        return None
    files = identify(run.files, settled=True)
    # A disk may get another number each time that it is mounted.
    identity: list[Any] = [file._replace(device=0) for file in files]
    identity += [str(path.resolve()) for path in run.files]
    # The label is read from the header, and the meaning of all this from the fields.
    identity += [run.label, *Lineage.__dataclass_fields__]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return cache_folder() / "known-runs" / f"{name}.json"
