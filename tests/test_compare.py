"""Two result folders held against each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from weightcast.bench.results.compare import compare
from weightcast.bench.results.tables import Results
from weightcast.datasets import InputError

RUNS = 24


def _results(errors: dict[str, Any], name: str = "a", **environment: Any) -> Results:
    """A folder whose methods have these errors (runs,) in weights; NaN is a failed cell."""
    rows = [
        {
            "label": label, "method": label, "dataset": "d", "trained_on": "d", "track": "main",
            "split": "seeds", "tier": "weights", "context": 10, "run": run, "repeat": 0,
            "suite": "s", "status": "failed" if np.isnan(error) else "ok", "rel_sum": error,
        }
        for label, values in errors.items()
        for run, error in enumerate(values)
    ]  # fmt: skip
    empty = pd.DataFrame()
    return Results(
        Path(name), pd.DataFrame(rows), empty, empty, {}, [], [], {}, environment, [], ""
    )


def _errors(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {m: np.exp(random.normal(-0.5, 0.2, RUNS)) for m in ("last-value", "x", "y", "z")}


def test_when_folders_are_the_same_then_nothing_changed() -> None:
    found = compare(_results(_errors()), _results(_errors()))
    assert {c.verdict for c in found.changes} == {"not distinguishable"}
    assert all((c.ratio.value, c.ratio.lower, c.ratio.upper, c.p) == (1, 1, 1, 1)
               for c in found.changes)  # fmt: skip
    assert found.notes == []


def test_when_a_method_became_worse_or_better_then_it_alone_is_told() -> None:
    random = np.random.default_rng(6)
    other = {m: e * np.exp(random.normal(0, 0.05, RUNS)) for m, e in _errors().items()}
    other["x"], other["y"] = other["x"] * 1.3, other["y"] * 0.7
    found = compare(_results(_errors()), _results(other))
    verdicts = {c.method: c.verdict for c in found.changes}
    assert verdicts == {
        "x": "worse", "y": "better", "last-value": "not distinguishable",
        "z": "not distinguishable",
    }  # fmt: skip
    assert [c.method for c in found.changes][:2] == ["x", "y"]
    assert [c.method for c in found.changes if c.regression] == ["x"]
    # The test and its adjustment are those of other libraries.
    raw = {m: stats.wilcoxon(np.log(other[m] / e)).pvalue for m, e in _errors().items()}
    adjusted = multipletests(list(raw.values()), method="holm")[1]
    assert {c.method: c.p for c in found.changes} == pytest.approx(
        dict(zip(raw, adjusted, strict=True))
    )
    x = found.changes[0]
    assert x.ratio.value == pytest.approx(np.median(other["x"]) / np.median(_errors()["x"]))
    assert x.ratio.lower < x.ratio.value < x.ratio.upper


def test_when_nothing_really_changed_then_few_comparisons_say_otherwise() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for seed in range(40):
        before = _errors(seed)
        after = {m: e * np.exp(random.normal(0, 0.1, RUNS)) for m, e in before.items()}
        found = compare(_results(before), _results(after))
        alarms += any(c.verdict in ("worse", "better") for c in found.changes)
    assert alarms <= 7  # 2 of 40 are expected


def test_when_cells_fail_that_did_not_then_it_is_a_regression_whatever_the_errors() -> None:
    other = {m: e * 0.5 for m, e in _errors().items()}
    other["z"][3] = np.nan
    found = compare(_results(_errors()), _results(other))
    z = next(c for c in found.changes if c.method == "z")
    assert (z.verdict, z.failures, z.runs, z.regression) == ("more failures", (0, 1), 23, True)


def test_when_only_one_folder_has_something_then_it_is_said_and_not_compared() -> None:
    before, after = _errors(), _errors()
    del after["z"]
    after["new"] = after["x"]
    found = compare(_results(before, "a", cpu="one"), _results(after, "b", cpu="other"))
    assert {c.method for c in found.changes} == {"last-value", "x", "y"}
    assert found.notes == [
        "only in a: the methods z", "only in b: the methods new",
        "made with different things: processor one and other",
    ]  # fmt: skip


def test_when_there_are_few_runs_then_there_is_no_verdict() -> None:
    few = {m: e[:5] for m, e in _errors().items()}
    found = compare(_results(few), _results({m: 9 * e for m, e in few.items()}))
    assert {c.verdict for c in found.changes} == {"too few runs"}


def test_when_folders_or_names_do_not_fit_then_one_line_says_so() -> None:
    one = _results({"x": np.ones(8)})
    with pytest.raises(InputError, match="no cell in common"):
        compare(one, _results({"y": np.ones(8)}))
    with pytest.raises(InputError, match="unknown tier of both folders 'function'"):
        compare(one, one, tier="function")
    with pytest.raises(InputError, match="unknown metric 'rel_some'"):
        compare(one, one, tier="weights", metric="rel_some")
    with pytest.raises(InputError, match="name it with --tier"):
        compare(one, one, metric="rel_sum")


SUITE = """
name = "s"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "mine"]
"""
PLUGIN = """
from weightcast.methods import CoordinateForecaster, register

@register("mine")
class Mine(CoordinateForecaster):
    def predict_block(self, context, task):
        step = context[:, -1:] - context[:, -2:-1]
        return context[:, -1:] + {length} * step * task.horizons
"""


def test_when_a_plugin_became_worse_then_the_command_exits_with_1(
    tmp_path: Path, weightcast: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "s.toml").write_text(SUITE, encoding="utf-8")
    for name, length in (("a", 0.05), ("b", 3.0)):
        (tmp_path / "mine.py").write_text(PLUGIN.format(length=length), encoding="utf-8")
        done = weightcast(
            "run", "--suite", tmp_path / "s.toml", "--plugin", tmp_path / "mine.py",
            "--out", tmp_path / name,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    a, b = tmp_path / "a", tmp_path / "b"
    worse = weightcast("compare", a, b, "--fail-on-regression", "--csv", tmp_path / "c.csv")
    assert worse.returncode == 1, worse.stderr
    assert "4 comparisons (method, task and tier): 2 worse, 0 better, 2 not" in worse.stdout
    assert set(pd.read_csv(tmp_path / "c.csv")["verdict"]) == {"worse", "not distinguishable"}
    assert weightcast("compare", a, b).returncode == 0
    better = weightcast("compare", b, a, "--fail-on-regression", "--json")
    assert better.returncode == 0
    changes = json.loads(better.stdout)["changes"]
    assert {c["verdict"] for c in changes if c["method"] == "mine"} == {"better"}
    wrong = weightcast("compare", a, tmp_path / "nowhere")
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1
