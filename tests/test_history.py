"""A large run's context lies in a file, and forecasts from it are those from memory."""

from __future__ import annotations

import numpy as np
import pytest

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import (
    ForecastTask,
    History,
    Trajectory,
    get_dataset,
    history,
    make_task,
)
from weightcast.datasets.history import recorded_loss
from weightcast.datasets.window import named_window
from weightcast.methods import NetworkForecaster, OneLookForecaster, all_methods, make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

CONTEXT = 10
WHOLE = [name for name, cls in all_methods().items() if issubclass(cls, NetworkForecaster)]
#: Parameters with which a method moves on this run, and soon.
PARAMS = {"nino-mlp": {"updates": 20}, "rre": {"approach": "jump"}}


@pytest.fixture(scope="module")
def run() -> Trajectory:
    return get_dataset("digits-mlp-sgd").run(3)


def _histories(
    run: Trajectory, task: ForecastTask, monkeypatch: pytest.MonkeyPatch
) -> tuple[History, History]:
    in_memory = History.of(run, task)
    with monkeypatch.context() as patch:
        patch.setattr(history, "IN_MEMORY", 0)
        return in_memory, History.of(run, task)


@pytest.mark.parametrize("window", [None, "late"])
def test_when_a_context_lies_on_disk_then_it_is_the_same(
    run: Trajectory, window: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = named_window(run, window) if window else run
    memory, disk = _histories(part, make_task(part, CONTEXT), monkeypatch)
    assert isinstance(memory.weights, dict)
    assert not isinstance(disk.weights, dict)
    for name in ("weights", "initial", "last"):
        one, other = getattr(memory, name), getattr(disk, name)
        assert list(one) == list(other) == [info.name for info in run.tensors]
        for tensor, values in one.items():
            np.testing.assert_array_equal(other[tensor], values)
    for tensor, values in memory.snapshot(-4).items():
        np.testing.assert_array_equal(disk.snapshot(-4)[tensor], values)
        np.testing.assert_array_equal(values, part.snapshot(CONTEXT - 3)[tensor])
    blocks = zip(memory.blocks(3000), disk.blocks(3000), strict=True)
    for (info, start, values), (same, begin, others) in blocks:
        assert (info, start) == (same, begin)
        np.testing.assert_array_equal(others, values)
    np.testing.assert_array_equal(disk.initial["1.bias"], run.snapshot(0)["1.bias"])


def test_when_a_method_writes_to_what_it_reads_from_disk_then_it_writes_to_a_copy(
    run: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, disk = _histories(run, make_task(run, CONTEXT), monkeypatch)
    disk.weights["1.bias"][:] = 7.0
    np.testing.assert_array_equal(disk.last["1.bias"], run.snapshot(CONTEXT)["1.bias"])


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("block_bytes", [4000, 2**24])
def test_when_a_network_method_forecasts_from_disk_in_blocks_then_it_is_as_all_at_once(
    name: str, block_bytes: int, run: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 50 horizons: beyond nino-mlp's heads.
    task = make_task(run, CONTEXT, block_bytes=block_bytes)
    method = make_method(name, PARAMS.get(name, {}))
    assert isinstance(method, OneLookForecaster)
    others = [get_dataset("digits-mlp-sgd").run(seed) for seed in (0, 1)]
    method.fit(others[:1], others[1:], task)
    loss = recorded_loss(run) if "train-loss" in method.get_tag("needs") else None
    whole = method.predict(History.of(run, task, loss), task)
    monkeypatch.setattr(history, "IN_MEMORY", 0)
    moved = False
    for block in ForecastStream(method, run, task):
        expected = whole[block.tensor.name].reshape(len(task.horizons), -1).T[block.rows]
        np.testing.assert_allclose(block.forecast, expected, rtol=1e-4, atol=1e-5)
        moved |= bool(np.any(block.forecast != block.last[:, None]))
    assert moved
