"""`forecast`: the weights that a run is to have, as tensors to load, also while it is trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weightcast.bench.commands.fit_runs import NamedRun
from weightcast.bench.commands.forecast_asked import Asked, ask, blaming
from weightcast.bench.commands.forecast_beside import evaluator_of
from weightcast.bench.commands.opened import open_run
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.training.batch_norm import has_statistics, re_estimate
from weightcast.bench.training.kept import Kept, load_in_place, unnoticed
from weightcast.datasets import InputError, Trajectory, TrajectoryRecorder, open_trajectory
from weightcast.datasets.evaluator import NetworkEvaluator, is_statistic
from weightcast.datasets.history import TrainLoss, recorded_loss
from weightcast.datasets.numbers import one_number, whole_number
from weightcast.datasets.recording.observed import Parts, bare
from weightcast.datasets.trajectory import Floats
from weightcast.datasets.window import Window
from weightcast.methods import Forecaster

_log = logging.getLogger(__name__)

#: What can be forecast: a trajectory, what records one, or where one lies.
Run = Trajectory | TrajectoryRecorder | str | Path
#: Measures a network as it is.
Loss = Callable[[Any], Any]


class Forecast(dict[str, Any]):
    """A network's tensors by name, for ``load_state_dict``, with what they are.

    Attributes
    ----------
    method : str
    origin_step : int
        The last step that the forecast saw.
    step : int
        The step that it is for.
    snapshots : int
        How many it saw.
    coverage : float
        The share of coordinates that the method forecast; the others keep their last value.
    batch_norm : str
        What statistics the network got: ``"re-estimated"`` on data under the forecast weights,
        ``"kept"`` as they were at the origin, or ``"none"``, where it has none.
    """

    method: str = ""
    origin_step: int = 0
    step: int = 0
    snapshots: int = 0
    coverage: float = 1.0
    batch_norm: str = "none"


def forecast(
    run: Run,
    method: str,
    horizon: int,
    *,
    fit: Sequence[Run] = (),
    context: int | None = None,
    window: int | None = None,
    model: torch.nn.Module | None = None,
    batches: Iterable[Any] | None = None,
    loss: Loss | None = None,
) -> Forecast:
    """Forecast the weights of a run, which may still be trained, as tensors to load.

    Parameters
    ----------
    run : Trajectory, TrajectoryRecorder, str or Path
        A recorder's run goes up to its last snapshot; a folder of checkpoints is read as it is.
    method : str
        A registered name, parameters in parentheses if need be.
    horizon : int
        How many snapshots after the origin, spaced as the run's own.
    fit : sequence of the same
        Whole runs of the same network at the same cadence, for methods that learn. Of two or more,
        the last quarter, one at the least, is for validation alone; a single one serves as both.
    context : int, optional
        The snapshot to forecast from, counted from 0; the last by default.
    window : int, optional
        How many snapshots the forecast sees, the last ones; all by default, or where the run jumped
        to a forecast, those after that.
    model : torch.nn.Module, optional
        The network, for what the run lacks of it, frozen parameters say, for ``batches`` and for
        ``loss``. A recorder knows its own.
    batches : iterable, optional
        What batch-norm statistics are estimated on under the forecast weights: training inputs, or
        tuples that begin with them, or mappings of keyword arguments, as a data loader gives them.
    loss : callable, optional
        From the network to its loss, a number, for methods that measure it, as ``line-search``
        does some fifteen times; on training data, for what it is measured on is no test.

    Returns
    -------
    Forecast
        A dictionary of every tensor of the network: those that are trained as float32, buffers and
        frozen ones as they were at the origin. Statistics of batch norm are estimated on
        ``batches``, or where the run's recipe gives its training data, on that; else they stay
        those of the origin. The network is left as it is.

    Raises
    ------
    InputError
        If an argument or a run is wrong.
    ForecastFailed
        If the method failed.
    """
    with in_words_of_python():
        asking = Asking(method, horizon, fit, context, window)
        return asking.forecast(run, model, batches, loss)


class Asking:
    """What forecasts are asked for; one that is asked for again is not fitted again.

    Parameters are those of `forecast`.
    """

    def __init__(
        self,
        method: str,
        horizon: int,
        fit: Sequence[Run] = (),
        context: int | None = None,
        window: int | None = None,
    ) -> None:
        if isinstance(fit, str | Path | Trajectory):
            fit = [fit]
        self._method, self._horizon = str(method), whole_number("horizon", horizon)
        self._context = None if context is None else whole_number("context", context)
        self._window = None if window is None else whole_number("window", window, least=2)
        self._others = [_named(other) for other in fit]
        self._fitted: tuple[tuple[int, int], Forecaster] | None = None

    def forecast(
        self,
        run: Run,
        model: torch.nn.Module | None,
        batches: Iterable[Any] | None,
        loss: Loss | None,
    ) -> Forecast:
        """Forecast a run as it is now."""
        whole = _named(run)
        if model is None and isinstance(run, TrajectoryRecorder):
            model = run.model
        if model is None and (batches is not None or loss is not None):
            what = "batches go through a network" if loss is None else "loss is of a network"
            raise InputError(f"{what}: give it as model")
        asked = self._ask(whole, measured=loss is not None)
        with _measuring(model, batches, loss) as loss_of:
            weights, found = _weights(asked, self._fit(asked), loss_of)
        n = asked.origin
        state = dict(asked.own.run.state(n))
        found.batch_norm = "kept" if any(map(is_statistic, state)) else "none"
        if found.batch_norm == "kept" and batches is None:
            state |= _recipe_statistics(asked.own.run, weights, found)
        _fill(found, asked.own.run, weights, state)
        if model is not None:
            _complete(found, model, batches)
        return found

    def _ask(self, whole: NamedRun, *, measured: bool) -> Asked:
        run = whole.run
        last = run.n_snapshots - 1
        n = last if self._context is None else self._context
        if self._context is not None and not 1 <= n <= last:
            raise InputError(
                f"context {n} does not fit {whole.path}: it has {last + 1} snapshots, so a context "
                f"is 1 to {last}"
            )
        start = _start(whole, n, self._window)
        if start == 0:
            asked = (self._method, self._horizon, self._others, self._context)
            return ask(whole, *asked, measured=measured)
        own = NamedRun(whole.path, Window(run, range(start, run.n_snapshots)))
        others = [_from_step(other, int(run.steps[start])) for other in self._others]
        return ask(own, self._method, self._horizon, others, n - start, measured=measured)

    def _fit(self, asked: Asked) -> Forecaster:
        """Fit, unless the same was fitted before: later in a run it is another task."""
        steps = asked.task.context_steps
        key = (len(steps), int(steps[0]))
        if not self._others or self._fitted is None or self._fitted[0] != key:
            self._fitted = key, asked.fit(quiet=True)
        return self._fitted[1]


def _named(run: Run) -> NamedRun:
    if isinstance(run, Trajectory):
        return NamedRun(Path(run.label), run)
    if isinstance(run, TrajectoryRecorder):
        return NamedRun(run.path, open_trajectory(run))
    return open_run(Path(run))


def _start(whole: NamedRun, n: int, window: int | None) -> int:
    """Return the first snapshot that a forecast from snapshot n sees."""
    run = whole.run
    jumped = [step for step in run.meta.jumps if step < run.steps[n] or n == run.n_snapshots - 1]
    start = int(np.searchsorted(run.steps, jumped[-1], side="right")) if jumped else 0
    if jumped and n - start < 1:
        raise InputError(
            f"{whole.path} jumped to a forecast after step {jumped[-1]}: a forecast needs two "
            "snapshots after that"
        )
    return start if window is None else max(start, n + 1 - window)


def _from_step(other: NamedRun, step: int) -> NamedRun:
    """Return a fit run from the step on at which the forecast run's window begins."""
    found = np.flatnonzero(other.run.steps == step)
    if not len(found):
        raise InputError(
            f"{other.path} has no snapshot at step {step}, where the window begins; record the "
            "runs at one cadence"
        )
    return NamedRun(other.path, Window(other.run, range(int(found[0]), other.run.n_snapshots)))


@contextmanager
def _measuring(
    model: torch.nn.Module | None, batches: Iterable[Any] | None, loss: Loss | None
) -> Iterator[Callable[[Trajectory], TrainLoss | None]]:
    """Lend what measures a loss of the user's at given weights; the network is left as it is."""
    if model is None or loss is None:
        yield recorded_loss
        return
    kept = Kept(model)
    settled = batches if has_statistics(model) else None

    def measure(weights: Mapping[str, Floats]) -> float:
        with unnoticed(model):
            load_in_place(model, {k: torch.from_numpy(np.array(w)) for k, w in weights.items()})
            if settled is not None:
                re_estimate(model, settled)
            found = float(one_number("loss", loss(model)))
        kept.restore()
        return found

    try:
        yield lambda run: TrainLoss(measure)
    finally:
        kept.restore()


def _weights(
    asked: Asked, fitted: Forecaster, loss_of: Callable[[Trajectory], TrainLoss | None]
) -> tuple[dict[str, Floats], Forecast]:
    """Ask for a forecast; return its last horizon, and what is known of it."""
    run, task = asked.own.run, asked.task
    weights = {info.name: np.empty(info.shape, np.float32) for info in run.tensors}
    covered = 0
    with blaming(asked.method, [asked.own], asked.origin + 1):
        for block in ForecastStream(fitted, run, task, loss_of=loss_of):
            flat = weights[block.tensor.name].reshape(-1)
            flat[block.rows] = block.forecast[:, -1]
            covered += 0 if block.abstained else len(block.rows)
    found = Forecast()
    found.method = asked.method
    found.origin_step, found.step = int(task.context_steps[-1]), int(task.horizon_steps[-1])
    found.snapshots = len(task.context_steps)
    found.coverage = covered / max(1, run.n_coordinates)
    return weights, found


def _recipe_statistics(
    run: Trajectory, weights: Mapping[str, Floats], found: Forecast
) -> dict[str, Any]:
    """Estimate batch-norm statistics on the training data of a run's recipe, where it has one."""
    evaluator = evaluator_of(run)[0]
    if not isinstance(evaluator, NetworkEvaluator):
        return {}
    found.batch_norm = "re-estimated"
    return evaluator.statistics(weights)


def _fill(
    found: Forecast, run: Trajectory, weights: Mapping[str, Floats], state: Mapping[str, Any]
) -> None:
    fixed = {info.name: run.fixed.read(info) for info in run.fixed.infos}
    for name, values in {**weights, **state, **fixed}.items():
        found[name] = torch.from_numpy(np.array(values))
    for name, first in run.fixed.aliases.items():
        found[name] = found[first]


def _complete(found: Forecast, model: torch.nn.Module, batches: Iterable[Any] | None) -> None:
    """Add what the run lacks of its network, and statistics of batches, which go through it."""
    parts = Parts.of(bare(model))
    for name, tensor in {**parts.frozen, **parts.buffers}.items():
        found.setdefault(name, tensor.detach())
    for name, first in parts.aliases.items():
        if first in found:
            found.setdefault(name, found[first])
    if batches is None or not has_statistics(model):
        return
    kept = Kept(model)
    try:
        with unnoticed(model):
            load_in_place(model, found)
            re_estimate(model, batches)
        for name, buffer in Parts.of(bare(model)).buffers.items():
            found[name] = buffer.detach().cpu().clone()
    finally:
        kept.restore()
    found.batch_norm = "re-estimated"


@contextmanager
def in_words_of_python() -> Iterator[None]:
    """Name arguments where a message names the command line's options."""
    try:
        yield
    except InputError as error:
        said = re.sub(r"--(fit|context|horizon)\b", r"\1", str(error))
        if "measures the train loss" in said:
            said += "; give a function from the network to its loss as loss"
        if said == str(error):
            raise
        raise type(error)(said) from error
