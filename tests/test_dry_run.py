"""`weightcast run --dry-run` and `--tuning`: what would run, held against what does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands.dry_run import _count, _Part, dry_run
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import Shift, load_suite
from weightcast.datasets import InputError, get_dataset

SUITE = """
name = "small"
datasets = ["digits-mlp-sgd", "fashion-mlp-sgd"]
methods = ["last-value", "lfd2-ols", "lstm"]
contexts = [10, 20]
repeats = 2
windows = ["late"]
train_runs = [1, 3]
jobs = 2
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WEIGHTCAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.toml"
    path.write_text(SUITE, encoding="utf-8")
    return str(path)


def test_when_runs_are_not_here_then_as_much_is_counted_as_would_be_planned(suite: str) -> None:
    found = load_suite(suite).resolve(datasets=["digits-mlp-sgd"])
    shift = Shift(track="shift-cadence", train="digits-mlp-sgd", test="digits-mlp-sgd", every=2)
    plan = make_plan(found.model_copy(update={"shifts": [shift]}), RunCache(None))
    part = _Part(get_dataset("digits-mlp-sgd"))
    _count(found, part, 4)
    _count(found, part, 1)
    assert (part.fits, part.cells) == (len(plan), sum(len(fit.cells) for fit in plan))
    for name, (fits, cells) in part.to_run.items():
        of_method = [fit for fit in plan if fit.method == name]
        assert (fits, cells) == (len(of_method), sum(len(fit.cells) for fit in of_method))


def test_when_a_run_is_dry_then_it_says_what_is_missing_and_writes_nothing(
    suite: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, ["run", "--suite", suite, "--out", str(out), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert sorted(tmp_path.rglob("*")) == before
    assert re.search(r"^digits-mlp-sgd +12 of 12 +128 +384 +0$", done.output, re.MULTILINE)
    assert re.search(r"^fashion-mlp-sgd +0 of 12 +128 +384 +0 +2 min 00 s, ", done.output, re.M)
    assert f"768 cells: 0 are in {out}, 768 to run" in done.output
    assert "weightcast record fashion-mlp-sgd --seeds 0-11" in done.output
    assert "weightcast fetch fashion" in done.output
    assert "not known of last-value, lfd2-ols, lstm" in done.output


def test_when_a_folder_has_results_then_what_is_left_and_how_long_it_takes_is_said(
    suite: str, tmp_path: Path
) -> None:
    chosen = {"datasets": ["digits-mlp-sgd"], "methods": ["last-value", "lfd2-ols"]}
    run_suite(RunOptions(suite, tmp_path / "out", **chosen | {"methods": ["last-value"]}))
    (row,), lines = dry_run(RunOptions(suite, tmp_path / "out", **chosen))
    assert (row["cells"], row["stored"]) == (192, 96)
    assert "96 are in" in lines[0]
    assert "not known of lfd2-ols" in lines[1]
    # Cells of the same methods in a folder beside it are what another suite's are measured by.
    beside = RunOptions("quick", tmp_path / "other", **chosen | {"methods": ["last-value"]})
    (row,), lines = dry_run(beside)
    assert row["stored"] == 0
    assert lines[1].startswith("time: about ")
    assert lines[1].endswith(f"with 2 jobs, as cells took in {tmp_path / 'out'}")
    with pytest.raises(InputError, match="holds results of the suite 'small'"):
        dry_run(RunOptions("quick", tmp_path / "out", **chosen))


def test_when_a_dry_run_is_of_the_loop_tier_then_its_trainings_are_counted(tmp_path: Path) -> None:
    (row,), lines = dry_run(RunOptions("loop-quick", tmp_path / "o", datasets=["digits-mlp-sgd"]))
    assert row["trainings"] > 100
    assert "runs here" not in row
    assert any("for the loop tier's training" in line for line in lines)


def test_when_a_budget_is_given_then_the_folder_says_so(suite: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = ["run", "--suite", suite, "--datasets", "digits-mlp-sgd", "--methods", "last-value"]
    done = CliRunner().invoke(app, [*run, "--out", str(out), "--tuning", "3", "--dry-run"])
    assert "tuning 3;" in done.output
    run_suite(RunOptions(suite, out, datasets=["digits-mlp-sgd"], methods=["last-value"], tuning=3))
    assert load_suite(str(out / "suite.toml")).tuning == 3
    for options in (["--tuning", "-1"], ["--tuning", "2", "--no-tuning"]):
        done = CliRunner().invoke(app, [*run, "--out", str(out), *options])
        assert (done.exit_code, "--tuning" in done.stderr) == (2, True)
