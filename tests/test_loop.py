"""The loop tier: training side by side, jumps in it, and the suite around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weightcast.bench.commands.merge import merge_folders
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.events import Ended, LoopDone
from weightcast.bench.engine.store.store import Store
from weightcast.bench.engine.time_left import TimeLeft
from weightcast.bench.loop.board import loop_board
from weightcast.bench.loop.scores import edges
from weightcast.bench.loop.stepping.one_by_one import OneByOne
from weightcast.bench.loop.stepping.runs import Optimizer, TrainingRuns
from weightcast.bench.loop.stepping.schedule_free import ScheduleFree
from weightcast.bench.loop.stepping.side_by_side import SideBySide, can_stand_side_by_side
from weightcast.bench.loop.training import run_loop
from weightcast.bench.loop.unit import LoopUnit
from weightcast.bench.loop.uses.syncs import LOOKAHEAD_RATE, LOOKAHEAD_STEPS
from weightcast.bench.plan.loop_groups import (
    first_grids,
    jumps,
    loop_groups,
    missing_groups,
    widened,
)
from weightcast.bench.plan.loop_row import loop_row
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun, LoopSettings, rates
from weightcast.bench.plan.suite import MethodEntry, load_suite
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError, Recipe, RecordedDataSet, get_dataset
from weightcast.datasets.evaluator import batch_norms
from weightcast.datasets.examples.examples import cross_entropy
from weightcast.datasets.examples.load import Examples, load_examples
from weightcast.datasets.networks.build import build_network
from weightcast.methods import get_method, load_plugin

#: Run on other kernels, too: numbers hold however a processor rounds them.
pytestmark = pytest.mark.kernels

SETTINGS = LoopSettings(
    steps=60, spacing=3, context=5, horizon=2, measure_every=15, measured=64, training=2
)


#: Networks on digits that cannot be stacked.
ALONE = {
    "resnet": {"size": 8, "channels": [4, 8]},
    "row-lstm": {"width": 8, "hidden": 12},
}


def _recipe(name: str = "digits-mlp-sgd") -> Recipe:
    recipe = get_dataset("digits-mlp-sgd" if name in ALONE else name).recipe  # type: ignore[attr-defined]
    assert isinstance(recipe, Recipe)
    if name in ALONE:
        recipe = replace(recipe, name=name, network=name, network_options=ALONE[name])
    return recipe


def _group(method: str, optimizer: str = "sgd", **changes: Any) -> LoopGroup:
    runs = tuple(
        LoopRun(rate, seed, "report", f"{rate} {seed}") for rate in (0.1, 0.2) for seed in (0, 1)
    )
    group = LoopGroup(
        "loop", "digits-mlp-sgd", method, "{}", "always", optimizer, "constant", runs, SETTINGS
    )
    return replace(group, **changes)


TORCH: dict[Optimizer, Callable[[Any, float], torch.optim.Optimizer]] = {
    Optimizer("sgd"): torch.optim.SGD,
    Optimizer("nesterov", 0.9): lambda p, rate: torch.optim.SGD(
        p, rate, momentum=0.9, nesterov=True
    ),
    Optimizer("adam"): torch.optim.Adam,
    Optimizer("schedule-free-sgd", 0.9): ScheduleFree,
    Optimizer("schedule-free-adam", 0.9): lambda p, rate: ScheduleFree(p, rate, adam=True),
}


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Train in float64, where rounding stays rounding.

    Adam's first steps are whole ones even where a gradient is zero but for rounding. In float32
    such weights go one way or the other, on one processor and not on the next.
    """

    def load(name: str, **options: Any) -> Examples:
        found = load_examples(name, **options)
        return replace(found, train_x=found.train_x.double(), test_x=found.test_x.double())

    before = torch.get_default_dtype()
    monkeypatch.setattr("weightcast.bench.loop.stepping.runs.load_examples", load)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize(
    ("name", "kind", "optimizer", "steps"),
    [
        *(
            (name, SideBySide, optimizer, 50)
            for name in ("digits-mlp-sgd", "digits-cnn-sgd")
            for optimizer in TORCH
            if name == "digits-mlp-sgd" or not optimizer.schedule_free
        ),
        *((name, OneByOne, Optimizer("nesterov", 0.9), 12) for name in ("resnet", "row-lstm")),
    ],
    ids=lambda value: getattr(value, "kind", getattr(value, "__name__", str(value))),
)
def test_when_runs_are_trained_together_then_each_is_what_it_would_be_alone(
    name: str, kind: type[TrainingRuns], optimizer: Optimizer, steps: int
) -> None:
    recipe = _recipe(name)
    base = 2.0**-9 if "adam" in optimizer.kind else 2.0**-6  # the same in any precision
    each, seeds = [base, base, 2 * base], [0, 1, 0]
    orders = [str(seed) for seed in seeds]
    table = np.repeat(np.asarray(each)[:, None], steps, axis=1)
    together = kind(recipe, optimizer, table, seeds, orders, 256)
    starts = together.weights.clone()
    for _ in range(steps):
        together.step()
    measured = together.measure(together.weights)
    for place, rate in enumerate(each):
        network = build_network(recipe.network, **recipe.network_options)
        torch.nn.utils.vector_to_parameters(starts[place].clone(), network.parameters())
        alone = TORCH[optimizer](network.parameters(), rate)
        batches = kind(recipe, optimizer, table[:1], [0], [orders[place]]).batches
        for _ in range(steps):
            x, y = batches.next()
            alone.zero_grad()
            cross_entropy(network(x[0]), y[0]).backward()  # type: ignore[no-untyped-call]
            alone.step()
        if isinstance(alone, ScheduleFree):
            torch.nn.utils.vector_to_parameters(
                torch.cat([x.reshape(-1) for x in alone.averaged()]), network.parameters()
            )
        found = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
        moved = (found - starts[place]).norm()
        assert (
            float((found - together.weights[place]).norm() / moved) < 1e-7
        )  # rates are float32 always
        examples = together.examples
        if batch_norms(network):
            # Statistics of the training data that are measured, by PyTorch's own bookkeeping.
            for norm in batch_norms(network):
                norm.reset_running_stats()
                norm.momentum = None
            with torch.no_grad():
                network(examples.train_x[:256])
            network.eval()
        with torch.no_grad():
            loss = float(cross_entropy(network(examples.train_x[:256]), examples.train_y[:256]))
        assert measured.train_loss[place] == pytest.approx(loss, rel=1e-7)
    assert not torch.equal(together.weights[0], together.weights[1])


@pytest.mark.usefixtures("in_double")
def test_when_runs_are_stacked_or_not_then_losses_are_the_same() -> None:
    table, rows = np.full((2, 20), 0.05), np.arange(40)
    runs = [
        kind(_recipe("digits-cnn-sgd"), Optimizer("adam"), table, [0, 1], ["0", "1"], 200, [100])
        for kind in (SideBySide, OneByOne)
    ]
    for _ in range(5):
        for each in runs:
            each.step()
    stacked, in_turn = runs
    torch.testing.assert_close(stacked.averages[100], in_turn.averages[100], rtol=0, atol=1e-12)
    weights = stacked.averages[100]
    found = [each.measure(weights) for each in runs]
    for name in ("train_loss", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(*(getattr(one, name) for one in found), rtol=1e-7)
    np.testing.assert_allclose(*(each.train_loss(weights, rows) for each in runs), rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "stacked"),
    [
        ("digits-mlp-sgd", True),
        ("digits-cnn-sgd", True),
        ("digits-transformer-sgd", True),
        ("resnet", False),
        ("row-lstm", False),
    ],
)
def test_when_a_network_has_statistics_or_recurrence_then_its_runs_are_not_stacked(
    name: str, stacked: bool
) -> None:
    recipe = _recipe(name)
    network = build_network(recipe.network, **recipe.network_options)
    assert can_stand_side_by_side(network) is stacked


def test_when_a_network_has_batch_norm_then_it_jumps_in_the_loop_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = RecordedDataSet("toy", (0, 1), "toy", "toy", "BSD", recipe=_recipe("resnet"))
    monkeypatch.setattr("weightcast.bench.plan.loop_settings.get_dataset", lambda name: dataset)
    short = SETTINGS.model_copy(update={"steps": 21})
    rows = run_loop(_group("ols-line", settings=short, accept="if-better"))
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert all([jump["step"] for jump in row["jumps"]] == [15] for row in rows)
    assert all(row["measured"]["train_loss"][-1] < 2.3 for row in rows)


def test_when_nothing_jumps_then_null_differs_in_its_batches_alone() -> None:
    plain, null = run_loop(_group("no-forecast")), run_loop(_group("null"))
    for one, other in zip(plain, null, strict=True):
        assert one["measured"]["step"] == [0, 15, 30, 45, 60]
        assert one["measured"]["train_loss"][0] == other["measured"]["train_loss"][0]
        assert one["measured"]["train_loss"][-1] != other["measured"]["train_loss"][-1]
        assert one["jumps"] == []
        assert one["measured"]["train_loss"][-1] < one["measured"]["train_loss"][0]
        assert one["step_seconds"] > one["forward_seconds"] > 0


def test_when_a_forecaster_stays_where_it_is_then_training_is_plain() -> None:
    plain, stays = run_loop(_group("no-forecast")), run_loop(_group("last-value"))
    for one, other in zip(plain, stays, strict=True):
        assert one["measured"] == other["measured"]
        # Jumps after every window but the last step's: what lands there trains no more.
        assert [jump["step"] for jump in other["jumps"]] == [15, 30, 45]
        assert all(jump["before"] == jump["after"] for jump in other["jumps"])
        assert all(jump["seconds"] > 0 for jump in other["jumps"])
        assert (other["fit_steps"], other["fit_seconds"]) == (0, 0.0)


def test_when_a_line_jumps_then_it_lands_where_its_forecast_says() -> None:
    group = _group("ols-line")
    rows = run_loop(group)
    # The same by hand: train to the first jump, fit the line, and go two snapshots on.
    run, settings = group.runs[0], group.settings
    table = rates(run.learning_rate, "constant", settings.steps)[None]
    alone = SideBySide(_recipe(), Optimizer("sgd"), table, [run.seed], [str(run.seed)], 64)
    window = [alone.weights[0].numpy().copy()]
    for step in range(1, 16):
        alone.step()
        if step % 3 == 0:
            window.append(alone.weights[0].numpy().copy())
    slope, level = np.polyfit(np.arange(-5, 1), np.stack(window).astype(np.float64), 1)
    landed = torch.from_numpy((level + 2 * slope).astype(np.float32))[None]
    assert rows[0]["jumps"][0]["after"] == pytest.approx(
        float(alone.measure(landed).train_loss[0]), rel=1e-4
    )
    assert rows[0]["jumps"][0]["before"] == pytest.approx(
        float(alone.measure(alone.weights).train_loss[0]), rel=1e-4
    )


def test_when_weights_are_denoised_then_they_go_to_the_line_at_the_present_step() -> None:
    line, denoised = run_loop(_group("ols-line")), run_loop(_group("denoise-only"))
    assert line[0]["jumps"][0]["before"] == denoised[0]["jumps"][0]["before"]
    assert line[0]["jumps"][0]["after"] != denoised[0]["jumps"][0]["after"]


def test_when_lookahead_syncs_then_slow_weights_go_half_way() -> None:
    group = _group(
        "lookahead", settings=SETTINGS.model_copy(update={"steps": 22, "measure_every": 5})
    )
    rows = run_loop(group)
    run = group.runs[0]
    table = rates(run.learning_rate, "constant", 22)[None]
    alone = SideBySide(_recipe(), Optimizer("sgd"), table, [run.seed], [str(run.seed)], 64)
    slow = alone.weights.clone()
    for step in range(1, 23):  # the budget need not end with a sync
        alone.step()
        if step % LOOKAHEAD_STEPS == 0:
            slow = slow + LOOKAHEAD_RATE * (alone.weights - slow)
            alone.weights.copy_(slow)
    last = rows[0]["measured"]["train_loss"][-1]
    assert last == pytest.approx(float(alone.measure(alone.weights).train_loss[0]), rel=1e-4)
    assert rows[0]["jumps"][0]["every"] == LOOKAHEAD_STEPS
    assert rows[0]["jumps"][0]["seconds"] > 0


def test_when_only_better_jumps_are_taken_then_their_forward_passes_are_charged() -> None:
    # Far beyond the line's reach nearly every jump is a bad one.
    far = SETTINGS.model_copy(update={"horizon": 9})
    rows = run_loop(_group("last-two-line", accept="if-better", settings=far))
    jumps = [jump for row in rows for jump in row["jumps"]]
    assert {jump["forwards"] for jump in jumps} == {2}
    assert {jump["accepted"] for jump in jumps} == {True, False}
    refused = [jump for jump in jumps if not jump["accepted"]]
    assert np.median([jump["after"] - jump["before"] for jump in refused]) > 0


def test_when_a_forecaster_is_fitted_then_its_training_runs_are_charged() -> None:
    rows = run_loop(_group("lfd2-ols"))
    assert all(row["status"] == "ok" for row in rows)
    assert all(row["fit_steps"] == 2 * 60 and row["fit_seconds"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise RuntimeError('no jump today')", "failed"),
        ("return np.full((len(context), len(task.horizons)), np.nan)", "invalid"),
        ("raise SystemExit(3)", "failed"),
    ],
)
def test_when_a_forecaster_fails_in_the_loop_then_its_rows_say_so(
    body: str, status: str, write_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from weightcast.methods import all_methods, registry

    all_methods()
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    load_plugin(write_plugin("bad-jumper", body))
    rows = run_loop(_group("bad-jumper"))
    assert {row["status"] for row in rows} == {status}
    assert all("predict_block" in row["traceback"] or status == "invalid" for row in rows)
    assert all(row["jumps"] == [] for row in rows)
    assert all(row["measured"]["train_loss"][-1] < 2.3 for row in rows)  # training went on


SUITE = """
name = "loop-small"
datasets = ["digits-mlp-sgd"]
methods = ["ols-line", "last-value"]
tiers = ["loop"]
jobs = 2

[loop]
steps = 60
spacing = 3
context = 5
horizon = 2
measure_every = 15
measured = 64
training = 2
calibration = 2
validation = 3
report = 3
widenings = 1

[loop.optimizers]
sgd = [0.02, 0.04, 0.08]
"""


def test_when_a_loop_suite_runs_then_its_grid_grows_and_a_second_run_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE, encoding="utf-8")
    out = tmp_path / "out"
    statuses = run_suite(RunOptions(str(path), out))
    said = capsys.readouterr().err
    # 3 rates, 6 seeds, four controls and one forecaster (the last value has nowhere to jump), and
    # 2 calibration seeds of plain training; then two rates more, at the upper edge.
    assert "0 of 96 training runs are here, 96 to run" in said
    assert "a best learning rate of sgd is at the edge of the grid" in said
    assert "96 of 160 training runs are here, 64 to run" in said
    assert statuses == {"ok": 160}
    with Store(out) as store:
        rows = store.loops()
    assert {row["method"] for row in rows} == {
        "no-forecast", "null", "denoise-only", "lookahead", "ols-line",
    }  # fmt: skip
    assert {row["seed_role"] for row in rows if row["method"] != "no-forecast"} == {
        "validation", "report",
    }  # fmt: skip
    assert sorted({row["learning_rate"] for row in rows}) == [0.02, 0.04, 0.08, 0.16, 0.32]
    assert all(row["threads"] == 1 and row["jobs"] == 2 and row["machine"] for row in rows)
    monkeypatch.setattr("weightcast.bench.engine.local.run_here", None)
    assert run_suite(RunOptions(str(path), out)) == {"ok": 160}
    assert "160 of 160 training runs are here, 0 to run" in capsys.readouterr().err


def test_when_an_optimizer_begins_too_low_then_its_grid_grows_though_another_is_ahead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suite.toml"
    rates = "adam = [0.00002, 0.00004, 0.00008]\nsgd = [0.05, 0.2, 0.8]\n"
    path.write_text(SUITE.partition("sgd = ")[0] + rates, encoding="utf-8")
    out = tmp_path / "out"
    run_suite(RunOptions(str(path), out))
    assert "a best learning rate of adam is at the edge" in capsys.readouterr().err
    rows = load_results(out).loops
    of = {
        optimizer: sorted({row["learning_rate"] for row in rows if row["optimizer"] == optimizer})
        for optimizer in ("adam", "sgd")
    }
    assert of["adam"] == [0.00002, 0.00004, 0.00008, 0.00016, 0.00032]
    # No side grows twice, so Adam is at its edge still, far behind what plain training chooses.
    assert ("digits-mlp-sgd", "adam", "high") in edges(rows)
    board = loop_board(rows)
    assert {s.plain_configuration.optimizer for s in board.standings} == {"sgd"}
    for standing in board.standings:
        (end,) = [e for e in standing.untuned if (e.label, e.optimizer) == ("no-forecast", "adam")]
        assert (end.learning_rate, end.side) == (0.00032, "high")
        assert end.behind > 1.5
    (note,) = [note for note in board.notes if note.startswith("digits-mlp-sgd: adam with")]
    assert "no-forecast (0.00032" in note


def test_when_time_left_is_estimated_then_methods_not_seen_yet_train_as_long_as_others() -> None:
    groups = [_group(method) for method in ("no-forecast", "null", "ols-line")]
    runs = [
        tuple(replace(r, key=f"{r.key} {group.method}") for r in group.runs) for group in groups
    ]
    groups = [replace(group, runs=own) for group, own in zip(groups, runs, strict=True)]
    left = TimeLeft([LoopUnit(group) for group in groups], 2)
    left.saw(Ended(groups[0].key, groups[0].shown, 8.0))
    assert left.estimate() == pytest.approx(2 * 8.0 / 2)
    left.saw(Ended(groups[1].key, groups[1].shown, 16.0))
    assert left.estimate() == pytest.approx(12.0 / 2)


def test_when_loop_folders_are_merged_then_runs_are_united_and_conflicts_refused(
    tmp_path: Path,
) -> None:
    group = _group("ols-line")
    for name, runs, key in (
        ("a", group.runs[:3], ""),
        ("b", group.runs[2:], ""),
        ("c", group.runs, "x"),
    ):
        changed = replace(group, runs=tuple(replace(run, key=run.key + key) for run in runs))
        with Store(tmp_path / name, create=True) as store:
            rows = [loop_row(changed, run) | {"status": "failed"} for run in changed.runs]
            store.add([LoopDone(changed.shown, rows)])
    merged = merge_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert (merged.cells, merged.repeated) == (4, 1)
    with Store(tmp_path / "out") as store:
        assert {row["key"] for row in store.loops()} == {run.key for run in group.runs}
    with pytest.raises(InputError, match="ols-line in the loop on digits-mlp-sgd"):
        merge_folders([tmp_path / "a", tmp_path / "c"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_when_seeds_of_the_loop_are_drawn_then_no_two_roles_share_one() -> None:
    roles = ("training", "calibration", "validation", "report")
    seeds = [seed for role in roles for seed in SETTINGS.seeds(role)]
    assert len(set(seeds)) == len(seeds)


def test_when_grids_are_widened_then_all_methods_get_the_same_rates(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE, encoding="utf-8")
    suite = load_suite(str(path)).resolve()
    first = first_grids(suite)
    place = ("digits-mlp-sgd", "sgd")
    low = widened(first, [(*place, "low")], first, 1)
    assert low[place] == [0.005, 0.01, 0.02, 0.04, 0.08]
    assert widened(low, [(*place, "low")], first, 1) == low
    assert first[place] == [0.02, 0.04, 0.08]
    groups = loop_groups(suite, low)
    assert {tuple(sorted({run.learning_rate for run in group.runs})) for group in groups} == {
        (0.005, 0.01, 0.02, 0.04, 0.08)
    }
    keys = {run.key for group in loop_groups(suite, first) for run in group.runs}
    assert len(keys) == 96
    left = missing_groups(groups, keys)
    assert {run.learning_rate for group in left for run in group.runs} == {0.005, 0.01}


def test_when_a_reference_measures_the_loss_then_it_jumps_and_others_do_not() -> None:
    names = [
        "last-value",
        "oracle-line",
        "mean-displacement",
        "theta",
        "line-search",
        "logit-scale",
    ]
    found = [name for name in names if jumps(MethodEntry(name=name))]
    assert found == ["line-search", "logit-scale"]


@pytest.mark.parametrize("name", ["line-search", "logit-scale"])
def test_when_a_reference_jumps_then_no_jump_raises_the_loss_and_its_seconds_are_paid(
    name: str,
) -> None:
    # Jumps are told by the loss that the method measures: over all examples.
    group = _group(name, settings=SETTINGS.model_copy(update={"measured": 2000}))
    for row in run_loop(replace(group, runs=group.runs[:2])):
        assert row["status"] == "ok", row["reason"]
        assert len(row["jumps"]) > 0
        for jump in row["jumps"]:
            assert jump["after"] <= jump["before"] * (1 + 1e-5)
            assert jump["seconds"] > 0


@pytest.mark.parametrize("name", [entry.name for entry in load_suite("loop").methods])
def test_when_a_schedule_has_ended_then_what_learns_from_windows_that_stand_still_works(
    name: str,
) -> None:
    quick = {"updates": 20} if "updates" in get_method(name).get_param_names() else {}
    group = _group(name, schedule="linear-0.5", params=json.dumps(quick))
    for row in run_loop(replace(group, runs=group.runs[:2])):
        assert row["status"] == "ok", row["reason"]
        assert [jump["step"] for jump in row["jumps"]] == [15, 30, 45]
        assert all(np.isfinite(jump["after"]) for jump in row["jumps"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sgd = [0.02, 0.04, 0.08]", "sgd = [0.02, 0.04, 0.05]", "ascending in one ratio"),
        ("sgd = [0.02, 0.04, 0.08]", "sdg = [0.02, 0.04, 0.08]", "did you mean sgd"),
        ("steps = 60", "steps = 20", "before the first jump would land; .* = 21 or more"),
        ('"ols-line", "last-value"', '"last-value"', "no forecaster to run"),
        (
            'datasets = ["digits-mlp-sgd"]',
            'datasets = ["linreg-sgd"]',
            "no loop tier: data set linreg-sgd is generated and has no network",
        ),
    ],
)
def test_when_a_loop_suite_is_wrong_then_it_is_refused_in_a_line(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        run_suite(RunOptions(str(path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_when_a_schedule_falls_then_its_rate_ends_at_zero() -> None:
    np.testing.assert_allclose(rates(1.0, "linear-0.5", 4), [1.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(rates(2.0, "constant", 3), 2.0)
    with pytest.raises(ValueError, match="no schedule"):
        rates(1.0, "cosine", 3)
