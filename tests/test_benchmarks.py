"""Benchmarks: each can be loaded as they are run, and runs to its end at a tiny size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
#: What makes each small, in seconds. Those that are not here need recordings or take minutes.
TINY: dict[str, list[str]] = {
    "ar_against_statsmodels": ["--coordinates", "2000", "--series", "20"],
    "bad_methods": ["--timeout", "2"],
    "border": ["--millions", "0.01"],
    "error_sums": ["--coordinates", "5000"],
    "every_method": ["--coordinates", "400", "--updates", "2"],
    "isolation": ["--rounds", "1"],
    "kill_and_resume": ["--kills", "1"],
    "known_bytes": [],
    "learned": ["--methods", "lstm", "--datasets", "linreg-sgd", "--updates", "2", "--rounds", "1"],
    "linear_family": ["--coordinates", "4000"],
    "loop_coverage": ["--experiments", "4", "--draws", "20"],
    "ranking_memory": ["20", "4"],
    "side_by_side": ["--runs", "2", "--steps", "20"],
    "start_up": ["--times", "1"],
    "store_at_scale": ["--cells", "1600"],
}
LONG = {
    "cluster", "fine_tune_jump", "function_memory", "kill_verbs", "recording_memory", "scale",
}  # fmt: skip
QUICK = ("error_sums", "known_bytes", "linear_family", "loop_coverage", "ranking_memory")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # As tox runs them: a script's own folder is not searched for modules.
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_when_a_benchmark_is_added_then_it_is_started_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == TINY.keys() | LONG


def test_when_benchmarks_are_loaded_then_nothing_is_missing() -> None:
    code = (
        "import runpy, sys\n"
        "for path in sys.argv[1:]:\n"
        "    runpy.run_path(path, run_name='loaded')\n"
        "    print(path)\n"
    )
    paths = [str(path) for path in sorted(FOLDER.glob("*.py"))]
    done = _python("-c", code, *paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == paths


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(TINY)],
)
def test_when_a_benchmark_is_made_tiny_then_it_runs_to_its_end(name: str) -> None:
    done = _python(str(FOLDER / f"{name}.py"), *TINY[name])
    # 1 is a limit that is exceeded, as at this size it may be; nothing may fall over.
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout
