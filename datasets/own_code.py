"""The modules of its own that a file imports: found by reading, without running any of them.

Its own are those that are neither the standard library's nor installed by others: modules beside a
plugin, those on ``PYTHONPATH``, the other modules of an installed plugin's package, and the methods
of this package.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_ROOM = "weightcast.methods"
#: They hand numbers on and make none.
_NO_CODE = (f"{_ROOM}.registry", f"{_ROOM}.forecaster")
_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]

#: Installed packages that were met; they stay installed.
_others: set[str] = set()
#: What files held when their code was loaded; what they change to later is not what runs.
as_loaded: dict[Path, bytes] = {}


def source(path: Path) -> bytes:
    """Return a file's source as it was loaded; nothing for a folder."""
    if path in as_loaded:
        return as_loaded[path]
    return b"" if path.is_dir() else path.read_bytes()


def own_imports(name: str, path: Path, beside: Iterable[Path] = ()) -> dict[str, Path]:
    """Find the modules of its own that a file imports, and those that they import.

    Parameters
    ----------
    name : str
        The file's own name as a module.
    path : Path
    beside : iterable of Path
        Folders where modules are looked for first.

    Returns
    -------
    dict of str to Path
        Files, or folders that are packages without one, by the names under which they are imported;
        the file itself is not among them.
    """
    found: dict[str, Path] = {}
    pending = [(name, path)]
    top = name.partition(".")[0]
    while pending:
        importer, file = pending.pop()
        package = importer if file.stem == "__init__" else importer.rpartition(".")[0]
        for wanted in imported_names(source(file), package):
            for each, where in _own(wanted, top, tuple(beside)):
                if each not in found and where != path:
                    found[each] = where
                    pending.append((each, where))
    return found


@lru_cache(maxsize=1024)  # methods share modules
def imported_names(content: bytes, package: str = "") -> frozenset[str]:
    """Name all modules that a source may import, at the top or inside functions.

    Parameters
    ----------
    content : bytes
    package : str
        What relative imports start from.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError):  # compiled code, say
            return frozenset()
    names = {name for node in ast.walk(tree) for name in _named_in(node, package)}
    return frozenset(name for name in names if all(name.split(".")))


def _named_in(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node.module or "", node.level, package)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)  # perhaps a module, too
    elif isinstance(node, ast.Call) and node.args and _is_import(node.func):
        said = node.args[0]
        if isinstance(said, ast.Constant) and isinstance(said.value, str):
            yield said.value


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    above = package.split(".")
    return ".".join([*above[: len(above) - level + 1], *filter(None, [module])])


def _is_import(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _own(name: str, top: str, beside: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Find a module of one's own and the packages that it lies in, which run before it."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names or parts[0] in _others:
        return
    if parts[0] == "weightcast" and not name.startswith(f"{_ROOM}."):
        return
    within: Sequence[str] | None = None
    for count in range(1, len(parts) + 1):
        each = ".".join(parts[:count])
        spec = find_module(each, within, () if within else beside)
        if spec is None:
            return
        path = place_of(spec)
        if path is not None and _is_own(each, path, top):
            yield each, path
        elif parts[0] != "weightcast":
            _others.add(parts[0])
            return
        if spec.submodule_search_locations is None:
            return
        within = list(spec.submodule_search_locations)


def _is_own(name: str, path: Path, top: str) -> bool:
    first = name.partition(".")[0]
    if first == "weightcast":
        return name.startswith(f"{_ROOM}.") and name not in _NO_CODE
    return first == top or not is_installed(path)


def is_installed(path: Path) -> bool:
    """Whether a file is the standard library's, or was installed."""
    return bool(_INSTALLED & set(path.parts)) or any(map(path.is_relative_to, _STANDARD))


def find_module(
    name: str, within: Sequence[str] | None = None, beside: Iterable[Path] = ()
) -> ModuleSpec | None:
    """Find a module as an import would, but import nothing, not even the package it lies in.

    Parameters
    ----------
    name : str
    within : sequence of str, optional
        Where its package lies.
    beside : iterable of Path
        Folders to look in first.
    """
    folders = [str(folder) for folder in beside] or list(within or ())
    near = None
    # Of a folder without __init__.py in a package Python looks that up, which is not imported.
    with suppress(KeyError):
        near = PathFinder.find_spec(name, folders) if folders else None
    if near is not None and near.has_location:
        return near
    if name.startswith("weightcast") and name in sys.modules:
        return sys.modules[name].__spec__
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        with suppress(KeyError):
            spec: ModuleSpec | None = find(name, within) if find is not None else None
            if spec is not None:
                return spec
    return near or _folder(name, within or ())


def _folder(name: str, within: Sequence[str]) -> ModuleSpec | None:
    """Describe a package that is a mere folder."""
    last = name.rpartition(".")[2]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [
        str(Path(folder) / last) for folder in within if (Path(folder) / last).is_dir()
    ]
    return spec if spec.submodule_search_locations else None


def place_of(spec: ModuleSpec) -> Path | None:
    """Return a module's file, a package's folder where it has no file; None for built-in ones."""
    if spec.has_location and spec.origin:
        return Path(spec.origin).resolve()
    return next((Path(folder).resolve() for folder in spec.submodule_search_locations or ()), None)
