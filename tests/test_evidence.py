"""`weightcast forecast` says whether to use its forecast: methods tried, and the verdict."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from weightcast.bench.commands.evidence import trials
from weightcast.bench.commands.evidence.cases import FIT_RUNS, THIS_RUN, find_cases, up_to
from weightcast.bench.commands.evidence.gather import Evidence
from weightcast.bench.commands.evidence.released import nearest_rows
from weightcast.bench.commands.evidence.said import notes, sentence, table, to_json
from weightcast.bench.commands.evidence.verdict import Score, decide
from weightcast.bench.commands.fit_runs import NamedRun, share_weights
from weightcast.bench.commands.forecast import forecast_run
from weightcast.bench.commands.forecast_asked import ask
from weightcast.datasets import Metadata, TensorInfo, Trajectory, get_dataset
from weightcast.datasets.files.stacked import write_stacked

ROOT = Path(__file__).parents[1]
SET = "digits-mlp-sgd"

Runs = list[Path]


@pytest.fixture(name="shipped", scope="module")
def _shipped(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("shipped")
    for seed in range(4):
        write_stacked(get_dataset(SET).run(seed), folder / f"{seed}.safetensors")
    return sorted(folder.iterdir())


@pytest.fixture(name="toys")
def _toys(tmp_path: Path, toy_run: Callable[..., Trajectory]) -> Runs:
    """Runs that move steadily and shake a little, of no known recipe."""
    paths = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        steps = 1 + 0.1 * random.standard_normal((31, 5))
        paths.append(tmp_path / f"toy{seed}.safetensors")
        write_stacked(toy_run(steps.cumsum(axis=0), seed), paths[-1])
    return paths


def _evidence(path: Path, method: str, horizon: int, **options: Any) -> Evidence:
    out = path.parent / "made" / "next.safetensors"
    found = forecast_run(path, method, horizon, out, **{"backtests": 4, **options}).evidence
    assert found is not None
    return found


def _asked(paths: Runs, method: str, horizon: int, context: int | None = None) -> Any:
    from weightcast.datasets import open_trajectory

    own, *others = (NamedRun(path, open_trajectory(path)) for path in paths)
    return ask(own, method, horizon, others, context)


def test_when_rankings_are_released_then_the_rows_that_travel_are_theirs() -> None:
    written = subprocess.run(
        [sys.executable, ROOT / "reports" / "published" / "rows.py"],
        capture_output=True, text=True, encoding="utf-8", check=True,
    ).stdout  # fmt: skip
    there = ROOT / "bench" / "commands" / "evidence" / "released.csv"
    assert there.read_text(encoding="utf-8") == written, "run reports/published/rows.py again"


def test_when_the_run_goes_on_beyond_the_context_then_that_forecast_is_held_against_it(
    shipped: Runs,
) -> None:
    out = shipped[0].parent / "held-out" / "next.safetensors"
    found = forecast_run(shipped[0], "lfd2-ols", 20, out, fit=shipped[1:], context=10, backtests=0)
    assert found.evidence is not None
    run = get_dataset(SET).run(0)
    weights, last, truth = load_file(out), run.snapshot(10), run.snapshot(30)

    def away(one: Any) -> float:
        return math.sqrt(sum(((np.asarray(one[n]) - truth[n]) ** 2).sum() for n in truth))

    (trial,) = (t for t in found.evidence.trials if t.method == "lfd2-ols")
    assert trial.case.own_forecast
    assert trial.rel_final == pytest.approx(away(weights) / away(last), rel=1e-5)
    assert trial.train_loss == pytest.approx(found.train_loss_forecast, rel=1e-6)
    ((_, reached),) = found.evidence.reached
    assert reached == pytest.approx(run.meta.train_loss[30], rel=1e-4)
    last_value = next(t for t in found.evidence.trials if t.method == "last-value")
    assert (last_value.rel_final, last_value.rel_sum) == (1.0, 1.0)
    assert last_value.train_loss == pytest.approx(run.meta.train_loss[10], rel=1e-4)
    # One origin of one run is an anecdote.
    assert found.evidence.verdict.word == "no evidence"
    assert "three other runs with --fit" in sentence(found.evidence)


def test_when_fit_runs_are_given_then_each_is_forecast_by_what_was_fitted_on_the_others(
    shipped: Runs,
) -> None:
    found = _evidence(shipped[0], "lfd2-ols", 20, fit=shipped[1:], context=10)
    assert (found.metric, found.verdict.word, found.verdict.runs) == ("train_loss", "use", 4)
    ratio = found.verdict.ratio
    assert 0.5 < ratio.lower < ratio.value < ratio.upper < 0.8
    said = sentence(found)
    assert said.startswith(
        "Use it: 20 snapshots (900 steps) ahead the train loss of lfd2-ols is "
        f"{ratio.value:.2f} [{ratio.lower:.2f}, {ratio.upper:.2f}] of the last value's"
    )
    assert "over 4 runs" in said
    assert "on digits-mlp-sgd (suite quick, context 10) 0.64 in error in weights" in said
    for trial in found.trials:
        assert trial.case.run.path not in [run.path for run in trial.case.train]
        assert not trial.why
    shown = table(found)
    assert [row["method"] for row in shown] == 2 * [
        "last-value", "lfd2-ols", "damped-line", "line-search", "(training itself)",
    ]  # fmt: skip
    assert {row["tried on"] for row in shown} == {"1 origin of this run", "3 fit runs"}
    plain = json.loads(json.dumps(to_json(found)))
    assert (plain["verdict"], plain["runs"]) == ("use", 4)
    assert len(plain["trials"]) == 16
    rows = {(row["dataset"], row["tier"]) for row in plain["benchmark"]}
    assert rows == {(SET, "weights"), (SET, "function")}


def test_when_there_is_one_run_then_its_own_past_is_forecast_and_no_interval_is_claimed(
    shipped: Runs,
) -> None:
    found = _evidence(shipped[0], "dmd", 10)
    assert [case.origin for case, _ in found.reached] == [50, 40, 30, 20]
    assert (found.verdict.word, found.verdict.better, found.verdict.origins) == ("use", 4, 4)
    assert not found.verdict.ratio.bounded
    said = sentence(found)
    assert "at 4 origins of this one run, and origins of one run are not independent" in said
    assert "interval over" not in said
    assert "line-search did better at" in said


def test_when_a_method_makes_it_worse_then_it_is_not_to_be_used(
    tmp_path: Path, toy_run: Callable[..., Trajectory]
) -> None:
    path = tmp_path / "walk.safetensors"
    write_stacked(toy_run(np.random.default_rng(0).standard_normal((31, 9)).cumsum(axis=0)), path)
    found = _evidence(path, "last-two-line", 5)
    assert found.verdict.word == "do not use"
    assert sentence(found).startswith("Do not use it: 5 snapshots (5 steps) ahead the error in ")


def test_when_the_run_has_no_recipe_then_weights_decide_and_the_loss_is_said_to_be_unknown(
    toys: Runs,
) -> None:
    found = _evidence(toys[0], "last-two-line", 5)
    assert (found.metric, found.verdict.word) == ("rel_final", "use")
    said = sentence(found)
    assert said.startswith("Measure its loss before you use it: 5 snapshots (5 steps) ahead ")
    assert any("no recipe" in note for note in notes(found))
    assert "the benchmark has" not in said
    assert any("measured and line-search not tried: it has no recipe" in n for n in notes(found))
    assert "line-search" not in [row["method"] for row in table(found)]
    assert {"train loss", "of last value's"}.isdisjoint(table(found)[0])


def test_when_there_are_no_runs_to_fit_on_then_damped_line_is_tuned_on_the_context(
    toys: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _evidence(toys[0], "damped-line", 5)
    assert "on the last third of the run's own context" in capsys.readouterr().err
    mine = [t for t in found.trials if t.method == "damped-line"]
    beside = [t for t in _evidence(toys[0], "dmd", 5).trials if t.method == "damped-line"]
    assert [t.rel_sum for t in mine] == [t.rel_sum for t in beside]
    assert all(t.rel_final is not None and t.rel_final < 0.5 for t in mine)


def test_when_nothing_can_be_tried_then_there_is_no_evidence_and_what_would_be_is_said(
    toys: Runs,
) -> None:
    found = _evidence(toys[0], "ar1", 29)
    assert (found.verdict.word, found.trials) == ("no evidence", ())
    assert "--horizon 7 would have three origins" in sentence(found)
    assert len(_evidence(toys[0], "ar1", 7).reached) == 3
    assert _evidence(toys[0], "ar1", 7, backtests=0).trials == ()


def test_when_measuring_is_not_asked_for_then_the_losses_are_left_out(shipped: Runs) -> None:
    found = _evidence(shipped[0], "ar1", 10, measure=False, backtests=1)
    assert found.metric == "rel_final"
    assert all(trial.train_loss is None for trial in found.trials)
    assert any("--no-measure" in note for note in notes(found))


def test_when_a_method_takes_long_for_each_coordinate_then_a_sample_is_tried(
    toys: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SAMPLE", 3)
    found = _evidence(toys[0], "theta", 3, context=12, backtests=1)
    assert (found.coordinates, found.of_coordinates) == (3, 5)
    assert any("on a sample of 3 of 5 coordinates" in note for note in notes(found))
    assert all(t.rel_final is not None for t in found.trials if t.method == "theta")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_when_cases_are_found_then_none_learns_from_the_run_that_it_forecasts(
    toys: Runs, count: int
) -> None:
    asked = _asked(toys, "lfd2-ols", 5, context=20)
    cases = find_cases(asked, count)
    assert [c.origin for c in cases if c.where == THIS_RUN] == [20, 15, 10, 5][: count + 1]
    fit_runs = [c for c in cases if c.where == FIT_RUNS]
    assert len(fit_runs) == (5 if count else 0)
    for case in cases:
        assert all(share_weights(case.run, other) is None for other in case.train)
    folds = {tuple(run.path for run in case.train) for case in fit_runs}
    assert len(folds) == min(count, 5)


def test_when_two_fit_runs_share_weights_then_they_are_left_out_together_and_count_once(
    toys: Runs, toy_run: Callable[..., Trajectory]
) -> None:
    from weightcast.datasets import open_trajectory

    run = open_trajectory(toys[1])
    values = np.concatenate([run.read(info) for info in run.tensors], axis=1)
    values[25:] += 1.0  # a branch of run 1
    write_stacked(toy_run(values, 9), toys[2])
    cases = [c for c in find_cases(_asked(toys, "lfd2-ols", 5, 20), 5) if c.where == FIT_RUNS]
    one, two = (next(c for c in cases if c.run.path == path) for path in toys[1:3])
    assert one.unit == two.unit
    assert {run.path for run in one.train} == set(toys[3:])
    assert len({case.unit for case in cases}) == 4


def test_when_a_run_is_cut_at_an_origin_then_nothing_after_it_is_there(toys: Runs) -> None:
    run = _asked(toys[:1], "ar1", 5).own.run
    seen = up_to(run, 12)
    assert (seen.n_snapshots, seen.steps[-1]) == (13, run.steps[12])
    assert len(seen.meta.train_loss) == 13
    assert len(seen.meta.learning_rates) == run.steps[12]
    with pytest.raises(IndexError):
        seen.read(seen.tensors[0], [13])


def test_when_what_came_later_is_other_then_earlier_trials_are_the_same(
    toys: Runs, toy_run: Callable[..., Trajectory]
) -> None:
    before = _evidence(toys[0], "ar1", 5, context=15, backtests=2)
    run = _asked(toys[:1], "ar1", 5).own.run
    values = np.concatenate([run.read(info) for info in run.tensors], axis=1)
    values[16:] *= -3.0
    write_stacked(toy_run(values, 0), toys[0])
    after = _evidence(toys[0], "ar1", 5, context=15, backtests=2)
    for one, other in zip(before.trials, after.trials, strict=True):
        same = (one.rel_final, one.rel_sum) == (other.rel_final, other.rel_sum)
        assert same == (one.case.origin < 15 or one.method == "last-value" or bool(one.why))


def test_when_the_sentence_and_table_are_printed_then_they_follow_the_file(
    shipped: Runs, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "weightcast.bench", "forecast", shipped[0], "--method",
            "dmd", "--horizon", "12", "--out", tmp_path / "next.safetensors", "--backtests", "3",
        ],
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, header, *rows, last = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path / 'next.safetensors'}: dmd, ")
    assert header.split()[:3] == ["tried", "on", "method"]
    assert len(rows) == 5
    assert last.startswith(("Use it: ", "Do not use it: ", "No evidence either way: "))


@pytest.mark.parametrize(
    ("kinds", "optimizer", "sets"),
    [
        (["conv", "linear"], "sgd", {"digits-cnn-sgd"}),
        (["conv", "linear"], "AdamW", {"digits-cnn-adam"}),
        (["attention", "linear"], "unknown", {"digits-transformer-sgd", "digits-transformer-adam"}),
        (["linear"], "sgd", {"digits-mlp-sgd", "fashion-mlp-sgd"}),
        (["recurrent"], "sgd", set()),
    ],
)
def test_when_rows_of_the_benchmark_are_named_then_they_are_of_the_nearest_sets(
    kinds: list[str], optimizer: str, sets: set[str]
) -> None:
    arrays = {str(i): np.zeros((2, 1), np.float32) for i in range(len(kinds))}
    infos = [TensorInfo(name, (1,), kind) for name, kind in zip(arrays, kinds, strict=True)]
    run = Trajectory.from_arrays(arrays, [0, 1], Metadata("mine", 0, optimizer=optimizer), infos)
    assert {row.dataset for row in nearest_rows(run, "lfd2-ols")} == sets
    assert nearest_rows(run, "lfd2-ols") == nearest_rows(run, "lfd2-ols(anything=1)")
    own = replace(run.meta, dataset="digits-mlp-adam")
    named = Trajectory.from_arrays(arrays, [0, 1], own, infos)
    assert {row.dataset for row in nearest_rows(named, "dmd")} == {"digits-mlp-adam"}


@given(st.lists(st.tuples(st.floats(0.02, 50.0), st.integers(0, 5), st.booleans()), max_size=12))
def test_when_scores_are_decided_then_the_word_is_no_bolder_than_they_are(
    drawn: list[tuple[float, int, bool]],
) -> None:
    # Of other runs there are cases at the same task only.
    scores = [Score(ratio, unit, same or unit > 0) for ratio, unit, same in drawn]
    found = decide(scores)
    assert decide(scores[::-1]).word == found.word
    if len(scores) < 3:
        assert found.word == "no evidence"
    if found.word == "use":
        assert any(score.ratio < 1 for score in scores)
        assert not (found.by_runs and found.ratio.upper >= 1)
    worse = [replace(score, ratio=score.ratio * 1.5) for score in scores]
    if found.word == "do not use" and found.lowest > 1.01:
        assert decide(worse).word != "use"
    if found.by_runs:
        assert found.ratio.lower <= found.ratio.value <= found.ratio.upper
