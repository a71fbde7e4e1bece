"""Fit seconds, predict seconds per million coordinates and peak memory of every registered method.

On a generated network of 200,000 coordinates, one thread, one run to fit on and another to
forecast; methods that take one series at a time run on 64 coordinates. A method that measures a
run's training loss has none here and is left out: a generated run has no network.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.scoring.memory import peak_memory
from weightcast.datasets import make_task, open_trajectory
from weightcast.methods import all_methods, get_method, make_method

sys.path.append(str(Path(__file__).parent))  # a safe path leaves a script's own folder out
from linear_family import generate

SAMPLE = 64


def main() -> None:
    """Generate two runs, measure every method, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinates", type=int, default=200_000)
    parser.add_argument("--updates", type=int, help="at most so many, of networks that are trained")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.safetensors" for seed in range(2)]
        for seed, path in enumerate(paths):
            generate(path, options.coordinates, seed)
        train, test = (open_trajectory(path) for path in paths)
        task = make_task(train, 9)
        print("method                fit s  predict s/M      MiB  parameters")
        for name in all_methods():
            trained = options.updates and "updates" in get_method(name).get_param_names()
            method = make_method(name, {"updates": options.updates} if trained else {})
            if "train-loss" in method.get_tag("needs"):
                print(f"{name:18} needs the training loss")
                continue
            count, sample = options.coordinates, None
            if method.get_tag("sampled"):
                count, sample = SAMPLE, np.arange(SAMPLE)
            with peak_memory() as memory:
                start = time.perf_counter()
                method.fit([train], [train], task)
                fit = time.perf_counter() - start
                stream = ForecastStream(method, test, task, sample)
                for _ in stream:
                    pass
            predict = stream.stopwatch.wall / count * 1e6
            above = "-" if memory.above_baseline is None else f"{memory.above_baseline / 2**20:.0f}"
            learned = method.parameter_count()
            print(
                f"{name:18} {fit:8.2f} {predict:12.3f} {above:>8} "
                f"{'-' if learned is None else f'{learned:,}':>11}"
            )


if __name__ == "__main__":
    main()
