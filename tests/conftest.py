"""Fixtures shared by the tests: small runs with known weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import settings

from weightcast.bench.engine.processes.forks import worker_context
from weightcast.bench.engine.processes.worker import Worker
from weightcast.bench.engine.work import NETWORKS
from weightcast.bench.scoring.border import desk, method_side
from weightcast.datasets import Metadata, TensorInfo, Trajectory
from weightcast.methods import registry

# Jobs in a shell's background are deaf to Ctrl-C, and so would be all that tests start: a process
# that Ctrl-C is to end would be waited for without end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


#: What the tests are given: see the fixtures of these names.
WaitFor = Callable[..., bool]
Slack = Callable[[], AbstractContextManager[Callable[[], float]]]

#: A fifth of a second, with the start of the process, where nothing else runs.
WORK = "import time\nwhile time.process_time() < 0.15: pass"
MAIN = "from weightcast.bench.cli import main; main()"
BORDER = (desk.__name__, method_side.__name__)


class ThisProcess(Worker):
    """Calls functions here, where no limit holds, on both sides of the border."""

    def __init__(self) -> None:
        pass

    @property
    def beside(self) -> Worker:
        return self

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        stop: threading.Event | None = None,
        timeout: float | None = None,
    ) -> Any:
        return function(*args)


def make_run(values: np.ndarray, seed: int = 0, dataset: str = "toy") -> Trajectory:
    """Make a run of (T, d) values: a (d - 1,) and a scalar tensor where d > 1, else one tensor."""
    values = np.asarray(values, dtype=np.float32)
    count = len(values)
    meta = Metadata(
        dataset,
        seed,
        optimizer="sgd",
        learning_rates=(0.1,) * (count - 1),
        train_loss=tuple(np.linspace(1.0, 0.1, count).tolist()),
    )
    if values.shape[1] == 1:
        return Trajectory.from_arrays({"w": values}, range(count), meta)
    arrays = {"w": values[:, :-1], "b": values[:, -1]}
    infos = [TensorInfo("w", (values.shape[1] - 1,), "linear"), TensorInfo("b", (), "bias")]
    return Trajectory.from_arrays(arrays, range(count), meta, infos)


#: Kind and shape of each tensor of `network_run`.
NETWORK = {
    "conv.weight": ("conv", (3, 2, 2, 2)),
    "norm.weight": ("norm", (3,)),
    "norm.bias": ("norm", (3,)),
    "fc.weight": ("linear", (4, 6)),
    "fc.bias": ("bias", (4,)),
    "scale": ("other", ()),
    "mix": ("other", (2, 3, 2)),
}


def make_network_run(seed: int, snapshots: int = 51, steps: np.ndarray | None = None) -> Trajectory:
    """Make a run of tensors of all sorts that relax to random optima."""
    random = np.random.default_rng(seed)
    arrays, infos = {}, []
    for name, (kind, shape) in NETWORK.items():
        start, end = random.standard_normal((2, *shape))
        rate = random.uniform(0.85, 0.97, shape)
        path = end + (start - end) * rate ** np.arange(snapshots).reshape(-1, *[1] * len(shape))
        arrays[name] = path.astype(np.float32)
        infos.append(TensorInfo(name, shape, kind))
    meta = Metadata("toy-network", seed, optimizer="adam")
    where = range(snapshots) if steps is None else steps.tolist()
    return Trajectory.from_arrays(arrays, where, meta, infos)


@pytest.fixture(scope="session")
def this_process() -> Worker:
    """Give a worker whose calls run here."""
    return ThisProcess()


@pytest.fixture(autouse=True, scope="session")
def loaded_workers() -> None:
    """Have workers start with what most need: what they do is settled by a process's first one."""
    worker_context([*NETWORKS, "sklearn.base", *BORDER])


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register methods under names that another test has used."""
    monkeypatch.setattr(registry, "_METHODS", registry.all_methods())


@pytest.fixture
def toy_run() -> Callable[..., Trajectory]:
    return make_run


@pytest.fixture
def network_run() -> Callable[..., Trajectory]:
    return make_network_run


@pytest.fixture
def network_runs() -> list[Trajectory]:
    return [make_network_run(seed) for seed in range(6)]


@pytest.fixture
def toy_runs() -> list[Trajectory]:
    """Eight runs of 31 snapshots of 12 coordinates that relax to random optima, with noise."""
    runs = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        start, end = random.standard_normal((2, 12))
        rate = random.uniform(0.85, 0.97, 12)
        decay = rate[None] ** np.arange(31)[:, None]
        noise = 0.01 * random.standard_normal((31, 12)).cumsum(axis=0)
        runs.append(make_run(end + (start - end) * decay + noise, seed))
    return runs


@pytest.fixture(scope="session")
def weightcast() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", MAIN, *map(str, arguments)],
            capture_output=True, text=True, encoding="utf-8", check=False,
            env={**os.environ, "COLUMNS": "200", **environment},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def wait_for() -> WaitFor:
    """Wait until something is so; tell whether it came to be before patience ends."""

    def wait(so: Callable[[], bool], seconds: float = 300.0) -> bool:
        deadline = time.monotonic() + seconds
        while not (is_so := so()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return is_so

    return wait


@pytest.fixture(scope="session")
def alive() -> Callable[[int], bool]:
    """Tell whether a process is there, and is not one that has ended and waits to be seen."""

    def is_alive(pid: int) -> bool:
        try:
            return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    return is_alive


@pytest.fixture
def slack() -> Slack:
    """Measure how many times longer than on an idle machine a process's work takes over a block."""

    @contextmanager
    def measured() -> Iterator[Callable[[], float]]:
        found, done = [1.0], threading.Event()

        def look() -> None:
            while not done.wait(0.3):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-S", "-c", WORK], check=True)
                found.append((time.perf_counter() - start) / 0.2)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield lambda: max(found)
        finally:
            done.set()
            looking.join()

    return measured


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a plugin file with one coordinate forecaster whose predict_block has this body."""

    def write(name: str, body: str, file: str = "plugin.py") -> Path:
        lines = "\n".join(f"        {line}" for line in body.splitlines())
        path = tmp_path / file
        path.write_text(
            "import os, time\n"
            "import numpy as np\n"
            "from weightcast.methods import CoordinateForecaster, register\n\n"
            f'@register("{name}")\n'
            "class Plugin(CoordinateForecaster):\n"
            '    """A plugin of the tests."""\n'
            "    def predict_block(self, context, task):\n"
            f"{lines}\n",
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture(scope="session")
def accessibility() -> Callable[..., list[str]]:
    """Return what axe-core finds wrong in a page, as a browser shows it with all of it unfolded."""
    chromium = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("no chromium on PATH")
    reason = "neither playwright nor axe-playwright-python is installed"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason)

    def find(path: Path, scheme: str, width: int) -> list[str]:
        with playwright.sync_playwright() as engines:
            browser = engines.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
            found = axe.Axe().run(page).response["violations"]
            browser.close()
        return [
            f"{one['id']}: {one['help']}, {one['nodes'][0]['html'][:200]}, {len(one['nodes'])}"
            for one in found
        ]

    return find
