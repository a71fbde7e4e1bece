"""The loop tier's runs as its sections look at them: boards and curves, each made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weightcast.bench.loop.board import LoopBoard, loop_board
from weightcast.bench.loop.costs import (
    Configuration,
    budget_of,
    configuration_of,
    data_set_costs,
    label_of,
)
from weightcast.bench.loop.curves import Doubles, curve, jumps_of
from weightcast.bench.loop.scores import LoopStanding
from weightcast.bench.loop.targets import Target, calibrated
from weightcast.bench.plan.loop_row import LoopRow
from weightcast.bench.plan.loop_settings import CONTROLS, NO_FORECAST, NULL
from weightcast.reports.palette import Look

#: The primary read-out, kind and target come first.
READOUTS = ("raw", "average")
TARGETS = (
    ("train_loss", "hard"),
    ("train_loss", "easy"),
    ("test_accuracy", "hard"),
    ("test_accuracy", "easy"),
)
# No run is ever below it, so that a run's cost is that of its whole budget.
_NEVER = Target("train_loss", "never", -1.0)


@dataclass(frozen=True)
class Jump:
    """A jump on a run's curve; losses are NaN where they were not finite."""

    at: float
    landed: float
    before: float
    after: float
    accepted: bool


@dataclass(frozen=True)
class RunCurves:
    """A method's report runs at its chosen configuration.

    Attributes
    ----------
    label : str
    at : ndarray, shape (measurements,)
        Step-equivalents.
    losses : ndarray, shape (runs, measurements)
        Train losses; NaN where not finite.
    jumps : list of Jump
        Of the first run.
    """

    label: str
    at: Doubles
    losses: Doubles
    jumps: list[Jump]


class LoopView:
    """Runs of the loop tier with what several sections need of them.

    Parameters
    ----------
    rows : sequence of LoopRow
        At least one.
    looks : mapping of str to Look
        Of every label.
    """

    def __init__(self, rows: Sequence[LoopRow], looks: Mapping[str, Look]) -> None:
        self.rows, self.looks = rows, looks
        self._boards: dict[tuple[str, str, str], LoopBoard] = {}

    @cached_property
    def datasets(self) -> list[str]:
        """The data sets, in order."""
        return sorted({row["dataset"] for row in self.rows})

    def board(
        self, readout: str = "raw", kind: str = "train_loss", target: str = "hard"
    ) -> LoopBoard:
        """Return a board; it is made when it is first asked for."""
        key = readout, kind, target
        if key not in self._boards:
            self._boards[key] = loop_board(self.rows, readout=readout, kind=kind, target=target)
        return self._boards[key]

    def on(self, dataset: str) -> list[LoopRow]:
        """Return a data set's rows."""
        return [row for row in self.rows if row["dataset"] == dataset]

    def targets(self, dataset: str) -> dict[tuple[str, str], Target]:
        """Return a data set's targets, by kind and name."""
        here = self.on(dataset)
        return calibrated(here, budget_of(here))

    @cached_property
    def forecasters(self) -> list[str]:
        """Labels of all methods that are no controls, in order."""
        return sorted({label_of(row) for row in self.rows if row["method"] not in CONTROLS})

    def curves(self, dataset: str) -> dict[str, RunCurves]:
        """Return the report runs of plain training and every method, each as it chose."""
        standings = self.board().on(dataset)
        if not standings:
            return {}
        chosen: dict[str, Configuration] = {NO_FORECAST: _plain(standings).plain_configuration}
        chosen |= {standing.label: standing.configuration for standing in standings}
        here = self.on(dataset)
        totals = _totals(here)
        found = {}
        for label, configuration in chosen.items():
            runs = [
                row
                for row in here
                if row["seed_role"] == "report"
                and row["status"] == "ok"
                and label_of(row) == label
                and configuration_of(row) == configuration
            ]
            if runs:
                found[label] = _run_curves(label, runs, totals)
        return found


def _plain(standings: list[LoopStanding]) -> LoopStanding:
    """Return the standing that plain training's choice is read from: the null row's, if any."""
    # Of a folder half done, methods may see different parts of the pool.
    return next((s for s in standings if s.label == NULL), standings[0])


def _totals(rows: list[LoopRow]) -> dict[int, float]:
    """Return what each scored run's whole budget cost, in step-equivalents, by the row's id."""
    costs = data_set_costs(rows[0]["dataset"], rows, _NEVER, "raw", budget_of(rows))
    return {
        id(row): float(table.cost[where])
        for table in costs.tables.values()
        for where, row in table.rows.items()
    }


def _run_curves(label: str, runs: list[LoopRow], totals: Mapping[int, float]) -> RunCurves:
    # All runs of one configuration jump at the same steps and are charged the same for a jump.
    first = runs[0]
    steps, _ = curve(first, "train_loss")
    jumps = jumps_of(first)
    extra = totals[id(first)] - steps[-1]
    if jumps:
        made = np.searchsorted([jump["step"] for jump in jumps], steps, side="right")
        at = steps + extra * made / len(jumps)
    else:
        at = steps + extra * steps / steps[-1]
    each = extra / len(jumps) if jumps else 0.0
    losses = np.stack([curve(row, "train_loss")[1] for row in runs])
    drawn = [
        Jump(
            jump["step"] + place * each,
            jump["step"] + (place + 1) * each,
            _number(jump["before"]),
            _number(jump["after"]),
            bool(jump["accepted"]),
        )
        for place, jump in enumerate(jumps)
    ]
    return RunCurves(label, at, losses, drawn)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
