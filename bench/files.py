"""Writing files whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from weightcast.datasets import InputError


def write_text(path: Path, text: str) -> None:
    """Write to a temporary name beside the file and rename it into place.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
