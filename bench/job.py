"""What a worker process does: one fit, then the cells that use it, each asked for by itself.

Exceptions of the method become rows with a status and never leave this module. A fitted method goes
back to the runner as bytes as well, so that a process that dies over one cell does not cost the fit
of the others.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.cell import CellRow, evaluate_cell
from weightcast.bench.events import FitRecord, failed_record
from weightcast.bench.examples import example_forecast, example_truth
from weightcast.bench.forecasting import Stopwatch
from weightcast.bench.memory import peak_memory
from weightcast.bench.place import Place
from weightcast.bench.plan import Fit, RunCache
from weightcast.bench.sample import coordinate_sample
from weightcast.bench.tuning import fit_tuned
from weightcast.bench.workers import THREADS
from weightcast.datasets import InputError, Trajectory, make_task
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.task import ForecastTask
from weightcast.methods import load_plugin, make_method
from weightcast.methods.code import code_hash
from weightcast.methods.forecaster import Forecaster


@dataclass(frozen=True)
class Setup:
    """What every worker of a run needs to know.

    Attributes
    ----------
    plugins : tuple of Path
    data : Path, optional
        Folder of recorded data sets.
    distrust : bool
        Whether to see for oneself that data and code are those of the plan: on another machine they
        may not be.
    """

    plugins: tuple[Path, ...] = ()
    data: Path | None = None
    distrust: bool = False


class NotHere(Exception):
    """The fitted method is not in this process, which is a new one."""


@dataclass
class _Desk:
    """What the process has at hand: the runs that it opened, and the method that it fitted last."""

    setup: Setup
    runs: RunCache
    key: str = ""
    method: Forecaster | None = None
    task: ForecastTask | None = None
    sample: NDArray[np.int64] | None = None
    evaluator: Evaluator | None = None
    checked: set[tuple[str, int]] = field(default_factory=set)

    def take_up(self, fit: Fit, method: Forecaster) -> None:
        """Put a fitted method on the desk, with what its cells share."""
        first = self.test_run(fit, fit.split.test[0])
        # In a shift track the test runs' steps and learning rates are not those of training runs.
        self.task = make_task(first, fit.context, seed=fit.seed + fit.split.rotation)
        self.sample = coordinate_sample(fit.place.dataset, first.n_coordinates, fit.sample)
        self.evaluator = first.evaluator() if "function" in fit.tiers else None
        self.key, self.method = fit.key, method

    def test_run(self, fit: Fit, seed: int) -> Trajectory:
        return fit.place.test_view(self.runs(fit.place.dataset, seed))


_desk: _Desk | None = None


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
        _pin_threads()
        record, method = _fit(desk, fit)
        desk.take_up(fit, method)
        # Once more: the fit may have loaded a library, and cells follow.
        record.threads = _pin_threads()
    except MemoryError as error:
        return failed_record(fit, "out-of-memory", error), None
    except BaseException as error:  # a method may well call sys.exit
        return failed_record(fit, "failed", error), None
    fitted: bytes | None = None
    with contextlib.suppress(Exception):
        fitted = pickle.dumps(method)
    return record, fitted


def make_cell(setup: Setup, fit: Fit, seed: int, fitted: bytes | None) -> list[CellRow]:
    """Forecast and score one run, with the method that this process fitted or is handed.

    Raises
    ------
    NotHere
        If it has neither.
    """
    desk = _with_method(setup, fit, fitted)
    assert desk.method is not None
    assert desk.task is not None
    assert desk.sample is not None
    run = desk.test_run(fit, seed)
    return evaluate_cell(desk.method, run, desk.task, desk.sample, desk.evaluator)


def finish_fit(
    setup: Setup, fit: Fit, fitted: bytes | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is drawn of one run, on data sets themselves, and the method's diagnostics."""
    examples: dict[str, Any] = {}
    desk = _with_method(setup, fit, fitted)
    assert desk.method is not None
    assert desk.task is not None
    assert desk.sample is not None
    place = fit.place
    if fit.split.rotation == 0 and place == Place(place.dataset, place.dataset, place.track):
        run = desk.test_run(fit, fit.split.test[0])
        examples["truth"] = example_truth(run, desk.task, desk.sample)
        # Only drawn, never scored: a method that fails here loses its picture.
        with contextlib.suppress(Exception):
            forecast = example_forecast(desk.method, run, desk.task, desk.sample)
            examples["forecast"] = forecast
    return examples, desk.method.diagnostics()


def _fit(desk: _Desk, fit: Fit) -> tuple[FitRecord, Forecaster]:
    place = fit.place
    train, validation = (
        [place.training_view(desk.runs(place.trained_on, s)) for s in seeds]
        for seeds in (fit.split.train, fit.split.validation)
    )
    task = make_task(train[0], fit.context, seed=fit.seed + fit.split.rotation)
    sample = coordinate_sample(place.trained_on, train[0].n_coordinates, fit.sample)
    record, watch = FitRecord(fit), Stopwatch()
    # The first clone in a process loads scikit-learn, which the meters are not to count.
    method = make_method(fit.method, json.loads(fit.params)).clone()
    with peak_memory() as memory, watch:
        method, record.chosen, record.trials = fit_tuned(
            method, train, validation, task, sample, fit.tuning
        )
    record.fit_seconds, record.fit_cpu_seconds = watch.wall, watch.cpu
    record.fit_memory_bytes = memory.above_baseline
    record.parameters = method.parameter_count()
    record.flops_per_coordinate = method.flops_per_coordinate(task)
    record.diagnostics = method.diagnostics()
    if method.get_tag("provenance") == "fit-on-train-split":
        record.training_runs_seconds = sum(_training_seconds(run) for run in train + validation)
    return record, method


def _at_desk(setup: Setup, fit: Fit) -> _Desk:
    global _desk
    if _desk is None or _desk.setup != setup:
        for plugin in setup.plugins:
            load_plugin(plugin)
        _desk = _Desk(setup, RunCache(setup.data))
    # Whatever comes, an earlier method is not to be taken for this one.
    _desk.key, _desk.method, _desk.evaluator = "", None, None
    if setup.distrust:
        _check(_desk, fit)
    return _desk


def _with_method(setup: Setup, fit: Fit, fitted: bytes | None) -> _Desk:
    if _desk is not None and _desk.key == fit.key and _desk.method is not None:
        return _desk
    if fitted is None:
        raise NotHere
    desk = _at_desk(setup, fit)
    try:
        # Bytes that a worker of this run made of a method it fitted; never read from a file.
        method = pickle.loads(fitted)
    except Exception as error:  # a method's own way of being pickled need not work
        raise NotHere from error
    desk.take_up(fit, method)
    _pin_threads()
    return desk


def _check(desk: _Desk, fit: Fit) -> None:
    """See that the data and the method's code are here what they were where the plan was made."""
    if code_hash(type(make_method(fit.method))) != fit.code:
        raise InputError(
            f"the code of {fit.method} on this worker is not that of the client; install the same "
            "Weightcast on both"
        )
    for dataset, seed, content in fit.data:
        if (dataset, seed) not in desk.checked:
            if desk.runs(dataset, seed).content_hash() != content:
                raise InputError(
                    f"{dataset}, seed {seed}: this worker reads other data than the client; name a "
                    "folder that both share with --data"
                )
            desk.checked.add((dataset, seed))


def _training_seconds(run: Trajectory) -> float:
    """Seconds that a run took to train from first to last snapshot; 0 if not recorded."""
    return float(run.steps[-1] - run.steps[0]) * (run.meta.seconds_per_step or 0.0)


def _pin_threads() -> int:
    """Hold the numerical libraries that are loaded to one thread; return the most any uses."""
    from threadpoolctl import threadpool_info, threadpool_limits

    threadpool_limits(THREADS)
    used = [library["num_threads"] for library in threadpool_info()]
    # Loading torch here would slow every worker that does without.
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(THREADS)
        used.append(torch.get_num_threads())
    return max(used, default=THREADS)
