"""The contract that every method holds to, as checks that say what is broken.

`weightcast check NAME|FILE.py` runs them on one method, our tests on every registered one. Each
check fits and asks the method on the toy runs of `weightcast.methods.contract_toy`; a check that
does not apply to a method (an order of coordinates where it has the whole network, say) is skipped.
Methods with the parameter ``updates`` get 40 of them, one that chooses on ``coordinates`` four: the
contract is about form, not accuracy.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
import random as global_random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.foreign_code import WouldEnd, no_way_out
from weightcast.datasets.history import History
from weightcast.methods.contract_decoys import (
    ForecastStream,
    WatchedLoss,
    decoy,
    neighbours,
    taken_of,
)
from weightcast.methods.contract_places import Watched, place_of, place_raised
from weightcast.methods.contract_toy import (
    CONTEXT,
    ONE,
    SNAPSHOTS,
    TENSORS,
    WITH_EMPTY,
    Bowl,
    relaxing,
    run_of,
    size_of,
    toy_runs,
    toy_task,
)
from weightcast.methods.forecaster import (
    PROVENANCES,
    CoordinateForecaster,
    Forecaster,
    OneLookForecaster,
    WrongShape,
    demand_shape,
)
from weightcast.methods.registry import get_method, make_method

if TYPE_CHECKING:
    from weightcast.datasets.task import ForecastTask
    from weightcast.datasets.trajectory import TensorInfo, Trajectory

Forecast = Mapping[str, Any]

NEEDS = ("train-loss", "truth")
ROLES = ("forecaster", "reference")
QUICK = {"updates": 40, "coordinates": 4}


class Broken(Exception):
    """What a method does against the contract, in one line.

    Parameters
    ----------
    said : str
    at : str
        The part of its author's class that is to be mended; that of the check by default.
    place : str
        The line itself, ``file:line``, where it is known; ``at`` is then not asked.
    """

    def __init__(self, said: str, at: str = "", place: str = "") -> None:
        super().__init__(said)
        self.at, self.place = at, place


class NotApplicable(Exception):
    """Why a check does not ask anything of this method."""


@dataclass(frozen=True)
class Outcome:
    """One check of one method.

    Attributes
    ----------
    method, check : str
    status : str
        ``passed``, ``failed`` or ``skipped``.
    reason : str
        Why it failed or was skipped.
    seconds : float
    """

    method: str
    check: str
    status: str
    reason: str
    seconds: float


class Subject:
    """A method under examination; what several checks need is fitted once.

    Parameters
    ----------
    name : str
        A registered method or an adapter's name.

    Raises
    ------
    InputError
        If there is no such method.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cls = get_method(name)
        self.quick = {k: v for k, v in QUICK.items() if k in self.cls.get_param_names()}
        self.runs = toy_runs()
        self.task = toy_task(self.runs[0])

    def make(self, **params: Any) -> Forecaster:
        """Make the method, quick where it can be."""
        return make_method(self.name, {**self.quick, **params})

    def fit(
        self,
        runs: Sequence[Trajectory] | None = None,
        task: ForecastTask | None = None,
        **params: Any,
    ) -> Forecaster:
        """Fit the method on the first four of eight runs, with the next two for validation."""
        runs = self.runs if runs is None else runs
        method = self.make(**params)
        return self.fit_on(method, runs[:4], runs[4:6], self.task if task is None else task)

    def fit_on(
        self,
        method: Forecaster,
        train: Sequence[Trajectory],
        validation: Sequence[Trajectory],
        task: ForecastTask,
    ) -> Forecaster:
        """Fit a method; what comes back has to be a method."""
        _demand_call(method, "fit", ("train", "validation", "task"))
        fitted: Any = method.fit(train, validation, task)
        if not isinstance(fitted, Forecaster):
            what = "None" if fitted is None else f"a {type(fitted).__name__}"
            raise Broken(f"fit returned {what}; return self", at="fit")
        return fitted

    def predict(
        self, method: Forecaster, run: Trajectory, task: ForecastTask | None = None
    ) -> dict[str, Any]:
        """Forecast a run as the harness does, with a training loss where the method needs one."""
        return self.ask(method, *self.question(run, self.task if task is None else task))

    def ask(self, method: Forecaster, history: History, task: ForecastTask) -> dict[str, Any]:
        """Ask for a forecast; what comes back has to hold tensors by name."""
        _demand_forecast(method)
        found: Any = method.predict(history, task)
        if not isinstance(found, Mapping):
            what = "None" if found is None else f"a {type(found).__name__}"
            said = f"predict returned {what}; return a dict, an array (m, *shape) a tensor"
            raise Broken(said, at="predict")
        return dict(found)

    def ask_block(
        self, method: CoordinateForecaster, context: NDArray[np.float32], task: ForecastTask
    ) -> Any:
        """Ask for the forecast of a block (c, n + 1): None, or something of the shape (c, m)."""
        _demand_forecast(method)
        block: Any = method.predict_block(context, task)
        if block is not None:
            demand_shape(block, len(context), len(task.horizons))
        return block

    def question(self, run: Trajectory, task: ForecastTask) -> tuple[History, ForecastTask]:
        """Return what a forecast is asked with."""
        needs_loss = "train-loss" in self.cls.get_class_tag("needs", ())
        return History.of(run, task, Bowl() if needs_loss else None), task

    @cached_property
    def fitted(self) -> Forecaster:
        """The method, fitted on the toy runs."""
        return self.fit()

    @cached_property
    def forecast(self) -> dict[str, Any]:
        """Its forecast of the last toy run."""
        return self.predict(self.fitted, self.runs[7])

    def coordinate(self) -> CoordinateForecaster:
        """Return the fitted method if it works on coordinates; else the check does not apply."""
        if not isinstance(self.fitted, CoordinateForecaster):
            raise NotApplicable("it forecasts whole networks")
        return self.fitted


def check_method(name: str, checks: Sequence[str] | None = None) -> Iterator[Outcome]:
    """Run the checks on a method, one after the other.

    Parameters
    ----------
    name : str
    checks : sequence of str, optional
        Names from `CHECKS`; all by default.

    Raises
    ------
    InputError
        If there is no such method; nothing that the method does raises here.
    """
    subject = Subject(name)
    for check in CHECKS if checks is None else checks:
        yield run_check(subject, check)


def run_check(subject: Subject, check: str) -> Outcome:
    """Run one check on a method."""
    start = time.perf_counter()
    status, reason = "passed", ""
    try:
        with no_way_out():
            CHECKS[check](subject)
    except NotApplicable as why:
        status, reason = "skipped", str(why)
    except (Exception, SystemExit, WouldEnd) as error:
        status, reason = "failed", _describe(error, subject.cls, PARTS.get(check, "predict"))
    return Outcome(subject.name, check, status, reason, time.perf_counter() - start)


def _tags(subject: Subject) -> None:
    cls = subject.cls

    def demand(tag: str, good: bool, wanted: str) -> None:
        if not good:
            raise Broken(f"tag {tag} is {cls.get_class_tag(tag)!r}; it has to be {wanted}")

    tags = cls.get_class_tags()
    demand("provenance", tags.get("provenance") in PROVENANCES, f"one of {', '.join(PROVENANCES)}")
    needs, role = tags.get("needs"), tags.get("role", "forecaster")
    demand("role", role in ROLES, f"one of {', '.join(ROLES)}")
    well_formed = isinstance(needs, tuple | list) and set(needs) <= set(NEEDS)
    demand("needs", well_formed, f"a tuple of {', '.join(NEEDS)}")
    demand("needs", role == "reference" or "truth" not in (needs or ()), "without truth")
    for tag in ("sampled", "scale_free", "shift_free"):
        demand(tag, isinstance(tags.get(tag), bool), "True or False")
    for tag in ("reference", "licence"):
        demand(tag, isinstance(tags.get(tag), str), "a text")
    for tag in ("native_context", "native_spacing", "native_horizons"):
        value = tags.get(tag)
        several = value if isinstance(value, tuple | list) and value else [value]
        good = all(isinstance(v, int | float) and v > 0 for v in several)
        # A word where it is no number: an epoch's steps differ from run to run.
        good = good or value is None or (isinstance(value, str) and value != "")
        demand(tag, good, "None, positive numbers, or a word such as 'epoch'")
    if not (cls.__doc__ or "").strip():
        raise Broken(
            "the class has no docstring, which `weightcast list methods` shows", at="class"
        )
    unknown = set(cls.param_grid) - set(cls.get_param_names())
    if unknown:
        said = f"param_grid names {', '.join(sorted(unknown))}, which __init__ does not take"
        raise Broken(said, at="param_grid")
    for name, values in cls.param_grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or len(values) == 0:
            said = f"param_grid's {name} is {values!r}; it has to be a tuple of values"
            raise Broken(said, at="param_grid")


def _parameters(subject: Subject) -> None:
    method = subject.make()
    for name in subject.cls.get_param_names():
        if not hasattr(method, name):
            raise Broken(f"__init__ takes {name} and does not store it: self.{name} = {name}")
    params = method.get_params()
    for made, what in ((method.clone(), "a clone"), (type(method)(**params), "a method made anew")):
        if made is method or _differ(made.get_params(), params):
            raise Broken(f"{what} has the parameters {made.get_params()}, not {params}")
    tried = [{name: value} for name, vs in subject.cls.param_grid.items() for value in vs]
    for point in [params, *tried]:
        made = subject.make(**point)
        for name, value in point.items():
            if getattr(made, name, None) is not value:
                raise Broken(f"__init__ has to store {name} unchanged, as self.{name}")
    before = copy.deepcopy(params)
    subject.fit_on(method, subject.runs[:4], subject.runs[4:6], subject.task)
    if _differ(method.get_params(), before):
        said = f"fit changes the parameters from {before} to {method.get_params()}"
        raise Broken(f"{said}; what is learned goes under a name of its own", at="fit")


def _provenance(subject: Subject) -> None:
    tag = subject.cls.get_class_tag("provenance")
    if tag not in ("own-run-only", "zero-shot"):
        raise NotApplicable("it says that it learns from training runs")
    watched = Watched(subject.cls, toy_runs())
    method = subject.make()
    _demand_call(method, "fit", ("train", "validation", "task"))
    method.fit(watched.runs[:4], watched.runs[4:6], subject.task)
    if watched.read_at is not None:
        raise Broken(
            f'fit reads the weights of other runs, and the tag provenance says "{tag}"; say '
            '"fit-on-train-split" in _tags, or do not read them',
            at="fit",
            place=watched.read_at,
        )


def _shapes(subject: Subject) -> None:
    _demand_shapes(subject.forecast, TENSORS, len(subject.task.horizons))
    if isinstance(subject.fitted, CoordinateForecaster):
        for tensor, context in _contexts(subject.runs[7], subject.task):
            subject.ask_block(subject.fitted, context, subject.task.for_tensor(tensor))


def _dtypes(subject: Subject) -> None:
    for name, values in subject.forecast.items():
        _demand_floats(values, f"the forecast of {name}")
    if isinstance(subject.fitted, CoordinateForecaster):
        for tensor, context in _contexts(subject.runs[7], subject.task):
            block = subject.fitted.predict_block(context, subject.task.for_tensor(tensor))
            if block is not None:
                _demand_floats(block, "what predict_block returns")


def _finite(subject: Subject) -> None:
    _demand_finite(subject.forecast, "an ordinary run")
    for what, values in _hostile_runs():
        with np.errstate(over="ignore"):
            forecast = subject.predict(subject.fitted, run_of(values))
        try:
            _demand_finite(forecast, what)
        except Broken as broken:
            raise Broken(str(broken), place=_line_of_nan(subject, run_of(values))) from None


def _determinism(subject: Subject) -> None:
    forecasts = []
    for seed in (1, 2):
        with _global_seeds(seed):
            method = subject.fit()
            forecasts.append(subject.predict(method, subject.runs[7]))
            again = subject.predict(method, subject.runs[7])
        if not _same(forecasts[-1], again):
            raise Broken("the same fitted method forecasts the same run in two ways")
    if not _same(*forecasts):
        raise Broken(
            "two fits with one task.seed forecast differently; draw random numbers from "
            "np.random.default_rng(task.seed)",
            at="fit",
        )
    if not subject.cls.get_class_tag("random") and not _same(forecasts[0], under_seed(subject, 4)):
        raise Broken(
            "the forecast depends on task.seed and the tag random is false; set it to true, so "
            "that the method is fitted under several seeds and its intervals hold their noise",
            at="_tags",
        )


def under_seed(subject: Subject, seed: int) -> dict[str, Any]:
    """Forecast the last toy run after a fit under another seed."""
    task = replace(subject.task, seed=seed)
    return subject.predict(subject.fit(task=task), subject.runs[7], task)


def _blocks(subject: Subject) -> None:
    task = toy_task(subject.runs[0], block_bytes=4 * SNAPSHOTS * 2)
    forecast = subject.predict(subject.fit(task=task), subject.runs[7], task)
    _demand_close(forecast, subject.forecast, "with blocks of two coordinates")


def _coordinate_order(subject: Subject) -> None:
    method = subject.coordinate()
    if subject.cls.get_class_tag("role", "forecaster") == "reference":
        raise NotApplicable("a reference may know places")
    tensor, context = _contexts(subject.runs[7], subject.task)[0]
    order = np.random.default_rng(0).permutation(len(context))
    task = subject.task.for_tensor(tensor)
    straight = subject.ask_block(method, context.copy(), task)
    turned = subject.ask_block(method, context[order].copy(), task)
    if straight is not None and turned is not None:
        _demand_close({"": turned}, {"": straight[order]}, "of coordinates in another order")


def _run_order(subject: Subject) -> None:
    train, validation = subject.runs[:4], subject.runs[4:6]
    turned = [*(train[i] for i in (2, 0, 3, 1)), *validation[::-1]]
    forecast = subject.predict(subject.fit(turned), subject.runs[7])
    _demand_close(forecast, subject.forecast, "with training runs in another order")


def _scale(subject: Subject) -> None:
    if not subject.cls.get_class_tag("scale_free"):
        raise NotApplicable("scale_free is not declared")
    # A power of two, so that rounding is the same.
    _demand_equivariance(subject, lambda w: 8.0 * w, "8 w", 8.0)


def _shift(subject: Subject) -> None:
    if not subject.cls.get_class_tag("shift_free"):
        raise NotApplicable("shift_free is not declared")
    _demand_equivariance(subject, lambda w: w + 0.5, "w + 1/2", 1.0)


def _origin(subject: Subject) -> None:
    method = subject.fitted
    clean = subject.predict(method, run_of(_fresh_values(), 99))
    for poison, what in ((np.nan, "NaN"), (1000.0, "1000")):
        values = _fresh_values()
        values[CONTEXT + 1 :] = poison
        run = run_of(values, 99)  # in reach of whoever looks around in memory
        if not _same(subject.predict(method, run), clean):
            raise Broken(f"the forecast changes when the snapshots after the origin are {what}")


def _callers(subject: Subject) -> None:
    values = _fresh_values()
    question = subject.question(run_of(values, 99), subject.task)
    clean = subject.ask(subject.fitted, *question)
    history, task = subject.question(run_of(values, 99), subject.task)
    found = dict(ForecastStream(decoy(values, 99), task).ask(subject.fitted, history))
    if not _same(found, clean):
        raise Broken(
            "the forecast depends on what its caller holds; it may use its arguments and what fit "
            "learned"
        )


def _neighbours(subject: Subject) -> None:
    values = [relaxing(seed, size_of(TENSORS)) for seed in range(8)]
    clean = subject.forecast
    with neighbours(values, asked=7) as (runs, name):
        task = replace(subject.task, dataset=name)
        method = subject.fit(runs, task)
        found = subject.predict(method, run_of(values[7], 7), task)
    if not _same(found, clean):
        raise Broken(
            "the forecast depends on files beside the training runs, or on the data set's name; "
            "in a run it has neither"
        )


def _loss(subject: Subject) -> None:
    if "train-loss" not in subject.cls.get_class_tag("needs", ()):
        raise NotApplicable("it needs no training loss")
    history, task = subject.question(subject.runs[7], subject.task)
    assert history.loss is not None
    history.loss = watched = WatchedLoss(history.loss)
    failure: Exception | None = None
    try:
        subject.fitted.predict(history, task)
    except Exception as error:
        failure = error
    if taken := taken_of(watched):
        raise Broken(f"it takes {taken[0]} of the training loss, which may be called and no more")
    if failure is not None:
        raise failure


def _inputs(subject: Subject) -> None:
    runs = toy_runs()
    task = toy_task(runs[0])
    hashes, untouched = [run.content_hash() for run in runs], copy.deepcopy(task)
    method = subject.fit(runs, task)
    if [run.content_hash() for run in runs] != hashes:
        raise Broken("fit changes the training or validation runs", at="fit")
    history, _ = subject.question(runs[7], task)
    before = copy.deepcopy(history)
    subject.ask(method, history, task)
    for name in ("weights", "initial", "steps", "train_loss"):
        if not _same(_as_dict(getattr(history, name)), _as_dict(getattr(before, name))):
            raise Broken(f"predict changes history.{name}")
    if isinstance(method, CoordinateForecaster):
        for tensor, context in _contexts(runs[7], task):
            given = context.copy()
            method.predict_block(context, task.for_tensor(tensor))
            if not np.array_equal(context, given):
                place = _line_of_change(method, given, task.for_tensor(tensor), subject.cls)
                raise Broken("predict_block changes its context; copy it first", place=place)
    for name in ("horizons", "context_steps", "horizon_steps", "learning_rates"):
        if not np.array_equal(getattr(task, name), getattr(untouched, name)):
            raise Broken(f"the method changes task.{name}")


def _constant(subject: Subject) -> None:
    if subject.cls.get_class_tag("role", "forecaster") == "reference":
        raise NotApplicable("a reference may forecast from elsewhere")
    run = run_of(np.full((SNAPSHOTS, size_of(TENSORS)), 0.25))
    for name, values in subject.predict(subject.fitted, run).items():
        lost = not np.isfinite(np.asarray(values, np.float64)).all()
        # A linear map with an intercept may shift it a little; nothing may blow up.
        if not np.all(np.abs(np.asarray(values) - 0.25) < 0.5):
            raise Broken(
                f"weights of {name} that stay at 0.25 are forecast to go to "
                f"{_farthest(np.asarray(values), 0.25):.3g}",
                place=_line_of_nan(subject, run) if lost else "",
            )


def _one_coordinate(subject: Subject) -> None:
    runs = toy_runs(ONE)
    forecast = subject.predict(subject.fit(runs), runs[7])
    _demand_shapes(forecast, ONE, len(subject.task.horizons))
    _demand_finite(forecast, "a network of one coordinate")


def _empty(subject: Subject) -> None:
    runs = toy_runs(WITH_EMPTY)
    forecast = subject.predict(subject.fit(runs), runs[7])
    _demand_shapes(forecast, WITH_EMPTY, len(subject.task.horizons))
    _demand_finite(forecast, "a network with an empty tensor")
    if isinstance(subject.fitted, CoordinateForecaster):
        nothing = np.empty((0, CONTEXT + 1), np.float32)
        block = subject.fitted.predict_block(nothing, subject.task.for_tensor(WITH_EMPTY[-1]))
        if block is not None and np.shape(block) != (0, len(subject.task.horizons)):
            raise Broken(f"no coordinates are forecast in the shape {np.shape(block)}")


def _abstention(subject: Subject) -> None:
    if not any(info.name in subject.forecast for info in TENSORS):
        raise Broken("it abstains on every tensor")
    if not isinstance(subject.fitted, CoordinateForecaster):
        return
    for tensor, context in _contexts(subject.runs[7], subject.task):
        task = subject.task.for_tensor(tensor)
        said = {
            subject.fitted.predict_block(part.copy(), task) is None
            for part in np.array_split(context, min(3, len(context)))
        }
        if len(said) > 1:
            raise Broken(f"it abstains on some blocks of {tensor.name} and not on others")


def _tasks(subject: Subject) -> None:
    for context in (1, 4, 25):
        task = toy_task(subject.runs[0], context)
        what = f"with context {context} and {len(task.horizons)} horizons"
        try:
            forecast = subject.predict(subject.fit(task=task), subject.runs[7], task)
        except InputError:
            continue  # a task that it is not made for, and it says so
        except (Broken, WrongShape) as broken:
            raise Broken(f"{what}: {broken}", at=getattr(broken, "at", "")) from broken
        except Exception as error:
            raise Broken(
                f"{what}: {_message(error)}; a method that cannot do a task forecasts less, "
                "abstains, or raises an InputError",
                place=place_raised(error, subject.cls),
            ) from error
        _demand_shapes(forecast, TENSORS, len(task.horizons), what)
        _demand_finite(forecast, f"a task {what}")


def _pickle(subject: Subject) -> None:
    again = pickle.loads(pickle.dumps(subject.fitted))
    if not _same(subject.predict(again, subject.runs[7]), subject.forecast):
        raise Broken("pickled and read again, the fitted method forecasts differently")


def _grid(subject: Subject) -> None:
    if not subject.cls.param_grid:
        raise NotApplicable("it has no param_grid")
    for name, values in subject.cls.param_grid.items():
        for value in values:
            try:
                forecast = subject.predict(subject.fit(**{name: value}), subject.runs[7])
            except Exception as error:
                said = _describe(error, subject.cls, "predict", placed=False)
                place = place_raised(error, subject.cls)
                raise Broken(
                    f"{name}={value!r} of param_grid fails: {said}", place=place
                ) from error
            _demand_shapes(forecast, TENSORS, len(subject.task.horizons), f"with {name}={value!r}")
            _demand_finite(forecast, f"a run with {name}={value!r}")


def _record(subject: Subject) -> None:
    method = subject.fitted
    for what, value in (
        ("parameter_count", method.parameter_count()),
        ("flops_per_coordinate", method.flops_per_coordinate(subject.task)),
    ):
        if value is not None and not (
            isinstance(value, int | float) and math.isfinite(value) and value >= 0
        ):
            raise Broken(f"{what} returns {value!r}, not a number or None", at=what)
    found = method.diagnostics()
    try:
        json.dumps(found)
    except (TypeError, ValueError) as error:
        raise Broken(f"diagnostics are no plain values: {error}") from None
    if not isinstance(found, dict):
        raise Broken(f"diagnostics returns {type(found).__name__}, not a dict")


#: Every check by name, in the order in which they are run.
CHECKS: dict[str, Callable[[Subject], None]] = {
    "tags": _tags,
    "parameters": _parameters,
    "provenance": _provenance,
    "shapes": _shapes,
    "dtypes": _dtypes,
    "finite": _finite,
    "determinism": _determinism,
    "blocks": _blocks,
    "coordinate-order": _coordinate_order,
    "run-order": _run_order,
    "scale": _scale,
    "shift": _shift,
    "origin": _origin,
    "callers": _callers,
    "neighbours": _neighbours,
    "loss": _loss,
    "inputs": _inputs,
    "constant": _constant,
    "one-coordinate": _one_coordinate,
    "empty": _empty,
    "abstention": _abstention,
    "tasks": _tasks,
    "pickle": _pickle,
    "grid": _grid,
    "record": _record,
}

#: The part of a class that a check is about; what makes the forecast for those not named here.
PARTS = {
    "tags": "_tags",
    "parameters": "__init__",
    "run-order": "fit",
    "pickle": "fit",
    "grid": "param_grid",
    "record": "diagnostics",
}


def _demand_call(method: Forecaster, name: str, takes: Sequence[str]) -> None:
    """Hold a method's signature to what it is called with."""
    signature = inspect.signature(getattr(method, name))
    try:
        signature.bind(*takes)
    except TypeError as error:
        said = f"{name}{signature} is called as {name}({', '.join(takes)}): {error}"
        raise Broken(said, at=name) from None


def _demand_forecast(method: Forecaster) -> None:
    """Hold a method to having what its level forecasts with."""
    cls, name, takes = type(method), "predict", ("history", "task")
    if cls.predict is CoordinateForecaster.predict:
        name, takes = "predict_block", ("context", "task")
        if cls.predict_block is CoordinateForecaster.predict_block:
            raise Broken(f"{cls.__name__} has no predict_block(self, context, task)", at="class")
    elif cls.predict is OneLookForecaster.predict:
        name = "look"
        if cls.look is OneLookForecaster.look:
            raise Broken(f"{cls.__name__} has no look(self, history, task)", at="class")
    elif cls.predict is Forecaster.predict:
        raise Broken(f"{cls.__name__} has no predict(self, history, task)", at="class")
    _demand_call(method, name, takes)


def _line_of_nan(subject: Subject, run: Trajectory) -> str:
    """Find the line where a forecast first divides by zero or makes NaN, if NumPy notices."""
    try:
        with np.errstate(divide="raise", invalid="raise", over="ignore"):
            subject.predict(subject.fitted, run)
    except FloatingPointError as error:
        return place_raised(error, subject.cls)
    except Exception:  # whatever else goes wrong now is no line of the fault's
        return ""
    return ""


def _line_of_change(
    method: CoordinateForecaster, context: NDArray[np.float32], task: ForecastTask, cls: type
) -> str:
    """Find the line that writes to a context that may not be written to."""
    context.flags.writeable = False
    try:
        method.predict_block(context, task)
    except ValueError as error:
        return place_raised(error, cls)
    return ""


def _contexts(run: Trajectory, task: ForecastTask) -> list[tuple[TensorInfo, NDArray[np.float32]]]:
    """Return each tensor's context (c, n + 1), in an array of its own."""
    rows = range(task.context + 1)
    return [(info, np.ascontiguousarray(run.read(info, rows).T)) for info in run.tensors]


def _fresh_values() -> NDArray[np.float64]:
    return 1.5 * relaxing(99, size_of(TENSORS))


def _hostile_runs() -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Make runs (T, d) whose numbers are hard, each with a name."""
    count = size_of(TENSORS)
    t = np.arange(SNAPSHOTS, dtype=np.float64)[:, None] * np.ones(count)
    usual = relaxing(7, count)
    yield "weights near 1e6", 1e6 * usual
    yield "weights near 1e-30", 1e-30 * usual
    yield "weights that move by their last digits", 0.5 + 6e-8 * t
    yield "weights that double at every snapshot", 2.0**t
    yield "weights that jump to and fro", np.where(t % 2 == 0, 1.0, -1.0)
    yield "weights that move at the origin alone", np.where(t >= CONTEXT, 1.0, 0.0)
    yield "weights that move at the start alone", np.where(t >= 1, 1.0, 0.0)
    yield "weights that are zero", 0.0 * t


def _demand_shapes(
    forecast: Forecast, tensors: Sequence[TensorInfo], m: int, what: str = ""
) -> None:
    known = {info.name: info for info in tensors}
    said = f"{what}: " if what else ""
    for name, values in forecast.items():
        if name not in known:
            raise Broken(f"{said}it forecasts a tensor {name!r}, which the run does not have")
        wanted = (m, *known[name].shape)
        if np.shape(values) != wanted:
            raise Broken(f"{said}the forecast of {name} has shape {np.shape(values)}, not {wanted}")


def _demand_floats(values: Any, what: str) -> None:
    if not isinstance(values, np.ndarray):
        kind = type(values).__name__
        raise Broken(f"{what} is a {kind}, not a NumPy array; return np.asarray(..., np.float32)")
    if not np.issubdtype(values.dtype, np.floating):
        said = f"{what} is of {values.dtype}, not floating-point"
        raise Broken(f"{said}; return np.asarray(..., np.float32)")


def _demand_finite(forecast: Forecast, what: str) -> None:
    for name, values in forecast.items():
        with np.errstate(over="ignore", invalid="ignore"):
            good = np.isfinite(np.asarray(values, dtype=np.float32))
        if not good.all():
            bad = f"{np.size(values) - int(good.sum())} of {np.size(values)} numbers"
            raise Broken(f"{name}: the forecast of {what} is not finite: {bad}")


def _demand_close(forecast: Forecast, wanted: Forecast, what: str) -> None:
    """Hold two forecasts of weights near 1 to each other, rounding apart."""
    if set(forecast) != set(wanted):
        raise Broken(f"{what} it forecasts other tensors")
    for name, values in forecast.items():
        one, other = np.asarray(values, np.float64), np.asarray(wanted[name], np.float64)
        if not np.allclose(one, other, rtol=2e-4, atol=2e-5):
            gap = np.abs(one - other).max()
            raise Broken(f"{what} the forecast is off by {gap:.2g}")


def _demand_equivariance(
    subject: Subject, change: Callable[[Any], Any], said: str, size: float
) -> None:
    # On a grid of 2⁻¹⁰, where the changed weights are exact.
    values = np.round(relaxing(7, size_of(TENSORS)) * 1024) / 1024
    plain = subject.predict(subject.fitted, run_of(values))
    changed = subject.predict(subject.fitted, run_of(change(values)))
    for name, forecast in plain.items():
        gap = float(np.abs(np.asarray(changed[name]) - change(np.asarray(forecast))).max())
        if not gap <= 1e-4 * size:
            raise Broken(f"the forecast of {said} is off by {gap:.2g} from that of w, so changed")


@contextmanager
def _global_seeds(seed: int) -> Iterator[None]:
    """Set the global random states, which no method may depend on, and put them back."""
    states = global_random.getstate(), np.random.get_state()
    torch: Any = sys.modules.get("torch")
    kept = torch.random.get_rng_state() if torch is not None else None
    global_random.seed(seed)
    np.random.seed(seed)
    if torch is not None:
        torch.random.manual_seed(seed)
    try:
        yield
    finally:
        global_random.setstate(states[0])
        np.random.set_state(states[1])
        if torch is not None:
            torch.random.set_rng_state(kept)


def _same(forecast: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return set(forecast) == set(other) and all(
        np.array_equal(values, other[name]) for name, values in forecast.items()
    )


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"": value}


def _differ(params: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return set(params) != set(others) or any(
        not np.array_equal(value, others[name]) for name, value in params.items()
    )


def _farthest(values: NDArray[Any], level: float) -> float:
    flat = values.reshape(-1)
    return float(flat[np.argmax(np.nan_to_num(np.abs(flat - level), nan=np.inf))])


def _describe(error: BaseException, cls: type, part: str, placed: bool = True) -> str:
    """Say an error in one line, with the place in the author's file that is to be mended."""
    if isinstance(error, Broken):
        said, place, part = str(error), error.place, error.at or part
    elif isinstance(error, WrongShape):
        said, place, part = str(error), "", "predict_block"
    else:
        said, place = _message(error), place_raised(error, cls)
    if placed and (place := place or place_of(cls, part)):
        said += f" ({place})"
    return said


def _message(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message}"
