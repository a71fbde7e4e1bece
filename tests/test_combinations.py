"""Forecasts that are combinations of the snapshots, and the line along a singular direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.datasets import History, InputError, Trajectory, make_task
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, make_method

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

Make = Callable[..., Trajectory]
N, AHEAD = 10, 20


def _task(n: int = N, spacing: int = 1) -> ForecastTask:
    steps = spacing * np.arange(n + AHEAD + 1)
    return ForecastTask(
        dataset="toy",
        context=n,
        horizons=np.arange(1, AHEAD + 1, dtype=np.float32),
        context_steps=steps[: n + 1],
        horizon_steps=steps[n + 1 :],
        learning_rates=np.full(n + AHEAD, 0.1),
    )


def _forecast(name: str, context: np.ndarray, spacing: int = 1, **params: object) -> np.ndarray:
    method = make_method(name, params)
    assert isinstance(method, CoordinateForecaster)
    task = _task(context.shape[1] - 1, spacing)
    forecast = method.predict_block(context.astype(np.float32), task)
    assert forecast is not None
    assert forecast.shape == (len(context), AHEAD)
    return np.asarray(forecast)


def _walk(n: int = N, count: int = 40, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.cumsum(random.standard_normal((count, n + 1)), axis=1)


def _lines(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    start, slope = random.standard_normal((2, 30, 1))
    rows = start + slope * np.arange(n + AHEAD + 1)
    return rows[:, : n + 1], rows[:, n + 1 :]


@pytest.mark.parametrize(("n", "k"), [(10, 3), (10, 5), (10, 11), (3, 11), (1, 7)])
def test_when_a_parabola_is_fitted_then_it_is_polyfits(n: int, k: int) -> None:
    context = _walk(n)
    used = min(k, n + 1)
    times = np.arange(1 - used, 1)
    fitted = np.polyfit(times, context[:, -used:].T, min(2, used - 1))
    expected = np.stack([np.polyval(fitted, h) for h in range(1, AHEAD + 1)], axis=1)
    found = _forecast("quadratic", context, k=k)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "k"), [(10, 5), (10, 3), (10, 9), (4, 3), (1, 2)])
def test_when_merges_are_extended_then_they_are_numpys_means(n: int, k: int) -> None:
    context = _walk(n)
    used = min(k, (n + 1) // 2)
    newer = context[:, -used:].mean(axis=1)
    older = context[:, -2 * used : -used].mean(axis=1)
    for alpha in (0.0, 0.7, 3.0):
        expected = np.repeat((newer + alpha * (newer - older))[:, None], AHEAD, axis=1)
        found = _forecast("merge-line", context, k=k, alpha=alpha)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_when_weights_are_on_a_line_then_alpha_says_how_far_merges_go() -> None:
    """Merges of five lie two and seven snapshots back: alpha = (2 + h)/5 reaches w_{n+h}."""
    context, target = _lines()
    for h in (1, 3, 13):
        found = _forecast("merge-line", context, k=5, alpha=(2 + h) / 5)
        np.testing.assert_allclose(found[:, h - 1], target[:, h - 1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fall", ["linear", "cosine", "sqrt"])
@pytest.mark.parametrize(("n", "k"), [(10, 5), (10, 11), (3, 8)])
def test_when_a_rate_falls_then_the_merge_is_the_replay_of_the_updates(
    n: int, k: int, fall: str
) -> None:
    context = _walk(n)
    used = min(k, n + 1)
    left = {
        "linear": lambda s: 1 - s, "cosine": lambda s: (1 + np.cos(np.pi * s)) / 2,
        "sqrt": lambda s: 1 - np.sqrt(s),
    }[fall]  # fmt: skip
    here = context[:, n + 1 - used].copy()
    for i in range(1, used):
        update = context[:, n + 1 - used + i] - context[:, n - used + i]
        here += left(i / used) * update
    found = _forecast("weight-merge", context, k=k, fall=fall)
    np.testing.assert_allclose(found, np.repeat(here[:, None], AHEAD, 1), rtol=1e-5, atol=1e-5)
    if fall == "linear":
        np.testing.assert_allclose(found, _forecast("snapshot-average", context, k=k), atol=1e-5)


@pytest.mark.parametrize("params", [{}, {"eta": 0.8, "kappa": 0.25, "rho": 1.0, "gamma": 0.5}])
@pytest.mark.parametrize("spacing", [1, 45])
def test_when_a_mean_is_pushed_on_then_it_is_its_recursion(
    params: dict[str, float], spacing: int
) -> None:
    context = _walk()
    given = {"eta": 0.2, "kappa": 0.5, "rho": 10.0, "gamma": 1.0} | params
    mean = context[:, 0]
    for t in range(1, N + 1):
        share = (given["rho"] + given["gamma"] * t * spacing) ** -given["kappa"]
        mean = (1 - share) * mean + share * context[:, t]
    push = (given["rho"] + given["gamma"] * N * spacing) ** -given["eta"]
    expected = mean + push * (context[:, -1] - context[:, 0])
    found = _forecast("bema", context, spacing, **params)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], AHEAD, 1), rtol=1e-5, atol=1e-5)


def _network(name: str, run: Trajectory, **params: object) -> dict[str, np.ndarray]:
    """Forecast a run in blocks of seven coordinates: (d, m) a tensor."""
    task = make_task(run, N, block_bytes=4 * 31 * 7)
    method = make_method(name, params)
    forecast: dict[str, list[np.ndarray]] = {}
    for block in ForecastStream(method, run, task):
        forecast.setdefault(block.tensor.name, []).append(block.forecast)
    return {name: np.concatenate(parts) for name, parts in forecast.items()}


@pytest.mark.parametrize("k", [2, 5, 11])
def test_when_a_tensor_is_cut_to_one_direction_then_it_is_numpys(
    k: int, toy_runs: list[Trajectory]
) -> None:
    run = toy_runs[2]
    found = _network("svd-line", run, k=k)
    for info in run.tensors:
        rows = run.read(info).T.astype(np.float64)  # (d, T)
        start, moves = rows[:, 0], (rows[:, 1 : N + 1] - rows[:, :1]).T
        u, sigma, v = np.linalg.svd(moves, full_matrices=False)
        along = np.concatenate([[0.0], sigma[0] * u[:, 0]])
        fitted = np.polyfit(np.arange(1 - k, 1), along[-k:], 1)
        expected = start[:, None] + np.outer(v[0], np.polyval(fitted, np.arange(1, AHEAD + 1)))
        np.testing.assert_allclose(found[info.name], expected, rtol=1e-4, atol=1e-4)


def test_when_all_moves_are_along_one_direction_then_svd_line_is_exact(toy_run: Make) -> None:
    way = np.random.default_rng(0).standard_normal(12)
    run = toy_run(0.3 + np.outer(np.arange(N + AHEAD + 1), way), 0)
    rows = np.concatenate([run.read(info).T for info in run.tensors])
    found = np.concatenate(list(_network("svd-line", run).values()))
    np.testing.assert_allclose(found, rows[:, N + 1 :], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("quadratic", {"k": 2}, "k of quadratic is 2; it must be a whole number from 3 on"),
        ("merge-line", {"k": 0}, "k of merge-line is 0"),
        ("svd-line", {"k": 1}, "k of svd-line is 1"),
        ("weight-merge", {"fall": "cosin"}, "did you mean cosine"),
        ("bema", {"rho": 0.5}, "rho of bema is 0.5; it must be 1 or more"),
    ],
)
def test_when_a_parameter_is_of_no_use_then_it_is_said(
    name: str, params: dict[str, object], said: str, toy_runs: list[Trajectory]
) -> None:
    task = make_task(toy_runs[0], N)
    with pytest.raises(InputError, match=said):
        make_method(name, params).predict(History.of(toy_runs[0], task), task)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_when_paths_are_straight_then_annealed_is_on_them_at_every_horizon(k: int) -> None:
    context, truth = _lines()
    forecast = _forecast("annealed", context, k=k, gain=1e9)
    np.testing.assert_allclose(forecast, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("k", "gain"), [(5, 1.0), (5, 0.3), (2, 0.1), (1, 5.0)])
def test_when_snapshots_are_noise_then_annealed_keeps_no_more_of_it_than_its_gain(
    k: int, gain: float
) -> None:
    noise = np.random.default_rng(2).standard_normal((40_000, N + 1))
    kept = _forecast("annealed", noise, k=k, gain=gain).var(axis=0)
    ahead = (np.arange(1, AHEAD + 1) + (k - 1) / 2) / k
    wanted = ((1 + ahead) ** 2 + ahead**2) / k
    np.testing.assert_allclose(kept, np.minimum(wanted, max(gain, 1 / k)), rtol=0.05)


def test_when_annealed_looks_as_far_as_merge_line_then_they_are_one() -> None:
    context = _walk()
    annealed = _forecast("annealed", context, k=4, gain=1e9)
    merged = _forecast("merge-line", context, k=4, alpha=(1.5 + 3) / 4)
    np.testing.assert_allclose(annealed[:, 2], merged[:, 2], rtol=1e-5, atol=1e-6)


def test_when_the_gain_of_annealed_is_no_gain_then_it_is_said() -> None:
    with pytest.raises(InputError, match="gain of annealed is 0; it must be above 0"):
        _forecast("annealed", _walk(), gain=0)
