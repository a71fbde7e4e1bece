"""Scores of the loop tier: made-up runs whose steps to a target are known in closed form."""

from __future__ import annotations

import math
import runpy
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.estimate import Estimate
from weightcast.bench.loop.board import board_records, loop_board
from weightcast.bench.loop.costs import budget_of, data_set_costs, label_of
from weightcast.bench.loop.curves import arrival
from weightcast.bench.loop.intervals import (
    LogRatio,
    Sides,
    choose,
    compare,
    pooled,
    ratio_of,
    scored,
)
from weightcast.bench.loop.pairs import complete
from weightcast.bench.loop.power import smallest_saving
from weightcast.bench.loop.profile import profiles
from weightcast.bench.loop.scores import edges, loop_left_out, loop_standings, loop_summary
from weightcast.bench.loop.targets import Target, calibrated
from weightcast.bench.loop.verdicts import (
    EDGE,
    FASTER,
    FEW_SEEDS,
    NO_NULL,
    SAME,
    SLOWER,
    UNREACHED,
    LoopStanding,
    break_even,
    verdict_of,
)
from weightcast.bench.plan.loop_row import loop_row
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun, LoopSettings
from weightcast.datasets import InputError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BUDGET, EVERY = 900, 45
STEPS = np.arange(0, BUDGET + 1, EVERY)
RATES = (0.1, 0.15, 0.225, 0.3375)
#: Learning rate → how fast the loss falls; the second best is inside the grid.
SPEEDS = dict(zip(RATES, (0.006, 0.01, 0.008, 0.005), strict=True))
SETTINGS = LoopSettings()
Row = dict[str, Any]


def _row(
    method: str = "no-forecast",
    rate: float = 0.15,
    seed: int = 3000,
    role: str = "report",
    speed: float = 0.01,
    dataset: str = "d",
    optimizer: str = "sgd",
    accept: str = "always",
    schedule: str = "constant",
    **found: Any,
) -> Row:
    run = LoopRun(rate, seed, role, "")
    group = LoopGroup("s", dataset, method, "{}", accept, optimizer, schedule, (run,), SETTINGS)
    losses = np.exp(-speed * STEPS).tolist()
    accuracies = (1 - np.exp(-speed * STEPS)).tolist()
    measured = {"step": STEPS.tolist()}
    for prefix in ("", "average-100_"):
        measured |= {
            f"{prefix}train_loss": losses,
            f"{prefix}test_loss": losses,
            f"{prefix}test_accuracy": accuracies,
        }
    shared = {"measured": measured, "step_seconds": 0.5, "forward_seconds": 0.1}
    return loop_row(group, run) | shared | found


Speed = Callable[[float, int], float]


def _pool(
    method: str = "no-forecast",
    speed: Speed = lambda rate, seed: SPEEDS[rate],
    rates: Sequence[float] = RATES,
    **found: Any,
) -> list[Row]:
    """Runs of one method at all learning rates with the seeds of every role it is for."""
    roles = ["validation", "report"] + ["calibration"] * (method == "no-forecast")
    return [
        _row(method, rate, seed, role, speed(rate, seed), **found)
        for rate in rates
        for role in roles
        for seed in SETTINGS.seeds(role)
    ]


def _jumps(
    count: int = 9, seconds: float = 1.0, forwards: int = 0, after: float = 0.0
) -> list[Row]:
    return [
        {
            "step": 90 * (i + 1),
            "before": math.exp(-0.9 * (i + 1)),
            "after": math.exp(-0.9 * (i + 1)) + after,
            "accepted": True,
            "seconds": seconds,
            "forwards": forwards,
        }
        for i in range(count)
    ]


def _only(rows: Sequence[Row], label: str, **how: Any) -> LoopStanding:
    return next(s for s in loop_standings(rows, **how) if s.label == label)


def _noise(scale: float, salt: int) -> Speed:
    """Speeds whose logarithms are normal around the learning rate's."""
    return lambda rate, seed: (
        SPEEDS[rate]
        * math.exp(scale * np.random.default_rng([seed, salt, int(1e4 * rate)]).normal())
    )


# --- reaching a level ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1.0, 46.0, 90.0, 333.3, 900.0])
def test_when_the_loss_falls_exponentially_then_interpolation_in_log_is_exact(step: float) -> None:
    level = math.exp(-0.01 * step) * (1 + 1e-12)
    for window in (0, 100):
        found = arrival(_row(), "train_loss", level, window)
        assert found is not None
        assert found.step == pytest.approx(step, abs=1e-6)


def test_when_a_level_is_never_reached_then_there_is_no_arrival() -> None:
    assert arrival(_row(), "train_loss", math.exp(-9.01)) is None
    assert arrival(_row(measured={}), "train_loss", 0.5) is None
    assert arrival(_row(measured={}), "test_accuracy", 0.5) is None


def _accuracy_row(accuracies: Sequence[float | None]) -> Row:
    steps = list(range(0, 10 * len(accuracies), 10))
    return _row(measured={"step": steps, "test_accuracy": list(accuracies)})


@pytest.mark.parametrize(
    ("accuracies", "step"),
    [
        ([0.1, 0.9, 0.2, 0.3, 0.5, 0.6, 0.7, 0.2], 40.0),  # one spike, then three in a row
        ([0.1, 0.3, 0.7, 0.7, 0.7, 0.1], 15.0),  # half-way between 0.3 and 0.7
        ([0.1, 0.2, 0.3, 0.4, 0.4, 0.6], 45.0),  # to the end
        ([0.1, None, 0.6, 0.6, 0.6], 20.0),  # nothing to interpolate from
        ([0.1, 0.6, None, 0.6, 0.6, 0.6], 30.0),  # what is not finite is not held
        ([0.1, 0.6, 0.6, 0.4, 0.6, 0.4], None),
    ],
)
def test_when_accuracy_is_to_stay_then_a_spike_does_not_count(
    accuracies: list[float | None], step: float | None
) -> None:
    found = arrival(_accuracy_row(accuracies), "test_accuracy", 0.5)
    assert (found and found.step) == (step if step is None else pytest.approx(step))


def test_when_a_jump_reaches_the_level_then_it_is_reached_at_its_step_and_paid_for() -> None:
    jump = {"step": 45, "before": 0.5, "after": 0.1, "accepted": True, "seconds": 1, "forwards": 0}
    row = _row(measured={"step": [0, 45], "train_loss": [1.0, 0.1]}, jumps=[jump])
    by_jump, before = (arrival(row, "train_loss", level) for level in (0.2, 0.5**0.5))
    assert by_jump is not None
    assert before is not None
    assert (by_jump.step, by_jump.jumps) == (45.0, 1)
    assert (before.step, before.jumps) == (pytest.approx(22.5), 0)


def test_when_a_jump_lies_between_measurements_then_its_losses_are_points_of_the_line() -> None:
    jump = {"step": 20, "before": 0.5, "after": 0.25, "accepted": True, "seconds": 1, "forwards": 0}
    row = _row(measured={"step": [0, 40], "train_loss": [1.0, 0.125]}, jumps=[jump])
    found = arrival(row, "train_loss", 0.25 * 0.5**0.5)
    assert found is not None
    assert (found.step, found.jumps) == (pytest.approx(30.0), 1)
    row["jumps"][0]["accepted"] = False  # then training went on from 0.5
    found = arrival(row, "train_loss", 0.25)
    assert found is not None
    assert (found.step, found.jumps) == (pytest.approx(30.0), 1)
    # The moving average knows a jump from the next step on only.
    row["measured"]["average-100_train_loss"] = [1.0, 0.25]
    row["jumps"][0]["step"] = 40
    found = arrival(row, "train_loss", 0.5, 100)
    assert found is not None
    assert (found.step, found.jumps) == (pytest.approx(20.0), 0)


# --- targets -------------------------------------------------------------------------------


def test_when_targets_are_set_then_the_best_plain_runs_are_there_at_the_share() -> None:
    # What is no plain calibration run has no say.
    rows = _pool() + _pool("ols-line", lambda rate, seed: 1.0)
    rows.append(_row("ols-line", seed=1000, role="calibration", speed=0.001))
    found = calibrated(rows, BUDGET)
    assert found["train_loss", "hard"].level == pytest.approx(math.exp(-4.5))
    assert found["test_accuracy", "hard"].level == pytest.approx(1 - math.exp(-4.5))
    assert found["train_loss", "easy"].level == pytest.approx(math.exp(-2.25))
    # 0.01, 0.008 and 0.006 get to exp(-4.5) in 900 steps, and 0.005 just so; 4 seeds each.
    assert (found["train_loss", "hard"].reached, found["train_loss", "hard"].runs) == (16, 16)


def test_when_one_calibration_run_is_slow_then_the_level_waits_for_it() -> None:
    slow = SETTINGS.seeds("calibration")[0]
    rows = _pool(speed=lambda rate, seed: SPEEDS[rate] * (0.9 if seed == slow else 1.0))
    target = calibrated(rows, BUDGET)["train_loss", "hard"]
    assert target.level == pytest.approx(math.exp(-4.05))
    assert (target.reached, target.runs) == (16, 16)


def test_when_there_are_two_optimizers_then_runs_of_both_are_at_the_level() -> None:
    rows = _pool() + _pool(speed=lambda rate, seed: 0.5 * SPEEDS[rate], optimizer="adam")
    target = calibrated(rows, BUDGET)["train_loss", "hard"]
    assert target.level == pytest.approx(math.exp(-2.25))
    assert (target.reached, target.runs) == (32, 32)


def test_when_a_calibration_run_diverges_then_its_configuration_is_not_the_best() -> None:
    rows = _pool()
    for row in rows:
        if row["learning_rate"] == 0.15 and row["seed"] == 1000:
            row["measured"]["train_loss"] = [1.0] + [None] * (len(STEPS) - 1)
    assert calibrated(rows, BUDGET)["train_loss", "hard"].level == pytest.approx(math.exp(-3.6))


def test_when_nothing_is_measured_by_the_share_then_there_is_no_such_target() -> None:
    rows = _pool()
    for row in rows:
        row["measured"] = {
            name: [values[0], *values[-2:]] for name, values in row["measured"].items()
        }
    assert calibrated(rows, BUDGET) == {}
    assert calibrated([], 0.0) == {}


# --- tuned against tuned ----------------------------------------------------------------------


def test_when_a_method_is_twice_as_fast_then_its_ratio_is_a_half_with_no_width() -> None:
    rows = _pool() + _pool("null") + _pool("ols-line", lambda rate, seed: 2 * SPEEDS[rate])
    for readout in ("raw", "average"):
        found = _only(rows, "ols-line", readout=readout)
        bounds = astuple(found.ratio)
        assert bounds == pytest.approx((0.5, 0.5, 0.5))
        assert (found.same_rate.value, found.same_rate.lower) == pytest.approx((0.5, 0.5))
        assert found.steps_mean == pytest.approx(225.0)
        assert found.plain_steps_mean == pytest.approx(450.0)
        assert (found.seconds_mean, found.plain_seconds_mean) == pytest.approx((112.5, 225.0))
        assert (found.verdict, found.null.value) == (FASTER, pytest.approx(1.0))
        by = ", average 100" if readout == "average" else ""
        assert str(found.configuration) == f"sgd, constant, 0.15{by}"
        assert (found.runs, found.misses, found.plain_misses, found.left_out) == (8, 0, 0, "")
    null = _only(rows, "null")
    assert null.verdict == SAME
    assert astuple(null.ratio) == pytest.approx((1.0, 1.0, 1.0))
    assert [s.label for s in loop_standings(rows)] == ["ols-line", "null"]


def test_when_the_target_is_an_accuracy_then_the_ratio_is_near_the_same() -> None:
    rows = _pool() + _pool("null") + _pool("slow", lambda rate, seed: 0.5 * SPEEDS[rate])
    found = _only(rows, "slow", kind="test_accuracy", target="easy")
    assert found.ratio.value == pytest.approx(2.0, rel=0.01)
    assert found.verdict == SLOWER
    assert found.target.level == pytest.approx(1 - math.exp(-2.25))


def test_when_only_the_method_has_a_better_rate_then_the_same_rate_flatters_it() -> None:
    # At its own rate 0.225 the method is twice as fast as plain, but plain can take 0.15.
    speeds = {0.1: 0.004, 0.15: 0.008, 0.225: 0.016, 0.3375: 0.004}
    rows = _pool() + _pool("null") + _pool("m", lambda rate, seed: speeds[rate])
    found = _only(rows, "m")
    assert found.ratio.value == pytest.approx(0.01 / 0.016)
    assert found.same_rate.value == pytest.approx(0.5)


def test_when_jumps_cost_then_they_are_added_to_the_step_exactly() -> None:
    # exp(-4.5) is reached at step 450, by training: four jumps lie before, the fifth is at 450.
    rows = _pool() + _pool("null") + _pool("m", jumps=_jumps(seconds=1.0, forwards=2))
    found = _only(rows, "m")
    assert found.steps_mean == pytest.approx(450 + 4 * (1.0 + 2 * 0.1) / 0.5)
    assert found.verdict == SLOWER


def test_when_one_jump_and_one_step_were_hiccups_then_medians_decide() -> None:
    rows = _pool() + _pool("m", jumps=_jumps(seconds=1.0))
    slow = [row for row in rows if row["method"] == "m"][7]
    slow["jumps"] = _jumps(seconds=1000.0)
    slow["step_seconds"] = 50.0
    costs = data_set_costs("d", rows, Target("train_loss", "hard", math.exp(-4.6)), "raw", BUDGET)
    assert costs.tables["m"].cost[1] == pytest.approx(460 + 5 * 1.0 / 0.5)


def test_when_lookahead_syncs_then_each_sync_so_far_is_charged() -> None:
    entry = [{"step": 5, "every": 5, "seconds": 0.05}]
    rows = _pool() + _pool("lookahead", jumps=entry)
    costs = data_set_costs("d", rows, Target("train_loss", "hard", math.exp(-4.48)), "raw", BUDGET)
    assert costs.tables["lookahead"].cost[1] == pytest.approx(448 + 89 * 0.05 / 0.5)
    assert math.isnan(_only(rows, "lookahead").harmful)
    assert math.isnan(_only(rows, "lookahead").accepted)


def test_when_a_run_misses_or_fails_then_it_counts_with_the_whole_budget() -> None:
    seeds = SETTINGS.seeds("report")
    rows = _pool() + _pool("null") + _pool("m", jumps=_jumps(seconds=1.0))
    for row in rows:
        if row["method"] == "m" and row["seed"] == seeds[0]:
            row.update(status="failed", measured={}, jumps=_jumps(3), step_seconds=None)
        if row["method"] == "m" and row["seed"] == seeds[1]:
            row["measured"]["train_loss"] = [1.0] * len(STEPS)
    found = _only(rows, "m")
    assert (found.misses, found.failures, found.plain_misses) == (2, 1, 0)
    assert found.steps_mean == pytest.approx(
        (6 * (450 + 4 * 2) + (900 + 3 * 2) + (900 + 9 * 2)) / 8
    )


def test_when_neither_side_reaches_the_target_then_there_is_no_verdict() -> None:
    rows = [row for row in _pool() if row["seed_role"] == "calibration"]
    for method in ("no-forecast", "null", "m"):
        made = _pool(method, lambda rate, seed: 1e-4)
        rows += [row for row in made if row["seed_role"] != "calibration"]
    assert _only(rows, "m").verdict == UNREACHED
    assert _only(rows, "m").misses == _only(rows, "m").plain_misses == 8
    assert edges(rows) == set()


def test_when_there_is_no_null_row_then_there_is_no_verdict() -> None:
    rows = _pool() + _pool("m", lambda rate, seed: 2 * SPEEDS[rate])
    assert _only(rows, "m").verdict == NO_NULL
    assert math.isnan(_only(rows, "m").smallest_saving)


def test_when_a_method_changes_nothing_then_an_unlucky_null_does_not_make_it_faster() -> None:
    rows = _pool() + _pool("null", lambda rate, seed: 0.8 * SPEEDS[rate]) + _pool("last-value")
    assert _only(rows, "last-value").verdict == SAME
    assert _only(rows, "null").verdict == SAME


def test_when_a_small_gain_lies_within_what_other_batches_do_then_it_is_not_told() -> None:
    rows = _pool() + _pool("null", _noise(0.1, 1))
    for name, factor in (("little", 1.04), ("much", 1.5), ("worse", 0.6)):
        rows += _pool(name, lambda rate, seed, f=factor: f * SPEEDS[rate])  # on the same batches
    null = _only(rows, "null")
    assert null.null == null.ratio
    assert null.ratio.lower < 1 / 1.04 < null.ratio.upper
    little = _only(rows, "little")
    assert little.ratio.upper < min(1.0, null.ratio.value)
    assert little.verdict == SAME
    assert _only(rows, "much").verdict == FASTER
    assert _only(rows, "worse").verdict == SLOWER


# --- choosing and drawing -------------------------------------------------------------------


def _costs(seed: int, validation: int = 3, report: int = 5, scale: float = 0.1) -> Sides:
    random = np.random.default_rng(seed)
    base = np.array([[500.0], [450.0], [440.0], [460.0], [520.0]])
    shape = (len(base), validation + report)
    method, plain = (base * np.exp(scale * random.normal(size=shape)) for _ in range(2))
    return Sides(method, plain, validation)


def test_when_a_configuration_is_best_by_luck_on_validation_seeds_then_it_is_not_flattered() -> (
    None
):
    # Configuration 1 wins on the validation seeds alone, 0 on the report seeds alone.
    plain = np.full((2, 8), 400.0)
    method = np.array([[400.0] * 3 + [200.0] * 5, [100.0] * 3 + [800.0] * 5])
    found = compare(Sides(method, plain, 3), np.random.default_rng(0), 50)
    assert found.choices == (1, 0)
    # What validation seeds chose is read off on report seeds, and the other way round.
    assert scored(method, found.choices, 3).tolist() == [400.0] * 3 + [800.0] * 5
    assert np.exp(found.tuned.value) == pytest.approx(2.0 ** (5 / 8))


def test_when_roles_are_swapped_then_the_ratio_is_the_same() -> None:
    for seed in range(20):
        sides = _costs(seed)
        turned = Sides(np.roll(sides.method, -3, axis=1), np.roll(sides.plain, -3, axis=1), 5)
        first, second = (compare(s, np.random.default_rng(0), 10) for s in (sides, turned))
        assert first.tuned.value == pytest.approx(second.tuned.value)
        assert first.choices == second.choices[::-1] == choose(turned.method, 5)[::-1]


def test_when_draws_are_written_out_then_the_vectorised_error_is_the_same() -> None:
    sides = _costs(1)
    found = compare(sides, np.random.default_rng(5), 30)
    random = np.random.default_rng(5)
    counts = [random.multinomial(k, np.full(k, 1 / k), size=30) for k in (3, 5)]
    logs, plain_logs = np.log(sides.method), np.log(sides.plain)
    totals, each = [], []
    for draw in range(30):
        first = np.repeat(np.arange(3), counts[0][draw])
        second = 3 + np.repeat(np.arange(5), counts[1][draw])
        total, at_choice = 0.0, np.empty(8)
        roles = (first, second, np.arange(3, 8)), (second, first, np.arange(3))
        for chosen_on, scored_on, role in roles:
            m, p = (log[:, chosen_on].mean(axis=1).argmin() for log in (logs, plain_logs))
            total += (logs[m, scored_on] - plain_logs[p, scored_on]).sum()
            at_choice[role] = logs[m, role] - plain_logs[p, role]
        totals.append(total / 8)
        each.append(at_choice)

    def noise(x: np.ndarray) -> float:
        return float(3 * x[:3].var(ddof=1) + 5 * x[3:].var(ddof=1)) / 64

    mean = np.mean([noise(x) for x in each])
    changes = np.mean([noise(each[i] - each[i - 1]) for i in range(30)]) / 2
    expected = max(mean, np.var(totals) + mean * 2 / 8 - changes)
    assert found.tuned.error == pytest.approx(np.sqrt(expected))


def test_when_one_configuration_is_far_ahead_then_the_error_is_that_of_a_paired_mean() -> None:
    sides = _costs(2, 8, 8, scale=0.01)
    sides.method[2] *= 0.5
    sides.plain[2] *= 0.5
    found = compare(sides, np.random.default_rng(0), 4000)
    own = np.log(sides.method[2] / sides.plain[2])
    error = math.sqrt(own[:8].var(ddof=1) / 8 + own[8:].var(ddof=1) / 8) / 2
    assert found.choices == found.plain_choices == (2, 2)
    assert found.tuned.error == pytest.approx(error, rel=0.05)


def _simulation() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "loop_coverage.py"))


@pytest.mark.parametrize("world", ["apart", "near", "tied"])
def test_when_experiments_are_simulated_then_intervals_and_power_hold(world: str) -> None:
    found = _simulation()["simulate"](world, (8, 8), 200, 150, percentiles=False)
    # 0.95 and 0.80, with three Monte-Carlo errors and what is told of wider intervals in docs.
    assert 0.90 <= found.own <= 0.99
    assert 0.68 <= found.power <= 0.92
    assert found.called <= 0.06


def test_when_draws_are_made_again_then_they_are_the_same() -> None:
    rows = _pool(speed=_noise(0.1, 0)) + _pool("null", _noise(0.1, 1))
    assert loop_standings(rows) == loop_standings(rows[::-1])


@pytest.mark.parametrize(("validation", "report"), [(3, 5), (4, 6)])
def test_when_methods_are_noise_then_one_in_twenty_is_called_better_or_worse(
    validation: int, report: int
) -> None:
    simulations, called, outside = 400, 0, 0
    for seed in range(simulations):
        method, null = (
            _costs(2 * seed, validation, report),
            _costs(2 * seed + 1, validation, report),
        )
        against = Sides(null.method, method.plain, validation)
        found = [compare(sides, np.random.default_rng(seed), 300) for sides in (method, against)]
        own = ratio_of(found[0].tuned, (validation, report))
        ratio = float(np.exp(found[1].tuned.value))
        outside += not own.lower <= ratio <= own.upper
        called += own.upper < min(1.0, ratio) or own.lower > max(1.0, ratio)
    assert outside / simulations <= 0.08  # 0.05, and three standard errors
    assert called <= outside
    assert called / simulations <= 0.05


def test_when_null_methods_go_through_the_whole_then_few_have_a_verdict() -> None:
    plain, null = _pool(speed=_noise(0.08, 0)), _pool("null", _noise(0.08, 1))
    rows = plain + null
    for salt in range(2, 42):
        rows += [row | {"method": f"m{salt}"} for row in _pool("null", _noise(0.08, salt))]
    found = loop_standings(rows)
    verdicts = [s.verdict for s in found]
    assert verdicts.count(FASTER) + verdicts.count(SLOWER) <= 4
    assert verdicts.count(SAME) >= 30
    assert next(s for s in found if s.label == "null").verdict in (SAME, EDGE)


def test_when_the_error_is_known_then_the_interval_is_that_of_students_t() -> None:
    found = ratio_of(LogRatio(0.0, 1 / 3), [9])
    assert np.log([found.lower, found.upper]) == pytest.approx([-2.306 / 3, 2.306 / 3], rel=1e-4)


def test_when_data_sets_are_pooled_then_their_errors_are_those_of_independent_means() -> None:
    found = pooled([LogRatio(0.1, 0.3), LogRatio(0.3, 0.4)])
    assert (found.value, found.error) == (pytest.approx(0.2), pytest.approx(0.25))


def test_when_a_true_saving_is_the_smallest_told_then_four_in_five_estimates_are_faster() -> None:
    random, null, error = np.random.default_rng(0), Estimate(1.0, 0.95, 1.05), 0.04
    saving = smallest_saving(error, null, 46)
    called = 0
    for _ in range(4000):
        # What is told of noise is an estimate of it, as good as its degrees of freedom.
        told = error * math.sqrt(random.chisquare(46) / 46)
        ratio = ratio_of(LogRatio(math.log1p(-saving) + error * random.normal(), told), [24, 24])
        called += verdict_of(ratio, null, edge=False, reached=True) == FASTER
    assert called / 4000 == pytest.approx(0.8, abs=0.02)


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.floats(0.5, 1.5), st.floats(0.5, 0.99))
def test_when_noise_grows_then_no_smaller_saving_would_be_seen(
    first: float, second: float, null: float, share: float
) -> None:
    less, more = sorted((first, second))
    row = Estimate(null, null * share, null / share)
    assert 0 < smallest_saving(less, row, 6) <= smallest_saving(more, row, 6) < 1
    assert smallest_saving(less, row, 46) <= smallest_saving(less, row, 6)
    assert math.isnan(smallest_saving(less, Estimate(), 46))
    assert math.isnan(smallest_saving(less, row, 0))


def test_when_a_role_has_one_seed_then_there_is_no_interval() -> None:
    rows = [row for row in _pool() + _pool("null") if row["seed"] not in (2001, 2002)]
    found = _only(rows, "null")
    assert found.verdict == FEW_SEEDS
    assert not found.ratio.bounded
    for seeds in ([2, 2], [1, 7], [2, 2, 1, 5]):
        assert not ratio_of(LogRatio(0.0, 0.1), seeds).bounded


# --- edges -----------------------------------------------------------------------------------


def test_when_a_best_rate_ends_the_grid_then_it_is_refused_and_named() -> None:
    climbing = dict(zip(RATES, (0.006, 0.008, 0.01, 0.012), strict=True))
    rows = _pool() + _pool("null") + _pool("m", lambda rate, seed: climbing[rate])
    assert edges(rows) == {("d", "sgd", "high")}
    found = _only(rows, "m")
    assert (found.edge, found.verdict) == (True, EDGE)
    assert not _only(rows, "null").edge


def test_when_plain_training_is_at_an_edge_then_no_method_has_a_verdict() -> None:
    falling = dict(zip(RATES, (0.01, 0.008, 0.006, 0.005), strict=True))
    rows = _pool(speed=lambda rate, seed: falling[rate])
    rows += _pool("null") + _pool("m", lambda rate, seed: 2 * SPEEDS[rate])
    assert edges(rows) == {("d", "sgd", "low")}
    assert {s.verdict for s in loop_standings(rows)} == {EDGE}


def test_when_only_one_roles_choice_is_at_an_edge_then_it_is_flagged() -> None:
    rows = _pool() + _pool("null")
    rows += _pool("m", lambda rate, seed: 0.02 if seed >= 3000 and rate == 0.1 else SPEEDS[rate])
    assert edges(rows) == {("d", "sgd", "low")}
    assert _only(rows, "m").verdict == EDGE


#: Speeds that rise with the learning rate, all below the best of `SPEEDS`.
CLIMBING = dict(zip(RATES, (0.006, 0.007, 0.008, 0.009), strict=True))


@pytest.mark.parametrize("method", ["no-forecast", "m"])
def test_when_an_optimizers_own_best_ends_its_grid_then_it_grows_though_another_is_better(
    method: str,
) -> None:
    rows = [row for label in ("no-forecast", "null", "m") for row in _pool(label)]
    for label in ("no-forecast", "null", "m"):
        speeds = CLIMBING if label == method else {rate: 0.9 * v for rate, v in SPEEDS.items()}
        rows += _pool(label, lambda rate, seed, of=speeds: of[rate], optimizer="adam")
    assert edges(rows) == {("d", "adam", "high")}


def test_when_a_grid_grows_no_more_then_the_verdict_stands_and_names_the_optimizer() -> None:
    rows = _pool() + _pool("null") + _pool("m", lambda rate, seed: 2 * SPEEDS[rate])
    rows += _pool(speed=lambda rate, seed: CLIMBING[rate], optimizer="adam")
    for label in ("null", "m"):
        rows += _pool(label, lambda rate, seed: 0.9 * SPEEDS[rate], optimizer="adam")
    found = _only(rows, "m")
    assert (found.edge, found.verdict) == (False, FASTER)
    assert [str(end) for end in found.untuned] == ["adam, constant, 0.3375 of no-forecast"]
    assert found.untuned[0].behind == pytest.approx(10 / 9)
    board = loop_board(rows)
    (note,) = [note for note in board.notes if "may not be tuned" in note]
    assert "adam with the schedule constant" in note
    assert "no-forecast (0.3375, 1.11 times the steps of its choice)" in note
    records = board_records(board)
    assert {one["untuned"] for one in records if one["dataset"] == "d"} == {
        "adam, constant, 0.3375 of no-forecast"
    }
    assert {one["untuned"] for one in records if one["dataset"] == "pooled"} == {
        "d: adam, constant, 0.3375 of no-forecast"
    }


def test_when_a_schedules_own_best_ends_the_grid_then_it_grows_though_another_is_better() -> None:
    rows = _pool() + _pool("null")
    rows += _pool(speed=lambda rate, seed: CLIMBING[rate], schedule="linear-1.0")
    assert edges(rows) == {("d", "sgd", "high")}


def test_when_every_optimizers_own_best_is_inside_then_nothing_grows_or_is_noted() -> None:
    rows = []
    for label in ("no-forecast", "null", "m"):
        for optimizer in ("sgd", "adam"):
            rows += _pool(label, optimizer=optimizer)
    assert edges(rows) == set()
    assert not any(s.untuned for s in loop_standings(rows))
    assert not any("may not be tuned" in note for note in loop_board(rows).notes)


def test_when_no_run_reaches_the_target_then_the_lowest_loss_says_where_to_grow() -> None:
    # Far from the target all rates cost the whole budget, and the last loss falls with the rate.
    far = {rate: 0.01 * speed for rate, speed in CLIMBING.items()}
    rows = _pool() + _pool("null") + _pool("m", lambda rate, seed: far[rate])
    assert edges(rows) == {("d", "sgd", "high")}
    found = _only(rows, "m")
    assert (found.misses, found.edge, found.verdict) == (8, False, SLOWER)
    assert math.isinf(found.untuned[0].behind)
    assert any("m (0.3375; no rate reaches the target)" in n for n in loop_board(rows).notes)


def test_when_all_rates_are_as_good_or_all_fail_then_there_is_nowhere_to_grow() -> None:
    rows = _pool() + _pool("null")
    assert edges(rows + _pool("m", lambda rate, seed: 1e-4)) == set()
    assert edges(rows + _pool("m", lambda rate, seed: 0.01)) == set()
    assert edges(rows + _pool("m", status="failed", measured={})) == set()


# --- fitting, jumps ----------------------------------------------------------------------------


def test_when_fitting_costs_then_uses_share_it_and_break_even_follows() -> None:
    rows = _pool() + _pool("null")
    rows += _pool("m", lambda rate, seed: 2 * SPEEDS[rate], fit_steps=2700, fit_seconds=150.0)
    found = _only(rows, "m")
    assert found.fit_cost == pytest.approx(2700 + 150 / 0.5)
    assert found.uses == pytest.approx({uses: (225 + 3000 / uses) / 450 for uses in (1, 10, 100)})
    assert found.break_even == pytest.approx(3000 / 225)


def test_when_nothing_is_saved_or_nothing_is_fitted_then_break_even_says_so() -> None:
    assert break_even(100.0, 0.0) == math.inf
    assert break_even(100.0, -5.0) == math.inf
    assert break_even(0.0, 5.0) == 0.0
    assert break_even(0.0, 0.0) == math.inf


def test_when_jumps_raise_the_loss_then_their_share_is_told_accepted_or_not() -> None:
    jumps = _jumps(4, after=-0.001)
    jumps[1] |= {"after": jumps[1]["before"] + 0.5, "accepted": False}
    jumps[2] |= {"after": None}
    found = _only(_pool() + _pool("null") + _pool("m", jumps=jumps), "m")
    assert found.harmful == pytest.approx(1 / 3)
    assert found.accepted == pytest.approx(3 / 4)
    assert found.jump_change == pytest.approx(-0.001)


# --- half-done folders, labels, many data sets ---------------------------------------------------


def test_when_a_folder_is_half_done_then_what_both_sides_have_is_compared() -> None:
    rows = _pool() + _pool("null")
    made = _pool("m", lambda rate, seed: 2 * SPEEDS[rate])
    done = [r for r in made if r["learning_rate"] != 0.3375 and r["seed"] != 3004]
    found = _only(rows + done, "m")
    assert found.ratio.value == pytest.approx(0.5)
    assert found.runs == 7
    assert found.left_out == "3 of 4 configurations and 7 of 8 seeds are done on both sides"
    assert not found.edge


def test_when_one_role_is_missing_then_the_method_is_left_out_with_a_line() -> None:
    rows = _pool() + _pool("null")
    started = [row for row in _pool("m") if row["seed_role"] == "validation"]
    assert [s.label for s in loop_standings(rows + started)] == ["null"]
    assert loop_left_out(rows + started) == [
        "d, m: no configuration is done on both sides with seeds of both roles"
    ]
    uncalibrated = [row for row in rows if row["seed_role"] != "calibration"]
    assert loop_standings(uncalibrated) == []
    assert loop_left_out(uncalibrated) == ["d: no calibration runs that set the target are done"]
    without_plain = [
        row for row in rows if row["method"] == "null" or row["seed_role"] == "calibration"
    ]
    assert loop_standings(without_plain) == []
    assert loop_standings([]) == loop_summary([]) == loop_left_out([]) == []
    assert edges([]) == set()


def test_when_runs_are_missing_here_and_there_then_a_full_block_is_left() -> None:
    present = np.ones((4, 6), dtype=bool)
    present[1] = False
    present[3, 5] = False
    assert complete(present) == ([0, 2, 3], [0, 1, 2, 3, 4]) or complete(present) == (
        [0, 2],
        [0, 1, 2, 3, 4, 5],
    )
    configurations, seeds = complete(present)
    assert present[np.ix_(configurations, seeds)].all()
    assert complete(np.zeros((3, 2), dtype=bool)) == ([], [])


def test_when_a_row_is_named_then_its_label_is_the_jobs() -> None:
    row = _row("damped-line", accept="if-better") | {"params": '{"k": 3}'}
    assert label_of(row) == "damped-line(k=3, if-better)"
    assert budget_of([row, _row(measured={})]) == BUDGET


def test_when_data_sets_are_pooled_then_ratios_are_multiplied() -> None:
    rows: list[Row] = []
    for dataset, factor in (("one", 2.0), ("two", 0.8), ("three", 2.0)):
        rows += _pool(dataset=dataset) + _pool("null", dataset=dataset)
        rows += _pool("m", lambda rate, seed, f=factor: f * SPEEDS[rate], dataset=dataset)
    found = {summary.label: summary for summary in loop_summary(rows)}
    m = found["m"]
    assert astuple(m.ratio) == pytest.approx((0.3125 ** (1 / 3),) * 3)
    assert (m.verdict, m.null.value, m.runs) == (FASTER, pytest.approx(1.0), 24)
    assert m.datasets == ("one", "three", "two")
    assert found["null"].verdict == SAME
    assert list(found) == ["m", "null"]


def test_when_data_sets_are_pooled_then_intervals_shrink() -> None:
    rows: list[Row] = []
    for i in range(4):
        rows += _pool(speed=_noise(0.05, 10 * i), dataset=f"d{i}")
        rows += _pool("null", _noise(0.05, 10 * i + 1), dataset=f"d{i}")
    pooled = loop_summary(rows)[0]
    alone = [math.log(s.ratio.upper / s.ratio.lower) for s in loop_standings(rows)]
    assert math.log(pooled.ratio.upper / pooled.ratio.lower) < 0.7 * np.mean(alone)
    without = [row for row in rows if (row["method"], row["dataset"]) != ("null", "d3")]
    extra = [row | {"method": "m"} for row in rows if row["method"] == "null"]
    m = next(s for s in loop_summary(without + extra) if s.label == "m")
    assert m.verdict in (NO_NULL, EDGE)
    assert not m.null.known


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"readout": "mean"}, "unknown read-out 'mean'"),
        ({"kind": "loss"}, "unknown kind of target 'loss'"),
        ({"target": "hardest"}, "unknown target 'hardest': did you mean hard"),
    ],
)
def test_when_a_name_is_wrong_then_the_choices_are_said(how: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        loop_standings(_pool(), **how)


def test_when_there_are_fifteen_hundred_rows_then_scoring_takes_seconds() -> None:
    rows: list[Row] = []
    for dataset in ("one", "two"):
        for method in ["no-forecast", "null", *(f"m{i}" for i in range(10))]:
            for optimizer in ("sgd", "adam"):
                rows += _pool(method, _noise(0.1, 1), dataset=dataset, optimizer=optimizer)
    began = time.process_time()
    found = loop_standings(rows)
    edges(rows)
    loop_summary(rows)
    assert len(rows) > 1500
    assert len(found) == 22
    assert time.process_time() - began < 20
    assert replace(found[0], label="x").label == "x"


# --- performance profiles --------------------------------------------------------------------


def _on_sets(*sets: dict[str, float]) -> list[Row]:
    """Pools on several data sets: by method, how much faster than plain training."""
    rows = []
    for index, speeds in enumerate(sets):
        for method, factor in ({"no-forecast": 1.0, "null": 1.3} | speeds).items():
            rows += _pool(
                method, lambda rate, seed, f=factor: f * SPEEDS[rate], dataset=f"d{index}"
            )
    return rows


def test_when_methods_are_profiled_then_factors_are_over_the_fastest_of_each_set() -> None:
    # m misses the target of the second set, and the third set has no m at all.
    rows = _on_sets({"m": 2.0, "k": 1.0}, {"m": 0.3, "k": 0.8}, {"k": 1.25})
    found = {one.label: one for one in profiles(loop_standings(rows))}
    assert set(found) == {"no-forecast", "m", "k"}
    assert found["m"].factors == pytest.approx((1.0, math.inf, math.inf))
    assert found["k"].factors == pytest.approx((1.0, 1.25, 2.0))
    assert found["no-forecast"].factors == pytest.approx((1.0, 1.25, 2.0))
    assert [found["k"].within(t) for t in (1.0, 1.25, 1.9, 2.0)] == pytest.approx(
        [1 / 3, 2 / 3, 2 / 3, 1]
    )


def test_when_no_method_solves_a_set_then_it_counts_against_all() -> None:
    rows = [row for row in _on_sets({"m": 1.0}) if row["seed_role"] == "calibration"]
    rows += [row for row in _on_sets({"m": 1.0}) if row["seed_role"] != "calibration"]
    for row in rows:
        if row["seed_role"] != "calibration":
            row["measured"]["train_loss"] = [1.0] * len(STEPS)
    assert {one.within(1e9) for one in profiles(loop_standings(rows))} == {0.0}
