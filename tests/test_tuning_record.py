"""What tuning tried, chose and took is kept and exported; --no-tuning runs the defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.engine.store.store import Store
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.tables import export_cells, load_results
from weightcast.bench.scoring.tuning import configurations
from weightcast.methods import all_methods, make_method, registry

PLUGIN = '''
import numpy as np
from weightcast.methods import CoordinateForecaster, register

class Line(CoordinateForecaster):
    """A part of the last difference."""
    def __init__(self, part=0.0):
        self.part = part
        super().__init__()
    def predict_block(self, context, task):
        step = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + self.part * step * task.horizons

@register("one")
class One(Line):
    param_grid = {"part": (0.0, 0.25, 0.5, 1.0)}

@register("two")
class Two(Line):
    param_grid = {"part": (0.1, 0.2, 0.3, 0.4, 0.5)}
'''

SUITE = """
name = "tuned"
datasets = ["digits-mlp-sgd"]
methods = ["last-value"]
contexts = [10]
rotations = 3
tiers = ["weights"]
tuning = 3
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    registry.all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "tuned.toml").write_text(SUITE, encoding="utf-8")
    return [
        "run", "--suite", str(tmp_path / "tuned.toml"), "--plugin", str(tmp_path / "plugin.py"),
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_when_methods_are_tuned_then_budget_choice_and_seconds_are_exported_and_can_be_left_out(
    run: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    export_cells(load_results(tmp_path / "out"), tmp_path / "cells.csv")
    cells = pd.read_csv(tmp_path / "cells.csv")
    tuned = cells[cells["method"] != "last-value"]
    assert set(tuned["method"]) == {"one", "two"}
    # The same number for all methods with a grid, the defaults among them.
    assert set(tuned["tuning_configurations"]) == {3}
    assert (tuned["tuning_seconds"] > 0).all()
    assert (tuned["tuning_seconds"] <= tuned["fit_seconds"]).all()
    assert all(0 < json.loads(chosen)["part"] <= 1 for chosen in tuned["chosen"])
    others = cells[cells["method"] == "last-value"]
    assert (others["tuning_configurations"] == 0).all()
    assert (others["tuning_seconds"] == 0).all()
    with Store(tmp_path / "out") as store:
        trials = [json.loads(row["trials"]) for row in store.rows("SELECT trials FROM fits")]
    assert sorted(map(len, trials)) == [0, 0, 0, 3, 3, 3, 3, 3, 3]
    assert {name for trial in trials[-1] for name in trial} == {"params", "rel_sum", "seconds"}

    done = CliRunner().invoke(app, [*run, "--no-tuning"])
    assert done.exit_code == 0, done.output
    assert "12 of 36 cells are here, 24 to run" in done.stderr
    plain = load_results(tmp_path / "out").cells
    assert set(plain["chosen"]) == {"{}"}
    assert set(plain["tuning_configurations"]) == {0}


@pytest.mark.parametrize("name", sorted(n for n, c in all_methods().items() if c.param_grid))
def test_when_a_method_is_tuned_then_its_grid_fills_the_budget_of_the_full_suite(name: str) -> None:
    budget = load_suite("full").tuning
    # Fewer trials than others get would be a handicap, more an advantage.
    assert len(configurations(make_method(name), budget, seed=0)) == budget
