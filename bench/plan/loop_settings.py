"""What the loop tier runs: the pool of plain training, the controls, and one group of runs.

The plain side of every comparison is a pool: optimizers, each over learning rates and schedules.
Every forecaster and every control gets the same pool, so all are tuned alike. Where forecasters
tune how far they jump, too, controls get as many more learning rates: no side has more tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from weightcast.bench.plan.label import method_label
from weightcast.bench.plan.schema import checked, choice
from weightcast.datasets import InputError, Recipe, get_dataset

#: Optimizers of the pool: kind and momentum, as `loop.stepping.runs.Optimizer` takes them.
POOL = {
    "sgd": ("sgd", 0.0),
    "nesterov-0.9": ("nesterov", 0.9),
    "nesterov-0.95": ("nesterov", 0.95),
    "adam": ("adam", 0.0),
    "schedule-free-sgd": ("schedule-free-sgd", 0.9),
    "schedule-free-adam": ("schedule-free-adam", 0.9),
}

#: Rows without a forecaster. ``no-forecast`` is plain training: the pool, and, at a forecaster's
#: own learning rate, the usual comparison of the literature. ``null`` is plain training with other
#: batches: what it wins is the noise.
NO_FORECAST, NULL, DENOISE, LOOKAHEAD = "no-forecast", "null", "denoise-only", "lookahead"
SNOO = "snoo"
CONTROLS = (NO_FORECAST, NULL, DENOISE, LOOKAHEAD, SNOO)
#: Controls that move weights, which a suite may leave out.
MOVING = CONTROLS[2:]

#: What a forecast is for: training goes on from it, it is only measured, or weights go part of the
#: way to it every few snapshots.
JUMP, READ_OUT, OUTER = USES = ("jump", "read-out", "outer")

#: What runs of a role are for: fitting forecasters, setting the targets, choosing a configuration,
#: scoring it. No seed has two.
ROLES = ("training", "calibration", "validation", "report")
#: Rules of acceptance: a jump is always taken, or only where the loss falls.
RULES = ("always", "if-better")


def _known_schedule(name: str) -> str:
    rates(1.0, name, 10)
    return name


def _in_one_ratio(grid: list[float]) -> list[float]:
    ratios = np.diff(np.log(grid)) if grid and min(grid) > 0 else np.zeros(1)
    if len(grid) < 3 or (ratios <= 0).any() or not np.allclose(ratios, ratios[0], rtol=0.1):
        raise ValueError("learning rates must be three or more, ascending in one ratio")
    return grid


_Use = Annotated[str, *choice("use", USES)]
_Control = Annotated[str, *choice("control", MOVING)]
_Rule = Annotated[str, *choice("rule of acceptance", RULES)]
_Schedule = Annotated[str, *checked('"constant" or "linear-F"', _known_schedule)]
_Optimizer = Annotated[str, *choice("optimizer of the pool", POOL)]
_Grid = Annotated[list[float], AfterValidator(_in_one_ratio)]


#: What a data set must give that its network can be trained and measured.
NEEDED = (
    "a class derived from weightcast.datasets.OwnNetwork with build() and loss() or train() would "
    "give it one"
)


class LoopSettings(BaseModel):
    """How the loop tier of a suite runs.

    Attributes
    ----------
    steps : int
        The budget of every run, in optimizer steps.
    spacing, context : int
        A forecaster sees ``context + 1`` snapshots, ``spacing`` steps apart; it jumps once they are
        there, and the next ones begin where it landed.
    horizon : int
        How far ahead a jump's forecast is, in snapshots.
    lengths : list of float
        How far along its forecast's displacement a jump may go, 1 is all of it: a forecaster's
        configurations beside the pool's. With L lengths controls get L times the learning rates.
    uses : list of str
        What forecasts are for: ``"jump"``, ``"read-out"`` (training goes on untouched, the forecast
        is what is measured), ``"outer"`` (weights go ``lengths`` of the way to the forecast every
        ``outer_every`` snapshots), or several.
    horizons : list of int
        How far ahead read-outs may forecast, in snapshots: their configurations beside the pool's,
        in place of lengths. ``horizon`` alone by default.
    read_schedules : list of str
        Schedules of the runs that read-outs forecast from; all by default. Others of ``schedules``
        are plain training's alone, which a read-out has to beat.
    read_means : bool
        Whether read-outs forecast from the means of the weights since the last snapshot in place
        of snapshots.
    outer_every : int
        Snapshots from one move of the use ``"outer"`` to the next.
    averages : list of int
        Windows of the moving average that may be read out, in steps: it keeps 1 - 1/window of
        itself a step. Both sides choose among them.
    controls : list of str
        Which controls run beside plain training and ``null``; where uses are read-outs alone, which
        move no weights, none.
    snoo_every : int
        Steps from one outer step of the control ``snoo`` to the next.
    snoo_rates, snoo_momenta : list of float
        Its own grid: how far it goes along the way that its fast weights went, and the momentum of
        that.
    optimizers : dict of str to list of float
        The pool: learning rates by optimizer, in one ratio; widened where an optimizer's own best
        is at an edge.
    schedules : list of str
        ``"constant"``, or ``"linear-F"``: falling to zero at the share F of the budget.
    accept : list of str
        ``"always"``, ``"if-better"`` (only if the loss falls on a batch drawn from the training
        data, apart from those that runs are being trained on), or both.
    reset : bool
        Whether the optimizer forgets its state at a jump.
    training, calibration, validation, report : int
        Seeds of each role.
    measure_every : int
        Steps between measurements.
    measured : int or None
        Examples that losses are measured on, the first of training and test data; all by default.
    widenings : int
        How often a learning-rate grid may grow on each side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    steps: int = Field(default=900, ge=10, le=100_000_000)
    spacing: int = Field(default=9, ge=1)
    context: int = Field(default=10, ge=1)
    horizon: int = Field(default=5, ge=1)
    lengths: list[float] = Field(default=[1.0], max_length=7)
    uses: list[_Use] = Field(default=[JUMP], min_length=1)
    horizons: list[int] = Field(default=[], max_length=7)
    read_schedules: list[_Schedule] = []
    read_means: bool = False
    outer_every: int = Field(default=5, ge=1)
    averages: list[int] = Field(default=[25, 50, 100, 200], min_length=1, max_length=7)
    controls: list[_Control] = [DENOISE, LOOKAHEAD]
    snoo_every: int = Field(default=20, ge=1)
    snoo_rates: list[float] = Field(default=[0.4, 0.7, 1.0], min_length=1, max_length=7)
    snoo_momenta: list[float] = Field(default=[0.0, 0.5], min_length=1, max_length=7)
    optimizers: dict[_Optimizer, _Grid] = Field(
        default={
            "sgd": [0.1, 0.15, 0.225, 0.3375],
            "adam": [0.002, 0.003, 0.0045, 0.00675],
        },
        json_schema_extra={"takes": f"a table of learning rates by optimizer: {', '.join(POOL)}"},
    )
    schedules: list[_Schedule] = ["constant"]
    accept: list[_Rule] = ["always"]
    reset: bool = False
    # A thousand seeds are set apart for each role.
    training: int = Field(default=3, ge=2, le=1000)
    calibration: int = Field(default=4, ge=2, le=1000)
    validation: int = Field(default=3, ge=3, le=1000)
    report: int = Field(default=5, ge=3, le=1000)
    measure_every: int = Field(default=45, ge=1)
    measured: int | None = Field(default=None, ge=1)
    widenings: int = Field(default=3, ge=0, le=100)

    @field_validator("lengths")
    @classmethod
    def _ascending_with_the_forecasts_own(cls, value: list[float]) -> list[float]:
        if 1 not in value or value[0] <= 0 or any(b <= a for a, b in pairwise(value)):
            raise ValueError("the lengths must be above 0, ascending, and 1 among them")
        return value

    @field_validator("horizons", "averages")
    @classmethod
    def _ascending_from_one(cls, value: list[int]) -> list[int]:
        if value and (value[0] < 1 or any(b <= a for a, b in pairwise(value))):
            raise ValueError("they must be whole numbers from 1 on, ascending")
        return value

    @field_validator("snoo_rates", "snoo_momenta")
    @classmethod
    def _ascending(cls, value: list[float], info: ValidationInfo) -> list[float]:
        rates = info.field_name == "snoo_rates"
        if any(b <= a for a, b in pairwise(value)) or value[0] < 0 or (rates and not value[0]):
            raise ValueError(f"they must ascend from {'above 0' if rates else '0'} on")
        if not rates and value[-1] >= 1:
            raise ValueError("a momentum must be below 1")
        return value

    @model_validator(mode="after")
    def _horizon_within_reach(self) -> LoopSettings:
        # Forecasters learn from training runs of as many steps: one window must fit in.
        needed = (self.context + self.reach) * self.spacing
        if needed > self.steps:
            raise ValueError(
                f"the budget of {self.steps} steps ends before the first jump would land; take "
                f"(context + horizon) × spacing = {needed} or more"
            )
        return self

    @model_validator(mode="after")
    def _read_schedules_are_in_the_pool(self) -> LoopSettings:
        for name in self.read_schedules:
            if name not in self.schedules:
                raise ValueError(f"the read-outs' schedule {name} is none of the pool's schedules")
        return self

    @model_validator(mode="after")
    def _read_outs_find_a_snapshot(self) -> LoopSettings:
        if READ_OUT not in self.uses:
            return self
        if self.measure_every % self.spacing or self.steps % self.spacing:
            raise ValueError(
                "a read-out begins at a snapshot: steps and measure_every must be multiples of "
                f"spacing, {self.spacing}"
            )
        if len(self.horizons) > 1 + len(self.averages):
            raise ValueError(
                "read-outs have more horizons to choose from than plain training has weights and "
                f"averages, {1 + len(self.averages)}; take fewer horizons or more averages"
            )
        return self

    @property
    def reach(self) -> int:
        """The farthest horizon that is forecast, in snapshots."""
        return max(self.horizon, *self.horizons, 1)

    @property
    def interval(self) -> int:
        """Steps from one jump to the next."""
        return self.context * self.spacing

    def seeds(self, role: str) -> range:
        """Return a role's seeds, apart from those of all other roles."""
        first = 1000 * ROLES.index(role)
        return range(first, first + int(getattr(self, role)))


def rates(
    learning_rate: float, schedule: str, steps: int, until: int | None = None
) -> NDArray[np.float64]:
    """Return the learning rate of each step.

    Parameters
    ----------
    learning_rate : float
    schedule : str
    steps : int
        The budget, of which a schedule's end is a share.
    until : int, optional
        How many steps' rates to return, beyond the budget if need be; the budget's by default.

    Raises
    ------
    ValueError
        If there is no such schedule.
    """
    count = steps if until is None else until
    if schedule == "constant":
        return np.full(count, learning_rate)
    name, _, share = schedule.partition("-")
    try:
        end = float(share) * steps
    except ValueError:
        end = 0.0
    if name != "linear" or not 0 < end <= 4 * steps:
        raise ValueError(f"'{schedule}' is no schedule; take constant or linear-F, e.g. linear-1.0")
    fallen: NDArray[np.float64] = learning_rate * np.maximum(0.0, 1 - np.arange(count) / end)
    return fallen


def recipe_of(dataset: str) -> Recipe:
    """Return the recipe of a data set.

    Raises
    ------
    InputError
        If it has none.
    """
    recipe = getattr(get_dataset(dataset), "recipe", None)
    if not isinstance(recipe, Recipe):
        raise InputError(no_tier("loop", dataset, get_dataset(dataset).no_network))
    return recipe


def no_tier(tier: str, dataset: str, why: str) -> str:
    """Say why a data set has no tier ``function`` or ``loop``, and what it would need.

    Examples
    --------
    >>> no_tier("loop", "bowl", "is generated and has no network")
    'no loop tier: data set bowl is generated and has no network'
    """
    needed = f"; {NEEDED}" if "gives" in why else ""
    return f"no {tier} tier: data set {dataset} {why}{needed}"


@dataclass(frozen=True)
class LoopRun:
    """One run of a group: where in the pool it stands, and what it is for.

    Attributes
    ----------
    key : str
        Hash of all that its numbers depend on.
    length : float
        How far along its forecast's displacement a jump goes.
    pool_rate : float, optional
        The pool's learning rate that this run is a try at, where that is not its own: of a control
        with more rates, the one that they surround.
    horizon : int
        How far ahead a read-out forecasts, in snapshots; 0 of all else.
    momentum : float
        Of the outer step, for a control that has one.
    """

    learning_rate: float
    seed: int
    role: str
    key: str
    length: float = 1.0
    pool_rate: float | None = None
    horizon: int = 0
    momentum: float = 0.0


@dataclass(frozen=True)
class LoopGroup:
    """Runs of one method with one optimizer and schedule, trained together.

    Attributes
    ----------
    dataset : str
        A recorded data set, whose recipe gives network, data and batch size.
    method : str
        A forecaster's name, or one of `CONTROLS`.
    accept : str
        ``"always"`` or ``"if-better"``.
    code : str
        The method's `code_hash`; empty for controls.
    files : str
        The parameters' `files_hash`.
    use : str
        One of `USES`.
    """

    suite: str
    dataset: str
    method: str
    params: str
    accept: str
    optimizer: str
    schedule: str
    runs: tuple[LoopRun, ...]
    settings: LoopSettings
    code: str = ""
    files: str = ""
    use: str = JUMP

    @property
    def key(self) -> str:
        """Tells groups of one plan apart."""
        return self.runs[0].key

    @property
    def shown(self) -> tuple[str, str]:
        """Data set and method as the progress table names them."""
        return f"{self.dataset} (loop)", self.label

    @property
    def label(self) -> str:
        """Method with parameters, rule of acceptance and use, as tables name it."""
        return method_label(self.method, self.params, self.accept, self.use)
