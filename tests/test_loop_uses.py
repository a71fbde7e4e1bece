"""The loop tier's uses of a forecast: read-outs and outer steps, and the averages beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightcast.bench.loop.costs import data_set_costs
from weightcast.bench.loop.scores import WINDOW_EDGE, loop_standings
from weightcast.bench.loop.stepping.runs import Optimizer
from weightcast.bench.loop.stepping.side_by_side import SideBySide
from weightcast.bench.loop.targets import Target
from weightcast.bench.loop.training import run_loop
from weightcast.bench.plan.loop_groups import first_grids, loop_groups
from weightcast.bench.plan.loop_row import LoopRow, loop_row
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun, LoopSettings, recipe_of
from weightcast.bench.plan.suite import Suite, load_suite
from weightcast.datasets import InputError
from weightcast.methods import load_plugin

pytestmark = pytest.mark.kernels

SETTINGS = LoopSettings(
    steps=30, spacing=3, context=3, horizon=2, measure_every=6, measured=64, training=2,
    averages=[4, 16], horizons=[1, 2], outer_every=2,
)  # fmt: skip


def _group(method: str, use: str = "read-out", **changes: Any) -> LoopGroup:
    runs = tuple(
        LoopRun(0.2, seed, "report", f"{seed} {horizon}", horizon=horizon)
        for seed in (0, 1)
        for horizon in ((1, 2) if use == "read-out" else (0,))
    )
    group = LoopGroup(
        "s", "digits-mlp-sgd", method, "{}", "always", "sgd", "constant", runs, SETTINGS, use=use
    )
    return replace(group, **changes)


def _alone(seed: int = 0) -> SideBySide:
    table = np.full((1, SETTINGS.steps), 0.2)
    recipe = recipe_of("digits-mlp-sgd")
    return SideBySide(recipe, Optimizer("sgd"), table, [seed], [str(seed)], 64, SETTINGS.averages)


# --- training ------------------------------------------------------------------------------


def test_when_a_forecast_is_read_out_then_it_is_measured_and_training_goes_on_untouched() -> None:
    rows = run_loop(_group("last-two-line"))
    assert [(row["seed"], row["horizon"]) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    alone, kept = _alone(), []
    expected: dict[int, list[float]] = {1: [], 2: []}
    for step in range(SETTINGS.steps + 1):
        if step:
            alone.step()
        if step % 3 == 0:
            kept.append(alone.weights.clone())
        if step % 6 == 0:
            for horizon, found in expected.items():
                # Before a window is whole weights are read as they are.
                ahead = horizon * (kept[-1] - kept[-2]) if len(kept) > 3 else 0.0
                found.append(float(alone.measure(kept[-1] + ahead).train_loss[0]))
    for row in rows[:2]:
        assert row["measured"]["train_loss"] == pytest.approx(expected[row["horizon"]], rel=1e-4)
        assert set(row["measured"]) == {"step", "train_loss", "test_loss", "test_accuracy"}
        # Two runs forecast at steps 12, 18, 24 and 30; both horizons come of one forecast.
        (reading,) = row["jumps"]
        assert (reading["step"], reading["reads"]) == (9, 8)
        assert reading["seconds"] > 0


def test_when_means_are_read_then_forecasts_begin_at_the_means_between_snapshots() -> None:
    settings = SETTINGS.model_copy(update={"read_means": True})
    group = _group("last-two-line", settings=settings)
    (row,) = run_loop(replace(group, runs=group.runs[:1]))
    alone, seen, means = _alone(), [], []
    for step in range(1, SETTINGS.steps + 1):
        alone.step()
        seen.append(alone.weights.clone())
        if step % 3 == 0:
            means.append(sum(seen[-3:]) / 3)  # type: ignore[arg-type]
    last = float(alone.measure(2 * means[-1] - means[-2]).train_loss[0])
    assert row["measured"]["train_loss"][-1] == pytest.approx(last, rel=1e-4)


def test_when_a_read_out_fails_then_its_own_runs_say_so_at_every_horizon(
    write_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightcast.methods import all_methods, registry

    all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    load_plugin(write_plugin("bad-reader", "raise RuntimeError('no reading today')"))
    rows = run_loop(_group("bad-reader"))
    assert [row["status"] for row in rows] == ["failed"] * 4
    assert all("no reading today" in row["reason"] for row in rows)


def test_when_steps_are_outer_then_weights_go_part_of_the_way_every_few_snapshots() -> None:
    group = _group("last-two-line", "outer")
    run = replace(group.runs[0], length=0.5)
    (row,) = run_loop(replace(group, runs=(run,)))
    # A window is whole at step 9; steps are outer every 6 steps from then on, but for the last.
    assert [jump["step"] for jump in row["jumps"]] == [12, 18, 24]
    alone = _alone()
    window = [alone.weights.clone()]
    for step in range(1, 31):
        alone.step()
        if step % 3 == 0:
            window.append(alone.weights.clone())
        if step in (12, 18, 24):
            move = 0.5 * 2 * (window[-1] - window[-2])
            alone.weights.add_(move)
            window = [snapshot + move for snapshot in window]
    last = float(alone.measure(alone.weights).train_loss[0])
    assert row["measured"]["train_loss"][-1] == pytest.approx(last, rel=1e-4)


def test_when_outer_steps_have_momentum_then_they_are_the_papers_recursion() -> None:
    settings = SETTINGS.model_copy(update={"snoo_every": 7})
    runs = tuple(
        LoopRun(0.2, 0, "report", f"{rate} {momentum}", rate, momentum=momentum)
        for rate, momentum in ((0.5, 0.0), (0.7, 0.8))
    )
    rows = run_loop(_group("snoo", "jump", settings=settings, runs=runs))
    for run, row in zip(runs, rows, strict=True):
        alone = _alone()
        slow, buffer = alone.weights.clone(), torch.zeros_like(alone.weights)
        for step in range(1, 31):
            alone.step()
            if step % 7 == 0:
                way = slow - alone.weights
                buffer = run.momentum * buffer + way
                slow = slow - run.length * (run.momentum * buffer + way)
                alone.weights.copy_(slow)
        last = float(alone.measure(alone.weights).train_loss[0])
        assert row["measured"]["train_loss"][-1] == pytest.approx(last, rel=1e-4)
        (sync,) = row["jumps"]
        assert (sync["step"], sync["every"]) == (7, 7)


def test_when_windows_are_tuned_then_each_has_its_own_moving_average() -> None:
    (row, *_) = run_loop(_group("no-forecast", "jump"))
    assert {f"average-{window}_train_loss" for window in (4, 16)} <= set(row["measured"])
    alone, averages = _alone(), {}
    for step in range(1, 31):
        before = alone.weights.clone() if step == 1 else None
        alone.step()
        for window in (4, 16):
            keep = min(1 - 1 / window, (1 + step) / (10 + step))
            averages[window] = torch.lerp(averages.get(window, before), alone.weights, 1 - keep)  # type: ignore[arg-type]
    for window, average in averages.items():
        loss = float(alone.measure(average).train_loss[0])
        assert row["measured"][f"average-{window}_train_loss"][-1] == pytest.approx(loss, rel=1e-4)


def test_when_a_rate_has_fallen_to_zero_then_weights_stand_still_and_averages_come_on() -> None:
    table = np.array([[0.2] * 5 + [0.0] * 25])
    runs = SideBySide(recipe_of("digits-mlp-sgd"), Optimizer("adam"), table, [0], ["0"], 64, [4])
    for _ in range(5):
        runs.step()
    still = runs.weights.clone()
    far = (runs.averages[4] - still).norm()
    for _ in range(20):
        runs.step()
    assert torch.equal(runs.weights, still)
    assert (runs.averages[4] - still).norm() < 0.01 * far


# --- the plan ------------------------------------------------------------------------------

SUITE = """
name = "readings"
datasets = ["digits-mlp-sgd"]
methods = ["ols-line"]
tiers = ["loop"]

[loop]
uses = ["read-out"]
horizons = [1, 4]
schedules = ["constant", "linear-0.5"]
read_schedules = ["constant"]
measure_every = 45

[loop.optimizers]
sgd = [0.1, 0.2, 0.4]
"""


@pytest.fixture
def suite_of(tmp_path: Path) -> Callable[..., Suite]:
    def load(old: str = "", new: str = "") -> Suite:
        assert old in SUITE
        path = tmp_path / "suite.toml"
        path.write_text(SUITE.replace(old, new), encoding="utf-8")
        return load_suite(str(path)).resolve()

    return load


def test_when_uses_are_read_outs_then_no_control_moves_weights_and_schedules_are_theirs(
    suite_of: Callable[..., Suite],
) -> None:
    suite = suite_of()
    groups = loop_groups(suite, first_grids(suite))
    assert [(g.method, g.use, g.schedule) for g in groups] == [
        ("no-forecast", "jump", "constant"), ("no-forecast", "jump", "linear-0.5"),
        ("null", "jump", "constant"), ("null", "jump", "linear-0.5"),
        ("ols-line", "read-out", "constant"),
    ]  # fmt: skip
    assert {run.horizon for run in groups[-1].runs} == {1, 4}
    assert groups[-1].label == "ols-line(read-out)"


def test_when_uses_are_several_then_each_is_a_row_and_controls_come_back(
    suite_of: Callable[..., Suite],
) -> None:
    suite = suite_of('uses = ["read-out"]', 'uses = ["jump", "outer"]\ncontrols = ["lookahead"]')
    labels = {group.label for group in loop_groups(suite, first_grids(suite))}
    assert labels == {"no-forecast", "null", "lookahead", "ols-line", "ols-line(outer)"}


def test_when_snoo_is_a_control_then_it_has_its_own_grid_at_every_rate(
    suite_of: Callable[..., Suite],
) -> None:
    suite = suite_of('uses = ["read-out"]', 'uses = ["jump"]\ncontrols = ["snoo"]')
    groups = loop_groups(suite, first_grids(suite))
    snoo = next(group.runs for group in groups if group.method == "snoo")
    grid = {(run.learning_rate, run.length, run.momentum) for run in snoo}
    assert grid == {(r, s, m) for r in (0.1, 0.2, 0.4) for s in (0.4, 0.7, 1.0) for m in (0, 0.5)}
    assert {run.pool_rate == run.learning_rate for run in snoo} == {True}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('uses = ["read-out"]', 'uses = ["readout"]', "did you mean read-out"),
        ("measure_every = 45", "measure_every = 44", "multiples of spacing, 9"),
        ("horizons = [1, 4]", "horizons = [4, 1]", "ascending"),
        ("horizons = [1, 4]", "horizons = [1, 2, 3]\naverages = [9]", "more horizons to choose"),
        ('read_schedules = ["constant"]', 'read_schedules = ["linear-0.4"]', "none of the pool"),
        ("measure_every = 45", "snoo_momenta = [0.0, 1.0]", "a momentum must be below 1"),
        ("measure_every = 45", "snoo_rates = [0.0, 1.0]", "ascend from above 0"),
    ],
)
def test_when_read_outs_are_asked_for_wrongly_then_it_is_said_in_a_line(
    old: str, new: str, said: str, suite_of: Callable[..., Suite]
) -> None:
    with pytest.raises(InputError, match=said):
        suite_of(old, new)


# --- scores, on made-up runs ---------------------------------------------------------------

STEPS = np.arange(0, 301, 30)
RATES = (0.1, 0.2, 0.4)
#: How fast raw weights fall, and their averages by window.
SPEEDS = {0: 0.01, 4: 0.015, 16: 0.02, 64: 0.012}


def _rows(
    method: str, use: str = "jump", schedule: str = "constant", **speeds: float
) -> list[LoopRow]:
    found = []
    roles = ["validation", "report"] + ["calibration"] * (method == "no-forecast")
    for rate in RATES:
        for role in roles:
            for seed in SETTINGS.seeds(role):
                horizon = 1 if use == "read-out" else 0
                run = LoopRun(rate, seed, role, "", horizon=horizon)
                group = LoopGroup(
                    "s", "d", method, "{}", "always", "sgd", schedule, (run,), SETTINGS, use=use
                )
                measured: dict[str, list[Any]] = {"step": STEPS.tolist()}
                for window, usual in SPEEDS.items():
                    if window and use == "read-out":
                        continue
                    speed = speeds.get(f"at_{window}", usual) * (1 if rate == 0.2 else 0.5)
                    losses = np.exp(-speed * STEPS).tolist()
                    prefix = f"average-{window}_" if window else ""
                    measured |= {f"{prefix}train_loss": losses, f"{prefix}test_accuracy": losses}
                found.append(
                    loop_row(group, run)
                    | {"measured": measured, "step_seconds": 0.5, "forward_seconds": 0.1}
                )
    return found


def _ratio(rows: list[LoopRow], label: str, readout: str) -> Any:
    return next(s for s in loop_standings(rows, readout) if s.label == label)


def test_when_plain_training_reads_out_its_best_average_then_a_read_out_has_to_beat_that() -> None:
    rows = _rows("no-forecast") + _rows("null") + _rows("ols-line", "read-out", at_0=0.04)
    for readout, plain, window in (("raw", 0.01, 0), ("average", 0.02, 16), ("tuned", 0.02, 16)):
        found = _ratio(rows, "ols-line(read-out)", readout)
        assert found.ratio.value == pytest.approx(plain / 0.04, rel=1e-6)
        assert found.plain_configuration.window == window
        assert found.configuration.window == 0
        assert found.verdict == "faster"


def test_when_raw_weights_are_best_then_tuned_read_outs_are_of_them_and_that_is_no_edge() -> None:
    slow = {f"at_{window}": 0.001 for window in (4, 16, 64)}
    rows = _rows("no-forecast", **slow) + _rows("null", **slow)
    found = _ratio(rows, "null", "tuned")
    assert (found.configuration.window, found.window_edge) == (0, False)


@pytest.mark.parametrize(("window", "other"), [(4, 64), (64, 4)])
def test_when_the_best_window_ends_the_windows_then_there_is_no_verdict(
    window: int, other: int
) -> None:
    fast = {f"at_{window}": 0.04}
    rows = _rows("no-forecast", **fast) + _rows("null", **fast)
    assert _ratio(rows, "null", "average").verdict == WINDOW_EDGE
    fast = {"at_16": 0.04, f"at_{other}": 0.01}
    rows = _rows("no-forecast", **fast) + _rows("null", **fast)
    assert _ratio(rows, "null", "average").verdict == "not distinguishable"


def test_when_only_plain_training_falls_then_a_read_out_has_to_beat_that_too() -> None:
    plain = _rows("no-forecast") + _rows("null")
    falling = [
        row
        for method in ("no-forecast", "null")
        for row in _rows(method, schedule="linear-0.5", at_0=0.08)
    ]
    rows = plain + falling + _rows("ols-line", "read-out", at_0=0.04)
    found = _ratio(rows, "ols-line(read-out)", "tuned")
    assert found.plain_configuration.schedule == "linear-0.5"
    assert found.ratio.value == pytest.approx(2.0, rel=1e-6)
    assert found.left_out == ""


def test_when_a_forecast_is_read_out_then_one_is_paid_for_once_there_is_one() -> None:
    rows = _rows("ols-line", "read-out") + _rows("no-forecast")
    for row in rows:
        if row["use"] == "read-out":
            row["jumps"] = [{"step": 50, "reads": 40, "seconds": 2.0}]
    paid = {}
    for at in (40.0, 60.0):
        target = Target("train_loss", "t", float(np.exp(-0.01 * at)))
        table = data_set_costs("d", rows, target, "raw", 300.0).tables["ols-line(read-out)"]
        paid[at] = float(table.cost[1, 0]) - at
    assert paid == pytest.approx({40.0: 0.0, 60.0: 2.0 / 0.5})
