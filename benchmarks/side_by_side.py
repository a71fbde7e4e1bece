"""What stacking the loop tier's runs gains, and that it changes nothing beyond rounding.

Trains the same runs of a small network stacked (`torch.func.vmap`) and one after the other, and
prints the time of a step of one run both ways, their ratio, and how far the weights end apart as a
share of how far they moved: of the median run, and of the one that is furthest apart. Where
rounding decides which of two equal values a pooling layer takes, or whether a unit is on, that one
goes its own way from there. One thread. Exit status 1 where stacking does not pay or the median run
differs by more than rounding.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time

import numpy as np
import torch

from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.runs import Optimizer, TrainingRuns
from weightcast.bench.loop.stepping.side_by_side import SideBySide
from weightcast.bench.plan.loop_settings import POOL, recipe_of

DATASETS = ("digits-mlp-sgd", "digits-cnn-sgd")
#: Learning rates at which both optimizers train the two networks without being chaotic.
RATES = {"sgd": 0.05, "adam": 0.001}
#: Rounding of the median run, as a share of its way.
APART = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ok = True
    for dataset in DATASETS:
        for optimizer, rate in RATES.items():
            kinds: tuple[type[TrainingRuns], ...] = (SideBySide, OneByOne)
            stacked, in_turn = (
                _train(kind, dataset, optimizer, rate, options.runs, options.steps)
                for kind in kinds
            )
            start = _runs(SideBySide, dataset, optimizer, rate, options.runs, 1).weights
            apart = (stacked[1] - in_turn[1]).norm(dim=1) / (in_turn[1] - start).norm(dim=1)
            median, most = float(apart.median()), float(apart.max())
            gain = in_turn[0] / stacked[0]
            ok &= gain > 1 and median < APART
            print(
                f"{dataset}, {optimizer}, {options.runs} runs: a step of one run takes "
                f"{1e6 * stacked[0]:.0f} µs stacked, {1e6 * in_turn[0]:.0f} µs one by one, ratio "
                f"{gain:.1f}; {options.steps} steps later apart by {median:.1e} of the way, "
                f"at most {most:.1e}",
                flush=True,
            )
    return 0 if ok else 1


def _runs(
    kind: type[TrainingRuns], dataset: str, optimizer: str, rate: float, runs: int, steps: int
) -> TrainingRuns:
    seeds = list(range(runs))
    rates = np.full((runs, steps), rate)
    made = Optimizer(*POOL[optimizer])
    return kind(recipe_of(dataset), made, rates, seeds, [str(seed) for seed in seeds])


def _train(
    kind: type[TrainingRuns], dataset: str, optimizer: str, rate: float, runs: int, steps: int
) -> tuple[float, torch.Tensor]:
    """Return the seconds of a step of one run, the first tenth apart, and the last weights."""
    training = _runs(kind, dataset, optimizer, rate, runs, steps)
    warm = steps // 10
    for step in range(steps):
        if step == warm:
            start = time.perf_counter()
        training.step()
    return (time.perf_counter() - start) / (steps - warm) / runs, training.weights


if __name__ == "__main__":
    sys.exit(main())
