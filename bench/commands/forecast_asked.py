"""What is asked of `weightcast forecast`, checked, and a method fitted for it.

Everything here goes by runs that are open already, each with the path that messages name it by.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.commands.fit_runs import NamedRun, cadence, check_fit_runs, sides
from weightcast.bench.commands.forecast_beside import evaluator_of, reason
from weightcast.bench.progress.signs_of_life import Reading, signs_of_life
from weightcast.bench.scoring.tuning import fit_tuned
from weightcast.datasets import ForecastTask, InputError, Trajectory, make_task
from weightcast.datasets.foreign_code import WouldEnd, no_way_out
from weightcast.datasets.window import Window
from weightcast.methods import Forecaster, make_method

#: Learns two numbers, for which the run's own context will do where there are no other runs.
TUNED_ON_CONTEXT = "damped-line"
#: Coordinates in a block of a method that takes milliseconds for each.
_SLOW_BLOCK = 64


class ForecastFailed(InputError):
    """The method failed, or its forecast is of no use; nothing was written."""


@dataclass(frozen=True)
class Asked:
    """A forecast that can be made, as far as its arguments tell.

    Attributes
    ----------
    method : str
    forecaster : Forecaster
        Not fitted yet.
    own : NamedRun
        The run to forecast.
    others : tuple of NamedRun
        Those to fit on.
    task : ForecastTask
    """

    method: str
    forecaster: Forecaster
    own: NamedRun
    others: tuple[NamedRun, ...]
    task: ForecastTask

    @property
    def origin(self) -> int:
        """The last snapshot that the forecast sees."""
        return self.task.context

    @property
    def horizon(self) -> int:
        """Snapshots from there to the last that is forecast."""
        return len(self.task.horizons)

    def fit(self, *, quiet: bool = False) -> Forecaster:
        """Fit the method on the fit runs, or what needs little on the context.

        ``quiet`` says neither what it is fitted on nor how long it takes.

        Raises
        ------
        ForecastFailed
            If that fails.
        """
        if self.method == TUNED_ON_CONTEXT and not self.others:
            if not quiet:
                print(
                    f"fitting {self.method} on the last third of the run's own context, for want "
                    "of runs to fit on",
                    file=sys.stderr,
                )
            return fit_on_context(self.forecaster, self.own, self.origin)
        return fit_method(self.forecaster, self.method, *sides(self.others), self.task, quiet=quiet)


def ask(
    own: NamedRun,
    method: str,
    horizon: int,
    others: Sequence[NamedRun] = (),
    context: int | None = None,
    *,
    measured: bool = False,
) -> Asked:
    """Check what is asked; parameters are those of `forecast_run`.

    ``measured`` says that the run's train loss can be measured although it has no recipe.

    Raises
    ------
    InputError
        If an argument or a run is wrong.
    """
    forecaster = make_method(method)
    n = _context(own, context, horizon)
    _check_needs(forecaster, method, own, others, measured)
    check_fit_runs(own, others, n, horizon)
    task = forecast_task(own, others, n, horizon)
    _note_jumps(own, n)
    if forecaster.get_tag("sampled"):
        # In blocks of the usual size it would be minutes to the first sign of life.
        task = replace(task, block_bytes=4 * (n + 1 + horizon) * _SLOW_BLOCK)
    return Asked(method, forecaster, own, tuple(others), task)


def _note_jumps(own: NamedRun, n: int) -> None:
    """Say where the context goes across a jump, of which no method knows."""
    first, origin = int(own.run.steps[0]), int(own.run.steps[n])
    jumps = [step for step in own.run.meta.jumps if first <= step < origin]
    if jumps:
        print(
            f"note: {own.path} jumped to a forecast after step {jumps[-1]:,}, so that what is "
            "before it tells little of what comes after; weightcast.bench.forecast takes what is "
            "after it alone",
            file=sys.stderr,
        )


def _context(own: NamedRun, context: int | None, horizon: int) -> int:
    last = own.run.n_snapshots - 1
    if horizon < 1:
        raise InputError(f"--horizon {horizon} is not after the origin; give 1 or more snapshots")
    if last < 1:
        raise InputError(f"{own.path} has one snapshot; a forecast needs two or more")
    if context is not None and not 1 <= context <= last:
        raise InputError(
            f"--context {context} does not fit {own.path}: it has {last + 1} snapshots, so a "
            f"context is 1 to {last}"
        )
    return last if context is None else context


def _check_needs(
    forecaster: Forecaster,
    method: str,
    own: NamedRun,
    others: Sequence[NamedRun],
    measured: bool,
) -> None:
    learns = forecaster.get_tag("provenance") == "fit-on-train-split"
    if learns and not others and method != TUNED_ON_CONTEXT:
        raise InputError(
            f"{method} learns from other runs: give whole runs of the same network with --fit"
        )
    if "truth" in forecaster.get_tag("needs"):
        raise InputError(
            f"{method} is told what it is to forecast: it is a bound for others, not a forecast"
        )
    if "train-loss" in forecaster.get_tag("needs") and not measured:
        evaluator, why_not = evaluator_of(own.run)
        if evaluator is None:
            raise InputError(f"{method} measures the train loss of {own.path}, but {why_not}")


def forecast_task(
    own: NamedRun,
    others: Sequence[NamedRun],
    n: int,
    horizon: int,
    steps_ahead: NDArray[np.int64] | None = None,
) -> ForecastTask:
    """Make the task of a run whose future need not be recorded.

    ``steps_ahead`` are the steps of the horizons, where they are known and the run ends before.
    """
    run = own.run
    ahead = _steps_ahead(own, others, n, horizon) if steps_ahead is None else steps_ahead
    return ForecastTask(
        dataset=run.meta.dataset,
        context=n,
        horizons=np.arange(1, horizon + 1, dtype=np.float32),
        context_steps=run.steps[: n + 1].copy(),
        horizon_steps=np.asarray(ahead, dtype=np.int64),
        learning_rates=_rates(run, others, int(ahead[-1])),
        optimizer=run.meta.optimizer,
        hyperparameters=dict(run.meta.hyperparameters),
    )


def _steps_ahead(
    own: NamedRun, others: Sequence[NamedRun], n: int, horizon: int
) -> NDArray[np.int64]:
    """Return the steps of the horizons: as in the fit runs, or at the run's own last spacing."""
    known = own.run.steps[: n + horizon + 1]
    if others:
        theirs = np.diff(others[0].run.steps[n : n + horizon + 1])
        ahead: NDArray[np.int64] = own.run.steps[n] + theirs.cumsum()
        return ahead
    spacing = int(known[-1] - known[-2])
    beyond = known[-1] + spacing * np.arange(1, n + horizon + 2 - len(known))
    if len(set(np.diff(known).tolist())) > 1 and len(beyond):
        print(
            f"note: {own.path} has a snapshot {cadence(np.diff(known))}; those after its last "
            f"one are taken to be {spacing:,} steps apart",
            file=sys.stderr,
        )
    return np.concatenate([known, beyond])[n + 1 :]


def _rates(run: Trajectory, others: Sequence[NamedRun], last: int) -> NDArray[np.float64]:
    """Return the rate of every step to the last horizon, none where the run does not know its own.

    Of steps that the run has yet to take, the rates are those of the fit runs, then its latest.
    """
    rates = list(run.meta.learning_rates[:last])
    if rates and others:
        rates += others[0].run.meta.learning_rates[len(rates) : last]
    if rates:
        rates += [rates[-1]] * (last - len(rates))
    return np.asarray(rates, dtype=np.float64)


def fit_method(
    forecaster: Forecaster,
    name: str,
    train: Sequence[NamedRun],
    validation: Sequence[NamedRun],
    task: ForecastTask,
    *,
    quiet: bool = False,
) -> Forecaster:
    """Fit a method with its defaults; own-run methods mostly do nothing here.

    ``quiet`` says neither what it is fitted on nor how long it takes.
    """
    snapshots = range(task.context + len(task.horizons) + 1)
    if train and not quiet:
        whose = "which is its validation run too"
        if train[0] is not validation[0]:
            whose = f"validating on {', '.join(str(other.path) for other in validation)}"
        count = f"{len(train)} runs" if len(train) > 1 else str(train[0].path)
        print(f"fitting {name} on {count}, {whose}", file=sys.stderr)
    training = Reading("training", [other.run for other in train], snapshots)
    validating = Reading("validation", [other.run for other in validation], snapshots)
    if train:
        # A fit's task has the steps of the runs that it is fitted on, as in the benchmark.
        task = make_task(training.runs[0], task.context, block_bytes=task.block_bytes)
    try:
        with (
            blaming(name, [*train, *validation], len(snapshots)),
            nullcontext() if quiet else signs_of_life(f"fitting {name}", training, validating),
        ):
            return fit_tuned(
                forecaster, training.runs, validating.runs, task, np.empty(0, np.int64), 1
            )[0]
    except ForecastFailed as error:
        if train:
            raise
        raise ForecastFailed(
            f"{error}; if it learns from other runs, name some with --fit"
        ) from error


def fit_on_context(forecaster: Forecaster, own: NamedRun, origin: int | None = None) -> Forecaster:
    """Tune `TUNED_ON_CONTEXT` on what a run itself has shown: no other run is needed.

    The last third of the context is forecast from the snapshots before.

    Raises
    ------
    InputError
        If the context is too short.
    """
    last = own.run.n_snapshots - 1 if origin is None else origin
    if last < 2:
        raise InputError(
            f"{own.path} has too short a context to tune {TUNED_ON_CONTEXT} on; give runs with "
            "--fit"
        )
    seen = Window(own.run, range(last + 1))
    past = [NamedRun(own.path, seen)]
    task = make_task(seen, last - max(1, last // 3))
    return fit_method(forecaster, TUNED_ON_CONTEXT, past, past, task, quiet=True)


@contextmanager
def blaming(method: str, runs: Sequence[NamedRun], snapshots: int) -> Iterator[None]:
    """Turn a method's exception into one line, and into the data's fault where it is theirs."""
    try:
        with no_way_out():
            yield
    except InputError:
        raise
    except (Exception, SystemExit, WouldEnd) as error:
        for other in runs:
            found = Window(other.run, range(snapshots)).first_not_finite()
            if found is not None:
                raise InputError(f"{other.path} holds {found}; {found.usable}") from error
        raise ForecastFailed(f"{method} failed: {reason(error)}") from error
