"""Speed and memory of the cheap methods on a generated network, as ratios to what the disk gives.

Prints, for each method, the seconds to fit it on one run and to forecast another, with the fit's
processor seconds (which other work on the machine hardly changes), the bytes that it read and its
rate as a share of that at which the same process reads from the page cache, each in processor
seconds, and the memory it took above what the process held before.

Run with `tox run -e benchmarks`, or `python benchmarks/linear_family.py --coordinates 66000000` for
the size of DistilBERT (10.6 GB of disk). `OMP_NUM_THREADS=1` measures one thread; otherwise a fit
reads in one and computes in another.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.scoring.memory import peak_memory
from weightcast.datasets import Metadata, TensorInfo, Trajectory, make_task, open_trajectory
from weightcast.datasets.files.stacked import StackedWriter
from weightcast.datasets.trajectory import Floats
from weightcast.methods import all_methods, make_method

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "last-value": ("last-value", {}),
    "last-two-line": ("last-two-line", {}),
    "ols-line": ("ols-line", {}),
    "damped-line": ("damped-line", {}),
    "ar1": ("ar1", {}),
    "lfd2-ols": ("lfd2-ols", {}),
    "lfd2-ols per tensor": ("lfd2-ols", {"per_tensor": True}),
    "lfd2": ("lfd2", {}),
    "lfd2 ridge": ("lfd2", {"solver": "ridge"}),
    "lfd-full": ("lfd-full", {}),
    "lfd-full ridge": ("lfd-full", {"ridge": 1e-6}),
    "dlinear": ("dlinear", {}),
    "nlinear": ("nlinear", {}),
}
SNAPSHOTS = 20


class Counted(Trajectory):
    """A trajectory that counts the bytes read from it."""

    def __init__(self, run: Trajectory) -> None:
        super().__init__(run._source, run.tensors, run.steps.tolist(), run.meta)
        self.bytes_read = 0

    def read(self, *args: object, **options: object) -> Floats:
        values: Floats = super().read(*args, **options)  # type: ignore[arg-type]
        self.bytes_read += values.nbytes
        return values


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
    """Bytes a processor second at which blocks of all snapshots are read into one buffer."""
    start = time.process_time()
    total = sum(block.values.nbytes for block in run.blocks())
    return total / (time.process_time() - start)


def main() -> None:
    """Generate two runs, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinates", type=int, default=4_000_000)
    parser.add_argument("--context", type=int, default=9)
    parser.add_argument("--methods", help="comma-separated rows of the table, all by default")
    options = parser.parse_args()
    rows = options.methods.split(",") if options.methods else list(METHODS)
    all_methods()
    imported = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.safetensors" for seed in range(2)]
        for seed, path in enumerate(paths):
            generate(path, options.coordinates, seed)
        train, test = (Counted(open_trajectory(path)) for path in paths)
        read_rate(train)  # brings the file into the page cache
        rate = max(read_rate(train) for _ in range(3))
        size = os.path.getsize(paths[0])
        print(
            f"{options.coordinates:,} coordinates, {SNAPSHOTS} snapshots, {size / 1e9:.2f} GB a run"
        )
        print(f"page cache: {rate / 1e9:.2f} GB a processor second in blocks")
        grown = (psutil.Process().memory_info().rss - imported) / 2**20
        print(
            f"memory: {imported / 2**20:.0f} MiB after imports, {grown:+.0f} before the first fit\n"
        )
        task = make_task(train, options.context)
        seen = 4 * options.coordinates * (options.context + 1)
        print(
            "method                fit s  cpu s  GB read  of rate    MiB "
            " predict s/M  of rate    MiB"
        )
        for row in rows:
            name, params = METHODS[row]
            train.bytes_read = 0
            with peak_memory() as fitting:
                start, spent = time.perf_counter(), time.process_time()
                method = make_method(name, params).fit([train], [train], task)
                fit, cpu = time.perf_counter() - start, time.process_time() - spent
            read = train.bytes_read
            with peak_memory() as predicting:
                stream = ForecastStream(method, test, task)
                for _ in stream:
                    pass
            predict, busy = stream.stopwatch.wall, stream.stopwatch.cpu
            print(
                f"{row:20} {fit:6.2f} {cpu:6.2f} {read / 1e9:8.2f} {_share(read / cpu, rate):>8} "
                f"{_mebibytes(fitting.above_baseline):>6} "
                f"{predict / options.coordinates * 1e6:12.4f} {_share(seen / busy, rate):>8} "
                f"{_mebibytes(predicting.above_baseline):>6}",
                flush=True,
            )


def _share(rate: float, of: float) -> str:
    return f"{rate / of:.2f}" if rate else "-"


def _mebibytes(amount: int | None) -> str:
    return "-" if amount is None else f"{amount / 2**20:.0f}"


if __name__ == "__main__":
    main()
