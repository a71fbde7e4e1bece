"""A reader's results held against the tables that were released."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from weightcast.bench.cli.app import app
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.released_tables import hold_against, is_released
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError

RELEASED = Path(__file__).parents[1] / "reports" / "published" / "quick"
METHODS = ["last-value", "damped-line", "lfd2-ols", "line-search"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mine") / "out"
    run_suite(RunOptions("quick", out, methods=METHODS, datasets=["digits-mlp-sgd"]))
    return out


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RELEASED, tmp_path / "released"))


def test_when_the_same_runs_are_forecast_again_then_the_released_numbers_come_out(
    folder: Path,
) -> None:
    found = hold_against(RELEASED, load_results(folder))
    assert {(one.tier, one.method) for one in found} == {
        (tier, method) for tier in ("weights", "function") for method in METHODS[1:]
    }
    assert {one.task for one in found} == {"digits-mlp-sgd, context 10"}
    assert {one.verdict for one in found} == {"same"}
    only = hold_against(RELEASED, load_results(folder), "function")
    assert {one.tier for one in only} == {"function"}


@pytest.mark.parametrize(("factor", "verdict"), [(1.002, "inside"), (0.5, "outside")])
def test_when_a_released_number_is_another_then_the_own_interval_decides(
    factor: float, verdict: str, folder: Path, tables: Path
) -> None:
    table = pd.read_csv(tables / "function.csv")
    column = "error of digits-mlp-sgd, context 10"
    table.loc[table["method"] == "lfd2-ols", column] *= factor
    table.to_csv(tables / "function.csv", index=False)
    found = hold_against(tables, load_results(folder), "function")
    (other,) = [one for one in found if one.verdict != "same"]
    assert (other.method, other.verdict) == ("lfd2-ols", verdict)
    assert (other.skill_lower <= other.released_skill <= other.skill_upper) == (verdict == "inside")


def test_when_typed_then_it_is_counted_and_a_worse_number_can_fail(
    folder: Path, tables: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["compare", str(RELEASED), str(folder)])
    assert done.exit_code == 0, done.output
    assert re.search(r"^(\d+) released numbers held against .*: \1 same$", done.stdout)
    table = pd.read_csv(tables / "function.csv")
    table.loc[table["method"] == "line-search", "error of digits-mlp-sgd, context 10"] *= 0.5
    table.to_csv(tables / "function.csv", index=False)
    words = ["compare", str(tables), str(folder), "--fail-on-regression", "--json"]
    done = CliRunner().invoke(app, [*words, "--csv", str(tmp_path / "held.csv")])
    assert done.exit_code == 1
    held = json.loads(done.stdout)["held"]
    assert [one["method"] for one in held if one["verdict"] == "outside"] == ["line-search"]
    assert len(pd.read_csv(tmp_path / "held.csv")) == len(held)


def test_when_folders_hold_other_things_then_that_is_said(
    folder: Path, tmp_path: Path, weightcast: Callable[..., object]
) -> None:
    assert is_released(RELEASED)
    assert not is_released(folder)
    assert not is_released(tmp_path)
    with pytest.raises(InputError, match="no method and data set in common"):
        hold_against(RELEASED.parent / "fine-tunes", load_results(folder))
    said = CliRunner().invoke(app, ["leaderboard", str(RELEASED)]).stderr
    assert "make one with: weightcast run --suite quick\n" in said  # and not into it
    said = CliRunner().invoke(app, ["leaderboard", str(RELEASED / "function.csv")]).stderr
    assert "is a ranking already" in said
