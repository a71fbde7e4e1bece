"""`arima`: its order is chosen on validation runs, and is the same for every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from weightcast.datasets import InputError, Trajectory, make_task
from weightcast.methods import make_method


@pytest.fixture
def runs(toy_run: Any) -> list[Trajectory]:
    """Two runs whose every coordinate accelerates: two differences go straight on, one does not."""
    time = np.arange(31, dtype=np.float32)[:, None]
    speed = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    return [toy_run(time**2 * speed[seed], seed=seed) for seed in range(2)]


def test_when_runs_accelerate_then_two_differences_are_chosen(runs: list[Trajectory]) -> None:
    task = make_task(runs[0], 10)
    orders = ((0, 1, 0), (0, 2, 0))
    method: Any = make_method("arima", {"orders": orders}).fit([], runs, task)
    assert method.order_ == (0, 2, 0)
    assert method.diagnostics()["rel_sum"]["(0, 1, 0)"] == pytest.approx(1.0)
    fixed = make_method("arima", {"order": (0, 2, 0)}).fit([], [], task)
    for context, _ in task.pairs(runs[1]):
        chosen = method.predict_block(context, task)
        np.testing.assert_array_equal(chosen, fixed.predict_block(context, task))


def test_when_seeds_differ_then_the_choice_does_not(runs: list[Trajectory]) -> None:
    params = {"orders": ((0, 1, 0), (0, 2, 0)), "coordinates": 4}
    found = [
        make_method("arima", params).fit([], runs, make_task(runs[0], 10, seed=seed)).diagnostics()
        for seed in (0, 1)
    ]
    assert found[0] == found[1]


def test_when_no_validation_run_moves_then_the_first_order_is_kept(toy_run: Any) -> None:
    run = toy_run(np.ones((31, 4), np.float32))
    method: Any = make_method("arima").fit([], [run], make_task(run, 10))
    assert method.order_ == (1, 1, 0)
    assert method.diagnostics()["rel_sum"] == {}


def test_when_an_order_is_given_then_the_method_knows_its_own_run_alone(
    runs: list[Trajectory],
) -> None:
    method = make_method("arima", {"order": [1, 1, 0]}).fit([], runs, make_task(runs[0], 10))
    assert method.get_tag("provenance") == "own-run-only"
    assert make_method("arima").get_tag("provenance") == "fit-on-train-split"


@pytest.mark.parametrize("order", [(1, 1), (1, -1, 0), (1, 0.5, 0), 3])
def test_when_an_order_is_none_then_it_is_refused(order: Any, runs: list[Trajectory]) -> None:
    with pytest.raises(InputError, match="three whole numbers from 0 up"):
        make_method("arima", {"order": order}).fit([], runs, make_task(runs[0], 10))
