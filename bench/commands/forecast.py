"""Forecasting one's own run: a checkpoint of the weights that it is to have, for `load_state_dict`.

The run is read and the checkpoint is written block by block, so with a coordinate forecaster memory
does not grow with the network. Nothing is scored here: the run's future need not be known.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.commands.fit_runs import NamedRun, cadence, check_fit_runs, sides
from weightcast.bench.commands.forecast_beside import (
    contents,
    evaluator_of,
    reason,
    write_beside,
)
from weightcast.bench.progress.bar import Advance, progress_bar
from weightcast.bench.progress.signs_of_life import Reading, signs_of_life
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.scoring.tuning import fit_tuned
from weightcast.datasets import ForecastTask, InputError, Trajectory, make_task, open_trajectory
from weightcast.datasets.files.checkpoint_writer import CheckpointWriter
from weightcast.datasets.files.checkpoints import MANIFEST
from weightcast.datasets.foreign_code import WouldEnd, no_way_out
from weightcast.datasets.trajectory import block_ranges
from weightcast.datasets.window import Window
from weightcast.methods import CoordinateForecaster, Forecaster, make_method

#: Coordinates in a block of a method that takes milliseconds for each.
_SLOW_BLOCK = 64
#: Work that is expected to take longer shows its progress, in seconds.
_WORTH_SHOWING = 2.0


class ForecastFailed(InputError):
    """The method failed, or its forecast is of no use; nothing was written."""


@dataclass(frozen=True)
class WrittenForecast:
    """What `forecast_run` wrote.

    Attributes
    ----------
    out, source, method : str
    context, horizon : int
        In snapshots.
    origin_step, forecast_step : int
        Optimizer steps of the last snapshot seen and of the one forecast.
    coordinates : int
    coverage : float
        The share of coordinates that the method forecast; the others keep their last value.
    fitted_on, validated_on : tuple of str
    bytes : int
        The file's.
    seconds : float
        From opening the runs to the finished file.
    train_loss_origin, train_loss_forecast : float or None
        None where it was not measured.
    batch_norm : str
        What statistics the network got: ``"re-estimated"`` on training data under the forecast
        weights, ``"kept"`` as they were at the origin, or ``"none"``, where it has none.
    batch_norm_examples : int or None
        How many examples they were estimated on.
    """

    out: str
    source: str
    method: str
    context: int
    horizon: int
    origin_step: int
    forecast_step: int
    coordinates: int
    coverage: float
    fitted_on: tuple[str, ...]
    validated_on: tuple[str, ...]
    bytes: int
    seconds: float
    train_loss_origin: float | None = None
    train_loss_forecast: float | None = None
    batch_norm: str = "none"
    batch_norm_examples: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a loss that is not finite is None, as JSON has no word for it."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    def line(self) -> str:
        """Say it in one line."""
        covered = f" ({self.coverage:.1%} of them forecast)" if self.coverage < 1 else ""
        size = f"{self.bytes / 2**20:,.1f} MiB" if self.bytes >= 2**20 else f"{self.bytes:,} bytes"
        said = (
            f"{self.out}: {self.method}, step {self.origin_step} -> {self.forecast_step}, "
            f"{self.coordinates:,} coordinates{covered}, {size}, {self.seconds:.1f} s"
        )
        if self.batch_norm == "re-estimated":
            said += f"; batch norm re-estimated on {self.batch_norm_examples:,} training examples"
        if self.batch_norm == "kept":
            said += f"; batch norm kept from step {self.origin_step}, re-estimate it on your data"
        if self.train_loss_origin is None or self.train_loss_forecast is None:
            return said
        return f"{said}; train loss {self.train_loss_origin:.4g} -> {self.train_loss_forecast:.4g}"


def forecast_run(
    path: Path,
    method: str,
    horizon: int,
    out: Path,
    *,
    fit: Sequence[Path] = (),
    context: int | None = None,
    measure: bool = True,
) -> WrittenForecast:
    """Forecast a run and write the weights at the last horizon as a checkpoint.

    The file has every trained tensor under its own name as float32, and beside them what else the
    run recorded: buffers as they were at the origin, frozen parameters, further names of tied ones.
    Batch-norm statistics belong to weights: they are estimated anew where the run's recipe gives
    its training data, else kept from the origin. Where a run lacks some of the network (frozen
    parameters that were not recorded), load with ``strict=False``.

    Parameters
    ----------
    path : Path
        Any trajectory.
    method : str
        A registered name.
    horizon : int
        How many snapshots after the origin, spaced as the run's own.
    out : Path
        The ``.safetensors`` file; one that is there is replaced once the new one is whole.
    fit : sequence of Path
        Whole runs of the same network at the same cadence, for methods that learn. Of two or more,
        the last quarter, one at the least, is for validation alone; a single one serves as both.
    context : int, optional
        n, for a forecast from the first n + 1 snapshots; all of them by default.
    measure : bool
        Whether to measure the train loss at the origin and of the forecast, where the run's recipe
        can be rebuilt.

    Raises
    ------
    InputError
        If an argument or a run is wrong, or the file cannot be written.
    ForecastFailed
        If the method failed.
    """
    start = time.perf_counter()
    forecaster = make_method(method)
    own, *others = (NamedRun(p, open_trajectory(p)) for p in (path, *fit))
    _check_out(out, (path, *fit))
    n = _context(own, context, horizon)
    _check_needs(forecaster, method, own, others)
    check_fit_runs(own, others, n, horizon)
    task = _task(own, others, n, horizon)
    if forecaster.get_tag("sampled"):
        # In blocks of the usual size it would be minutes to the first sign of life.
        task = replace(task, block_bytes=4 * (n + 1 + horizon) * _SLOW_BLOCK)
    train, validation = sides(others)
    metadata = {
        "format": "pt",
        "method": method,
        "source": path.name,
        "origin_step": str(own.run.steps[n]),
        "forecast_step": str(task.horizon_steps[-1]),
        "context": str(n),
        "horizon": str(horizon),
    }
    with CheckpointWriter(out, contents(own.run, n), own.run.fixed.aliases, metadata) as writer:
        fitted = _fit(forecaster, method, train, validation, task)
        with _blaming(method, [own], n + 1):
            forecast_count = _write_forecast(ForecastStream(fitted, own.run, task), method, writer)
        found = write_beside(writer, own.run, n, measure=measure)
        writer.finish()
    seconds = time.perf_counter() - start
    return WrittenForecast(
        out=str(out),
        source=str(path),
        method=method,
        context=n,
        horizon=horizon,
        origin_step=int(own.run.steps[n]),
        forecast_step=int(task.horizon_steps[-1]),
        coordinates=own.run.n_coordinates,
        coverage=forecast_count / max(1, own.run.n_coordinates),
        fitted_on=tuple(str(other.path) for other in train),
        validated_on=tuple(str(other.path) for other in validation),
        bytes=out.stat().st_size,
        seconds=seconds,
        train_loss_origin=found.train_loss_origin,
        train_loss_forecast=found.train_loss_forecast,
        batch_norm=found.batch_norm,
        batch_norm_examples=found.examples,
    )


def _check_out(out: Path, sources: Sequence[Path]) -> None:
    if out.suffix != ".safetensors" or out.is_dir():
        raise InputError(f"--out {out} is not the name of a .safetensors file")
    target = Path(os.path.realpath(out))
    for source in sources:
        real = Path(os.path.realpath(source))
        folder = real.parent if real.name == MANIFEST else real
        # In a folder of checkpoints it could replace one, or be taken for one.
        if folder == target or folder in target.parents:
            raise InputError(f"--out {out} would write into {source}; name another file")


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
    forecaster: Forecaster, method: str, own: NamedRun, others: Sequence[NamedRun]
) -> None:
    if forecaster.get_tag("provenance") == "fit-on-train-split" and not others:
        raise InputError(
            f"{method} learns from other runs: give whole runs of the same network with --fit"
        )
    if "truth" in forecaster.get_tag("needs"):
        raise InputError(
            f"{method} is told what it is to forecast: it is a bound for others, not a forecast"
        )
    if "train-loss" in forecaster.get_tag("needs"):
        evaluator, why_not = evaluator_of(own.run)
        if evaluator is None:
            raise InputError(f"{method} measures the train loss of {own.path}, but {why_not}")


def _task(own: NamedRun, others: Sequence[NamedRun], n: int, horizon: int) -> ForecastTask:
    """Make the task of a run whose future need not be recorded."""
    run = own.run
    known = run.steps[: n + horizon + 1]
    if others:
        ahead = run.steps[n] + np.diff(others[0].run.steps[n : n + horizon + 1]).cumsum()
    else:
        spacing = int(known[-1] - known[-2])
        beyond = known[-1] + spacing * np.arange(1, n + horizon + 2 - len(known))
        ahead = np.concatenate([known, beyond])[n + 1 :]
        if len(set(np.diff(known).tolist())) > 1 and len(beyond):
            print(
                f"note: {own.path} has a snapshot {cadence(np.diff(known))}; those after its last "
                f"one are taken to be {spacing:,} steps apart",
                file=sys.stderr,
            )
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


def _fit(
    forecaster: Forecaster,
    name: str,
    train: Sequence[NamedRun],
    validation: Sequence[NamedRun],
    task: ForecastTask,
) -> Forecaster:
    """Fit a method with its defaults; own-run methods mostly do nothing here."""
    snapshots = range(task.context + len(task.horizons) + 1)
    if train:
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
            _blaming(name, [*train, *validation], len(snapshots)),
            signs_of_life(f"fitting {name}", training, validating),
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


@contextmanager
def _blaming(method: str, runs: Sequence[NamedRun], snapshots: int) -> Iterator[None]:
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


def _write_forecast(stream: ForecastStream, method: str, writer: CheckpointWriter) -> int:
    """Write the last horizon of a forecast; return how many coordinates are not abstentions."""
    run, task = stream.run, stream.task
    rows = task.context + 1 + len(task.horizons)
    total = sum(1 for _ in block_ranges(run.tensors, rows, task.block_bytes))
    done, coordinates, forecast_count = 0, 0, 0
    advance: Advance | None = None
    start = time.monotonic()
    by_block = isinstance(stream.method, CoordinateForecaster)
    with ExitStack() as stack:
        if not by_block:  # all is done before the first block comes
            stack.enter_context(signs_of_life(f"forecasting by {method}"))
        for block in stream:
            writer.write(block.tensor.name, int(block.rows[0]), block.forecast[:, -1])
            done, coordinates = done + 1, coordinates + len(block.rows)
            forecast_count += 0 if block.abstained else len(block.rows)
            elapsed = time.monotonic() - start
            left = elapsed / coordinates * (run.n_coordinates - coordinates)
            if advance is not None:
                advance(block.tensor.name, left)
            elif by_block and left > _WORTH_SHOWING:
                advance = stack.enter_context(
                    progress_bar(f"forecasting by {method}", total - done)
                )
    return forecast_count
