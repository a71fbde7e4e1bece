"""The recorder: the same seed gives the same bytes, and a death leaves nothing half-made."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from weightcast.datasets import InputError, Recipe, RecordedDataSet, get_dataset, open_trajectory
from weightcast.datasets.networks.build import build_network, describe_tensors
from weightcast.datasets.recorded.recorder import record_run


@pytest.fixture
def recipe() -> Recipe:
    dataset = get_dataset("digits-mlp-adam")
    assert isinstance(dataset, RecordedDataSet)
    assert dataset.recipe is not None
    return dataclasses.replace(dataset.recipe, name="short", steps=60, snapshot_every=15)


def test_when_a_seed_is_recorded_twice_then_the_content_is_the_same(
    recipe: Recipe, tmp_path: Path
) -> None:
    seen: list[int] = []
    for name in ("a", "b"):
        record_run(recipe, 3, tmp_path / f"{name}.safetensors", seen.append)
    a, b = (open_trajectory(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    assert a.content_hash() == b.content_hash()
    assert a.steps.tolist() == [0, 15, 30, 45, 60]
    assert seen == [*range(61)] * 2
    assert a.meta.train_loss[-1] < a.meta.train_loss[0]
    assert a.meta.seconds_per_step is not None
    assert a.meta.seconds_per_step > 0
    # A step's matrix products: forward 2·N·(64·32 + 32·10), and twice that backward but for the
    # gradient with respect to the images, which nobody asks for.
    assert a.meta.flops_per_step == 2 * 32 * (3 * (64 * 32 + 32 * 10) - 64 * 32)


def test_when_seed_or_recipe_differ_then_the_start_does(recipe: Recipe, tmp_path: Path) -> None:
    other = dataclasses.replace(recipe, learning_rate=0.002)
    starts = []
    for index, (how, seed) in enumerate([(recipe, 0), (recipe, 1), (other, 0)]):
        path = tmp_path / f"{index}.safetensors"
        record_run(how, seed, path)
        starts.append(open_trajectory(path).snapshot(0)["1.weight"].ravel())
    for i in range(3):
        for j in range(i):
            cosine = starts[i] @ starts[j] / np.linalg.norm(starts[i]) / np.linalg.norm(starts[j])
            assert abs(cosine) < 0.1


def test_when_a_field_at_its_default_is_added_then_the_recipe_keeps_its_hash(
    recipe: Recipe,
) -> None:
    assert "hyperparameters" not in recipe.to_json()
    assert Recipe.from_json(recipe.to_json()) == recipe
    changed = dataclasses.replace(recipe, hyperparameters={"betas": [0.9, 0.99]})
    assert changed.hash != recipe.hash


def test_when_a_stored_recipe_is_not_one_then_it_is_said() -> None:
    with pytest.raises(InputError, match="cannot be rebuilt"):
        Recipe.from_json({"network": "mlp"})


def test_when_recording_is_killed_then_no_trajectory_is_left_and_the_next_one_is_whole(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable, "-c",
        "from weightcast.bench.cli import main; main()",
        "record", "digits-mlp-sgd", "--seeds", "0", "--out", str(tmp_path),
    ]  # fmt: skip
    folder = tmp_path / "digits-mlp-sgd"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".*.unfinished")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not list(folder.glob("[!.]*"))
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in folder.iterdir()] == ["0.safetensors"]
    assert open_trajectory(folder / "0.safetensors").n_snapshots == 61


def test_when_a_network_is_described_then_kinds_depths_and_ties_are_right() -> None:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.conv = nn.Conv1d(4, 4, 3)
            self.norm = nn.BatchNorm1d(4)
            self.rnn = nn.LSTM(4, 4)
            self.attention = nn.MultiheadAttention(4, 2)
            self.out = nn.Linear(4, 7, bias=False)
            self.out.weight = self.embed.weight
            self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)

    tensors = {t.name: t for t in describe_tensors(Net())}
    assert tensors["embed.weight"].kind == "embedding"
    assert tensors["embed.weight"].tied == "embed.weight"
    assert "out.weight" not in tensors
    assert "frozen" not in tensors
    assert tensors["conv.weight"].kind == "conv"
    assert tensors["conv.bias"].kind == "bias"
    assert tensors["norm.weight"].kind == tensors["norm.bias"].kind == "norm"
    assert tensors["rnn.weight_ih_l0"].kind == "recurrent"
    assert tensors["attention.in_proj_weight"].kind == "attention"
    assert tensors["attention.out_proj.weight"].kind == "linear"
    assert tensors["conv.weight"].depth < tensors["rnn.weight_ih_l0"].depth


def test_when_a_network_is_unknown_then_the_choices_are_listed() -> None:
    with pytest.raises(InputError, match=r"did you mean mlp\? choices are .*resnet"):
        build_network("mpl")
