"""A hash of a method's code, so that results are kept apart from those of other code."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from weightcast.datasets.own_code import imported_names, own_imports, source
from weightcast.methods.forecaster import Forecaster

#: What a class's files held when they were first asked for.
_read: dict[type[Forecaster], list[bytes]] = {}


def code_hash(cls: type[Forecaster]) -> str:
    """Hash the source files of a method's class, of its bases and of all modules of their own.

    See `weightcast.datasets.own_code` for what is their own. Files are read once a process: what
    they change to later is not the code that the process has.

    What else a class says in ``depends_on`` enters too: an adapter's name with its parameters, and
    the version of the library behind it.
    The registry and the interface are left out: they hand numbers on and make none.
    """
    digest = hashlib.sha256()
    for content in _sources(cls):
        digest.update(hashlib.sha256(content).digest())
    for text in getattr(cls, "depends_on", ()):
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def imported_packages(cls: type[Forecaster]) -> set[str]:
    """Name the top-level packages that the same files import, at the top or inside functions."""
    return {name.partition(".")[0] for content in _sources(cls) for name in imported_names(content)}


def _sources(cls: type[Forecaster]) -> list[bytes]:
    if cls not in _read:
        _read[cls] = _with_imports(cls)
    return _read[cls]


def _with_imports(cls: type[Forecaster]) -> list[bytes]:
    """Return the sources of a class, in an order that does not depend on where they lie."""
    files: set[Path] = set()
    for base in cls.__mro__:
        if issubclass(base, Forecaster) and base.__module__ != Forecaster.__module__:
            path = Path(inspect.getfile(base)).resolve()
            files |= {path, *own_imports(base.__module__, path).values()}
    return sorted({source(path) for path in files if not path.is_dir()})
