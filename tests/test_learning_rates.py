"""The learning rates that a task tells: those of every step to the last horizon, in every tier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weightcast.bench.commands.forecast import forecast_run
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.loop.training import run_loop
from weightcast.bench.plan.loop_settings import LoopGroup, LoopRun, LoopSettings, rates
from weightcast.bench.results.tables import load_results
from weightcast.datasets import get_dataset
from weightcast.datasets.files.stacked import write_stacked
from weightcast.methods import load_plugin

WritePlugin = Callable[..., Path]

#: Sums the rates from the origin to each horizon, as a method for schedules would, and fails
#: where one is missing.
READER = """
told = task.learning_rates
assert len(told) == task.horizon_steps[-1], f"{len(told)} rates to step {task.horizon_steps[-1]}"
ahead = np.add.reduceat(told, [task.context_steps[-1], *task.horizon_steps[:-1]])
slope = (context[:, -1:] - context[:, -2:-1]) / told[task.context_steps[-1] - 1]
return context[:, -1:] + 1e-3 * slope * ahead.cumsum()
"""

SUITE = """
name = "rates"
datasets = ["digits-mlp-sgd"]
methods = ["reads-rates"]
contexts = [10]
rotations = 3
windows = ["late"]
tiers = ["weights", "function"]
jobs = 2

[[shifts]]
track = "shift-optimizer"
train = "digits-mlp-adam"
test = "digits-mlp-sgd"

[[shifts]]
track = "shift-cadence"
train = "digits-mlp-sgd"
test = "digits-mlp-sgd"
every = 2
"""


def test_when_a_method_reads_the_rates_then_they_reach_the_last_horizon_in_every_track(
    tmp_path: Path, write_plugin: WritePlugin
) -> None:
    suite = tmp_path / "rates.toml"
    suite.write_text(SUITE, encoding="utf-8")
    plugin = write_plugin("reads-rates", READER)
    load_plugin(plugin)
    counts = run_suite(RunOptions(str(suite), tmp_path / "out", plugins=[plugin]))
    assert set(counts) == {"ok"}
    cells = load_results(tmp_path / "out").cells
    cells = cells[cells["method"] == "reads-rates"]
    assert set(cells["tier"]) == {"weights", "function"}
    assert {"shift-optimizer", "shift-cadence"} <= set(cells["track"])


@pytest.mark.parametrize("schedule", ["constant", "linear-1.0", "linear-2.5"])
@pytest.mark.parametrize("horizon", [2, 9])
def test_when_a_method_reads_the_rates_in_the_loop_then_each_windows_are_told(
    schedule: str, horizon: int, write_plugin: WritePlugin, tmp_path: Path
) -> None:
    # The last jump, at step 45, of the longer horizon would land past the budget's end.
    settings = LoopSettings(
        steps=60, spacing=3, context=5, horizon=horizon, measure_every=30, measured=64, training=2
    )
    told = tmp_path / "told.jsonl"
    note = (
        f"import json\nwith open({str(told)!r}, 'a') as file:\n"
        "    print(json.dumps(task.learning_rates.tolist()), file=file)"
    )
    load_plugin(write_plugin("reads-rates", f"{note}\n{READER}"))
    run = LoopRun(0.1, 0, "report", "key")
    group = LoopGroup(
        "loop", "digits-mlp-sgd", "reads-rates", "{}", "always", "sgd", schedule, (run,), settings
    )
    (row,) = run_loop(group)
    assert row["status"] == "ok", row["reason"]
    assert [jump["step"] for jump in row["jumps"]] == [15, 30, 45]
    lines = {tuple(json.loads(line)) for line in told.read_text("utf-8").splitlines()}
    assert sorted(map(len, lines)) == [step + 3 * horizon for step in (15, 30, 45)]
    whole = rates(0.1, schedule, 60, until=45 + 3 * horizon)
    for line in lines:
        np.testing.assert_array_equal(line, whole[: len(line)])


def test_when_a_run_is_forecast_past_its_end_then_its_latest_rate_goes_on(
    tmp_path: Path, write_plugin: WritePlugin
) -> None:
    load_plugin(write_plugin("reads-rates", READER))
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.safetensors")
        write_stacked(get_dataset("digits-mlp-adam").run(seed), paths[-1])
    for context, fit in ((None, ()), (10, ()), (10, paths[1:])):
        out = tmp_path / "next.safetensors"
        found = forecast_run(
            paths[0], "reads-rates", 7, out, fit=fit, context=context, measure=False
        )
        assert found.coverage == 1.0
