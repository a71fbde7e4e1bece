"""Tracks apart from the headline: fine-tunes and shifts, from the run to the report."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightcast.bench.plan.sharing import APART, PARTLY, SHARED, UNKNOWN, find_sharing, traits
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results, load_results
from weightcast.datasets import InputError, Metadata, Trajectory, get_dataset
from weightcast.datasets.admission.lineage import lineage
from weightcast.datasets.files.stacked import write_stacked
from weightcast.reports.html import render_report

TIED = "tied-mlp"  # fine-tunes of one network, as far as anybody can see
PLUGIN = f"""
from weightcast.datasets import RecordedDataSet, register_dataset

register_dataset(
    RecordedDataSet("{TIED}", tuple(range(6)), "one start", "digits", "BSD-3-Clause", "fine-tune")
)
"""
SUITE = f"""
name = "tracks"
datasets = ["{TIED}", "digits-mlp-sgd"]
methods = ["last-value", "lfd2-ols", "mean-displacement"]
windows = ["late"]
rotations = 3
jobs = 2

[[shifts]]
track = "shift-optimizer"
train = "digits-mlp-adam"
test = "digits-mlp-sgd"

[[shifts]]
track = "shift-cadence"
train = "{TIED}"
test = "{TIED}"
every = 2
"""


def _weightcast(*arguments: object) -> str:
    """Run the command line in a process of its own, where a plugin may register what it likes."""
    done = subprocess.run(
        [sys.executable, "-c", "from weightcast.bench.cli import main; main()",
         *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _record_tied(folder: Path) -> None:
    """Write runs that start together and stay near one another, of networks that work."""
    first = get_dataset("digits-mlp-sgd").run(0)
    for seed in range(6):
        own = get_dataset("digits-mlp-sgd").run(seed + 1)
        arrays = {}
        for info in first.tensors:
            moved = own.read(info) - own.read(info, [0])
            arrays[info.name] = (first.read(info) + np.float32(0.1) * moved).reshape(
                -1, *info.shape
            )
        meta = replace(first.meta, dataset=TIED, seed=seed)
        run = Trajectory.from_arrays(arrays, first.steps.tolist(), meta, first.tensors)
        write_stacked(run, folder / TIED / f"{seed}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("tracks")
    _record_tied(here / "data")
    (here / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    (here / "suite.toml").write_text(SUITE, encoding="utf-8")
    said = _weightcast(
        "run", "--suite", here / "suite.toml", "--plugin", here / "plugin.py",
        "--data", here / "data", "--out", here / "out",
    )  # fmt: skip
    assert said.strip() == "no failed cells"
    return here / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return load_results(folder)


def test_when_fine_tunes_are_run_then_they_are_ranked_apart_from_the_headline(
    results: Results,
) -> None:
    for tier in ("weights", "function"):
        main = rank_results(results, tier=tier)
        assert main.ranking.tasks == ["digits-mlp-sgd, context 10"]
        apart = rank_results(results, tier=tier, track="fine-tune")
        assert apart.ranking.tasks == [f"{TIED}, context 10"]
        assert apart.ranking.standings[0].method == "mean-displacement"
    assert rank_results(results, split="late").ranking.tasks == main.ranking.tasks
    apart = rank_results(results, track="fine-tune")
    skill = {s.method: s.skill.value for s in apart.ranking.standings}
    assert skill["mean-displacement"] > 0.6
    skill = {s.method: s.skill.value for s in rank_results(results).ranking.standings}
    assert skill["mean-displacement"] < 0


def test_when_gates_are_taken_then_a_shared_start_is_no_fault_of_a_fine_tune(
    results: Results,
) -> None:
    names = {
        name: {gate["name"] for gate in results.gates[name]} for name in ("digits-mlp-sgd", TIED)
    }
    assert names["digits-mlp-sgd"] - names[TIED] == {"no-shared-start"}


def test_when_a_fine_tune_hardly_moves_then_it_is_ranked_and_that_is_said(
    results: Results,
) -> None:
    gates = {
        name: [gate | {"passed": False} if gate["name"] == "movement" else gate for gate in found]
        for name, found in results.gates.items()
    }
    still = replace(results, gates=gates)
    board = rank_results(still, track="fine-tune")
    assert any(f"{TIED} is ranked all the same: its gate movement" in n for n in board.notes)
    with pytest.raises(InputError, match="digits-mlp-sgd is left out"):
        rank_results(still)


def test_when_only_fine_tunes_are_here_then_the_headline_says_what_is(results: Results) -> None:
    cells = results.cells
    alone = replace(results, cells=cells[cells["track"] == "fine-tune"].reset_index(drop=True))
    with pytest.raises(InputError, match="nothing here is of the track main; there is fine-tune"):
        rank_results(alone)
    page = render_report(alone)
    assert "Fine-tunes: weights" in page
    assert "Nothing is ranked in the weights tier: nothing here is of the track main" in page


def test_when_a_track_is_stored_then_what_its_runs_share_was_looked_up(results: Results) -> None:
    found = results.sharing
    assert {place[2] for place in found} == {"fine-tune", "shift-optimizer", "shift-cadence"}
    together = found[TIED, TIED, "fine-tune", "seeds"]
    assert {name for name, word in together.items() if word == SHARED} >= {
        "recipe", "start", "tensors", "optimizer", "cadence",
    }  # fmt: skip
    assert found[TIED, TIED, "fine-tune", "late"] == together
    thinned = found[TIED, TIED, "shift-cadence", "seeds"]
    assert thinned == together | {"cadence": APART}
    other = found["digits-mlp-sgd", "digits-mlp-adam", "shift-optimizer", "seeds"]
    assert {name: other[name] for name in ("recipe", "start", "optimizer")} == dict.fromkeys(
        ("recipe", "start", "optimizer"), APART
    )
    assert (other["tensors"], other["cadence"]) == (SHARED, SHARED)


def test_when_a_track_is_ranked_on_the_command_line_then_it_says_what_is_shared(
    folder: Path,
) -> None:
    said = _weightcast("leaderboard", folder, "--track", "fine-tune")
    assert "mean-displacement (reference)" in said
    (line,) = [line for line in said.splitlines() if "training and test runs" in line]
    assert line.startswith(f"note: {TIED}: training and test runs share recipe, ")
    assert "initial state" in line.partition("; ")[0]
    said = _weightcast("leaderboard", folder, "--track", "shift-optimizer")
    assert "digits-mlp-adam → digits-mlp-sgd: training and test runs share" in said
    assert "; not recipe, initial state, optimizer" in said
    assert rank_results(load_results(folder)).notes == []


def test_when_reported_then_each_track_has_its_place(folder: Path, results: Results) -> None:
    path = Path(_weightcast("report", folder).strip())
    page = path.read_text(encoding="utf-8")
    headline = page.partition('id="leaderboard"')[2].partition("</section>")[0]
    tracks = page.partition('id="tracks"')[2].partition("</section>")[0]
    assert TIED not in headline
    assert "<small>reference</small>" in headline
    for text in ("Fine-tunes: weights", "Fine-tunes: function", TIED, "fine-tune, late"):
        assert text in tracks
    assert "What training and test runs share" in tracks
    assert "<small>track fine-tune</small>" in page
    # Another process hashes strings in another way; nothing's order may hang on that.
    assert render_report(results) == page


def test_when_what_is_shared_was_not_noted_then_that_is_said(results: Results) -> None:
    older = replace(results, sharing={})
    notes = rank_results(older, track="fine-tune").notes
    assert f"{TIED}: what training and test runs share was not noted with these results" in notes
    assert "not noted" in render_report(older)


def test_when_traits_are_compared_then_partly_and_unknown_have_their_words() -> None:
    run = get_dataset("digits-mlp-sgd").run(0)
    known = traits(run, lineage(run)) | {"data": frozenset({"a"})}
    meta = replace(run.meta, recipe={}, optimizer="unknown")
    nameless = Trajectory.from_arrays({}, run.steps.tolist(), meta)
    unknown = traits(nameless, lineage(run))
    assert (unknown["recipe"], unknown["optimizer"]) == (frozenset(), frozenset())
    other = known | {"data": frozenset({"b"})}
    found = find_sharing([([known], [known, other])])
    assert (found["data"], found["recipe"]) == (PARTLY, SHARED)
    assert find_sharing([([known], [other])])["data"] == APART
    assert find_sharing([([known], [unknown])])["recipe"] == UNKNOWN
    assert find_sharing([([unknown], [known])])["recipe"] == UNKNOWN


def test_when_only_the_head_is_drawn_anew_then_the_start_is_partly_shared() -> None:
    def fine_tune(seed: int, head: float) -> Trajectory:
        random = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
        arrays = {
            "encoder": random,
            "head": random * np.float32(head),
            "bias": np.zeros((3, 5), np.float32),
        }
        return Trajectory.from_arrays(arrays, range(3), Metadata("toy", seed))

    first, second = (traits(run, lineage(run)) for run in (fine_tune(0, 1.0), fine_tune(1, 2.0)))
    assert find_sharing([([first], [second])])["start"] == PARTLY
    elsewhere = [get_dataset("digits-mlp-sgd").run(seed) for seed in range(2)]
    first, second = (traits(run, lineage(run)) for run in elsewhere)
    assert find_sharing([([first], [second])])["start"] == APART


def test_when_a_shift_is_between_fine_tunes_then_their_common_start_is_no_reason_to_refuse(
    results: Results,
) -> None:
    cells = results.cells[results.cells["track"] == "shift-cadence"]
    assert set(cells["dataset"]) == {TIED}
    assert (cells["status"] == "ok").all()
