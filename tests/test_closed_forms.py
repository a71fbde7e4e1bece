"""Methods against closed forms and against libraries that are not ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weightcast.datasets import History, Trajectory, make_task
from weightcast.datasets.rel import RelSums
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, make_method
from weightcast.methods.damped_line import damped_sum
from weightcast.methods.lfd2_grad import growth as step_growth
from weightcast.methods.line_search import minimise_along

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

Make = Callable[..., Trajectory]
CONTEXT = 10


def _forecast(name: str, run: Trajectory, task: ForecastTask, **params: object) -> np.ndarray:
    method = make_method(name, params).fit([], [], task)
    assert isinstance(method, CoordinateForecaster)
    block = method.predict_block(_rows(run)[:, : CONTEXT + 1], task)
    assert block is not None
    return np.asarray(block)


def _rows(run: Trajectory) -> np.ndarray:
    """All coordinates of a run, (d, T)."""
    return np.concatenate([run.read(info).T for info in run.tensors])


@pytest.mark.parametrize("name", ["last-two-line", "ols-line"])
def test_when_weights_move_on_a_line_then_both_lines_are_exact(name: str, toy_run: Make) -> None:
    random = np.random.default_rng(0)
    start, slope = random.standard_normal((2, 6))
    run = toy_run(start + slope * np.arange(31)[:, None])
    task = make_task(run, CONTEXT)
    np.testing.assert_allclose(_forecast(name, run, task), _rows(run)[:, 11:], atol=2e-5)


def test_when_ols_line_is_asked_then_it_agrees_with_polyfit(toy_runs: list[Trajectory]) -> None:
    run, task = toy_runs[0], make_task(toy_runs[0], CONTEXT)
    rows = _rows(run)
    slope, level = np.polyfit(np.arange(-10, 1), rows[:, :11].T.astype(float), 1)
    expected = level[:, None] + slope[:, None] * task.horizons
    np.testing.assert_allclose(_forecast("ols-line", run, task), expected, atol=1e-5)


def test_when_the_last_value_is_forecast_then_rel_is_one(toy_runs: list[Trajectory]) -> None:
    run, task = toy_runs[0], make_task(toy_runs[0], CONTEXT)
    sums = RelSums(len(task.horizons))
    rows = _rows(run)
    sums.add(_forecast("last-value", run, task), rows[:, 11:], rows[:, 10])
    assert sums.rel_sum() == pytest.approx(1.0, abs=1e-12)


def test_when_differences_decay_at_one_rate_each_then_ar1_is_exact(toy_run: Make) -> None:
    random = np.random.default_rng(1)
    start, end = random.standard_normal((2, 9))
    rates = np.array([0.5, 0.8, 0.9, 0.95, 0.99, -0.5, -0.9, 1.0, 0.0])
    steps = (start - end) * rates ** np.arange(31)[:, None]
    run = toy_run(end + np.concatenate([np.zeros((1, 9)), np.cumsum(steps, axis=0)])[:31])
    task = make_task(run, CONTEXT)
    np.testing.assert_allclose(
        _forecast("ar1", run, task), _rows(run)[:, 11:], rtol=2e-3, atol=2e-3
    )


def test_when_ar1_is_not_cut_then_it_agrees_with_statsmodels(toy_runs: list[Trajectory]) -> None:
    from statsmodels.tsa.ar_model import AutoReg

    run, task = toy_runs[1], make_task(toy_runs[1], CONTEXT)
    ours = _forecast("ar1", run, task, max_rate=np.inf)
    for row, forecast in zip(_rows(run), ours, strict=True):
        fit = AutoReg(np.diff(row[:11].astype(float)), lags=1, trend="n").fit()
        expected = row[10] + np.cumsum(fit.forecast(20))
        np.testing.assert_allclose(forecast, expected, rtol=1e-4, atol=1e-5)


@given(st.floats(0, 1), st.integers(1, 60))
def test_when_dampings_are_summed_then_the_closed_form_is_the_sum(phi: float, horizon: int) -> None:
    expected = sum(phi**i for i in range(1, horizon + 1))
    assert damped_sum(phi, np.array([horizon], np.float32))[0] == pytest.approx(expected, rel=1e-6)


def test_when_damped_line_is_fitted_then_no_other_pair_does_better_on_validation_runs(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    method = make_method("damped-line", {"lags": (1, 3, 10), "dampings": (0.5, 0.9, 1.0)})
    method.fit(toy_runs[:4], toy_runs[4:7], task)

    def score(k: int, phi: float) -> float:
        errors = []
        for run in toy_runs[4:7]:
            rows = _rows(run).astype(float)
            step = (rows[:, 10] - rows[:, 10 - k]) / k
            reach = np.cumsum(phi ** np.arange(1, 21))
            forecast = rows[:, 10:11] + step[:, None] * reach
            moved = np.linalg.norm(rows[:, 11:] - rows[:, 10:11], axis=0)
            errors.append(np.linalg.norm(forecast - rows[:, 11:], axis=0).sum() / moved.sum())
        return float(np.median(errors))

    table = {(k, phi): score(k, phi) for k in (1, 3, 10) for phi in (0.5, 0.9, 1.0)}
    found = method.diagnostics()
    assert (found["k"], found["phi"]) == min(table, key=lambda pair: table[pair])


def test_when_validation_runs_stand_still_then_damped_line_chooses_by_the_others(
    toy_run: Make, toy_runs: list[Trajectory]
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    still = [toy_run(np.full((31, 12), 0.5), seed) for seed in range(2)]
    without = make_method("damped-line").fit(toy_runs[:4], toy_runs[4:6], task)
    among = make_method("damped-line").fit(toy_runs[:4], [*toy_runs[4:6], *still], task)
    assert among.diagnostics() == without.diagnostics()
    with pytest.raises(ValueError, match="no validation run moves"):
        make_method("damped-line").fit(toy_runs[:4], still, task)


@pytest.mark.parametrize(
    ("name", "columns"), [("lfd2-ols", [0, 10]), ("lfd-full", list(range(11)))]
)
def test_when_a_map_is_fitted_by_least_squares_then_it_agrees_with_scikit_learn(
    name: str, columns: list[int], toy_runs: list[Trajectory]
) -> None:
    from sklearn.linear_model import LinearRegression

    task = make_task(toy_runs[0], CONTEXT)
    train = np.concatenate([_rows(run) for run in toy_runs[:6]]).astype(float)
    reference = LinearRegression().fit(train[:, columns], train[:, 11:])
    method = make_method(name).fit(toy_runs[:6], toy_runs[6:7], task)
    assert isinstance(method, CoordinateForecaster)
    test = _rows(toy_runs[7])
    ours = method.predict_block(test[:, :11], task)
    np.testing.assert_allclose(ours, reference.predict(test[:, columns].astype(float)), atol=1e-4)
    assert method.parameter_count() == (len(columns) + 1) * 20


def test_when_all_weights_follow_one_recurrence_then_the_farcasters_are_exact(
    toy_run: Make,
) -> None:
    # w_{t+1} = 0.9 w_t + 0.05 everywhere: two snapshots, and so all of them, say everything.
    random = np.random.default_rng(2)
    runs = []
    for seed in range(6):
        start = random.standard_normal(8)
        runs.append(toy_run(0.5 + (start - 0.5) * 0.9 ** np.arange(31)[:, None], seed))
    task = make_task(runs[0], CONTEXT)
    for name in ("lfd2", "lfd2-ols", "lfd-full"):
        method = make_method(name).fit(runs[:4], runs[4:5], task)
        assert isinstance(method, CoordinateForecaster)
        forecast = method.predict_block(_rows(runs[5])[:, :11], task)
        np.testing.assert_allclose(forecast, _rows(runs[5])[:, 11:], atol=1e-4)


def test_when_lfd2_is_fitted_then_its_objective_is_a_linear_programmes(
    toy_runs: list[Trajectory],
) -> None:
    from scipy.optimize import linprog

    task = make_task(toy_runs[0], CONTEXT)
    train = np.concatenate([_rows(run) for run in toy_runs[:4]]).astype(float)
    x = np.column_stack([train[:, [0, 10]], np.ones(len(train))])
    method = make_method("lfd2").fit(toy_runs[:4], toy_runs[4:5], task)
    assert isinstance(method, CoordinateForecaster)
    ours = np.abs(method.predict_block(train[:, :11].astype(np.float32), task) - train[:, 11:])
    count = len(x)
    for column in (0, 9, 19):
        # Minimise Σ u subject to −u ≤ x θ − y ≤ u.
        cost = np.concatenate([np.zeros(3), np.ones(count)])
        inequalities = np.block([[x, -np.eye(count)], [-x, -np.eye(count)]])
        y = train[:, 11 + column]
        best = linprog(
            cost,
            inequalities,
            np.concatenate([y, -y]),
            bounds=[(None, None)] * 3 + [(0, None)] * count,
        )
        assert ours[:, column].sum() <= best.fun * 1.002
        assert ours[:, column].sum() >= best.fun * 0.999


@pytest.mark.slow
def test_when_the_regularizer_weighs_more_then_forecast_steps_grow_less(
    toy_run: Make,
) -> None:
    # Weights that speed up: without the regularizer the map learns growing steps.
    random = np.random.default_rng(3)
    runs = [
        toy_run(random.standard_normal(12) * 1.06 ** np.arange(31)[:, None], s) for s in range(6)
    ]
    task = make_task(runs[0], CONTEXT)
    growth = [
        make_method("lfd2-grad", {"weight": weight})
        .fit(runs[:4], runs[4:5], task)
        .diagnostics()["growth"]
        for weight in (0.0, 1.0, 100.0)
    ]
    assert growth[0] > growth[1] > growth[2]
    assert growth[2] < 0.2 * growth[0]


def test_when_the_regularizer_weighs_nothing_then_the_map_is_that_of_lfd2(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    plain = make_method("lfd2").fit(toy_runs[:4], toy_runs[4:5], task)
    free = make_method("lfd2-grad", {"weight": 0.0}).fit(toy_runs[:4], toy_runs[4:5], task)
    rows = _rows(toy_runs[7])[:, :11]
    assert isinstance(plain, CoordinateForecaster)
    assert isinstance(free, CoordinateForecaster)
    np.testing.assert_allclose(
        free.predict_block(rows, task), plain.predict_block(rows, task), atol=5e-3
    )


@pytest.mark.parametrize("weight", [0.0, 0.001])
def test_when_two_coordinates_leave_a_map_open_then_the_regularized_one_is_that_of_least_squares(
    weight: float, toy_run: Make
) -> None:
    # Three numbers a horizon, two equations; a level far from the steps' scale tells choices apart.
    path = np.array([3.0, -2.0]) + np.array([0.5, -0.1]) * 0.9 ** np.arange(31)[:, None]
    run = toy_run(path)
    task = make_task(run, CONTEXT)
    plain = make_method("lfd2-ols").fit([run], [], task)
    method = make_method("lfd2-grad", {"weight": weight}).fit([run], [], task)
    rows = np.random.default_rng(4).standard_normal((50, 11)).astype(np.float32)
    assert isinstance(plain, CoordinateForecaster)
    assert isinstance(method, CoordinateForecaster)
    np.testing.assert_allclose(
        method.predict_block(rows, task), plain.predict_block(rows, task), atol=1e-2
    )


def test_when_the_regularizer_moves_the_map_then_diagnostics_tell_by_how_much(
    toy_runs: list[Trajectory],
) -> None:
    runs, task = toy_runs[:4], make_task(toy_runs[0], CONTEXT)
    free, priced = (
        make_method("lfd2-grad", {"weight": weight}).fit(runs, toy_runs[4:5], task)
        for weight in (0.0, 10.0)
    )
    assert isinstance(free, CoordinateForecaster)
    assert isinstance(priced, CoordinateForecaster)
    squares = np.zeros(2)
    for run in runs:
        rows = _rows(run)[:, :11]
        before, after = (m.predict_block(rows, task).astype(float) for m in (free, priced))
        squares += ((after - before) ** 2).sum(), ((before - rows[:, -1:]) ** 2).sum()
    told, plain = priced.diagnostics(), free.diagnostics()
    assert told["change_from_weight_0"] == pytest.approx((squares[0] / squares[1]) ** 0.5, rel=1e-3)
    assert told["change_from_weight_0"] > 0
    assert told["growth_at_weight_0"] == pytest.approx(plain["growth"])
    assert told["growth"] <= told["growth_at_weight_0"]
    assert (plain["change_from_weight_0"], plain["growth_at_weight_0"]) == (0, plain["growth"])


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_when_the_regularizer_is_differentiated_then_finite_differences_agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    theta = random.standard_normal((3, 7))
    root = random.standard_normal((2, 5, 3))
    grams = np.einsum("rkp,rkq->rpq", root, root)
    direction = random.standard_normal(theta.shape)
    h = 1e-6
    for rounding in (0.0, 0.3):
        _, slope = step_growth(theta, grams, rounding)
        ahead, behind = (
            step_growth(theta + s * h * direction, grams, rounding)[0] for s in (1, -1)
        )
        expected = np.sum(slope * direction)
        assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_when_the_hinge_is_rounded_then_it_is_within_half_the_rounding_of_the_hinge() -> None:
    random = np.random.default_rng(5)
    theta, grams = random.standard_normal((3, 7)), np.eye(3)[None]
    sharp, round_ = step_growth(theta, grams)[0], step_growth(theta, grams, 0.01)[0]
    assert sharp - 6 * 0.005 <= round_ <= sharp


def test_when_arima_has_no_terms_but_a_difference_then_it_is_the_last_value(
    toy_runs: list[Trajectory],
) -> None:
    run, task = toy_runs[2], make_task(toy_runs[2], CONTEXT)
    np.testing.assert_allclose(
        _forecast("arima", run, task, order=(0, 1, 0)),
        _forecast("last-value", run, task),
        atol=1e-6,
    )


def test_when_arima_forecasts_then_statsmodels_says_the_same(toy_runs: list[Trajectory]) -> None:
    from statsmodels.tsa.arima.model import ARIMA

    run, task = toy_runs[2], make_task(toy_runs[2], CONTEXT)
    row = _rows(run)[3, :11].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scale = np.abs(row - row[-1]).max()
        expected = row[-1] + scale * ARIMA((row - row[-1]) / scale, order=(1, 1, 0)).fit().forecast(
            20
        )
    forecast = _forecast("arima", run, task, order=(1, 1, 0))[3]
    np.testing.assert_allclose(forecast, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=200)
@given(st.floats(0.001, 20), st.integers(6, 60), st.floats(0.1, 25))
@example(0.1, 19, 0.10000000000000002)  # a bracket of two neighbouring floats
def test_when_a_loss_is_searched_along_a_line_then_the_budget_holds_and_it_is_not_made_worse(
    best: float, budget: int, longest: float
) -> None:
    calls = []

    def loss(alpha: float) -> float:
        calls.append(alpha)
        return (alpha - best) ** 2

    found = minimise_along(loss, budget, longest)
    assert len(calls) <= budget
    assert len(set(calls)) == len(calls)
    assert 0 <= found <= longest
    assert loss(found) <= loss(0.0)


def test_when_the_loss_is_a_bowl_then_line_search_finds_its_bottom(toy_run: Make) -> None:
    # w_t = 1 − t/40: the loss ‖w‖² is lowest at α = 3 of the chord w_10 − w_0.
    run = toy_run((1 - np.arange(61)[:, None] / 40) * np.ones((1, 5)))
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    calls = []

    def loss(weights: dict[str, np.ndarray]) -> float:
        calls.append(1)
        return float(sum((w.astype(float) ** 2).sum() for w in weights.values()))

    history.loss = loss  # type: ignore[assignment]
    method = make_method("line-search")
    forecast = method.predict(history, task)
    assert len(calls) <= 15
    assert method.diagnostics()["alpha"] == pytest.approx(3.0, abs=0.15)
    # At the context's mean speed to the bottom, and no further.
    np.testing.assert_allclose(forecast["w"][9], 0.5, atol=1e-5)
    np.testing.assert_allclose(forecast["w"][-1], 0.0, atol=0.04)


def test_when_the_loss_is_nan_everywhere_but_here_then_line_search_stays(
    toy_runs: list[Trajectory],
) -> None:
    assert minimise_along(lambda a: 1.0 if a == 0 else float("nan"), 15, 5.0) == 0.0


@pytest.mark.parametrize("name", ["lstm", pytest.param("transformer", marks=pytest.mark.slow)])
def test_when_all_coordinates_decay_alike_then_learned_networks_beat_the_last_value_by_far(
    name: str, toy_run: Make
) -> None:
    runs = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        start = random.standard_normal(64)
        runs.append(toy_run(start * 0.93 ** np.arange(31)[:, None], seed))
    task = make_task(runs[0], CONTEXT)
    method = make_method(name, {"updates": 300}).fit(runs[:5], runs[5:7], task)
    rows = _rows(runs[7])
    assert isinstance(method, CoordinateForecaster)
    forecast = method.predict_block(rows[:, :11], task)
    assert forecast is not None
    error = np.linalg.norm(forecast - rows[:, 11:], axis=0).sum()
    assert error < 0.15 * np.linalg.norm(rows[:, 10:11] - rows[:, 11:], axis=0).sum()


def test_when_parameters_are_counted_then_they_are_as_documented(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    lstm = make_method("lstm", {"updates": 1}).fit(toy_runs[:4], toy_runs[4:6], task)
    assert lstm.parameter_count() == 4 * 32 * 33 + 8 * 32 + 20 * 33
    lfd2 = make_method("lfd2").fit(toy_runs[:4], toy_runs[4:6], task)
    assert lfd2.parameter_count() == 3 * 20
