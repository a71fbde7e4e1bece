"""What every registered method must hold to."""

from __future__ import annotations

import numpy as np
import pytest

from weightcast.datasets import History, InputError, Trajectory, make_task
from weightcast.datasets.task import ForecastTask
from weightcast.methods import CoordinateForecaster, Forecaster, all_methods, make_method, register
from weightcast.methods.code import code_hash
from weightcast.methods.forecaster import PROVENANCES

NAMES = sorted(all_methods())
COORDINATE = [name for name in NAMES if issubclass(all_methods()[name], CoordinateForecaster)]
QUICK = {"lstm": {"updates": 40}, "transformer": {"updates": 40}}


class _Bowl:
    """A training loss with its minimum at zero."""

    evaluations = 0

    def __call__(self, weights: dict[str, np.ndarray]) -> float:
        self.evaluations += 1
        return float(sum((w.astype(float) ** 2).sum() for w in weights.values()))


def _fitted(name: str, runs: list[Trajectory], task: ForecastTask) -> Forecaster:
    method = make_method(name, QUICK.get(name, {}))
    return method.fit(runs[:4], runs[4:6], task)


def _predict(method: Forecaster, run: Trajectory, task: ForecastTask) -> dict[str, np.ndarray]:
    history = History.of(run, task)
    history.loss = _Bowl()  # type: ignore[assignment]
    return dict(method.predict(history, task))


@pytest.fixture
def task(toy_runs: list[Trajectory]) -> ForecastTask:
    return make_task(toy_runs[0], 10, seed=3)


def test_when_the_package_is_loaded_then_the_thirteen_methods_are_registered() -> None:
    assert {
        "last-value", "last-two-line", "ols-line", "damped-line", "lfd2", "lfd2-ols", "lfd2-grad",
        "lfd-full", "arima", "ar1", "lstm", "transformer", "line-search",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_when_a_method_forecasts_then_shapes_and_numbers_are_right(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    method = _fitted(name, toy_runs, task)
    forecast = _predict(method, toy_runs[7], task)
    assert set(forecast) == {"w", "b"}
    assert forecast["w"].shape == (20, 11)
    assert forecast["b"].shape == (20,)
    assert all(np.isfinite(values).all() for values in forecast.values())


@pytest.mark.parametrize("name", NAMES)
def test_when_it_is_fitted_twice_with_one_seed_then_the_forecasts_are_equal(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    first, second = (_predict(_fitted(name, toy_runs, task), toy_runs[7], task) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize("name", NAMES)
def test_when_blocks_are_smaller_then_fit_and_forecast_are_the_same(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    small = make_task(toy_runs[0], 10, seed=3, block_bytes=4 * 31 * 2)
    whole = _predict(_fitted(name, toy_runs, task), toy_runs[7], task)
    blocks = _predict(_fitted(name, toy_runs, small), toy_runs[7], small)
    for key in whole:
        np.testing.assert_allclose(blocks[key], whole[key], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", COORDINATE)
def test_when_coordinates_change_places_then_their_forecasts_go_with_them(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    method = _fitted(name, toy_runs, task)
    assert isinstance(method, CoordinateForecaster)
    context = toy_runs[7].read(toy_runs[7].tensors[0], range(11)).T.copy()
    order = np.random.default_rng(0).permutation(len(context))
    straight = method.predict_block(context.copy(), task)
    turned = method.predict_block(context[order].copy(), task)
    assert straight is not None
    assert turned is not None
    np.testing.assert_allclose(turned, straight[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", COORDINATE)
def test_when_it_forecasts_then_its_input_is_unchanged(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    method = _fitted(name, toy_runs, task)
    assert isinstance(method, CoordinateForecaster)
    context = toy_runs[7].read(toy_runs[7].tensors[0], range(11)).T.copy()
    before = context.copy()
    method.predict_block(context, task)
    np.testing.assert_array_equal(context, before)


@pytest.mark.parametrize("name", COORDINATE)
def test_when_one_coordinate_never_moves_then_it_is_forecast_to_stay_about_where_it_is(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    method = _fitted(name, toy_runs, task)
    assert isinstance(method, CoordinateForecaster)
    forecast = method.predict_block(np.full((1, 11), 0.25, np.float32), task)
    assert forecast is not None
    assert forecast.shape == (1, 20)
    # A linear map with an intercept may shift it a little; nothing may blow up.
    assert np.abs(forecast - 0.25).max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_when_a_method_is_cloned_then_parameters_go_round(name: str) -> None:
    method = make_method(name)
    params = method.get_params()
    copy = method.clone()
    assert copy is not method
    assert copy.get_params() == params
    assert type(method)(**params).get_params() == params


@pytest.mark.parametrize("name", NAMES)
def test_when_tags_and_grid_are_read_then_they_are_well_formed(name: str) -> None:
    cls = all_methods()[name]
    assert cls.get_class_tag("provenance") in PROVENANCES
    assert set(cls.param_grid) <= set(cls.get_param_names())
    assert (cls.__doc__ or "").strip()
    assert cls().get_tag("sampled") in (True, False)


@pytest.mark.parametrize("name", [n for n in NAMES if all_methods()[n].param_grid])
def test_when_a_grid_is_tried_then_every_value_is_accepted(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    for key, values in all_methods()[name].param_grid.items():
        for value in values:
            method = make_method(name, {**QUICK.get(name, {}), key: value})
            forecast = _predict(method.fit(toy_runs[:4], toy_runs[4:6], task), toy_runs[7], task)
            assert np.isfinite(forecast["w"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_when_a_fit_method_is_pickled_then_it_forecasts_the_same(
    name: str, toy_runs: list[Trajectory], task: ForecastTask
) -> None:
    import pickle

    method = _fitted(name, toy_runs, task)
    again = pickle.loads(pickle.dumps(method))
    np.testing.assert_array_equal(
        _predict(method, toy_runs[7], task)["w"], _predict(again, toy_runs[7], task)["w"]
    )


def test_when_a_name_is_malformed_taken_or_no_forecaster_then_it_is_refused() -> None:
    class Other(CoordinateForecaster):
        """Another class."""

    with pytest.raises(InputError, match="kebab-case"):
        register("My_Method")(Other)
    with pytest.raises(InputError, match="registered already"):
        register("last-value")(Other)
    with pytest.raises(InputError, match="is not a"):
        register("a-dict")(dict)  # type: ignore[type-var]


def test_when_a_name_or_parameter_is_misspelt_then_close_matches_are_named() -> None:
    with pytest.raises(InputError, match="did you mean lfd-full"):
        make_method("lfd-ful")
    with pytest.raises(
        InputError, match="unknown parameter of lfd2-grad 'wieght': did you mean weight"
    ):
        make_method("lfd2-grad", {"wieght": 1.0})


def test_when_methods_share_no_code_then_their_code_hashes_differ() -> None:
    hashes = {name: code_hash(all_methods()[name]) for name in NAMES}
    assert len(set(hashes.values())) == len(NAMES)
