"""The leak detector: the mean of other runs' displacements, and what it says of shared starts."""

from __future__ import annotations

import gc
import tracemalloc
import types
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from weightcast.bench.commands.listing import listing
from weightcast.bench.engine.records import CellRow
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import Metadata, TensorInfo, Trajectory, get_dataset, make_task
from weightcast.datasets.admission.gates import mean_displacement_errors
from weightcast.datasets.task import ForecastTask
from weightcast.methods import Forecaster, make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

Make = Callable[..., Trajectory]
ALL = np.arange(12)


def _fitted(runs: list[Trajectory], task: ForecastTask) -> Forecaster:
    return make_method("mean-displacement").fit(runs, [], task)


def _cell(runs: list[Trajectory], test: Trajectory, task: ForecastTask) -> CellRow:
    (row,) = evaluate_cell(_fitted(runs, task), test, task, ALL)
    assert row.status == "ok", row.reason
    return row


def _forecast(method: Forecaster, run: Trajectory, task: ForecastTask) -> np.ndarray:
    """Return the streamed forecast of all coordinates, shape (d, m)."""
    return np.concatenate([block.forecast for block in ForecastStream(method, run, task)])


def _values(run: Trajectory) -> np.ndarray:
    """Return all coordinates over time, shape (d, T)."""
    return np.concatenate([run.read(info).T for info in run.tensors]).astype(float)


def test_when_each_run_is_forecast_from_the_others_then_the_gate_says_the_same(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], (toy_runs[0].n_snapshots - 1) // 6)
    by_hand = []
    for test in toy_runs:
        others = [run for run in toy_runs if run is not test]
        by_hand.append(_cell(others, test, task).metrics["rel_final"])
    np.testing.assert_allclose(mean_displacement_errors(toy_runs), by_hand, rtol=1e-5)


@pytest.mark.parametrize("dataset", ["digits-mlp-sgd", "digits-mlp-adam"])
def test_when_runs_are_independent_then_it_is_worse_than_the_last_value(dataset: str) -> None:
    found = get_dataset(dataset)
    runs = [found.run(seed) for seed in range(7)]
    task = make_task(runs[0], 10)
    error = _cell(runs[:6], runs[6], task).metrics["rel_sum"]
    assert error == pytest.approx(np.sqrt(1 + 1 / 6), abs=0.06)


def test_when_runs_share_a_start_then_it_forecasts_them(toy_run: Make) -> None:
    common = np.random.default_rng(0).standard_normal((31, 12)).cumsum(axis=0)
    runs = []
    for seed in range(5):
        own = np.random.default_rng(seed + 1).standard_normal((31, 12)).cumsum(axis=0)
        runs.append(toy_run(common + 0.1 * (own - own[0]), seed))
    assert _cell(runs[:4], runs[4], make_task(runs[0], 5)).metrics["rel_sum"] < 0.3


@pytest.mark.parametrize("block_bytes", [4 * 31 * 2, 4 * 31 * 5, 2**20])
def test_when_blocks_have_any_size_then_the_forecast_is_w_n_and_the_mean(
    toy_runs: list[Trajectory], block_bytes: int
) -> None:
    task = make_task(toy_runs[0], 10, block_bytes=block_bytes)
    method, test = _fitted(toy_runs[:4], task), toy_runs[7]
    moved = [_values(run)[:, 11:] - _values(run)[:, 10:11] for run in toy_runs[:4]]
    expected = _values(test)[:, 10:11] + np.mean(moved, axis=0)
    # Each walk starts anew, so a second run is forecast as well as the first.
    for _ in range(2):
        np.testing.assert_allclose(_forecast(method, test, task), expected, atol=1e-6)


def test_when_a_walk_is_broken_off_then_the_next_forecast_is_not_displaced(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], 10, block_bytes=4 * 31 * 2)
    method, test = _fitted(toy_runs[:4], task), toy_runs[7]
    whole = _forecast(method, test, task)
    next(iter(ForecastStream(method, test, task)))
    np.testing.assert_array_equal(_forecast(method, test, task), whole)


def test_when_only_a_sample_is_forecast_then_each_coordinate_gets_its_own_mean(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], 10)
    method, test = _fitted(toy_runs[:4], task), toy_runs[7]
    sample = np.array([1, 2, 5, 9])
    blocks = ForecastStream(method, test, task, sample)
    sampled = np.concatenate([block.forecast for block in blocks])
    np.testing.assert_array_equal(sampled, _forecast(method, test, task)[sample])


def test_when_the_test_run_is_another_network_then_it_abstains(
    toy_runs: list[Trajectory], toy_run: Make
) -> None:
    task = make_task(toy_runs[0], 10)
    wider = toy_run(np.random.default_rng(0).standard_normal((31, 15)).cumsum(axis=0), 9)
    row = _cell(toy_runs[:4], wider, task)
    # Its scalar "b" has the same name and shape, but another place: it is another coordinate.
    assert row.coverage == 0.0
    assert row.metrics["rel_sum"] == pytest.approx(1.0)


def test_when_training_runs_end_too_early_or_differ_then_it_says_so(
    toy_runs: list[Trajectory], toy_run: Make
) -> None:
    task = make_task(toy_runs[0], 10)
    short = toy_run(np.ones((20, 12)), 8)
    (row,) = evaluate_cell(_fitted([toy_runs[0], short], task), toy_runs[7], task, ALL)
    assert (row.status, row.metrics) == ("failed", {})
    assert "toy/8 has 20 snapshots, and the forecast reaches to snapshot 30" in row.reason
    with pytest.raises(ValueError, match="toy/8 and toy/0 differ in their tensors"):
        _fitted([toy_runs[0], toy_run(np.ones((31, 5)), 8)], task)


def _reachable(root: object) -> Iterator[object]:
    pending, seen = [root], set()
    while pending:
        thing = pending.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(thing))
        yield thing
        pending += gc.get_referents(thing)


def test_when_it_has_forecast_then_it_holds_training_runs_and_nothing_of_the_test_run() -> None:
    dataset = get_dataset("digits-mlp-adam")
    runs = [dataset.run(seed) for seed in range(4)]
    task = make_task(runs[0], 10)
    method = make_method("mean-displacement").fit(runs[:2], runs[2:3], task)
    _forecast(method, runs[3], task)
    held = {thing.meta.seed for thing in _reachable(method) if isinstance(thing, Trajectory)}
    assert held == {0, 1}
    assert not any("/3.safetensors" in str(thing) for thing in _reachable(method))


def test_when_the_network_is_large_then_memory_stays_at_a_few_blocks() -> None:
    size, count = 400_000, 12
    runs = []
    for seed in range(3):
        values = np.random.default_rng(seed).random((count, size), dtype=np.float32)
        info = [TensorInfo("w", (size,))]
        runs.append(
            Trajectory.from_arrays({"w": values}, range(count), Metadata("toy", seed), info)
        )
    task = make_task(runs[0], 3, block_bytes=2**18)
    tracemalloc.start()
    try:
        method = _fitted(runs[:2], task)
        for _ in ForecastStream(method, runs[2], task):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The means alone would take 4 · 8 · 400,000 bytes, 12.8 MB.
    assert peak < 8 * 2**18


def test_when_methods_are_listed_then_it_is_called_a_reference() -> None:
    roles = {row["name"]: row["role"] for row in listing("methods")}
    assert roles["mean-displacement"] == "reference"
    assert roles["lfd2"] == "forecaster"
