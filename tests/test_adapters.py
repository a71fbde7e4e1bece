"""Adapters: what names mean, forecasts against the libraries themselves, and whole runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.commands.forecast import forecast_run
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.tables import load_results
from weightcast.datasets import History, InputError, Trajectory, make_task
from weightcast.datasets.files.stacked import write_stacked
from weightcast.methods import all_methods, get_method, make_method
from weightcast.methods.adapter_name import (
    AdapterName,
    canonical_name,
    parse_adapter_name,
    split_names,
)
from weightcast.methods.code import code_hash
from weightcast.methods.registry import is_reference, method_tag

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

CONTEXT, AHEAD = 10, 20

literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_0-9]{0,5}[0-9_]", fullmatch=True), literals))
def test_when_a_name_is_written_and_read_then_it_says_the_same(params: dict[str, Any]) -> None:
    name = AdapterName("sklearn", "Ridge", dict(sorted(params.items())))
    if len(str(name)) < 2000:
        assert parse_adapter_name(str(name)) == name
        assert canonical_name(str(name)) == str(name)
        assert split_names(f"a, {name} ,b") == ["a", str(name), "b"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sklearn:Ridge", "sklearn:Ridge()"),
        ("sklearn: Ridge( alpha = 1e0 )", "sklearn:Ridge(alpha=1.0)"),
        ("sklearn:X(b='u', a=2)", 'sklearn:X(a=2,b="u")'),
        ("sklearn:X(a={2: 1, 1: 0})", "sklearn:X(a={1: 0, 2: 1})"),
        ("lfd2", "lfd2"),
    ],
)
def test_when_two_names_say_the_same_then_they_are_one(first: str, second: str) -> None:
    assert canonical_name(first) == canonical_name(second) == canonical_name(canonical_name(first))


def test_when_parameters_differ_then_names_classes_and_hashes_do() -> None:
    names = ["Ridge", "Ridge(alpha=1)", "Ridge(alpha=1.0)", "Ridge(alpha=2.0)", "Lasso"]
    classes = [get_method(f"sklearn:{name}") for name in names]
    assert len(set(classes)) == len({code_hash(cls) for cls in classes}) == len(names)
    assert get_method("sklearn:Ridge()") is classes[0]
    assert not set(all_methods()) & {f"sklearn:{name}" for name in names}


def test_when_the_library_has_another_version_then_the_hash_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cls = get_method("sklearn:Ridge(alpha=3.0)")
    before = code_hash(cls)
    assert cls.depends_on[0] == "sklearn:Ridge(alpha=3.0)"
    monkeypatch.setattr(cls, "depends_on", (cls.depends_on[0], "scikit-learn 0.0"))
    assert code_hash(cls) != before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("xgboost:X", "unknown library 'xgboost': choices are sklearn, sktime"),
        ("sklearn:", "cannot be read"),
        ("sklearn:Ridge(alpha=", "cannot be read"),
        ("sklearn:a.b(c=1)", "is not a class"),
        ("sklearn:Ridge(1.0)", "every parameter needs its name"),
        ("sklearn:Ridge(**{})", "every parameter needs its name"),
        ("sklearn:Ridge(alpha=1, alpha=2)", "gives alpha twice"),
        ("sklearn:Ridge(alpha=open('x'))", "alpha is not a literal"),
        ("sklearn:Ridge(alpha=b'x')", "alpha is not a literal"),
        (f"sklearn:Ridge(alpha='{'x' * 3000}')", "longer than"),
        ("sklearn:" + "(" * 500, "cannot be read"),
        ("sklearn:Rigde", "did you mean Ridge"),
        ("sklearn:LogisticRegression", "is not a regressor"),
        ("sklearn:RegressorMixin", "is not a regressor"),
        ("sklearn:BaseEstimator", "unknown sklearn regressor"),
        (
            "sklearn:Ridge(alhpa=1)",
            "unknown parameter of sklearn:Ridge 'alhpa': did you mean alpha",
        ),
        ("sklearn:Ridge(alpha='x')", "'alpha' parameter of Ridge must be"),
        ("sklearn:StackingRegressor", "missing 1 required positional argument"),
    ],
)
def test_when_a_name_is_wrong_then_one_line_says_how(name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        get_method(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_when_the_regressors_parameter_is_given_apart_then_the_line_says_where_it_goes() -> None:
    with pytest.raises(InputError, match=r"goes into its name, e.g. sklearn:Ridge\(alpha="):
        make_method("sklearn:Ridge", {"alpha": 1.0})
    with pytest.raises(InputError, match="rows 0 is no number"):
        make_method("sklearn:Ridge", {"rows": 0}).fit([], [], None)  # type: ignore[arg-type]


def _tables(
    runs: list[Trajectory], context: int = CONTEXT
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All coordinates of runs as features, targets, last values and ranges, in float64."""
    rows = np.concatenate([run.read(info).T for run in runs for info in run.tensors]).astype(float)
    seen, later = rows[:, : context + 1], rows[:, context + 1 :]
    last, spread = seen[:, -1:], np.ptp(seen, axis=1)[:, None]
    return (seen[:, :-1] - last) / spread, (later - last) / spread, last, spread


def _forecast(name: str, runs: list[Trajectory], **params: Any) -> np.ndarray:
    task = make_task(runs[0], CONTEXT, seed=5)
    method = make_method(name, params).fit(runs[:6], runs[6:7], task)
    found = method.predict(History.of(runs[7], task), task)
    return np.concatenate([found["w"], found["b"][:, None]], axis=1).T


def test_when_ridge_is_asked_then_it_solves_the_weighted_normal_equations(
    toy_runs: list[Trajectory],
) -> None:
    x, y, _, spread = _tables(toy_runs[:6])
    weights = (spread**2 / np.mean(spread**2))[:, 0]
    centre_x, centre_y = np.average(x, axis=0, weights=weights), np.average(y, 0, weights)
    dx, dy = x - centre_x, y - centre_y
    gram = dx.T @ (weights[:, None] * dx) + 0.5 * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, dx.T @ (weights[:, None] * dy))
    new, _, last, scale = _tables(toy_runs[7:])
    expected = last + scale * (centre_y + (new - centre_x) @ slope)
    found = _forecast("sklearn:Ridge(alpha=0.5)", toy_runs)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    method = make_method("sklearn:Ridge").fit(toy_runs[:6], [], make_task(toy_runs[0], CONTEXT))
    assert method.parameter_count() == (CONTEXT + 1) * AHEAD


@pytest.mark.parametrize(
    ("name", "weighted"),
    [("BayesianRidge()", True), ("KNeighborsRegressor(n_neighbors=3)", False)],
)
def test_when_a_regressor_is_asked_then_it_is_the_librarys_own_a_horizon_each(
    toy_runs: list[Trajectory], name: str, weighted: bool
) -> None:
    from sklearn.linear_model import BayesianRidge
    from sklearn.neighbors import KNeighborsRegressor

    x, y, _, spread = _tables(toy_runs[:6])
    new, _, last, scale = _tables(toy_runs[7:])
    extra = {"sample_weight": (spread**2 / np.mean(spread**2))[:, 0]} if weighted else {}
    columns = [
        (BayesianRidge() if weighted else KNeighborsRegressor(n_neighbors=3))
        .fit(x, target, **extra)
        .predict(new)
        for target in y.T
    ]
    expected = last + scale * np.stack(columns, axis=1)
    np.testing.assert_allclose(_forecast(f"sklearn:{name}", toy_runs), expected, atol=1e-5)


def test_when_rows_are_fewer_then_a_seeded_sample_of_them_is_fitted(
    toy_runs: list[Trajectory],
) -> None:
    task = make_task(toy_runs[0], CONTEXT, seed=5)
    small = make_method("sklearn:Ridge", {"rows": 30}).fit(toy_runs[:6], [], task)
    assert small.diagnostics() == {"estimator": "sklearn:Ridge()", "rows": 30}
    seeds = [_forecast("sklearn:RandomForestRegressor(n_estimators=3)", toy_runs) for _ in range(2)]
    np.testing.assert_array_equal(*seeds)


def test_when_nothing_moves_then_every_coordinate_stays(toy_run: Any) -> None:
    runs = [toy_run(np.full((31, 4), 0.3), seed) for seed in range(8)]
    np.testing.assert_array_equal(_forecast("sklearn:Ridge", runs), np.float32(0.3))


def test_when_there_is_one_horizon_then_regressors_of_one_target_are_not_wrapped(
    toy_run: Any, toy_runs: list[Trajectory]
) -> None:
    rows = [np.concatenate([r.read(i) for i in r.tensors], axis=1)[:12] for r in toy_runs]
    runs = [toy_run(values, seed) for seed, values in enumerate(rows)]
    for name in ("Ridge", "SVR", "RandomForestRegressor(n_estimators=2)", "MultiTaskLasso"):
        assert _forecast(f"sklearn:{name}", runs).shape == (12, 1)


def test_when_a_fitted_adapter_is_pickled_then_another_process_forecasts_the_same(
    toy_runs: list[Trajectory], tmp_path: Path
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    method = make_method("sklearn:Ridge(alpha=0.25)").fit(toy_runs[:6], [], task)
    context = toy_runs[7].read(toy_runs[7].tensors[0], range(CONTEXT + 1)).T.copy()
    path = tmp_path / "method.pickle"
    path.write_bytes(pickle.dumps((method, type(method), context, task)))
    code = (
        "import pickle, sys, numpy as np\n"
        "method, cls, context, task = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert type(method) is cls\n"
        "np.save(sys.argv[1] + '.npy', method.predict_block(context, task))\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(path)], check=True)
    np.testing.assert_array_equal(
        np.load(f"{path}.npy"),
        method.predict_block(context, task),  # type: ignore[attr-defined]
    )


def test_when_tags_are_asked_for_then_no_library_has_to_be_here() -> None:
    assert method_tag("sklearn:Ridge(alpha=9)", "provenance") == "fit-on-train-split"
    assert method_tag("sktime:Nowhere", "sampled") is True
    assert method_tag("other:X", "sampled", "?") == method_tag("no-such", "sampled", "?") == "?"
    assert not is_reference("sktime:ThetaForecaster()")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sktime:TethaForecaster", "did you mean ThetaForecaster"),
        ("sktime:BaseForecaster", "unknown sktime forecaster"),
        ("sktime:ThetaForecaster(sq=1)", "unknown parameter of sktime:ThetaForecaster 'sq'"),
        ("sktime:EnsembleForecaster", "missing 1 required positional argument"),
        ("sktime:Prophet", "needs what is not installed: prophet"),
    ],
)
def test_when_an_sktime_name_is_wrong_then_one_line_says_how(name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        get_method(name)
    assert says in str(caught.value)


def test_when_sktime_draws_the_drift_then_it_is_the_line_through_first_and_last(
    toy_runs: list[Trajectory],
) -> None:
    rows = np.concatenate([toy_runs[7].read(info).T for info in toy_runs[7].tensors]).astype(float)
    first, last = rows[:, :1], rows[:, CONTEXT, None]
    expected = last + (last - first) / CONTEXT * np.arange(1, AHEAD + 1)
    found = _forecast("sktime:NaiveForecaster(strategy='drift')", toy_runs)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_when_sktime_fits_a_trend_then_it_agrees_with_polyfit(toy_runs: list[Trajectory]) -> None:
    rows = np.concatenate([toy_runs[7].read(info).T for info in toy_runs[7].tensors]).astype(float)
    fitted = np.polyfit(np.arange(CONTEXT + 1), rows[:, : CONTEXT + 1].T, 2)
    expected = np.stack([np.polyval(fitted, t) for t in range(CONTEXT + 1, 31)], axis=1)
    found = _forecast("sktime:PolynomialTrendForecaster(degree=2)", toy_runs)
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_when_theta_is_asked_then_it_is_smoothing_and_half_of_the_slope(
    toy_runs: list[Trajectory],
) -> None:
    from statsmodels.tsa.holtwinters import SimpleExpSmoothing

    rows = np.concatenate([toy_runs[7].read(info).T for info in toy_runs[7].tensors]).astype(float)
    expected = []
    for row in rows[:4]:
        seen = row[: CONTEXT + 1]
        scaled = 1 + (seen - seen.min()) / np.ptp(seen)
        smooth = SimpleExpSmoothing(scaled, initialization_method="estimated").fit()
        share = smooth.params["smoothing_level"]
        half = np.polyfit(np.arange(CONTEXT + 1), scaled, 1)[0] / 2
        lag = (1 - (1 - share) ** (CONTEXT + 1)) / share if share > 1e-8 else 0.0
        path = smooth.forecast(1)[0] + half * (np.arange(1, AHEAD + 1) + lag)
        expected.append(row[CONTEXT] + np.ptp(seen) * (path - scaled[-1]))
    np.testing.assert_allclose(_forecast("theta", toy_runs)[:4], expected, atol=1e-5)


def test_when_sktime_fails_on_a_coordinate_then_it_stays_and_is_counted(
    toy_runs: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(toy_runs[0], CONTEXT)
    method: Any = make_method("sktime:NaiveForecaster()").fit([], [], task)
    context = np.concatenate([toy_runs[0].read(i, range(11)).T for i in toy_runs[0].tensors])
    context[5] = 0.7
    whole, ask = method.predict_block(context, task), type(method)._forecast
    assert method.diagnostics()["forecasts"] == 11
    calls = iter(range(11))

    def fail(self: Any, series: np.ndarray, task: Any) -> np.ndarray:
        turn = next(calls)
        if turn == 0:
            raise ValueError("singular")
        path = ask(self, series, task)
        return path * np.nan if turn == 1 else path + 1.0

    monkeypatch.setattr(type(method), "_forecast", fail)
    method.fit = None
    method.forecasts_ = 0
    found = method.predict_block(context, task)
    np.testing.assert_array_equal(found[[0, 1, 5]], np.repeat(context[[0, 1, 5], -1:], 20, axis=1))
    assert (found[[2, 3, 4, 6]] > whole[[2, 3, 4, 6]]).all()
    assert method.diagnostics() == {
        "estimator": "sktime:NaiveForecaster()",
        "forecasts": 11,
        "failures": 2,
    }


def test_when_sktime_cannot_work_at_all_then_the_fit_fails(toy_runs: list[Trajectory]) -> None:
    with pytest.raises(RuntimeError, match="cannot forecast a smooth series of 11 values"):
        _forecast("sktime:AutoREG(lags=20)", toy_runs)


SUITE = """
name = "adapted"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", { name = "sklearn:Ridge( alpha=1.0)", params = { rows = 500 } }]
contexts = [10]
rotations = 3
sample = 4
"""


def test_when_adapters_run_in_a_suite_then_each_name_has_its_own_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "adapted.toml"
    path.write_text(SUITE, encoding="utf-8")
    out = tmp_path / "out"
    run_suite(RunOptions(str(path), out))
    cells = load_results(out).cells
    mine = cells[(cells["method"] == "sklearn:Ridge(alpha=1.0)") & (cells["tier"] == "weights")]
    assert len(mine) == 12
    assert (mine["params"] == '{"rows": 500}').all()
    assert (mine["status"] == "ok").all()
    assert mine["rel_sum"].max() < 0.9
    # The folder's own suite file names them in the one way, and asks for nothing new.
    assert load_suite(str(out / "suite.toml")).methods[1].name == "sklearn:Ridge(alpha=1.0)"
    capsys.readouterr()
    run_suite(RunOptions(str(out / "suite.toml"), out))
    assert " cells are here, 0 to run" in capsys.readouterr().err
    run_suite(RunOptions(str(path), out, methods=["sklearn:Ridge(alpha=100.0)"]))
    assert "0 of 12 cells are here, 12 to run" in capsys.readouterr().err
    cells = load_results(out).cells
    errors = cells[cells["tier"] == "weights"].groupby("method")["rel_sum"].median()
    assert errors["sklearn:Ridge(alpha=1.0)"] != errors["sklearn:Ridge(alpha=100.0)"]


def test_when_sktime_runs_in_a_suite_then_it_is_scored_on_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "adapted.toml"
    path.write_text(SUITE, encoding="utf-8")
    name = "sktime:NaiveForecaster(strategy='drift')"
    run_suite(RunOptions(str(path), tmp_path / "out", methods=[name, f"{name[:-1]} )"]))
    results = load_results(tmp_path / "out")
    assert set(results.cells["method"]) == {name}
    assert results.cells["rel_sum"].isna().all()
    assert results.cells["rel_sum_sample"].notna().all()
    from weightcast.bench.engine.store.store import Store

    with Store(tmp_path / "out") as store:
        diagnostics = store.rows("SELECT diagnostics FROM fits")
    assert len(diagnostics) == 3
    assert all('"failures": 0' in row["diagnostics"] for row in diagnostics)
    assert all('"forecasts": 0' not in row["diagnostics"] for row in diagnostics)


def test_when_a_run_is_forecast_by_an_adapter_then_a_checkpoint_is_written(
    toy_runs: list[Trajectory], tmp_path: Path
) -> None:
    paths = [write_stacked(run, tmp_path / f"{run.meta.seed}.safetensors") for run in toy_runs]
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == len(paths)
    made = forecast_run(
        files[7], "sklearn:Lasso(alpha=0.001)", 5, tmp_path / "f.safetensors",
        fit=files[:6], context=CONTEXT,
    )  # fmt: skip
    assert (made.coverage, made.forecast_step) == (1.0, 15)
