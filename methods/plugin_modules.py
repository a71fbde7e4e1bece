"""Loading a plugin's file and the modules that lie beside it.

Its modules are found before they run, and run as they were when they were found: results are kept
under a hash of that code. Compiled files that Python keeps are passed over, for they are told from
outdated ones by size and whole seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from weightcast.datasets.errors import InputError
from weightcast.datasets.own_code import (
    as_loaded,
    find_module,
    is_installed,
    own_imports,
    place_of,
    source,
)


def execute(path: Path, in_use: Collection[str] = ()) -> None:
    """Run a plugin's file; modules beside it, in whatever folders, can be imported from it.

    Parameters
    ----------
    path : Path
    in_use : collection of str
        Names, as modules, of the plugins that are loaded already and keep their own modules.

    Raises
    ------
    InputError
        If a name among them has another meaning already.
    """
    name = plugin_name(path)
    _let_go(set(_finder.loads) - {name, *in_use})
    # Of an earlier time, if it is run again.
    before = {file: as_loaded.pop(file, b"") for file in _finder.loads.pop(name, ())}
    found = _modules(path)
    _check_names(path, found)
    files = [path, *found.values()]
    as_loaded.update({file: source(file) for file in files})
    if any(as_loaded.get(file) != was for file, was in before.items()):
        for each in found:
            sys.modules.pop(each, None)
    _finder.files |= found
    _finder.owners |= dict.fromkeys(found, name)
    _finder.loads[name] = files
    spec = _spec(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickled forecasters look their class up here
    assert spec.loader is not None
    spec.loader.exec_module(module)


def plugin_name(path: Path) -> str:
    """Return the name that a plugin's file has as a module."""
    return "weightcast_plugin_" + hashlib.sha256(str(path).encode()).hexdigest()[:12]


def plugin_files(path: Path) -> dict[str, bytes]:
    """Return a plugin's file and all modules of its own, by the paths that they need elsewhere."""
    path = path.resolve()
    files = {path.name: source(path)}
    for name, file in _modules(path).items():
        if not file.is_dir():
            place = name.replace(".", "/")
            ending = "".join(file.suffixes) if file.stem != "__init__" else f"/{file.name}"
            files[place + ending] = source(file)
    return files


def _modules(path: Path) -> dict[str, Path]:
    """Find a plugin's own modules, but for those of this package, which are everywhere."""
    found = own_imports(plugin_name(path), path, [path.parent])
    return {name: file for name, file in found.items() if not name.startswith("weightcast.")}


def _let_go(plugins: Collection[str]) -> None:
    """Forget the modules of plugins that nobody uses any more."""
    for plugin in plugins:
        for file in _finder.loads.pop(plugin):
            as_loaded.pop(file, None)
    for name, owner in list(_finder.owners.items()):
        if owner in plugins:
            del _finder.owners[name], _finder.files[name]
            sys.modules.pop(name, None)


def _check_names(path: Path, found: dict[str, Path]) -> None:
    for name, file in found.items():
        spec = find_module(name) if "." not in name else None
        other = place_of(spec) if spec is not None else None
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).resolve() != file:
            other = Path(loaded).resolve()
        elif other is not None and not is_installed(other) and name not in _finder.files:
            other = None  # another folder of PYTHONPATH has one, too
        if other not in (None, file):
            raise InputError(
                f"plugin {path} imports {name}, for which there are both {file} and {other}; "
                "rename the one that is the plugin's"
            )


class _Finder(MetaPathFinder):
    """Finds the modules of plugins, and nothing else that lies beside them."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        #: The plugin, by its name as a module, that each was found for last.
        self.owners: dict[str, str] = {}
        #: Each plugin's files.
        self.loads: dict[str, list[Path]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return _spec(fullname, self.files[fullname]) if fullname in self.files else None


class _AsFound(SourceFileLoader):
    """Runs the source that was found, and no compiled file that may be older."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(source(Path(path)), path)


def _spec(name: str, file: Path) -> ModuleSpec:
    if file.is_dir():
        spec: ModuleSpec | None = ModuleSpec(name, None, is_package=True)
        assert spec is not None
        spec.submodule_search_locations = [str(file)]
        return spec
    loader = _AsFound(name, str(file)) if file.suffix == ".py" else None
    inside = [str(file.parent)] if file.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(
        name, file, loader=loader, submodule_search_locations=inside
    )
    if spec is None:
        raise InputError(f"{file} is not a Python file")
    return spec


_finder = _Finder()
sys.meta_path.insert(0, _finder)
