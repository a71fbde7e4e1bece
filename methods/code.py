"""A hash of a method's code, so that results are kept apart from those of other code."""

from __future__ import annotations

import ast
import hashlib
import inspect
from importlib.util import find_spec
from pathlib import Path

from weightcast.methods.forecaster import Forecaster

_ROOM = "weightcast.methods."
#: What a class's files held when they were first asked for.
_read: dict[type[Forecaster], set[str]] = {}


def code_hash(cls: type[Forecaster]) -> str:
    """Hash the source files of a method's class, of its bases and of their imports in this room.

    Files are read once a process: what they change to later is not the code that the process has.

    What else a class says in ``depends_on`` enters too: an adapter's name with its parameters, and
    the version of the library behind it.
    The registry and the interface are left out: they hand numbers on and make none.
    """
    digest = hashlib.sha256()
    for text in sorted(_sources(cls)):
        digest.update(hashlib.sha256(text.encode()).digest())
    for text in getattr(cls, "depends_on", ()):
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def imported_packages(cls: type[Forecaster]) -> set[str]:
    """Name the top-level packages that the same files import, at the top or inside functions."""
    found: set[str] = set()
    for text in _sources(cls):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _sources(cls: type[Forecaster]) -> set[str]:
    if cls not in _read:
        _read[cls] = _with_imports(_files(cls))
    return _read[cls]


def _files(cls: type[Forecaster]) -> set[Path]:
    return {
        Path(inspect.getfile(base))
        for base in cls.__mro__
        if issubclass(base, Forecaster) and base.__module__ != Forecaster.__module__
    }


def _with_imports(files: set[Path]) -> set[str]:
    """Return the sources of the files and of all modules of this room that they import."""
    pending, seen, sources = list(files), set(files), []
    while pending:
        source = pending.pop().read_text(encoding="utf-8")
        sources.append(source)
        for node in ast.walk(ast.parse(source)):
            name = node.module if isinstance(node, ast.ImportFrom) else None
            if name is None or not name.startswith(_ROOM):
                continue
            if name in (f"{_ROOM}registry", f"{_ROOM}forecaster"):
                continue
            spec = find_spec(name)
            path = Path(spec.origin) if spec is not None and spec.origin else None
            if path is not None and path not in seen:
                seen.add(path)
                pending.append(path)
    return set(sources)
