"""Systems that lack what Linux has, simulated: the same bytes and numbers come out."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightcast.bench.engine.processes import child
from weightcast.bench.engine.processes.child import SharedFile
from weightcast.datasets import InputError, open_trajectory
from weightcast.datasets.files import system
from weightcast.datasets.files.partial_file import PartialFile, UnfinishedFile

#: Takes from a process, and from all that it starts, what Windows has not got.
LACKING = """
import builtins, importlib, multiprocessing, os, signal, types

for name in ("preadv", "pread", "pwrite"):
    delattr(os, name)
for name in ("pthread_kill", "pthread_sigmask"):
    delattr(signal, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]

import_module, import_ = importlib.import_module, builtins.__import__

def without_module(name, package=None):
    if name == "fcntl":
        raise ImportError(name)
    return import_module(name, package)

def without(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.startswith("weightcast.") and name in ("fcntl", "resource"):
        raise ImportError(name)
    if importer.endswith("processes.child") and "reduction" in (fromlist or ()):
        return types.SimpleNamespace(reduction=types.SimpleNamespace())
    return import_(name, globals, locals, fromlist, level)

importlib.import_module, builtins.__import__ = without_module, without
"""
MAIN = "from weightcast.bench.cli import main; main()"
SUITE = """name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value", "damped-line", "crashes"]
contexts = [10]
rotations = 3
tiers = ["weights"]
jobs = 2
"""
PLUGIN = """
import ctypes
from weightcast.methods import CoordinateForecaster, register

@register("crashes")
class Crashes(CoordinateForecaster):
    def fit(self, train, validation, task):
        ctypes.string_at(0)
        return self
"""

Weightcast = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process on another system."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "sitecustomize.py").write_text(LACKING, encoding="utf-8")
    return os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="module")
def weightcast(elsewhere: dict[str, str]) -> Weightcast:
    def call(*words: str | Path, lacking: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, *map(str, words)],
            env=elsewhere if lacking else os.environ | {"PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    suite, plugin = tmp_path / "small.toml", tmp_path / "crashes.py"
    suite.write_text(SUITE, encoding="utf-8")
    plugin.write_text(PLUGIN, encoding="utf-8")
    return suite, plugin


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from this process what files are read, written and locked with."""
    for name in ("preadv", "pread", "pwrite"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(system, "_fcntl", None)


def test_when_the_simulation_runs_then_the_system_really_lacks_it(
    elsewhere: dict[str, str],
) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal; from weightcast.datasets.files import system; "
            "from weightcast.bench.engine.processes import child; "
            "print(hasattr(os, 'preadv'), system._fcntl, child._HANDED_OVER, "
            "hasattr(signal, 'pthread_kill'))",
        ],
        env=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["False", "None", "None", "False"]


def test_when_a_system_lacks_forks_and_locks_then_a_suite_gives_the_same_numbers(
    weightcast: Weightcast, files: tuple[Path, Path], tmp_path: Path
) -> None:
    suite, plugin = files
    tables = []
    for lacking in (False, True):
        out = tmp_path / f"results-{lacking}"
        done = weightcast(
            "run", "--suite", suite, "--plugin", plugin, "--out", out, lacking=lacking
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        csv = tmp_path / f"{lacking}.csv"
        done = weightcast("leaderboard", out, "--csv", csv, lacking=lacking)
        assert done.returncode == 0, done.stderr
        tables.append(csv.read_bytes())
    assert tables[0] == tables[1]
    page = weightcast("report", tmp_path / "results-True")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "results-True" / "report.html").read_text(encoding="utf-8")
    # How the process died, and where, is told by the file that both sides can write to.
    assert "crashes.py" in text
    assert "Segmentation fault" in text


def test_when_a_system_lacks_positioned_writes_then_a_recording_is_the_same(
    weightcast: Weightcast, tmp_path: Path
) -> None:
    hashes = []
    for lacking in (False, True):
        data = tmp_path / str(lacking)
        words = ("record", "digits-mlp-momentum-cosine", "--seeds", "0", "--out", data)
        done = weightcast(*words, lacking=lacking)
        assert done.returncode == 0, done.stderr
        (path,) = data.rglob("*.safetensors")
        hashes.append(open_trajectory(path).content_hash())
        assert not [each for each in data.rglob("*") if each.name.endswith(".partial")]
    assert hashes[0] == hashes[1]
    words = ("--method", "damped-line", "--horizon", "3", "--out", tmp_path / "ahead.safetensors")
    done = weightcast("forecast", path, *words)
    assert done.returncode == 0, done.stderr


def test_when_a_run_is_interrupted_there_then_it_ends_and_goes_on(
    elsewhere: dict[str, str], weightcast: Weightcast, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["run", "--suite", "quick", "--datasets", "digits-mlp-sgd", "--out", str(out)]
    words += ["--methods", "last-value,lstm", "--jobs", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *words], env=elsewhere, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + 120
        while not (out / "results.sqlite").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.0)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    done = weightcast("run", "--suite", "quick", "--datasets", "digits-mlp-sgd", "--out", out,
                      "--methods", "last-value", "--jobs", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr


@given(
    puts=st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=50)), max_size=8)
)
def test_when_positions_are_moved_to_then_bytes_lie_where_they_are_put(
    puts: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    contents = []
    for lacking in (False, True):
        path = tmp_path_factory.mktemp("put") / "file"
        with pytest.MonkeyPatch.context() as patch:
            if lacking:
                for name in ("preadv", "pread", "pwrite"):
                    patch.delattr(os, name)
                patch.setattr(system, "_fcntl", None)
            file = PartialFile(path)
            for position, data in puts:
                file.put(data, position)
                back = bytearray(len(data))
                file.get(memoryview(back), position)
                assert bytes(back) == data
            file.finish()
            assert list(path.parent.iterdir()) == [path]
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("bare")
def test_when_there_are_no_locks_then_an_unfinished_file_is_kept_or_removed(tmp_path: Path) -> None:
    for keep in (False, True):
        file = UnfinishedFile(tmp_path / "run")
        file.put(b"begun", 0)
        file.keep = keep
        file.discard()
        assert file.partial.exists() == keep
    again = UnfinishedFile(tmp_path / "run")
    again.finish()
    assert (tmp_path / "run").read_bytes() == b"begun"


def test_when_another_takes_a_new_file_for_a_stale_one_then_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    open_file, cleared = system.open_file, []

    def with_another(path: Path, flags: int) -> int:
        """Open a file; before its writer locks the first, another has, and will remove it."""
        file = open_file(path, flags)
        if not cleared:
            other = os.open(path, os.O_RDWR)
            fcntl.flock(other, fcntl.LOCK_EX)

            def remove() -> None:
                time.sleep(0.2)
                path.unlink()
                os.close(other)

            cleared.append(threading.Thread(target=remove))
            cleared[0].start()
        return file

    monkeypatch.setattr(system, "open_file", with_another)
    file = PartialFile(tmp_path / "file")
    cleared[0].join()
    file.put(b"whole", 0)
    file.finish()
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("locks", [True, False])
def test_when_a_file_cannot_get_its_name_then_nothing_is_left(
    locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks:
        monkeypatch.setattr(system, "_fcntl", None)
    file = PartialFile(tmp_path / "taken")
    file.put(b"bytes", 0)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        file.finish()
    file.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedFile]:
    monkeypatch.setattr(child, "_HANDED_OVER", None)
    file = SharedFile()
    yield file
    file.close()


def test_when_open_files_cannot_be_handed_over_then_a_named_one_is_shared(
    named: SharedFile,
) -> None:
    other = pickle.loads(pickle.dumps(named)).handler()  # as a process is given it
    other.write(b"from the other process")
    other.close()
    assert named.text() == "from the other process"
    named.clear()
    assert named.text() == ""
    name = Path(named._name)
    assert name.exists()
    named.close()
    assert not name.exists()
