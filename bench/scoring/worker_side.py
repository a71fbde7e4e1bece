"""What a worker process does: one fit, then the cells that use it, each asked for by itself.

Exceptions of the method become rows with a status and never leave this module. A fitted method goes
back as bytes as well, so that a process that dies over one cell does not cost the fit
of the others.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.failure import failure_of
from weightcast.bench.engine.processes.inside import (
    check_code,
    check_files,
    load_plugins,
    pin_threads,
)
from weightcast.bench.engine.records import CellRow, FitRecord, rows_without_result
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.plan.fits import Fit
from weightcast.bench.plan.place import Place
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.example import example_forecast, example_truth
from weightcast.bench.scoring.forecasting import Stopwatch
from weightcast.bench.scoring.known_bytes import KnownBytes
from weightcast.bench.scoring.memory import peak_memory
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.bench.scoring.tuning import fit_tuned
from weightcast.datasets import InputError, Trajectory, make_task
from weightcast.datasets.evaluator import Evaluator, evaluator_for
from weightcast.datasets.task import ForecastTask
from weightcast.methods import make_method
from weightcast.methods.forecaster import Forecaster

T = TypeVar("T")


class NotHere(Exception):
    """The fitted method is not in this process, which is a new one."""


@dataclass
class _Desk:
    """What the process has at hand: the runs that it opened, and the method that it fitted last."""

    setup: Setup
    runs: RunCache
    known: KnownBytes
    key: str = ""
    method: Forecaster | None = None
    task: ForecastTask | None = None
    sample: NDArray[np.int64] | None = None
    evaluator: Evaluator | None = None

    def reading(self, fit: Fit, seeds: Sequence[int], work: Callable[[], T]) -> T:
        """Do what reads those of a fit's runs, seeing that their bytes are those of its key."""
        return self.known.reading([run for run in fit.data if run.seed in seeds], work)

    def prepare(self, fit: Fit) -> None:
        """Get what a fit's cells share; nothing is done where it is at hand."""
        if self.key == fit.key:
            return
        # Whatever comes, an earlier method is not to be taken for this one's.
        self.key, self.method, self.evaluator = "", None, None
        self.reading(fit, fit.split.test[:1], lambda: self._prepare(fit))
        self.key = fit.key

    def _prepare(self, fit: Fit) -> None:
        first = self.test_run(fit, fit.split.test[0])
        # In a shift track the test runs' steps and learning rates are not those of training runs.
        self.task = make_task(first, fit.context, seed=fit.task_seed)
        self.sample = coordinate_sample(fit.place.dataset, first.n_coordinates, fit.sample)
        self.evaluator = evaluator_for(first.meta) if "function" in fit.tiers else None

    def test_run(self, fit: Fit, seed: int) -> Trajectory:
        return fit.place.test_view(self.runs(fit.place.dataset, seed))


_desk: _Desk | None = None


def make_ready(setup: Setup, fit: Fit) -> None:
    """Load plugins, runs, data and libraries, which are no part of what a fit or a cell takes.

    What goes wrong here goes wrong again, and is told, where it is needed.
    """
    with contextlib.suppress(Exception):
        _at_desk(setup, fit)
        make_method(fit.method, json.loads(fit.params)).clone()
        pin_threads()


def make_fit(setup: Setup, fit: Fit) -> tuple[FitRecord, bytes | None]:
    """Fit one method.

    Returns
    -------
    record : FitRecord
    fitted : bytes or None
        The fitted method, pickled; None where it failed or cannot be pickled.
    """
    try:
        desk = _at_desk(setup, fit)
        pin_threads()
        seeds = (*fit.split.train, *fit.split.validation)
        record, desk.method = desk.reading(fit, seeds, lambda: _fit(desk, fit))
        # Once more: the fit may have loaded a library, and cells follow.
        record.site = Site(threads=pin_threads())
    except BaseException as error:  # a method may well call sys.exit
        return FitRecord(fit, failure_of(error)), None
    fitted: bytes | None = None
    with contextlib.suppress(Exception):
        fitted = pickle.dumps(desk.method)
    return record, fitted


def make_cell(setup: Setup, fit: Fit, seed: int, fitted: bytes | None) -> list[CellRow]:
    """Forecast and score one run, with the method that this process fitted or is handed.

    Raises
    ------
    NotHere
        If it has neither.
    """
    try:
        desk = _with_method(setup, fit, fitted)
        return desk.reading(fit, [seed], lambda: _cell(desk, fit, seed))
    except InputError as error:  # code or data are no longer those of the plan
        return rows_without_result(seed, fit.tiers, failure_of(error))


def _cell(desk: _Desk, fit: Fit, seed: int) -> list[CellRow]:
    assert desk.method is not None
    assert desk.task is not None
    assert desk.sample is not None
    run = desk.test_run(fit, seed)
    return evaluate_cell(
        desk.method, run, desk.task, desk.sample, desk.evaluator, fit.batch_norm, fit.lengths
    )


def finish_fit(
    setup: Setup, fit: Fit, fitted: bytes | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what is drawn of one run, on data sets themselves, and the method's diagnostics.

    Nothing of it is scored: a method that fails here loses its picture, or keeps the diagnostics
    that it had after its fit (None).
    """
    try:
        desk = _with_method(setup, fit, fitted)
        examples = desk.reading(fit, fit.split.test[:1], lambda: _examples(desk, fit))
    except InputError:  # code or data are no longer those of the plan
        return {}, None
    diagnostics = None
    with contextlib.suppress(BaseException):
        assert desk.method is not None
        diagnostics = _plain(desk.method.diagnostics())
    return examples, diagnostics


def _examples(desk: _Desk, fit: Fit) -> dict[str, Any]:
    assert desk.method is not None
    assert desk.task is not None
    assert desk.sample is not None
    examples: dict[str, Any] = {}
    place = fit.place
    first = fit.split.rotation == fit.repeat == 0
    if first and place == Place(place.dataset, place.dataset, place.track):
        run = desk.test_run(fit, fit.split.test[0])
        examples["truth"] = example_truth(run, desk.task, desk.sample)
        with contextlib.suppress(BaseException):  # a method may well call sys.exit
            forecast = example_forecast(desk.method, run, desk.task, desk.sample)
            examples["forecast"] = forecast
    return examples


def _fit(desk: _Desk, fit: Fit) -> tuple[FitRecord, Forecaster]:
    place = fit.place
    check_files(fit.method, fit.params, fit.files)
    train, validation = (
        [place.training_view(desk.runs(place.trained_on, s)) for s in seeds]
        for seeds in (fit.split.train, fit.split.validation)
    )
    task = make_task(train[0], fit.context, seed=fit.task_seed)
    sample = coordinate_sample(place.trained_on, train[0].n_coordinates, fit.sample)
    record, watch = FitRecord(fit), Stopwatch()
    # The first clone in a process loads scikit-learn, which the meters are not to count.
    method = make_method(fit.method, json.loads(fit.params)).clone()
    with peak_memory() as memory, watch:
        method, chosen, trials = fit_tuned(method, train, validation, task, sample, fit.tuning)
    check_files(fit.method, fit.params, fit.files)
    record.chosen, record.trials = _plain(chosen), _plain(trials)
    record.fit_seconds, record.fit_cpu_seconds = watch.wall, watch.cpu
    record.fit_memory_bytes = memory.above_baseline
    record.parameters = _plain(method.parameter_count())
    record.flops_per_coordinate = _plain(method.flops_per_coordinate(task))
    record.diagnostics = _plain(method.diagnostics())
    if method.get_tag("provenance") == "fit-on-train-split":
        record.training_runs_seconds = sum(_training_seconds(run) for run in train + validation)
    return record, method


def _at_desk(setup: Setup, fit: Fit) -> _Desk:
    global _desk
    if _desk is None or _desk.setup != setup:
        runs = RunCache(setup.data)
        _desk = _Desk(setup, runs, KnownBytes(runs, elsewhere=setup.distrust))
    load_plugins(setup, fit.method, {fit.place.dataset, fit.place.trained_on})
    check_code(setup, fit.method, fit.code)
    _desk.prepare(fit)
    return _desk


def _with_method(setup: Setup, fit: Fit, fitted: bytes | None) -> _Desk:
    if _desk is not None and _desk.key == fit.key and _desk.method is not None:
        return _desk
    if fitted is None:
        raise NotHere
    desk = _at_desk(setup, fit)
    try:
        # Bytes that a worker of this run made of a method it fitted; never read from a file.
        desk.method = pickle.loads(fitted)
    except Exception as error:  # a method's own way of being pickled need not work
        raise NotHere from error
    pin_threads()
    return desk


def _plain(value: T) -> T:
    """Return a value of a method's as the store can keep it, with NumPy's numbers as Python's.

    Raises
    ------
    TypeError
        If it holds anything that JSON has no word for; then the fit is at fault, not the store.
    """
    plain: T = json.loads(json.dumps(value, default=_number))
    return plain


def _number(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no plain value, as the result store needs it")


def _training_seconds(run: Trajectory) -> float:
    """Seconds that a run took to train from first to last snapshot; 0 if not recorded."""
    return float(run.steps[-1] - run.steps[0]) * (run.meta.seconds_per_step or 0.0)
