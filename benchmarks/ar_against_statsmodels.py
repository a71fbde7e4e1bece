"""Coordinates a second of `ar`, as a ratio to statsmodels' AutoReg fitted one series at a time.

Both fit an autoregression without a constant to the differences of each series and forecast it, in
one thread. Exits with 1 where the ratio is below the limit.

Run with `python benchmarks/ar_against_statsmodels.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads

import numpy as np

from weightcast.datasets.task import ForecastTask
from weightcast.methods.ar import Ar

LIMIT = 500.0
AHEAD = 50


def main() -> None:
    """Time both on series of the same kind, print the ratio and the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinates", type=int, default=200_000)
    parser.add_argument("--series", type=int, default=200, help="for statsmodels")
    parser.add_argument("--context", type=int, default=10)
    parser.add_argument("--order", type=int, default=2)
    options = parser.parse_args()
    n = options.context
    contexts = generate(options.coordinates, n)
    task = ForecastTask(
        dataset="generated",
        context=n,
        horizons=np.arange(1, AHEAD + 1, dtype=np.float32),
        context_steps=np.arange(n + 1),
        horizon_steps=np.arange(n + 1, n + AHEAD + 1),
        learning_rates=np.zeros(n + AHEAD),
    )
    method = Ar(order=options.order)
    ours = options.coordinates / best(lambda: stream(method, contexts, task))
    few = contexts[: options.series].astype(np.float64)
    theirs = len(few) / best(lambda: statsmodels_forecasts(few, options.order))
    print(f"AR({options.order}) on {n} differences, {AHEAD} horizons, coordinates a second")
    print(f"ar           {ours:12,.0f}   ({options.coordinates:,} coordinates)")
    print(f"statsmodels  {theirs:12,.0f}   ({len(few):,} series)")
    print(f"ratio {ours / theirs:,.0f}, limit {LIMIT:,.0f}")
    sys.exit(ours / theirs < LIMIT)


def generate(coordinates: int, n: int) -> np.ndarray:
    """Return weights (c, n + 1) that relax to random optima, with noise."""
    random = np.random.default_rng(0)
    decay = random.uniform(0.6, 0.99, (coordinates, 1)) ** np.arange(n + 1)
    noise = 0.01 * random.standard_normal((coordinates, n + 1)).cumsum(axis=1)
    return (random.standard_normal((coordinates, 1)) * decay + noise).astype(np.float32)


def stream(method: Ar, contexts: np.ndarray, task: ForecastTask) -> None:
    """Forecast all coordinates in the blocks that the harness would make."""
    width = task.block_bytes // (4 * (contexts.shape[1] + AHEAD))
    for start in range(0, len(contexts), width):
        method.predict_block(contexts[start : start + width], task)


def statsmodels_forecasts(contexts: np.ndarray, order: int) -> None:
    """Forecast every series by itself."""
    from statsmodels.tsa.ar_model import AutoReg

    for row in contexts:
        AutoReg(np.diff(row), lags=order, trend="n").fit().forecast(AHEAD)


def best(work: Callable[[], None], rounds: int = 3) -> float:
    """Return the shortest of some rounds' seconds; the first one loads libraries."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
