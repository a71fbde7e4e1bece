"""The report's first lines say what was asked and found, how surely, and what would have shown."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weightcast.bench.plan.method_facts import facts_of
from weightcast.bench.results.tables import Results
from weightcast.reports.sections.answers import answers, asked
from weightcast.reports.view import View

AT = ("h5", "h10", "last")
Errors = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


def _results(weights: Errors, function: Errors | None = None) -> Results:
    """Make cells on one data set; errors of a method are (runs,), relative to the last value's."""
    rows: list[dict[str, Any]] = []
    for tier, found in (("weights", weights), ("function", function or {})):
        for label, errors in found.items():
            for run, error in enumerate(errors):
                names = [f"rel_{at}" for at in AT] if tier == "weights" else []
                names += [f"train_loss_{at}" for at in AT] if tier == "function" else []
                rows.append(
                    {
                        "label": label, "method": label, "dataset": "toy", "trained_on": "toy",
                        "track": "main", "split": "seeds", "tier": tier, "context": 10,
                        "rotation": run % 4, "repeat": 0, "run": run, "status": "ok",
                        "rel_sum_sample": np.nan, "suite": "toys", "coordinates": 9,
                        "rel_sum": error if tier == "weights" else np.nan,
                        **dict.fromkeys(names, error),
                    }
                )  # fmt: skip
    table, empty = pd.DataFrame(rows), pd.DataFrame()
    methods = {
        (label, "{}"): facts for label in weights if (facts := facts_of(label, "{}")) is not None
    }
    return Results(Path("here"), table, empty, empty, {}, [], [], {}, {}, [], "", methods=methods)


def _spread(level: float, seed: int, runs: int = 40, spread: float = 0.1) -> Any:
    return level * np.exp(np.random.default_rng(seed).normal(0, spread, runs))


def test_when_one_is_clearly_ahead_then_the_answer_has_its_skill_and_what_would_have_shown() -> (
    None
):
    view = View(_results({"last-value": np.ones(40), "a": _spread(0.5, 1), "b": _spread(0.7, 2)}))
    (said,) = answers(view)
    first = view.ranked.board.ranking.standings[0]  # type: ignore[union-attr]
    assert said.startswith("In weights, over all horizons, on toy (40 runs), a leads with a skill ")
    assert f"+{first.skill.value:.2f} [+{first.skill.lower:.2f}, +{first.skill.upper:.2f}]" in said
    assert "not clearly apart" not in said
    assert "in 80 of 100 such benchmarks" in said
    assert asked(view).startswith(
        "3 methods forecast the weights of 40 training runs of 1 data set (toy) from what 10 "
        "snapshots after the start show; none"
    )
    view.results.curves |= {("a", "toy", 10): np.ones((40, 5)), ("b", "toy", 10): np.ones((40, 9))}
    assert "after the start show, up to 5 or 9 snapshots ahead; none was" in asked(view)


def test_when_two_are_alike_then_none_is_called_the_better() -> None:
    view = View(_results({"last-value": np.ones(40), "a": _spread(0.5, 1), "b": _spread(0.5, 2)}))
    (said,) = answers(view)
    assert any(f"not clearly apart from {name}" in said for name in ("a", "b"))


def test_when_nothing_beats_the_last_value_then_the_answer_is_that() -> None:
    view = View(_results({"last-value": np.ones(40), "a": _spread(1.5, 1)}))
    (said,) = answers(view)
    assert "no method does better than repeating the last observed weights" in said


def test_when_a_reference_is_first_then_the_first_forecaster_is_named_beside_it() -> None:
    errors = {"last-value": np.ones(40), "line-search": _spread(0.4, 1), "a": _spread(0.6, 2)}
    view = View(_results({"last-value": np.ones(40), "a": _spread(0.3, 3)} | errors, errors))
    _, said = answers(view)
    assert "a leads the forecasters with a skill of" in said
    assert "behind the reference line-search with +0.6" in said


def test_when_another_leads_in_function_then_the_nearest_in_weights_is_told_too() -> None:
    one = np.ones(40)
    near = {"last-value": one, "a": _spread(0.3, 1), "b": _spread(0.7, 2)}
    works = {"last-value": one, "a": _spread(2.0, 3), "b": _spread(0.6, 4)}
    weights, function = answers(View(_results(near, works)))
    assert "a leads with" in weights
    assert "b leads with" in function
    assert re.search(r"; a, nearest in weights, has −(0\.9|1\.0)\d \[", function)


def test_when_a_reference_leads_then_what_is_seen_is_measured_from_the_first_forecaster() -> None:
    errors = {"last-value": np.ones(40), "line-search": _spread(0.4, 1), "a": _spread(0.6, 2)}
    (said,) = answers(View(_results(errors)))
    assert re.search(r"; an error [\d.]+ % above that of a would have been told from it", said)


def test_when_runs_are_too_few_for_the_methods_then_no_size_is_claimed() -> None:
    errors = {f"m{number:02d}": _spread(0.4 + 0.03 * number, number, 12) for number in range(15)}
    (said,) = answers(View(_results({"last-value": np.ones(12)} | errors)))
    assert "with so few runs no difference from m00 would have been told" in said
    assert "80 of 100" not in said


def test_when_there_is_one_method_then_nothing_is_said_of_others() -> None:
    (said,) = answers(View(_results({"last-value": np.ones(40)})))
    assert "apart" not in said
    assert "would have been" not in said


def test_when_the_first_is_worse_on_some_data_sets_then_that_is_said() -> None:
    one = np.ones(40)
    parts = [
        _results({"last-value": one, "a": _spread(level, seed)})
        for seed, level in enumerate((0.2, 0.3, 1.4))
    ]
    named = zip("xyz", parts, strict=True)
    cells = pd.concat([part.cells.assign(dataset=n, trained_on=n) for n, part in named])
    (said,) = answers(View(replace(parts[0], cells=cells)))
    assert "a leads with a skill" in said
    assert "and worse than last-value on 1 of 3 data sets" in said
