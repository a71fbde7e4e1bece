"""Data sets: the trajectories of one recipe, or of one generator, over their seeds."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weightcast.datasets.errors import InputError
from weightcast.datasets.opening import open_trajectory
from weightcast.datasets.recipe import Recipe
from weightcast.datasets.trajectory import Trajectory

#: Trajectories that travel with the package, so that every machine ranks on the same bytes.
SHIPPED = Path(__file__).parent / "canonical"


def default_data_folder() -> Path:
    """Return ``$WEIGHTCAST_DATA``, or else the platform's folder for user data."""
    if named := os.environ.get("WEIGHTCAST_DATA"):
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("weightcast")


@dataclass(frozen=True)
class DataSet(ABC):
    """A named set of independent runs.

    Attributes
    ----------
    name : str
    seeds : tuple of int
        The runs.
    description : str
        One line.
    track : str
        ``"main"`` for independent runs from random starts, ``"fine-tune"`` for runs from the same
        pretrained weights.
    """

    name: str
    seeds: tuple[int, ...]
    description: str
    source: str
    licence: str
    track: str = "main"

    @property
    @abstractmethod
    def recorded(self) -> bool:
        """Whether the runs are files rather than generated on the spot."""

    @property
    @abstractmethod
    def no_network(self) -> str:
        """Why there are no tiers ``function`` and ``loop``; empty where there are.

        What the data set does or lacks, to stand after its name.
        """

    @abstractmethod
    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        """Return one run.

        Parameters
        ----------
        seed : int
        data : Path, optional
            A folder of recorded data sets to look in first.
        """

    @abstractmethod
    def missing(self, data: Path | None = None) -> tuple[int, ...]:
        """Return the seeds that `run` cannot return now."""


#: From a run and its context n to the best possible forecast of its later snapshots, (m, d).
Oracle = Callable[[Trajectory, int], NDArray[np.float64]]


@dataclass(frozen=True)
class GeneratedDataSet(DataSet):
    """Runs computed from their seed when asked for.

    Attributes
    ----------
    generate : callable
        From a seed to its run.
    oracle : callable, optional
        From a run and a context n to an (m, d) array: what to expect of each later snapshot, the
        tensors laid end to end, given w_n and full knowledge of the problem. The benchmark shows
        its error as the best possible; no method gets to see it.
    """

    generate: Callable[[int], Trajectory] = field(kw_only=True)
    oracle: Oracle | None = None

    @property
    def recorded(self) -> bool:
        return False

    @property
    def no_network(self) -> str:
        return "is generated and has no network"

    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        return self.generate(seed)

    def missing(self, data: Path | None = None) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True)
class RecordedDataSet(DataSet):
    """Runs trained by a recipe and read from files."""

    recipe: Recipe | None = None
    bytes_per_run: int = 0
    seconds_per_run: float = 0.0

    @property
    def recorded(self) -> bool:
        return True

    @property
    def no_network(self) -> str:
        return "" if self.recipe else "gives no build() and loss()"

    @property
    def untrainable(self) -> str:
        """Why ``weightcast record`` cannot train its runs; empty where it can."""
        return "" if self.recipe else "has no recipe; its runs were made elsewhere"

    @property
    def folder(self) -> str:
        """The name of the folder that holds its runs.

        It is the data set's own, but for what a file system does not take.
        """
        return re.sub(r"[^\w.+-]+", "-", self.name)

    def path(self, seed: int, data: Path | None = None) -> Path | None:
        """Find a run's file: in ``data``, then with the package, then in the user's data folder."""
        for folder in (data, SHIPPED, default_data_folder()):
            if folder is not None:
                path = folder / self.folder / f"{seed}.safetensors"
                if path.exists():
                    return path
        return None

    def run(self, seed: int, data: Path | None = None) -> Trajectory:
        path = self.path(seed, data)
        if path is None:
            raise InputError(self.how_to_record((seed,)))
        run = open_trajectory(path)
        if (run.meta.dataset, run.meta.seed) != (self.name, seed):
            raise InputError(f"{path} holds the run {run.label}, not {self.name}/{seed}")
        return run

    def missing(self, data: Path | None = None) -> tuple[int, ...]:
        return tuple(seed for seed in self.seeds if self.path(seed, data) is None)

    def how_to_record(self, seeds: tuple[int, ...]) -> str:
        """Say what command makes these runs, how long it takes and how much it writes."""
        known = (
            f" (about {self.seconds_per_run * len(seeds):.0f} s and "
            f"{self.bytes_per_run * len(seeds) / 2**20:.1f} MiB)"
        )
        return (
            f"{len(seeds)} of {len(self.seeds)} runs of {self.name} are not here; make them with: "
            f"weightcast record {self.name} --seeds {seed_ranges(seeds)}"
            + known
            * (self.seconds_per_run > 0)
        )

    def size_of_run(self) -> int:
        """Return the bytes that a recorded run takes."""
        return self.bytes_per_run


def seed_ranges(seeds: Sequence[int]) -> str:
    """Write seeds as ``--seeds`` reads them.

    Examples
    --------
    >>> seed_ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
