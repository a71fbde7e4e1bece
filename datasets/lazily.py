"""Names that a package offers and loads when they are first asked for.

To import a module is to import the packages above it. Packages whose names load lazily cost
nothing then, and so the command line starts without numpy.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def names_from(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a package's ``__getattr__``.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    places : mapping of str to str
        Where each name is defined: a module below the package.

    Examples
    --------
    >>> load = names_from("weightcast.datasets", {"InputError": "errors"})
    >>> load("InputError").__name__
    'InputError'
    """

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        found = getattr(importlib.import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return load
