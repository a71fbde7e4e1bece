"""Skills data set by data set, from the smallest network to the largest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import Results
from weightcast.reports.numbers import count, fixed
from weightcast.reports.sections.sizes import FEWEST, sizes
from weightcast.reports.view import View

RUNS = 8
SIZES = {"wide-sgd": 40_000, "narrow-adam": 300, "middle": 2_000, "huge-sgd": 70_000_000}
AT = ("h5", "h10", "last")


def _results(datasets: dict[str, int]) -> Results:
    random = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    for dataset, size in datasets.items():
        for label in ("last-value", "x"):
            for run in range(RUNS):
                errors = random.uniform(0.1, 2, 1 + len(AT)) if label == "x" else [1.0] * 4
                names = ["rel_sum", *(f"rel_{at}" for at in AT)]
                rows.append(
                    {
                        "label": label, "method": label, "dataset": dataset, "params": "{}",
                        "trained_on": dataset, "track": "main", "split": "seeds",
                        "tier": "weights", "context": 10, "rotation": run % 4, "repeat": 0,
                        "run": run, "status": "ok", "rel_sum_sample": np.nan,
                        "coordinates": size, **dict(zip(names, errors, strict=True)),
                    }
                )  # fmt: skip
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


def _texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_when_data_sets_differ_in_size_then_they_stand_in_its_order() -> None:
    view = View(_results(SIZES))
    pictures = sizes(view, view.ranked.board)
    headings = [picture.heading for picture in pictures]
    assert headings == ["weights, all horizons of the ranking", "weights, at 5", "weights, at last"]
    for picture in pictures:
        said = _texts(picture.svg)
        shown = [text for text in said if text in {count(size) for size in SIZES.values()}]
        assert shown == [count(size) for size in sorted(SIZES.values())]
        assert f"{RUNS} runs each" in picture.caption


def test_when_drawn_then_skills_are_those_of_each_data_set_alone() -> None:
    results = _results(SIZES)
    view = View(results)
    whole, _, last = sizes(view, view.ranked.board)
    for name in SIZES:
        board = rank_results(results, metric="rel_sum", datasets=[name])
        alone = next(s for s in board.ranking.standings if s.method == "x")
        assert fixed(alone.skill.value, signed=True) in _texts(whole.svg)
        at_last = board.at_horizons["x"][-1]
        assert fixed(at_last.value, signed=True) in _texts(last.svg)


@pytest.mark.parametrize("few", range(1, FEWEST))
def test_when_data_sets_are_few_then_nothing_is_said_of_size(few: int) -> None:
    view = View(_results(dict(list(SIZES.items())[:few])))
    assert sizes(view, view.ranked.board) == []
    assert sizes(view, None) == []


def test_when_names_are_long_then_neighbours_do_not_run_into_each_other() -> None:
    names = [f"fashion-mlp-batch{n}-sgd" for n in range(1024, 1024 + FEWEST)]
    view = View(_results(dict.fromkeys(names, 300)))
    for picture in sizes(view, view.ranked.board):
        said = _texts(picture.svg)
        for name in names:
            assert name not in said
            *head, _ = name.split("-")
            assert head[-1] in said
        assert "fashion-mlp" in said
