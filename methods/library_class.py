"""Finding a class of an installed library by its name, without importing all of the library."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightcast.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    from weightcast.methods.adapter_name import AdapterName

#: Folders of a library that hold no class to use.
_ASIDE = {"tests", "_mocks", "externals", "libs", "__pycache__"}


@contextmanager
def silence() -> Iterator[None]:
    """Keep a library's warnings from the user, who can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_class(
    spec: AdapterName,
    package: str,
    kind: str,
    fits: Callable[[type], bool],
    names: Callable[[], Iterable[str]],
) -> Any:
    """Find a class of a library.

    Parameters
    ----------
    spec : AdapterName
    package : str
        Where it is looked for, with all subpackages.
    kind : str
        What it has to be, e.g. ``"regressor"``.
    fits : callable
        Whether a class is that.
    names : callable
        All names of that kind; slow, and asked only where the class is not found.

    Raises
    ------
    InputError
        If there is none; close matches are named.
    """
    other = None
    for module in _modules_with(package, spec.class_name):
        try:
            with silence():
                cls = getattr(importlib.import_module(module), spec.class_name, None)
        except Exception:  # a module whose own requirements are not here
            continue
        if not inspect.isclass(cls) or spec.class_name.startswith(("_", "Base")):
            continue
        if fits(cls) and not inspect.isabstract(cls):
            return cls
        other = cls
    if other is not None:
        raise InputError(f"{spec.library}:{spec.class_name} is not a {kind}")
    raise unknown(f"{spec.library} {kind}", spec.class_name, _close(spec.class_name, names()))


def make_instance(cls: Any, spec: AdapterName, known: Iterable[str]) -> Any:
    """Make an instance with the parameters of a name.

    Raises
    ------
    InputError
        If a parameter is unknown, missing or refused, or the class needs a package that is not
        here.
    """
    names = list(known)
    for key in spec.params:
        if key not in names:
            raise unknown(f"parameter of {spec.library}:{spec.class_name}", key, names)
    try:
        with silence():
            return cls(**spec.params)
    except ImportError as error:
        raise InputError(
            f"{spec.library}:{spec.class_name} needs a package that is not installed: "
            f"{_one_line(error)}"
        ) from None
    except Exception as error:
        raise InputError(f"{spec} cannot be made: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _modules_with(package: str, name: str) -> list[str]:
    """List the modules of a package that define a class of this name, by reading their text."""
    spec = find_spec(package)
    roots = list(spec.submodule_search_locations or []) if spec is not None else []
    defines = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    found = []
    for root in roots:
        for path in sorted(Path(root).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if _ASIDE.isdisjoint(parts) and defines.search(
                path.read_text(encoding="utf-8", errors="replace")
            ):
                inner = parts[:-1] if parts[-1] == "__init__" else parts
                found.append(".".join((package, *inner)))
    return found


def _close(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that resemble one, all of them where none does."""
    import difflib

    known = list(names)
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=8, cutoff=0.5)
    return [lower[other] for other in close] or known
