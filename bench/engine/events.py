"""What happens in a run, in the words in which workers tell it and the store keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from weightcast.bench.plan.fits import Fit
from weightcast.bench.plan.loop_settings import LoopJob
from weightcast.bench.scoring.cell import CellRow


@dataclass
class FitRecord:
    """What one fit was and took.

    Attributes
    ----------
    machine : str
        Where it was made, as JSON; see `weightcast.bench.engine.environment.describe_machine`.
    jobs : int
        Workers side by side while it was timed.
    threads : int
        What each worker was held to.
    """

    fit: Fit
    status: str = "ok"
    reason: str = ""
    traceback: str = ""
    again: bool = False
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    fit_seconds: float | None = None
    fit_cpu_seconds: float | None = None
    fit_memory_bytes: int | None = None
    training_runs_seconds: float = 0.0
    parameters: int | None = None
    flops_per_coordinate: float | None = None
    diagnostics: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1
    threads: int = 1
    machine: str = ""


@dataclass
class Started:
    """A worker has taken up a fit."""

    fit: Fit


@dataclass
class Fitted:
    """A fit is done, or has failed; its cells follow either way."""

    record: FitRecord


@dataclass
class CellDone:
    """A cell has its rows, one a tier."""

    fit: Fit
    run: int
    rows: list[CellRow]
    jobs: int = 1
    threads: int = 1
    machine: str = ""


@dataclass
class Ended:
    """A fit's worker is done with it.

    Attributes
    ----------
    examples : dict
        ``"truth"`` and ``"forecast"``: what the report draws of one run.
    diagnostics : dict or None
        As they are after the cells: some methods count what fails while they forecast.
    seconds : float
        What all of it took, for the estimate of the time left.
    """

    fit: Fit
    examples: dict[str, Any] = field(default_factory=dict)
    diagnostics: dict[str, Any] | None = None
    seconds: float = 0.0


@dataclass
class LoopStarted:
    """A worker has taken up a job of the loop tier."""

    job: LoopJob


@dataclass
class LoopDone:
    """A job's training runs are over.

    Attributes
    ----------
    rows : list of dict
        One a run; see `weightcast.bench.plan.loop_settings.loop_row`.
    """

    job: LoopJob
    rows: list[dict[str, Any]]


@dataclass
class LoopEnded:
    """A job's worker is done with it."""

    job: LoopJob
    seconds: float = 0.0


Event = Started | Fitted | CellDone | Ended | LoopStarted | LoopDone | LoopEnded
Tell = Callable[[Event], None]
