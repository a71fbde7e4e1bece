"""Tasks that learn from the first training runs alone: `train_runs` in a suite."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from weightcast.bench.cli import main
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.plan.fits import make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError, Trajectory
from weightcast.reports.html import render_report

SUITE = """
name = "few"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "lfd2-ols"]
train_runs = [3, 1]
tiers = ["weights"]
"""


@pytest.fixture(scope="module")
def suite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "few.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(suite_file: Path) -> Path:
    out = suite_file.parent / "out"
    assert run_suite(RunOptions(str(suite_file), out)) == {"ok": 72}
    return out


def _suite(**update: object) -> Suite:
    known = {"name": "few", "datasets": ["digits-mlp-sgd"], "methods": ["lfd2-ols"]}
    return Suite.model_validate(known | {"tiers": ["weights"]} | update).resolve()


class _Altered(RunCache):
    """The runs, one of them with another last bit."""

    def __init__(self, altered: int) -> None:
        super().__init__(None)
        self._altered = altered

    def __call__(self, dataset: str, seed: int) -> Trajectory:
        run = super().__call__(dataset, seed)
        if seed != self._altered:
            return run
        arrays = {
            info.name: np.array(run.read(info)).reshape(-1, *info.shape) for info in run.tensors
        }
        next(iter(arrays.values())).flat[0] += 1e-3
        return Trajectory.from_arrays(arrays, run.steps.tolist(), run.meta, run.tensors)


def test_when_few_runs_are_asked_for_then_they_are_the_first_and_all_else_is_the_whole_tasks() -> (
    None
):
    plan = make_plan(_suite(train_runs=[3, 1]), RunCache(None))
    by_split = {
        name: [fit.split for fit in plan if fit.place.split == name]
        for name in ("seeds", "train-3", "train-1")
    }
    assert sum(map(len, by_split.values())) == len(plan) == 12
    for name, count in (("train-3", 3), ("train-1", 1)):
        for whole, few in zip(by_split["seeds"], by_split[name], strict=True):
            assert few.train == whole.train[:count]
            assert (few.validation, few.test) == (whole.validation, whole.test)
    assert len({fit.key for fit in plan}) == 12
    assert len({fit.label for fit in plan}) == 12
    whole = make_plan(_suite(), RunCache(None))
    assert {fit.key for fit in whole} < {fit.key for fit in plan}


def test_when_a_run_that_is_not_learned_from_changes_then_only_its_own_cells_do() -> None:
    suite = _suite(train_runs=[1])
    before, after = make_plan(suite, RunCache(None)), make_plan(suite, _Altered(7))
    changed = []
    for old, new in zip(before, after, strict=True):
        learns = 7 in (*old.split.train, *old.split.validation)
        assert (old.key != new.key) == learns
        assert {seed for seed, _ in set(old.cells) ^ set(new.cells)} == (
            set(old.split.test) if learns else {7} & set(old.split.test)
        )
        changed += [old.place.split] * learns
    # Of four rotations one tests run 7 and one validates on it; two have it among their six.
    assert changed == ["seeds"] * 3 + ["train-1"]


def test_when_more_runs_are_asked_for_than_there_are_then_it_says_how_many_there_are() -> None:
    make_plan(_suite(train_runs=[6]), RunCache(None))
    with pytest.raises(InputError, match=r"digits-mlp-sgd has 6 .* asks for 7; name at most 6"):
        make_plan(_suite(train_runs=[3, 7]), RunCache(None))


@pytest.mark.parametrize("value", ["[0]", "[-1]", "[1.5]", "[true]", '["all"]', "3"])
def test_when_a_number_of_runs_is_none_then_the_suite_is_refused(
    value: str, tmp_path: Path
) -> None:
    path = tmp_path / "few.toml"
    path.write_text(SUITE.replace("[3, 1]", value), encoding="utf-8")
    with pytest.raises(InputError, match="train_runs"):
        load_suite(str(path))


def test_when_few_runs_are_learned_from_then_the_method_has_their_equations_alone(
    folder: Path,
) -> None:
    cells = load_results(folder).cells
    learned = cells[cells["method"] == "lfd2-ols"].groupby("split")
    error = learned["rel_sum"].median()
    assert set(error.index) == {"seeds", "train-1", "train-3"}
    assert error.nunique() == 3
    assert (learned["run"].apply(sorted).map(tuple) == tuple(range(12))).all()
    # A fit pays for the runs that it learned from and was validated on: 1, 3 or 6, and 3.
    spent = learned["training_runs_seconds"].median()
    assert spent["train-1"] < spent["train-3"] < spent["seeds"]
    still = cells[cells["method"] == "last-value"].groupby("split")["mae"].median()
    assert still.nunique() == 1


def test_when_a_split_is_named_on_the_command_line_then_its_fits_are_ranked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skills = {}
    for split in ("seeds", "train-1", "train-3"):
        out = tmp_path / f"{split}.csv"
        arguments = ["leaderboard", str(folder), "--split", split, "--csv", str(out)]
        monkeypatch.setattr(sys, "argv", ["weightcast", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
        skills[split] = {row["method"]: row["skill"] for row in rows}["lfd2-ols"]
    assert len(set(skills.values())) == 3
    monkeypatch.setattr(sys, "argv", ["weightcast", "leaderboard", str(folder), "--split", "train"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_when_few_runs_are_in_a_folder_then_the_report_has_a_column_for_each(folder: Path) -> None:
    page = render_report(load_results(folder))
    assert page.index("fitted on 1 training run") < page.index("fitted on 3 training runs")


def test_when_the_same_is_run_again_then_nothing_is_to_do_and_other_rotations_replace_all(
    folder: Path, suite_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_suite(RunOptions(str(suite_file), folder))
    assert "72 of 72 cells are here, 0 to run" in capsys.readouterr().err
    other = tmp_path / "other.toml"
    other.write_text(SUITE + "rotations = 3\n", encoding="utf-8")
    run_suite(RunOptions(str(other), folder))
    cells = load_results(folder).cells
    assert set(cells.groupby("split").size()) == {24}
    assert cells["rotation"].max() == 2
