"""Recordings of data sets that are broken off go on, and end in the very run of an unbroken one."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weightcast.bench.commands import record as recording
from weightcast.bench.commands.record import RecordingFailed, record_dataset
from weightcast.bench.progress.step_progress import StepProgress, step_progress
from weightcast.datasets import InputError, Recipe, RecordedDataSet, Trajectory, open_trajectory
from weightcast.datasets.files.partial_file import UnfinishedFile
from weightcast.datasets.networks import build
from weightcast.datasets.recorded import training_state
from weightcast.datasets.recorded.recorder import record_run

RECIPE = Recipe(
    "broken-off", "mlp", "digits", "adam", 0.001, batch_size=50, steps=80, snapshot_every=8,
    network_options={"sizes": [64, 16, 10]}, schedule="cosine",
)  # fmt: skip
RECIPES = {
    "adam": RECIPE,
    "momentum": dataclasses.replace(RECIPE, optimizer="sgd", hyperparameters={"momentum": 0.9}),
    "dropout": dataclasses.replace(RECIPE, network="dropping", network_options={}),
    "batch norm": dataclasses.replace(
        RECIPE, network="resnet", network_options={"size": 8, "channels": [4, 4, 8]}, measured=200
    ),
}


@pytest.fixture(autouse=True)
def always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save at every snapshot, however short a run is."""
    monkeypatch.setattr(training_state, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(training_state, "SHARE", 1e9)
    dropping = lambda: nn.Sequential(  # noqa: E731
        nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10)
    )
    monkeypatch.setitem(build.NETWORKS, "dropping", dropping)


def _stop_at(step: int, seen: list[int] | None = None) -> Callable[[int], None]:
    def on_step(done: int) -> None:
        if seen is not None:
            seen.append(done)
        if done == step:
            raise KeyboardInterrupt

    return on_step


def _hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".*"))


def assert_same(run: Trajectory, other: Trajectory) -> None:
    assert run.content_hash() == other.content_hash()
    assert run.verify()
    meta, theirs = (dataclasses.replace(r.meta, seconds_per_step=0.0) for r in (run, other))
    assert meta == theirs
    for index in range(run.n_snapshots):
        for name, values in other.state(index).items():
            np.testing.assert_array_equal(run.state(index)[name], values)


@pytest.mark.parametrize("name", RECIPES)
def test_when_a_run_is_stopped_at_any_step_then_it_goes_on_and_ends_the_same(
    name: str, tmp_path: Path
) -> None:
    path, whole = tmp_path / "0.safetensors", tmp_path / "whole" / "0.safetensors"
    record_run(RECIPES[name], 3, whole)
    begun: list[list[int]] = []
    # Right away, twice between two snapshots, at a snapshot, and right before the end.
    for step in (1, 5, 21, 40, 79):
        seen: list[int] = []
        begun.append(seen)
        with pytest.raises(KeyboardInterrupt):
            record_run(RECIPES[name], 3, path, _stop_at(step, seen))
        torch.manual_seed(step)  # what goes on around it does not matter
        assert not path.exists()
    seen = []
    record_run(RECIPES[name], 3, path, seen.append)
    # 40 was announced before the snapshot of step 40 was taken.
    assert [each[0] for each in begun] == [0, 0, 0, 16, 32]
    assert seen == [*range(72, 81)]
    assert_same(open_trajectory(path), open_trajectory(whole))
    assert _hidden(tmp_path) == []


def test_when_what_was_left_is_damaged_or_of_another_run_then_the_run_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, left = tmp_path / "0.safetensors", tmp_path / "left"
    state, body = (tmp_path / f".0.safetensors.{what}" for what in ("state", "unfinished"))
    record_run(RECIPE, 3, tmp_path / "whole.safetensors")
    whole = open_trajectory(tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        record_run(RECIPE, 3, path, _stop_at(42))
    left.mkdir()
    shutil.copy(state, left)
    shutil.copy(body, left)

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content)

    def of_another_version() -> None:
        content = torch.load(state, weights_only=True)
        content["run"] = content["run"].replace(torch.__version__, "1.0")
        torch.save(content, state)

    damage: dict[str, Callable[[], Any]] = {
        "": lambda: None,
        "the snapshots beside it are not those": lambda: flip(body),
        "not those that were recorded": lambda: os.truncate(body, 20_000),
        "is not gone on with": lambda: state.write_bytes(b"what is this?"),
        "of another recipe, machine or version": of_another_version,
    }
    for says, harm in damage.items():
        for each in left.iterdir():
            shutil.copy(each, tmp_path)
        harm()
        seen: list[int] = []
        caplog.clear()
        record_run(RECIPE, 3, path, seen.append)
        assert seen[0] == (0 if says else 40)
        assert says in caplog.text
        assert bool(says) == bool(caplog.records)
        assert_same(open_trajectory(path), whole)
        assert _hidden(tmp_path) == []
        path.unlink()
    for each in left.iterdir():
        shutil.copy(each, tmp_path)
    record_run(dataclasses.replace(RECIPE, learning_rate=0.002), 3, path)
    assert "of another recipe" in caplog.text
    assert open_trajectory(path).content_hash() != whole.content_hash()


def test_when_a_run_diverges_then_nothing_of_it_is_gone_on_with(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer="sgd", learning_rate=1e30, schedule="constant")
    for _ in range(2):
        with pytest.raises(InputError, match="lower the learning rate"):
            record_run(recipe, 0, tmp_path / "0.safetensors")
        assert list(tmp_path.iterdir()) == []


def test_when_saving_takes_long_then_it_is_done_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "SHARE", 0.02)
    net = nn.Linear(2, 2)
    state = training_state.TrainingState(
        tmp_path / "0.safetensors",
        dataclasses.replace(open_trajectory_meta(tmp_path), seed=1),
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
    )
    assert state.due
    progress = training_state.Progress(8, {}, {}, 1.0)
    state.save(progress, time.perf_counter() - 3.0)  # the file before it took three seconds
    assert not state.due
    state._saved -= 149
    assert not state.due
    state._saved -= 3
    assert state.due


def open_trajectory_meta(tmp_path: Path) -> Any:
    record_run(dataclasses.replace(RECIPE, steps=8), 0, tmp_path / "short.safetensors")
    return open_trajectory(tmp_path / "short.safetensors").meta


SLOWLY = dataclasses.replace(RECIPES["batch norm"], name="slowly", steps=400, snapshot_every=20)
PLUGIN = f"""
import time
from weightcast.datasets import Recipe, RecordedDataSet, register_dataset
from weightcast.datasets.recorded import training_state

training_state.LEAST_SECONDS, training_state.SHARE = 0.0, 1e9
save = training_state.TrainingState.save
training_state.TrainingState.save = lambda *given: (save(*given), time.sleep(0.2))
recipe = Recipe.from_json({SLOWLY.to_json()})
register_dataset(RecordedDataSet("slowly", (0,), "slow", "digits", "BSD", recipe=recipe))
"""


def test_when_recording_is_killed_then_the_same_command_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "slowly.py"
    plugin.write_text(PLUGIN)
    command = [
        sys.executable, "-P", "-c", "from weightcast.bench.cli import main; main()",
        "record", "slowly", "--plugin", str(plugin), "--out", str(tmp_path),
    ]  # fmt: skip
    folder = tmp_path / "slowly"
    state = folder / ".0.safetensors.state"
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = state.stat().st_mtime_ns if state.exists() else 0
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                # The second is ended only after it has gone on with what the first left.
                if state.exists() and state.stat().st_mtime_ns > before:
                    break
                time.sleep(0.005)
            process.send_signal(number)
            said = process.communicate()[1]
        assert process.returncode in (-9, 143), said
        assert _hidden(folder) == [state.name, ".0.safetensors.unfinished"]
    assert "what is done of seed 0 is kept: the same command goes on with it" in said
    assert "Traceback" not in said
    dataset = RecordedDataSet("slowly", (0,), "slow", "digits", "BSD", recipe=SLOWLY)
    monkeypatch.setattr(recording, "get_dataset", lambda name: dataset)
    assert record_dataset("slowly", None, tmp_path, 1) == 1
    said = capsys.readouterr().err
    assert "going on with what was left of seed 0 when recording was broken off" in said
    assert [path.name for path in folder.iterdir()] == ["0.safetensors"]
    record_run(SLOWLY, 0, tmp_path / "whole.safetensors")
    assert_same(
        open_trajectory(folder / "0.safetensors"), open_trajectory(tmp_path / "whole.safetensors")
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    dataset = RecordedDataSet(
        "small", (0, 1), "a small network", "digits", "BSD-3-Clause",
        recipe=dataclasses.replace(RECIPE, name="small"),
        bytes_per_run=50_000, seconds_per_run=0.5,
    )  # fmt: skip
    monkeypatch.setattr(recording, "get_dataset", lambda name: dataset)
    return "small"


def test_when_another_process_records_a_run_then_it_is_left_to_it(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightcast.datasets.files.partial_file._PATIENCE", 0.1)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from weightcast.datasets.files.partial_file import UnfinishedFile\n"
        "file = UnfinishedFile(Path(sys.argv[1])); print('on', flush=True); time.sleep(60)"
    )
    path = tmp_path / small / "0.safetensors"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        with pytest.raises(
            RecordingFailed, match=r"seed 0: .* is being written by another process"
        ):
            record_dataset(small, None, tmp_path, 1)
        process.kill()
    assert record_dataset(small, None, tmp_path, 1) == 1
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "0.safetensors", "1.safetensors",
    ]  # fmt: skip


def test_when_a_file_was_finished_while_another_waited_for_it_then_it_is_not_written_to(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.bin"
    first = UnfinishedFile(path)
    first.put(b"whole", 0)
    first.keep = True
    first.discard()
    again = UnfinishedFile(path)
    again.finish()
    other = UnfinishedFile(path)
    other.put(b"half", 0)
    assert path.read_bytes() == b"whole"
    other.discard()
    assert [each.name for each in tmp_path.iterdir()] == ["x.bin"]


def test_when_leftovers_are_of_no_use_then_the_next_recording_clears_them(
    small: str, tmp_path: Path
) -> None:
    folder = tmp_path / small
    folder.mkdir()
    for name in (".5.safetensors.state", ".6.safetensors.unfinished", ".7.safetensors.state"):
        (folder / name).touch()
    (folder / ".7.safetensors.unfinished").touch()  # of a run that nobody asks for now
    record_dataset(small, "0", tmp_path, 1)
    (folder / ".0.safetensors.state").touch()
    (folder / ".0.safetensors.unfinished").touch()
    record_dataset(small, "1", tmp_path, 1)
    assert _hidden(folder) == [".7.safetensors.state", ".7.safetensors.unfinished"]


def test_when_nothing_is_finished_for_long_then_lines_come_all_the_same_with_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightcast.bench.progress.step_progress.EVERY", 0.02)
    runs = StepProgress(["seed 0", "seed 1"], 600, 10, jobs=1, expected=750.0)
    with step_progress("recording", runs):
        time.sleep(0.1)
        runs.at(0, 0)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4
    assert re.fullmatch(
        r"recording: 0/120, \d s so far, about 25 min 00 s left \(getting ready\)", lines[0]
    )
    assert lines[-1].endswith("(seed 0, step 0 of 600)")


def test_when_runs_go_on_then_time_left_is_of_what_is_left_to_train() -> None:
    now = 0.0
    runs = StepProgress(
        [f"seed {seed}" for seed in range(4)], 100, 10, jobs=2, expected=0.0, clock=lambda: now
    )
    assert runs.left() is None
    assert "time left not known yet" in runs.said()
    runs.at(0, 50)  # gone on with
    runs.at(1, 0)
    now = 10.0
    runs.at(0, 60)
    runs.at(1, 10)
    # A second a step: 40 + 90 + 100 + 100 of them by two.
    assert runs.left() == 165.0
    assert (runs.done, runs.total) == (7, 40)
    runs.end(0)
    runs.end(2)
    runs.end(3)
    assert runs.left() == 90.0  # one run is left, and nobody helps it
    assert runs.said() == "10 s so far, about 1 min 30 s left (seed 1, step 10 of 100)"
    runs.at(1, 100)
    runs.end(1)
    assert runs.said() == "10 s so far, about 0 s left (seed 1, step 100 of 100)"
