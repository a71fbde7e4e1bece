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
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)
        finally:  # whatever stops this, Ctrl-C among it
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
