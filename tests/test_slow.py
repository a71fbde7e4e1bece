"""What takes minutes: recording a whole set anew, and the quick suite from end to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from weightcast.bench.commands.record import record_dataset
from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.results.leaderboard import rank_results
from weightcast.bench.results.tables import load_results
from weightcast.datasets import get_dataset, open_trajectory

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["digits-mlp-sgd", "digits-mlp-adam"])
def test_when_a_shipped_set_is_recorded_anew_then_it_trains_as_the_shipped_runs_did(
    name: str, tmp_path: Path
) -> None:
    assert record_dataset(name, None, tmp_path, jobs=2) == 12
    for seed in range(12):
        shipped = get_dataset(name).run(seed)
        again = open_trajectory(tmp_path / name / f"{seed}.safetensors")
        # Bytes may differ between processors; starts come from the seed, ends are near.
        first, start = shipped.snapshot(0), again.snapshot(0)
        assert all((first[key] == start[key]).all() for key in first)
        assert again.meta.train_loss[-1] == pytest.approx(shipped.meta.train_loss[-1], rel=0.1)
    assert record_dataset(name, None, tmp_path, jobs=2) == 0


def test_when_the_quick_suite_runs_then_no_cell_fails_and_known_orders_hold(tmp_path: Path) -> None:
    assert set(run_suite(RunOptions("quick", tmp_path / "out"))) == {"ok"}
    results = load_results(tmp_path / "out")
    assert len(results.cells) == 13 * 224 + 12 * 24
    boards = rank_results(results, metric="rel_sum"), rank_results(results, tier="function")
    weights, function = (
        {s.method: s.skill.value for s in board.ranking.standings} for board in boards
    )
    assert len(weights) == 12
    assert weights["lfd-full"] > weights["damped-line"] > weights["lfd2"] > 0
    assert weights["last-two-line"] < 0
    # Better in weights is not better in function.
    assert function["lfd2"] > 0 > function["lfd-full"]
    assert function["line-search"] > 0.3


def test_when_a_recording_is_killed_ten_times_then_every_file_is_whole_and_none_is_done_twice(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(7)
    folder = tmp_path / "digits-mlp-sgd"
    command = ["record", "digits-mlp-sgd", "--seeds", "0-39", "--jobs", "2", "--out", str(tmp_path)]
    finished: dict[str, float] = {}
    kills = 0
    while kills < 10:
        process = subprocess.Popen(
            [sys.executable, "-c", "from weightcast.bench.cli import main; main()", *command],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(random.uniform(3.0, 7.0))
            break
        except subprocess.TimeoutExpired:
            kills += 1
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=300)
        now = {path.name: path.stat().st_mtime for path in folder.glob("[!.]*")}
        # What was finished before the kill is still there, and has not been recorded again.
        assert finished.items() <= now.items()
        finished = now
        for name in now:
            open_trajectory(folder / name).check_finite()
    print(f"{kills} kills, {len(finished)} of 40 runs finished between them")
    assert record_dataset("digits-mlp-sgd", "0-39", tmp_path, jobs=2) == 40 - len(finished)
    assert {path.name for path in folder.iterdir()} == {f"{i}.safetensors" for i in range(40)}
    alone = tmp_path / "alone"
    record_dataset("digits-mlp-sgd", "3", alone, jobs=1)
    hashes = [
        open_trajectory(root / "digits-mlp-sgd" / "3.safetensors").content_hash()
        for root in (tmp_path, alone)
    ]
    assert hashes[0] == hashes[1]
