"""The function tier: batch-norm statistics by each rule, losses that are not finite, keys."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from weightcast.bench.engine.events import CellDone, Event
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.records import CellRow
from weightcast.bench.engine.site import Setup, Site
from weightcast.bench.plan.batch_norm import BatchNorm
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.scoring.batch_norm import (
    ForecastStatistics,
    Statistics,
    are_forecast,
    statistics_for,
)
from weightcast.bench.scoring.cell import evaluate_cell, forecast_statistics
from weightcast.bench.scoring.forecasting import ForecastStream
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.bench.scoring.unit import Unit
from weightcast.datasets import (
    InputError,
    Recipe,
    RecordedDataSet,
    Trajectory,
    get_dataset,
    make_task,
    open_trajectory,
)
from weightcast.datasets.evaluator import FirstBatches, NetworkEvaluator, evaluator_for
from weightcast.datasets.examples.load import load_examples
from weightcast.datasets.networks.build import build_network
from weightcast.datasets.recorded.recorder import record_run
from weightcast.datasets.registry import _DATASETS
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, State
from weightcast.datasets.window import Window
from weightcast.methods import CoordinateForecaster, make_method
from weightcast.methods.forecaster import Forecaster

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

NAME = "tiny-resnet"
BATCH, MEASURED = 64, 200
#: 13 snapshots: six to see, six to forecast, so horizons 5 and 6 are measured.
RECIPE = Recipe(
    name=NAME,
    network="resnet",
    network_options={"size": 8, "channels": [4, 8]},
    data="digits",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=BATCH,
    steps=24,
    snapshot_every=2,
    measured=MEASURED,
)
CONTEXT = 6
RUNS = 4
KEEP, FORECAST = BatchNorm("keep"), BatchNorm("forecast")


class _Abstains(CoordinateForecaster):
    """The line through the last two, but for running variances."""

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        assert task.tensor is not None
        if task.tensor.name.endswith("running_var"):
            return None
        step = context[:, -1:] - context[:, -2:-1]
        forecast: Floats = context[:, -1:] + step * task.horizons
        return forecast


class _KnowsWeightsOnly(_Abstains):
    """The same, for weights that it knows by name."""

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats | None:
        assert task.tensor is not None
        return {"weight": super().predict_block, "bias": super().predict_block}[
            task.tensor.name.rpartition(".")[2]
        ](context, task)


class _LastBut(CoordinateForecaster):
    """The last value; one tensor goes elsewhere up to some horizon."""

    def __init__(self, tensor: str, values: float | list[float], horizons: int) -> None:
        self.tensor, self.values, self.horizons = tensor, values, horizons
        super().__init__()

    def predict_block(self, context: Floats, task: ForecastTask) -> Floats:
        assert task.tensor is not None
        forecast = np.repeat(context[:, -1:], len(task.horizons), axis=1)
        if task.tensor.name == self.tensor:
            forecast[:, : self.horizons] = np.reshape(self.values, (-1, 1))
        return forecast


class _Falling(Window):
    """A run whose running variances fall by a third of the last one a snapshot."""

    def state(self, index: int) -> State:
        return {
            name: values * np.float32(1 + (CONTEXT - index) / 3) if "var" in name else values
            for name, values in super().state(index).items()
        }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of a ResNet with batch norm on digits, as a data folder."""
    data = tmp_path_factory.mktemp("data")
    (data / NAME).mkdir()
    for seed in range(RUNS):
        record_run(RECIPE, seed, data / NAME / f"{seed}.safetensors")
    return data


@pytest.fixture(scope="module")
def run(folder: Path) -> Trajectory:
    return open_trajectory(folder / NAME / "0.safetensors")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the runs as a data set for one test."""
    dataset = RecordedDataSet(NAME, tuple(range(RUNS)), "d", "s", "l", recipe=RECIPE)
    monkeypatch.setitem(_DATASETS, NAME, dataset)


def _cell(
    method: Forecaster, run: Trajectory, batch_norm: BatchNorm | None = None
) -> dict[str, CellRow]:
    """Evaluate a cell; return its rows by tier."""
    task = make_task(run, CONTEXT)
    sample = coordinate_sample(run.meta.dataset, run.n_coordinates, 16)
    rows = evaluate_cell(method, run, task, sample, evaluator_for(run.meta), batch_norm)
    return {row.tier: row for row in rows}


def _statistics(method: Forecaster, run: Trajectory, batch_norm: BatchNorm) -> Statistics:
    evaluator, task, found = evaluator_for(run.meta), make_task(run, CONTEXT), {}
    assert evaluator is not None
    if are_forecast(batch_norm, run, evaluator):
        forecast = ForecastStatistics(run, task, [4, 5])
        forecast_statistics(method, forecast, task)
        found = forecast.found
    return statistics_for(batch_norm, run, task, evaluator, [4, 5], found)


def _forecast(method: Forecaster, run: Trajectory, column: int) -> dict[str, Floats]:
    task, values = make_task(run, CONTEXT), {}
    for block in ForecastStream(method, run, task):
        values[block.tensor.name] = block.forecast[:, column].reshape(block.tensor.shape)
    return values


def _network(weights: dict[str, Floats], state: State) -> nn.Module:
    """Build the recipe's network with weights and statistics, in evaluation mode."""
    network = build_network(RECIPE.network, **RECIPE.network_options)
    arrays = {**weights, **state}
    network.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in arrays.items()})
    return network.eval()


def _losses(network: nn.Module) -> dict[str, float]:
    """Measure a network without anything of Weightcast."""
    examples, found = load_examples("digits"), {}
    for side in ("train", "test"):
        x, y = (getattr(examples, f"{side}_{what}")[:MEASURED] for what in "xy")
        with torch.no_grad():
            logits = network(x)
        found[f"{side}_loss"] = float(nn.functional.cross_entropy(logits, y))
        found[f"{side}_accuracy"] = float((logits.argmax(dim=1) == y).float().mean())
    return found


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _check_measured(row: CellRow, label: str, network: nn.Module) -> None:
    for name, value in _losses(network).items():
        assert row.metrics[f"{name}_{label}"] == pytest.approx(value, rel=1e-5)


def test_when_statistics_are_kept_then_the_network_is_that_of_the_recorded_state(
    run: Trajectory,
) -> None:
    method = make_method("ols-line")
    row = _cell(method, run, KEEP)["function"]
    assert row.metrics["batch_norm"] == "keep"
    for label, column in (("h5", 4), ("last", 5)):
        network = _network(_forecast(method, run, column), run.state(CONTEXT))
        _check_measured(row, label, network)
    assert row.metrics["train_loss_h5"] != _cell(method, run)["function"].metrics["train_loss_h5"]
    # What the run itself reached stays as its recording measured it.
    assert row.metrics["train_loss_origin"] == run.meta.train_loss[CONTEXT]
    assert row.metrics["true_train_loss_h5"] == run.meta.train_loss[CONTEXT + 5]


def test_when_the_last_value_forecasts_statistics_then_they_are_those_that_are_kept(
    run: Trajectory,
) -> None:
    method = make_method("last-value")
    kept, forecast = (_cell(method, run, rule)["function"] for rule in (KEEP, FORECAST))
    assert forecast.metrics == kept.metrics | {"batch_norm": "forecast"}


def test_when_statistics_are_forecast_then_the_method_extends_each_as_it_does_weights(
    run: Trajectory,
) -> None:
    found = _statistics(make_method("last-two-line"), run, FORECAST)
    assert found.said == "forecast"
    before, last = run.state(CONTEXT - 1), run.state(CONTEXT)
    for column, state in found.states.items():
        for name, values in state.items():
            if name.endswith("num_batches_tracked"):
                assert values == last[name] == 2 * CONTEXT
                assert values.dtype == np.int64
            else:
                moved = (last[name] - before[name]) * (column + 1)
                bound = 0.0 if "var" in name else -np.inf
                expected = np.maximum(last[name] + moved, bound)
                np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    rows = _cell(make_method("last-two-line"), run, FORECAST)
    plain = _cell(make_method("last-two-line"), run)
    # They count in no weight metric.
    assert rows["weights"].metrics == plain["weights"].metrics
    assert rows["weights"].curve == plain["weights"].curve
    assert rows["weights"].coordinates == plain["weights"].coordinates
    weights = _forecast(make_method("last-two-line"), run, 4)
    _check_measured(rows["function"], "h5", _network(weights, dict(found.states[4])))


def test_when_a_forecast_is_taken_at_a_length_then_so_are_its_statistics(run: Trajectory) -> None:
    evaluator = evaluator_for(run.meta)
    assert isinstance(evaluator, NetworkEvaluator)
    found = _statistics(make_method("last-two-line"), run, FORECAST)
    weights = _forecast(make_method("last-two-line"), run, 4)
    kept, state = run.state(CONTEXT), found.states[4]
    half = {
        name: (values + kept[name]) / np.float32(2) if "running" in name else values
        for name, values in state.items()
    }
    for length, expected in ((0.0, kept), (0.5, half), (1.0, state)):
        measured = _losses(_network(weights, dict(expected)))
        loss = found.train_loss(evaluator, weights, 4, length)
        assert loss == pytest.approx(measured["train_loss"], rel=1e-5)
        assert found.measure(evaluator, weights, 4, length) == pytest.approx(measured, rel=1e-5)


def test_when_a_running_variance_is_forecast_below_zero_then_it_is_zero(run: Trajectory) -> None:
    falling = _Falling(run, range(run.n_snapshots))
    found = _statistics(make_method("last-two-line"), falling, FORECAST)
    variances = [
        values for state in found.states.values() for name, values in state.items() if "var" in name
    ]
    assert variances
    assert all((values == 0).all() for values in variances)
    assert _cell(make_method("last-two-line"), falling, FORECAST)["function"].status == "ok"


def test_when_a_method_abstains_or_cannot_then_those_statistics_are_kept(run: Trajectory) -> None:
    kept = run.state(CONTEXT)
    half = _statistics(_Abstains(), run, FORECAST)
    count = sum("running" in name for name in kept)
    assert half.said == f"forecast, {count // 2} of {count} kept"
    for name, values in half.states[5].items():
        assert np.array_equal(values, kept[name]) is not name.endswith("running_mean")
    none = _statistics(_KnowsWeightsOnly(), run, FORECAST)
    assert none.said == "keep"
    for name, values in none.states[5].items():
        np.testing.assert_array_equal(values, kept[name])
    cell = _cell(_KnowsWeightsOnly(), run, FORECAST)["function"]
    assert cell.status == "ok"
    assert cell.metrics == _cell(_KnowsWeightsOnly(), run, KEEP)["function"].metrics


@pytest.mark.parametrize(("batches", "examples"), [(1, "64"), (3, "192"), (1000, "1,408")])
def test_when_statistics_are_estimated_on_batches_then_they_are_the_means_over_the_first(
    run: Trajectory, batches: int, examples: str
) -> None:
    method = make_method("ols-line")
    row = _cell(method, run, BatchNorm(batches=batches))["function"]
    assert row.metrics["batch_norm"] == f"re-estimate on {examples} examples"
    network = _network(_forecast(method, run, 4), run.state(0))
    x = load_examples("digits").train_x
    whole = range(0, min(batches * BATCH, len(x) // BATCH * BATCH), BATCH)
    for norm in _norms(network):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for start in whole:
            network(x[start : start + BATCH])
    _check_measured(row, "h5", network.eval())


def test_when_nothing_is_said_then_statistics_are_those_of_the_measured_training_data(
    run: Trajectory,
) -> None:
    method = make_method("last-value")
    row, said = (_cell(method, run, rule)["function"] for rule in (None, BatchNorm()))
    assert row.metrics == said.metrics
    assert row.metrics["batch_norm"] == "re-estimate on 200 examples"
    # On equal terms with the recording: the last observed weights gain nothing on themselves.
    assert row.metrics["train_loss_h5"] == pytest.approx(run.meta.train_loss[CONTEXT], rel=1e-5)


def test_when_batches_were_asked_for_once_then_what_comes_next_knows_nothing_of_it(
    run: Trajectory,
) -> None:
    evaluator = evaluator_for(run.meta)
    assert isinstance(evaluator, NetworkEvaluator)
    weights = run.snapshot(-1)
    before = evaluator.measure(weights)
    other = evaluator.measure(weights, batches=FirstBatches(1, 8))
    assert other["train_loss"] != before["train_loss"]
    assert evaluator.measure(weights) == before


@pytest.mark.parametrize("rule", [KEEP, FORECAST, BatchNorm(batches=1)])
def test_when_a_network_has_no_batch_norm_then_no_rule_changes_its_row(rule: BatchNorm) -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    row, plain = (_cell(make_method("ols-line"), run, each)["function"] for each in (rule, None))
    assert "batch_norm" not in row.metrics
    assert row.metrics == plain.metrics


def test_when_a_run_recorded_no_statistics_then_they_are_estimated(run: Trajectory) -> None:
    arrays = {info.name: run.read(info).reshape(-1, *info.shape) for info in run.tensors}
    bare = Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta, run.tensors)
    for rule in (KEEP, FORECAST):
        row = _cell(make_method("last-value"), bare, rule)["function"]
        assert row.metrics["batch_norm"] == "re-estimate on 200 examples"


@pytest.mark.parametrize("rule", [KEEP, FORECAST, BatchNorm()])
def test_when_the_loss_is_nan_at_an_early_horizon_only_then_the_row_is_invalid(
    run: Trajectory, rule: BatchNorm
) -> None:
    row = _cell(_LastBut(run.tensors[0].name, 3e38, 5), run, rule)["function"]
    assert row.status == "invalid"
    assert row.reason.endswith("is not finite with the forecast weights at h5")
    assert np.isnan(row.metrics["train_loss_h5"])
    assert np.isfinite(row.metrics["train_loss_last"])
    assert row.metrics["steps_gained_h5"] == -2 * CONTEXT
    assert row.metrics["steps_gained_censored_h5"] == "below"
    # Nothing of it is left in the statistics of the next horizon.
    same = _cell(make_method("last-value"), run, rule)["function"].metrics
    assert row.metrics["train_loss_last"] == same["train_loss_last"]


def test_when_the_loss_is_infinite_then_the_row_is_invalid_and_gains_least() -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    last = run.tensors[-1]
    ends = [-3e38, 3e38, *[0.0] * (last.size - 2)]
    row = _cell(_LastBut(last.name, ends, 54), run)["function"]
    assert row.status == "invalid"
    assert row.metrics["train_loss_last"] == row.metrics["loss_change_last"] == np.inf
    for label in ("h5", "h10", "h20", "last"):
        assert row.metrics[f"steps_gained_{label}"] == -float(run.steps[CONTEXT])
        assert row.metrics[f"steps_gained_censored_{label}"] == "below"


def test_when_a_horizon_has_two_labels_then_it_is_measured_alike() -> None:
    run = Window(get_dataset("digits-mlp-sgd").run(0), range(CONTEXT + 11))
    row = _cell(make_method("ols-line"), run)["function"]
    for name in ("train_loss", "test_accuracy", "steps_gained", "loss_change"):
        assert row.metrics[f"{name}_h10"] == row.metrics[f"{name}_last"]
        assert row.metrics[f"{name}_h5"] != row.metrics[f"{name}_h10"]


def _suite(tmp_path: Path, **given: object) -> str:
    """Write a suite on a network with batch norm and one without."""
    lines = {
        "name": "rules",
        "datasets": [NAME, "digits-mlp-sgd"],
        "methods": ["last-value", "damped-line"],
        "contexts": [CONTEXT],
        "rotations": 4,
    } | given
    path = tmp_path / "rules.toml"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in lines.items()), "utf-8")
    return str(path)


@pytest.mark.usefixtures("registered")
def test_when_the_rule_changes_then_cells_of_networks_with_batch_norm_get_other_keys_alone(
    folder: Path, tmp_path: Path
) -> None:
    runs = RunCache(folder)

    def keys(fits: Iterable[Fit], with_norm: bool) -> tuple[set[str], set[str]]:
        chosen = [fit for fit in fits if (fit.place.dataset == NAME) is with_norm]
        return {fit.key for fit in chosen}, {key for fit in chosen for _, key in fit.cells}

    def plan(**given: object) -> list[Fit]:
        return make_plan(load_suite(_suite(tmp_path, **given)).resolve(), runs)

    rules: list[dict[str, object]] = [
        {},
        {"batch_norm": "keep"},
        {"batch_norm": "forecast"},
        {"batch_norm_batches": 2},
        {"batch_norm_batches": 3},
    ]
    plans = [plan(**rule) for rule in rules]
    first = plans[0]
    same = plan(batch_norm="re-estimate")
    assert keys(same, True) == keys(first, True)
    seen: set[str] = set()
    for fits in plans:
        assert keys(fits, False) == keys(first, False)
        assert keys(fits, True)[0] == keys(first, True)[0]
        cells = keys(fits, True)[1]
        assert len(cells) == 2 * RUNS
        assert not cells & seen
        seen |= cells
    # Where no network is measured, there is no rule.
    weights = [plan(tiers=["weights"], **rule) for rule in rules]
    assert all(keys(fits, True) == keys(weights[0], True) for fits in weights)
    assert not keys(weights[0], True)[1] & seen
    assert all(fit.batch_norm is None for fits in weights for fit in fits)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("rule", ["keep", "forecast"])
def test_when_a_unit_does_a_cell_then_it_follows_the_suites_rule(
    rule: str, folder: Path, this_process: Worker, tmp_path: Path
) -> None:
    methods = ["last-two-line"]
    asked = _suite(tmp_path, datasets=[NAME], batch_norm=rule, methods=methods)
    fit = make_plan(load_suite(asked).resolve(), RunCache(folder))[0]
    events: list[Event] = []
    seed = fit.split.test[0]
    setup, stop = Setup(data=folder), threading.Event()
    Unit(fit, (seed,)).run(this_process, setup, Site(), events.append, stop)
    (done,) = (event for event in events if isinstance(event, CellDone))
    assert [row.status for row in done.rows] == ["ok", "ok"]
    assert done.rows[-1].metrics["batch_norm"] == rule
    # What crosses the border is what a method of this process gives.
    here = _cell(make_method("last-two-line"), RunCache(folder)(NAME, seed), BatchNorm(rule))
    there = {row.tier: row for row in done.rows}
    assert there["function"].metrics == here["function"].metrics
    assert there["weights"].curve == here["weights"].curve


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_norm": "kept"}, 'batch_norm: .*"re-estimate", "keep" or "forecast"'),
        ({"batch_norm_batches": 0}, "batch_norm_batches: is 0, .*whole number from 1"),
        ({"batch_norm": "keep", "batch_norm_batches": 2}, "batch_norm_batches: .*estimates none"),
    ],
)
def test_when_a_suites_rule_is_none_then_it_is_said(
    given: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        load_suite(_suite(tmp_path, **given))


def test_when_a_suite_is_written_then_its_rule_comes_back(tmp_path: Path) -> None:
    for given in ({}, {"batch_norm": "forecast"}, {"batch_norm_batches": 4}):
        suite = load_suite(_suite(tmp_path, **given))
        (tmp_path / "again.toml").write_text(suite.to_toml(), encoding="utf-8")
        again = load_suite(str(tmp_path / "again.toml"))
        assert again.model_dump() == suite.model_dump()
