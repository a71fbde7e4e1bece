"""Forecasts at their best length: closed forms along a line, real networks, keys, suites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weightcast.bench import load_results, run_suite
from weightcast.bench.commands.info import ranking_rows
from weightcast.bench.engine.records import CellRow
from weightcast.bench.plan.fits import Fit, make_plan
from weightcast.bench.plan.run_cache import RunCache
from weightcast.bench.plan.suite import load_suite
from weightcast.bench.results.apart import by_dataset
from weightcast.bench.results.leaderboard import board_table, rank_results
from weightcast.bench.results.tables import Results
from weightcast.bench.scoring.cell import evaluate_cell
from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.bench.scoring.function import ForecastWeights
from weightcast.bench.scoring.lengths import EVALUATIONS, LENGTHS, length_metrics
from weightcast.bench.scoring.sample import coordinate_sample
from weightcast.datasets import InputError, Trajectory, get_dataset, make_task
from weightcast.datasets.evaluator import evaluator_for
from weightcast.datasets.trajectory import Floats, Metadata, TensorInfo
from weightcast.methods import make_method
from weightcast.methods.line_search import LineSearch
from weightcast.reports import write_report
from weightcast.reports.sections.length import length_takeaway

CONTEXT, HORIZONS = 4, 12
LABELS = ("h5", "h10", "last")


class _Bowl:
    """A quadratic loss with its lowest point at ``at``, in place of a network."""

    def __init__(self, at: Floats) -> None:
        self._at = at
        self.looks: list[float] = []

    def train_loss(self, weights: Mapping[str, Floats]) -> float:
        self.looks.append(float(np.square(weights["w"].astype(float) - self._at).sum()))
        return self.looks[-1]

    def measure(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        loss = float(np.square(weights["w"].astype(float) - self._at).sum())
        return {"train_loss": loss, "test_loss": 2 * loss}


def _run(seed: int = 0) -> Trajectory:
    random = np.random.default_rng(seed)
    values = random.normal(size=(1 + CONTEXT + HORIZONS, 3, 2)).astype(np.float32)
    return Trajectory.from_arrays(
        {"w": values}, list(range(len(values))), Metadata("d", seed), [TensorInfo("w", (3, 2))]
    )


def _forecast(run: Trajectory, displacement: Floats) -> ForecastWeights:
    """Collect one forecast for all horizons."""
    task = make_task(run, CONTEXT)
    weights = ForecastWeights(run.tensors, task)
    last = run.read(run.tensors[0], [CONTEXT])[0]
    values = np.repeat((last + displacement)[:, None], HORIZONS, axis=1)
    weights.add(ForecastBlock(run.tensors[0], np.arange(last.size), last, values, False))
    return weights


def _measured(
    run: Trajectory, displacement: Floats, bowl: _Bowl, spent: int = 0
) -> dict[str, float]:
    found = length_metrics(
        _forecast(run, displacement), run, make_task(run, CONTEXT), bowl, spent=spent
    )
    return {name: float(value) for name, value in found.items()}


@settings(max_examples=60, deadline=None)
@given(best=st.floats(-2.0, 40.0), seed=st.integers(0, 20))
def test_when_the_loss_is_a_bowl_then_its_lowest_point_along_the_line_is_found(
    best: float, seed: int
) -> None:
    run = _run(seed)
    last = run.read(run.tensors[0], [CONTEXT])[0]
    way = np.random.default_rng(seed + 1).normal(size=last.shape).astype(np.float32)
    aside = np.full((3, 2), 0.3)  # the line need not lead through the lowest point
    aside -= way.reshape(3, 2) * (way @ aside.ravel() / (way @ way))
    bowl = _Bowl((last + np.float64(best) * way).reshape(3, 2) + aside)

    found = _measured(run, way, bowl)

    there = max(best, 0.0)
    grid = np.array([0.0, *sorted(LENGTHS), 16.0, 32.0, 64.0, 64.0])
    place = int(np.argmin(np.abs(grid - there)))
    bracket = grid[place + 1] - grid[max(0, place - 1)]
    # Of the 14 that golden sections go to, two narrow the bracket once, and each other once more.
    narrowed = 14 - max(8, place + 2) - 1
    golden = (np.sqrt(5) - 1) / 2
    assert abs(found["length_last"] - there) <= golden**narrowed * bracket + 1e-3
    assert found["train_loss_length_last"] <= min(
        bowl.measure({"w": (last + length * way).reshape(3, 2)})["train_loss"]
        for length in (0.0, 1.0)
    ) * (1 + 1e-6)


def test_when_a_length_is_chosen_then_what_is_told_is_measured_there() -> None:
    run = _run()
    last = run.read(run.tensors[0], [CONTEXT])[0]
    way = np.arange(1, 7, dtype=np.float32)
    bowl = _Bowl((last + 0.4 * way).reshape(3, 2))

    found = _measured(run, way, bowl)

    at = last + np.float32(found["length_last"]) * ((last + way) - last)
    assert found["test_loss_length_last"] == bowl.measure({"w": at.reshape(3, 2)})["test_loss"]
    assert found["train_loss_length_last"] == min(bowl.looks)


def test_when_lengths_are_measured_then_each_horizon_has_the_budget_of_a_line_search() -> None:
    run = _run()
    bowl = _Bowl(np.full((3, 2), 0.7))
    way = np.arange(1, 7, dtype=np.float32)

    found = _measured(run, way, bowl)

    assert LineSearch().evaluations == EVALUATIONS
    counts = [found[f"evaluations_length_{label}"] for label in LABELS]
    assert max(counts) <= EVALUATIONS
    # Of each, the forecast's own length has been measured anyway.
    assert len(bowl.looks) == sum(counts) - len(LABELS)


def test_when_a_method_has_spent_the_budget_then_its_length_stays() -> None:
    run = _run()
    bowl = _Bowl(np.zeros((3, 2)))
    way = np.arange(1, 7, dtype=np.float32)

    found = _measured(run, way, bowl, spent=EVALUATIONS - len(LENGTHS))

    assert bowl.looks == []
    assert found["length_last"] == 1.0
    some = _measured(run, way, bowl, spent=EVALUATIONS - len(LENGTHS) - 1)
    assert some["evaluations_length_last"] == len(LENGTHS) + 1


def test_when_a_forecast_is_the_last_value_then_nothing_is_measured_again() -> None:
    run = _run()
    bowl = _Bowl(np.zeros((3, 2)))

    found = _measured(run, np.zeros(6, np.float32), bowl)

    last = run.read(run.tensors[0], [CONTEXT])[0]
    assert bowl.looks == []
    assert found["length_h5"] == 1.0
    assert found["evaluations_length_h5"] == 0
    assert found["train_loss_length_h5"] == pytest.approx(float(np.square(last).sum()), rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_when_eight_times_a_forecast_is_beyond_float32_then_shorter_ones_are_chosen_from() -> None:
    run = _run()
    bowl = _Bowl(np.zeros((3, 2)))
    way = np.full(6, 1e38, np.float32)

    with np.errstate(all="ignore"):
        found = _measured(run, way, bowl)

    assert found["length_last"] == 0.0
    assert np.isfinite(found["train_loss_length_last"])


def _rows(method: str, lengths: bool = True, **params: float) -> dict[str, CellRow]:
    """Evaluate a cell of the shipped digits runs; return its rows by tier."""
    dataset = get_dataset("digits-mlp-sgd")
    run = dataset.run(0)
    task = make_task(run, 10)
    fitted = make_method(method, params).fit([dataset.run(1)], [dataset.run(2)], task)
    sample = coordinate_sample(run.meta.dataset, run.n_coordinates, 16)
    evaluator = evaluator_for(run.meta)
    rows = evaluate_cell(fitted, run, task, sample, evaluator, lengths=lengths)
    return {row.tier: row for row in rows}


def test_when_networks_are_real_then_no_best_length_is_worse_than_the_forecasts_own() -> None:
    row = _rows("ols-line")["function"].metrics

    for label in ("h5", "h10", "h20", "last"):
        best = row[f"train_loss_length_{label}"]
        assert best <= row[f"train_loss_{label}"]
        assert best <= row["train_loss_origin"] * (1 + 1e-5)
    assert row["length_last"] < 1  # fifty snapshots of the line are too far


def test_when_two_forecasts_differ_in_length_alone_then_they_do_not_at_their_best() -> None:
    short, long = (
        _rows("fixed-step", length=length)["function"].metrics for length in (0.05, 0.35)
    )
    search = _rows("line-search")["function"].metrics

    assert short["train_loss_last"] > 1.05 * long["train_loss_last"]
    for one in (short, long):
        assert one["train_loss_length_last"] == pytest.approx(search["train_loss_last"], rel=0.02)


@pytest.mark.parametrize("method", ["last-value", "line-search"])
def test_when_a_method_has_no_direction_or_looked_itself_then_it_is_as_it_was(method: str) -> None:
    row = _rows(method)["function"].metrics

    for label in ("h5", "h10", "h20", "last"):
        assert row[f"length_{label}"] == 1.0
        assert row[f"train_loss_length_{label}"] == row[f"train_loss_{label}"]
        assert row[f"test_accuracy_length_{label}"] == row[f"test_accuracy_{label}"]


def test_when_lengths_are_not_asked_for_then_none_is_measured() -> None:
    asked, plain = (_rows("ols-line", lengths=lengths)["function"] for lengths in (True, False))

    assert not [name for name in plain.metrics if "length" in name]
    assert plain.metrics.items() <= asked.metrics.items()


def _plan(tmp_path: Path, lengths: str) -> list[Fit]:
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "s"\ndatasets = ["digits-mlp-sgd", "linreg-sgd"]\nmethods = ["last-value"]\n'
        + lengths
    )
    return make_plan(load_suite(str(path)).resolve(), RunCache(None))


def test_when_a_suite_asks_for_lengths_then_cells_with_networks_alone_get_other_keys(
    tmp_path: Path,
) -> None:
    without, off, on = (
        _plan(tmp_path, said) for said in ("", "lengths = false\n", "lengths = true\n")
    )

    assert without == off
    assert [fit.key for fit in on] == [fit.key for fit in off]
    for fit, plain in zip(on, off, strict=True):
        keys, plain_keys = (dict(one.cells) for one in (fit, plain))
        if fit.place.dataset == "linreg-sgd":
            assert keys == plain_keys
            assert not fit.lengths
        else:
            assert not set(keys.values()) & set(plain_keys.values())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('lengths = true\ntiers = ["weights"]\n', "the tier function"),
        ("lengths = 7\n", "is 7, and has to be true or false"),
        ("lenghts = true\n", "lengths"),
    ],
)
def test_when_lengths_cannot_be_had_then_one_line_says_why(
    tmp_path: Path, said: str, why: str
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        _plan(tmp_path, said)

    assert "\n" not in str(caught.value)


ALL = ("h5", "h10", "h20", "last")


def _losses(
    label: str, run: int, plain: float, best: float, length: float = 0.5, status: str = "ok"
) -> dict[str, Any]:
    """Make a function row with one loss at all horizons, as it is and at the best length."""
    row: dict[str, Any] = {
        "label": label, "method": label, "dataset": "a", "trained_on": "a", "track": "main",
        "split": "seeds", "tier": "function", "context": 10, "rotation": run % 4, "repeat": 0,
        "run": run, "status": status, "rel_sum": np.nan, "rel_sum_sample": np.nan,
    }  # fmt: skip
    for h in ALL:
        measured = status == "ok"
        row |= {f"train_loss_{h}": plain, f"train_loss_length_{h}": best if measured else np.nan}
        row |= {f"length_{h}": length, f"evaluations_length_{h}": 14.0}
    return row


def _folder(losses: dict[str, tuple[float, float]], runs: int = 8) -> Results:
    return _in_folder(
        [_losses(label, run, *two) for label, two in losses.items() for run in range(runs)]
    )


def _in_folder(rows: list[dict[str, Any]]) -> Results:
    empty = pd.DataFrame()
    return Results(Path("here"), pd.DataFrame(rows), empty, empty, {}, [], [], {}, {}, [], "")


LOSSES = {
    "last-value": (1.0, 1.0),
    "fixed-step": (0.9, 0.8),
    "better": (4.0, 0.4),
    "same": (0.85, 0.801),
    "worse": (0.7, 1.0),
}


def test_when_lengths_were_measured_then_the_skill_at_best_length_stands_beside_the_plain() -> None:
    board = rank_results(_folder(LOSSES), tier="function")

    table = board_table(board).set_index("method")
    for method, (plain, best) in LOSSES.items():
        assert table.loc[method, "skill"] == pytest.approx(1 - plain)
        assert table.loc[method, "skill_length"] == pytest.approx(1 - best)
    assert table.index[0] == "worse"  # ranked by the forecasts as they are
    assert any("at its best length" in note and "56 losses" in note for note in board.notes)
    shown = ranking_rows(board.ranking, at_length=board.at_length and board.at_length.skills)
    assert [row["at its best length"] for row in shown if row["method"] == "better"] == [
        "+0.600 [+0.600, +0.600]"
    ]
    apart = by_dataset(_folder(LOSSES), board, tier="function").set_index("method")
    assert apart.loc["better", "skill_length"] == pytest.approx(0.6)


def test_when_another_baseline_is_chosen_then_it_is_as_it_is_for_both_columns() -> None:
    board = rank_results(_folder(LOSSES), tier="function", baseline="fixed-step")

    assert board.at_length is not None
    assert board.at_length.skills["better"].value == pytest.approx(1 - 0.4 / 0.9)
    assert board.at_length.skills["fixed-step"].value == pytest.approx(1 - 0.8 / 0.9)


def test_when_directions_are_compared_then_both_are_at_their_best_lengths() -> None:
    board = rank_results(_folder(LOSSES), tier="function")

    assert board.at_length is not None
    assert board.at_length.control == "fixed-step"
    for method in ("better", "same", "worse"):
        beyond = board.at_length.beyond[method]
        assert beyond.value == pytest.approx(1 - LOSSES[method][1] / 0.8)
    said = length_takeaway(board)
    assert "fixed-step, which goes along w_n − w_0, has a skill of +0.10, and +0.20" in said
    assert "better +0.50 (a better direction)" in said
    assert "same 0.00 (not told apart)" in said  # what a search leaves open is no difference
    assert "worse −0.25 (a worse direction)" in said
    assert "over the horizons 5, 10 and 20, on a" in said  # the last is the same here


def test_when_a_cell_failed_then_it_is_charged_at_the_best_length_too() -> None:
    rows = _folder({"last-value": (1.0, 1.0), "m": (0.5, 0.5)}, runs=21).cells.to_dict("records")
    failed = [
        _losses("m", row["run"], np.nan, np.nan, status="failed")
        if (row["label"], row["run"]) == ("m", 0)
        else row
        for row in rows
    ]

    board = rank_results(_in_folder(failed), tier="function")

    assert board.at_length is not None
    # One run of 21 lies at the last value: redrawn often enough, it decides the worst medians only.
    assert board.at_length.skills["m"].value == pytest.approx(0.5)
    assert {s.method: s.failures for s in board.ranking.standings}["m"] == 1


@pytest.mark.parametrize("metric", ["train_loss_length", "train_loss_length_h5"])
def test_when_best_lengths_are_ranked_then_nothing_else_stands_beside(metric: str) -> None:
    board = rank_results(_folder(LOSSES), tier="function", metric=metric)

    assert board.ranking.standings[0].method == "better"
    assert board.at_length is None


def test_when_some_cells_lack_lengths_then_no_column_compares_them() -> None:
    results = _folder(LOSSES)
    results.cells.loc[3, [f"train_loss_length_{h}" for h in ALL]] = np.nan

    board = rank_results(results, tier="function")

    assert board.at_length is None
    assert "skill_length" not in board_table(board)


def test_when_a_suite_asked_for_lengths_then_leaderboard_and_report_tell_them(
    tmp_path: Path,
) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text(
        'name = "s"\ndatasets = ["digits-mlp-sgd"]\nlengths = true\n'
        'methods = ["last-value", "fixed-step", "ols-line"]\n'
    )
    out = tmp_path / "out"
    statuses = run_suite(str(suite), out)
    assert set(statuses) == {"ok"}

    results = load_results(out)
    board = rank_results(results, tier="function")

    assert board.at_length is not None
    own = {s.method: s.skill for s in board.ranking.standings}
    for method, best in board.at_length.skills.items():
        assert best.value >= own[method].value - 1e-6
    assert board.at_length.evaluations["last-value"] == 0
    page = write_report(results).read_text(encoding="utf-8")
    assert "Direction or length?" in page
    assert "at its best length" in page
