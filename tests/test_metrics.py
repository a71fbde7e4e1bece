"""Metrics of the weights and function tiers against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.bench.scoring.function import (
    ForecastWeights,
    function_metrics,
    measured_horizons,
    smoothed,
    steps_gained,
)
from weightcast.bench.scoring.metrics import WEIGHT_METRICS, WeightErrors
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import get_dataset, make_task
from weightcast.datasets.evaluator import evaluator_for

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

M = 4


def _blocks(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    blocks = {}
    for name, size in (("a", 30), ("b", 3)):
        last = random.standard_normal(size).astype(np.float32)
        target = (last[:, None] + random.standard_normal((size, M)).cumsum(axis=1)).astype(
            np.float32
        )
        forecast = (target + 0.3 * random.standard_normal((size, M))).astype(np.float32)
        blocks[name] = (forecast, target, last)
    return blocks


def _errors(blocks: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], cut: int) -> WeightErrors:
    errors = WeightErrors(M)
    for name, (forecast, target, last) in blocks.items():
        for start in range(0, len(last), cut):
            rows = slice(start, start + cut)
            errors.add(name, forecast[rows], target[rows], last[rows])
    return errors


@given(st.integers(0, 1000), st.integers(1, 40))
def test_when_metrics_are_formed_then_they_follow_their_definitions_whatever_the_blocks(
    seed: int, cut: int
) -> None:
    blocks = _blocks(seed)
    forecast, target, last = (
        np.concatenate([b[i].astype(float) for b in blocks.values()]) for i in range(3)
    )
    error, moved = forecast - target, target - last[:, None]
    norm = np.linalg.norm
    step = forecast - last[:, None]
    expected = {
        "rel_sum": norm(error, axis=0).sum() / norm(moved, axis=0).sum(),
        "rel_final": norm(error[:, -1]) / norm(moved[:, -1]),
        "rel_mean": np.mean(norm(error, axis=0) / norm(moved, axis=0)),
        "rel_tensor_mean": np.mean(
            [norm(f[:, -1] - t[:, -1]) / norm(t[:, -1] - w) for f, t, w in blocks.values()]
        ),
        "mae": np.abs(error).mean(),
        "rmse": np.sqrt((error**2).mean()),
        "cos": step[:, -1] @ moved[:, -1] / norm(step[:, -1]) / norm(moved[:, -1]),
        "norm_ratio": norm(step[:, -1]) / norm(moved[:, -1]),
    }
    found = _errors(blocks, cut).metrics()
    assert set(WEIGHT_METRICS) <= set(found)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["excluded_horizons"] == found["excluded_tensors"] == 0
    curve = _errors(blocks, cut).curve()
    np.testing.assert_allclose(curve, norm(error, axis=0) / norm(moved, axis=0), atol=1e-6)


def test_when_the_last_value_is_forecast_then_every_ratio_is_one_and_its_direction_unknown() -> (
    None
):
    blocks = {
        name: (np.repeat(last[:, None], M, axis=1), target, last)
        for name, (_, target, last) in _blocks(0).items()
    }
    found = _errors(blocks, 7).metrics()
    for name in ("rel_sum", "rel_final", "rel_mean", "rel_tensor_mean"):
        assert found[name] == pytest.approx(1.0, abs=1e-12)
    assert np.isnan(found["cos"])
    assert found["norm_ratio"] == 0.0


def test_when_tensors_or_horizons_stand_still_then_they_are_left_out_and_counted() -> None:
    blocks = _blocks(1)
    forecast, target, last = blocks["b"]
    blocks["b"] = (forecast, np.repeat(last[:, None], M, axis=1), last)
    for name, (f, t, w) in blocks.items():
        t[:, 0] = w  # nothing moves before the second horizon
        blocks[name] = (f, t, w)
    found = _errors(blocks, 5).metrics()
    assert found["excluded_tensors"] == 1
    assert found["excluded_horizons"] == 1
    forecast, target, last = (
        np.concatenate([b[i].astype(float) for b in blocks.values()]) for i in range(3)
    )
    error = np.linalg.norm((forecast - target)[:, 1:], axis=0)
    moved = np.linalg.norm((target - last[:, None])[:, 1:], axis=0)
    assert found["rel_sum"] == pytest.approx(error.sum() / moved.sum())
    assert _errors(blocks, 5).curve()[0] is None


def test_when_nothing_moves_at_all_then_relative_errors_are_nan_without_a_warning() -> None:
    errors = WeightErrors(M)
    last = np.ones(3, np.float32)
    errors.add("a", np.zeros((3, M), np.float32), np.ones((3, M), np.float32), last)
    found = errors.metrics()
    assert np.isnan([found["rel_sum"], found["rel_final"], found["rel_mean"]]).all()
    assert found["mae"] == 1.0


def test_when_losses_fall_then_smoothing_leaves_them_and_takes_out_a_spike() -> None:
    losses = np.exp(-np.arange(30) / 5.0)
    np.testing.assert_array_equal(smoothed(losses), losses)
    spiked = losses.copy()
    spiked[12] = 9.0
    assert smoothed(spiked).max() == losses[0]


STEPS = np.arange(0, 310, 10)
LOSSES = np.exp(-np.arange(31) / 10.0)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (LOSSES[10], (0.0, "")),
        (LOSSES[17], (70.0, "")),
        (LOSSES[17] + 1e-6, (70.0, "")),
        (LOSSES[17] - 1e-6, (80.0, "")),
        (LOSSES[4], (-60.0, "")),
        (LOSSES[0], (-100.0, "below")),
        (99.0, (-100.0, "below")),
        (float("nan"), (-100.0, "below")),
        (float("inf"), (-100.0, "below")),
        (0.0, (200.0, "above")),
    ],
)
def test_when_a_loss_is_reached_at_a_step_then_that_many_steps_are_gained(
    loss: float, expected: tuple[float, str]
) -> None:
    assert steps_gained(loss, LOSSES, STEPS, 10) == expected


def test_when_horizons_are_measured_then_those_that_exist_and_the_last(toy_runs: list) -> None:  # type: ignore[type-arg]
    assert measured_horizons(make_task(toy_runs[0], 10)) == {
        "h5": 4,
        "h10": 9,
        "h20": 19,
        "last": 19,
    }
    assert measured_horizons(make_task(toy_runs[0], 23)) == {"h5": 4, "last": 6}


def test_when_a_sample_is_drawn_then_it_is_fixed_by_the_data_set_and_ascending() -> None:
    first = coordinate_sample("digits", 2410, 128)
    np.testing.assert_array_equal(first, coordinate_sample("digits", 2410, 128))
    assert (np.diff(first) > 0).all()
    assert len(first) == 128
    assert not np.array_equal(first, coordinate_sample("other", 2410, 128))
    np.testing.assert_array_equal(coordinate_sample("linreg", 2, 128), [0, 1])


def test_when_the_truth_itself_is_forecast_then_the_network_does_as_the_recorded_run_did() -> None:
    run = get_dataset("digits-mlp-adam").run(3)
    task = make_task(run, 10)
    weights = ForecastWeights(run.tensors, task)
    for tensor in run.tensors:
        truth = run.read(tensor, range(11, 61)).T
        rows = np.arange(tensor.size)
        weights.add(ForecastBlock(tensor, rows, run.read(tensor, [10])[0], truth, abstained=False))
    evaluator = evaluator_for(run.meta)
    assert evaluator is not None
    row = function_metrics(weights, run, task, evaluator)
    for label, horizon in {"h5": 5, "h10": 10, "h20": 20, "last": 50}.items():
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert row[f"{name}_{label}"] == pytest.approx(row[f"true_{name}_{label}"], rel=1e-4)
        assert row[f"true_train_loss_{label}"] == run.meta.train_loss[10 + horizon]
        assert float(row[f"steps_gained_{label}"]) == pytest.approx(45 * horizon, abs=45)
    assert row["train_loss_origin"] == run.meta.train_loss[10]
