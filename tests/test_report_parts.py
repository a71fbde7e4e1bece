"""The report's parts that compute something."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from weightcast.bench.estimate import Estimate
from weightcast.bench.privacy import without_folders
from weightcast.reports.labels import short, spread
from weightcast.reports.numbers import fixed, interval, memory, number, plural, seconds
from weightcast.reports.palette import looks
from weightcast.reports.plots.compute import Cost, pareto_front
from weightcast.reports.plots.function import Outcome, rank_correlation
from weightcast.reports.plots.horizon import median_curve
from weightcast.reports.sections.failures import count_statuses, failed_cells, group_failures
from weightcast.reports.sections.function import batch_norm_note


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (-0.10649, "−0.106"),
        (12345.6, "12\u202f346"),
        (1.34e32, "1.34×10³²"),
        (2e-7, "2.00×10⁻⁷"),
        (math.nan, "—"),
        (None, "—"),
        (math.inf, "∞"),
    ],
)
def test_when_a_number_is_written_then_three_digits_count(
    value: float | None, written: str
) -> None:
    assert number(value) == written


def test_when_units_are_chosen_then_they_fit_the_size() -> None:
    assert [seconds(v) for v in (2.5e-5, 0.0123, 4.5, 12345.0)] == [
        "25.0 µs",
        "12.3 ms",
        "4.50 s",
        "12\u202f345 s",
    ]
    assert [memory(v) for v in (0, 2048, 3 * 2**20)] == ["0 B", "2.00 KiB", "3.00 MiB"]
    assert plural(1, "run") == "1 run"
    assert plural(2000, "run") == "2\u202f000 runs"


def test_when_a_value_rounds_to_zero_then_it_has_no_sign() -> None:
    assert fixed(-0.0001, signed=True) == "0.00"
    assert interval(Estimate(0.0, -0.5, 0.25), signed=True) == "[−0.50, +0.25]"
    assert interval(Estimate(0.5)) == ""


def test_when_a_horizon_has_no_value_then_its_median_is_nan_without_a_warning() -> None:
    runs = np.array([[1.0, np.nan, np.nan], [3.0, np.nan, 5.0]])
    np.testing.assert_array_equal(median_curve(runs), [2.0, np.nan, 5.0])


def test_when_methods_cost_then_the_front_has_what_nothing_beats() -> None:
    costs = [
        Cost("cheap", 1.0, 0.9, False),
        Cost("beaten", 2.0, 0.95, False),
        Cost("good", 3.0, 0.5, False),
        Cost("same price, worse", 3.0, 0.6, False),
        Cost("best", 10.0, 0.4, False),
    ]
    assert [cost.label for cost in pareto_front(costs)] == ["cheap", "good", "best"]


def test_when_methods_are_correlated_then_the_number_is_spearmans() -> None:
    random = np.random.default_rng(0)
    errors, changes = random.random(9).round(1), random.random(9).round(1)
    found = [Outcome("m", e, c) for e, c in zip(errors, changes, strict=True)]
    assert rank_correlation(found) == pytest.approx(spearmanr(errors, changes).statistic)
    assert math.isnan(rank_correlation(found[:2]))
    assert math.isnan(rank_correlation([Outcome("m", 1.0, c) for c in changes]))


def test_when_labels_crowd_then_they_are_spread_in_order_within_the_frame() -> None:
    random = np.random.default_rng(1)
    wanted = [float(v) for v in random.normal(50, 5, size=13)]
    placed = spread(wanted, 0.0, 200.0, 11.0)
    order = np.argsort(wanted)
    steps = np.diff(np.asarray(placed)[order])
    assert (steps >= 11.0 - 1e-9).all()
    assert min(placed) >= 0.0
    assert max(placed) <= 200.0
    # More labels than there is room for come closer rather than out of the frame.
    packed = spread(wanted, 0.0, 60.0, 11.0)
    assert min(packed) >= 0.0
    assert max(packed) <= 60.0 + 1e-9
    assert spread([], 0.0, 1.0, 1.0) == []


def test_when_a_name_is_long_then_both_ends_stay() -> None:
    assert short("lfd2") == "lfd2"
    cut = short("lfd2-grad(max_passes=40, tolerance=1e-05, weight=10.0)")
    assert len(cut) == 28
    assert cut.startswith("lfd2-grad(")
    assert cut.endswith("weight=10.0)")


def test_when_methods_are_many_then_looks_do_not_repeat() -> None:
    labels = ["lfd2", "lfd2(tolerance=0.1)", *(f"plugin-{i}" for i in range(20))]
    found = looks(labels)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(labels)
    assert found["lfd2(tolerance=0.1)"].colour == found["lfd2"].colour
    assert looks(["lfd2"])["lfd2"] == found["lfd2"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('  File "/home/some one/x.py", line 3', '  File "x.py", line 3'),
        ("no such file: '/data/runs/3.safetensors'", "no such file: '3.safetensors'"),
        (r"C:\Users\me\q is gone", "q is gone"),
        ("loss/accuracy is 1/2 of a/b/c", "loss/accuracy is 1/2 of a/b/c"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_when_a_text_names_a_folder_then_only_its_last_part_stays(text: str, kept: str) -> None:
    assert without_folders(text) == kept


def failure(run: int, tier: str, status: str, reason: str, **place: object) -> dict[str, object]:
    here = {"dataset": "d", "trained_on": "d", "track": "main", "split": "seeds", "context": 10}
    return {
        "label": "m", **here, **place, "run": run, "repeat": 0, "tier": tier, "status": status,
        "reason": reason, "traceback": f"trace {run}",
    }  # fmt: skip


def test_when_a_cell_fails_in_two_tiers_then_it_is_one_failure() -> None:
    rows = [failure(r, t, "timeout", "no") for r in (2, 1) for t in ("weights", "function")]
    rows.append(failure(3, "function", "invalid", "not finite"))
    assert failed_cells(rows) == 3
    said = [(s.count, s.status) for s in count_statuses(rows)]
    assert said == [("2", "timeout"), ("1", "invalid")]
    second, first = group_failures(rows)
    assert (first.tier, first.runs, first.traceback) == ("weights and function", [1, 2], "trace 1")
    assert (first.task, first.trace_name) == ("d, context 10", "stack of the worker")
    assert (second.tier, second.runs, second.reason) == ("function", [3], "not finite")
    assert second.trace_name == "traceback"


def test_when_a_run_fails_in_several_tracks_then_each_is_a_failure() -> None:
    rows = [
        failure(1, "weights", "crashed", "gone"),
        failure(1, "weights", "crashed", "gone", split="early"),
        failure(1, "weights", "crashed", "gone", track="shift-task", trained_on="e"),
    ]
    assert failed_cells(rows) == 3
    assert [s.count for s in count_statuses(rows)] == ["3"]
    assert [f.task for f in group_failures(rows)] == [
        "d (early), context 10",
        "d, context 10",
        "e → d (shift-task), context 10",
    ]


def test_when_networks_have_batch_norm_then_the_rule_that_held_is_said() -> None:
    assert batch_norm_note(pd.DataFrame({"run": [1]})) == ""
    assert batch_norm_note(pd.DataFrame({"batch_norm": [None, ""]})) == ""
    said = batch_norm_note(pd.DataFrame({"batch_norm": ["keep", "forecast", None, "keep"]}))
    assert said == " Batch-norm statistics with forecast weights: forecast; keep."
