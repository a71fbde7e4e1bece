"""Recordings that were broken off are gone on with, and ones that go on can be read."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weightcast.datasets import InputError, Trajectory, TrajectoryRecorder, open_trajectory

EVERY = 3


class Training:
    """A loop that can be broken off and goes on from its last checkpoint, whatever its step."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.step = 0

    def recorder(self, path: Path, **changes: Any) -> TrajectoryRecorder:
        settled = {"every": EVERY, "dataset": "mine", "seed": 7, "optimizer": self.optimizer}
        return TrajectoryRecorder(self.net, path, **(settled | changes))

    def run(self, recorder: TrajectoryRecorder, until: int) -> None:
        while self.step < until:
            self.optimizer.param_groups[0]["lr"] = 0.1 / (1 + self.step)
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(self.step))
            self.optimizer.zero_grad()
            loss = self.net(x).square().mean()
            loss.backward()
            self.optimizer.step()
            self.step += 1
            recorder.step(loss)

    def checkpoint(self) -> bytes:
        return pickle.dumps((self.net.state_dict(), self.optimizer.state_dict(), self.step))

    @classmethod
    def load(cls, checkpoint: bytes) -> Training:
        made = cls()
        net, optimizer, made.step = pickle.loads(checkpoint)
        made.net.load_state_dict(net)
        made.optimizer.load_state_dict(optimizer)
        return made


def _whole(path: Path, until: int) -> Trajectory:
    training = Training()
    with training.recorder(path) as recorder:
        training.run(recorder, until)
    return open_trajectory(path)


def _broken_off(path: Path, saved: int, killed: int) -> bytes:
    """Record up to a step, and return the checkpoint that was saved at an earlier one."""
    training = Training()
    recorder = training.recorder(path)
    training.run(recorder, saved)
    checkpoint = training.checkpoint()
    training.run(recorder, killed)
    recorder.abandon()
    return checkpoint


@settings(max_examples=12, deadline=None)
@given(saved=st.integers(1, 14), later=st.integers(0, 7))
def test_when_a_recording_is_gone_on_with_then_it_is_as_if_it_had_not_been_broken_off(
    tmp_path_factory: pytest.TempPathFactory, saved: int, later: int
) -> None:
    folder = tmp_path_factory.mktemp("resumed")
    path = folder / "run.safetensors"
    training = Training.load(_broken_off(path, saved, saved + later))
    with training.recorder(path, resume=True, first_step=saved) as recorder:
        training.run(recorder, 20)
    assert [each.name for each in folder.iterdir()] == [path.name]
    run, other = open_trajectory(path), _whole(folder / "whole.safetensors", 20)
    assert run.content_hash() == other.content_hash()
    for index in range(run.n_snapshots):
        for name, values in other.state(index).items():
            np.testing.assert_array_equal(run.state(index)[name], values)
    if saved % EVERY == 0:
        assert run.meta.train_loss == other.meta.train_loss
    # Rates are known where a snapshot that is recorded again had them.
    if saved % EVERY == 0 or (saved + later) // EVERY > saved // EVERY:
        assert run.meta.learning_rates == other.meta.learning_rates
    else:
        assert run.meta.learning_rates == ()


def test_when_no_step_is_given_then_the_weights_must_be_those_of_the_last_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.safetensors"
    checkpoint = _broken_off(path, 9, 10)
    left = tmp_path / ".run.safetensors.recording"
    before = left.read_bytes()
    with pytest.raises(
        InputError, match=r"other weights at its last snapshot, step 9: 0.weight .*"
    ):
        Training().recorder(path, resume=True)
    assert left.read_bytes() == before
    training = Training.load(checkpoint)
    with training.recorder(path, resume=True) as recorder:
        assert recorder.steps == 9
        training.run(recorder, 12)
    assert open_trajectory(path).steps.tolist() == [0, 3, 6, 9, 12]
    assert not caplog.records


def test_when_there_is_nothing_to_go_on_with_then_a_recording_begins(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    training = Training()
    with training.recorder(path, resume=True) as recorder:
        training.run(recorder, 6)
    assert open_trajectory(path).steps.tolist() == [0, 3, 6]
    with pytest.raises(InputError, match="exists; remove it"):
        training.recorder(path, resume=True)
    with pytest.raises(InputError, match="give one"):
        training.recorder(path, resume=True, overwrite=True)


def test_when_training_goes_on_elsewhere_or_is_another_then_it_is_said_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.safetensors"
    checkpoint = _broken_off(path, 10, 16)
    left = tmp_path / ".run.safetensors.recording"
    before = left.read_bytes()
    training = Training.load(checkpoint)
    net, adam = training.net, torch.optim.Adam(training.net.parameters())
    other = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    frozen = Training.load(checkpoint).net
    frozen[0].bias.requires_grad = False
    for model, changes, says in [
        (net, {"first_step": 19}, r"ends with step 15, .* step 19: the snapshot of step 18 would"),
        (net, {"first_step": 0}, "holds steps 0 to 15, but training begins at step 0: all of it"),
        (net, {"first_step": 9}, "has other weights at step 9: 0.weight differs by up to"),
        (net, {"seed": 8}, "is of seed 7, not 8"),
        (net, {"dataset": "other"}, "is of data set mine, not other"),
        (net, {"optimizer": adam}, "is of optimizer sgd, not adam"),
        (net, {"every": 1}, "has a snapshot every 3 steps, not every 1; give every=3"),
        (other, {}, r"of another network: parameter 0.weight was \[4, 3\] and is \[5, 3\]"),
        (frozen, {}, r"of another network: parameter 0.bias was \[4\] and is not there"),
        (frozen, {"frozen": False}, "parameter 0.bias was"),
    ]:
        given = {"every": EVERY, "seed": 7, "optimizer": training.optimizer, "first_step": 10}
        with pytest.raises(InputError, match=says):
            TrajectoryRecorder(model, path, resume=True, **given | changes)
        assert left.read_bytes() == before
    assert not caplog.records
    training.optimizer.param_groups[0]["momentum"] = 0.5
    with caplog.at_level(logging.WARNING):
        training.recorder(path, resume=True, first_step=10).abandon()
    assert "the optimizer's momentum was 0.9 and is 0.5" in caplog.text
    assert "the snapshots of step 12 to 15 are recorded again" in caplog.text


def test_when_what_is_not_trained_differs_then_it_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).requires_grad_(False)
    net[1].requires_grad_(True)
    path = tmp_path / "run.safetensors"
    recorder = TrajectoryRecorder(net, path, every=1)
    recorder.step()
    recorder.abandon()
    was = net[0].bias.clone()
    with torch.no_grad():
        net[0].bias += 1
    with pytest.raises(InputError, match=r"0\.bias, which is not trained, differs"):
        TrajectoryRecorder(net, path, every=1, resume=True)
    with torch.no_grad():
        net[0].bias.copy_(was)
    with TrajectoryRecorder(net, path, every=1, resume=True) as recorder:
        recorder.step()
    assert open_trajectory(path).steps.tolist() == [0, 1, 2]


LOOP = """
import os, sys
import torch
from weightcast.datasets import TrajectoryRecorder
torch.manual_seed(0)
net = torch.nn.Linear(100, 100)
path, checkpoint = sys.argv[1:3]
step = 0
try:
    weights, step = torch.load(checkpoint)
    net.load_state_dict(weights)
except FileNotFoundError:
    pass
with TrajectoryRecorder(net, path, every=1, resume=True, first_step=step) as recorder:
    while step < 700:
        with torch.no_grad():
            net.weight.mul_(0.999)
            net.bias.fill_(step + 1.0)
        step += 1
        recorder.step(float(step))
        if step % 7 == 0:
            torch.save((net.state_dict(), step), checkpoint + ".new")
            os.replace(checkpoint + ".new", checkpoint)
"""


def test_when_a_process_is_killed_again_and_again_then_its_recording_goes_on(
    tmp_path: Path,
) -> None:
    path, left = tmp_path / "0.safetensors", tmp_path / ".0.safetensors.recording"
    command = [sys.executable, "-P", "-c", LOOP, str(path), str(tmp_path / "c.pt")]
    size = 0
    for _ in range(2):
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                if left.exists() and left.stat().st_size > size + 30 * 40_400:
                    # A running recording is read by others, and is none the worse for it.
                    run = open_trajectory(left)
                    assert run.steps.tolist() == list(range(run.n_snapshots))
                    assert (run.snapshot(-1)["bias"] == run.n_snapshots - 1).all()
                    break
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        size = left.stat().st_size
    assert size > 60 * 40_400
    subprocess.run(command, check=True)
    run = open_trajectory(path)
    assert run.steps.tolist() == list(range(701))
    assert all((run.snapshot(index)["bias"] == index).all() for index in range(1, 701, 97))


def test_when_a_recording_is_read_while_it_goes_on_then_it_stays_whole_and_locked(
    tmp_path: Path,
) -> None:
    path, left = tmp_path / "run.safetensors", tmp_path / ".run.safetensors.recording"
    other = [
        sys.executable, "-P", "-c",
        "import sys, torch\nfrom weightcast.datasets import TrajectoryRecorder\n"
        "TrajectoryRecorder(torch.nn.Linear(1, 1), sys.argv[1], every=1, overwrite=True)",
        str(path),
    ]  # fmt: skip
    training = Training()
    recorder = training.recorder(path)
    seen = []
    for until in (4, 8):
        training.run(recorder, until)
        for run in (open_trajectory(recorder), open_trajectory(left), recorder.trajectory()):
            assert run.steps.tolist() == list(range(0, until + 1, EVERY))
            assert run.meta.optimizer == "sgd"
            seen.append((run, run.content_hash()))
    assert open_trajectory(left).fixed.infos == ()
    # All but two trajectories are let go of, and what they read with.
    del seen[:-2]
    done = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "is being recorded by another process" in done.stderr
    with pytest.raises(InputError, match=r"no trajectory at .* yet; what is recorded of it so far"):
        open_trajectory(path)
    training.run(recorder, 12)
    for run, content in seen:
        assert run.content_hash() == content  # of the snapshots of then
        assert pickle.loads(pickle.dumps(run)).content_hash() == content
    recorder.close()
    assert recorder.trajectory().steps.tolist() == [0, 3, 6, 9, 12]
    assert open_trajectory(recorder).n_snapshots == 5
    with pytest.raises(InputError, match="no longer there; where its recorder was closed"):
        seen[0][0].content_hash()


def test_when_what_was_left_is_open_for_reading_then_the_recorder_keeps_its_lock(
    tmp_path: Path,
) -> None:
    path, left = tmp_path / "run.safetensors", tmp_path / ".run.safetensors.recording"
    checkpoint = _broken_off(path, 9, 9)
    run = open_trajectory(left)
    run.content_hash()
    training = Training.load(checkpoint)
    recorder = training.recorder(path, resume=True)
    del run
    code = (
        "import fcntl, os, sys\n"
        "try: fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(left)], check=False).returncode == 7
    recorder.close()
