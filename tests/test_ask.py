"""What the page's pickers choose from is what the rankings say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results
from weightcast.reports.sections.ask import numbers_to_ask
from weightcast.reports.view import View

RUNS = 8
AT = ("h5", "h10", "last")
METHODS = ("last-value", "x", "</script><b>")


def _results(datasets: tuple[str, ...]) -> Results:
    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        for label in METHODS:
            for run in range(RUNS):
                errors = [1.0] * 4 if label == "last-value" else random.uniform(0.1, 2, 4)
                names = ["rel_sum", *(f"rel_{at}" for at in AT)]
                rows.append(
                    {
                        "label": label, "method": label, "dataset": dataset,
                        "trained_on": dataset, "track": "main", "split": "seeds",
                        "tier": "weights", "context": 10, "rotation": run % 4, "repeat": 0,
                        "run": run, "status": "ok", "rel_sum_sample": np.nan,
                        **dict(zip(names, errors, strict=True)),
                    }
                )  # fmt: skip
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


def test_when_there_are_several_sets_then_each_and_all_of_them_can_be_picked() -> None:
    results = _results(("one", "two"))
    (tier,) = json.loads(numbers_to_ask(View(results)))["boards"]
    assert [key for key, _ in tier["sets"]] == ["", "one", "two"]
    assert [key for key, _ in tier["at"]] == ["", "h5", "h10", "last"]
    assert tier["sets"][1][1] == f"one ({RUNS} runs)"
    for place, sets in enumerate((["one", "two"], ["one"], ["two"])):
        board = rank_results(results, metric="rel_sum", datasets=sets)
        for s in board.ranking.standings:
            method = tier["methods"].index(s.method)
            whole, *alone = (tier["skills"][place][at][method] for at in range(4))
            assert whole == pytest.approx([s.skill.value, s.skill.lower, s.skill.upper], abs=1e-4)
            for found, one in zip(alone, board.at_horizons[s.method], strict=True):
                assert found[0] == pytest.approx(one.value, abs=1e-4)


def test_when_there_is_one_set_then_there_is_nothing_to_take_apart() -> None:
    (tier,) = json.loads(numbers_to_ask(View(_results(("one",)))))["boards"]
    assert [key for key, _ in tier["sets"]] == [""]
    assert len(tier["skills"]) == 1


def test_when_a_name_would_end_the_element_then_it_does_not() -> None:
    text = numbers_to_ask(View(_results(("one",))))
    assert "<" not in text
    assert METHODS[2] in json.loads(text)["boards"][0]["methods"]


def test_when_nothing_is_ranked_then_there_is_nothing_to_ask() -> None:
    results = _results(("one",))
    results.cells = results.cells[results.cells["run"] < 2]
    assert json.loads(numbers_to_ask(View(results)))["boards"] == []


def test_when_there_are_fine_tunes_then_their_track_can_be_picked_too() -> None:
    results = _results(("one", "two"))
    other = results.cells["dataset"] == "two"
    results.cells.loc[other, "track"] = "fine-tune"
    boards = json.loads(numbers_to_ask(View(results)))["boards"]
    assert [(one["track"], one["tier"], one["metric"][0]) for one in boards] == [
        ("main", "weights", "rel_sum"),
        ("fine-tune", "weights", "rel_sum"),
    ]
    for one, dataset, track in zip(boards, ("one", "two"), ("main", "fine-tune"), strict=True):
        board = rank_results(results, metric="rel_sum", track=track, datasets=[dataset])
        for s in board.ranking.standings:
            found = one["skills"][0][0][one["methods"].index(s.method)]
            assert found == pytest.approx([s.skill.value, s.skill.lower, s.skill.upper], abs=1e-4)


def test_when_more_was_measured_then_it_can_be_picked_after_the_headline() -> None:
    results = _results(("one", "two"))
    random = np.random.default_rng(2)
    results.cells["rmse"] = random.uniform(0.1, 2, len(results.cells))
    boards = json.loads(numbers_to_ask(View(results)))["boards"]
    assert [one["metric"][0] for one in boards] == ["rel_sum", "rmse"]
    assert boards[0]["skills"] != boards[1]["skills"]
