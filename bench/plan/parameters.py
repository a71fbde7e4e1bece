"""Parameters as they enter a key: where one names a file, what that file holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from weightcast.datasets.errors import InputError
from weightcast.methods import make_method


def keyed_params(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return a method's parameters, those that name files as hashes of the files' contents.

    Raises
    ------
    InputError
        If a file is not there.
    """
    made = make_method(method, params)
    held = {name: [_hash(path) for path in paths] for name, paths in made.reads().items()}
    asked: dict[str, Any] = made.get_params()
    return asked | held


def files_hash(method: str, params: str) -> str:
    """Return a hash of the files that parameters (JSON) name; empty where they name none."""
    reads = make_method(method, json.loads(params)).reads()
    return " ".join(_hash(path) for name in sorted(reads) for path in reads[name])


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
