"""What rows of a store must hold: strict models, for a store may come from anywhere."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from weightcast.bench.plan.method_facts import MethodFacts
from weightcast.datasets.errors import InputError

#: Metrics that are words; all others are numbers.
_WORDS = ("batch_norm", "steps_gained_censored", "horizons")
_RANGES = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")


def _parsed(text: Any) -> Any:
    if not isinstance(text, str):
        raise ValueError("is no text")
    try:
        return from_json(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def _numbers(text: Any) -> Any:
    """Parse what holds numbers and no long texts: what is no number has no place in it."""
    if isinstance(text, str) and "NaN" in text:
        raise ValueError("is not a number")
    return _parsed(text)


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValueError("is not a number")
    return value


@lru_cache(maxsize=4096)
def _misfit(names: tuple[str, ...], kinds: tuple[type, ...]) -> str:
    """Say what is wrong with metrics of these names and types; rows come in few kinds."""
    for name, kind in zip(names, kinds, strict=True):
        if (kind is str) != name.startswith(_WORDS):
            return f"{name} is {'no' if kind is str else 'a'} number"
    return ""


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    if misfit := _misfit(tuple(found), tuple(map(type, found.values()))):
        raise ValueError(misfit)
    if "horizons" in found and not _RANGES.fullmatch(found["horizons"]):
        raise ValueError("horizons are no ranges")
    return found


def is_metrics(found: dict[str, Any]) -> bool:
    """Say whether a parsed object holds metrics as `StoredCell` wants them."""
    kinds = tuple(map(type, found.values()))
    return (
        _are_values(kinds)
        and not _misfit(tuple(found), kinds)
        and ("horizons" not in found or bool(_RANGES.fullmatch(found["horizons"])))
    )


@lru_cache(maxsize=4096)
def _are_values(kinds: tuple[type, ...]) -> bool:
    return set(kinds) <= {float, int, str}


Number = Annotated[float, AfterValidator(_number)]
Count = Annotated[int, Field(ge=0)]
Word = Annotated[str, Field(min_length=1)]
Object = Annotated[dict[str, Any], BeforeValidator(_parsed)]
Metrics = Annotated[
    dict[str, float | int | str], BeforeValidator(_numbers), AfterValidator(_metrics)
]
Curve = Annotated[list[float | None], BeforeValidator(_numbers)]


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Trial(BaseModel):
    """One configuration that tuning tried."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    seconds: Number = 0.0


class FitRow(_Row):
    """A row of ``fits``."""

    key: Word
    suite: Word
    method: Word
    params: Object
    chosen: Object
    trials: Annotated[list[Trial], BeforeValidator(_parsed)]
    dataset: Word
    trained_on: Word
    track: Word
    split: Word
    context: Count
    rotation: Count
    repeat: Count
    status: Word
    reason: str
    traceback: str
    fit_seconds: Number | None
    fit_cpu_seconds: Number | None
    fit_memory_bytes: int | None
    training_runs_seconds: Number
    parameters: Count | None
    flops_per_coordinate: Number | None
    diagnostics: Annotated[Any, BeforeValidator(_parsed)]
    jobs: Count
    threads: Count
    machine: str


class StoredCell(_Row):
    """A row of ``cells``, as results are read."""

    fit: Word
    run: int
    tier: Word
    horizon_set: Annotated[str, Field(pattern="^(common|native)$")]
    status: Word
    reason: str
    traceback: str
    coverage: Annotated[float, Field(ge=0, le=1)] | None
    coordinates: Count | None
    metrics: Metrics
    curve: Curve
    predict_seconds: Number | None
    predict_cpu_seconds: Number | None
    peak_memory_bytes: int | None
    evaluations: Count
    network_seconds: Number | None
    scoring_seconds: Number | None
    cell_seconds: Number | None
    fit_seconds: Number | None
    fit_cpu_seconds: Number | None
    fit_memory_bytes: int | None
    jobs: Count

    @model_validator(mode="after")
    def _native_has_horizons(self) -> StoredCell:
        if self.horizon_set == "native" and "horizons" not in self.metrics:
            raise ValueError("a row at native horizons does not name them")
        return self


class Jump(_Row):
    """A jump of a run of the loop tier."""

    step: Count
    before: Number | None
    after: Number | None
    accepted: bool
    seconds: Number
    forwards: Count


class Sync(_Row):
    """Lookahead's entry, which stands for all its syncs."""

    step: Count
    every: Annotated[int, Field(ge=1)]
    seconds: Number


class Reading(_Row):
    """A read-out's entry, which stands for all its forecasts."""

    step: Count
    reads: Annotated[int, Field(ge=1)]
    seconds: Number


def _measured(found: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
    if not found:
        return found
    steps = found.get("step", [])
    if not steps or any(not isinstance(step, int) or step < 0 for step in steps):
        raise ValueError("no whole steps stand with what was measured")
    if any(b <= a for a, b in pairwise(steps)):  # type: ignore[operator]
        raise ValueError("steps do not ascend")
    if any(len(values) != len(steps) for values in found.values()):
        raise ValueError("curves are not as long as their steps")
    return found


class LoopRecord(_Row):
    """A row of ``loops``: one training run."""

    key: Word
    suite: Word
    dataset: Word
    method: Word
    params: Object
    accept: Word
    use: Word
    optimizer: Word
    schedule: Word
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    pool_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    length: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    horizon: Count
    momentum: Number
    seed: int
    seed_role: Word
    status: Word
    reason: str
    traceback: str
    measured: Annotated[
        dict[str, list[int | Number | None]],
        BeforeValidator(_parsed),
        AfterValidator(_measured),
    ]
    jumps: Annotated[list[Jump | Sync | Reading], BeforeValidator(_parsed)]
    step_seconds: Annotated[float, Field(gt=0)] | None
    forward_seconds: Number | None
    fit_seconds: Number
    fit_steps: Count
    seconds: Number | None
    jobs: Count
    threads: Count
    machine: str

    @model_validator(mode="after")
    def _result_is_measured(self) -> LoopRecord:
        if self.status == "ok" and not self.measured:
            raise ValueError("a run with a result has nothing measured")
        return self


class GateRecord(_Row):
    """A row of ``gates``; NaN is kept as NULL."""

    dataset: Word
    name: Word
    passed: Annotated[int, Field(ge=0, le=1)]
    value: float | None
    limit_: Number
    meaning: str
    data: str | None


class Truth(_Row):
    """What is drawn of a run: k coordinates over T snapshots, and its path in the plane."""

    run: int
    context: Count
    coordinates: list[str]
    values: list[list[Number]]
    plane: list[Annotated[list[Number], Field(min_length=2, max_length=2)]]
    explained: Number


class Drawn(_Row):
    """What is drawn of a forecast."""

    values: list[list[float]]
    plane: list[Annotated[list[float], Field(min_length=2, max_length=2)]] | None


class ExampleRecord(_Row):
    """A row of ``examples``; the run's own has no method."""

    dataset: Word
    context: Count
    method: str
    params: str
    content: Annotated[dict[str, Any], BeforeValidator(_parsed)]

    @model_validator(mode="after")
    def _can_be_drawn(self) -> ExampleRecord:
        if self.method:
            Drawn.model_validate(self.content)
            TypeAdapter(Object).validate_python(self.params)
            return self
        truth = Truth.model_validate(self.content)
        lengths = {len(truth.plane), *(len(path) for path in truth.values)}
        if len(truth.values) != len(truth.coordinates) or len(lengths) != 1:
            raise ValueError("paths are not alike in length")
        if not truth.context < lengths.pop():
            raise ValueError("the path ends before its context")
        return self


class MachineRecord(BaseModel):
    """What a machine's row says of it."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    cpu: str | None = None
    cores: Count | None = None
    memory_bytes: Count | None = None
    system: str | None = None
    python: str | None = None
    packages: dict[str, str | None] = {}
    commit: str | None = None


class SharingRecord(_Row):
    """A row of ``sharing``."""

    dataset: Word
    trained_on: Word
    track: Word
    split: Word
    traits: Annotated[dict[str, str], BeforeValidator(_parsed)]


class MethodRecord(_Row):
    """A row of ``methods``."""

    method: Word
    params: Object
    facts: Annotated[MethodFacts, BeforeValidator(_parsed)]


def loads(text: Any) -> Any:
    """Parse a column that a model looks at afterwards; what is no JSON is nothing."""
    try:
        return _parsed(text)
    except ValueError:
        return None


def not_ours(path: Path, where: str, error: ValidationError) -> InputError:
    """Say in one line what in a store is not as Weightcast writes it."""
    return InputError(
        f"{path} is not as Weightcast writes it: {where}: {first_fault(error)}; "
        "take the folder from a copy, or run the suite into a new one"
    )


def first_fault(error: ValidationError) -> str:
    """Say where the first fault is, and what it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
