"""Forecasting one's own run: a checkpoint of the weights that it is to have, for `load_state_dict`.

The run is read and the checkpoint is written block by block, so with a coordinate forecaster memory
does not grow with the network. The run's future need not be known; where some of it
is, or was at an earlier origin, the method is tried there (`weightcast.bench.commands.evidence`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weightcast.bench.commands.evidence.gather import Evidence, gather_evidence
from weightcast.bench.commands.evidence.said import to_json as evidence_to_json
from weightcast.bench.commands.fit_runs import sides
from weightcast.bench.commands.forecast_asked import ask, blaming
from weightcast.bench.commands.forecast_beside import contents, write_beside
from weightcast.bench.commands.model_folder import copy_companions, weights_file
from weightcast.bench.commands.opened import open_run
from weightcast.bench.progress.bar import Advance, progress_bar
from weightcast.bench.progress.signs_of_life import signs_of_life
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import InputError
from weightcast.datasets.files.checkpoint_writer import CheckpointWriter
from weightcast.datasets.files.checkpoints import MANIFEST
from weightcast.datasets.trajectory import block_ranges
from weightcast.methods import CoordinateForecaster

#: Work that is expected to take longer shows its progress, in seconds.
_WORTH_SHOWING = 2.0


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
    dtype : str
        Of the parameters; the widest where there are several.
    beside : tuple of str
        What was copied from beside the origin's checkpoint.
    train_loss_origin, train_loss_forecast : float or None
        None where it was not measured.
    batch_norm : str
        What statistics the network got: ``"re-estimated"`` on training data under the forecast
        weights, ``"kept"`` as they were at the origin, or ``"none"``, where it has none.
    batch_norm_examples : int or None
        How many examples they were estimated on.
    evidence : Evidence, optional
        What trying the method where the future is known says of the forecast's worth.
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
    dtype: str = "float32"
    beside: tuple[str, ...] = ()
    train_loss_origin: float | None = None
    train_loss_forecast: float | None = None
    batch_norm: str = "none"
    batch_norm_examples: int | None = None
    evidence: Evidence | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a loss that is not finite is None, as JSON has no word for it."""
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(replace(self, evidence=None)).items()
        }
        return plain | {"evidence": self.evidence and evidence_to_json(self.evidence)}

    def line(self) -> str:
        """Say it in one line."""
        covered = f" ({self.coverage:.1%} of them forecast)" if self.coverage < 1 else ""
        size = f"{self.bytes / 2**20:,.1f} MiB" if self.bytes >= 2**20 else f"{self.bytes:,} bytes"
        said = (
            f"{self.out}: {self.method}, step {self.origin_step} -> {self.forecast_step}, "
            f"{self.coordinates:,} coordinates{covered}, {size}, {self.seconds:.1f} s"
        )
        if self.dtype != "float32":
            said += f"; parameters are {self.dtype}"
        if self.beside:
            said += f"; beside it {', '.join(self.beside)}"
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
    backtests: int | None = None,
    dtype: str = "original",
) -> WrittenForecast:
    """Forecast a run and write the weights at the last horizon as a checkpoint.

    The file has every trained tensor under its own name, and beside them what else the
    run recorded: buffers as they were at the origin, frozen parameters, further names of tied ones.
    Batch-norm statistics belong to weights: they are estimated anew where the run's recipe gives
    its training data, else kept from the origin. Where a run lacks some of the network (frozen
    parameters that were not recorded), load with ``strict=False``.

    Parameters
    ----------
    path : Path
        Any trajectory, or a folder of checkpoints as a training program left them.
    method : str
        A registered name.
    horizon : int
        How many snapshots after the origin, spaced as the run's own.
    out : Path
        The ``.safetensors`` file; one that is there is replaced once the new one is whole. A name
        without an ending is a folder: the file is ``model.safetensors`` in it, and beside it are
        the configuration, tokenizer and so on that lay beside the origin's checkpoint, so that
        ``from_pretrained`` opens it.
    fit : sequence of Path
        Whole runs of the same network at the same cadence, for methods that learn. Of two or more,
        the last quarter, one at the least, is for validation alone; a single one serves as both.
    context : int, optional
        n, for a forecast from the first n + 1 snapshots; all of them by default.
    measure : bool
        Whether to measure the train loss at the origin and of the forecast, where the run's recipe
        can be rebuilt.
    backtests : int, optional
        Once the file is written, try the method where the future is known, at so many earlier
        origins of the run and on as many folds of the fit runs at the most; 0 only where the run
        goes on beyond the origin. Not tried by default.
    dtype : str
        Of the parameters, ``"original"``, ``"float32"``, ``"float16"``, ``"bfloat16"`` or
        ``"float64"``. Original is each tensor's own in the checkpoint at the origin where the run
        is a folder of checkpoints, and float32 for other runs, which do not know it. Buffers keep
        theirs.

    Raises
    ------
    InputError
        If an argument or a run is wrong, or the file cannot be written.
    ForecastFailed
        If the method failed.
    """
    start = time.perf_counter()
    own, *others = (open_run(p) for p in (path, *fit))
    _check_out(out, (path, *fit))
    asked = ask(own, method, horizon, others, context)
    n, task = asked.origin, asked.task
    checkpoint = own.run.checkpoint(n)
    file, is_folder = weights_file(out, checkpoint)
    there = contents(own.run, n, dtype)
    metadata = {
        "format": "pt",
        "method": method,
        "source": path.name,
        "origin_step": str(own.run.steps[n]),
        "forecast_step": str(task.horizon_steps[-1]),
        "context": str(n),
        "horizon": str(horizon),
    }
    with CheckpointWriter(file, there.infos, own.run.fixed.aliases, metadata) as writer:
        fitted = asked.fit()
        with blaming(method, [own], n + 1):
            forecast_count = _write_forecast(ForecastStream(fitted, own.run, task), method, writer)
        found = write_beside(writer, own.run, n, there, measure=measure)
        beside = copy_companions(out, checkpoint, there.dtype) if is_folder else []
        writer.finish()
    seconds = time.perf_counter() - start
    evidence = None
    if backtests is not None:
        evidence = gather_evidence(asked, fitted, count=backtests, measure=measure)
    return WrittenForecast(
        out=str(file),
        source=str(path),
        method=method,
        context=n,
        horizon=horizon,
        origin_step=int(own.run.steps[n]),
        forecast_step=int(task.horizon_steps[-1]),
        coordinates=own.run.n_coordinates,
        coverage=forecast_count / max(1, own.run.n_coordinates),
        fitted_on=tuple(str(other.path) for other in sides(others)[0]),
        validated_on=tuple(str(other.path) for other in sides(others)[1]),
        bytes=file.stat().st_size,
        dtype=there.dtype,
        beside=tuple(beside),
        seconds=seconds,
        train_loss_origin=found.train_loss_origin,
        train_loss_forecast=found.train_loss_forecast,
        batch_norm=found.batch_norm,
        batch_norm_examples=found.examples,
        evidence=evidence,
    )


def _check_out(out: Path, sources: Sequence[Path]) -> None:
    target = Path(os.path.realpath(out))
    for source in sources:
        real = Path(os.path.realpath(source))
        folder = real.parent if real.name == MANIFEST else real
        # In a folder of checkpoints it could replace one, or be taken for one.
        if folder == target or folder in target.parents:
            raise InputError(f"--out {out} would write into {source}; name another file")


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
