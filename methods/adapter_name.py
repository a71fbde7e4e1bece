"""The names of adapted forecasters, `library:Class(parameter=value, ...)`, read without evaluation.

`sktime:ThetaForecaster()`, `sklearn:Ridge(alpha=0.1)` or `sklearn:Ridge`: a class of the library
and literal keyword arguments. The canonical name sorts the parameters and writes every value in one
way, so that equal specifications are one method with one set of results, and others share none.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from weightcast.datasets.errors import InputError, unknown

#: Library → the module of its adapter in this room.
LIBRARIES = {"sklearn": "sklearn_adapter", "sktime": "sktime_adapter"}

_LONGEST = 2000  # a name is also a key and a label


@dataclass(frozen=True)
class AdapterName:
    """A parsed name; its text is canonical.

    Attributes
    ----------
    library, class_name : str
    params : dict of str to literal
        In ascending order of the parameters' names.

    >>> str(parse_adapter_name("sklearn:Ridge(solver='svd',  alpha=.5)"))
    "sklearn:Ridge(alpha=0.5, solver='svd')"
    >>> str(parse_adapter_name("sktime:ThetaForecaster"))
    'sktime:ThetaForecaster()'
    """

    library: str
    class_name: str
    params: dict[str, Any]

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={_literal(value)}" for key, value in self.params.items())
        return f"{self.library}:{self.class_name}({inside})"

    def with_params(self, params: dict[str, Any]) -> AdapterName:
        """Return the name with more parameters, or other values of those it has."""
        merged = self.params | params
        return AdapterName(self.library, self.class_name, dict(sorted(merged.items())))


def is_adapter_name(name: str) -> bool:
    """Whether a method's name asks for an adapter; registered names have no colon."""
    return ":" in name.partition("(")[0]


def canonical_name(name: str) -> str:
    """Return the one name of a method that its results are kept under.

    Raises
    ------
    InputError
        If an adapter's name cannot be read.
    """
    return str(parse_adapter_name(name)) if is_adapter_name(name) else name


def parse_adapter_name(name: str) -> AdapterName:
    """Read an adapter's name.

    Raises
    ------
    InputError
        If the library is not adapted, the rest is not a class with keyword arguments, or a value is
        no literal.
    """
    library, _, spec = name.partition(":")
    library = library.strip()
    if library not in LIBRARIES:
        raise unknown("library", library, LIBRARIES)
    example = f"write e.g. {library}:Class(name=1.0)"
    if len(name) > _LONGEST:
        raise InputError(f"method name '{name[:40]}...' is longer than {_LONGEST} characters")
    try:
        call = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(f"method name '{name}' cannot be read ({why}); {example}") from None
    keywords: list[ast.keyword] = []
    if isinstance(call, ast.Call):
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise InputError(f"method name '{name}': every parameter needs its name; {example}")
        keywords, call = call.keywords, call.func
    if not isinstance(call, ast.Name):
        raise InputError(f"method name '{name}' is not a class and its parameters; {example}")
    given = [keyword.arg for keyword in keywords]
    for key in given:
        if given.count(key) > 1:
            raise InputError(f"method name '{name}' gives {key} twice")
    params = {str(keyword.arg): _value(name, keyword) for keyword in keywords}
    return AdapterName(library, call.id, dict(sorted(params.items())))


def split_names(text: str) -> list[str]:
    """Cut a list at its commas, except those inside brackets and quotes; blanks are dropped.

    >>> split_names("lfd2, sklearn:MLPRegressor(hidden_layer_sizes=(32,), alpha=1),ar1")
    ['lfd2', 'sklearn:MLPRegressor(hidden_layer_sizes=(32,), alpha=1)', 'ar1']
    """
    names, depth, quote, escaped = [""], 0, "", False
    for letter in text:
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "'\"" and depth > 0:
            quote = letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0 and not quote:
            names.append("")
        else:
            names[-1] += letter
    return [name.strip() for name in names if name.strip()]


def _value(name: str, keyword: ast.keyword) -> Any:
    try:
        value = ast.literal_eval(keyword.value)
        _literal(value)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        raise InputError(
            f"method name '{name}': {keyword.arg} is not a literal; give a number, a string, True, "
            "False, None, or a tuple, list or dict of those"
        ) from None
    return value


def _literal(value: Any) -> str:
    """Write a value in the one way that its equals are written in and that reads back as it."""
    if isinstance(value, dict):
        items = sorted((_literal(key), _literal(inner)) for key, inner in value.items())
        return "{" + ", ".join(f"{key}: {inner}" for key, inner in items) + "}"
    if isinstance(value, tuple):
        inside = ", ".join(map(_literal, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and abs(value) == float("inf"):
        return "1e999" if value > 0 else "-1e999"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a name")
