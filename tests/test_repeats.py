"""Methods that draw random numbers: fitted under several seeds, from the plan to the ranking."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import load_results

SUITE = """
name = "repeats"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "drawn"]
tiers = ["weights"]
repeats = {repeats}
"""

PLUGIN = '''
import numpy as np
from weightcast.methods import CoordinateForecaster, register

@register("drawn")
class Drawn(CoordinateForecaster):
    """The last value times a number drawn in the fit."""
    _tags = {"random": True, "provenance": "fit-on-train-split"}
    def fit(self, train, validation, task):
        self.factor_ = np.float32(1 + 0.01 * np.random.default_rng(task.seed).random())
        return self
    def predict_block(self, context, task):
        return np.repeat(self.factor_ * context[:, -1:], len(task.horizons), axis=1)
'''

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for repeats in (1, 2):
        (tmp_path / f"{repeats}.toml").write_text(SUITE.format(repeats=repeats), encoding="utf-8")
    (tmp_path / "drawn.py").write_text(PLUGIN, encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("own_registry")
def test_when_a_suite_repeats_then_only_methods_that_draw_are_fitted_again(folder: Path) -> None:
    from weightcast.methods import load_plugin

    load_plugin(folder / "drawn.py")
    once, twice = (
        make_plan(load_suite(str(folder / f"{n}.toml")).resolve(), RunCache(None)) for n in (1, 2)
    )
    assert [fit.repeat for fit in twice if fit.method == "last-value"] == [0] * 4
    assert sorted(fit.repeat for fit in twice if fit.method == "drawn") == [0] * 4 + [1] * 4
    # What was fitted once stays as it was; the others have keys and seeds of their own.
    assert {fit.key for fit in once} < {fit.key for fit in twice}
    drawn = [fit for fit in twice if fit.method == "drawn"]
    assert len({fit.task_seed for fit in drawn}) == len({fit.key for fit in drawn}) == 8


def test_when_a_suite_with_repeats_is_run_then_each_fit_has_its_cells(
    folder: Path, weightcast: Run
) -> None:
    for repeats, added in ((1, 24), (2, 12), (2, 0)):
        done = weightcast(
            "run", "--suite", folder / f"{repeats}.toml", "--plugin", folder / "drawn.py",
            "--out", folder / "results", "--jobs", 2,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{added} to run" in done.stderr + done.stdout
    results = load_results(folder / "results")
    drawn = results.cells[results.cells["method"] == "drawn"]
    assert drawn.groupby("run")["repeat"].apply(sorted).map(tuple).unique().tolist() == [(0, 1)]
    errors = drawn.pivot(index="run", columns="repeat", values="rel_sum")
    assert (errors[0] != errors[1]).all()
    board = rank_results(results)
    assert board.medians.loc["drawn"].iloc[0] == pytest.approx(drawn["rel_sum"].median())
