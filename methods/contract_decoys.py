"""Decoys: futures that lie where a method must not look, made up so that it shows who took them.

Each way to a decoy is one that leads to the truth where someone calls a method in a process of
their own. In a run of the benchmark none of them does; what a check finds here would fail there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.dataset import RecordedDataSet
from weightcast.datasets.files.stacked import write_stacked
from weightcast.datasets.history import History, TrainLoss
from weightcast.datasets.opening import open_trajectory
from weightcast.datasets.registry import registered_for_now
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Floats, Trajectory
from weightcast.methods.contract_toy import CONTEXT, run_of
from weightcast.methods.forecaster import Forecaster, NetworkForecast

#: No forecast of a toy run comes near it.
_ELSEWHERE = 1000.0
_NAME = "contract-decoy"


def decoy(values: NDArray[np.floating], seed: int = 0) -> Trajectory:
    """Make a run (T, d) that begins as these values do, and goes on far from them."""
    other = np.array(values)
    other[CONTEXT + 1 :] = _ELSEWHERE
    return run_of(other, seed)


class ForecastStream:
    """Stands where the harness stands in the call stack, with a decoy in its hands."""

    def __init__(self, run: Trajectory, task: ForecastTask) -> None:
        self.run, self.task = run, task

    def ask(self, method: Forecaster, history: History) -> NetworkForecast:
        """Ask for a forecast, with the decoy among the caller's variables."""
        run, trajectory = self.run, self.run
        forecast = method.predict(history, self.task)
        del run, trajectory
        return forecast


@contextmanager
def neighbours(
    runs: Sequence[NDArray[np.floating]], asked: int
) -> Iterator[tuple[list[Trajectory], str]]:
    """Lay runs out as files of a registered data set.

    Parameters
    ----------
    runs : sequence of ndarray, each (T, d)
    asked : int
        Which of them is a decoy: the one to be forecast.

    Yields
    ------
    runs : list of Trajectory
        Read from their files, the decoy among them.
    name : str
        The data set's.
    """
    with tempfile.TemporaryDirectory() as folder:
        for seed, values in enumerate(runs):
            run = decoy(values, seed) if seed == asked else run_of(values, seed)
            run.meta = replace(run.meta, dataset=_NAME)
            write_stacked(run, Path(folder) / _NAME / f"{seed}.safetensors")
        files = [Path(folder) / _NAME / f"{seed}.safetensors" for seed in range(len(runs))]
        opened = [open_trajectory(file) for file in files]
        kept = _Decoys(_NAME, tuple(range(len(runs))), "decoys", "drawn", "none")
        object.__setattr__(kept, "_runs", opened)
        with registered_for_now(kept):
            yield opened, _NAME


class _Decoys(RecordedDataSet):
    """A data set whose runs are those that were laid out."""

    _runs: list[Trajectory]

    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        return self._runs[seed]

    def missing(self, data: Path | None = None) -> tuple[int, ...]:
        return ()


class WatchedLoss(TrainLoss):
    """A training loss that notes whoever takes anything of it but its value.

    Attributes
    ----------
    taken : list of str
        What was asked for; read it with `taken_of`.
    """

    def __init__(self, loss: TrainLoss) -> None:
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "taken", [])

    def __call__(self, weights: Mapping[str, Floats]) -> float:
        loss: TrainLoss = object.__getattribute__(self, "loss")
        return loss(weights)

    def __getattribute__(self, name: str) -> Any:
        if name in ("evaluations", "cpu_elsewhere"):
            return getattr(object.__getattribute__(self, "loss"), name)
        if not (name.startswith("__") and name.endswith("__") and name != "__dict__"):
            object.__getattribute__(self, "taken").append(name)
        return object.__getattribute__(self, name)


def taken_of(loss: WatchedLoss) -> list[str]:
    """Return what was taken of a loss."""
    taken: list[str] = object.__getattribute__(loss, "taken")
    return taken
