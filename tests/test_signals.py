"""Ctrl-C and SIGTERM: no traceback, no half-written file, and an exit status that says so."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from weightcast.datasets import get_dataset, open_trajectory
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.recorded.leftovers import clear_unfinished

CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from weightcast.bench.cli import main\n"
    "print('ready', flush=True)\n"
    "main()"
)


#: Coverage holds a lock while it notes a new file. An interrupt that is raised just then leaves it
#: held, and the process waits for itself without end: what is interrupted is not measured.
UNMEASURED = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_PROCESS")}


def _start(*arguments: object) -> subprocess.Popen[str]:
    """Start a verb as a shell does, in a process group of its own, and wait until it is on."""
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=UNMEASURED,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _partials(folder: Path) -> list[str]:
    """List files that have no name of their own yet."""
    endings = (".partial", ".unfinished")
    found = folder.rglob(".*") if folder.is_dir() else ()
    return [path.name for path in found if path.name.endswith(endings)]


def _stop_while_writing(
    process: subprocess.Popen[str], folder: Path, number: int = signal.SIGTERM
) -> str:
    """Send a signal to a process once it has begun a file below a folder; return what it said."""
    while process.poll() is None and not _partials(folder):
        time.sleep(0.01)
    process.send_signal(number)
    return process.communicate(timeout=300)[1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_when_a_forecast_is_stopped_then_nothing_is_left_of_it(
    number: int, status: int, write_plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
    plugin = write_plugin("slow", "time.sleep(2)\nreturn context[:, -1:] + 0 * task.horizons")
    write_stacked(get_dataset("digits-mlp-sgd").run(0), tmp_path / "0.safetensors")
    out = tmp_path / "out"
    with _start(
        "forecast", tmp_path / "0.safetensors", "--plugin", plugin, "--method", "slow",
        "--horizon", 3, "--out", out / "x.safetensors",
    ) as process:  # fmt: skip
        said = _stop_while_writing(process, out, number)
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_when_a_recording_is_stopped_then_nothing_half_is_left(jobs: int, tmp_path: Path) -> None:
    with _start(
        "record", "digits-mlp-sgd", "--seeds", "0-3", "--jobs", jobs, "--out", tmp_path
    ) as process:
        said = _stop_while_writing(process, tmp_path)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    folder = tmp_path / "digits-mlp-sgd"
    for path in folder.iterdir():
        assert not path.name.endswith(".partial")
        if path.suffix == ".safetensors":
            open_trajectory(path).check_finite()
    # What is left is of use, or of a worker that was ended and cleared away by the next one.
    clear_unfinished(folder)
    for left in folder.glob(".*.unfinished"):
        assert left.with_suffix(".state").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small result folder and a folder of checkpoints."""
    import torch

    place = tmp_path_factory.mktemp("made")
    with _start(
        "run", "--suite", "quick", "--methods", "last-value,ar1", "--datasets", "linreg-gd",
        "--out", place / "results",
    ) as process:  # fmt: skip
        assert process.wait(timeout=300) == 0
    (place / "checkpoints").mkdir()
    for step in range(0, 40):
        torch.save(
            {"weight": torch.full((300, 300), float(step))},
            place / "checkpoints" / f"step_{step}.pt",
        )
    return place


VERBS = {
    "report": ("report", "results", "--out", "OUT.html"),
    "export": ("export", "results", "OUT.csv"),
    "leaderboard": ("leaderboard", "results", "--csv", "OUT.csv"),
    "import": ("import", "checkpoints", "--out", "OUT.safetensors"),
    "merge": ("merge", "results", "--out", "OUT"),
}


def _assert_whole(path: Path) -> None:
    """See that a file ends where its writer would have ended it."""
    if path.suffix == ".safetensors":
        open_trajectory(path).check_finite()
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    else:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        assert len(lines) > 1
        assert all(line.endswith("\n") for line in lines)
        assert len({len(row) for row in csv.reader(lines)}) == 1


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("after", [0.2, 1.0, None])
def test_when_a_verb_is_stopped_at_any_time_then_its_file_is_whole_or_not_there(
    verb: str, after: float | None, made: Path, tmp_path: Path
) -> None:
    words = [
        str(made / word) if word in ("results", "checkpoints") else word for word in VERBS[verb]
    ]
    out = tmp_path / "out"
    out.mkdir()
    with _start(*(word.replace("OUT", str(out / "x")) for word in words)) as process:
        if after is None:
            said = _stop_while_writing(process, tmp_path)
        else:
            time.sleep(after)
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=300)[1]
    # While its words are still read it ends as on Ctrl-C; before Python is up the system ends it,
    # which a shell tells as 143 too.
    assert process.returncode in (0, 130, 143, -signal.SIGTERM), said
    assert "Traceback" not in said
    assert _partials(tmp_path) == []
    if verb != "merge":
        # The signal may well come when the file is in its place and the process not yet gone.
        for path in out.iterdir():
            _assert_whole(path)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("after", [0.1, 0.5, 1.0, 1.6, 2.4])
def test_when_ctrl_c_comes_while_modules_load_then_no_process_prints_a_traceback(
    after: float, tmp_path: Path
) -> None:
    with _start(
        "run", "--suite", "quick", "--methods", "lstm,line-search", "--jobs", 2,
        "--datasets", "digits-mlp-sgd", "--out", tmp_path / "out",
    ) as process:  # fmt: skip
        time.sleep(after)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said = "".join(process.communicate(timeout=300))
    assert process.returncode == 130, said
    assert "Traceback" not in said


IMPORTING = """
import time
from weightcast.bench.cli.stopping import Terminated, stopped_for_sure
try:
    with stopped_for_sure():
        try:
            import slow_library
        except:
            print("lost")
        time.sleep(60)
except KeyboardInterrupt as stop:
    print("terminated" if isinstance(stop, Terminated) else "interrupted")
"""


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_when_a_library_catches_everything_around_an_import_then_a_stop_is_not_lost(
    number: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "slow_library.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(0.5)\n", encoding="utf-8"
    )
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTING],
        stdout=subprocess.PIPE,
        text=True,
        env={**UNMEASURED, "PYTHONPATH": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.communicate(timeout=50)[0] == f"{told}\n"
    assert process.returncode == 0


LOSING = """
import sqlite3, time
from weightcast.bench.cli.stopping import Terminated, stopped_for_sure

def slow(value):
    print("under way", flush=True)
    time.sleep(0.5)
    return value

try:
    with stopped_for_sure():
        try:
            sqlite3.connect(":memory:").execute("SELECT 1")
            db = sqlite3.connect(":memory:")
            db.create_function("slow", 1, slow)
            db.execute("SELECT slow(1)").fetchall()
        except sqlite3.OperationalError:
            pass  # what SQLite makes of it
        try:
            time.sleep(60)
        finally:
            time.sleep(1.5)  # clearing up, which must not be interrupted again
            print("cleared up")
except KeyboardInterrupt as stop:
    print("terminated" if isinstance(stop, Terminated) else "interrupted")
"""


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")]
)
def test_when_a_stop_gets_lost_then_it_comes_again_and_clearing_up_is_left_alone(
    number: int, told: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOSING], stdout=subprocess.PIPE, text=True, env=UNMEASURED
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(number)
        assert process.communicate(timeout=50)[0] == f"cleared up\n{told}\n"
    assert process.returncode == 0
