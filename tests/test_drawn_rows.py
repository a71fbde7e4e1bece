"""The coordinates that learned methods train on: who is drawn, and what drawing takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from weightcast.datasets import Metadata, TensorInfo, Trajectory, make_task
from weightcast.datasets.trajectory import Floats
from weightcast.methods.training import draw_rows


class Ramp:
    """Weights that are their own coordinate's number, whatever the snapshot; nothing is held."""

    def read_into(self, tensor: TensorInfo, snapshot: int, start: int, out: Floats) -> None:
        out[:] = np.arange(start, start + len(out))


@pytest.mark.parametrize("count", [10, 39, 40, 1000])
def test_when_rows_are_drawn_then_none_comes_twice_and_all_come_alike(
    count: int, toy_run: Callable[..., Trajectory]
) -> None:
    run = toy_run(np.arange(40) + np.zeros((4, 1)))
    task = make_task(run, 1)
    times = np.zeros(40)
    for seed in range(500):
        rows = draw_rows([run], task, count, np.random.default_rng(seed))[""]
        drawn = rows.values[:, 0].astype(int)
        assert len(set(drawn.tolist())) == len(rows) == min(count, 40)
        times[drawn] += 1
    share = min(count, 40) / 40
    # Five standard deviations of a coordinate's count.
    assert np.abs(times / 500 - share).max() <= 5 * np.sqrt(share * (1 - share) / 500)


def test_when_a_network_is_large_then_drawing_takes_memory_for_the_drawn_rows_alone() -> None:
    info = TensorInfo("w", (4_000_000,))  # a permutation of which takes 32 MB
    run = Trajectory(Ramp(), [info], range(3), Metadata("toy", 0))
    task = make_task(run, 1, block_bytes=2**20)
    tracemalloc.start()
    try:
        rows = draw_rows([run], task, 4096, np.random.default_rng(0))[""]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(rows) == 4096
    assert peak < 8 * 2**20
