"""What happens in a run, in the words in which workers tell it and the store keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weightcast.bench.engine.records import CellRow, FitRecord
from weightcast.bench.engine.site import Site
from weightcast.bench.plan.fits import Fit
from weightcast.bench.plan.loop_row import LoopRow

#: Data set and method as the progress table names them.
Shown = tuple[str, str]


@dataclass
class Started:
    """A worker has taken up a unit."""

    shown: Shown


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
    site: Site

    @property
    def shown(self) -> Shown:
        """Data set and method as the progress table names them."""
        return self.fit.shown

    @property
    def outcomes(self) -> list[bool]:
        """Whether the cell came off."""
        return [all(row.status == "ok" for row in self.rows)]


@dataclass
class LoopDone:
    """Training runs of the loop tier are over."""

    shown: Shown
    rows: list[LoopRow]

    @property
    def outcomes(self) -> list[bool]:
        """Whether each run came off."""
        return [row["status"] == "ok" for row in self.rows]


@dataclass
class Afterwards:
    """What a fit leaves beside its cells.

    Attributes
    ----------
    examples : dict
        ``"truth"`` and ``"forecast"``: what the report draws of one run.
    diagnostics : dict or None
        As they are after the cells: some methods count what fails while they forecast.
    """

    fit: Fit
    examples: dict[str, Any]
    diagnostics: dict[str, Any] | None


@dataclass
class Ended:
    """A worker is done with a unit.

    Attributes
    ----------
    key : str
        The unit's.
    seconds : float
        What all of it took, for the estimate of the time left.
    """

    key: str
    shown: Shown
    seconds: float = 0.0


Event = Started | Fitted | CellDone | LoopDone | Afterwards | Ended
Tell = Callable[[Event], None]
