"""Forecasting one's own run: a checkpoint of the weights that it is to have, for `load_state_dict`.

The run is read and the checkpoint is written block by block, so with a coordinate forecaster memory
does not grow with the network. Nothing is scored here: the run's future need not be known.
"""

from __future__ import annotations

import glob
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.forecasting import ForecastStream
from weightcast.bench.progress import EVERY, Advance, duration, progress_bar
from weightcast.bench.tuning import fit_tuned
from weightcast.datasets import ForecastTask, InputError, Trajectory, make_task, open_trajectory
from weightcast.datasets.checkpoints import MANIFEST
from weightcast.datasets.evaluator import Evaluator
from weightcast.datasets.stacked import StateInfo
from weightcast.datasets.tensor_files import Checkpoint
from weightcast.datasets.trajectory import BLOCK_BYTES, Floats, State, TensorInfo, block_ranges
from weightcast.datasets.window import Window
from weightcast.methods import CoordinateForecaster, Forecaster, make_method

#: Coordinates of each tensor that tell snapshots apart before they are compared whole.
_PROBE = 1000
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
        if self.train_loss_origin is None or self.train_loss_forecast is None:
            return said
        return f"{said}; train loss {self.train_loss_origin:.4g} -> {self.train_loss_forecast:.4g}"


@dataclass(frozen=True)
class _Run:
    """A run and the path that it was named by."""

    path: Path
    run: Trajectory


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

    The file has every trained tensor under its own name as float32, and beside them the state that
    the run recorded at the origin (batch-norm statistics, say), unchanged. Parameters that were not
    trained, and the second names of tied ones, are in no trajectory: where the network has such,
    load with ``strict=False``.

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
    own, *others = (_Run(p, open_trajectory(p)) for p in (path, *fit))
    _check_out(out, (path, *fit))
    n = _context(own, context, horizon)
    _check_needs(forecaster, method, own, others)
    _check_fit_runs(own, others, n, horizon)
    task = _task(own, others, n, horizon)
    if forecaster.get_tag("sampled"):
        # In blocks of the usual size it would be minutes to the first sign of life.
        task = replace(task, block_bytes=4 * (n + 1 + horizon) * _SLOW_BLOCK)
    train, validation = _sides(others)
    state = own.run.state(n)
    metadata = {
        "format": "pt",
        "method": method,
        "source": path.name,
        "origin_step": str(own.run.steps[n]),
        "forecast_step": str(task.horizon_steps[-1]),
        "context": str(n),
        "horizon": str(horizon),
    }
    with _CheckpointWriter(out, own.run.tensors, state, metadata) as writer:
        fitted = _fit(forecaster, method, train, validation, task)
        with _blaming(method, [own], n + 1):
            forecast_count = _write_forecast(ForecastStream(fitted, own.run, task), method, writer)
        for name, values in state.items():
            writer.write(name, 0, values)
        writer.finish()
    seconds = time.perf_counter() - start
    losses = _losses(own.run, n, out) if measure else (None, None)
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
        train_loss_origin=losses[0],
        train_loss_forecast=losses[1],
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


def _context(own: _Run, context: int | None, horizon: int) -> int:
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


def _check_needs(forecaster: Forecaster, method: str, own: _Run, others: Sequence[_Run]) -> None:
    if forecaster.get_tag("provenance") == "fit-on-train-split" and not others:
        raise InputError(
            f"{method} learns from other runs: give whole runs of the same network with --fit"
        )
    if "train-loss" in forecaster.get_tag("needs"):
        evaluator, why_not = _evaluator(own.run)
        if evaluator is None:
            raise InputError(f"{method} measures the train loss of {own.path}, but {why_not}")


def _check_fit_runs(own: _Run, others: Sequence[_Run], n: int, horizon: int) -> None:
    """Hold the fit runs to the run's network and cadence, and to being other runs than it."""
    needed = n + horizon + 1
    seen: dict[Path, Path] = {}
    for path in (own.path, *(other.path for other in others)):
        real = Path(os.path.realpath(path))
        if real in seen:
            raise InputError(f"{seen[real]} and {path} are the same run; name each run once")
        seen[real] = path
    for other in others:
        path, run = other.path, other.run
        _check_tensors(own, other)
        if run.n_snapshots < needed:
            at_most = run.n_snapshots - 1 - n
            mend = f"shorten --horizon to {at_most} or " if at_most >= 1 else ""
            raise InputError(
                f"{path} has {run.n_snapshots} snapshots, but context {n} and horizon {horizon} "
                f"need {needed}; {mend}name longer runs"
            )
        spacing, first = np.diff(run.steps[:needed]), np.diff(others[0].run.steps[:needed])
        if not np.array_equal(spacing, first):
            raise _other_cadence(others[0].path, first, path, spacing)
        mine = np.diff(own.run.steps[: n + 1])
        if not np.array_equal(mine, spacing[:n]):
            off_beat = n > 1 and np.array_equal(mine[:-1], spacing[: n - 1])
            raise _other_cadence(own.path, mine, path, spacing, n - 1 if off_beat else None)
    probes: dict[str, int] = {}
    for index in range(own.run.n_snapshots if others else 0):
        probes.setdefault(_probe(own.run, index), index)
    for other in others:
        _check_content(own, other, probes)


def _check_tensors(own: _Run, other: _Run) -> None:
    mine, theirs = ({t.name: t.shape for t in r.run.tensors} for r in (own, other))
    for name, shape in mine.items():
        if name not in theirs:
            raise InputError(f"{other.path} has no tensor {name}, which {own.path} has")
        if theirs[name] != shape:
            raise InputError(
                f"{other.path}: tensor {name} has shape {list(theirs[name])}, but {list(shape)} in "
                f"{own.path}"
            )
    for name in theirs:
        if name not in mine:
            raise InputError(f"{other.path} has a tensor {name}, which {own.path} lacks")


def _other_cadence(
    one: Path,
    first: NDArray[np.int64],
    other: Path,
    second: NDArray[np.int64],
    context: int | None = None,
) -> InputError:
    mend = "record or import the runs at one cadence"
    if context is not None:
        mend = f"--context {context} leaves the last snapshot out"
    return InputError(
        f"{one} has a snapshot {_cadence(first)}, {other} {_cadence(second)}: what is learned at "
        f"one cadence does not hold at another; {mend}"
    )


def _cadence(spacing: NDArray[np.int64]) -> str:
    low, high = int(spacing.min()), int(spacing.max())
    return f"every {low:,} steps" if low == high else f"every {low:,} to {high:,} steps"


def _check_content(own: _Run, other: _Run, probes: Mapping[str, int]) -> None:
    """Refuse a fit run that has weights in common with the run, other than a shared start.

    A fit run that is a copy, or that goes on from the run, holds what is to be forecast.
    """
    for index in range(other.run.n_snapshots):
        found = probes.get(_probe(other.run, index))
        if found is None or found == index == 0:
            continue
        if _same_weights(own.run, found, other.run, index):
            raise InputError(
                f"{own.path} at step {own.run.steps[found]} and {other.path} at step "
                f"{other.run.steps[index]} have the same weights: they share content, and the one "
                "must not be learned from to forecast the other; leave it out of --fit"
            )


def _probe(run: Trajectory, index: int) -> str:
    digest = sha256()
    for name in sorted(info.name for info in run.tensors):
        info = run.tensor_info(name)
        digest.update(run.read(info, [index], 0, min(_PROBE, info.size)).tobytes())
    return digest.hexdigest()


def _same_weights(run: Trajectory, index: int, other: Trajectory, other_index: int) -> bool:
    return all(
        np.array_equal(
            run.read(info, [index], start, stop),
            other.read(other.tensor_info(info.name), [other_index], start, stop),
        )
        for info, start, stop in block_ranges(run.tensors, 1, BLOCK_BYTES)
    )


def _sides(others: Sequence[_Run]) -> tuple[Sequence[_Run], Sequence[_Run]]:
    """Cut the fit runs into training and validation runs; a single one is both."""
    if len(others) < 2:
        return others, others
    held_out = max(1, len(others) // 4)
    return others[:-held_out], others[-held_out:]


def _task(own: _Run, others: Sequence[_Run], n: int, horizon: int) -> ForecastTask:
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
                f"note: {own.path} has a snapshot {_cadence(np.diff(known))}; those after its last "
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


def _rates(run: Trajectory, others: Sequence[_Run], last: int) -> NDArray[np.float64]:
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
    train: Sequence[_Run],
    validation: Sequence[_Run],
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
    training = _Reading("training", train, snapshots)
    validating = _Reading("validation", validation, snapshots)
    if train:
        # A fit's task has the steps of the runs that it is fitted on, as in the benchmark.
        task = make_task(training.runs[0], task.context, block_bytes=task.block_bytes)
    try:
        with (
            _blaming(name, [*train, *validation], len(snapshots)),
            _signs_of_life(f"fitting {name}", training, validating),
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


class _Reading:
    """One side of the fit runs, and how far a method is in reading them.

    How often it will read them, and how long it thinks after that, only the method knows; what can
    be said of the time left is that of a pass.
    """

    def __init__(self, side: str, others: Sequence[_Run], snapshots: range) -> None:
        self.runs = [_WatchedRun(other.run, snapshots, self) for other in others]
        self._side = side
        self._total = max(1, len(snapshots) * sum(run.n_coordinates for run in self.runs))
        self._read = 0
        self._pass_start = self._last = time.monotonic()

    def add(self, numbers: int) -> None:
        """Count numbers that were read."""
        passes = self._read // self._total
        self._last = time.monotonic()
        if self._read % self._total == 0:
            self._pass_start = self._last
        self._read += numbers
        if self._read // self._total > passes:
            self._pass_start = self._last

    def left(self) -> str:
        """Say how long the present pass will take, nothing where none is under way."""
        share = self._read % self._total / self._total
        if share == 0 or time.monotonic() - self._last > EVERY:
            return ""
        left = (self._last - self._pass_start) * (1 - share) / share
        return (
            f", about {duration(left)} left of pass {self._read // self._total + 1} over the "
            f"{self._side} runs"
        )


class _WatchedRun(Window):
    """The first snapshots of a run; every reading is reported."""

    def __init__(self, run: Trajectory, snapshots: range, reading: _Reading) -> None:
        super().__init__(run, snapshots)
        self._reading = reading

    def read(
        self,
        tensor: TensorInfo,
        snapshots: Sequence[int] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Floats | None = None,
    ) -> Floats:
        values = super().read(tensor, snapshots, start, stop, out)
        self._reading.add(values.size)
        return values


@contextmanager
def _signs_of_life(what: str, *readings: _Reading) -> Iterator[None]:
    """Print a line now and then while a method, which says nothing itself, is at work."""
    start, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        while not ended.wait(EVERY):
            left = "".join(reading.left() for reading in readings)
            elapsed = duration(time.monotonic() - start)
            print(f"{what}: {elapsed} so far{left}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _blaming(method: str, runs: Sequence[_Run], snapshots: int) -> Iterator[None]:
    """Turn a method's exception into one line, and into the data's fault where it is theirs."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        for other in runs:
            try:
                Window(other.run, range(snapshots)).check_finite()
            except InputError as found:
                raise InputError(f"{other.path} holds {found}") from error
        raise ForecastFailed(f"{method} failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _write_forecast(stream: ForecastStream, method: str, writer: _CheckpointWriter) -> int:
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
            stack.enter_context(_signs_of_life(f"forecasting by {method}"))
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


class _CheckpointWriter:
    """Writes a plain safetensors file in pieces; it gets its name only when it is whole.

    Used as a context manager. Left before `finish`, it removes what it wrote. Killed, it leaves a
    hidden ``.partial`` file, which the next writer of the same name removes.
    """

    def __init__(
        self,
        path: Path,
        tensors: Sequence[TensorInfo],
        state: State,
        metadata: Mapping[str, str],
    ) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._places: dict[str, tuple[int, np.dtype[Any]]] = {}
        self._file = -1
        entries = [(t.name, t.shape, "F32", np.dtype("<f4"), 4 * t.size) for t in tensors]
        for name, values in state.items():
            info = StateInfo.of(name, values)
            entries.append((name, info.shape, info.dtype, values.dtype, info.nbytes))
        # Widest numbers first: all then lie at multiples of their size, which some readers need.
        entries.sort(key=lambda entry: -entry[3].itemsize)
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        end = 0
        for name, shape, code, dtype, nbytes in entries:
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [end, end + nbytes]}
            self._places[name] = (end, dtype)
            end += nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._data = 8 + len(text)
        self._header = len(text).to_bytes(8, "little") + text
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                stale.unlink(missing_ok=True)
            self._file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def __enter__(self) -> _CheckpointWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._partial.unlink(missing_ok=True)

    def write(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Write some of a tensor's numbers, from flat index ``start`` on."""
        begin, dtype = self._places[name]
        flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
        if flat.size:
            self._put(flat.data.cast("B"), self._data + begin + dtype.itemsize * start)

    def finish(self) -> None:
        """Write the header, make the bytes durable and give the file its name."""
        self._put(self._header, 0)
        with self._writable():
            os.fsync(self._file)
            os.replace(self._partial, self._path)
        os.close(self._file)
        self._file = -1

    def _put(self, data: bytes | memoryview, position: int) -> None:
        view = memoryview(data)
        with self._writable():
            while view:
                done = os.pwrite(self._file, view, position)
                view, position = view[done:], position + done

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error.strerror}") from None


def _evaluator(run: Trajectory) -> tuple[Evaluator | None, str]:
    """Rebuild what measures the run, or say why that cannot be."""
    try:
        evaluator = run.evaluator(with_test=False)
    except Exception as error:  # a recipe from elsewhere can fail anyhow
        return None, f"its recipe cannot be rebuilt here: {_reason(error)}"
    return evaluator, "" if evaluator else "it has no recipe to rebuild the network and data from"


def _losses(run: Trajectory, n: int, out: Path) -> tuple[float | None, float | None]:
    """Measure the train loss at the origin and of the checkpoint; None where it cannot be."""
    if not run.meta.recipe:
        return None, None
    evaluator, why_not = _evaluator(run)
    if evaluator is not None:
        try:
            return evaluator.train_loss(run.snapshot(n)), evaluator.train_loss(_load(run, out))
        except Exception as error:  # the checkpoint is written; it must not be lost for a figure
            why_not = _reason(error)
    print(f"note: the train loss was not measured, {why_not}", file=sys.stderr)
    return None, None


def _load(run: Trajectory, path: Path) -> dict[str, Floats]:
    checkpoint = Checkpoint([path])
    weights = {info.name: np.empty(info.size, np.float32) for info in run.tensors}
    for info in run.tensors:
        checkpoint.read_into(info.name, info.shape, 0, weights[info.name])
    return {info.name: weights[info.name].reshape(info.shape) for info in run.tensors}
