"""Networks trained and measured on a GPU; where there is none, what is said instead."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from weightcast.bench.commands.record import record_dataset
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.mixed import environment_differences
from weightcast.bench.results.tables import load_results
from weightcast.datasets import InputError, Recipe, open_trajectory
from weightcast.datasets.evaluator import FirstBatches, evaluator_for, rebuild
from weightcast.datasets.recorded import training_state
from weightcast.datasets.recorded.recorder import record_run

MLP = Recipe(
    "on-a-gpu", "mlp", "digits", "adam", 0.001, batch_size=50, steps=160, snapshot_every=8,
    network_options={"sizes": [64, 16, 10]},
)  # fmt: skip
RESNET = dataclasses.replace(
    MLP, network="resnet", network_options={"size": 8, "channels": [4, 4, 8]}, measured=200
)
SUITE = """
name = "gpu"
description = "Two methods on a small network."
datasets = ["on-a-gpu"]
methods = ["last-value", { name = "lstm", params = { updates = 60 } }]
contexts = [6]
rotations = 4
repeats = 1
tuning = 0
lengths = true
"""

PLUGIN = """
from weightcast.datasets import Recipe, RecordedDataSet, register_dataset

recipe = Recipe(
    "on-a-gpu", "mlp", "digits", "adam", 0.001, batch_size=50, steps=160, snapshot_every=8,
    network_options={"sizes": [64, 16, 10]},
)
register_dataset(
    RecordedDataSet(
        "on-a-gpu", tuple(range(4)), "an MLP", "digits", "MIT", recipe=recipe, bytes_per_run=10**6
    )
)
"""
CommandLine = Callable[..., subprocess.CompletedProcess[str]]

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")


def _initial(recipe: Recipe, seed: int) -> dict[str, Any]:
    torch.manual_seed(recipe.random_seed(seed, "initial state"))
    network, _ = rebuild(recipe)
    return {name: p.detach().numpy().copy() for name, p in network.named_parameters()}


@gpu
@pytest.mark.parametrize("recipe", [MLP, RESNET], ids=["mlp", "batch norm"])
def test_when_a_run_is_recorded_on_a_gpu_then_it_is_the_cpu_s_but_for_rounding(
    recipe: Recipe, tmp_path: Path
) -> None:
    for device in ("cpu", "cuda"):
        record_run(recipe, 1, tmp_path / f"{device}.safetensors", device=device)
    here, there = (open_trajectory(tmp_path / f"{d}.safetensors") for d in ("cpu", "cuda"))
    for name, values in _initial(recipe, 1).items():
        np.testing.assert_array_equal(there.initial()[name], values)
    for index in (1, 2):
        for name, values in here.snapshot(index).items():
            np.testing.assert_allclose(there.snapshot(index)[name], values, atol=2e-3)
    np.testing.assert_allclose(there.meta.train_loss, here.meta.train_loss, rtol=0.05)
    assert there.meta.train_loss[-1] < 0.8 * there.meta.train_loss[0]
    assert torch.cuda.get_device_name() in there.meta.source
    assert "GPU" not in here.meta.source
    assert there.verify()


@gpu
@pytest.mark.parametrize("recipe", [MLP, RESNET], ids=["mlp", "batch norm"])
def test_when_measured_on_a_gpu_then_losses_and_statistics_are_the_cpu_s(
    recipe: Recipe, tmp_path: Path
) -> None:
    record_run(recipe, 0, tmp_path / "run.safetensors", device="cuda")
    run = open_trajectory(tmp_path / "run.safetensors")
    here, there = (evaluator_for(run.meta, device=device) for device in ("cpu", "cuda"))
    assert here is not None
    assert there is not None
    for index in (0, 10, 20):
        weights = run.snapshot(index)
        for batches in (None, FirstBatches(3, 50)):
            expected = here.measure(weights, None, batches)  # type: ignore[call-arg]
            found = there.measure(weights, None, batches)  # type: ignore[call-arg]
            assert found == pytest.approx(expected, rel=1e-5)
        assert there.train_loss(weights) == pytest.approx(run.meta.train_loss[index], rel=1e-5)
        expected = here.statistics(weights)  # type: ignore[attr-defined]
        found = there.statistics(weights)  # type: ignore[attr-defined]
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)


@gpu
def test_when_a_run_on_a_gpu_is_broken_off_then_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(training_state, "SHARE", 1e9)
    path, begun = tmp_path / "0.safetensors", []

    def stop(step: int) -> None:
        if step == 90:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_run(MLP, 0, path, stop, "cuda")
    record_run(MLP, 0, path, begun.append, "cuda")
    record_run(MLP, 0, tmp_path / "whole.safetensors", device="cuda")
    run, whole = open_trajectory(path), open_trajectory(tmp_path / "whole.safetensors")
    assert begun[0] == 88
    np.testing.assert_allclose(run.meta.train_loss, whole.meta.train_loss, rtol=1e-3)


@gpu
def test_when_a_suite_runs_on_a_gpu_then_networks_are_measured_there(
    tmp_path: Path, weightcast: CommandLine
) -> None:
    plugin, data, suite = tmp_path / "plugin.py", tmp_path / "data", tmp_path / "gpu.toml"
    plugin.write_text(PLUGIN, encoding="utf-8")
    recorded = weightcast(
        "record", "on-a-gpu", "--plugin", plugin, "--out", data, "--jobs", 2, "--device", "cuda"
    )
    assert recorded.returncode == 0, recorded.stderr
    found: dict[str, pd.DataFrame] = {}
    for device, jobs in (("cpu", 1), ("cuda", 2)):
        suite.write_text(SUITE, encoding="utf-8")
        out = tmp_path / device
        ran = weightcast(
            "run", "--suite", suite, "--out", out, "--data", data, "--plugin", plugin,
            "--device", device, "--jobs", jobs, "--strict",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        found[device] = load_results(out).cells
        assert len(found[device]) == 16
    written = json.loads((tmp_path / "cuda" / "environment.json").read_text())
    assert written["gpu"] == torch.cuda.get_device_name()
    for column in ("train_loss_h5", "test_loss_last", "train_loss_length_last"):
        cpu, cuda = (
            cells[(cells["tier"] == "function") & (cells["method"] == "last-value")]
            .set_index("run")[column]
            .sort_index()
            for cells in (found["cpu"], found["cuda"])
        )
        np.testing.assert_allclose(cuda, cpu, rtol=1e-5)
    params = found["cuda"].groupby("method")["params"].unique()
    assert "cuda" in params["lstm"][0]
    assert "cuda" not in params["last-value"][0]


def test_when_there_is_no_gpu_then_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    calls: list[Callable[[], object]] = [
        lambda: record_dataset("digits-mlp-sgd", None, tmp_path / "out", 1, "cuda"),
        lambda: record_run(MLP, 0, tmp_path / "out", device="cuda"),
        lambda: rebuild(MLP, device="cuda"),
        lambda: run_suite(
            RunOptions("quick", tmp_path / "out", methods=["last-value"], device="cuda")
        ),
    ]
    for call in calls:
        with pytest.raises(InputError, match="no CUDA GPU on this machine; use device cpu"):
            call()
    assert not (tmp_path / "out").exists()


def test_when_some_cells_were_made_with_a_gpu_then_the_difference_is_said() -> None:
    plain = {"cpu": "A", "cells": 40}
    assert environment_differences([plain, plain]) == []
    assert environment_differences([plain, plain | {"gpu": "H", "cells": 1}]) == [
        "GPU none used (40 cells) and H (1 cell)"
    ]
