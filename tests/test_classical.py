"""The classical forecasters and the reference that is told the truth, against closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weightcast.bench.commands.info import ranking_rows
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.leaderboard import rank_results, ranking_table
from weightcast.bench.results.tables import load_results
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import History, InputError, Trajectory, make_task
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, Forecaster, make_method
from weightcast.methods.ar import fit_ar, iterate, spectral_radius, tamed
from weightcast.methods.exponential import fit_rate

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

Make = Callable[..., Trajectory]
CONTEXT = 10
AHEAD = 20
NEW = ("ar", "aitken", "exponential", "dmd", "rre", "snapshot-average", "oracle-line")


def _task(context: int = CONTEXT, ahead: int = AHEAD) -> ForecastTask:
    return ForecastTask(
        dataset="toy",
        context=context,
        horizons=np.arange(1, ahead + 1, dtype=np.float32),
        context_steps=np.arange(context + 1),
        horizon_steps=np.arange(context + 1, context + ahead + 1),
        learning_rates=np.full(context + ahead, 0.1),
    )


def _block(name: str, context: np.ndarray, **params: object) -> np.ndarray:
    """Forecast rows; given float64, only the answer is rounded to float32."""
    method = make_method(name, params)
    assert isinstance(method, CoordinateForecaster)
    forecast = method.predict_block(context, _task(context.shape[1] - 1))
    assert forecast is not None
    return np.asarray(forecast)


def _network(name: str, run: Trajectory, **params: object) -> np.ndarray:
    """Forecast all coordinates of a run from its context, (d, m)."""
    task = make_task(run, CONTEXT, block_bytes=4 * 31 * 7)
    return _stream(make_method(name, params), run, task)


def _stream(method: Forecaster, run: Trajectory, task: ForecastTask) -> np.ndarray:
    return np.concatenate([block.forecast for block in ForecastStream(method, run, task)])


def _rows(run: Trajectory) -> np.ndarray:
    return np.concatenate([run.read(info).T for info in run.tensors]).astype(np.float64)


def _approaches(rates: np.ndarray, seed: int = 0) -> np.ndarray:
    """Coordinates that approach limits of their own, a rate a row: (c, T)."""
    random = np.random.default_rng(seed)
    end, way = random.standard_normal((2, len(rates), 1))
    return np.asarray(end + way * rates[:, None] ** np.arange(CONTEXT + AHEAD + 1))


@pytest.mark.parametrize("lag", [None, 1, 2, 3])
def test_when_each_coordinate_has_one_rate_then_aitken_is_exact(lag: int | None) -> None:
    rows = _approaches(np.linspace(0.05, 0.995, 40))
    forecast = _block("aitken", rows[:, : CONTEXT + 1], lag=lag, max_rate=1.0)
    np.testing.assert_allclose(forecast, rows[:, CONTEXT + 1 :], rtol=0, atol=1e-6)


def test_when_a_coordinate_turns_or_has_no_rate_then_aitken_leaves_it() -> None:
    context = np.array([[0.0, 1.0, 0.5], [1.0, 1.0, 2.0], [3.0, 3.0, 3.0]], np.float32)
    forecast = _block("aitken", context)
    np.testing.assert_array_equal(forecast, np.repeat(context[:, -1:], AHEAD, axis=1))


def test_when_a_coordinate_speeds_up_then_aitken_goes_no_further_than_the_line() -> None:
    forecast = _block("aitken", np.array([[0.0, 1.0, 4.0]], np.float32), max_rate=1.0)
    np.testing.assert_allclose(forecast[0], 4.0 + 3.0 * np.arange(1, AHEAD + 1))


@pytest.mark.parametrize("start", ["last", "curve"])
def test_when_each_coordinate_has_one_rate_then_exponential_is_exact(start: str) -> None:
    rows = _approaches(np.linspace(0.1, 0.995, 40))
    forecast = _block("exponential", rows[:, : CONTEXT + 1], slowest=30.0, start=start)
    np.testing.assert_allclose(forecast, rows[:, CONTEXT + 1 :], rtol=0, atol=1e-6)


def test_when_the_fit_is_noisy_then_no_scipy_fit_within_the_bounds_is_better() -> None:
    from scipy.optimize import minimize_scalar

    random = np.random.default_rng(5)
    rows = _approaches(random.uniform(0.5, 0.97, 20), 1)[:, : CONTEXT + 1]
    rows += 0.05 * random.standard_normal(rows.shape)
    grid = np.geomspace(1 / 30, 3.0, 32)
    rates = fit_rate(rows, grid, 5)

    def left(rate: float, row: np.ndarray) -> float:
        design = np.stack([np.ones(CONTEXT + 1), np.exp(-rate * np.arange(CONTEXT + 1))], axis=1)
        return float(((row - design @ np.linalg.lstsq(design, row, rcond=None)[0]) ** 2).sum())

    for rate, row in zip(rates, rows, strict=True):
        best = min(
            minimize_scalar(
                left, (low, high), (low, high), (row,), method="bounded", options={"xatol": 1e-10}
            ).fun
            for low, high in itertools.pairwise(grid)
        )
        assert left(rate, row) <= best * (1 + 1e-6)


def test_when_one_rate_moves_the_whole_run_then_dmd_of_rank_one_is_exact(toy_run: Make) -> None:
    random = np.random.default_rng(2)
    end, way = random.standard_normal((2, 12))
    for rate in (0.5, 0.9, 0.98, 1.0, -0.7):
        steps = way * rate ** np.arange(30)[:, None]
        run = toy_run(end + np.concatenate([np.zeros((1, 12)), steps.cumsum(axis=0)]))
        truth = _rows(run)[:, CONTEXT + 1 :]
        np.testing.assert_allclose(_network("dmd", run, rank=1), truth, rtol=0, atol=3e-5)


def test_when_two_rates_move_the_run_then_dmd_of_rank_two_is_exact_and_of_one_is_not(
    toy_run: Make,
) -> None:
    random = np.random.default_rng(3)
    end, one, two = random.standard_normal((3, 12))
    time = np.arange(31)[:, None]
    run = toy_run(end + one * 0.95**time + two * 0.6**time)
    truth = _rows(run)[:, CONTEXT + 1 :]
    np.testing.assert_allclose(_network("dmd", run, rank=2), truth, rtol=0, atol=5e-5)
    assert np.abs(_network("dmd", run, rank=1) - truth).max() > 1e-3


def test_when_a_pair_of_rates_is_complex_then_dmd_of_rank_two_is_exact(toy_run: Make) -> None:
    random = np.random.default_rng(4)
    end, one, two = random.standard_normal((3, 12))
    time = np.arange(31)[:, None]
    run = toy_run(end + 0.93**time * (one * np.cos(0.4 * time) + two * np.sin(0.4 * time)))
    forecast = _network("dmd", run, rank=2)
    np.testing.assert_allclose(forecast, _rows(run)[:, CONTEXT + 1 :], rtol=0, atol=5e-5)


def test_when_steps_grow_then_dmd_clips_the_rate(toy_run: Make) -> None:
    way = np.random.default_rng(5).standard_normal(12)
    run = toy_run(way * 1.2 ** np.arange(31)[:, None])
    rows = _rows(run)
    line = rows[:, [CONTEXT]] + (rows[:, [CONTEXT]] - rows[:, [CONTEXT - 1]]) * np.arange(1, 21)
    np.testing.assert_allclose(_network("dmd", run, rank=1), line, rtol=1e-5, atol=1e-4)
    method = make_method("dmd", {"rank": 1, "max_radius": 0.9})
    _stream(method, run, make_task(run, CONTEXT))
    assert method.diagnostics()["radii"] == pytest.approx([0.9])


def test_when_one_rate_moves_the_run_then_rre_finds_the_limit_and_the_way_there(
    toy_run: Make,
) -> None:
    random = np.random.default_rng(6)
    end, way = random.standard_normal((2, 12))
    run = toy_run(end + way * 0.9 ** np.arange(31)[:, None])
    jump = _network("rre", run, regularization=1e-12, approach="jump")
    np.testing.assert_allclose(jump, np.repeat(_end(run, end), AHEAD, axis=1), rtol=0, atol=2e-5)
    forecast = _network("rre", run, regularization=1e-12)
    np.testing.assert_allclose(forecast, _rows(run)[:, CONTEXT + 1 :], rtol=0, atol=2e-5)


def test_when_three_rates_move_the_run_then_rre_finds_the_limit(toy_run: Make) -> None:
    random = np.random.default_rng(7)
    end, *ways = random.standard_normal((4, 12))
    time = np.arange(31)[:, None]
    parts = [way * rate**time for way, rate in zip(ways, (0.9, 0.5, -0.6), strict=True)]
    run = toy_run(end + np.sum(parts, axis=0))
    jump = _network("rre", run, regularization=1e-13, approach="jump")
    np.testing.assert_allclose(jump, np.repeat(_end(run, end), AHEAD, axis=1), rtol=0, atol=1e-3)


def _end(run: Trajectory, end: np.ndarray) -> np.ndarray:
    assert len(end) == run.n_coordinates
    return end[:, None]


def test_when_rre_is_regularised_then_gamma_solves_the_penalised_problem(
    toy_runs: list[Trajectory],
) -> None:
    from scipy.optimize import minimize

    run, epsilon = toy_runs[3], 1e-2
    method = make_method("rre", {"regularization": epsilon, "approach": "jump"})
    forecast = _stream(method, run, make_task(run, CONTEXT))
    rows = _rows(run)[:, : CONTEXT + 1]
    steps = np.diff(rows, axis=1)
    penalty = epsilon * np.linalg.norm(steps, 2) ** 2

    def cost(gamma: np.ndarray) -> float:
        return float(((steps @ gamma) ** 2).sum() + penalty * gamma @ gamma)

    found = minimize(
        cost,
        np.full(CONTEXT, 1 / CONTEXT),
        constraints={"type": "eq", "fun": lambda gamma: gamma.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(method.gamma_, found.x, atol=1e-5)  # type: ignore[attr-defined]
    np.testing.assert_allclose(forecast[:, 0], rows[:, 1:] @ found.x, atol=1e-5)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_when_series_are_stable_then_ar_agrees_with_statsmodels(
    order: int, intercept: bool
) -> None:
    from statsmodels.tsa.ar_model import AutoReg

    random = np.random.default_rng(order)
    steps = random.standard_normal((40, 25))
    for t in range(2, 40):
        steps[t] += 0.5 * steps[t - 1] - 0.3 * steps[t - 2] + 0.2
    phi, constant = fit_ar(steps, order, intercept)
    ours = iterate(steps, phi, constant, _task().horizons)
    trend = "c" if intercept else "n"
    for column, forecast in zip(steps.T, ours.T, strict=True):
        fit = AutoReg(column, lags=order, trend=trend).fit()
        np.testing.assert_allclose(forecast, np.cumsum(fit.forecast(AHEAD)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("intercept", [False, True])
def test_when_weights_are_forecast_by_ar_then_statsmodels_says_the_same(
    intercept: bool, toy_runs: list[Trajectory]
) -> None:
    from statsmodels.tsa.ar_model import AutoReg

    rows = _rows(toy_runs[1])[:, : CONTEXT + 1]
    ours = _block("ar", rows, order=2, intercept=intercept, max_radius=1e9)
    for row, forecast in zip(rows, ours, strict=True):
        fit = AutoReg(np.diff(row), lags=2, trend="c" if intercept else "n").fit()
        expected = row[-1] + np.cumsum(fit.forecast(AHEAD))
        np.testing.assert_allclose(forecast, expected, rtol=1e-5, atol=1e-6)


def test_when_the_order_is_one_then_ar_is_ar1(toy_runs: list[Trajectory]) -> None:
    context = _rows(toy_runs[2])[:, : CONTEXT + 1].astype(np.float32)
    np.testing.assert_allclose(
        _block("ar", context, order=1), _block("ar1", context), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_when_equations_are_singular_then_ar_takes_the_solution_of_least_norm(order: int) -> None:
    steps = np.array([np.full(7, 2.0), 0.5 ** np.arange(7), np.zeros(7)]).T  # (n, 3)
    phi, _ = fit_ar(steps, order, False)
    for column, found in zip(steps.T, phi.T, strict=True):
        design = np.stack([column[order - i : 7 - i] for i in range(1, order + 1)], axis=1)
        expected = np.linalg.pinv(design, rcond=1e-7) @ column[order:]
        np.testing.assert_allclose(found, expected, atol=1e-8)


@settings(max_examples=50)
@given(st.integers(1, 5), st.floats(0.3, 1.5), st.integers(0, 10_000))
def test_when_roots_are_tamed_then_none_is_beyond_and_the_others_are_untouched(
    order: int, radius: float, seed: int
) -> None:
    phi = np.random.default_rng(seed).uniform(-1.5, 1.5, (order, 8))

    def largest(column: np.ndarray) -> float:
        return float(np.abs(np.roots([1.0, *-column])).max(initial=0.0))

    before = np.array([largest(column) for column in phi.T])
    np.testing.assert_allclose(spectral_radius(phi), before, rtol=1e-5, atol=1e-6)
    after = tamed(phi, radius)
    inside = before < radius * (1 - 1e-9)
    np.testing.assert_allclose(after[:, inside], phi[:, inside], rtol=1e-12)
    radii = np.array([largest(column) for column in after.T])
    np.testing.assert_allclose(radii[~inside], radius, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 5, 11, 50])
def test_when_snapshots_are_averaged_then_it_is_numpys_mean(
    k: int, toy_runs: list[Trajectory]
) -> None:
    context = _rows(toy_runs[0])[:, : CONTEXT + 1]
    expected = np.repeat(context[:, -k:].mean(axis=1, keepdims=True), AHEAD, axis=1)
    forecast = _block("snapshot-average", context.astype(np.float32), k=k)
    np.testing.assert_allclose(forecast, expected, rtol=1e-6)


def _errors(forecast: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(forecast - rows[:, CONTEXT + 1 :], axis=0)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.floats(-5, 5), min_size=AHEAD, max_size=AHEAD))
@example(0, [0.0] * AHEAD)
def test_when_the_truth_is_told_then_no_point_on_the_line_is_nearer(
    seed: int, alphas: list[float]
) -> None:
    from weightcast.datasets import Metadata

    walk = np.random.default_rng(seed).standard_normal((31, 9)).cumsum(axis=0)
    run = Trajectory.from_arrays(
        {"w": walk.astype(np.float32)}, range(31), Metadata("toy", seed, learning_rates=(0.1,) * 30)
    )
    rows = _rows(run)
    best = _stream(make_method("oracle-line"), run, make_task(run, CONTEXT, block_bytes=600))
    chord = rows[:, [CONTEXT]] - rows[:, [0]]
    other = rows[:, [CONTEXT]] + chord * np.array(alphas)
    assert (_errors(best, rows) <= _errors(other, rows) * (1 + 1e-6) + 1e-6).all()


def test_when_the_truth_is_told_then_alpha_is_that_of_least_squares(
    toy_runs: list[Trajectory],
) -> None:
    rows = _rows(toy_runs[4])
    chord = rows[:, CONTEXT] - rows[:, 0]
    moved = rows[:, CONTEXT + 1 :] - rows[:, [CONTEXT]]
    alpha = np.linalg.lstsq(chord[:, None], moved, rcond=None)[0]
    expected = rows[:, [CONTEXT]] + chord[:, None] * alpha
    found = _stream(make_method("oracle-line"), toy_runs[4], make_task(toy_runs[4], CONTEXT))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_when_line_search_forecasts_then_it_is_no_nearer_than_the_best_point_of_the_line(
    toy_runs: list[Trajectory],
) -> None:
    run = toy_runs[5]
    task = make_task(run, CONTEXT)
    rows = _rows(run)
    history = History.of(run, task)
    bottom = run.snapshot(-1)
    history.loss = lambda weights: float(  # type: ignore[assignment]
        sum(((weights[name] - values) ** 2).sum() for name, values in bottom.items())
    )
    found = make_method("line-search").predict(history, task)
    searched = np.concatenate([found["w"].T, found["b"][None]])
    best = _stream(make_method("oracle-line"), run, task)
    assert (_errors(best, rows) <= _errors(searched, rows) + 1e-6).all()
    assert _errors(best, rows).sum() < _errors(rows[:, [CONTEXT]], rows).sum()


def test_when_nobody_tells_oracle_line_the_truth_then_it_is_the_last_value(
    toy_runs: list[Trajectory],
) -> None:
    context = _rows(toy_runs[0])[:, : CONTEXT + 1].astype(np.float32)
    np.testing.assert_array_equal(
        _block("oracle-line", context), np.repeat(context[:, -1:], AHEAD, axis=1)
    )


def test_when_oracle_line_is_ranked_then_it_stands_apart_and_changes_nothing_for_others(
    tmp_path: Path,
) -> None:
    suite = tmp_path / "small.toml"
    suite.write_text(
        'name = "small"\ndatasets = ["digits-mlp-sgd"]\ncontexts = [10]\nrotations = 4\n'
        'methods = ["last-value", "last-two-line", "lfd2-ols", "oracle-line"]\njobs = 2\n'
        'tiers = ["weights"]\n',
        encoding="utf-8",
    )
    run_suite(RunOptions(str(suite), tmp_path / "out"))
    results = load_results(tmp_path / "out")
    ranking = rank_results(results).ranking
    others = rank_results(results, only=["last-two-line", "lfd2-ols"]).ranking
    assert ranking.standings[:-1] == others.standings
    row = ranking.standings[-1]
    assert row.method == "oracle-line"
    assert row.failures == 0
    assert row.skill.value > 0.2
    assert row.skill.lower <= row.skill.value <= row.skill.upper
    assert not row.win_rate.known
    assert not row.ratio.known
    assert np.isnan(row.mean_rank)
    shown = ranking_rows(ranking, references=results.references)
    assert shown[-1]["method"] == "oracle-line (reference)"
    assert ranking_table(ranking)["method"].tolist()[-1] == "oracle-line"
    with pytest.raises(InputError, match="unknown baseline 'oracle-line'"):
        rank_results(results, baseline="oracle-line")
    cells = results.cells.set_index(["method", "run"])["rel_sum"]
    assert (cells["oracle-line"] < cells["last-value"]).all()


def test_when_line_search_takes_the_last_step_for_its_direction_then_it_finds_the_bottom(
    toy_run: Make,
) -> None:
    # w_t = 1 − t/40: from w_10 on, the loss ‖w‖² is lowest 30 steps ahead.
    run = toy_run((1 - np.arange(61)[:, None] / 40) * np.ones((1, 5)))
    task = make_task(run, CONTEXT)
    history = History.of(run, task)
    calls = []

    def loss(weights: dict[str, np.ndarray]) -> float:
        calls.append(1)
        return float(sum((w.astype(float) ** 2).sum() for w in weights.values()))

    history.loss = loss  # type: ignore[assignment]
    method = make_method("line-search", {"direction": "last"})
    forecast = method.predict(history, task)
    assert len(calls) <= 15
    assert method.diagnostics()["alpha"] == pytest.approx(30.0, abs=1.5)
    np.testing.assert_allclose(forecast["w"][9], 0.5, atol=1e-5)
    np.testing.assert_allclose(forecast["w"][-1], 0.0, atol=0.04)


@pytest.mark.parametrize("name", NEW)
def test_when_a_run_never_moves_then_it_is_forecast_to_stay(name: str, toy_run: Make) -> None:
    run = toy_run(np.full((31, 6), 0.25))
    np.testing.assert_array_equal(_network(name, run), np.full((6, AHEAD), np.float32(0.25)))


@pytest.mark.parametrize("context", [1, 2, 3])
@pytest.mark.parametrize("name", [*NEW, "line-search"])
def test_when_a_context_is_very_short_then_forecasts_are_finite(
    name: str, context: int, toy_runs: list[Trajectory]
) -> None:
    run = toy_runs[0]
    task = make_task(run, context)
    history = History.of(run, task)
    history.loss = lambda weights: float(sum((w**2).sum() for w in weights.values()))  # type: ignore[assignment]
    forecast = make_method(name).predict(history, task)
    assert all(np.isfinite(values).all() for values in forecast.values())


@pytest.mark.parametrize("name", ["dmd", "rre"])
def test_when_tensors_change_places_then_network_forecasts_are_the_same(
    name: str, toy_runs: list[Trajectory]
) -> None:
    run = toy_runs[6]
    turned = Trajectory.from_arrays(
        {info.name: run.read(info).reshape(31, *info.shape) for info in run.tensors[::-1]},
        range(31),
        run.meta,
    )
    straight = _network(name, run)
    again = _network(name, turned)
    np.testing.assert_allclose(np.roll(again, -1, axis=0), straight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("ar", {"order": 0}, "from 1 on"),
        ("ar", {"max_radius": 0.0}, "above 0"),
        ("aitken", {"lag": 0}, "None"),
        ("aitken", {"max_rate": 1.5}, "from 0 to 1"),
        ("exponential", {"slowest": np.inf}, "at most"),
        ("exponential", {"start": "mean"}, "choices are last, curve"),
        ("exponential", {"rates": 1}, "least 2"),
        ("dmd", {"rank": 0}, "from 1 on"),
        ("dmd", {"max_radius": -1.0}, "above 0"),
        ("rre", {"regularization": 0.0}, "above 0"),
        ("rre", {"approach": "leap"}, "choices are geometric, jump"),
        ("snapshot-average", {"k": 0}, "from 1 on"),
        ("line-search", {"direction": "first"}, "choices are context, last"),
    ],
)
def test_when_a_parameter_is_of_no_use_then_it_is_refused_with_what_would_do(
    name: str, params: dict[str, object], said: str, toy_runs: list[Trajectory]
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    history = History.of(toy_runs[0], task)
    history.loss = lambda weights: 1.0  # type: ignore[assignment]
    with pytest.raises(InputError, match=f"of {name}.*{said}|^{name} has.*{said}"):
        make_method(name, params).predict(history, task)
