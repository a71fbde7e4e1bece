"""What is handed over at the border beside numbers: what is asked, and what is told back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.site import Setup
from weightcast.bench.plan.fits import Fit
from weightcast.bench.scoring.cell import Costs
from weightcast.datasets.task import ForecastTask
from weightcast.datasets.trajectory import Metadata, TensorInfo


@dataclass(frozen=True)
class Order:
    """What a method's process needs to know of a fit: nothing of the runs.

    Attributes
    ----------
    setup : Setup
        Without the folder of recorded data sets.
    key : str
        The fit's.
    """

    setup: Setup
    key: str
    method: str
    params: str
    code: str
    files: str
    tuning: int

    @classmethod
    def of(cls, setup: Setup, fit: Fit) -> Order:
        """Write the order for a fit."""
        blind = Setup(setup.plugins, setup.methods, None, setup.distrust)
        return cls(blind, fit.key, fit.method, fit.params, fit.code, fit.files, fit.tuning)


@dataclass(frozen=True)
class RunOffer:
    """A run as it may be seen, under no name: `weightcast.bench.scoring.border.sealed` opens it.

    Attributes
    ----------
    place : int
        Its number at the desk.
    steps : tuple of int
        Of the snapshots that may be read.
    meta : Metadata
        Without seed, recipe, origin and test losses.
    own_first : bool
        Whether its very first snapshot is another than the first that may be read.
    has_loss : bool
        Whether its training loss can be measured.
    """

    place: int
    tensors: tuple[TensorInfo, ...]
    steps: tuple[int, ...]
    meta: Metadata
    own_first: bool
    has_loss: bool


@dataclass(frozen=True)
class FitOffer:
    """Training and validation runs, in ascending order of their seeds.

    Attributes
    ----------
    session : int
        What is asked for these runs carries it.
    sample : ndarray of int
        Empty for a method that is asked for every coordinate.
    """

    session: int
    train: tuple[RunOffer, ...]
    validation: tuple[RunOffer, ...]
    task: ForecastTask
    sample: NDArray[np.int64]
    training_seconds: float


@dataclass(frozen=True)
class ForecastOffer:
    """A run up to its origin.

    Attributes
    ----------
    session : int
    sample : ndarray of int, optional
        The only coordinates that are asked for.
    statistics : RunOffer, optional
        Batch-norm statistics, to be forecast as a network of their own.
    """

    session: int
    run: RunOffer
    task: ForecastTask
    sample: NDArray[np.int64] | None = None
    statistics: RunOffer | None = None


@dataclass(frozen=True)
class FitReport:
    """What a method's process tells of a fit."""

    failure: Failure | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    parameters: int | None = None
    flops_per_coordinate: float | None = None
    diagnostics: dict[str, Any] = field(default_factory=dict)
    learned: bool = False
    threads: int = 1


@dataclass(frozen=True)
class Told:
    """What a method's process tells of a forecast, beside its blocks.

    Attributes
    ----------
    failure : Failure, optional
        Why there is none.
    costs : Costs, optional
        Whose evaluations the desk has counted itself.
    statistics : bool
        Whether it has a forecast of batch-norm statistics, where it was asked for one.
    """

    failure: Failure | None = None
    costs: Costs | None = None
    statistics: bool = True
