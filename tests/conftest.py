"""Fixtures shared by the tests: small runs with known weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from weightcast.datasets import Metadata, TensorInfo, Trajectory
from weightcast.methods import registry

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


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


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register methods under names that another test has used."""
    monkeypatch.setattr(registry, "_METHODS", registry.all_methods())


@pytest.fixture
def toy_run() -> Callable[..., Trajectory]:
    return make_run


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
