"""The linear farcasters against scikit-learn, SciPy and NumPy."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from weightcast.datasets import InputError, Metadata, Trajectory, make_task
from weightcast.datasets.task import ForecastTask, Pair
from weightcast.methods import CoordinateForecaster, linear_map, make_method
from weightcast.methods.linear_map import resolve_columns

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

CONTEXT = 10


@pytest.fixture
def task(toy_runs: list[Trajectory]) -> ForecastTask:
    return make_task(toy_runs[0], CONTEXT)


def _rows(*runs: Trajectory) -> np.ndarray:
    """All coordinates of some runs, (d, T) float64."""
    blocks = [run.read(info).T for run in runs for info in run.tensors]
    return np.concatenate(blocks).astype(float)


def _fit(
    name: str, runs: list[Trajectory], task: ForecastTask, **params: object
) -> CoordinateForecaster:
    method = make_method(name, params).fit(runs[:6], runs[6:7], task)
    assert isinstance(method, CoordinateForecaster)
    return method


def _forecast(method: CoordinateForecaster, rows: np.ndarray, task: ForecastTask) -> np.ndarray:
    block = method.predict_block(rows[:, : CONTEXT + 1].astype(np.float32), task)
    assert block is not None
    return np.asarray(block)


def _check(actual: np.ndarray, expected: np.ndarray, atol: float = 1e-5) -> None:
    print(f"largest error {np.abs(actual - expected).max():.1e}")
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def _ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=strength * (x**2).sum(axis=0).mean(), solver="svd").fit(x, y)


@pytest.mark.parametrize("target", ["displacements", "values"])
@pytest.mark.parametrize("columns", [(0, -1), (-2, -1), (0, 5, 8, 10), (-1,), (0, 5), (3,)])
def test_when_columns_are_chosen_then_least_squares_agree_with_scikit_learn(
    columns: tuple[int, ...], target: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    from sklearn.linear_model import LinearRegression

    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])
    seen = [column % (CONTEXT + 1) for column in columns]
    anchor = 0.0 if target == "values" else 1.0
    y = train[:, 11:] - anchor * train[:, 10:11]
    expected = LinearRegression().fit(train[:, seen], y).predict(test[:, seen])
    expected += anchor * test[:, 10:11]
    method = _fit("lfd2-ols", toy_runs, task, columns=columns, target=target)
    _check(_forecast(method, test, task), expected)
    other = _fit("lfd2", toy_runs, task, columns=columns, target=target, solver="least-squares")
    np.testing.assert_array_equal(_forecast(other, test, task), _forecast(method, test, task))
    assert method.parameter_count() == (len(columns) + 1) * 20


@pytest.mark.parametrize("strength", [1e-4, 0.03])
@pytest.mark.parametrize("target", ["displacements", "values"])
@pytest.mark.parametrize(
    ("name", "params", "seen"),
    [
        ("lfd2", {"solver": "ridge"}, [0, 10]),
        ("lfd2", {"solver": "ridge", "columns": [2, 7]}, [2, 7]),
        ("lfd-full", {}, list(range(11))),
    ],
)
def test_when_a_ridge_is_asked_for_then_it_agrees_with_scikit_learn(
    name: str,
    params: dict[str, object],
    seen: list[int],
    target: str,
    strength: float,
    toy_runs: list[Trajectory],
    task: ForecastTask,
) -> None:
    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])
    anchor = 0.0 if target == "values" else 1.0
    x, y = train[:, seen], train[:, 11:] - anchor * train[:, 10:11]
    expected = _ridge(x, y, strength).predict(test[:, seen]) + anchor * test[:, 10:11]
    method = _fit(name, toy_runs, task, **params, target=target, ridge=strength)
    _check(_forecast(method, test, task), expected)


@pytest.mark.parametrize("target", ["displacements", "values"])
@pytest.mark.parametrize("columns", [(0, 4, -1), (0, 5)])
def test_when_columns_are_chosen_then_l1_is_a_linear_programme(
    columns: tuple[int, ...], target: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    from scipy.optimize import linprog

    train = _rows(*toy_runs[:6])
    seen = [column % (CONTEXT + 1) for column in columns]
    x = np.column_stack([train[:, seen], np.ones(len(train))])
    method = _fit("lfd2", toy_runs, task, columns=columns, target=target)
    ours = np.abs(_forecast(method, train, task) - train[:, 11:])
    count, p = x.shape
    worst = 0.0
    for ahead in (0, 9, 19):
        y = train[:, 11 + ahead] - (train[:, 10] if target == "displacements" else 0.0)
        # Minimise Σ u subject to −u ≤ x θ − y ≤ u.
        best = linprog(
            np.concatenate([np.zeros(p), np.ones(count)]),
            np.block([[x, -np.eye(count)], [-x, -np.eye(count)]]),
            np.concatenate([y, -y]),
            bounds=[(None, None)] * p + [(0, None)] * count,
        )
        worst = max(worst, abs(ours[:, ahead].sum() / best.fun - 1))
        assert 0.999 * best.fun <= ours[:, ahead].sum() <= 1.002 * best.fun
    print(f"largest excess {worst:.1e}")


@pytest.mark.parametrize("name", ["lfd2-ols", "lfd2", "lfd-full"])
def test_when_the_last_column_is_w_n_then_values_and_displacements_are_one(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    test = _rows(toy_runs[7])
    values, displacements = (
        _forecast(_fit(name, toy_runs, task, target=target), test, task)
        for target in ("values", "displacements")
    )
    _check(values, displacements, 1e-6)


def test_when_a_ridge_is_heavy_then_it_draws_towards_w_n_or_towards_the_mean(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])
    options = {"solver": "ridge", "ridge": 1e9}
    shift = (train[:, 11:] - train[:, 10:11]).mean(axis=0)
    near = _fit("lfd2", toy_runs, task, **options)
    _check(_forecast(near, test, task), test[:, 10:11] + shift)
    far = _fit("lfd2", toy_runs, task, target="values", **options)
    _check(_forecast(far, test, task), np.tile(train[:, 11:].mean(axis=0), (len(test), 1)))


def _only(run: Trajectory, name: str) -> Trajectory:
    info = run.tensor_info(name)
    values = run.read(info).reshape(-1, *info.shape)
    return Trajectory.from_arrays({name: values}, run.steps.tolist(), run.meta)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lfd2", {}),
        ("lfd2", {"solver": "least-squares", "columns": (0, 4, -1)}),
        ("lfd2", {"solver": "ridge", "target": "values"}),
        ("lfd2-ols", {}),
        pytest.param("lfd2-grad", {"weight": 10.0, "columns": (0, 4, -1)}, marks=pytest.mark.slow),
        ("lfd-full", {"ridge": 1e-3}),
    ],
)
def test_when_maps_are_per_tensor_then_each_is_that_of_a_fit_on_the_tensor_alone(
    name: str, params: dict[str, object], toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    method = _fit(name, toy_runs, task, **params, per_tensor=True)
    shared = _fit(name, toy_runs, task, **params)
    rows = _rows(toy_runs[7])
    for tensor in toy_runs[0].tensors:
        own = [_only(run, tensor.name) for run in toy_runs]
        alone = _fit(name, own, make_task(own[0], CONTEXT), **params)
        ours = _forecast(method, rows, task.for_tensor(tensor))
        _check(ours, _forecast(alone, rows, task), 1e-4 if name == "lfd2-grad" else 1e-5)
        assert np.abs(ours - _forecast(shared, rows, task)).max() > 1e-3
    assert method.parameter_count() == 3 * (shared.parameter_count() or 0)


def test_when_a_tensor_was_not_trained_on_then_it_gets_the_shared_map(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    from weightcast.datasets import TensorInfo

    method = _fit("lfd2-ols", toy_runs, task, per_tensor=True)
    shared = _fit("lfd2-ols", toy_runs, task)
    rows = _rows(toy_runs[7])
    unseen = task.for_tensor(TensorInfo("other", (12,)))
    _check(_forecast(method, rows, unseen), _forecast(shared, rows, task), 1e-6)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("lfd2", {"columns": (0, 11)}, "do not fit a context of 10: choose from 0"),
        ("lfd2-ols", {"columns": (-12, -1)}, "do not fit a context of 10"),
        ("lfd2-grad", {"columns": ()}, "not a list of whole numbers"),
        ("lfd2", {"columns": (0.5, 1)}, "not a list of whole numbers"),
        ("lfd2", {"columns": 3}, "not a list of whole numbers"),
        ("lfd2", {"columns": "0,1"}, "not a list of whole numbers"),
        ("lfd2", {"target": "value"}, "unknown target 'value': did you mean values"),
        ("lfd2", {"solver": "l2"}, "unknown solver 'l2'.*least-squares"),
        ("lfd2", {"solver": "ridge", "ridge": -1.0}, "ridge -1.0 is not a strength"),
        ("lfd-full", {"ridge": float("nan")}, "ridge nan is not a strength"),
        ("lfd2-grad", {"weight": -1.0}, "weight -1.0"),
        ("dlinear", {"kernel": 4}, "kernel 4 is not an odd number"),
        ("nlinear", {"ridge": -1.0}, "ridge -1.0"),
    ],
)
def test_when_a_parameter_means_nothing_then_fit_says_what_would(
    name: str,
    params: dict[str, object],
    message: str,
    toy_runs: list[Trajectory],
    task: ForecastTask,
) -> None:
    with pytest.raises(InputError, match=message):
        _fit(name, toy_runs, task, **params)


def test_when_a_column_is_named_twice_then_it_counts_once() -> None:
    assert resolve_columns([10, 0, -1], 10) == [0, 10]
    assert resolve_columns(np.array([0, -2]), 1) == [0]


@pytest.mark.parametrize("kernel", [1, 3, 25])
@pytest.mark.parametrize("strength", [1e-4, 1e-2])
def test_when_dlinear_is_fitted_then_scikit_learn_finds_the_same_two_layers(
    kernel: int, strength: float, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    from scipy.ndimage import uniform_filter1d

    def parts(rows: np.ndarray) -> np.ndarray:
        trend = uniform_filter1d(rows[:, :11], kernel, axis=1, mode="nearest")
        return np.hstack([trend, rows[:, :11] - trend])

    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])
    expected = _ridge(parts(train), train[:, 11:], strength).predict(parts(test))
    method = _fit("dlinear", toy_runs, task, kernel=kernel, ridge=strength)
    _check(_forecast(method, test, task), expected)
    assert method.parameter_count() == 12 * 20


def test_when_dlinear_has_no_ridge_then_it_is_lfd_full(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    rows = _rows(toy_runs[7])
    plain = _forecast(_fit("dlinear", toy_runs, task, ridge=0.0), rows, task)
    _check(plain, _forecast(_fit("lfd-full", toy_runs, task), rows, task), 1e-6)
    almost = _forecast(_fit("dlinear", toy_runs, task, ridge=1e-10), rows, task)
    _check(plain, almost, 1e-4)


def test_when_nlinear_is_fitted_then_numpy_finds_the_same_layer(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])

    def design(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows[:, :10] - rows[:, 10:11], np.ones(len(rows))])

    layer = np.linalg.lstsq(design(train), train[:, 11:] - train[:, 10:11], rcond=None)[0]
    method = _fit("nlinear", toy_runs, task)
    _check(_forecast(method, test, task), test[:, 10:11] + design(test) @ layer)
    assert method.parameter_count() == 11 * 20
    # Where a weight is does not matter, only how it moved.
    moved = _forecast(method, test + 1.0, task)
    _check(moved - 1.0, _forecast(method, test, task))


def test_when_nlinear_has_a_ridge_then_scikit_learn_finds_the_same_layer(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    train, test = _rows(*toy_runs[:6]), _rows(toy_runs[7])
    x = train[:, :11] - train[:, 10:11]
    fitted = _ridge(x[:, :10], train[:, 11:] - train[:, 10:11], 0.01)
    expected = test[:, 10:11] + fitted.predict(test[:, :10] - test[:, 10:11])
    _check(_forecast(_fit("nlinear", toy_runs, task, ridge=0.01), test, task), expected)


def test_when_only_some_columns_of_a_tensor_are_asked_for_then_pairs_have_those(
    toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    run = toy_runs[0]
    everything = {pair.tensor.name: _copies(pair) for pair in task.pairs(run)}
    (pair,) = [_copies(pair) for pair in task.pairs(run, [2, 10], "w")]
    np.testing.assert_array_equal(pair[0], everything["w"][0][:, [2, 10]])
    np.testing.assert_array_equal(pair[1], everything["w"][1])


def _copies(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    return pair.context.copy(), pair.target.copy()


def test_when_two_threads_work_then_blocks_come_in_order_and_fits_are_the_same_bits(
    toy_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    runs = [toy_run(random.standard_normal((31, 500)).cumsum(axis=0), s) for s in range(3)]
    task = make_task(runs[0], CONTEXT, block_bytes=4 * 31 * 7)
    maps, starts = [], []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        maps.append([make_method(name).fit(runs, [], task) for name in ("lfd2", "lfd-full")])
        starts.append(list(task.map_pairs(lambda p: (p.tensor.name, p.start), runs[0])))
    assert starts[0] == starts[1]
    assert starts[0] == [(pair.tensor.name, pair.start) for pair in task.pairs(runs[0])]
    for one, two in zip(*maps, strict=True):
        np.testing.assert_array_equal(one.map_, two.map_)


@pytest.mark.parametrize("level", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("params", [{}, {"columns": (-2, -1)}, {"columns": (0,)}])
def test_when_tensors_are_large_then_least_squares_in_float32_blocks_are_those_in_float64(
    params: dict[str, Any], level: float
) -> None:
    random = np.random.default_rng(5)
    size = linear_map._LARGE
    path = (
        level
        + 0.04 * random.standard_normal(size)
        + 0.004 * random.standard_normal((4, size)).cumsum(axis=0)
    )
    large = Trajectory.from_arrays({"w": path.astype(np.float32)}, range(4), Metadata("toy", 0))
    task = make_task(large, 1)
    method: Any = make_method("lfd2-ols", params)
    assert method._run_grams(large, task, single=True)[None].single
    found = method.fit([large], [], task).map_
    with patch.object(linear_map, "_LARGE", size + 1):
        exact = make_method("lfd2-ols", params).fit([large], [], task).map_  # type: ignore[attr-defined]
    rows = _rows(large)[:1000]
    x = np.column_stack([rows[:, [0, 1]][:, : len(found) - 1], np.ones(1000)])
    x[:, :-2] -= x[:, -2:-1]
    moved = np.abs(x @ exact).max()
    assert np.abs(x @ (found - exact)).max() <= 1e-5 * moved


def test_when_features_of_large_tensors_are_collinear_then_they_are_summed_in_float64() -> None:
    random = np.random.default_rng(6)
    start = random.standard_normal(linear_map._LARGE)
    path = 0.5 + (start - 0.5) * 0.9 ** np.arange(6)[:, None]
    run = Trajectory.from_arrays({"w": path.astype(np.float32)}, range(6), Metadata("toy", 0))
    task = make_task(run, 2)
    found: Any = make_method("lfd2-ols").fit([run], [], task)
    with patch.object(linear_map, "_LARGE", len(start) + 1):
        exact: Any = make_method("lfd2-ols").fit([run], [], task)
    np.testing.assert_array_equal(found.map_, exact.map_)


def test_when_work_fails_in_a_thread_then_the_error_comes_out(
    toy_runs: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    task = make_task(toy_runs[0], CONTEXT, block_bytes=4 * 31 * 2)

    def fail(pair: Pair) -> None:
        raise RuntimeError(f"no luck at {pair.start}")

    with pytest.raises(RuntimeError, match="no luck at 0"):
        list(task.map_pairs(fail, toy_runs[0]))
