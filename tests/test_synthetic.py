"""The synthetic sets: closed forms, reference optimizers, and what the best forecast can do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from weightcast.bench.scoring.best_possible import best_possible
from weightcast.datasets import GeneratedDataSet, History, InputError, get_dataset, make_task
from weightcast.datasets.admission.gates import set_gates
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.rel import RelSums
from weightcast.datasets.synthetic.bowl import QUADRATIC_BOWL, QuadraticBowl
from weightcast.datasets.synthetic.generator import Generator, _walk
from weightcast.datasets.synthetic.linreg import (
    LINREG_ADAM,
    LINREG_COSINE,
    LINREG_GD,
    LINREG_MOMENTUM,
    LINREG_SGD,
    LINREG_STEP,
    LinearRegression,
)
from weightcast.datasets.synthetic.logistic import LOGISTIC_SGD, RIDGE, LogisticRegression
from weightcast.datasets.window import named_window
from weightcast.methods import make_method

GENERATORS = [
    LINREG_SGD, LINREG_GD, LINREG_MOMENTUM, LINREG_ADAM, LINREG_STEP, LINREG_COSINE,
    QUADRATIC_BOWL, LOGISTIC_SGD,
]  # fmt: skip
DETERMINISTIC = [LINREG_GD, QUADRATIC_BOWL]
every = pytest.mark.parametrize("generator", GENERATORS, ids=lambda g: g.name)


def _rel_sum(forecast: np.ndarray, run: Any, context: int) -> float:
    """Error of an (m, d) forecast."""
    path = np.concatenate([run.read(info) for info in run.tensors], axis=1)
    sums = RelSums(len(path) - 1 - context)
    sums.add(forecast.T, path[context + 1 :].T, path[context])
    return sums.rel_sum()


def test_when_linreg_sgd_is_generated_then_its_numbers_are_those_of_the_first_release() -> None:
    released = {
        0: "f8806a804dd4cdd269d2e051d10957e5eb9f08821e35d9d44970d9d248be6205",
        7: "509e40dd17aab48817c208aee2555fa5fb95b62c2904e3fafa6784e2ec7bfff4",
        199: "46341e3b902aa7d8cf7d3ef6c05932cd34679e0848d4d6b64e716a93df520207",
    }
    assert {seed: LINREG_SGD.run(seed).content_hash() for seed in released} == released


@every
def test_when_a_set_is_registered_then_it_gives_the_generators_runs(generator: Generator) -> None:
    dataset = get_dataset(generator.name)
    assert isinstance(dataset, GeneratedDataSet)
    assert len(dataset.seeds) >= 100
    first = dataset.run(3)
    _walk.cache_clear()
    assert first.content_hash() == generator.run(3).content_hash()
    assert first.content_hash() != generator.run(4).content_hash()
    assert first.n_snapshots == 101
    assert len(first.meta.learning_rates) == 100
    assert json.loads(json.dumps(first.meta.truth)) == first.meta.truth
    first.check_finite()


@every
def test_when_a_set_is_checked_then_it_passes_its_admission_gates(generator: Generator) -> None:
    runs = [generator.run(seed) for seed in get_dataset(generator.name).seeds]
    assert [gate for gate in set_gates(runs) if not gate.passed] == []


def test_when_sets_of_one_family_share_a_seed_then_they_share_neither_problem_nor_start() -> None:
    family = [g for g in GENERATORS if g.family == "linreg"]
    for seed in (0, 1):
        assert len({g.draw(seed).optimum.tobytes() for g in family}) == len(family)
        assert len({g.walk(seed).path[0].tobytes() for g in family}) == len(family)


@every
def test_when_a_run_has_truth_then_its_gradient_vanishes_there_and_its_loss_is_lowest(
    generator: Generator,
) -> None:
    for seed in (0, 5):
        problem, run = generator.draw(seed), generator.run(seed)
        best = np.array(run.meta.truth["optimum"])
        assert np.linalg.norm(problem.gradient(best)) < 1e-10
        assert problem.loss(best) <= min(run.meta.train_loss)
        assert (run.meta.truth["noise_floor"] == 0) == (generator in DETERMINISTIC)


@every
def test_when_weights_are_evaluated_then_the_recorded_loss_comes_back(generator: Generator) -> None:
    run = generator.run(2)
    evaluator = evaluator_for(run.meta, with_test=False)
    assert evaluator is not None
    for index in (0, 40, 100):
        measured = evaluator.measure(run.snapshot(index))
        assert measured == {"train_loss": pytest.approx(run.meta.train_loss[index], rel=1e-9)}


def test_when_a_recipe_names_an_unknown_generator_then_it_is_refused() -> None:
    meta = LINREG_SGD.run(0).meta
    with pytest.raises(InputError, match=r"unknown generator 'linreq'.*linreg"):
        evaluator_for(replace(meta, recipe={"generator": "linreq"}))


@every
def test_when_a_gradient_is_taken_then_it_is_that_of_the_loss(generator: Generator) -> None:
    problem = generator.draw(1)
    w = generator.walk(1).path[30]
    small = 1e-6 * np.eye(len(w))
    slope = (problem.loss(w + small) - problem.loss(w - small)) / 2e-6
    np.testing.assert_allclose(problem.gradient(w), slope, atol=1e-7)


def test_when_linear_regression_takes_the_full_batch_then_it_follows_the_closed_form() -> None:
    for seed in range(5):
        problem = LINREG_GD.draw(seed)
        assert isinstance(problem, LinearRegression)
        path, best = LINREG_GD.walk(seed).path, problem.optimum
        contraction = np.eye(2) - 2 * 0.05 * problem.x.T @ problem.x / len(problem.x)
        for t in (1, 10, 100):
            power = np.linalg.matrix_power(contraction, t)
            np.testing.assert_allclose(path[t], best + power @ (path[0] - best), rtol=1e-10)


def test_when_a_bowl_is_seen_along_its_eigenvectors_then_each_direction_shrinks_by_a_constant() -> (
    None
):
    for seed in range(5):
        problem = QUADRATIC_BOWL.draw(seed)
        assert isinstance(problem, QuadraticBowl)
        np.testing.assert_allclose(problem.rotation.T @ problem.rotation, np.eye(50), atol=1e-12)
        assert np.linalg.cond(problem.hessian) == pytest.approx(1000, rel=1e-6)
        along = (QUADRATIC_BOWL.walk(seed).path - problem.optimum) @ problem.rotation  # (T, d)
        decay = (1 - problem.eigenvalues) ** np.arange(101)[:, None]
        np.testing.assert_allclose(along, decay * along[0], atol=1e-12)


def _torch_path(
    generator: Generator,
    seed: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[..., Any] | None = None,
    **options: Any,
) -> np.ndarray:
    """Train on the generator's own batches with torch, (T + 1, d) in float64."""
    problem, walk = generator.draw(seed), generator.walk(seed)
    assert isinstance(problem, LinearRegression | LogisticRegression)
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    w = torch.nn.Parameter(torch.from_numpy(walk.path[0].copy()))
    steps = optimizer([w], **options)
    scheduler = schedule(steps) if schedule else None
    path = [walk.path[0]]
    for rows in walk.batches:
        assert rows is not None
        steps.zero_grad()
        score = x[rows] @ w
        if isinstance(problem, LinearRegression):
            loss = torch.nn.functional.mse_loss(score, y[rows])
        else:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(score, y[rows])
            loss = loss + RIDGE / 2 * (w[:-1] ** 2).sum()
        loss.backward()
        steps.step()
        if scheduler is not None:
            scheduler.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize(
    ("generator", "optimizer", "schedule", "options"),
    [
        (LINREG_SGD, torch.optim.SGD, None, {"lr": 0.05}),
        (LINREG_MOMENTUM, torch.optim.SGD, None, {"lr": 0.005, "momentum": 0.9}),
        (LINREG_ADAM, torch.optim.Adam, None, {"lr": 0.05}),
        (
            LINREG_STEP,
            torch.optim.SGD,
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [30, 60], 0.3),
            {"lr": 0.05},
        ),
        (
            LINREG_COSINE,
            torch.optim.SGD,
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 100),
            {"lr": 0.05},
        ),
        (LOGISTIC_SGD, torch.optim.SGD, None, {"lr": 0.5}),
    ],
    ids=lambda value: value.name if isinstance(value, Generator) else "",
)
def test_when_torch_trains_on_the_same_batches_then_the_path_is_the_same(
    generator: Generator,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[..., Any] | None,
    options: dict[str, Any],
) -> None:
    for seed in (0, 11):
        expected = _torch_path(generator, seed, optimizer, schedule, **options)
        np.testing.assert_allclose(generator.walk(seed).path, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("generator", DETERMINISTIC, ids=lambda g: g.name)
def test_when_a_run_is_deterministic_then_the_best_forecast_is_exact(generator: Generator) -> None:
    for seed in range(20):
        for context in (10, 20):
            run = generator.run(seed)
            assert _rel_sum(generator.oracle(run, context), run, context) < 1e-5


@every
def test_when_the_truth_is_known_then_no_method_errs_less(generator: Generator) -> None:
    runs = [generator.run(seed) for seed in range(60)]
    task = make_task(runs[0], 10)
    names = [
        "last-value",
        "last-two-line",
        "ols-line",
        "damped-line",
        "ar1",
        "lfd2-ols",
        "lfd-full",
    ]
    errors: dict[str, list[float]] = {name: [] for name in names}
    best = []
    for name in names:
        method = make_method(name, {}).fit(runs[:30], runs[30:40], task)
        for run in runs[40:]:
            history = History.of(run, task)
            blocks = [
                method.predict_block(values, task.for_tensor(info))
                for info, _, values in history.blocks(task.block_bytes)
            ]
            errors[name].append(_rel_sum(np.concatenate(blocks).T, run, 10))
    best = [_rel_sum(generator.oracle(run, 10), run, 10) for run in runs[40:]]
    for name in names:
        assert np.median(best) < np.median(errors[name]), name


@pytest.mark.parametrize(
    "generator", [LINREG_SGD, LINREG_MOMENTUM, LINREG_STEP], ids=lambda g: g.name
)
def test_when_updates_are_linear_then_full_gradients_give_the_mean_of_all_futures(
    generator: Generator,
) -> None:
    origin = generator.walk(4).path[20]
    exact = generator.expected_path(4, origin, 20, 80)
    means = [
        replace(generator, continuations=count).expected_path(4, origin, 20, 80)
        for count in (20, 2000)
    ]
    few, many = (np.linalg.norm(mean - exact) for mean in means)
    # The error of a mean falls with the root of its number: by ten here.
    assert many < 0.35 * few
    assert many < 0.05 * np.linalg.norm(exact - origin)


def test_when_adam_runs_on_then_full_gradients_are_a_worse_forecast_than_the_mean_future() -> None:
    full = replace(LINREG_ADAM, continuations=0)
    runs = [LINREG_ADAM.run(seed) for seed in range(40)]
    mean, biased = (
        [_rel_sum(g.oracle(run, 10), run, 10) for run in runs] for g in (LINREG_ADAM, full)
    )
    assert np.mean(mean) < np.mean(biased)


def test_when_logistic_regression_runs_on_then_averaging_futures_brings_nothing() -> None:
    averaged = replace(LOGISTIC_SGD, continuations=128)
    runs = [LOGISTIC_SGD.run(seed) for seed in range(12)]
    full, mean = (
        [_rel_sum(g.oracle(run, 10), run, 10) for run in runs] for g in (LOGISTIC_SGD, averaged)
    )
    assert np.mean(full) == pytest.approx(np.mean(mean), rel=0.03)


def test_when_momentum_is_forgotten_then_the_forecast_is_worse() -> None:
    runs = [LINREG_MOMENTUM.run(seed) for seed in range(20)]
    for run in runs[:5]:
        known = _rel_sum(LINREG_MOMENTUM.oracle(run, 10), run, 10)
        problem, w = LINREG_MOMENTUM.draw(run.meta.seed), run.read(run.tensors[0], [10])[0]
        state, path = LINREG_MOMENTUM.update.begin(2), []
        for rate in LINREG_MOMENTUM.rates[10:]:
            w, state = LINREG_MOMENTUM.update.step(w, problem.gradient(w), rate, state)
            path.append(w)
        assert known < _rel_sum(np.array(path), run, 10)


def test_when_a_run_is_seen_through_a_window_then_the_best_forecast_is_that_of_the_run() -> None:
    run = LINREG_COSINE.run(6)
    late = named_window(run, "late")
    np.testing.assert_array_equal(LINREG_COSINE.oracle(late, 5), LINREG_COSINE.oracle(run, 55))


def test_when_an_oracle_is_asked_for_what_is_not_there_then_it_is_refused() -> None:
    run = LINREG_SGD.run(0)
    with pytest.raises(InputError, match="linreg-sgd/0 is not a run of linreg-gd"):
        LINREG_GD.oracle(run, 10)
    with pytest.raises(InputError, match="no snapshot after w_100"):
        LINREG_SGD.oracle(run, 100)
    with pytest.raises(InputError, match="steps 0 to 100"):
        LINREG_SGD.expected_path(0, np.zeros(2), 95, 6)
    with pytest.raises(InputError, match=r"has 2 weights, not \(3,\)"):
        LINREG_SGD.expected_path(0, np.zeros(3), 10, 5)


def test_when_the_best_possible_error_is_asked_for_then_it_is_the_oracles_median() -> None:
    runs = [LINREG_SGD.run(seed) for seed in (1, 2, 3)]
    expected = np.median([_rel_sum(LINREG_SGD.oracle(run, 10), run, 10) for run in runs])
    assert best_possible("linreg-sgd", 10, (1, 2, 3)) == pytest.approx(expected, rel=1e-5)
    assert best_possible("linreg-sgd", 10, (1, 2, 3), 128) == pytest.approx(expected, rel=1e-5)
    one = best_possible("linreg-sgd", 10, (1, 2, 3), 1)
    assert one is not None
    assert one != pytest.approx(expected, rel=1e-3)
    assert best_possible("quadratic-bowl", 20, (0,)) == pytest.approx(0, abs=1e-5)


def test_when_the_truth_is_not_known_then_there_is_no_best_possible_error() -> None:
    assert best_possible("digits-mlp-sgd", 10) is None
    assert best_possible("not-registered", 10) is None
    assert best_possible("linreg-sgd", 100, (0,)) is None
    assert best_possible("linreg-sgd", 10, (1000,)) is None
