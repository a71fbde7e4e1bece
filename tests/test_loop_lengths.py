"""The loop tier's lengths: forecasters tune how far they jump, controls as many rates more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.engine.events import LoopDone
from weightcast.bench.engine.store.store import Store
from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.board import board_records, loop_board
from weightcast.bench.loop.scores import edges, loop_left_out, loop_standings
from weightcast.bench.loop.stepping.runs import Measured
from weightcast.bench.loop.stepping.side_by_side import SideBySide
from weightcast.bench.loop.training import run_loop
from weightcast.bench.loop.verdicts import FASTER, LENGTH_EDGE, SAME, LoopStanding, verdict_of
from weightcast.bench.plan.loop_groups import finer, first_grids, loop_groups, widened
from weightcast.bench.plan.loop_row import loop_row
from weightcast.bench.plan.loop_settings import CONTROLS, LoopGroup, LoopRun, LoopSettings
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError
from weightcast.reports.html import render_report

SUITE = """
name = "loop-small"
datasets = ["digits-mlp-sgd"]
methods = ["last-two-line"]
tiers = ["loop"]

[loop]
steps = 120
spacing = 3
context = 5
horizon = 2
lengths = [0.5, 1, 2]
measure_every = 15
measured = 64
training = 2
calibration = 2
validation = 3
report = 3

[loop.optimizers]
sgd = [0.02, 0.04, 0.08]
"""
PLACE = ("digits-mlp-sgd", "sgd")
LENGTHS = (0.5, 1.0, 2.0)
Row = dict[str, Any]


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Suite]:
    def load(*changes: tuple[str, str]) -> Suite:
        text = SUITE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "suite.toml"
        path.write_text(text, encoding="utf-8")
        return load_suite(str(path)).resolve()

    return load


# --- the plan ------------------------------------------------------------------------------


def test_when_lengths_are_tuned_then_all_methods_have_as_many_configurations(
    suite_of: Callable[..., Suite],
) -> None:
    suite = suite_of()
    groups = {group.method: group for group in loop_groups(suite, first_grids(suite))}
    tries = {
        method: {(run.learning_rate, run.length) for run in group.runs}
        for method, group in groups.items()
    }
    assert {len(found) for found in tries.values()} == {9}
    assert tries["last-two-line"] == {(r, s) for r in (0.02, 0.04, 0.08) for s in LENGTHS}
    for control in CONTROLS[:4]:
        assert {length for _, length in tries[control]} == {1.0}
        rates = sorted(rate for rate, _ in tries[control])
        assert np.diff(np.log(rates)) == pytest.approx(math.log(2) / 3, rel=1e-2)
        assert {0.02, 0.04, 0.08} <= set(rates)
        assert {run.pool_rate for run in groups[control].runs} == {0.02, 0.04, 0.08}


def test_when_lengths_are_tuned_then_whole_jumps_and_the_pool_keep_their_keys(
    suite_of: Callable[..., Suite],
) -> None:
    whole = suite_of(("lengths = [0.5, 1, 2]\n", ""))
    tuned = suite_of()
    before, after = (
        {run.key for group in loop_groups(one, first_grids(one)) for run in group.runs}
        for one in (whole, tuned)
    )
    assert before < after
    assert len(after) == 3 * len(before)


@pytest.mark.parametrize("side", ["low", "high"])
def test_when_a_grid_grows_then_what_was_run_of_it_keeps_its_keys(
    side: str, suite_of: Callable[..., Suite]
) -> None:
    suite = suite_of(("[0.02, 0.04, 0.08]", "[0.15, 0.225, 0.3375]"))
    first = first_grids(suite)
    grown = widened(first, [(*PLACE, side)], first, 3)
    before, after = (
        {run.key for group in loop_groups(suite, grids) for run in group.runs}
        for grids in (first, grown)
    )
    assert before < after
    assert len(after) * 3 == len(before) * 5


@given(st.integers(1, 7), st.floats(1.05, 4.0), st.floats(1e-4, 1.0), st.integers(3, 9))
def test_when_rates_are_made_finer_then_they_ascend_evenly_around_their_own(
    count: int, ratio: float, start: float, rates: int
) -> None:
    grid = [start * ratio**i for i in range(rates)]
    found = finer(grid, count, ratio)
    assert len(found) == count * rates
    assert [pair for pair in found if pair[0] == pair[1]] == [(rate, rate) for rate in grid]
    assert np.diff(np.log([rate for rate, _ in found])) == pytest.approx(
        math.log(ratio) / count, abs=2e-3
    )
    assert [of for _, of in found] == sorted(of for _, of in found)


@pytest.mark.parametrize("lengths", ["[]", "[0.5, 2]", "[1, 0.5]", "[0, 1]", "[1, 1]", "[1, nan]"])
def test_when_lengths_make_no_sense_then_the_suite_is_refused(
    lengths: str, suite_of: Callable[..., Suite]
) -> None:
    with pytest.raises(InputError, match="lengths"):
        suite_of(("[0.5, 1, 2]", lengths))


# --- a quadratic ---------------------------------------------------------------------------


class Quadratic(SideBySide):
    """½‖w‖² instead of a network's loss: a step of rate η leaves 1 - η of the weights."""

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.weights.clone()

    def measure(self, weights: torch.Tensor) -> Measured:
        loss = weights.double().square().mean(dim=1).numpy() / 2
        return Measured(loss, loss, 1 / (1 + loss))


@pytest.fixture
def on_a_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weightcast.bench.loop.uses.start.SideBySide", Quadratic)


def _rate_of(best: float) -> float:
    """The rate at which a jump of this length along the last two snapshots' line lands on 0.

    With q left of the weights after one of the snapshots 3 steps apart, the line is 2 (1/q - 1) of
    them short of themselves 2 snapshots ahead.
    """
    return 1 - (1 + 1 / (2 * best)) ** (-1 / 3)


@pytest.mark.usefixtures("on_a_quadratic")
def test_when_a_jump_has_a_length_then_so_much_of_its_displacement_is_gone() -> None:
    settings = LoopSettings(
        steps=21, spacing=3, context=5, horizon=2, measure_every=5, measured=64, training=2
    )
    rate = 0.1
    runs = tuple(LoopRun(rate, 0, "report", str(s), length=s) for s in (0.25, 0.5, 1.0, 2.0))
    group = LoopGroup(
        "loop", "digits-mlp-sgd", "last-two-line", "{}", "always", "sgd", "constant", runs, settings
    )
    short = 2 * (0.9**-3 - 1)
    for run, row in zip(runs, run_loop(group), strict=True):
        (jump,) = row["jumps"]
        assert row["length"] == run.length
        left = (1 - run.length * short) ** 2
        assert jump["after"] / jump["before"] == pytest.approx(left, rel=1e-3)


@pytest.mark.usefixtures("on_a_quadratic")
@pytest.mark.parametrize("best", LENGTHS)
def test_when_a_length_lands_at_the_minimum_then_the_tuned_forecaster_chooses_it(
    best: float, suite_of: Callable[..., Suite], tmp_path: Path
) -> None:
    rate = _rate_of(best)
    suite = suite_of(("[0.02, 0.04, 0.08]", str([rate / 1.09, rate, rate * 1.09])))
    rows = [row for group in loop_groups(suite, first_grids(suite)) for row in run_loop(group)]
    with Store(tmp_path / "out", create=True) as store:  # lengths do not share a place in it
        store.add([LoopDone(("d", "m"), rows)])
    found = load_results(tmp_path / "out").loops
    assert len(found) == len(rows)
    standing = next(s for s in loop_standings(found) if s.label == "last-two-line")
    for chosen in (standing.configuration, standing.swapped_configuration):
        assert (chosen.learning_rate, chosen.length) == (pytest.approx(rate), best)
    assert standing.length_edge == (best != 1)
    # Plain training is the faster the higher its rate; it has rates between and around.
    assert standing.plain_configuration.learning_rate > 1.09 * rate
    assert (standing.configurations, standing.plain_configurations) == (9, 9)
    assert standing.plain_configuration.length == 1


# --- made-up runs --------------------------------------------------------------------------

RATES = (0.1, 0.2, 0.4, 0.8)
STEPS = np.arange(0, 901, 45)
SETTINGS = LoopSettings(lengths=list(LENGTHS))


def _rows(method: str, speed: Callable[[float, float], float]) -> list[Row]:
    """Runs of a method at all it may choose from, whose losses fall at a speed."""
    if method in CONTROLS:
        tries = [(rate, of, 1.0) for rate, of in finer(RATES, 3, 2.0)]
    else:
        tries = [(rate, rate, length) for rate in RATES for length in LENGTHS]
    roles = ["validation", "report"] + ["calibration"] * (method == "no-forecast")
    rows = []
    for rate, of, length in tries:
        for role in roles:
            for seed in SETTINGS.seeds(role):
                run = LoopRun(rate, seed, role, f"{method} {rate} {length} {seed}", length, of)
                group = LoopGroup(
                    "s", "d", method, "{}", "always", "sgd", "constant", (run,), SETTINGS
                )
                losses = np.exp(-speed(rate, length) * STEPS).tolist()
                measured = {"step": STEPS.tolist()}
                for prefix in ("", "average-100_"):
                    for what in ("train_loss", "test_loss", "test_accuracy"):
                        measured[prefix + what] = losses
                rows.append(loop_row(group, run) | {"measured": measured, "step_seconds": 0.5})
    return rows


def _peak(rate: float, centre: float) -> float:
    """A speed that is highest at one rate, and the same for as much above as below."""
    return 0.01 * math.exp(-(math.log2(rate / centre) ** 2))


def _pool() -> list[Row]:
    """Plain training and the null row, best at 0.252: between two rates of the pool."""
    best = 0.2 * 2 ** (1 / 3)
    return [row for method in CONTROLS[:2] for row in _rows(method, lambda r, s: _peak(r, best))]


def _m(factor: float, best: float) -> Callable[[float, float], float]:
    return lambda rate, length: factor * _peak(rate, 0.4) / (1 + math.log2(length / best) ** 2)


def _only(rows: list[Row]) -> LoopStanding:
    return next(s for s in loop_standings(rows) if s.label == "m")


def test_when_each_side_is_tuned_then_it_chooses_among_its_own() -> None:
    rows = _pool() + _rows("m", _m(2.0, 1.0))
    found = _only(rows)
    assert (found.configuration.learning_rate, found.configuration.length) == (0.4, 1.0)
    assert found.plain_configuration.learning_rate == pytest.approx(0.252, rel=1e-3)
    assert found.plain_configuration.pool_rate == 0.2
    assert found.ratio.value == pytest.approx(0.5, rel=1e-3)
    # The usual comparison is at the method's own rate.
    plain_there = _peak(0.4, 0.2 * 2 ** (1 / 3))
    assert found.same_rate.value == pytest.approx(plain_there / 0.02, rel=1e-3)
    assert (found.configurations, found.plain_configurations) == (12, 12)
    assert (found.verdict, found.length_edge) == (FASTER, False)
    assert edges(rows) == set()
    assert loop_left_out(rows) == []


@pytest.mark.parametrize("best", [0.5, 2.0])
@pytest.mark.parametrize("factor", [2.0, 0.7])
def test_when_the_best_length_ends_the_lengths_then_only_faster_stands(
    best: float, factor: float
) -> None:
    rows = _pool() + _rows("m", _m(factor, best))
    found = _only(rows)
    assert found.length_edge
    assert found.verdict == (FASTER if factor == 2.0 else LENGTH_EDGE)
    assert not found.edge
    board = loop_board(rows)
    assert any(f"d, m: its best length, {best:g}, ends" in note for note in board.notes)
    records = {one["method"]: one for one in board_records(board) if one["dataset"] == "d"}
    assert (records["m"]["length"], records["m"]["length_edge"]) == (best, True)
    assert (records["null"]["length"], records["null"]["verdict"]) == (1.0, SAME)


def test_when_nothing_is_told_apart_at_the_last_length_then_there_is_no_verdict() -> None:
    ratio, null = Estimate(0.98, 0.9, 1.07), Estimate(1.0, 0.95, 1.05)
    assert verdict_of(ratio, null, edge=False, reached=True) == SAME
    assert verdict_of(ratio, null, edge=False, reached=True, length_edge=True) == LENGTH_EDGE


def test_when_the_best_rate_ends_its_own_grid_then_all_grids_grow() -> None:
    # 0.8 is the last of the forecaster's rates, and not of the controls'.
    rows = _pool() + _rows("m", lambda rate, length: 2 * _peak(rate, 0.8) / (1 + abs(length - 1)))
    assert edges(rows) == {("d", "sgd", "high")}
    assert _only(rows).edge


def test_when_a_folder_is_half_done_then_both_sides_keep_as_many_tries() -> None:
    made = [row for row in _rows("m", _m(2.0, 1.0)) if row["learning_rate"] != 0.1]
    found = _only(_pool() + made)
    assert (found.configurations, found.plain_configurations) == (9, 9)
    assert found.left_out == "3 of 4 configurations and 8 of 8 seeds are done on both sides"
    # Of a rate with a length missing nothing is compared at its seed.
    holes = [row for row in made if (row["length"], row["seed"]) != (2.0, 3004)]
    found = _only(_pool() + holes)
    assert (found.configurations, found.runs) == (9, 7)


def test_when_plain_training_lacks_the_methods_own_rate_then_they_are_not_compared() -> None:
    rows = [row for row in _pool() if row["learning_rate"] != 0.4]
    found = _only(rows + _rows("m", _m(2.0, 1.0)))
    assert found.left_out.startswith("3 of 4 configurations")
    assert found.configuration.learning_rate == 0.2


def test_when_lengths_are_tuned_then_the_report_says_them(tmp_path: Path) -> None:
    rows = _pool() + _rows("m", _m(2.0, 2.0))
    with Store(tmp_path / "out", create=True) as store:
        store.add([LoopDone(("d", "m"), rows)])
    results = load_results(tmp_path / "out")
    page = render_report(results)
    assert "forecasters jump 0.5, 1, 2 of their way, controls have 3 times as many rates" in page
    assert "sgd, constant, 0.4, length 2" in page
    assert "its best length, 2, ends the lengths" in page
    failed = [row | {"status": "failed", "measured": {}} for row in results.loops]
    assert "2000 at 0.1, length 0.5" in render_report(replace(results, loops=failed))
