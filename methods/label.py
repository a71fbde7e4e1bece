"""A method's name with parameters, as leaderboards print it: `nino-mlp(state=weights.pt)`."""

from __future__ import annotations

import ast
from typing import Any

from weightcast.datasets.errors import InputError
from weightcast.methods.adapter_name import is_adapter_name, split_names


def parse_label(label: str) -> tuple[str, dict[str, Any]]:
    """Take a label apart into the registered name and the parameters that are asked for.

    A value is a Python literal, or else the text as it stands, as it is printed. An adapter's name
    has its parameters within it and comes back whole.

    Raises
    ------
    InputError
        If what is in brackets is not parameters with their values.

    Examples
    --------
    >>> parse_label("lfd2-grad(weight=10.0)"), parse_label("lfd2")
    (('lfd2-grad', {'weight': 10.0}), ('lfd2', {}))
    >>> parse_label("nino-mlp(state=my weights.pt)")
    ('nino-mlp', {'state': 'my weights.pt'})
    >>> parse_label("sklearn:Ridge(alpha=1.0)")
    ('sklearn:Ridge(alpha=1.0)', {})
    """
    name, bracket, rest = label.strip().partition("(")
    if not bracket or is_adapter_name(label):
        return label.strip(), {}
    name = name.strip()
    if not rest.endswith(")"):
        raise InputError(f"method '{label}' has a bracket that does not close at its end")
    params: dict[str, Any] = {}
    for part in split_names(rest[:-1]):
        key, equals, text = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise InputError(
                f"method '{label}': '{part}' is not a parameter with its value; write e.g. "
                f"{name}(alpha=1.0)"
            )
        if key.strip() in params:
            raise InputError(f"method '{label}' gives {key.strip()} twice")
        params[key.strip()] = _value(text.strip())
    return name, params


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
