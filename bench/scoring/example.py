"""One run a data set kept for the eye: some coordinates, and the plane it moves most in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.scoring.forecasting import ForecastBlock
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Trajectory

Doubles = NDArray[np.float64]


@dataclass
class Plane:
    """The two directions along which a run's snapshots vary most.

    Attributes
    ----------
    mix : ndarray, shape (T, 2)
        Each direction as a combination of centred snapshots.
    truth : ndarray, shape (T, 2)
        The run's own path in the plane.
    explained : float
        Share of the snapshots' variance that lies in the plane.
    """

    mix: Doubles
    truth: Doubles
    explained: float


@lru_cache(maxsize=1)  # every method of a task is drawn in the plane of the same run
def main_plane(run: Trajectory, snapshots: int) -> Plane:
    """Find the plane from the snapshots' Gram matrix, one pass over blocks."""
    gram = np.zeros((snapshots, snapshots))
    for block in run.blocks(range(snapshots)):
        centred = block.values - block.values.mean(axis=0, dtype=np.float64)
        gram += centred @ centred.T
    values, vectors = np.linalg.eigh(gram)
    top, total = values[-2:][::-1], values.sum()
    vectors = vectors[:, -2:][:, ::-1]
    # An eigenvector's sign means nothing, and processors differ in it: the run ends right and up.
    vectors = vectors * np.where(vectors[-1] < 0, -1.0, 1.0)
    root = np.sqrt(np.maximum(top, 1e-300))
    return Plane(vectors / root, vectors * root, float(top.sum() / total) if total > 0 else 1.0)


def example_coordinates(
    run: Trajectory, task: ForecastTask, sample: NDArray[np.int64], count: int = 4
) -> list[int]:
    """Pick sampled coordinates from the one that moves most down to one that hardly moves."""
    values = _coordinates(run, task, sample)
    moved = np.abs(values[:, -1] - values[:, task.context])
    order = np.argsort(-moved, kind="stable")
    indices = np.unique(np.linspace(0, 0.75 * (len(order) - 1), count).round().astype(int))
    return [int(sample[order[index]]) for index in indices]


def example_truth(run: Trajectory, task: ForecastTask, sample: NDArray[np.int64]) -> dict[str, Any]:
    """Return what is drawn of the run itself, as plain lists."""
    plane = main_plane(run, task.context + 1 + len(task.horizons))
    chosen = example_coordinates(run, task, sample)
    values = _coordinates(run, task, np.asarray(chosen))
    return {
        "run": run.meta.seed,
        "context": task.context,
        "coordinates": [_name(run, flat) for flat in chosen],
        "values": values.tolist(),
        "plane": plane.truth.tolist(),
        "explained": plane.explained,
    }


class ExampleForecast:
    """What is drawn of a forecast, gathered while its blocks stream by.

    Parameters
    ----------
    run : Trajectory
    task : ForecastTask
    sample : ndarray of int
    sampled : bool
        Whether the sample alone is forecast; then there is no path.
    """

    def __init__(
        self, run: Trajectory, task: ForecastTask, sample: NDArray[np.int64], sampled: bool
    ) -> None:
        self._run, self._sampled = run, sampled
        self._count = task.context + 1 + len(task.horizons)
        self._plane = main_plane(run, self._count)
        self._chosen = example_coordinates(run, task, sample)
        self._values: dict[int, list[float]] = {}
        self._path = np.zeros((len(task.horizons), 2))

    def add(self, block: ForecastBlock) -> None:
        """Draw a block."""
        first = block.tensor.offset + block.rows
        for flat in self._chosen:
            if flat in first:
                row = int(np.flatnonzero(first == flat)[0])
                self._values[flat] = block.forecast[row].astype(float).tolist()
        if not self._sampled:
            begin, end = int(block.rows[0]), int(block.rows[-1]) + 1
            rows = range(self._count)
            truth = self._run.read(block.tensor, rows, begin, end).astype(np.float64)  # (T, c)
            centre = truth.mean(axis=0)
            self._path += (block.forecast.T - centre) @ ((truth - centre).T @ self._plane.mix)

    @property
    def drawn(self) -> dict[str, Any]:
        """Values (k, m) and the path (m, 2) in the plane, once the last block is added."""
        return {
            "values": [self._values[flat] for flat in self._chosen],
            "plane": None if self._sampled else self._path.tolist(),
        }


def _coordinates(
    run: Trajectory, task: ForecastTask, flat: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Read some coordinates over context and horizons, shape (k, T)."""
    rows = range(task.context + 1 + len(task.horizons))
    found = np.empty((len(flat), len(rows)), dtype=np.float32)
    for info in run.tensors:
        inside = (flat >= info.offset) & (flat < info.offset + info.size)
        for index in np.flatnonzero(inside):
            start = int(flat[index]) - info.offset
            found[index] = run.read(info, rows, start, start + 1)[:, 0]
    return found


def _name(run: Trajectory, flat: int) -> str:
    info = next(i for i in run.tensors if i.offset <= flat < i.offset + i.size)
    index = np.unravel_index(flat - info.offset, info.shape)
    return f"{info.name}[{', '.join(str(int(i)) for i in index)}]"
