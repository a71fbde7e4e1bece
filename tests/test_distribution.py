"""What is published: wheel and source package install into an empty environment and run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
#: What the whole package may weigh, its canonical runs among it.
LARGEST = 16 * 2**20

pytestmark = pytest.mark.slow


def _call(*words: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        | {"PYTHONSAFEPATH": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def empty(place: Path) -> Path:
    """Return the Python of an environment with nothing but pip and what builds packages."""
    venv.create(place / "env", with_pip=True)
    python = place / "env" / "bin" / "python"
    _call(python, "-m", "pip", "install", "-q", "build", folder=place)
    return python


@pytest.fixture(scope="module")
def built(empty: Path, place: Path) -> dict[str, Path]:
    """Build both from a copy of what git has: nothing that lies about may come along."""
    source = place / "source"
    source.mkdir()
    listed = _call("git", "ls-files", "-z", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    _call(empty, "-m", "build", "--outdir", place / "dist", source, folder=place)
    shutil.rmtree(source)
    (wheel,), (sdist,) = (place / "dist").glob("*.whl"), (place / "dist").glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_when_built_then_it_is_small_and_holds_nothing_that_lies_about(
    built: dict[str, Path],
) -> None:
    assert built["wheel"].stat().st_size <= LARGEST
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = wheel.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"weightcast"}
    assert any(name.endswith("canonical/digits-mlp-sgd/11.safetensors") for name in names)
    assert any(name.endswith("templates/report.html.j2") for name in names)
    with tarfile.open(built["sdist"]) as sdist:
        kept = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml"} <= kept
    strange = [name for name in names if "__pycache__" in name or "/tests/" in name]
    strange += [name for name in kept if name.startswith((".git/", "results/", ".tox", ".venv"))]
    assert not strange


def _runs_quick(python: Path, folder: Path) -> None:
    folder.mkdir()
    command = python.parent / "weightcast"
    assert "lfd2-ols" in _call(command, "list", "methods", folder=folder)
    methods = "last-value,damped-line,lfd2,lfd2-ols,line-search"
    words = ("--suite", "quick", "--methods", methods, "--out", "here")
    _call(command, "run", *words, folder=folder)
    _call(command, "leaderboard", "here", "--csv", "weights.csv", folder=folder)
    table = pd.read_csv(folder / "weights.csv")
    assert set(table["method"]) == set(methods.split(","))
    assert (table["failures"] == 0).all()
    _call(command, "report", "here", folder=folder)
    assert (folder / "here" / "report.html").stat().st_size > 100_000
    _call(command, "check", "lfd2-ols", folder=folder)


def test_when_the_wheel_is_installed_into_an_empty_environment_then_it_runs_quick(
    empty: Path, built: dict[str, Path], place: Path
) -> None:
    words = ("-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", built["wheel"])
    _call(empty, *words, folder=place)
    _call(empty, "-m", "pip", "check", folder=place)
    _runs_quick(empty, place / "from-wheel")


def test_when_the_source_package_is_installed_then_it_runs_quick(
    empty: Path, built: dict[str, Path], place: Path
) -> None:
    venv.create(place / "other", with_pip=False)
    python = place / "other" / "bin" / "python"
    packages = next((place / "other").glob("lib/python*/site-packages"))
    below = next((place / "env").glob("lib/python*/site-packages"))
    # What it requires is there from the wheel; the package itself is its own.
    (packages / "seen.pth").write_text(str(below), encoding="utf-8")
    _call(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps",
        "--force-reinstall", "--ignore-installed", built["sdist"], folder=place,
    )  # fmt: skip
    own = _call(python, "-c", "import weightcast.bench as b; print(b.__file__)", folder=place)
    assert Path(own.strip()).is_relative_to(place / "other")
    _runs_quick(python, place / "from-sdist")
