"""What a worker process does: one fit, then all the cells that use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from weightcast.bench.cell import CellRow, evaluate_cell, failed_rows
from weightcast.bench.examples import example_forecast, example_truth
from weightcast.bench.forecasting import Stopwatch
from weightcast.bench.memory import peak_memory
from weightcast.bench.place import Place
from weightcast.bench.plan import Fit, RunCache
from weightcast.bench.sample import coordinate_sample
from weightcast.bench.store import FitResult
from weightcast.bench.tuning import fit_tuned
from weightcast.datasets import Trajectory, make_task
from weightcast.methods import load_plugin, make_method

THREADS = 1

_runs: RunCache | None = None


def start_worker(plugins: list[Path], data: Path | None) -> None:
    """Prepare a worker process: one thread, the plugins, an empty cache of runs."""
    global _runs
    # Ctrl-C reaches the whole process group; the runner alone decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before the numerical libraries load: their pools read these once.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(THREADS)
    for plugin in plugins:
        load_plugin(plugin)
    _runs = RunCache(data)


def run_fit(fit: Fit, jobs: int) -> FitResult:
    """Fit one method and evaluate its cells, in a worker that `start_worker` prepared.

    Exceptions of the method become rows with a status; they never leave this function.
    """
    from threadpoolctl import threadpool_limits

    if _runs is None:
        raise RuntimeError("start_worker has not run in this process")
    _one_torch_thread()
    start = time.perf_counter()
    with threadpool_limits(THREADS):
        result = _run_fit(fit, jobs, _runs)
    result.seconds = time.perf_counter() - start
    return result


def _run_fit(fit: Fit, jobs: int, runs: RunCache) -> FitResult:
    place, seed = fit.place, fit.seed + fit.split.rotation
    train, validation = (
        [place.training_view(runs(place.trained_on, s)) for s in seeds]
        for seeds in (fit.split.train, fit.split.validation)
    )
    task = make_task(train[0], fit.context, seed=seed)
    sample = coordinate_sample(place.trained_on, train[0].n_coordinates, fit.sample)
    result = FitResult(fit, [], jobs=jobs, threads=THREADS)
    watch = Stopwatch()
    try:
        method = make_method(fit.method, json.loads(fit.params))
        with peak_memory() as memory, watch:
            method, result.chosen, result.trials = fit_tuned(
                method, train, validation, task, sample, fit.tuning
            )
        result.parameters = method.parameter_count()
        result.flops_per_coordinate = method.flops_per_coordinate(task)
        result.diagnostics = method.diagnostics()
    except Exception as error:
        status = "out-of-memory" if isinstance(error, MemoryError) else "failed"
        return failed_fit(fit, status, error, jobs)
    result.fit_seconds, result.fit_cpu_seconds = watch.wall, watch.cpu
    result.fit_memory_bytes = memory.above_baseline
    if method.get_tag("provenance") == "fit-on-train-split":
        result.training_runs_seconds = sum(_training_seconds(run) for run in train + validation)
    tests = [place.test_view(runs(place.dataset, s)) for s in fit.split.test]
    # In a shift track the test runs' steps and learning rates are not those of the training runs.
    task = make_task(tests[0], fit.context, seed=seed)
    sample = coordinate_sample(place.dataset, tests[0].n_coordinates, fit.sample)
    evaluator = tests[0].evaluator() if "function" in fit.tiers else None
    for run in tests:
        result.cells += evaluate_cell(method, run, task, sample, evaluator)
    with contextlib.suppress(Exception):
        # Some methods count what fails while they forecast.
        result.diagnostics = method.diagnostics()
    if fit.split.rotation == 0 and place == Place(place.dataset, place.dataset, place.track):
        result.examples["truth"] = example_truth(tests[0], task, sample)
        # Only drawn, never scored: a method that fails at its second forecast loses its picture.
        with contextlib.suppress(Exception):
            result.examples["forecast"] = example_forecast(method, tests[0], task, sample)
    return result


def failed_fit(fit: Fit, status: str, error: BaseException, jobs: int) -> FitResult:
    """Make the result of a fit that failed: its cells all fail, with its reason."""
    cells: list[CellRow] = []
    for seed in fit.split.test:
        cells += failed_rows(seed, list(fit.tiers), status, error)
    return FitResult(
        fit,
        cells,
        status=status,
        reason=cells[0].reason,
        traceback="".join(traceback.format_exception(error)),
        jobs=jobs,
        threads=THREADS,
    )


def _training_seconds(run: Trajectory) -> float:
    """Seconds that a run took to train from first to last snapshot; 0 if not recorded."""
    return float(run.steps[-1] - run.steps[0]) * (run.meta.seconds_per_step or 0.0)


def _one_torch_thread() -> None:
    """Pin torch's own threads where torch is loaded; loading it here would slow each worker."""
    import sys

    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)
