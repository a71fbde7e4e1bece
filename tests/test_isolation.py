"""What a method does to its process, or a stranger to a method's, and whom it may concern."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from weightcast.bench.commands.run import RunOptions, run_suite
from weightcast.bench.engine.processes import undisturbed as undisturbed_module
from weightcast.bench.engine.processes.forks import worker_context
from weightcast.bench.engine.processes.kept_process import kept_process
from weightcast.bench.engine.processes.limits import Limits
from weightcast.bench.engine.processes.undisturbed import undisturbed
from weightcast.bench.engine.processes.worker import Worker, WorkerEnded
from weightcast.bench.results.tables import load_results
from weightcast.methods import load_plugin

WaitFor = Callable[..., bool]

SUITE = """
name = "small"
datasets = ["digits-mlp-sgd"]
methods = ["last-value"]
contexts = [10]
rotations = 3
jobs = {jobs}
tiers = ["weights"]
"""

LEAKER = """
import decimal, locale, math, os, random, resource, signal, sys, threading, time, warnings
import numpy as np, torch
from weightcast.methods import CoordinateForecaster, register

def leak():
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    np.seterr(all="raise")
    np.set_printoptions(precision=1)
    os.chdir("/")
    os.environ["LEAKED"] = "1"
    os.umask(0o777)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    decimal.getcontext().prec = 3
    sys.setrecursionlimit(4321)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    math.leaked = np.leaked = CoordinateForecaster.leaked = True
    sys.modules["leaked"] = math
    warnings.simplefilter("error")
    random.seed(17)
    threading.Thread(target=time.sleep, args=(60,), name="leaked", daemon=True).start()

{at_load}

@register("a-leaker")
class Leaker(CoordinateForecaster):
    def predict_block(self, context, task):
        leak()
        return context[:, -1:] + 0 * task.horizons
"""

PROBE = """
import decimal, locale, math, os, random, resource, signal, sys, threading
import numpy as np, torch
from weightcast.methods import CoordinateForecaster, register

def seen():
    mask = os.umask(0)
    os.umask(mask)
    return {
        "torch's type": torch.get_default_dtype() != torch.float32,
        "torch's rule": torch.are_deterministic_algorithms_enabled(),
        "numpy's errors": np.geterr()["over"] == "raise",
        "numpy's print": np.get_printoptions()["precision"] == 1,
        "folder": os.getcwd() == "/",
        "environment": "LEAKED" in os.environ,
        "umask": mask == 0o777,
        "locale": locale.setlocale(locale.LC_ALL) == "C.UTF-8",
        "signals": signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,
        "decimals": decimal.getcontext().prec == 3,
        "recursion": sys.getrecursionlimit() == 4321,
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200,
        "modules": "leaked" in sys.modules,
        "math": hasattr(math, "leaked"),
        "numpy": hasattr(np, "leaked"),
        "interface": hasattr(CoordinateForecaster, "leaked"),
        "random": random.Random(17).getstate() == random.getstate(),
        "threads": any(thread.name == "leaked" for thread in threading.enumerate()),
    }

@register("z-probe")
class Probe(CoordinateForecaster):
    def predict_block(self, context, task):
        if found := [name for name, there in seen().items() if there]:
            raise ValueError("leaked: " + ", ".join(found))
        return context[:, -1:] + 0 * task.horizons
"""

ENDED = """
import os, signal
from pathlib import Path
import numpy as np
from weightcast.methods import CoordinateForecaster, register

def times():
    with open({here!r}, "a") as log:
        log.write("x")
    return os.path.getsize({here!r})

@register("ended")
class Ended(CoordinateForecaster):
    def {where}:
        {does}
        return {returns}

    {more}
"""
FIT = {
    "where": "fit(self, train, validation, task)",
    "returns": "self",
    "more": "def predict_block(self, c, task): return c[:, -1:] + 0 * task.horizons",
}
PREDICT = {
    "where": "predict_block(self, context, task)",
    "returns": "context[:, -1:] + 0 * task.horizons",
    "more": "",
}


@pytest.fixture
def suite(tmp_path: Path) -> Callable[[int], str]:
    def write(jobs: int) -> str:
        path = tmp_path / "small.toml"
        path.write_text(SUITE.format(jobs=jobs), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Worker]]:
    # What another test has just ended is no event of this one.
    monkeypatch.setattr(undisturbed_module, "_ends", deque())
    context = worker_context()
    made = [Worker(context, Limits(60.0, 10**10)) for _ in range(2)]
    yield made
    for worker in made:
        worker.close()


def _cells(out: Path, method: str) -> Any:
    cells = load_results(out).cells
    return cells[cells["method"] == method]


def test_when_a_method_changes_its_process_then_no_other_method_sees_it(
    weightcast: Any, suite: Callable[[int], str], tmp_path: Path
) -> None:
    files = {"leaker.py": LEAKER.format(at_load=""), "probe.py": PROBE}
    plugins = _written(tmp_path, files)
    done = weightcast("run", "--suite", suite(1), "--out", tmp_path / "out", *plugins)
    assert done.returncode == 0, done.stderr
    assert _cells(tmp_path / "out", "z-probe")["reason"].unique().tolist() == [""]
    assert set(_cells(tmp_path / "out", "last-value")["status"]) == {"ok"}


def test_when_a_plugin_changes_its_process_as_it_loads_then_no_other_method_sees_it(
    weightcast: Any, suite: Callable[[int], str], tmp_path: Path
) -> None:
    files = {
        "leaker.py": LEAKER.format(at_load="leak()"),
        "probe.py": PROBE,
    }
    plugins = _written(tmp_path, files)
    done = weightcast("run", "--suite", suite(2), "--out", tmp_path / "out", *plugins)
    assert done.returncode == 0, done.stderr
    assert _cells(tmp_path / "out", "z-probe")["reason"].unique().tolist() == [""]


def _written(folder: Path, files: dict[str, str]) -> list[str]:
    found = []
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        found += ["--plugin", str(folder / name)]
    return found


def test_when_foreign_code_is_loaded_then_this_process_stays_as_it_is(tmp_path: Path) -> None:
    folder, environment, handler = os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGUSR1)
    mask = os.umask(0o027)

    def change() -> None:
        os.chdir(tmp_path)
        os.environ["LEAKED"] = "1"
        del os.environ["PATH"]
        os.umask(0o777)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"), kept_process():
        change()
    assert os.getcwd() == folder
    assert dict(os.environ) == environment
    assert signal.getsignal(signal.SIGUSR1) == handler
    assert os.umask(mask) == 0o027


@pytest.mark.parametrize("where", [FIT, PREDICT], ids=["fit", "cell"])
@pytest.mark.parametrize(
    "does",
    [
        "if times() == 1: os.kill(os.getpid(), signal.SIGKILL)",
        "if times() == 1: os.kill(os.getpid(), signal.SIGTERM)",
        "if times() <= 3: os.kill(os.getppid(), signal.SIGKILL); signal.pause()",
    ],
    ids=["killed", "terminated", "with the server"],
)
def test_when_a_stranger_ends_a_process_then_its_work_is_done_again(
    suite: Callable[[int], str], tmp_path: Path, where: dict[str, str], does: str
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        ENDED.format(here=str(tmp_path / "times"), does=does, **where), encoding="utf-8"
    )
    load_plugin(plugin)
    options = RunOptions(suite(1), tmp_path / "out", methods=["ended"], plugins=[plugin])
    assert set(run_suite(options)) == {"ok"}


def test_when_a_process_is_ended_each_time_then_it_counts_against_the_method(
    suite: Callable[[int], str], tmp_path: Path
) -> None:
    plugin = tmp_path / "plugin.py"
    does = "os.kill(os.getpid(), signal.SIGKILL)"
    plugin.write_text(ENDED.format(here="", does=does, **FIT), encoding="utf-8")
    load_plugin(plugin)
    options = RunOptions(suite(2), tmp_path / "out", methods=["ended", "last-value"])
    options.plugins = [plugin]
    assert set(run_suite(options)) == {"ok", "crashed"}
    assert set(_cells(tmp_path / "out", "last-value")["status"]) == {"ok"}
    (reason,) = set(_cells(tmp_path / "out", "ended")["reason"])
    assert reason.startswith("the fit: its process was ended by SIGKILL")


HANGS = """
import os, time
from pathlib import Path
folder = Path({folder!r})
count = len(list(folder.glob("*")))
if count < {rounds}:
    (folder / f"{{count}}").write_text(str(os.getpid()))
    time.sleep(600)
"""


def _call(worker: Worker, folder: Path, rounds: int, stop: threading.Event) -> None:
    folder.mkdir(exist_ok=True)
    code = HANGS.format(folder=str(folder), rounds=rounds)
    undisturbed(worker, lambda: worker.call(exec, code, {}), stop)


def _kill(wait_for: WaitFor, folders: list[Path], rounds: int) -> None:
    """Kill what each folder names, together, so many times."""
    for number in range(rounds):
        files = [folder / str(number) for folder in folders]
        wait_for(lambda files=files: all(f.is_file() and f.read_text() for f in files))
        for file in files:
            os.kill(int(file.read_text()), signal.SIGKILL)


def test_when_processes_are_ended_together_then_none_is_to_blame(
    workers: list[Worker], tmp_path: Path, wait_for: WaitFor
) -> None:
    folders, stop = [tmp_path / "a", tmp_path / "b"], threading.Event()
    with ThreadPoolExecutor() as pool:
        calls = [
            pool.submit(_call, worker, folder, 3, stop)
            for worker, folder in zip(workers, folders, strict=True)
        ]
        _kill(wait_for, folders, 3)
        assert [call.result() for call in calls] == [None, None]


def test_when_one_process_is_ended_again_and_alone_then_it_is_told(
    workers: list[Worker], tmp_path: Path, wait_for: WaitFor
) -> None:
    with ThreadPoolExecutor() as pool:
        call = pool.submit(_call, workers[0], tmp_path / "a", 9, threading.Event())
        _kill(wait_for, [tmp_path / "a"], 2)
        with pytest.raises(WorkerEnded, match="SIGKILL"):
            call.result()
    assert len(list((tmp_path / "a").glob("*"))) == 2
