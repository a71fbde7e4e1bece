"""What a method says of itself, kept with its results: they can be read where it is not."""

from __future__ import annotations

import inspect
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from weightcast.bench.plan.loop_settings import CONTROLS
from weightcast.datasets import InputError
from weightcast.methods import get_method
from weightcast.methods.code import code_hash, imported_packages
from weightcast.methods.forecaster import Forecaster
from weightcast.methods.registry import implementation, provenance

#: What texts of an author's may be long.
_LONGEST = 2000
_FILE = "weightcast_plugin_"

Text = Annotated[str, Field(max_length=_LONGEST)]


class MethodFacts(BaseModel):
    """A method's tags and origin, as they were when its results were made.

    Attributes
    ----------
    provenance : str
        Where its knowledge comes from; of a published network that was handed over, ``zero-shot``.
    implementation : str
        Whose work its rows are.
    role : str
        ``"forecaster"`` or ``"reference"``.
    what : str
        The first line of its class's documentation.
    reference, licence, tested_against : str
    native_context : int, optional
        The snapshots that it was made to see.
    native_spacing : int or str, optional
        Steps between them, or ``"epoch"``.
    random : bool
        Whether fitting draws random numbers.
    packages : list of str
        Top-level packages that its code imports, those of Python's own library left out.
    origin : str
        The package with its version, or the name of the plugin's file.
    code : str
        SHA-256 of its code.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    provenance: Text
    implementation: Text
    role: Text
    what: Text
    reference: Text
    licence: Text
    tested_against: Text
    native_context: int | None
    native_spacing: int | Text | None
    random: bool
    packages: list[Text]
    origin: Text
    code: Text


_told: dict[tuple[str, str, type[Forecaster]], MethodFacts] = {}


def facts_of(method: str, params: str) -> MethodFacts | None:
    """Return what a method says of itself here.

    Parameters
    ----------
    method : str
    params : str
        As JSON.

    Returns
    -------
    MethodFacts, optional
        None for plain training's controls, and for a method that is not registered here.

    Examples
    --------
    >>> facts_of("ols-line", "{}").provenance
    'zero-shot'
    """
    if method in CONTROLS:
        return None
    try:
        cls = get_method(method)
    except InputError:
        return None
    # A plugin's file that is executed again registers another class under the same name.
    if (method, params, cls) not in _told:
        _told[method, params, cls] = _facts(method, params, cls)
    return _told[method, params, cls]


def _facts(method: str, params: str, cls: type[Forecaster]) -> MethodFacts:
    given = json.loads(params)
    tag = cls.get_class_tag
    return MethodFacts(
        provenance=provenance(method, given),
        implementation=implementation(method, given),
        role=_text(tag("role", "forecaster")),
        what=_text((inspect.getdoc(cls) or "").partition("\n")[0]),
        reference=_text(tag("reference", "")),
        licence=_text(tag("licence", "")),
        tested_against=_text(tag("tested_against", "")),
        native_context=_whole(tag("native_context")),
        native_spacing=_spacing(tag("native_spacing")),
        random=bool(tag("random")),
        packages=sorted(imported_packages(cls) - sys.stdlib_module_names),
        origin=_origin(cls),
        code=code_hash(cls),
    )


def _text(said: Any) -> str:
    """What an author wrote, whatever it is, at a length that can be kept."""
    return str(said or "")[:_LONGEST]


def _whole(said: Any) -> int | None:
    return int(said) if isinstance(said, int) else None


def _spacing(said: Any) -> int | str | None:
    return said if isinstance(said, int) else _text(said) or None


def _origin(cls: type[Forecaster]) -> str:
    package = cls.__module__.partition(".")[0]
    if package.startswith(_FILE):
        return Path(inspect.getfile(cls)).name
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # a distribution may have another name than what it holds
        return package
