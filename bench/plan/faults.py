"""All that is wrong with a suite file, each with its line and what would do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from weightcast.bench.plan.schema import in_words, spec_at
from weightcast.bench.plan.toml_lines import Place, line_of, toml_lines
from weightcast.datasets.errors import InputError, unknown


class Fault(NamedTuple):
    """Something wrong at a place of a file."""

    place: Place
    why: str


def refused(path: Path | str, text: str, faults: Iterable[Fault]) -> InputError:
    """Make the error that names all faults of a file, in the order of their lines.

    Parameters
    ----------
    path : Path
    text : str
        What is in the file.
    faults : iterable of Fault
        At least one.
    """
    try:
        lines = toml_lines(text)
    except (RecursionError, ValueError, IndexError):  # thousands of brackets
        lines = {}
    placed = [(line_of(lines, fault.place), fault) for fault in faults]
    placed.sort(key=lambda one: one[0] or 0)
    said = list(dict.fromkeys(_line(number, fault) for number, fault in placed))
    head = f"{path} is not a suite"
    if len(said) == 1:
        return InputError(f"{head}: {said[0]}")
    return InputError(f"{head}; {len(said)} errors", *said)


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Return what a model found wrong, in words of the file."""
    found = []
    for one in error.errors(include_url=False):
        place = tuple(step for step in one["loc"] if step != "[key]")
        found.append(Fault(place, _why(one, place, model)))
    return found


def _why(one: Any, place: Place, model: type[BaseModel]) -> str:
    if one["type"] == "extra_forbidden":
        known = spec_at(model, place[:-1]).get("properties", {})
        return str(unknown("key", str(place[-1]), known))
    spec = spec_at(model, place)
    takes = in_words(spec)
    if one["type"] == "missing":
        return f"is missing; it has to be {takes}"
    if one["type"] == "value_error":
        return str(one["ctx"]["error"])
    given = _shown(one["input"])
    return f"is {given}, and has to be {takes}" if takes else f"{one['msg']}, not {given}"


def _line(number: int | None, fault: Fault) -> str:
    name = ".".join(map(str, fault.place))
    at = f"line {number}: " if number else ""
    return f"{at}{name}: {fault.why}" if name else f"{at}{fault.why}"


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def at_names(names: Sequence[Any], place: Place, check: Any, star: str = "*") -> list[Fault]:
    """Return a fault for each name of a list that a check raises an `InputError` for."""
    found = []
    for index, name in enumerate(names):
        if isinstance(name, str) and name != star:
            try:
                check(name)
            except InputError as error:
                found.append(Fault((*place, index), str(error)))
    return found
