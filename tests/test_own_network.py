"""Data sets of one's own: a plugin gives network, loss and data, and all tiers follow."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weightcast.bench.commands.record import record_dataset
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.own_side_by_side import OwnSideBySide, can_be_stacked
from weightcast.bench.loop.stepping.runs import Optimizer
from weightcast.bench.plan.loop_settings import recipe_of
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import load_results
from weightcast.datasets import (
    InputError,
    OwnNetwork,
    Recipe,
    TrajectoryRecorder,
    all_datasets,
    get_dataset,
    rebuild,
    register_dataset,
    registry,
)
from weightcast.datasets.own.dataset import OwnDataSet
from weightcast.datasets.own.rows import read_rows
from weightcast.methods import load_plugin
from weightcast.reports.html import render_report

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from weightcast.datasets import OwnNetwork, register_dataset

X = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, :2] + X[:, 2:]).argmax(1)

@register_dataset("mine")
class Mine(OwnNetwork):
    def build(self):
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
"""
DATA = """
    def train(self):
        return X[:64], Y[:64]
    def test(self):
        return X[64:], Y[64:]
"""
TRAINED = "    seeds, learning_rate, batch_size, steps, snapshot_every = 6, 0.2, 16, 160, 5\n"

SUITE = """
name = "mine"
datasets = {datasets}
methods = {methods}
tiers = ["weights", "function", "loop"]
contexts = [10]
[loop]
steps = 40
spacing = 2
context = 5
horizon = 2
measure_every = 10
accept = ["if-better"]
controls = []
calibration = 2
validation = 3
report = 3
training = 2
widenings = 0
[loop.optimizers]
sgd = [0.1, 0.2, 0.4]
"""


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Caches of this test's own, and no data set left behind."""
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WEIGHTCAST_DATA", str(tmp_path / "data"))
    all_datasets()
    before = dict(registry._DATASETS)
    yield
    registry._DATASETS.clear()
    registry._DATASETS.update(before)


def _plugin(folder: Path, body: str, head: str = HEAD) -> Path:
    path = folder / "mine.py"
    path.write_text(head + body, encoding="utf-8")
    load_plugin(path)
    return path


def _mine() -> OwnDataSet:
    found = get_dataset("mine")
    assert isinstance(found, OwnDataSet)
    return found


def _record_by_hand(folder: Path, seed: int, **said: Any) -> Path:
    torch.manual_seed(100 + seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    path = folder / f"run{seed}.safetensors"
    with TrajectoryRecorder(model, path, every=4, optimizer=optimizer, **said) as recorder:
        for _ in range(120):
            x = torch.randn(16, 4)
            loss = nn.functional.cross_entropy(model(x), (x[:, :2] + x[:, 2:]).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(train_loss=loss)
    return path


def test_when_a_plugin_gives_network_and_data_then_its_runs_are_trained_and_have_all_tiers(
    tmp_path: Path,
) -> None:
    plugin = _plugin(tmp_path, TRAINED + DATA)
    data = tmp_path / "data"
    assert record_dataset("mine", None, data, 1) == 6
    suite = tmp_path / "mine.toml"
    methods = '["last-value", "damped-line", "line-search"]'
    suite.write_text(SUITE.format(datasets='["mine", "linreg-sgd"]', methods=methods))
    out = tmp_path / "out"
    options = RunOptions(str(suite), out, plugins=[plugin], datasets=["mine"], data=data)
    assert set(run_suite(options)) == {"ok"}
    results = load_results(out)
    cells = results.cells
    assert set(cells["tier"]) == {"weights", "function"}
    function = cells[cells["tier"] == "function"]
    assert len(function) == 3 * 6
    searched = function[function["method"] == "line-search"]
    assert (searched["train_loss_last"] <= searched["train_loss_origin"]).all()
    assert searched["steps_gained_h5"].notna().all()
    assert (searched["evaluations"] > 1).all()
    assert {"test_loss_last", "test_accuracy_last"} <= set(function.columns)
    loops = results.loops
    assert {row["method"] for row in loops} == {"no-forecast", "null", "damped-line", "line-search"}
    jumped = [row for row in loops if row["method"] == "damped-line"]
    assert all(row["jumps"] for row in jumped)
    assert all(row["measured"]["test_accuracy"][-1] > 0.5 for row in jumped)


def test_when_runs_were_recorded_by_hand_then_their_losses_are_those_of_the_plugin(
    tmp_path: Path,
) -> None:
    for seed in range(6):
        _record_by_hand(tmp_path, seed)
    (tmp_path / "notes.txt").write_text("not a run")
    _plugin(tmp_path, "    runs = '.'\n" + DATA)
    dataset = _mine()
    assert dataset.seeds == tuple(range(6))
    assert dataset.missing() == ()
    run = dataset.run(3)
    assert run.label == "mine/3"
    network, _ = rebuild(Recipe.from_json(run.meta.recipe))
    for snapshot in (0, 17, run.n_snapshots - 1):
        network.load_state_dict(
            {name: torch.from_numpy(values) for name, values in run.snapshot(snapshot).items()}
        )
        x, y = dataset.own.train()
        expected = nn.functional.cross_entropy(network(x), y).item()
        assert run.meta.train_loss[snapshot] == pytest.approx(expected, rel=1e-5)
    assert len(run.meta.test_accuracy) == run.n_snapshots
    assert len(list((tmp_path / "cache" / "own-losses").iterdir())) == 1
    assert dataset.run(3).meta == run.meta


def test_when_the_plugin_is_edited_then_losses_are_measured_again(tmp_path: Path) -> None:
    _record_by_hand(tmp_path, 0)
    _plugin(tmp_path, "    runs = 'run0.safetensors'\n" + DATA)
    first = _mine().run(0).meta
    registry._DATASETS.pop("mine")
    _plugin(
        tmp_path, "    runs = 'run0.safetensors'\n" + DATA.replace("X[:64], Y[:64]", "X[:8], Y[:8]")
    )
    second = _mine().run(0).meta
    assert first.train_loss != second.train_loss
    assert first.recipe != second.recipe
    assert Recipe.from_json(first.recipe).hash == Recipe.from_json(second.recipe).hash


CLOSED = """
    def loss(self, model):
        return nn.functional.cross_entropy(model(X), Y)
"""


def test_when_a_loss_of_the_model_alone_is_given_then_it_is_measured_and_trained_by(
    tmp_path: Path,
) -> None:
    _record_by_hand(tmp_path, 0)
    _plugin(tmp_path, "    runs = '.'\n" + CLOSED)
    run = _mine().run(0)
    assert len(run.meta.train_loss) == run.n_snapshots
    assert run.meta.test_loss == run.meta.train_accuracy == ()
    recipe = recipe_of("mine")
    runs = OwnSideBySide(recipe, Optimizer("sgd"), np.full((2, 5), 0.5), [0, 1], ["0", "1"])
    before = runs.measure(runs.weights)
    for _ in range(5):
        runs.step()
    after = runs.measure(runs.weights)
    assert (after.train_loss < before.train_loss).all()
    assert np.isnan(after.test_accuracy).all()


LOADERS = {
    "tensors": "        return X[:64], Y[:64]\n",
    "loader": "        return DataLoader(TensorDataset(X[:64], Y[:64]), 16, shuffle=True)\n",
    "dataset": "        return TensorDataset(X[:64], Y[:64])\n",
    "batches": "        return [(X[:40], Y[:40]), (X[40:64], Y[40:64])]\n",
    "numpy": "        return X[:64].double().numpy(), Y[:64].numpy()\n",
}


@pytest.mark.parametrize("form", LOADERS)
def test_when_data_come_in_any_form_then_they_are_the_same(form: str, tmp_path: Path) -> None:
    said = "    batch_size = 16\n" if form == "loader" else ""
    _plugin(tmp_path, said + "    def train(self):\n" + LOADERS[form])
    examples = _mine().given.examples()
    x, y = examples.train.at(torch.arange(64))  # type: ignore[union-attr]
    expected = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))[:64]
    assert torch.equal(x, expected)
    assert torch.equal(y, (expected[:, :2] + expected[:, 2:]).argmax(1))


def test_when_batches_are_dictionaries_then_the_loss_gets_them_as_they_are(tmp_path: Path) -> None:
    body = """
    def train(self):
        return {"x": X, "y": {"label": Y}}
    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"]["label"])
    def accuracy(self, model, batch):
        return (model(batch["x"]).argmax(1) == batch["y"]["label"]).float().mean()
"""
    _plugin(tmp_path, body)
    network, evaluator = rebuild(recipe_of("mine"))
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    found = evaluator.measure(weights)
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, :2] + x[:, 2:]).argmax(1)
    assert found["train_loss"] == pytest.approx(
        nn.functional.cross_entropy(network(x), y).item(), rel=1e-5
    )
    assert found["train_accuracy"] == pytest.approx(
        float((network(x).argmax(1) == y).float().mean()), abs=1e-6
    )
    assert set(found) == {"train_loss", "train_accuracy"}


def test_when_targets_are_no_classes_then_the_error_is_squared_and_there_is_no_accuracy(
    tmp_path: Path,
) -> None:
    _plugin(tmp_path, "    def train(self):\n        return X, X[:, :2] * 2\n")
    network, evaluator = rebuild(recipe_of("mine"))
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    x = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.mse_loss(network(x), x[:, :2] * 2).item()
    assert evaluator.measure(weights) == {"train_loss": pytest.approx(expected, rel=1e-5)}


STACKABLE = {
    "plain": (DATA, True),
    "closed": (CLOSED, True),
    "item": (
        DATA + "    def loss(self, model, batch):\n"
        "        value = nn.functional.cross_entropy(model(batch[0]), batch[1])\n"
        "        return value * (2.0 if float(value.detach()) > 1e9 else 1.0)\n",
        False,
    ),
    "dropout": (
        DATA
        + "    def build(self):\n        return nn.Sequential(nn.Linear(4, 2), nn.Dropout())\n",
        False,
    ),
}


@pytest.mark.parametrize("form", STACKABLE)
def test_when_a_network_is_trained_in_the_loop_then_it_is_stacked_only_where_that_is_the_same(
    form: str, tmp_path: Path
) -> None:
    body, stacks = STACKABLE[form]
    _plugin(tmp_path, body)
    recipe = recipe_of("mine")
    network, _ = rebuild(recipe)
    assert can_be_stacked(recipe, network) is stacks
    if not stacks:
        return
    table, orders = np.full((3, 20), 0.3), ["0", "1", "2"]
    one, other = (
        kind(recipe, Optimizer("nesterov", 0.9), table, [0, 1, 2], orders)
        for kind in (OwnSideBySide, OneByOne)
    )
    for _ in range(20):
        one.step()
        other.step()
    assert torch.allclose(one.weights, other.weights, rtol=1e-4, atol=1e-5)


WRONG = {
    "build() returned NoneType": "    def build(self):\n        pass\n" + DATA,
    "build() has no parameters to train": "    def build(self):\n        return nn.ReLU()\n" + DATA,
    "build() fails: ZeroDivisionError": "    def build(self):\n        1 / 0\n" + DATA,
    "build() has parameters of torch.float64": (
        "    def build(self):\n        return nn.Linear(4, 2).double()\n" + DATA
    ),
    "train() returned int": "    def train(self):\n        return 3\n",
    "train() fails: RuntimeError: gone": (
        "    def train(self):\n        raise RuntimeError('gone')\n"
    ),
    "have 63, 64 rows": "    def train(self):\n        return X[:64], Y[:63]\n",
    "pad them to one shape": "    def train(self):\n        return [(X, Y), (X[:, :3], Y)]\n",
    "must be loss(self, model, batch)": DATA + "    def loss(self, model):\n        return 0\n",
    "must be loss(self, model);": "    def loss(self, model, batch):\n        return 0\n",
    "return a tensor of one number": DATA + "    def loss(self, model, b):\n        return b[0]\n",
    "does not depend on the model's parameters": (
        DATA + "    def loss(self, model, batch):\n        return torch.tensor(1.0)\n"
    ),
    "say by how many networks are trained, e.g. batch_size = 8": (
        "    def train(self):\n        return DataLoader(TensorDataset(X, Y), 8)\n"
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_when_a_plugin_gives_something_odd_then_one_line_says_what(
    said: str, tmp_path: Path
) -> None:
    _plugin(tmp_path, WRONG[said])
    with pytest.raises(InputError) as caught:
        recipe_of("mine").require()
    assert said in str(caught.value)
    assert str(caught.value).startswith("data set mine")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"lr": 0.1}, "unknown attribute 'lr'"),
        ({"steps": -3}, "steps is -3"),
        ({"seeds": 0}, "seeds is 0"),
        ({"track": "side"}, "track is 'side'"),
    ],
)
def test_when_an_attribute_is_wrong_then_it_is_refused(
    attributes: dict[str, Any], said: str
) -> None:
    cls = type("Mine", (OwnNetwork,), attributes | {"build": _linear, "loss": _zero})
    with pytest.raises(InputError) as caught:
        register_dataset("mine")(cls)
    assert said in str(caught.value)


def _linear(self: OwnNetwork) -> nn.Module:
    return nn.Linear(4, 2)


def _zero(self: OwnNetwork, model: nn.Module) -> torch.Tensor:
    return model(torch.ones(1, 4)).sum()  # type: ignore[no-any-return]


def test_when_runs_are_of_another_network_then_the_tensor_is_named(tmp_path: Path) -> None:
    _record_by_hand(tmp_path, 0)
    body = "    runs = '.'\n" + DATA
    _plugin(tmp_path, body, HEAD.replace("(4, 6)", "(4, 7)").replace("(6, 2)", "(7, 2)"))
    with pytest.raises(InputError) as caught:
        _mine().run(0)
    assert "tensor 0.weight is [6, 4] in the run and [7, 4] in build()" in str(caught.value)


def test_when_a_data_set_gives_no_network_then_it_is_said_what_would_be_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(6):
        _record_by_hand(tmp_path, seed)
    head = HEAD.partition("    def build")[0]
    plugin = _plugin(tmp_path, "    runs = '.'\n", head)
    assert _mine().no_network == "gives no build() and loss()"
    with pytest.raises(InputError) as caught:
        recipe_of("mine")
    assert "no loop tier: data set mine gives no build() and loss(); " in str(caught.value)
    with pytest.raises(InputError, match="its runs were made elsewhere"):
        record_dataset("mine", None, None, 1)
    out = tmp_path / "out"
    options = RunOptions("quick", out, ["last-value"], ["mine"], plugins=[plugin])
    assert set(run_suite(options)) == {"ok"}
    assert set(load_results(out).cells["tier"]) == {"weights"}
    said = "no function tier: data set mine gives no build() and loss(); a class derived from"
    for _ in range(2):
        with pytest.raises(InputError, match=re.escape(said)):
            rank_results(load_results(out), tier="function")
        assert said in render_report(load_results(out))
        registry._DATASETS.pop("mine", None)  # a report needs no plugin file


def test_when_runs_are_named_and_none_is_there_then_it_is_said_where(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    _plugin(tmp_path, "    runs = 'runs'\n" + DATA)
    with pytest.raises(InputError, match="there are no trajectories in runs"):
        run_suite(RunOptions("quick", tmp_path / "out", ["last-value"], ["mine"]))
    registry._DATASETS.pop("mine")
    _plugin(tmp_path, "    runs = ['runs/a3.safetensors', 'runs/a7.safetensors']\n" + DATA)
    assert _mine().seeds == (3, 7)
    with pytest.raises(InputError, match=r"there is no trajectory at .*a3\.safetensors"):
        run_suite(RunOptions("quick", tmp_path / "out", ["last-value"], ["mine"]))


def test_when_a_method_runs_then_its_process_knows_nothing_of_the_plugin_with_the_data(
    tmp_path: Path,
) -> None:
    for seed in range(6):
        _record_by_hand(tmp_path, seed)
    mine = _plugin(tmp_path, "    runs = '.'\n" + DATA)
    spy = tmp_path / "spy.py"
    spy.write_text(
        textwrap.dedent("""
            import sys
            from weightcast.datasets import all_datasets
            from weightcast.methods import CoordinateForecaster, register

            @register("spy")
            class Spy(CoordinateForecaster):
                def predict_block(self, context, task):
                    if "mine" in all_datasets() or any("/mine.py" in str(getattr(m, "__file__", ""))
                                                       for m in list(sys.modules.values())):
                        raise RuntimeError("seen")
                    return context[:, -1:] + 0 * task.horizons
        """)
    )
    load_plugin(spy)
    options = RunOptions(
        "quick", tmp_path / "out", ["last-value", "spy"], ["mine"], plugins=[mine, spy]
    )
    assert set(run_suite(options)) == {"ok"}


@pytest.mark.parametrize("data", [[], (), [("a",)], object(), torch.tensor(3.0)])
def test_when_data_are_no_batches_of_tensors_then_they_are_refused(data: Any) -> None:
    with pytest.raises(InputError, match="data set x"):
        read_rows(data, "data set x: train()")


def test_when_a_module_that_the_plugin_imports_changes_then_its_data_are_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 6\n", encoding="utf-8")
    (tmp_path / "unrelated.py").write_text("A = 1\n", encoding="utf-8")
    head = "from layers_of_mine import WIDTH\n" + HEAD

    def code() -> str:
        registry._DATASETS.pop("mine", None)
        _plugin(tmp_path, DATA + TRAINED, head)
        recipe = _mine().recipe
        assert isinstance(recipe, Recipe)
        return recipe.code

    first = code()
    (tmp_path / "unrelated.py").write_text("A = 2\n", encoding="utf-8")
    assert code() == first
    (tmp_path / "layers_of_mine.py").write_text("WIDTH = 7\n", encoding="utf-8")
    assert code() != first
