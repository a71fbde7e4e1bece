"""Speed and memory of the cheap methods on a generated network, as ratios to what the disk gives.

Prints, for each method, the seconds to fit it on one run and to forecast another, as a share of the
rate at which the same process reads the same bytes from the page cache, and the memory it took
above what the process held before.

Run with `tox run -e benchmarks`, or `python benchmarks/linear_family.py --coordinates 66000000` for
the size of DistilBERT (10.6 GB of disk).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from weightcast.bench.forecasting import ForecastStream
from weightcast.bench.memory import peak_memory
from weightcast.datasets import Metadata, TensorInfo, Trajectory, make_task, open_trajectory
from weightcast.datasets.stacked import StackedWriter
from weightcast.methods import make_method

METHODS = ("last-value", "last-two-line", "ols-line", "damped-line", "ar1", "lfd2-ols", "lfd-full")
SNAPSHOTS = 20


def generate(path: Path, coordinates: int, seed: int) -> None:
    """Write one run of four tensors whose weights relax to random optima, snapshot by snapshot."""
    random = np.random.default_rng(seed)
    sizes = [coordinates // 2, coordinates // 4, coordinates // 8]
    sizes.append(coordinates - sum(sizes))
    infos = [TensorInfo(f"layer{i}.weight", (size,), "linear", i) for i, size in enumerate(sizes)]
    state = [random.standard_normal((3, size), dtype=np.float32) for size in sizes]
    with StackedWriter(path, infos, range(SNAPSHOTS)) as writer:
        for step in range(SNAPSHOTS):
            decay = np.float32(0.93**step)
            writer.write([end + decay * start + 0.01 * noise * step for end, start, noise in state])
        writer.finish(Metadata("generated", seed, optimizer="sgd"))


def read_rate(run: Trajectory) -> float:
    """Bytes a second at which blocks of all snapshots are read into one buffer."""
    start = time.perf_counter()
    total = sum(block.values.nbytes for block in run.blocks())
    return total / (time.perf_counter() - start)


def main() -> None:
    """Generate two runs, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinates", type=int, default=4_000_000)
    parser.add_argument("--context", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.safetensors" for seed in range(2)]
        for seed, path in enumerate(paths):
            generate(path, options.coordinates, seed)
        train, test = (open_trajectory(path) for path in paths)
        read_rate(train)  # brings the file into the page cache
        rate = max(read_rate(train) for _ in range(3))
        size = os.path.getsize(paths[0])
        print(
            f"{options.coordinates:,} coordinates, {SNAPSHOTS} snapshots, {size / 1e9:.2f} GB a run"
        )
        print(f"page cache: {rate / 1e9:.2f} GB/s in blocks\n")
        task = make_task(train, options.context)
        seen = 4 * options.coordinates * (options.context + 1)
        print("method            fit s  of read  predict s/M  of read    MiB")
        for name in METHODS:
            with peak_memory() as memory:
                start = time.perf_counter()
                method = make_method(name).fit([train], [train], task)
                fit = time.perf_counter() - start
                stream = ForecastStream(method, test, task)
                for _ in stream:
                    pass
            predict = stream.stopwatch.wall
            fit_share = f"{size / fit / rate:8.2f}" if fit > 1e-3 else f"{'-':>8}"
            above = "-" if memory.above_baseline is None else f"{memory.above_baseline / 2**20:.0f}"
            print(
                f"{name:14} {fit:8.2f} {fit_share} {predict / options.coordinates * 1e6:12.4f} "
                f"{seen / predict / rate:8.2f} {above:>6}"
            )


if __name__ == "__main__":
    main()
