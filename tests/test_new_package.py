"""Packages to start from: they install, pass their own tests and run, as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Weightcast = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own, into which packages can go, that sees all that this one sees."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    seen = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "seen.pth").write_text("\n".join(seen))
    return folder / "bin" / "python"


def _run(python: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-P", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONSAFEPATH": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _install(python: Path, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--python", str(python),
         "install", "--quiet", "--no-build-isolation", "--no-deps", "-e", str(folder)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


def _made(weightcast: Weightcast, verb: str, name: str, folder: Path) -> list[str]:
    done = weightcast(verb, name, "--out", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _typed(lines: list[str], verb: str) -> list[str]:
    """Return the words of a command that was shown."""
    shown = next(line for line in lines if line.startswith(f"  weightcast {verb} "))
    return ["-m", "weightcast.bench", *shown.split()[1:]]


def test_when_a_method_is_begun_then_its_package_installs_checks_and_is_ranked(
    weightcast: Weightcast, python: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my-idea"
    lines = _made(weightcast, "new-method", "my-idea", folder)
    _install(python, folder)
    assert "0 failed" in _run(python, folder, *_typed(lines, "check"))
    assert "passed" in _run(python, folder, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider")
    _run(python, folder, *_typed(lines, "run"), "--datasets", "linreg-sgd")
    _run(python, folder, *_typed(lines, "leaderboard"), "--csv", "board.csv")
    board = pd.read_csv(folder / "board.csv").set_index("method")
    assert set(board.index) == {"my-idea", "last-value", "damped-line", "lfd2"}
    assert board.loc["my-idea", "skill"] > 0.3
    assert board.loc["my-idea", "failures"] == 0


@pytest.mark.slow
def test_when_what_is_shown_is_typed_then_the_whole_quick_suite_runs(
    weightcast: Weightcast, python: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my-other-idea"
    lines = _made(weightcast, "new-method", "my-other-idea", folder)
    _install(python, folder)
    for verb in ("check", "run", "leaderboard"):
        shown = _run(python, folder, *_typed(lines, verb))
    assert "my-other-idea" in shown


def test_when_a_data_set_is_begun_then_its_package_installs_and_methods_run_on_it(
    weightcast: Weightcast, python: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my-runs"
    lines = _made(weightcast, "new-dataset", "my-runs", folder)
    _install(python, folder)
    assert "24 runs" in _run(python, folder, *_typed(lines, "info"))
    assert "2 passed" in _run(
        python, folder, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider"
    )
    _run(python, folder, *_typed(lines, "run"))
    assert "damped-line" in _run(python, folder, *_typed(lines, "leaderboard"))


@pytest.mark.parametrize(
    ("verb", "name", "said"),
    [
        ("new-method", "lfd2", "registered already"),
        ("new-dataset", "digits-mlp-sgd", "registered already"),
        ("new-method", "json", "choose a longer name, e.g. my-json"),
        ("new-method", "My_Method", "not kebab-case"),
        ("new-method", "2-lines", "begins with a letter"),
        ("new-dataset", "../up", "not kebab-case"),
        ("new-dataset", "class", "choose a longer name"),
    ],
)
def test_when_a_name_cannot_be_used_then_it_is_said_and_nothing_is_written(
    weightcast: Weightcast, tmp_path: Path, verb: str, name: str, said: str
) -> None:
    done = weightcast(verb, name, "--out", tmp_path / "new")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_when_the_folder_is_there_then_it_is_left_as_it_is(
    weightcast: Weightcast, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.py").write_text("x")
    done = weightcast("new-method", "my-idea", "--out", tmp_path / "mine")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "work.py"]
