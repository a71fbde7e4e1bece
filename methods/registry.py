"""Every method by name: those of the package, of installed plugins and of plugin files.

A plugin is a module that registers forecasters when it is imported: installed, under the entry
point group ``weightcast.methods``; or a file, named with ``--plugin FILE.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from weightcast.datasets.errors import InputError, unknown
from weightcast.datasets.foreign_code import foreign_code, load_entry_points
from weightcast.methods.adapter_name import LIBRARIES, is_adapter_name, parse_adapter_name
from weightcast.methods.forecaster import PROVENANCES, Forecaster
from weightcast.methods.label import parse_label
from weightcast.methods.plugin_modules import execute

BUILTIN = (
    "last_value",
    "last_two_line",
    "ols_line",
    "damped_line",
    "lfd2",
    "lfd2_ols",
    "lfd2_grad",
    "lfd_full",
    "dlinear",
    "nlinear",
    "ar1",
    "ar",
    "aitken",
    "annealed",
    "exponential",
    "dmd",
    "rre",
    "snapshot_average",
    "quadratic",
    "merge_line",
    "weight_merge",
    "bema",
    "svd_line",
    "arima",
    "theta",
    "lstm",
    "transformer",
    "patchtst",
    "flow",
    "introspection",
    "wnn",
    "nino_mlp",
    "line_search",
    "logit_scale",
    "fixed_step",
    "oracle_line",
    "mean_displacement",
)

ForecasterType = TypeVar("ForecasterType", bound=type[Forecaster])
_METHODS: dict[str, type[Forecaster]] = {}
_loaded = False
_adapted: dict[str, type[Forecaster]] = {}


def register(name: str) -> Callable[[ForecasterType], ForecasterType]:
    """Register a forecaster class under a kebab-case name.

    Raises
    ------
    InputError
        If the name is taken or malformed, or the class is not a forecaster.
    """

    def add(cls: ForecasterType) -> ForecasterType:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise InputError(f"method name '{name}' is not kebab-case, e.g. my-method")
        if not (inspect.isclass(cls) and issubclass(cls, Forecaster)):
            raise InputError(f"'{name}' is not a CoordinateForecaster or NetworkForecaster")
        provenance = cls.get_class_tag("provenance")
        if provenance not in PROVENANCES:
            raise unknown("provenance", str(provenance), PROVENANCES)
        other = _METHODS.get(name)
        # A plugin file executed again in the same process registers an equal class anew.
        if other is not None and _origin(other) != _origin(cls):
            raise InputError(f"a method named '{name}' is registered already; choose another name")
        _METHODS[name] = cls
        return cls

    return add


def all_methods() -> dict[str, type[Forecaster]]:
    """Return every registered method's class by name."""
    global _loaded
    if not _loaded:
        _loaded = True
        for module in BUILTIN:
            importlib.import_module(f"weightcast.methods.{module}")
        load_entry_points("weightcast.methods", _METHODS)
    return dict(_METHODS)


def get_method(name: str) -> type[Forecaster]:
    """Look a method's class up, or make that of an adapter's name, ``sklearn:Ridge(alpha=0.1)``.

    Of a label with parameters, ``lfd2-grad(weight=1.0)``, it is the class of the name.

    Raises
    ------
    InputError
        If there is none of that name; close matches are named.
    """
    if is_adapter_name(name):
        return _adapt(name)
    known = all_methods()
    bare, _ = parse_label(name)
    if bare not in known:
        raise InputError(
            f"{unknown('method', bare, known)}; one of your own needs --plugin FILE.py"
        )
    return known[bare]


def is_reference(name: str) -> bool:
    """Whether a method is a reference: there to be measured against, no forecaster itself."""
    return bool(method_tag(name, "role", "forecaster") == "reference")


def implementation(name: str, params: Mapping[str, Any]) -> str:
    """Say whose work a method's row is: one of `IMPLEMENTATIONS`, ``?`` where it is not known here.

    A published network is retrained here, unless its parameters name a ``state``: then it has its
    authors' weights.
    """
    if is_adapter_name(name):
        return "library"
    said = str(method_tag(name, "implementation", "?"))
    return "authors' weights" if said == "retrained here" and params.get("state") else said


def provenance(name: str, params: Mapping[str, Any]) -> str:
    """Say where a method's knowledge comes from: one of `PROVENANCES`, ``?`` where it is not known.

    A published network whose parameters name its ``state`` has seen none of our runs.
    """
    said = str(method_tag(name, "provenance", "?"))
    published = implementation(name, params) == "authors' weights"
    return "zero-shot" if published else said


def method_tag(name: str, tag: str, default: Any = None) -> Any:
    """Return a method's tag, the default for a method that is not registered here.

    Nothing of the library behind an adapter is loaded.
    """
    if is_adapter_name(name):
        library = name.partition(":")[0]
        cls = _adapter_module(library).BASE if library in LIBRARIES else None
    else:
        cls = all_methods().get(parse_label(name)[0])
    return default if cls is None else cls.get_class_tag(tag, default)


def make_method(name: str, params: dict[str, Any] | None = None) -> Forecaster:
    """Make a method with parameters of one's own, before which those of a label stand back.

    Raises
    ------
    InputError
        If the name or a parameter is unknown.
    """
    cls = get_method(name)
    known = cls.get_param_names()
    name, own = parse_label(name)
    params = own | (params or {})
    for key in params:
        if key not in known:
            if is_adapter_name(name):
                raise InputError(
                    f"'{key}' is no parameter of the adapter, which has "
                    f"{', '.join(known) or 'none'}; what {name.partition('(')[0]} itself is to "
                    f"have goes into its name, e.g. {name.partition('(')[0]}({key}=...)"
                )
            raise unknown(f"parameter of {name}", key, known)
    return cls(**params)


def load_plugin(path: str | Path) -> list[str]:
    """Execute a plugin file and return the names of the methods it registers.

    It may import modules and packages that lie beside it, and register data sets too, or nothing
    but data sets.

    Raises
    ------
    InputError
        If the file is missing, fails, or registers nothing.
    """
    from weightcast.datasets.registry import all_datasets

    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"there is no plugin file {path}")
    all_methods()
    before, data_sets = dict(_METHODS), set(all_datasets())
    with foreign_code(f"plugin {path}"):
        execute(path, {cls.__module__ for cls in _METHODS.values()})
    added = [key for key, cls in _METHODS.items() if before.get(key) is not cls]
    if not added and set(all_datasets()) == data_sets:
        raise InputError(
            f'{path} registers no method; decorate a forecaster with @register("name")'
        )
    return added


def _adapter_module(library: str) -> Any:
    return importlib.import_module(f"weightcast.methods.{LIBRARIES[library]}")


def _adapt(name: str) -> type[Forecaster]:
    spec = parse_adapter_name(name)
    if str(spec) not in _adapted:
        _adapted[str(spec)] = _adapter_module(spec.library).adapt(spec)
    return _adapted[str(spec)]


def _origin(cls: type[Forecaster]) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__
