"""What the border costs a cell: methods in a process of their own, against all in one process.

Cells of a small network, where messages weigh most, and of a large one, where the bytes do. Each is
made twice: as `weightcast run` makes it, by two processes and a pipe, and by `evaluate_cell` here.
The difference is the border's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from weightcast.bench.engine.events import CellDone, Event
from weightcast.bench.engine.processes.forks import worker_context
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import RecordedDataSet, Trajectory, make_task
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.registry import _DATASETS
from weightcast.datasets.trajectory import Metadata, TensorInfo
from weightcast.methods import make_method

SUITE = """
name = "border"
datasets = ["{dataset}"]
methods = ["last-value", "damped-line", "lfd2-ols", "line-search"]
contexts = [10]
rotations = 4
tiers = {tiers}
"""
LARGE = "border-large"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=4.0, help="coordinates, in millions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        _record_large(data, int(1e6 * options.millions))
        limits = Limits(600.0, 8 * 10**9)
        for dataset, tiers in (
            ("linreg-gd", '["weights"]'),
            ("digits-mlp-sgd", '["weights", "function"]'),
            (LARGE, '["weights"]'),
        ):
            # The fork server starts with the first worker, and knows the data sets of its parent.
            worker = Worker(worker_context(["weightcast.bench.scoring.unit"]), limits)
            plan = _plan(data, dataset, tiers)
            for fit in plan:
                if dataset == LARGE and fit.method == "line-search":
                    continue  # there is no loss to search along
                apart, here = _apart(worker, fit, data), _here(fit, data)
                print(
                    f"{dataset}, {fit.method}: {1e3 * apart:.1f} ms a cell, {1e3 * here:.1f} in "
                    f"one process; the border {1e3 * (apart - here):+.1f} ms"
                )
            worker.close()
    return 0


def _plan(data: Path, dataset: str, tiers: str) -> list[Fit]:
    path = data / "suite.toml"
    path.write_text(SUITE.format(dataset=dataset, tiers=tiers), encoding="utf-8")
    plan = make_plan(load_suite(str(path)).resolve(), RunCache(data))
    return [fit for fit in plan if fit.split.rotation == 0]


def _apart(worker: Worker, fit: Fit, data: Path) -> float:
    """Return the median seconds of a cell, as a run stores them."""
    events: list[Event] = []
    worker.serve(fit.method)
    plugin = Path(__file__)
    setup = Setup((plugin,), (frozenset(),), data)
    Unit(fit, fit.split.test).run(worker, setup, Site(), events.append, threading.Event())
    rows = [event.rows[0] for event in events if isinstance(event, CellDone)]
    assert all(row.status == "ok" for row in rows), rows
    return float(np.median([row.cell_seconds for row in rows]))


def _here(fit: Fit, data: Path) -> float:
    runs, seconds = RunCache(data), []
    train = [runs(fit.place.dataset, seed) for seed in fit.split.train]
    validation = [runs(fit.place.dataset, seed) for seed in fit.split.validation]
    task = make_task(train[0], fit.context, seed=fit.task_seed)
    method = make_method(fit.method, {}).fit(train, validation, task)
    evaluator = evaluator_for(train[0].meta) if "function" in fit.tiers else None
    sample = coordinate_sample(fit.place.dataset, train[0].n_coordinates, fit.sample)
    for seed in fit.split.test:
        began = time.perf_counter()
        evaluate_cell(method, runs(fit.place.dataset, seed), task, sample, evaluator)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def _register() -> None:
    """Make the large set known, here and in the processes that load this file as a plugin."""
    if LARGE not in _DATASETS:
        _DATASETS[LARGE] = RecordedDataSet(LARGE, tuple(range(4)), "drawn", "drawn", "none")


def _record_large(data: Path, coordinates: int) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        shape = (coordinates // 1000, 1000)
        steps = random.standard_normal((21, *shape), dtype=np.float32)
        values = np.cumsum(0.1 * steps, axis=0, dtype=np.float32)
        infos = [TensorInfo("weight", shape, "linear")]
        meta = Metadata(LARGE, seed, learning_rates=(0.1,) * 20)
        run = Trajectory.from_arrays({"weight": values}, range(21), meta, infos)
        write_stacked(run, data / LARGE / f"{seed}.safetensors")


_register()

if __name__ == "__main__":
    sys.exit(main())
