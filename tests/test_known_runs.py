"""Large files are read whole once: what was found is remembered until the file changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weightcast.datasets import InputError, Trajectory, open_trajectory
from weightcast.datasets.admission import known_runs
from weightcast.datasets.admission.known_runs import checked_lineage
from weightcast.datasets.admission.lineage import lineage
from weightcast.datasets.files.stacked import write_stacked

MakeRun = Callable[..., Trajectory]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remember files of any size, in a cache of this test's own."""
    monkeypatch.setattr(known_runs, "LARGE", 0)
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "known-runs"


def _values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((6, 5)).astype(np.float32)


def test_when_a_file_is_known_then_its_numbers_are_not_read_again(
    cache: Path, tmp_path: Path, toy_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(toy_run(_values(0)), path)
    found = checked_lineage(open_trajectory(path))
    assert found == lineage(open_trajectory(path))
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(Trajectory, "read", None)
    assert checked_lineage(open_trajectory(path)) == found


def test_when_a_known_file_changes_then_it_is_read_again(
    cache: Path, tmp_path: Path, toy_run: MakeRun
) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(toy_run(_values(0)), path)
    first = checked_lineage(open_trajectory(path))
    before = path.stat()
    write_stacked(toy_run(_values(1)), tmp_path / "other.safetensors")
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())  # in place: the same inode
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    second = checked_lineage(open_trajectory(path))
    assert second.content != first.content
    assert second == lineage(open_trajectory(path))


def test_when_the_cache_is_damaged_then_the_file_is_read(
    cache: Path, tmp_path: Path, toy_run: MakeRun
) -> None:
    path = tmp_path / "0.safetensors"
    write_stacked(toy_run(_values(0)), path)
    found = checked_lineage(open_trajectory(path))
    (remembered,) = cache.iterdir()
    for damage in ("{", "[]", '{"label": "x"}'):
        remembered.write_text(damage, encoding="utf-8")
        assert checked_lineage(open_trajectory(path)) == found


def test_when_a_run_is_not_finite_then_it_is_refused_each_time(
    cache: Path, tmp_path: Path, toy_run: MakeRun
) -> None:
    path = tmp_path / "0.safetensors"
    values = _values(0)
    values[3, 2] = np.nan
    write_stacked(toy_run(values), path)
    for _ in range(2):
        with pytest.raises(InputError, match="NaN or infinity at step 3"):
            checked_lineage(open_trajectory(path))
    assert not cache.exists()


def test_when_a_file_is_small_or_none_then_nothing_is_remembered(
    tmp_path: Path, toy_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "0.safetensors"
    write_stacked(toy_run(_values(0)), path)
    found = checked_lineage(open_trajectory(path))
    assert replace(found, verified="") == checked_lineage(toy_run(_values(0)))
    assert not (tmp_path / "cache").exists()
