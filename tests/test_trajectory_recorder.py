"""The TrajectoryRecorder in a real loop: what it writes is what the network was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from weightcast.datasets import InputError, TrajectoryRecorder, open_trajectory
from weightcast.datasets.importing.run import import_run


class Net(nn.Module):
    """A frozen part, a buffer, tied weights and half precision: what real networks have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.norm(self.embed(x)) * self.scale.float())
        return output


def train(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> torch.Tensor:
    x = torch.arange(8) * step % 5
    optimizer.zero_grad()
    loss: torch.Tensor = nn.functional.cross_entropy(net(x), (x + 1) % 5)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def test_when_a_loop_is_recorded_then_the_file_holds_the_weights_observed(tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, betas=(0.8, 0.9))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    path = tmp_path / "runs" / "0.safetensors"
    recorder = TrajectoryRecorder(net, path, every=2, dataset="mine", seed=7, optimizer=optimizer)

    def weights() -> dict[str, np.ndarray]:
        return {
            name: value.detach().float().numpy().copy()
            for name, value in net.named_parameters()
            if value.requires_grad
        }

    seen, losses, rates = [weights()], [], []
    for step in range(1, 8):
        rates.append(schedule.get_last_lr()[0])
        loss = train(net, optimizer, step)
        schedule.step()
        losses.append(loss.item())
        recorder.step(train_loss=loss if step % 2 else loss.item())
        if step % 2 == 0:
            seen.append(weights())
    assert [p.name for p in path.parent.iterdir()] == [".0.safetensors.recording"]
    recorder.close()
    recorder.close()
    assert [p.name for p in path.parent.iterdir()] == ["0.safetensors"]

    run = open_trajectory(path)
    assert run.steps.tolist() == [0, 2, 4, 6]
    assert {t.name: t.kind for t in run.tensors} == {
        "scale": "other", "embed.weight": "embedding", "norm.weight": "norm", "norm.bias": "norm",
    }  # fmt: skip
    assert run.tensor_info("embed.weight").tied == "embed.weight"
    for index, expected in enumerate(seen):
        for name, values in run.snapshot(index).items():
            np.testing.assert_array_equal(values, expected[name])
    meta = run.meta
    assert (meta.dataset, meta.seed, meta.optimizer) == ("mine", 7, "adamw")
    assert meta.hyperparameters["betas"] == [0.8, 0.9]
    assert meta.learning_rates == pytest.approx(tuple(rates[:6]))
    means = [losses[0], *(np.mean(losses[i : i + 2]) for i in (0, 2, 4))]
    assert meta.train_loss == pytest.approx(means)
    assert meta.seconds_per_step is not None
    assert meta.seconds_per_step > 0
    with pytest.raises(ValueError, match="is closed"):
        recorder.step()


def test_when_nothing_but_the_model_is_given_then_weights_alone_are_recorded(
    tmp_path: Path,
) -> None:
    net = nn.Linear(2, 2)
    path = tmp_path / "0.safetensors"
    with TrajectoryRecorder(net, str(path), every=1, first_step=10) as recorder:
        for step in range(3):
            recorder.step(train_loss=1.0 if step == 0 else None)
    run = open_trajectory(path)
    assert run.steps.tolist() == [10, 11, 12, 13]
    assert (run.meta.train_loss, run.meta.learning_rates) == ((), ())
    assert run.meta.optimizer == "unknown"


def test_when_the_loop_raises_then_what_was_recorded_can_be_saved(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    path = tmp_path / "0.safetensors"

    def loop() -> None:
        with TrajectoryRecorder(net, path, every=1, seed=3) as recorder:
            recorder.step(0.5)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError) as caught:
        loop()
    left = tmp_path / ".0.safetensors.recording"
    assert f"weightcast import {left} --out {path}" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == [left]
    made = import_run(left, path, dataset="saved", seed=5, optimizer="sgd")
    assert made.run.steps.tolist() == [0, 1]
    meta = open_trajectory(path).meta
    assert (meta.dataset, meta.seed, meta.optimizer) == ("saved", 5, "sgd")
    assert meta.train_loss == (0.5, 0.5)
    assert open_trajectory(left).content_hash() == open_trajectory(path).content_hash()
    with pytest.raises(InputError, match=r"give --out a \.safetensors file"):
        import_run(left, None)


LOOP = """
import sys
import torch
from weightcast.datasets import TrajectoryRecorder
net = torch.nn.Linear(100, 100)
with TrajectoryRecorder(net, sys.argv[1], every=1, dataset="killed") as recorder:
    while True:
        with torch.no_grad():
            net.weight += 1
            net.bias.fill_(recorder.steps + 1)
        recorder.step(1.0)
"""


def test_when_the_process_is_killed_then_its_whole_snapshots_are_saved_by_import(
    tmp_path: Path,
) -> None:
    path = tmp_path / "0.safetensors"
    left = tmp_path / ".0.safetensors.recording"
    with subprocess.Popen([sys.executable, "-c", LOOP, str(path)]) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if left.exists() and left.stat().st_size > 10 * 40_400:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == [left]
    net = nn.Linear(100, 100)
    with pytest.raises(InputError, match=r"was killed.*weightcast import"):
        TrajectoryRecorder(net, path, every=1)
    command = "from weightcast.bench.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", command, "import", str(left), "--out", str(path)], check=True
    )
    run = open_trajectory(path)
    assert run.meta.dataset == "killed"
    assert run.n_snapshots >= 9
    for index in range(1, run.n_snapshots):
        assert (run.snapshot(index)["bias"] == index).all()
    # The recording is kept until someone says otherwise.
    with pytest.raises(InputError, match="exists; remove it, or give overwrite=True"):
        TrajectoryRecorder(net, path, every=1)
    TrajectoryRecorder(net, path, every=1, overwrite=True).close()
    assert list(tmp_path.iterdir()) == [path]
    assert open_trajectory(path).n_snapshots == 1


def test_when_a_recording_is_cut_anywhere_then_import_saves_whole_snapshots_or_says_why(
    tmp_path: Path,
) -> None:
    recorder = TrajectoryRecorder(nn.Linear(2, 2), tmp_path / "0.safetensors", every=1)
    recorder.step(1.0)
    recorder.abandon()
    left = tmp_path / ".0.safetensors.recording"
    whole = left.read_bytes()
    counts = set()
    for length in [*range(30, len(whole), 7), len(whole)]:
        left.write_bytes(whole[:length])
        try:
            counts.add(import_run(left, tmp_path / "a.safetensors").run.n_snapshots)
        except InputError as error:
            assert "nothing can be saved" in str(error)  # noqa: PT017
            counts.add(0)
    assert counts == {0, 1, 2}


def test_when_arguments_are_wrong_then_it_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    for model, name, every, says in [
        (net, "run.pt", 1, "must end in .safetensors"),
        (net, "run.safetensors", 0, "every must be 1 or more"),
        (nn.ReLU(), "run.safetensors", 1, "no trained floating-point parameter"),
    ]:
        with pytest.raises(InputError, match=says):
            TrajectoryRecorder(model, tmp_path / name, every=every)
    assert list(tmp_path.iterdir()) == []


def test_when_the_network_changes_then_the_parameter_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    recorder = TrajectoryRecorder(net, tmp_path / "run.safetensors", every=1)
    net[1] = nn.Linear(2, 3)
    with pytest.raises(InputError, match=r"parameter 1.weight was \[2, 2\] .* is \[3, 2\]"):
        recorder.step()
    net[1] = nn.Linear(2, 2)
    recorder.step()
    recorder.close()
    run = open_trajectory(tmp_path / "run.safetensors")
    assert run.steps.tolist() == [0, 2]
    assert (run.snapshot(1)["1.weight"] == net[1].weight.detach().numpy()).all()


def test_when_many_snapshots_are_taken_then_memory_does_not_grow(tmp_path: Path) -> None:
    net = nn.Linear(100, 500)  # 0.2 MB a snapshot
    recorder = TrajectoryRecorder(net, tmp_path / "run.safetensors", every=1)
    recorder.step(1.0)
    tracemalloc.start()
    for _ in range(50):
        recorder.step(1.0)
    during = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    recorder.close()
    after = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert during < 100_000
    assert after < 1_000_000  # the whole is 10 MB


def test_when_the_model_is_on_a_gpu_then_it_is_recorded_too(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net = nn.Linear(3, 2).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    path = tmp_path / "run.safetensors"
    with TrajectoryRecorder(net, path, every=1, optimizer=optimizer) as recorder:
        loss = net(torch.ones(4, 3, device="cuda")).square().mean()
        loss.backward()
        optimizer.step()
        recorder.step(train_loss=loss)
    run = open_trajectory(path)
    np.testing.assert_array_equal(run.snapshot(-1)["weight"], net.weight.detach().cpu().numpy())
    assert run.meta.train_loss == (loss.item(), loss.item())
