"""What the store keeps of a fit and of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from weightcast.bench.engine.failure import Failure
from weightcast.bench.engine.site import Site
from weightcast.bench.plan.fits import Fit


@dataclass
class FitRecord:
    """What one fit was and took.

    Attributes
    ----------
    failure : Failure, optional
        Why there is no fitted method.
    """

    fit: Fit
    failure: Failure | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    fit_seconds: float | None = None
    fit_cpu_seconds: float | None = None
    fit_memory_bytes: int | None = None
    training_runs_seconds: float = 0.0
    parameters: int | None = None
    flops_per_coordinate: float | None = None
    diagnostics: dict[str, Any] = field(default_factory=dict)
    site: Site = field(default_factory=Site)


@dataclass
class CellRow:
    """One cell's result in one tier.

    ``horizon_set`` is ``"common"`` for a row on all of the task's horizons and ``"native"`` for one
    at those that the method was made for, which are then in the metric ``horizons``.

    Of what the cell took, ``predict_seconds`` are the method's, ``network_seconds`` those of
    measuring the real network, ``scoring_seconds`` those of reading contexts and truth and
    comparing; ``cell_seconds`` is everything from asking a worker for the cell to having it.
    ``again`` marks what the next run is to try again.
    """

    run: int
    tier: str
    status: str = "ok"
    reason: str = ""
    traceback: str = ""
    coverage: float | None = None
    coordinates: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    curve: list[float | None] = field(default_factory=list)
    predict_seconds: float | None = None
    predict_cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    evaluations: int = 0
    network_seconds: float | None = None
    scoring_seconds: float | None = None
    cell_seconds: float | None = None
    horizon_set: str = "common"
    again: bool = False


def rows_without_result(run: int, tiers: Sequence[str], why: Failure) -> list[CellRow]:
    """Make the rows of a cell that has no result."""
    return [
        CellRow(run, tier, why.status, why.reason, why.traceback, again=why.again) for tier in tiers
    ]
