"""Tuning: one budget for all, chosen on validation runs, nothing else seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from weightcast.bench.scoring.tuning import configurations, fit_tuned, validation_error
from weightcast.datasets import ForecastTask, Trajectory, make_task
from weightcast.methods import CoordinateForecaster, all_methods, make_method

SAMPLE = np.arange(5)


class Scaled(CoordinateForecaster):
    """The true displacement of a straight run, times a factor."""

    param_grid: ClassVar[dict[str, Any]] = {"factor": (0.0, 0.5, 1.0, 2.0), "other": (1, 2)}

    def __init__(self, factor: float = 0.0, other: int = 1) -> None:
        self.factor = factor
        self.other = other
        super().__init__()

    def fit(
        self, train: Sequence[Trajectory], validation: Sequence[Trajectory], task: ForecastTask
    ) -> Scaled:
        if self.factor == 2.0:
            raise RuntimeError("diverged")
        return self

    def predict_block(self, context: np.ndarray, task: ForecastTask) -> np.ndarray:
        step = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + self.factor * step * task.horizons


@pytest.fixture
def straight(toy_run: Any) -> list[Trajectory]:
    slopes = np.random.default_rng(0).standard_normal((8, 6))
    return [toy_run(s * np.arange(31)[:, None], i) for i, s in enumerate(slopes)]


def test_when_a_budget_is_given_then_the_best_configuration_on_validation_runs_is_kept(
    straight: list[Trajectory],
) -> None:
    task = make_task(straight[0], 10)
    fitted, chosen, trials = fit_tuned(Scaled(), straight[:4], straight[4:6], task, SAMPLE, 99)
    assert chosen["factor"] == 1.0
    assert fitted.get_params()["factor"] == 1.0
    assert len(trials) == 8
    assert sum("failed" in trial for trial in trials) == 2
    assert min(t["rel_sum"] for t in trials if "rel_sum" in t) < 1e-3


def test_when_the_budget_is_smaller_then_no_more_configurations_are_tried_and_the_default_is() -> (
    None
):
    for budget in (1, 3, 5):
        points = configurations(Scaled(), budget, seed=0)
        assert len(points) == budget
        assert points[0] == {}
        assert len({tuple(sorted(p.items())) for p in points}) == budget


def test_when_the_suite_sets_a_parameter_then_it_is_not_tuned() -> None:
    assert all("factor" not in point for point in configurations(Scaled(factor=0.5), 99, 0))


def test_when_there_is_no_budget_then_the_defaults_are_fitted(straight: list[Trajectory]) -> None:
    task = make_task(straight[0], 10)
    fitted, chosen, trials = fit_tuned(Scaled(), straight[:4], straight[4:6], task, SAMPLE, 0)
    assert (fitted.get_params()["factor"], chosen, trials) == (0.0, {}, [])


def test_when_every_configuration_fails_then_the_first_reason_is_raised(
    straight: list[Trajectory],
) -> None:
    task = make_task(straight[0], 10)
    with pytest.raises(RuntimeError, match="diverged"):
        fit_tuned(Scaled(factor=2.0), straight[:4], straight[4:6], task, SAMPLE, 2)


def test_when_the_last_value_is_validated_then_its_error_is_one(straight: list[Trajectory]) -> None:
    task = make_task(straight[0], 10)
    assert validation_error(make_method("last-value"), straight[:3], task, SAMPLE) == pytest.approx(
        1
    )


@pytest.mark.parametrize("name", sorted(all_methods()))
def test_when_training_runs_are_shuffled_then_the_fit_is_the_same(
    name: str, toy_runs: list[Trajectory]
) -> None:
    if "train-loss" in all_methods()[name].get_class_tag("needs"):
        return  # nothing is fitted, and toy runs have no loss to measure
    params = {"updates": 40} if name in ("lstm", "transformer") else {}
    task = make_task(toy_runs[0], 10, seed=1)
    errors = [
        validation_error(
            fit_tuned(make_method(name, params), train, toy_runs[4:6][::order], task, SAMPLE, 0)[0],
            [toy_runs[7]],
            task,
            SAMPLE,
        )
        for train, order in ((toy_runs[:4], 1), ([toy_runs[i] for i in (2, 0, 3, 1)], -1))
    ]
    assert errors[0] == errors[1]
