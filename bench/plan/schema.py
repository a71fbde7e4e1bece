"""What each key of a suite file takes, in words: from the models, for messages and pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import AfterValidator, BaseModel
from pydantic.json_schema import WithJsonSchema

from weightcast.bench.plan.toml_lines import Place
from weightcast.datasets.errors import unknown

Spec = dict[str, Any]


class Key(NamedTuple):
    """A key of a model: its name, what it takes, and its default as TOML, empty if it needs one."""

    name: str
    takes: str
    default: str


def keys_of(model: type[BaseModel]) -> list[Key]:
    """Return what each key of a model takes.

    Examples
    --------
    >>> from weightcast.bench.plan.suite import Shift
    >>> keys_of(Shift)[-1]
    Key(name='every', takes='a whole number from 1 on', default='1')
    """
    whole = model.model_json_schema()
    required = whole.get("required", ())
    return [
        Key(
            name,
            in_words(spec),
            "" if name in required or "$ref" in spec else _as_toml(spec.get("default", {})),
        )
        for name, spec in whole["properties"].items()
    ]


def spec_at(model: type[BaseModel], place: Place) -> Spec:
    """Return what stands in the schema of what is at a place of a file; empty for nothing known."""
    whole = model.model_json_schema()
    spec: Spec = whole
    for step in place:
        spec = _resolved(spec, whole)
        if isinstance(step, int):
            spec = spec.get("items", {})
        else:
            inside = spec.get("properties", {})
            spec = inside.get(step) or spec.get("additionalProperties") or {}
    return _resolved(spec, whole)


def in_words(spec: Spec) -> str:
    """Say what a value has to be; empty where anything will do.

    Examples
    --------
    >>> in_words({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2})
    'a list of "a" or "b", 2 at the most'
    """
    if "takes" in spec:
        return str(spec["takes"])
    if "anyOf" in spec:  # what may be left out
        return in_words(next(one for one in spec["anyOf"] if one.get("type") != "null"))
    if "enum" in spec or "const" in spec:
        choices = [json.dumps(one) for one in spec.get("enum", [spec.get("const")])]
        return " or ".join([", ".join(choices[:-1]), choices[-1]] if choices[1:] else choices)
    kind = "object" if "$ref" in spec else spec.get("type")
    if kind == "array":
        return _list(spec)
    if kind in ("integer", "number"):
        return f"a {'whole ' if kind == 'integer' else ''}number{_range(spec)}"
    return {"boolean": "true or false", "string": "a text", "object": "a table"}.get(str(kind), "")


def choice(what: str, choices: Iterable[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """Return what makes a text in a model one of some names, to unpack into ``Annotated``."""
    known = list(choices)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(str(unknown(what, value, known)))
        return value

    return AfterValidator(check), WithJsonSchema({"enum": known})


def checked(takes: str, check: Callable[[str], str]) -> tuple[AfterValidator, WithJsonSchema]:
    """Return what holds a text in a model to a check, with words for what it takes."""
    return AfterValidator(check), WithJsonSchema({"type": "string", "takes": takes})


def _resolved(spec: Spec, whole: Spec) -> Spec:
    if "anyOf" in spec:
        spec = next(one for one in spec["anyOf"] if one.get("type") != "null")
    if "$ref" in spec:
        spec = whole["$defs"][spec["$ref"].rpartition("/")[2]]
    return spec


def _range(spec: Spec) -> str:
    least, above = spec.get("minimum"), spec.get("exclusiveMinimum")
    most = spec.get("maximum")
    if most is None and "exclusiveMaximum" in spec and spec["type"] == "integer":
        most = spec["exclusiveMaximum"] - 1
    if above is not None:
        return f" above {above:,}" + (f", up to {most:,}" if most is not None else "")
    if least is None:
        return ""
    return f" from {least:,}" + (f" to {most:,}" if most is not None else " on")


def _list(spec: Spec) -> str:
    inner = spec["items"]
    plural = {"string": "texts", "integer": "whole numbers", "number": "numbers"}
    if "$ref" in inner:
        of = "tables"
    elif {"enum", "takes"} & set(inner):
        of = in_words(inner)
    else:
        of = f"{plural[inner['type']]}{_range(inner)}"
    ends = [
        f"{spec[key]} at {said}"
        for key, said in (("minItems", "the least"), ("maxItems", "the most"))
        if key in spec
    ]
    return ", ".join([f"a list of {of}", *ends])


def _as_toml(value: Any) -> str:
    """Write a default as a file would have it, and nothing for what is simply left out.

    Examples
    --------
    >>> _as_toml({"sgd": [0.1]}), _as_toml(None)
    ('{ sgd = [0.1] }', '')
    """
    if value is None:
        return ""
    if isinstance(value, dict):
        inside = ", ".join(f"{name} = {_as_toml(inner)}" for name, inner in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.dumps(value)
