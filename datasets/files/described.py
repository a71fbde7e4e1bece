"""What a trajectory's header or manifest must look like: strict models of its JSON.

No field may be there that is not named here: a misspelt or damaged name would otherwise be passed
over, and what it said be lost without a word. Sizes are held against one another before anything
of that size is made.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from weightcast.datasets.files.foreign import clipped
from weightcast.datasets.state import DTYPES, StateInfo
from weightcast.datasets.trajectory import Metadata, TensorInfo

#: Learning rates that are read, one entry a step; more would be memory for a schedule alone.
MOST_RATES = 10_000_000
#: numpy's limit.
_MOST_DIMENSIONS = 64
_INT64 = 2**63 - 1

Whole = Annotated[int, Field(ge=0, le=_INT64)]
Shape = Annotated[list[Whole], Field(max_length=_MOST_DIMENSIONS)]
Kind = Literal[
    "linear", "conv", "bias", "norm", "embedding", "attention", "recurrent", "other"
]  # fmt: skip


class Strict(BaseModel):
    """No conversions and no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def refuse_huge(shape: list[int]) -> list[int]:
    """Refuse a shape whose bytes no computer addresses, whether or not a dimension is zero."""
    if math.prod(max(1, n) for n in shape) > _INT64 // 16:
        raise ValueError("no array has as many numbers as this shape")
    return shape


class DescribedTensor(Strict):
    """One parameter tensor."""

    name: str
    shape: Shape
    kind: Kind
    depth: Whole
    tied: str | None

    _size = field_validator("shape")(refuse_huge)

    def info(self) -> TensorInfo:
        """Return it as the rest of the package knows it."""
        return TensorInfo(self.name, tuple(self.shape), self.kind, self.depth, 0, self.tied)


class DescribedState(Strict):
    """One array that a network keeps beside its trained weights."""

    name: str
    shape: Shape
    dtype: str

    _size = field_validator("shape")(refuse_huge)

    @field_validator("dtype")
    @classmethod
    def _known(cls, dtype: str) -> str:
        if dtype not in DTYPES:
            raise ValueError(f"there is no type {clipped(dtype)}")
        return dtype

    def info(self) -> StateInfo:
        """Return it as the rest of the package knows it."""
        return StateInfo(self.name, tuple(self.shape), self.dtype)


Losses = list[float]


class DescribedMetadata(Strict):
    """A `Metadata`; learning rates are pairs of a rate and for how many steps it holds."""

    dataset: str
    seed: int = Field(ge=-_INT64, le=_INT64)
    recipe: dict[str, Any] = {}
    data: str = ""
    pretrained: str = ""
    optimizer: str = "unknown"
    hyperparameters: dict[str, Any] = {}
    learning_rates: list[Annotated[list[Any], Field(min_length=2, max_length=2)]] = []
    batch_size: Annotated[int, Field(ge=1, le=_INT64)] | None = None
    steps_per_epoch: Annotated[int, Field(ge=1, le=_INT64)] | None = None
    train_loss: Losses = []
    train_accuracy: Losses = []
    test_loss: Losses = []
    test_accuracy: Losses = []
    seconds_per_step: Annotated[FiniteFloat, Field(ge=0)] | None = None
    flops_per_step: Annotated[int, Field(ge=0, le=_INT64)] | None = None
    source: str = ""
    licence: str = ""
    truth: dict[str, Any] = {}
    not_finite_from: Whole | None = None
    jumps: list[Whole] = []

    @field_validator("learning_rates")
    @classmethod
    def _rates(cls, pairs: list[list[Any]]) -> list[list[Any]]:
        for rate, count in pairs:
            if type(rate) not in (int, float) or not math.isfinite(rate):
                raise ValueError(f"a rate is {clipped(repr(rate))}, no finite number")
            if type(count) is not int or not 1 <= count <= MOST_RATES:
                raise ValueError(f"a rate holds for {clipped(repr(count))} steps")
        if sum(count for _, count in pairs) > MOST_RATES:
            raise ValueError(f"they are for more than {MOST_RATES:,} steps")
        return pairs

    def hold_to(self, steps: list[int]) -> None:
        """Refuse losses of another length than the steps, and rates for another number of them."""
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            if len(getattr(self, name)) not in (0, len(steps)):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries for {len(steps)} snapshots"
                )
        count = sum(count for _, count in self.learning_rates)
        if count not in (0, steps[-1]):
            raise ValueError(
                f"learning_rates are for {count:,} steps, the last snapshot is at {steps[-1]:,}"
            )

    def metadata(self) -> Metadata:
        """Return it with one learning rate a step."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }
        values["learning_rates"] = tuple(
            float(rate) for rate, count in self.learning_rates for _ in range(count)
        )
        return Metadata(**values)


def refuse_unordered(steps: list[int]) -> list[int]:
    """Refuse steps that do not increase from snapshot to snapshot."""
    for before, after in pairwise(steps):
        if after <= before:
            raise ValueError(f"steps must increase, but {after} follows {before}")
    return steps


def refuse_twice(tensors: list[DescribedTensor]) -> list[DescribedTensor]:
    """Refuse two tensors of one name."""
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"tensor {clipped(twice)} is described twice")
    return tensors


def refuse_unfounded(
    tensors: list[DescribedTensor], beside: list[DescribedState], aliases: dict[str, str]
) -> None:
    """Refuse a name that stands for two arrays, and a further name for what is not there."""
    names = [*(tensor.name for tensor in tensors), *(state.name for state in beside), *aliases]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{clipped(twice)} is described twice")
    for name, first in aliases.items():
        if first in aliases or first not in names:
            raise ValueError(f"{clipped(name)} is tied to {clipped(first)}, which is not there")


Tensors = Annotated[list[DescribedTensor], Field(min_length=1)]


class DescribedTrajectory(Strict):
    """What the header of a stacked file says."""

    tensors: Tensors
    steps: Annotated[list[Whole], Field(min_length=1)]
    metadata: DescribedMetadata
    # Files written before there was state do not mention it.
    state: list[DescribedState] = []
    fixed: list[DescribedState] = []
    aliases: dict[str, str] = {}

    _unique = field_validator("tensors")(refuse_twice)
    _ordered = field_validator("steps")(refuse_unordered)

    @model_validator(mode="after")
    def _agreeing(self) -> DescribedTrajectory:
        refuse_unfounded(self.tensors, [*self.state, *self.fixed], self.aliases)
        self.metadata.hold_to(self.steps)
        return self


class DescribedSnapshot(Strict):
    """One checkpoint of a manifest."""

    step: Whole
    files: Annotated[list[str], Field(min_length=1)]


class DescribedCheckpoints(Strict):
    """What a folder's ``trajectory.json`` says."""

    format: str
    tensors: Tensors
    snapshots: Annotated[list[DescribedSnapshot], Field(min_length=1)]
    metadata: DescribedMetadata
    state: list[DescribedState] = []
    aliases: dict[str, str] = {}
    key: str = ""

    _unique = field_validator("tensors")(refuse_twice)

    @property
    def steps(self) -> list[int]:
        """The snapshots' steps."""
        return [snapshot.step for snapshot in self.snapshots]

    @model_validator(mode="after")
    def _agreeing(self) -> DescribedCheckpoints:
        refuse_unfounded(self.tensors, self.state, self.aliases)
        self.metadata.hold_to(refuse_unordered(self.steps))
        return self


class ShardIndex(Strict):
    """The index of a checkpoint in shards; of its ``metadata`` nothing is needed."""

    weight_map: Annotated[dict[str, str], Field(min_length=1)]
    metadata: dict[str, Any] = {}


class LoggedStep(BaseModel):
    """One entry of a Trainer's log; whatever else it logged is passed over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    step: Whole
    loss: float | None = None
    eval_loss: float | None = None
    eval_accuracy: float | None = None
    learning_rate: FiniteFloat | None = None


class LoggedRun(BaseModel):
    """A Trainer's ``trainer_state.json``; most of what it says is not needed."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    log_history: list[LoggedStep]
    epoch: Annotated[FiniteFloat, Field(ge=0)] | None = None
    global_step: Whole | None = None


class DescribedRecording(Strict):
    """What the header of a recording says."""

    tensors: Tensors
    states: list[DescribedState]
    fixed: list[DescribedState]
    aliases: dict[str, str]
    metadata: DescribedMetadata

    _unique = field_validator("tensors")(refuse_twice)

    @model_validator(mode="after")
    def _agreeing(self) -> DescribedRecording:
        refuse_unfounded(self.tensors, [*self.states, *self.fixed], self.aliases)
        return self


Rate = tuple[Annotated[FiniteFloat, Field(strict=False)], Annotated[int, Field(ge=1, le=_INT64)]]


class DescribedRecord(Strict):
    """What the record of one snapshot says before its numbers."""

    step: Whole
    loss: float | None
    first_loss: float | None
    learning_rates: list[Annotated[Rate, Field(strict=False)]]
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    jumped: bool = False
